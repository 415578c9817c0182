"The second half, written after the first one had been looked at: nothing was chosen for it, and each was run once"

from functools import partial
import torch, torch.nn.functional as F
from torch import nn, optim
from miniai.learner import TrainLearner
from miniai.schedule import BatchSchedCB
from .common import blobs, case, group, mlp
from .first import pictures, pretrained

SECOND, situation = group()


@situation
def word_bags():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.out = nn.Embedding(200, 24), nn.Linear(24, 5)

        def forward(self, x):
            return self.out(self.emb(x).mean(1))

    topic, p = torch.randint(5, (1536,)), (torch.randn(5, 200) * 1.5).softmax(1)
    return case(Net(), (p[topic].multinomial(15, True), topic), lr=2e-2)


@situation
def dilated_signals():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.out = (
                nn.Conv1d(1, 16, 3, padding=1),
                nn.Conv1d(16, 16, 3, padding=2, dilation=2),
                nn.Conv1d(16, 16, 3, padding=4, dilation=4),
                nn.Linear(16, 1),
            )

        def forward(self, x):
            h = self.a(x).relu()
            h = h + self.b(h).relu()
            h = h + self.c(h).relu()
            return self.out(h.mean(2))

    f = 0.3 + 0.5 * torch.rand(1536, 1)
    x = (f * torch.arange(48.0) + 6 * torch.rand(1536, 1)).sin() + 0.2 * torch.randn(1536, 48)
    return case(Net(), (x[:, None], (f - 0.55) * 6), F.mse_loss, 'number', lr=5e-3, epochs=8)


@situation
def depth_images():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1),
                nn.BatchNorm2d(16),
                nn.ELU(),
                nn.Conv2d(16, 16, 3, padding=1),
                nn.BatchNorm2d(16),
                nn.ELU(),
                nn.Conv2d(16, 1, 3, padding=1),
            )

        def forward(self, x):
            return self.net(x)

    x = F.avg_pool2d(torch.randn(512, 1, 18, 18), 3, 1)
    return case(Net(), (x + 0.3 * torch.randn_like(x), x * 2), F.l1_loss, 'number', n=384, bs=32, epochs=6)


@situation
def attention_sets():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inp, self.att, self.norm, self.out = (
                nn.Linear(3, 32),
                nn.MultiheadAttention(32, 4, batch_first=True),
                nn.LayerNorm(32),
                nn.Linear(32, 1),
            )

        def forward(self, x):
            h = self.inp(x)
            h = self.norm(h + self.att(h, h, h, need_weights=False)[0])
            return self.out(h.mean(1))

    x = torch.randn(1536, 8, 3)
    return case(
        Net(),
        (x, (x[..., 0].amax(1, keepdim=True) - 1.4) + x[..., 1].mean(1, keepdim=True)),
        F.mse_loss,
        'number',
        epochs=8,
    )


@situation
def wide_and_deep():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.deep, self.wide = (
                nn.ModuleList(nn.Embedding(n, 6) for n in (30, 12, 5)),
                mlp(22, 1),
                nn.Linear(4, 1),
            )

        def forward(self, cat, x):
            return self.wide(x) + self.deep(
                torch.cat([x, *(e(cat[:, i]) for i, e in enumerate(self.emb))], 1)
            )

    cat, x = torch.stack([torch.randint(n, (2048,)) for n in (30, 12, 5)], 1), torch.randn(2048, 4)
    score = torch.randn(30)[cat[:, 0]] + torch.randn(12)[cat[:, 1]] * x[:, 0] + x[:, 1]
    return case(
        Net(),
        (cat, x, (score > 0).float()[:, None]),
        F.binary_cross_entropy_with_logits,
        'yes',
        n=1536,
        epochs=8,
    )


@situation
def denoiser():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.t, self.net = nn.Linear(1, 16), mlp(18, 2, 96, nn.SiLU)

        def forward(self, x, t):
            return self.net(torch.cat([x, self.t(t).sin()], 1))

    a, t, e = 6.3 * torch.rand(3072), torch.rand(3072, 1), torch.randn(3072, 2)
    return case(
        Net(), (torch.stack([a.sin(), a.cos()], 1) * (1 - t) + e * t, t, e), F.mse_loss, 'number', n=2048
    )


@situation
def seq_tags():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.rnn, self.out = (
                nn.Embedding(30, 16),
                nn.LSTM(16, 24, batch_first=True, bidirectional=True),
                nn.Linear(48, 4),
            )

        def forward(self, x):
            return self.out(self.rnn(self.emb(x))[0]).mT

    x = torch.randint(30, (768, 14))
    return case(
        Net(),
        (x, ((x % 4) + (x.roll(1, 1) > 15)) % 4),
        F.cross_entropy,
        'words',
        n=512,
        bs=32,
        lr=1e-2,
        epochs=6,
    )


@situation
def q_learning():
    class Q(TrainLearner):
        "The value of one of three actions is known for each state"

        def get_loss(self):
            a, r = self.targets
            self.loss = F.smooth_l1_loss(self.preds.gather(1, a[:, None])[:, 0], r)

    s, a = torch.randn(1536, 6), torch.randint(3, (1536,))
    d = case(
        mlp(6, 3),
        (s, a, (s @ torch.randn(6, 3)).gather(1, a[:, None])[:, 0] + 0.2 * torch.randn(1536)),
        kind='other',
        epochs=6,
    )
    return {**d, 'learner': Q, 'n_inp': 1}


@situation
def teacher():
    class Distil(TrainLearner):
        def get_loss(self):
            self.loss = F.kl_div(self.preds.log_softmax(1), self.targets[0], reduction='batchmean')

    x, y = blobs(5, spread=0.8)
    return {
        **case(
            mlp(20, 5), (x, (1.5 * F.one_hot(y, 5) + torch.randn(1536, 5) * 0.5).softmax(1)), kind='other'
        ),
        'learner': Distil,
    }


@situation
def residual_mlp():
    class Block(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.norm, self.a, self.b = nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
            nn.init.zeros_(self.b.weight)

        def forward(self, x):
            return x + self.b(F.gelu(self.a(self.norm(x))))

    return case(
        nn.Sequential(nn.Linear(20, 48), *(Block(48) for _ in range(4)), nn.Linear(48, 6)),
        blobs(6),
        opt=optim.AdamW,
        lr=2e-3,
    )


@situation
def weighted_rare():
    x = torch.randn(3072, 8)
    return case(
        mlp(8, 2),
        (x, (x[:, 0] * x[:, 1] > 1.3).long()),
        partial(F.cross_entropy, weight=torch.tensor([1.0, 6.0])),
        n=2048,
        epochs=8,
    )


@situation
def lr_warmup():
    d = case(mlp(20, 4, 64, nn.GELU), blobs(), lr=5e-3, epochs=6)
    d['cbs'] = [BatchSchedCB(partial(optim.lr_scheduler.LambdaLR, lr_lambda=lambda k: min(1, (k + 1) / 30)))]
    return d


@situation
def tuned_head():
    data = pictures()
    body = pretrained(
        nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2, 1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(144, 4),
        ),
        data,
        3,
    )
    head = nn.Linear(144, 2)
    for p in list(body.parameters())[:-2]:
        p.requires_grad_(False)
    return case(nn.Sequential(*body[:-1], head), (data[0], data[1] // 2), lr=1e-2)
