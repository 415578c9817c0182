"Situations that were added to the development half later, to look for false alarms"

from functools import partial
import torch, torch.nn.functional as F
from torch import nn, optim
from miniai.schedule import BatchSchedCB
from .common import blobs, case, group, mlp
from .first import by_word, chain, pictures, pretrained

LATER, situation = group()


@situation
def tiny_batches():
    x = torch.randn(1280, 8)
    return case(
        mlp(8, 1, 32),
        (x, x[:, :1] + 0.7 * x[:, 1:2] * x[:, 2:3] + 0.5 * torch.randn(1280, 1)),
        F.mse_loss,
        'number',
        bs=8,
        lr=1e-3,
        epochs=3,
        noise=True,
    )


@situation
def plain_sgd():
    return case(mlp(16, 3), blobs(3, 16), lr=0.2, opt=optim.SGD)


@situation
def resumed_images():
    data = pictures()
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, 2, 1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 4),
    )
    return case(pretrained(net, data, 4), data, lr=3e-3)


@situation
def gru_lm():
    class LM(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.rnn, self.out = (
                nn.Embedding(20, 32),
                nn.GRU(32, 64, batch_first=True),
                nn.Linear(64, 20),
            )

        def forward(self, x):
            return self.out(self.rnn(self.emb(x))[0])

    return case(LM(), chain(v=20), by_word, 'words', n=512, bs=32, lr=5e-3)


@situation
def rare_of_three():
    x = torch.randn(3072, 12)
    return case(
        mlp(12, 3), (x, (x[:, 0] > 1.6).long() + 2 * ((x[:, 0] <= 1.6) & (x[:, 1] < -1.7)).long()), n=2048
    )


@situation
def biases_only():
    x, y = blobs(4)
    m = pretrained(mlp(20, 4), (x, y))
    for nm, p in m.named_parameters():
        p.requires_grad_(nm.endswith('bias') or nm.startswith('4'))
    return case(m, (x, (y + (x[:, 1] > 0.3)) % 4), lr=1e-2, epochs=8)


class Factors(nn.Module):
    def __init__(self):
        super().__init__()
        self.u, self.i, self.bu, self.bi = (
            nn.Embedding(60, 8),
            nn.Embedding(40, 8),
            nn.Embedding(60, 1),
            nn.Embedding(40, 1),
        )
        [nn.init.normal_(e.weight, std=0.1) for e in (self.u, self.i, self.bu, self.bi)]

    def forward(self, u, i):
        return ((self.u(u) * self.i(i)).sum(1, keepdim=True) + self.bu(u) + self.bi(i)).sigmoid() * 5


@situation
def ratings():
    u, i = torch.randint(60, (4096,)), torch.randint(40, (4096,))
    y = (
        (torch.randn(60, 3)[u] * torch.randn(40, 3)[i]).sum(1) * 0.6
        + torch.randn(60)[u] * 0.5
        + 2.7
        + 0.3 * torch.randn(4096)
    )
    return case(
        Factors(), (u, i, y.clamp(0.2, 4.8)[:, None]), F.mse_loss, 'number', n=3072, lr=2e-2, epochs=8
    )


@situation
def several_numbers():
    x = torch.randn(1536, 12)
    return case(
        mlp(12, 5),
        (x, (x @ torch.randn(12, 5)).tanh() * 2 + 0.3 * torch.randn(1536, 5)),
        F.smooth_l1_loss,
        'number',
    )


@situation
def contrastive():
    class Embeds(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(20, 8)

        def forward(self, a, b):
            return F.normalize(self.net(a), dim=1) @ F.normalize(self.net(b), dim=1).T / 0.2

    x = blobs(12, n=1536, spread=1.5)[0]
    return case(
        Embeds(),
        (x, x + 0.5 * torch.randn_like(x), torch.zeros(1536, dtype=torch.long)),
        lambda p, y: F.cross_entropy(p, torch.arange(len(p))),
        'other',
    )


@situation
def conv_next():
    class Block(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.dw, self.norm, self.a, self.b, self.scale = (
                nn.Conv2d(c, c, 5, padding=2, groups=c),
                nn.LayerNorm(c),
                nn.Linear(c, 2 * c),
                nn.Linear(2 * c, c),
                nn.Parameter(torch.full((c,), 1e-6)),
            )

        def forward(self, x):
            return x + (
                self.scale * self.b(F.gelu(self.a(self.norm(self.dw(x).permute(0, 2, 3, 1)))))
            ).permute(0, 3, 1, 2)

    return case(
        nn.Sequential(
            nn.Conv2d(1, 16, 2, 2),
            Block(16),
            Block(16),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(144, 4),
        ),
        pictures(),
        opt=optim.AdamW,
        lr=5e-3,
    )


@situation
def quantiles():
    x = torch.randn(1536, 6)

    def pinball(p, y):
        return torch.maximum(0.9 * (y - p), -0.1 * (y - p)).mean()

    return case(
        mlp(6, 1), (x, x[:, :1] * 2 + x[:, 1:2].exp() * torch.randn(1536, 1)), pinball, 'number', noise=True
    )


@situation
def hinge():
    x = torch.randn(1536, 10)
    return case(
        mlp(10, 1),
        (x, (x[:, :1] + x[:, 1:2] * x[:, 2:3] > 0).float() * 2 - 1),
        lambda p, y: (1 - p * y).clamp(0).mean(),
        'other',
    )


@situation
def warm_restarts():
    d = case(mlp(20, 4), blobs(), lr=5e-3, epochs=6)
    d['cbs'] = [BatchSchedCB(partial(optim.lr_scheduler.CosineAnnealingWarmRestarts, T_0=32))]
    return d
