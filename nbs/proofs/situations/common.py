"What the situations are made with: data, a small net, and `case`, which is all that a run needs"

import torch, torch.nn.functional as F
from torch import nn, optim
from miniai.learner import TrainLearner


def group():
    "The situations of a file by name, and the decorator that adds one"
    found = {}

    def situation(f):
        found[f.__name__] = f
        return f

    return found, situation


def halves(*ts, n=1024):
    return tuple(t[:n] for t in ts), tuple(t[n:] for t in ts)


def case(
    model, data, loss=F.cross_entropy, kind='class', lr=3e-3, opt=optim.Adam, epochs=5, bs=64, n=1024, **kw
):
    train, valid = halves(*data, n=n)
    return dict(
        model=model,
        train=train,
        valid=valid,
        loss=loss,
        kind=kind,
        lr=lr,
        opt=opt,
        epochs=epochs,
        bs=bs,
        shuffle=True,
        n_inp=len(data) - 1,
        learner=TrainLearner,
        cbs=[],
        **{'noise': False, **kw},
    )


def blobs(c=4, d=20, n=1536, spread=1.0):
    y = torch.randint(c, (n,))
    return (1.3 * torch.randn(c, d)[y] * spread + torch.randn(n, d)) / 1.6, y


def mlp(ni, no, h=64, act=nn.ReLU, *end):
    return nn.Sequential(nn.Linear(ni, h), act(), nn.Linear(h, h), act(), nn.Linear(h, no), *end)
