"The fourth half, written by somebody who had not read the rules, and tuned with plain loops alone"

import math
import random
from functools import partial
import torch, torch.nn.functional as F
from torch import nn, optim
from miniai.learner import Callback, TrainLearner
from miniai.schedule import BatchSchedCB
from .common import blobs, case, group, mlp
from .first import pictures, pretrained

FOURTH, situation = group()


@situation
def graph_attention():
    "Which nodes are close to many of the first sort?"

    class Gat(nn.Module):
        def __init__(self, i, o):
            super().__init__()
            self.w, self.a, self.b = nn.Linear(i, o), nn.Linear(o, 1), nn.Linear(o, 1)

        def forward(self, adj, h):
            h = self.w(h)
            return F.leaky_relu(self.a(h) + self.b(h).mT, 0.2).masked_fill(adj == 0, -1e9).softmax(2) @ h

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.out = Gat(5, 32), Gat(32, 32), nn.Linear(32, 3)

        def forward(self, adj, x):
            h = F.elu(self.a(adj, x))
            return self.out(F.elu(self.b(adj, h))).mT

    adj = (torch.rand(1024, 12, 12) < 0.25).float()
    adj, x = ((adj + adj.mT + torch.eye(12)) > 0).float(), torch.randn(1024, 12, 5)
    s = (adj @ x[..., :1])[..., 0] / adj.sum(2)
    return case(
        Net(), (adj, x, (s > -0.15).long() + (s > 0.15).long()), kind='words', n=768, bs=32, lr=5e-3, epochs=8
    )


@situation
def ordinal():
    "Grades: one slope, and four thresholds"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.cuts = mlp(10, 1), nn.Parameter(torch.linspace(-1.0, 1.0, 4))

        def forward(self, x):
            return self.net(x) - self.cuts

    x = torch.randn(2048, 10)
    s = x[:, 0] + x[:, 1] * x[:, 2] + 0.4 * torch.randn(2048)
    return case(
        Net(),
        (x, (s[:, None] > torch.tensor([-1.5, -0.5, 0.5, 1.5])).float()),
        F.binary_cross_entropy_with_logits,
        'yes',
        n=1536,
        lr=5e-3,
        epochs=8,
    )


@situation
def claims_per_year():
    "Poisson counts, with a time under risk that differs"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(9, 1, 24)

        def forward(self, x, years):
            return self.net(x) + years.log()

    x, years = torch.randn(3072, 9), 0.1 + 0.9 * torch.rand(3072, 1)
    return case(
        Net(),
        (x, years, torch.poisson(years * (0.7 * x[:, :1] - 0.5 * x[:, 1:2].abs() + 0.6).exp())),
        F.poisson_nll_loss,
        'count',
        n=2048,
        lr=3e-3,
        epochs=4,
    )


@situation
def patches():
    "A small vision transformer"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch, self.pos, self.out = (
                nn.Conv2d(1, 32, 3, 3),
                nn.Parameter(0.3 * torch.randn(16, 32)),
                nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 4)),
            )
            self.enc = nn.TransformerEncoder(
                nn.TransformerEncoderLayer(32, 4, 64, 0.1, 'gelu', batch_first=True, norm_first=True), 2
            )

        def forward(self, x):
            return self.out(self.enc(self.patch(x).flatten(2).mT + self.pos).mean(1))

    d = case(Net(), pictures(), opt=partial(optim.AdamW, weight_decay=0.05), lr=2e-3, epochs=6)
    d['cbs'] = [BatchSchedCB(partial(optim.lr_scheduler.CosineAnnealingLR))]
    return d


@situation
def frozen_embedding():
    class Net(nn.Module):
        def __init__(self, e):
            super().__init__()
            self.emb, self.rnn, self.out = (
                nn.Embedding.from_pretrained(e, freeze=True),
                nn.GRU(16, 32, batch_first=True),
                nn.Linear(64, 3),
            )

        def forward(self, x):
            h = self.rnn(self.emb(x))[0]
            return self.out(torch.cat([h.mean(1), h.amax(1)], 1))

    e, x = torch.randn(200, 16), torch.randint(200, (2048, 12))
    s = e[x][..., :3].mean(1)
    return case(Net(e), (x, s.argmax(1)), n=1536, lr=3e-3, epochs=8)


@situation
def hundred_signs():
    sign = torch.randn(100, 1, 10, 10)
    y = torch.randint(100, (4096,))
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(800, 100),
    )
    return case(
        net,
        (sign[y] + 1.2 * torch.randn(4096, 1, 10, 10), y),
        n=3072,
        lr=0.02,
        opt=partial(optim.SGD, momentum=0.9, nesterov=True, weight_decay=5e-4),
        epochs=4,
    )


@situation
def image_diffusion():
    "The noise in pictures, for a time that is given"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.t, self.b, self.c, self.out = (
                nn.Conv2d(1, 16, 3, padding=1),
                nn.Linear(8, 16),
                nn.Conv2d(16, 16, 3, padding=2, dilation=2),
                nn.Conv2d(16, 16, 3, padding=1),
                nn.Conv2d(16, 1, 3, padding=1),
            )

        def forward(self, x, t):
            e = torch.cat([(t * k).sin() for k in (1, 2, 4, 8)] + [(t * k).cos() for k in (1, 2, 4, 8)], 1)
            h = F.silu(self.a(x) + self.t(e)[:, :, None, None])
            return self.out(F.silu(self.c(h + F.silu(self.b(h)))))

    x, t, e = pictures(1536)[0] * 0.2 - 0.1, 1.5 * torch.rand(1536, 1), torch.randn(1536, 1, 12, 12)
    return case(
        Net(),
        (x * t.cos()[..., None, None] + e * t.sin()[..., None, None], t, e),
        F.mse_loss,
        'number',
        n=1024,
        bs=32,
        epochs=5,
    )


class DCPair(nn.Module):
    def __init__(self):
        super().__init__()
        self.g = nn.Sequential(
            nn.Linear(8, 288),
            nn.Unflatten(1, (32, 3, 3)),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, 2, 1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 4, 2, 1),
            nn.Tanh(),
        )
        self.d = nn.Sequential(
            nn.Conv2d(1, 16, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(16, 32, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(288, 1),
        )


class ImageGAN(TrainLearner):
    "A generator and a discriminator that take turns"

    def before_fit(self):
        self.opt_g, self.opt_d = (
            optim.Adam(m.parameters(), lr, betas=(0.0, 0.99))
            for m, lr in ((self.model.g, 1e-3), (self.model.d, 2e-3))
        )

    def predict(self):
        self.preds = self.model.g(torch.randn(len(self.inputs[0]), 8))

    def get_loss(self):
        d, real = self.model.d, self.inputs[0]
        self.loss_d = F.softplus(-d(real)).mean() + F.softplus(d(self.preds.detach())).mean()
        self.loss = F.softplus(-d(self.preds)).mean()

    def backward(self):
        self.loss.backward()
        self.model.d.zero_grad()
        self.loss_d.backward()

    def step(self):
        self.opt_g.step()
        self.opt_d.step()

    def zero_grad(self):
        self.opt_g.zero_grad()
        self.opt_d.zero_grad()


@situation
def image_gan():
    x = (F.interpolate(torch.randn(1280, 1, 3, 3), size=12, mode='bilinear') * 1.5).tanh()
    return {**case(DCPair(), (x, torch.zeros(1280)), F.mse_loss, 'other', epochs=8), 'learner': ImageGAN}


@situation
def attention_seq2seq():
    "Sort five digits: a decoder that attends, with teacher forcing"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.enc, self.dec, self.out = (
                nn.Embedding(13, 32),
                nn.GRU(32, 32, batch_first=True, bidirectional=True),
                nn.GRU(32, 64, batch_first=True),
                nn.Linear(128, 12),
            )

        def forward(self, x, given):
            m, h = self.enc(self.emb(x))
            q = self.dec(self.emb(given), h.transpose(0, 1).flatten(1)[None])[0]
            return self.out(torch.cat([q, (q @ m.mT / 8).softmax(2) @ m], 2)).mT

    x = torch.randint(12, (2048, 5))
    y = x.sort(1)[0]
    return case(
        Net(),
        (x, torch.cat([torch.full((2048, 1), 12), y[:, :-1]], 1), y),
        kind='words',
        n=1536,
        lr=5e-3,
        epochs=6,
    )


@situation
def spoken_ctc():
    "Letters without their places: CTC"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.rnn, self.out = (
                nn.Conv1d(6, 32, 3, padding=1),
                nn.GRU(32, 24, batch_first=True, bidirectional=True),
                nn.Linear(48, 6),
            )

        def forward(self, x):
            return self.out(self.rnn(self.conv(x).relu().mT)[0]).log_softmax(2)

    def ctc(p, y):
        return F.ctc_loss(
            p.transpose(0, 1), y, torch.full((len(p),), p.shape[1]), torch.full((len(y),), y.shape[1])
        )

    y, sound = torch.randint(1, 6, (1280, 4)), torch.randn(6, 6) * 1.5
    x = sound[y].repeat_interleave(5, 1) * (torch.arange(20) % 5 < 3)[:, None]
    return case(
        Net(), ((x + 0.5 * torch.randn(1280, 20, 6)).mT.contiguous(), y), ctc, 'other', lr=1e-2, epochs=5
    )


@situation
def dice():
    "Small blots: cross-entropy and the overlap together"
    net = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.InstanceNorm2d(12, affine=True),
        nn.LeakyReLU(0.1),
        nn.Conv2d(12, 12, 3, padding=2, dilation=2),
        nn.InstanceNorm2d(12, affine=True),
        nn.LeakyReLU(0.1),
        nn.Conv2d(12, 1, 1),
    )
    g = torch.stack(torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing='ij'))
    y = (
        (g - (3 + 10 * torch.rand(512, 2, 1, 1))).abs().amax(1, keepdim=True)
        < 1 + 2 * torch.rand(512, 1, 1, 1)
    ).float()

    def loss(p, y):
        q = p.sigmoid()
        return (
            F.binary_cross_entropy_with_logits(p, y) + 1 - (2 * (q * y).sum() + 1) / (q.sum() + y.sum() + 1)
        )

    return case(net, (y * 1.2 + 0.6 * torch.randn_like(y), y), loss, 'yes', n=384, bs=16, lr=6e-3, epochs=6)


@situation
def key_point():
    "Where is the spot? The mean place of a heat map"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(1, 16, 5, padding=2),
                nn.ReLU(),
                nn.Conv2d(16, 16, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(16, 1, 3, padding=1),
            )
            self.register_buffer('at', torch.linspace(-1, 1, 14))

        def forward(self, x):
            h = self.net(x).flatten(1).softmax(1).view(-1, 14, 14)
            return torch.stack([h.sum(2) @ self.at, h.sum(1) @ self.at], 1)

    at, c = torch.linspace(-1, 1, 14), 1.6 * torch.rand(1536, 2) - 0.8
    x = (-((at - c[:, :1])[:, :, None].square() + (at - c[:, 1:])[:, None].square()) / 0.05).exp()[:, None]
    return case(Net(), (1.5 * x + 0.4 * torch.randn_like(x), c), F.mse_loss, 'number', lr=2e-3, epochs=4)


@situation
def td_learning():
    "Q-learning from stored steps of a walk, with a target network"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.old = mlp(4, 2), mlp(4, 2).requires_grad_(False)
            self.old.load_state_dict(self.q.state_dict())

        def forward(self, s):
            return self.q(s)

    class Dqn(TrainLearner):
        def get_loss(self):
            a, r, then = self.targets
            with torch.no_grad():
                y = r + 0.8 * self.model.old(then).amax(1)
            self.loss = F.smooth_l1_loss(self.preds.gather(1, a[:, None])[:, 0], y)

        def step(self):
            super().step()
            for p, o in zip(self.model.q.parameters(), self.model.old.parameters()):
                o.data.lerp_(p.data, 0.1)

    s, a = 2 * torch.rand(2048, 4) - 1, torch.randint(2, (2048,))
    then = (s + 0.3 * (2 * a[:, None] - 1) * torch.tensor([1.0, -1.0, 0, 0])).clamp(-1, 1)
    return {
        **case(
            Net(),
            (s, a, (then[:, 0] > 0.5).float() - 0.5 * (then[:, 1] < -0.7).float(), then),
            kind='other',
            n=1536,
            epochs=10,
            lr=5e-3,
        ),
        'learner': Dqn,
        'n_inp': 1,
    }


@situation
def barlow():
    "Two views, and their correlation matrix near to one"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 12))

        def forward(self, a, b):
            return self.net(a), self.net(b)

    def twins(p, y):
        a, b = ((z - z.mean(0)) / (z.std(0) + 1e-4) for z in p)
        c = a.T @ b / len(a)
        return (1 - c.diag()).square().mean() + 0.1 * (c - c.diag().diag()).square().mean()

    x = blobs(8, n=2048, spread=1.5)[0]
    return case(
        Net(),
        (x + 0.4 * torch.randn_like(x), x + 0.4 * torch.randn_like(x), torch.zeros(2048)),
        twins,
        'other',
        n=1536,
        bs=128,
        epochs=6,
        drop_last=True,
    )


@situation
def vq_vae():
    "Codes from a book, with a gradient that goes straight through"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc, self.dec, self.book = (
                mlp(20, 8, 64, nn.ReLU, nn.LayerNorm(8, elementwise_affine=False)),
                mlp(8, 20),
                nn.Parameter(torch.randn(32, 8)),
            )

        def forward(self, x):
            z = self.enc(x)
            q = self.book[torch.cdist(z.detach(), self.book.detach()).argmin(1)]
            return self.dec(z + (q - z).detach()), z, q

    def loss(p, x):
        out, z, q = p
        return F.mse_loss(out, x) + F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(z, q.detach())

    x = blobs(10, n=2048, spread=1.8)[0]
    return case(Net(), (x, x), loss, 'other', n=1536, lr=3e-3, epochs=10)


@situation
def clicks():
    "A factorisation machine: one weight and one vector for each value"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.v, self.b = nn.Embedding(80, 1), nn.Embedding(80, 6), nn.Parameter(torch.zeros(1))
            nn.init.zeros_(self.w.weight)
            nn.init.normal_(self.v.weight, std=0.1)

        def forward(self, x):
            v = self.v(x)
            return (
                self.b + self.w(x).sum(1) + (v.sum(1).square() - v.square().sum(1)).sum(1, keepdim=True) / 2
            )

    x = torch.stack([torch.randint(20, (4096,)) + 20 * k for k in range(4)], 1)
    w, v = torch.randn(80), torch.randn(80, 2) * 0.8
    s = w[x].sum(1) + (v[x[:, 0]] * v[x[:, 1]]).sum(1) - 1
    return case(
        Net(),
        (x, torch.bernoulli((2 * s).sigmoid())[:, None]),
        F.binary_cross_entropy_with_logits,
        'yes',
        n=3072,
        lr=5e-3,
        epochs=7,
    )


@situation
def film():
    "One small net for all dials: they scale and shift its units"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.dial, self.out = (
                nn.Linear(4, 48),
                nn.Linear(48, 48),
                mlp(2, 96, 32),
                nn.Linear(48, 1),
            )

        def forward(self, x, c):
            s, t = self.dial(c).chunk(2, 1)
            return self.out((self.b(F.silu(self.a(x))) * (1 + s) + t).relu())

    x, c = torch.randn(2048, 4), 2 * torch.rand(2048, 2) - 1
    return case(
        Net(),
        (x, c, (x[:, :1] * c[:, :1] * 2 + (x[:, 1:2] + 2 * c[:, 1:]).sin() + 0.1 * torch.randn(2048, 1))),
        F.mse_loss,
        'number',
        n=1536,
        lr=6e-3,
        epochs=8,
    )


@situation
def pendulum():
    "A step of a net that is repeated eight times"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = mlp(2, 2, 48, nn.Tanh)

        def forward(self, s):
            out = []
            for _ in range(8):
                s = s + 0.2 * self.f(s)
                out.append(s)
            return torch.stack(out, 1)

    s = first = (2 * torch.rand(1536, 2) - 1) * 2
    path = []
    for k in range(160):
        s = s + 0.02 * torch.stack([s[:, 1], -3 * s[:, 0].sin()], 1)
        if k % 20 == 19:
            path.append(s)
    return case(
        Net(),
        (first, torch.stack(path, 1) + 0.05 * torch.randn(1536, 8, 2)),
        F.mse_loss,
        'number',
        n=1024,
        lr=6e-3,
        epochs=8,
    )


@situation
def mixture_density():
    "Two answers for each question"
    x = 4 * torch.rand(2048, 1) - 2
    y = torch.where(
        torch.rand(2048, 1) < 0.5, (1.5 * x).sin() + 1.5, -x.square() / 2 - 0.5
    ) + 0.15 * torch.randn(2048, 1)

    def nll(p, y):
        w, m, s = p.chunk(3, 1)
        return -(w.log_softmax(1) - s - (y - m).square() * (-2 * s).exp() / 2).logsumexp(1).mean() + 0.919

    d = case(mlp(1, 12, 64, nn.Tanh), (x, y), nll, 'other', n=1536, lr=5e-3, epochs=10)
    d['cbs'] = [BatchSchedCB(partial(optim.lr_scheduler.CosineAnnealingLR))]
    return d


@situation
def noisy_labels():
    x, y = blobs(5, n=2560, spread=1.2)
    return case(
        nn.Sequential(nn.Linear(20, 64), nn.LayerNorm(64), nn.GELU(), nn.Dropout(0.2), nn.Linear(64, 5)),
        (x, torch.where(torch.rand(2560) < 0.25, torch.randint(5, (2560,)), y)),
        n=2048,
        lr=1e-3,
        opt=partial(optim.AdamW, weight_decay=0.05),
        epochs=6,
    )


@situation
def cosine_classes():
    class Cosine(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.w = mlp(20, 16), nn.Parameter(torch.randn(12, 16))

        def forward(self, x):
            return 12 * F.normalize(self.net(x), dim=1) @ F.normalize(self.w, dim=1).T

    return case(Cosine(), blobs(12, n=2560, spread=1.1), n=2048, lr=1e-3, opt=optim.NAdam)


@situation
def mixup():
    class Mix(TrainLearner):
        def predict(self):
            self.other, self.part = (
                torch.randperm(len(self.inputs[0])),
                random.betavariate(0.3, 0.3) if self.training else 1.0,
            )
            (x,) = self.inputs
            self.preds = self.model(self.part * x + (1 - self.part) * x[self.other])

        def get_loss(self):
            (y,) = self.targets
            self.loss = self.part * F.cross_entropy(self.preds, y) + (1 - self.part) * F.cross_entropy(
                self.preds, y[self.other]
            )

    return {
        **case(mlp(20, 5), blobs(5, n=2048, spread=0.8), n=1536, bs=32, lr=1e-3, epochs=5),
        'learner': Mix,
    }


@situation
def skip_grams():
    "Which words stand near each other? With words drawn by chance as the others"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Embedding(60, 12), nn.Embedding(60, 12)
            nn.init.normal_(self.a.weight, std=0.3)
            nn.init.normal_(self.b.weight, std=0.3)

        def forward(self, a, b):
            return (self.a(a) * self.b(b)).sum(1, keepdim=True)

    a, by_chance, y = (
        torch.randint(60, (10240,)),
        torch.randint(60, (10240,)),
        (torch.rand(10240, 1) < 0.5).float(),
    )
    near = (a // 10 * 10 + torch.randint(10, (10240,)) + 10 * (torch.rand(10240) < 0.1).long()) % 60
    return case(
        Net(),
        (a, torch.where(y[:, 0] > 0, near, by_chance), y),
        F.binary_cross_entropy_with_logits,
        'yes',
        n=8192,
        lr=5e-3,
        epochs=6,
    )


@situation
def moving_spots():
    "Short films: which way does it go?"
    y, at = torch.randint(4, (1280,)), torch.randint(8, (1280, 2))
    step = torch.tensor([[0, 1], [1, 0], [0, -1], [-1, 0]])
    x = 0.4 * torch.randn(1280, 1, 5, 8, 8)
    for k in range(5):
        p = (at + k * step[y]) % 8
        x[torch.arange(1280), 0, k, p[:, 0], p[:, 1]] += 2
    return case(
        nn.Sequential(
            nn.Conv3d(1, 12, 3, padding=1, padding_mode='circular'),
            nn.BatchNorm3d(12),
            nn.ReLU(),
            nn.Conv3d(12, 16, 3, 2, 1),
            nn.BatchNorm3d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(16, 4),
        ),
        (x, y),
        bs=32,
        lr=1e-2,
        epochs=5,
    )


@situation
def cox():
    "Who ends first among those of the batch? (the partial likelihood)"

    def partial_likelihood(p, y):
        (t, seen), p = y.T, p[:, 0]
        i = t.argsort(descending=True)
        return -((p[i] - p[i].logcumsumexp(0)) * seen[i]).sum() / seen.sum().clamp(1) / math.log(len(p) + 1)

    x = torch.randn(2560, 10)
    t, c = torch.distributions.Exponential((x[:, 0] - x[:, 1].abs()).exp()).sample(), 4 * torch.rand(2560)
    return case(
        mlp(10, 1, 32),
        (x, torch.stack([torch.minimum(t, c), (t < c).float()], 1)),
        partial_likelihood,
        'other',
        n=2048,
        lr=1e-3,
        epochs=8,
        valid_bs=64,
    )


@situation
def listwise():
    "Ten documents for each query; the best of them is to come first"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.LayerNorm(48), nn.Linear(48, 1))

        def forward(self, x):
            return self.net(x)[..., 0]

    x = torch.randn(1536, 10, 12)
    s = x[..., 0] + x[..., 1] * x[..., 2] + 0.3 * torch.randn(1536, 10)
    return case(
        Net(),
        (x, (2 * s).softmax(1)),
        lambda p, y: -(y * p.log_softmax(1)).sum(1).mean(),
        'other',
        lr=5e-3,
        epochs=6,
    )


@situation
def many_horizons():
    "Two stacks: each takes from the series what it explains, and adds to the forecast"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.nets = nn.ModuleList(mlp(24, 30, 64) for _ in range(2))

        def forward(self, x):
            out = 0
            for n in self.nets:
                back, f = n(x).split([24, 6], 1)
                x, out = x - back, out + f
            return out

    t, f = torch.arange(30.0), 0.3 + 0.7 * torch.rand(2048, 1)
    s = (
        (f * t + 6 * torch.rand(2048, 1)).sin()
        + 0.05 * (torch.randn(2048, 1) * t)
        + 0.1 * torch.randn(2048, 30)
    )
    return case(Net(), (s[:, :24], s[:, 24:]), F.l1_loss, 'number', n=1536, lr=4e-3, epochs=8)


@situation
def inducing_points():
    "Sets of 5 to 12 with a mask: how far apart are they?"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inp, self.ind, self.seed, self.a, self.b, self.c, self.out = (
                nn.Linear(2, 32),
                nn.Parameter(torch.randn(1, 4, 32)),
                nn.Parameter(torch.randn(1, 1, 32)),
                *(nn.MultiheadAttention(32, 4, batch_first=True) for _ in range(3)),
                nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)),
            )

        def forward(self, x, gone):
            h = self.inp(x).relu()
            i = self.a(self.ind.expand(len(x), -1, -1), h, h, key_padding_mask=gone)[0]
            h = h + self.b(h, i, i)[0]
            return self.out(self.c(self.seed.expand(len(x), -1, -1), h, h, key_padding_mask=gone)[0][:, 0])

    x, gone = (
        torch.randn(1536, 12, 2) * (0.5 + torch.rand(1536, 1, 2)),
        torch.arange(12) >= torch.randint(5, 13, (1536, 1)),
    )
    x = x.masked_fill(gone[..., None], 0)
    y = x.square().sum(2).sum(1) / (~gone).sum(1)
    return case(Net(), (x, gone, ((y - 2.2) / 2)[:, None]), F.mse_loss, 'number', n=1152, lr=2e-3, epochs=10)


@situation
def clipped_names():
    "Characters of names, by an LSTM with gradients clipped at one"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.rnn, self.out = (
                nn.Embedding(27, 16, padding_idx=0),
                nn.LSTM(16, 48, batch_first=True),
                nn.Linear(48, 4),
            )

        def forward(self, x):
            return self.out(self.rnn(self.emb(x))[1][0][0])

    class ClipOne(Callback):
        def after_backward(self, learn):
            nn.utils.clip_grad_norm_(learn.model.parameters(), 1.0)

    y, p = torch.randint(4, (2560,)), (torch.randn(4, 26) * 0.8).softmax(1)
    x = p[y].multinomial(9, True) + 1
    x[torch.arange(9) < torch.randint(5, (2560, 1))] = 0
    return {**case(Net(), (x, y), n=2048, lr=3e-3, epochs=6), 'cbs': [ClipOne()]}


@situation
def pos_weight_tags():
    x = torch.randn(3072, 16)
    y = (x @ torch.randn(16, 6) / 4 + 0.3 * torch.randn(3072, 6) > 1.1).float()
    return case(
        mlp(16, 6),
        (x, y),
        partial(F.binary_cross_entropy_with_logits, pos_weight=torch.full((6,), 3.0)),
        'yes',
        n=2048,
        opt=optim.Adamax,
        lr=5e-3,
        epochs=6,
    )


@situation
def two_rates():
    "A pretrained body with a rate of its own, and a new head"
    x, y = blobs(8, n=2048)
    net = nn.Sequential(*pretrained(mlp(20, 8), (x, y), 3)[:-1], nn.Linear(64, 3))

    def opt(ps, lr):
        ps = list(ps)
        return optim.AdamW([dict(params=ps[:-2], lr=lr / 10), dict(params=ps[-2:])], lr)

    return case(net, (x, y % 3), n=1536, opt=opt, lr=2e-3, epochs=6)
