"The third half, whose learning rates and epochs were chosen with plain loops alone"

import math
from functools import partial
import torch, torch.nn.functional as F
from torch import nn, optim
from miniai.learner import TrainLearner
from miniai.schedule import BatchSchedCB
from .common import blobs, case, group, mlp
from .first import chain, pictures

THIRD, situation = group()


@situation
def masked_tokens():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.pos, self.enc, self.out = (
                nn.Embedding(11, 32),
                nn.Parameter(0.02 * torch.randn(16, 32)),
                nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, 0.1, batch_first=True), 2),
                nn.Linear(32, 10),
            )

        def forward(self, x):
            return self.out(self.enc(self.emb(x) + self.pos))

    x, hide = chain(1024, 15, 10)[0], torch.rand(1024, 15) < 0.2
    x = torch.cat([x, x[:, :1]], 1)
    hide = torch.cat([hide, torch.zeros(1024, 1, dtype=torch.bool)], 1)
    return case(
        Net(),
        (torch.where(hide, 10, x), torch.where(hide, x, -100)),
        lambda p, y: F.cross_entropy(p.flatten(0, 1), y.flatten()),
        'words',
        n=768,
        bs=32,
        epochs=10,
    )


@situation
def text_cnn():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.convs, self.out = (
                nn.Embedding(40, 16),
                nn.ModuleList(nn.Conv1d(16, 24, k) for k in (2, 3, 4)),
                nn.Linear(72, 3),
            )

        def forward(self, x):
            e = self.emb(x).mT
            return self.out(torch.cat([c(e).relu().amax(2) for c in self.convs], 1))

    x, y = torch.randint(40, (2048, 20)), torch.randint(3, (2048,))
    for i in range(2048):
        p = int(torch.randint(17, ()))
        x[i, p : p + 3] = torch.tensor([5, 9, 13]) + y[i]
    return case(Net(), (x, y), n=1536, lr=2e-3, epochs=6)


@situation
def mean_variance():
    x = torch.rand(2048, 3) * 4 - 2
    y = (2 * x[:, :1]).sin() + x[:, 1:2] ** 2 / 2 + (0.1 + 0.3 * x[:, 2:].abs()) * torch.randn(2048, 1)

    def nll(p, y):
        return F.gaussian_nll_loss(p[:, :1], y, F.softplus(p[:, 1:]) + 1e-3)

    return case(mlp(3, 2), (x, y), nll, 'other', n=1536, epochs=10)


@situation
def hazards():
    "The chance to end in each of eight periods, of those who got there"
    x = torch.randn(2048, 8)
    rate = ((x[:, :1] - 0.7 * x[:, 1:2]) * 0.8 - 1.5).sigmoid()
    end = (torch.rand(2048, 8) < rate).long()
    t = torch.where(end.any(1), end.argmax(1), 8)

    def survival(p, t):
        at = torch.arange(8)
        y, alive = (at == t[:, None]).float(), (at <= t[:, None]).float()
        return (F.binary_cross_entropy_with_logits(p, y, reduction='none') * alive).sum() / alive.sum()

    return case(mlp(8, 8, 48), (x, t), survival, 'other', n=1536, epochs=6)


@situation
def triplet():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(20, 8)

        def forward(self, a, b, c):
            return tuple(F.normalize(self.net(o), dim=1) for o in (a, b, c))

    x, y = blobs(6, n=3072, spread=1.4)
    far = torch.stack([x[torch.nonzero(y != k)[torch.randint(int((y != k).sum()), ())][0]] for k in y[:1536]])
    near = torch.stack(
        [x[torch.nonzero(y == k)[torch.randint(int((y == k).sum()), ())][0]] for k in y[:1536]]
    )
    return case(
        Net(),
        (x[:1536], near, far, torch.zeros(1536)),
        lambda p, y: F.triplet_margin_loss(*p, margin=0.5),
        'other',
        lr=1e-3,
    )


@situation
def two_heads():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.a, self.b = (
                nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()),
                nn.Linear(64, 4),
                nn.Linear(64, 1),
            )

        def forward(self, x):
            h = self.body(x)
            return self.a(h), self.b(h)

    class Multi(TrainLearner):
        def get_loss(self):
            (p, q), (y, v) = self.preds, self.targets
            self.loss = F.cross_entropy(p, y) + F.mse_loss(q[:, 0], v)

    x, w = torch.randn(2048, 16), torch.randn(16, 4)
    return {
        **case(Net(), (x, (x @ w).argmax(1), (x[:, 0] * x[:, 1] + x[:, 2])), kind='other', n=1536, epochs=8),
        'learner': Multi,
        'n_inp': 1,
    }


@situation
def point_clouds():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.each, self.out = (
                nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 64), nn.ReLU()),
                nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3)),
            )

        def forward(self, x):
            return self.out(self.each(x).amax(1))

    y, p = torch.randint(3, (1536,)), torch.randn(1536, 48, 3)
    ball, cube = F.normalize(p, dim=2), p.clamp(-0.7, 0.7)
    disc = F.normalize(p * torch.tensor([1, 1, 0.05]), dim=2)
    x = torch.where(
        (y == 0)[:, None, None], ball, torch.where((y == 1)[:, None, None], cube, disc)
    ) + 0.1 * torch.randn(1536, 48, 3)
    return case(Net(), (x, y), epochs=8)


@situation
def pairwise_ranking():
    "Which of two items does a user prefer? (BPR)"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.u, self.i, self.b = nn.Embedding(80, 8), nn.Embedding(60, 8), nn.Embedding(60, 1)
            [nn.init.normal_(e.weight, std=0.1) for e in (self.u, self.i, self.b)]

        def forward(self, u, i, j):
            return (self.u(u) * (self.i(i) - self.i(j))).sum(1, keepdim=True) + self.b(i) - self.b(j)

    u, i, j = torch.randint(80, (4096,)), torch.randint(60, (4096,)), torch.randint(60, (4096,))
    a, b = torch.randn(80, 3), torch.randn(60, 3)
    s = (a[u] * (b[i] - b[j])).sum(1)
    i, j = torch.where(s > 0, i, j), torch.where(s > 0, j, i)
    return case(
        Net(),
        (u, i, j, torch.ones(4096, 1)),
        lambda p, y: -F.logsigmoid(p).mean(),
        'other',
        n=3072,
        lr=2e-2,
        epochs=6,
    )


@situation
def claims():
    "Amounts above zero: a log link and the Gamma deviance"
    x = torch.randn(2048, 10)
    mean = (0.6 * x[:, :1] - 0.4 * x[:, 1:2] + 0.5).exp()
    y = mean * torch.distributions.Gamma(3.0, 3.0).sample((2048, 1))

    def gamma(p, y):
        return (p + y * (-p).exp()).mean()

    return case(mlp(10, 1, 32), (x, y), gamma, 'count', n=1536, lr=2e-3)


@situation
def squeeze_excite():
    class Block(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.a, self.b, self.se = (
                nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU()),
                nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c)),
                nn.Sequential(
                    nn.AdaptiveAvgPool2d(1),
                    nn.Conv2d(c, c // 4, 1),
                    nn.ReLU(),
                    nn.Conv2d(c // 4, c, 1),
                    nn.Sigmoid(),
                ),
            )

        def forward(self, x):
            h = self.b(self.a(x))
            return (x + h * self.se(h)).relu()

    return case(
        nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            Block(16),
            Block(16),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(144, 4),
        ),
        pictures(),
        opt=optim.AdamW,
        lr=3e-3,
        epochs=4,
    )


@situation
def experts():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.es = nn.Linear(10, 4), nn.ModuleList(mlp(10, 1, 24) for _ in range(4))

        def forward(self, x):
            return (self.gate(x).softmax(1)[:, :, None] * torch.stack([e(x) for e in self.es], 1)).sum(1)

    x = torch.randn(2048, 10)
    return case(
        Net(),
        (x, torch.where(x[:, :1] > 0, x[:, 1:2] * 2, x[:, 2:3] - 1) + 0.2 * torch.randn(2048, 1)),
        F.mse_loss,
        'number',
        n=1536,
        epochs=8,
    )


@situation
def flow():
    "Affine coupling layers (real NVP), trained by likelihood"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.nets = nn.ModuleList(mlp(1, 2, 32, nn.Tanh) for _ in range(6))
            [nn.init.zeros_(n[-1].weight) for n in self.nets]

        def forward(self, x):
            a, b, logdet = x[:, :1], x[:, 1:], 0
            for n in self.nets:
                s, t = n(a).chunk(2, 1)
                s = s.tanh()
                a, b, logdet = b * s.exp() + t, a, logdet + s
            return torch.cat([a, b], 1), logdet

    def nll(p, y):
        z, logdet = p
        return (z.square().sum(1) / 2 + math.log(2 * math.pi) - logdet[:, 0]).mean()

    a = 6.3 * torch.rand(2048)
    x = torch.stack([a.cos(), a.sin()], 1) * 1.5 + 0.15 * torch.randn(2048, 2)
    return case(Net(), (x, torch.zeros(2048)), nll, 'other', n=1536, epochs=10)


@situation
def unet_regression():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()

            def part(i, o, s=1):
                return nn.Sequential(nn.Conv2d(i, o, 3, s, 1), nn.GroupNorm(4, o), nn.SiLU())

            self.a, self.b, self.c, self.up, self.out = (
                part(1, 8),
                part(8, 16, 2),
                part(16, 16),
                nn.Upsample(scale_factor=2),
                nn.Conv2d(24, 1, 3, padding=1),
            )

        def forward(self, x):
            a = self.a(x)
            return self.out(torch.cat([a, self.up(self.c(self.b(a)))], 1))

    y = F.avg_pool2d(torch.randn(512, 1, 20, 20), 5, 1) * 4
    return case(Net(), (y + 0.8 * torch.randn_like(y), y), F.smooth_l1_loss, 'number', n=384, bs=16, epochs=5)


@situation
def smoothed_labels():
    return case(
        mlp(20, 8),
        blobs(8, n=2048, spread=1.2),
        partial(F.cross_entropy, label_smoothing=0.1),
        n=1536,
        lr=2e-3,
    )


@situation
def rmsprop_table():
    x = torch.randn(2048, 12)
    return case(
        mlp(12, 4, 48),
        (x, (x @ torch.randn(12, 4) + 0.5 * torch.randn(2048, 4)).argmax(1)),
        n=1536,
        opt=optim.RMSprop,
        lr=1e-3,
    )


@situation
def adagrad_words():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.out = nn.EmbeddingBag(300, 24), nn.Linear(24, 4)

        def forward(self, x):
            return self.out(self.emb(x))

    topic, p = torch.randint(4, (1536,)), (torch.randn(4, 300) * 1.5).softmax(1)
    return case(Net(), (p[topic].multinomial(25, True), topic), opt=optim.Adagrad, lr=0.1, epochs=6)


@situation
def nesterov_cosine():
    d = case(
        mlp(20, 5),
        blobs(5),
        lr=0.1,
        opt=partial(optim.SGD, momentum=0.9, nesterov=True, weight_decay=1e-4),
        epochs=6,
    )
    d['cbs'] = [BatchSchedCB(partial(optim.lr_scheduler.CosineAnnealingLR))]
    return d


@situation
def much_dropout():
    return case(
        nn.Sequential(
            nn.Linear(20, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(128, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(128, 4),
        ),
        blobs(4),
        lr=2e-3,
        epochs=8,
    )


@situation
def many_classes():
    return case(mlp(32, 60, 96), blobs(60, 32, 6144, 2.5), n=4608, lr=3e-3, epochs=6)


@situation
def missing_values():
    x, gone = torch.randn(2048, 10), (torch.rand(2048, 10) < 0.3).float()
    y = (x[:, :1] + x[:, 1:2] * x[:, 2:3] > 0).float()
    return case(
        mlp(20, 1),
        (torch.cat([x * (1 - gone), gone], 1), y),
        F.binary_cross_entropy_with_logits,
        'yes',
        n=1536,
        epochs=6,
        lr=2e-3,
    )


@situation
def deep_norms():
    layers = [o for _ in range(8) for o in (nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU())]
    return case(nn.Sequential(nn.Linear(20, 32), *layers, nn.Linear(32, 4)), blobs(), lr=2e-3, epochs=6)


@situation
def dilated_forecast():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cs, self.out = (
                nn.ModuleList(
                    nn.utils.parametrizations.weight_norm(
                        nn.Conv1d(1 if k == 0 else 16, 16, 3, dilation=2**k)
                    )
                    for k in range(4)
                ),
                nn.Linear(16, 1),
            )

        def forward(self, x):
            for k, c in enumerate(self.cs):
                x = c(F.pad(x, (2 ** (k + 1), 0))).relu()
            return self.out(x[:, :, -1])

    t, f = torch.arange(33.0), 0.2 + 0.5 * torch.rand(1536, 1)
    s = (f * t + 6 * torch.rand(1536, 1)).sin() + 0.5 * (2.3 * f * t).sin() + 0.1 * torch.randn(1536, 33)
    return case(Net(), (s[:, None, :32], s[:, 32:]), F.mse_loss, 'number', lr=3e-3, epochs=8)


@situation
def image_vae():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc, self.dec = (
                nn.Sequential(
                    nn.Conv2d(1, 8, 3, 2, 1),
                    nn.ReLU(),
                    nn.Conv2d(8, 16, 3, 2, 1),
                    nn.ReLU(),
                    nn.Flatten(),
                    nn.Linear(144, 16),
                ),
                nn.Sequential(
                    nn.Linear(8, 144),
                    nn.ReLU(),
                    nn.Unflatten(1, (16, 3, 3)),
                    nn.ConvTranspose2d(16, 8, 4, 2, 1),
                    nn.ReLU(),
                    nn.ConvTranspose2d(8, 1, 4, 2, 1),
                ),
            )

        def forward(self, x):
            mu, logvar = self.enc(x).chunk(2, 1)
            return self.dec(mu + (logvar / 2).exp() * torch.randn_like(mu)), mu, logvar

    def loss(p, y):
        out, mu, lv = p
        return F.mse_loss(out, y) - 0.002 * (1 + lv - mu.square() - lv.exp()).mean()

    x = pictures()[0] * 0.4 + 0.1
    return case(Net(), (x, x), loss, 'other', epochs=6)


@situation
def actor_critic():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.pi, self.v = (
                nn.Sequential(nn.Linear(8, 64), nn.Tanh()),
                nn.Linear(64, 3),
                nn.Linear(64, 1),
            )

        def forward(self, x):
            h = self.body(x)
            return self.pi(h), self.v(h)

    class A2C(TrainLearner):
        def get_loss(self):
            (logits, v), (best,) = self.preds, self.targets
            d = torch.distributions.Categorical(logits=logits)
            a = d.sample()
            r = (a == best).float() + 0.1 * torch.randn(len(a))
            self.loss = (
                -(d.log_prob(a) * (r - v[:, 0]).detach()).mean()
                + 0.5 * F.mse_loss(v[:, 0], r)
                - 0.01 * d.entropy().mean()
            )

    s = torch.randn(2048, 8)
    return {
        **case(Net(), (s, (s @ torch.randn(8, 3)).argmax(1)), kind='other', n=1536, epochs=12, lr=5e-3),
        'learner': A2C,
    }


@situation
def copy_task():
    "Sequence to sequence with teacher forcing: the sequence backwards"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.enc, self.dec, self.out = (
                nn.Embedding(11, 24),
                nn.GRU(24, 64, batch_first=True),
                nn.GRU(24, 64, batch_first=True),
                nn.Linear(64, 10),
            )

        def forward(self, x, given):
            return self.out(self.dec(self.emb(given), self.enc(self.emb(x))[1])[0])

    x = torch.randint(10, (2560, 5))
    y = x.flip(1)
    return case(
        Net(),
        (x, torch.cat([torch.full((2560, 1), 10), y[:, :-1]], 1), y),
        lambda p, y: F.cross_entropy(p.flatten(0, 1), y.flatten()),
        'words',
        n=2048,
        lr=5e-3,
        epochs=10,
    )
