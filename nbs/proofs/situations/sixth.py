"The sixth half, written in the same way by somebody else"

import math
from functools import partial
import torch, torch.nn.functional as F
from torch import nn, optim
from miniai.schedule import BatchSchedCB
from torch.optim.lr_scheduler import OneCycleLR, StepLR
from .common import case, group, mlp

SIXTH, situation = group()


# class
@situation
def flower_measures():
    "three species from four lengths in logs, a tiny tanh net, Rprop with all data as one batch"
    y = torch.randint(3, (456,))
    x = torch.tensor([[1.61, 1.22, 0.37, -1.45], [1.78, 1.02, 1.44, 0.27], [1.88, 1.08, 1.71, 0.69]])[y]
    x = x + 0.1 * torch.randn(456, 1) + 0.15 * torch.randn(456, 4)
    x = (x - x.mean(0)) / x.std(0)
    return case(
        nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)),
        (x, y),
        lr=0.03,
        opt=optim.Rprop,
        epochs=16,
        bs=256,
        n=256,
    )


@situation
def dna_motifs():
    "which of four motifs, with a few mutations, is in a stretch of fifty bases?"
    s, motif = torch.randint(4, (2560, 50)), torch.randint(4, (4, 9))
    y, at = torch.randint(4, (2560,)), torch.randint(41, (2560, 1)) + torch.arange(9)
    m = torch.where(torch.rand(2560, 9) < 0.12, torch.randint(4, (2560, 9)), motif[y])
    x = F.one_hot(s.scatter(1, at, m), 4).float().transpose(1, 2)
    model = nn.Sequential(
        nn.Conv1d(4, 32, 9),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(32, 4),
    )
    return case(model, (x, y), lr=6e-3, epochs=6, bs=64, n=2048)


@situation
def early_exits():
    "a classifier behind each of three blocks, the sum of their cross entropies"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(
                [
                    nn.Sequential(nn.Linear(12 if i == 0 else 48, 48), nn.LayerNorm(48), nn.ReLU())
                    for i in range(3)
                ]
            )
            self.exits = nn.ModuleList([nn.Linear(48, 5) for _ in range(3)])

        def forward(self, x):
            out = []
            for b, e in zip(self.blocks, self.exits):
                x = b(x)
                out.append(e(x))
            return torch.stack(out, 2)

    x = torch.randn(2560, 12)
    y = ((x @ torch.randn(12, 16) / 2).tanh() @ torch.randn(16, 5) + 0.3 * torch.randn(2560, 5)).argmax(1)

    def loss(p, y):
        return sum(F.cross_entropy(p[..., i], y) for i in range(3))

    return case(Net(), (x, y), loss, lr=0.02, opt=partial(optim.SGD, momentum=0.9), epochs=6, bs=64, n=2048)


@situation
def tic_tac_toe():
    "who has three in a row on a random board: cross, nought, or nobody"
    x = torch.randint(3, (5120, 9))
    lines = torch.tensor(
        [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]]
    )
    has = [(x[:, lines] == k).all(2).any(1) for k in (1, 2)]
    y = torch.where(has[0] & ~has[1], 1, torch.where(has[1] & ~has[0], 2, 0))
    model = nn.Sequential(
        nn.Embedding(3, 6),
        nn.Flatten(),
        nn.Linear(54, 96),
        nn.ReLU(),
        nn.Linear(96, 48),
        nn.ReLU(),
        nn.Linear(48, 3),
    )
    return case(model, (x, y), lr=4e-3, opt=optim.NAdam, epochs=8, bs=64, n=4096)


@situation
def accelerometer():
    "five activities from three axes of a phone: strided convolutions, then a GRU"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Sequential(
                nn.Conv1d(3, 16, 5, stride=2),
                nn.BatchNorm1d(16),
                nn.ReLU(),
                nn.Conv1d(16, 24, 5, stride=2),
                nn.BatchNorm1d(24),
                nn.ReLU(),
            )
            self.rnn, self.head = nn.GRU(24, 32, batch_first=True), nn.Linear(32, 5)

        def forward(self, x):
            return self.head(self.rnn(self.conv(x).transpose(1, 2))[0][:, -1])

    n, t = 1920, torch.arange(64.0)
    y = torch.randint(5, (n,))
    freq, size = (
        torch.tensor([0.02, 0.12, 0.16, 0.3, 0.22])[y] * (1 + 0.15 * torch.randn(n)),
        torch.tensor([0.2, 0.8, 1.0, 1.5, 0.5])[y] * (1 + 0.2 * torch.rand(n)),
    )
    wave = (
        (6.28 * freq[:, None, None] * t + 6.28 * torch.rand(n, 1, 1) + torch.rand(n, 3, 1)).sin()
        * size[:, None, None]
        * torch.rand(n, 3, 1)
    )
    x = wave + 0.3 * torch.randn(5, 3, 1)[y] + 0.8 * torch.randn(n, 3, 64)
    return case(Net(), (x, y), lr=2e-3, opt=partial(optim.AdamW, weight_decay=1e-2), epochs=6, bs=64, n=1536)


@situation
def citation_network():
    "topics of papers from their words and links: two graph convolutions over all, ids as input"
    topic = torch.randint(5, (900,))
    a = torch.rand(900, 900) < torch.where(topic[:, None] == topic, 0.012, 0.002)
    a = (a | a.T | torch.eye(900).bool()).float()
    words = (torch.rand(900, 80) < (torch.randn(5, 80) - 2.3).sigmoid()[topic]).float()

    class GCN(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer('a', a / (a.sum(1, keepdim=True) * a.sum(0)).sqrt())
            self.register_buffer('w', words)
            self.one, self.two, self.drop = nn.Linear(80, 32), nn.Linear(32, 5), nn.Dropout(0.3)

        def forward(self, i):
            return self.two(self.a @ self.drop(self.one(self.a @ self.w).relu()))[i]

    return case(
        GCN(),
        (torch.arange(900), topic),
        lr=2e-2,
        opt=partial(optim.Adam, weight_decay=5e-4),
        epochs=8,
        bs=64,
        n=600,
    )


@situation
def prototypes():
    "few-shot episodes: which of five means of three embedded examples is nearest to the query?"

    class Proto(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Sequential(
                nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16)
            )

        def forward(self, x):
            z = self.embed(x)
            return -(z[:, :15].unflatten(1, (5, 3)).mean(2) - z[:, 15:]).square().sum(2) / 4

    n, mix = 2816, torch.randn(24, 24) / 24**0.5
    y, centre = torch.randint(5, (n,)), torch.randn(n, 5, 4)
    z = torch.cat(
        [centre.repeat_interleave(3, 1), centre[torch.arange(n), y][:, None]], 1
    ) + 0.3 * torch.randn(n, 16, 4)
    x = torch.cat([z, 1.3 * torch.randn(n, 16, 20)], 2) @ mix.T * 1.5
    return case(Proto(), (x, y), lr=2e-3, epochs=6, bs=32, n=2304)


@situation
def language_id():
    "six made-up languages told apart by pairs of letters, a bag of embeddings, SGD with momentum"
    n, y = 2560, torch.randint(6, (2560,))
    step, s = (0.8 * torch.randn(6, 20, 20)).softmax(2), [torch.randint(20, (2560,))]
    for _ in range(24):
        s.append(torch.multinomial(step[y, s[-1]], 1)[:, 0])
    s = torch.stack(s, 1)
    model = nn.Sequential(nn.EmbeddingBag(400, 24), nn.Linear(24, 6))
    return case(
        model,
        (20 * s[:, :-1] + s[:, 1:], y),
        lr=1.0,
        opt=partial(optim.SGD, momentum=0.9),
        epochs=8,
        bs=64,
        n=2048,
    )


@situation
def sleep_stages():
    "log spectrum of brain waves, classes weighted for being rare"

    class Spectrum(nn.Module):
        def forward(self, x):
            return (torch.fft.rfft(x, norm='ortho').abs().square() + 1e-2).log()

    n, p, t = 2560, torch.tensor([0.12, 0.08, 0.48, 0.2, 0.12]), torch.arange(128) / 128.0
    y = torch.multinomial(p, n, replacement=True)
    bands, power = torch.tensor([2.0, 6.0, 10.0, 14.0, 24.0]), torch.rand(5, 5) * 1.4
    f = bands * (1 + 0.15 * torch.randn(n, 5))
    x = (
        (6.28 * (f[:, :, None] * t + torch.rand(n, 5, 1))).sin()
        * (power[y] * (1 + 0.5 * torch.randn(n, 5)))[:, :, None]
    ).sum(1) + torch.randn(n, 128)
    model = nn.Sequential(
        Spectrum(), nn.BatchNorm1d(65), nn.Linear(65, 48), nn.GELU(), nn.Dropout(0.3), nn.Linear(48, 5)
    )
    return case(
        model,
        (x, y),
        nn.CrossEntropyLoss(weight=p.rsqrt() / p.rsqrt().mean()),
        lr=5e-3,
        opt=optim.Adamax,
        epochs=6,
        bs=64,
        n=2048,
    )


@situation
def galaxy_shapes():
    "round, edge-on, spiral or ring? parallel kernels of several sizes, as in Inception; RMSprop"

    class Inception(nn.Module):
        def __init__(self, i, o):
            super().__init__()
            self.branches = nn.ModuleList([nn.Conv2d(i, o, k, padding=k // 2) for k in (1, 3, 5)])

        def forward(self, x):
            return torch.cat([b(x) for b in self.branches], 1).relu()

    n, y, lin = 1280, torch.randint(4, (1280, 1, 1)), torch.linspace(-1, 1, 16)
    v, u = torch.meshgrid(lin, lin, indexing='ij')
    r, phi, turn = (u**2 + v**2).sqrt(), torch.atan2(v, u), 6.28 * torch.rand(n, 1, 1)
    across = u * turn.sin() + v * turn.cos()
    x = torch.where(
        y == 0,
        (-4 * r**2).exp(),
        torch.where(
            y == 1,
            (-40 * across**2 - 2 * r**2).exp(),
            torch.where(
                y == 2, (-2 * r).exp() * (1 + (2 * phi + 9 * r + turn).cos()), (-40 * (r - 0.6) ** 2).exp()
            ),
        ),
    )
    x = (x * (0.7 + 0.6 * torch.rand(n, 1, 1)) - 0.3 + 0.5 * torch.randn(n, 16, 16))[:, None] * 1.5
    model = nn.Sequential(
        Inception(1, 4),
        nn.MaxPool2d(2),
        Inception(12, 8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 4),
    )
    return case(model, (x, y[:, 0, 0]), lr=5e-3, opt=optim.RMSprop, epochs=6, bs=32, n=1024)


@situation
def gaussian_classes():
    "a mean and a full precision matrix for each of four classes, trained for the posterior"

    class Quadratic(nn.Module):
        def __init__(self, c, d):
            super().__init__()
            self.mean, self.root, self.prior = (
                nn.Parameter(0.1 * torch.randn(c, d)),
                nn.Parameter(torch.eye(d).repeat(c, 1, 1)),
                nn.Parameter(torch.zeros(c)),
            )

        def forward(self, x):
            z = torch.einsum('cij,ncj->nci', self.root, x[:, None] - self.mean)
            return (
                self.prior
                - 0.5 * z.square().sum(2)
                + 0.5 * torch.logdet(self.root @ self.root.transpose(1, 2) + 1e-3 * torch.eye(x.shape[1]))
            )

    y = torch.randint(4, (2048,))
    x = (
        torch.einsum('nij,nj->ni', (torch.eye(6) + 0.5 * torch.randn(4, 6, 6))[y], torch.randn(2048, 6))
        + 0.5 * torch.randn(4, 6)[y]
    )
    return case(Quadratic(4, 6), (x / x.std(0), y), lr=0.15, opt=optim.Adamax, epochs=6, bs=64, n=1536)


@situation
def next_purchase():
    "the next of sixty things in a shop visit of three to ten, padded; attention over a GRU's states, tied embedding"

    class Session(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.rnn, self.score = (
                nn.Embedding(61, 32, padding_idx=0),
                nn.GRU(32, 32, batch_first=True),
                nn.Linear(64, 1),
            )
            self.out = nn.Linear(64, 32)

        def forward(self, s):
            h = self.rnn(self.emb(s))[0]
            last = h[:, -1]
            a = (
                self.score(torch.cat([h, last[:, None].expand_as(h)], 2))[..., 0]
                .masked_fill(s == 0, -1e4)
                .softmax(1)
            )
            return self.out(torch.cat([last, (a[..., None] * h).sum(1)], 1)) @ self.emb.weight[1:].T

    n, nxt = 3584, torch.randint(60, (60, 3))
    s = [torch.randint(60, (n,))]
    for _ in range(10):
        s.append(
            torch.where(torch.rand(n) < 0.75, nxt[s[-1], torch.randint(3, (n,))], torch.randint(60, (n,)))
        )
    s, length = torch.stack(s, 1), torch.randint(3, 11, (n, 1))
    x = torch.where(torch.arange(10) >= 10 - length, s[:, :-1] + 1, 0)
    return case(Session(), (x, s[:, -1]), lr=3e-3, epochs=6, bs=64, n=3072)


@situation
def spatial_transformer():
    "four glyphs, turned and moved: a small net says how to straighten the image"

    class STN(nn.Module):
        def __init__(self):
            super().__init__()
            self.where = nn.Sequential(nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 6))
            self.net = nn.Sequential(
                nn.Conv2d(1, 8, 3),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(8, 16, 3),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Flatten(),
                nn.Linear(64, 4),
            )
            self.where[3].weight.data.zero_()
            self.where[3].bias.data.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))

        def forward(self, x):
            return self.net(
                F.grid_sample(
                    x,
                    F.affine_grid(self.where(x).view(-1, 2, 3), x.shape, align_corners=False),
                    align_corners=False,
                )
            )

    glyph = torch.zeros(4, 1, 16, 16)
    glyph[0, 0, 4:12, 5:7] = glyph[0, 0, 10:12, 5:11] = glyph[1, 0, 4:6, 4:12] = glyph[1, 0, 4:12, 7:9] = 1
    glyph[2, 0, 4:12, 5:7] = glyph[2, 0, 4:12, 9:11] = glyph[2, 0, 7:9, 5:11] = glyph[
        3, 0, 4:6, 5:11
    ] = glyph[3, 0, 10:12, 5:11] = glyph[3, 0, 4:12, 9:11] = 1
    n = 2048
    y, a, shift = torch.randint(4, (n,)), 0.7 * torch.randn(n).clamp(-1.5, 1.5), 0.5 * torch.rand(n, 2) - 0.25
    th = torch.stack(
        [torch.stack([a.cos(), -a.sin(), shift[:, 0]], 1), torch.stack([a.sin(), a.cos(), shift[:, 1]], 1)], 1
    )
    x = (
        F.grid_sample(glyph[y], F.affine_grid(th, (n, 1, 16, 16), align_corners=False), align_corners=False)
        * 2
        - 0.5
        + 0.8 * torch.randn(n, 1, 16, 16)
    )
    return case(STN(), (x, y), lr=2e-3, epochs=5, bs=32, n=1664)


@situation
def feature_tokens():
    "a token for each column of a table and a transformer over them; AdamW with a warm-up"

    class FT(nn.Module):
        def __init__(self, d=32):
            super().__init__()
            self.w, self.b = nn.Parameter(0.3 * torch.randn(6, d)), nn.Parameter(0.3 * torch.randn(7, d))
            self.cats = nn.ModuleList([nn.Embedding(5, d) for _ in range(3)])
            self.layer = nn.TransformerEncoderLayer(d, 4, 64, dropout=0.1, batch_first=True, norm_first=True)
            self.head = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 3))

        def forward(self, x, c):
            t = torch.cat(
                [
                    self.b[6].expand(len(x), 1, -1),
                    x[..., None] * self.w + self.b[:6],
                    *[e(c[:, i : i + 1]) for i, e in enumerate(self.cats)],
                ],
                1,
            )
            return self.head(self.layer(t)[:, 0])

    x, c = torch.randn(2560, 6), torch.randint(5, (2560, 3))
    s = (
        torch.randn(5, 3)[c[:, 0]]
        + torch.randn(5, 3)[c[:, 1]]
        + x @ torch.randn(6, 3) * 0.7
        + x[:, :1] * torch.randn(5, 3)[c[:, 2]]
        + 0.5 * torch.randn(2560, 3)
    )
    warm = BatchSchedCB(partial(optim.lr_scheduler.LambdaLR, lr_lambda=lambda i: min(1, (i + 1) / 30)))
    d = case(
        FT(),
        (x, c, s.argmax(1)),
        lr=3e-3,
        opt=partial(optim.AdamW, weight_decay=0.01),
        epochs=5,
        bs=64,
        n=2048,
    )
    d['cbs'] = [warm]
    return d


# number
@situation
def hypernet_curves():
    "a net makes the weights of a small net of time, for each damped oscillation's settings"

    class Hyper(nn.Module):
        def __init__(self):
            super().__init__()
            self.make = nn.Sequential(nn.Linear(3, 48), nn.ReLU(), nn.Linear(48, 61))

        def forward(self, p, t):
            w = self.make(p)
            h = torch.sin(t * w[:, :20] * 4 + w[:, 20:40])
            return (h * w[:, 40:60]).sum(1, keepdim=True) + w[:, 60:]

    p, t = 2 * torch.rand(3072, 3) - 1, torch.rand(3072, 1)
    y = (1.5 + p[:, :1]) * (-(1.5 + p[:, 1:2]) * t).exp() * (
        6.28 * (1 + 0.4 * p[:, 2:]) * t
    ).cos() + 0.05 * torch.randn(3072, 1)
    return case(Hyper(), (p, t, y), F.mse_loss, 'number', lr=1e-2, epochs=6, bs=64, n=2560)


@situation
def option_prices():
    "calls by Black and Scholes, a softplus net, AdamW with one cycle"
    m, T, vol = 0.25 * torch.randn(3072), 0.1 + 1.9 * torch.rand(3072), 0.1 + 0.4 * torch.rand(3072)
    cdf = torch.distributions.Normal(0, 1).cdf
    d1 = (m + 0.5 * vol**2 * T) / (vol * T.sqrt())
    price = m.exp() * cdf(d1) - cdf(d1 - vol * T.sqrt())
    x, y = (
        torch.stack([m / 0.25, (T - 1) / 0.55, (vol - 0.3) / 0.115], 1),
        ((price - price.mean()) / price.std() + 0.05 * torch.randn(3072))[:, None],
    )
    cycle = BatchSchedCB(partial(OneCycleLR, max_lr=3e-2, total_steps=120))
    d = case(
        mlp(3, 1, 48, nn.Softplus),
        (x, y),
        nn.MSELoss(),
        'number',
        lr=3e-2,
        opt=optim.AdamW,
        epochs=6,
        bs=128,
        n=2560,
    )
    d['cbs'] = [cycle]
    return d


@situation
def school_scores():
    "pupils' scores: five traits and an effect of each of eighty schools, little of it to be explained; Adagrad"

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.fixed, self.school = nn.Linear(5, 1), nn.Embedding(80, 1)
            nn.init.zeros_(self.school.weight)

        def forward(self, x, s):
            return self.fixed(x) + self.school(s)

    x, s = torch.randn(3200, 5), torch.randint(80, (3200,))
    y = (
        x @ torch.tensor([[0.4], [-0.2], [0.1], [0.0], [0.2]])
        + 0.5 * torch.randn(80, 1)[s]
        + torch.randn(3200, 1)
    )
    return case(Mixed(), (x, s, y), F.mse_loss, 'number', lr=0.1, opt=optim.Adagrad, epochs=5, bs=64, n=2560)


@situation
def river_levels():
    "a river's level each day from rain at two places; a third of the levels were not measured (nan, left out of the loss)"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.LSTM(2, 24, batch_first=True), nn.Linear(24, 1)

        def forward(self, x):
            return self.out(self.rnn(x)[0])

    n = 1024
    rain = torch.randn(n, 30, 2).sub(0.5).relu() * 1.5
    store, level = torch.zeros(n, 2), []
    for t in range(30):
        store = store * torch.tensor([0.6, 0.85]) + rain[:, t] * torch.tensor([0.5, 0.3])
        level.append(store.sum(1, keepdim=True))
    level = torch.stack(level, 1)
    y = (level - level.mean()) / level.std() + 0.2 * torch.randn(n, 30, 1)
    y[torch.rand(n, 30, 1) < 0.35] = math.nan

    def loss(p, y):
        ok = ~y.isnan()
        return (p[ok] - y[ok]).square().mean()

    return case(Net(), (rain - 0.3, y), loss, 'number', lr=0.03, epochs=6, bs=32, n=768)


@situation
def bone_age():
    "age from an image of growth plates, and the sex; absolute error, the rate halved now and then"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 8, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(8, 16, 3, padding=1),
                nn.ReLU(),
                nn.AvgPool2d(2),
                nn.Flatten(),
            )
            self.head = nn.Sequential(nn.Linear(257, 32), nn.ReLU(), nn.Linear(32, 1))

        def forward(self, x, sex):
            return self.head(torch.cat([self.body(x), sex], 1))

    n, v = 1280, torch.arange(16.0)
    age, sex = 2 * torch.rand(n, 1) - 1, torch.randint(2, (n, 1)).float()
    gap, at = (2.2 - 1.6 * age - 0.5 * sex).clamp(min=0.2), 6 + 4 * torch.rand(n, 1)
    plate = 1 - (-(((v - at) / gap) ** 2)).exp()
    x = (plate[:, :, None] * (0.5 + 0.5 * ((v - 8).abs() < 5).float()) - 0.5 + 0.3 * torch.randn(n, 16, 16))[
        :, None
    ] * 2
    d = case(
        Net(),
        (x, sex - 0.5, 1.7 * age + 0.1 * torch.randn(n, 1)),
        nn.L1Loss(),
        'number',
        lr=3e-3,
        epochs=6,
        bs=32,
        n=1024,
    )
    d['cbs'] = [BatchSchedCB(partial(StepLR, step_size=64, gamma=0.5))]
    return d


@situation
def fourier_operator():
    "from a wave to the wave a little later: layers that multiply low frequencies by learned complex numbers"

    class Spectral(nn.Module):
        def __init__(self, c=16, modes=10):
            super().__init__()
            self.w, self.local, self.modes = (
                nn.Parameter(torch.randn(c, c, modes, dtype=torch.cfloat) / c),
                nn.Conv1d(c, c, 1),
                modes,
            )

        def forward(self, x):
            f = torch.einsum('nim,iom->nom', torch.fft.rfft(x)[..., : self.modes], self.w)
            return F.gelu(torch.fft.irfft(f, n=x.shape[-1]) + self.local(x))

    n, k = 640, torch.arange(33)
    f = torch.randn(n, 33, dtype=torch.cfloat) * (-((k / 4.0) ** 2)).exp()
    x = torch.fft.irfft(f, n=64, norm='forward')
    x = x / x.std()
    late = torch.fft.irfft(torch.fft.rfft(x + 0.3 * x**2) * (-0.01 * k**2 - 0.5j * k).exp(), n=64)
    model = nn.Sequential(nn.Conv1d(1, 16, 1), Spectral(), Spectral(), nn.Conv1d(16, 1, 1))
    return case(
        model,
        (x[:, None], late[:, None] + 0.1 * torch.randn(n, 1, 64)),
        F.mse_loss,
        'number',
        lr=5e-3,
        epochs=8,
        bs=16,
        n=512,
    )


@situation
def hamiltonian():
    "a pendulum's motion as the gradient of a learned energy"

    class Energy(nn.Module):
        def __init__(self):
            super().__init__()
            self.h = mlp(2, 1, 48, nn.Tanh)

        def forward(self, x):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                (g,) = torch.autograd.grad(self.h(x).sum(), x, create_graph=True)
            return torch.stack([g[:, 1], -g[:, 0]], 1)

    x = torch.stack([3 * torch.rand(1536) * torch.randn(1536).sign(), 1.5 * torch.randn(1536)], 1)
    y = torch.stack([x[:, 1], -1.5 * x[:, 0].sin()], 1) + 0.1 * torch.randn(1536, 2)
    return case(Energy(), (x, y), nn.MSELoss(), 'number', lr=0.02, opt=optim.RAdam, epochs=8, bs=64, n=1280)


@situation
def additive_shapes():
    "a sum of one small net for each of eight columns, as grouped convolutions"

    class Sum(nn.Module):
        def forward(self, x):
            return x.sum(1)

    x = 2 * torch.rand(2560, 8) - 1
    y = (
        (3 * x[:, 0]).sin()
        + x[:, 1].abs() * 2
        + (x[:, 2] > 0)
        + x[:, 3] ** 2
        - x[:, 4]
        + (-4 * x[:, 5]).sigmoid()
        + 0.5 * torch.randn(2560)
    )
    model = nn.Sequential(
        nn.Unflatten(1, (8, 1)),
        nn.Conv1d(8, 128, 1, groups=8),
        nn.ReLU(),
        nn.Conv1d(128, 128, 1, groups=8),
        nn.ReLU(),
        nn.Conv1d(128, 8, 1, groups=8),
        Sum(),
    )
    return case(
        model,
        (1.7 * x, (y - y.mean())[:, None]),
        F.mse_loss,
        'number',
        lr=3e-3,
        opt=optim.NAdam,
        epochs=6,
        bs=64,
        n=2048,
    )


# count
@situation
def football_goals():
    "goals of two teams from strengths of attack and defence, Poisson; ids of the two as input"

    class Goals(nn.Module):
        def __init__(self):
            super().__init__()
            self.attack, self.defence, self.base = (
                nn.Embedding(20, 1),
                nn.Embedding(20, 1),
                nn.Parameter(torch.zeros(2)),
            )
            for e in (self.attack, self.defence):
                nn.init.normal_(e.weight, std=0.05)

        def forward(self, t):
            return self.base + self.attack(t)[..., 0] - self.defence(t.flip(1))[..., 0]

    teams, a, d = torch.randint(20, (2432, 2)), 0.45 * torch.randn(20), 0.4 * torch.randn(20)
    y = torch.poisson((torch.tensor([0.4, 0.1]) + a[teams] - d[teams.flip(1)]).exp())
    return case(
        Goals(), (teams, y), nn.PoissonNLLLoss(), 'count', lr=0.1, opt=optim.Adagrad, epochs=5, bs=32, n=1920
    )


@situation
def neuron_spikes():
    "spikes of eight cells from what an eye saw before; most counts are zero"
    x = torch.randn(3072, 40)
    t = torch.arange(40.0)
    kernel = (-((t - 5 - 20 * torch.rand(8, 1)) ** 2) / 30).exp() * (t / (2 + 3 * torch.rand(8, 1))).sin()
    y = torch.poisson((x @ kernel.T * 0.6 - 0.6).exp().clamp(max=8))
    model = nn.Sequential(nn.Linear(40, 32), nn.Softplus(), nn.Linear(32, 8))
    return case(model, (x, y), F.poisson_nll_loss, 'count', lr=1e-2, opt=optim.RAdam, epochs=5, bs=64, n=2560)


# yes
@situation
def link_prediction():
    "will two of two hundred people be in touch? embeddings smoothed over last year's contacts, and their product"
    z = torch.randn(200, 2)
    p = (3 - 4 * torch.cdist(z, z)).sigmoid()
    last = (torch.rand(200, 200) < p).float().triu(1)
    last = last + last.T + torch.eye(200)

    class Links(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer('a', last / last.sum(1, keepdim=True))
            self.emb, self.lin, self.scale, self.bias = (
                nn.Embedding(200, 16),
                nn.Linear(16, 16),
                nn.Parameter(torch.ones(1)),
                nn.Parameter(torch.zeros(1)),
            )

        def forward(self, ij):
            h = self.a @ self.emb.weight
            h = F.normalize(self.lin(self.a @ h.relu() + h), dim=1)[ij]
            return self.scale * 4 * (h[:, 0] * h[:, 1]).sum(1, keepdim=True) + self.bias

    ij = torch.randint(200, (3584, 2))
    y = (torch.rand(3584) < p[ij[:, 0], ij[:, 1]]).float()[:, None]
    return case(Links(), (ij, y), F.binary_cross_entropy_with_logits, 'yes', lr=0.03, epochs=4, bs=64, n=3072)


@situation
def knowledge_tracing():
    "will a pupil solve the next exercise? an LSTM over skills and answers so far; padded places count nothing"

    class DKT(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.nxt, self.rnn, self.out = (
                nn.Embedding(25, 24),
                nn.Embedding(12, 24),
                nn.LSTM(24, 32, batch_first=True),
                mlp(56, 1, 32),
            )

        def forward(self, past, skill):
            return self.out(torch.cat([self.rnn(self.emb(past))[0], self.nxt(skill)], 2))[..., 0]

    n, T = 1536, 16
    skill, able, hard = torch.randint(12, (n, T)), 1.5 * torch.randn(n, 1), 1.5 * torch.randn(12)
    right = (torch.rand(n, T) < (able - hard[skill] + 0.05 * torch.arange(T)).sigmoid()).float()
    past = F.pad((skill * 2 + right.long() + 1)[:, :-1], (1, 0))
    y = torch.where(torch.arange(T) < torch.randint(6, T + 1, (n, 1)), right, -1.0)

    def loss(p, y):
        return (F.binary_cross_entropy_with_logits(p, y.clamp(min=0), reduction='none') * (y >= 0)).sum() / (
            y >= 0
        ).sum()

    return case(DKT(), (past, skill, y), loss, 'yes', lr=3e-3, epochs=5, bs=32, n=1280)


@situation
def radar_nowcast():
    "where it will rain, from four images of moving showers: a convolutional GRU"

    class ConvGRU(nn.Module):
        def __init__(self, c=12):
            super().__init__()
            self.gates, self.new, self.out, self.c = (
                nn.Conv2d(1 + c, 2 * c, 3, padding=1),
                nn.Conv2d(1 + c, c, 3, padding=1),
                nn.Conv2d(c, 1, 3, padding=1),
                c,
            )

        def forward(self, x):
            h = x.new_zeros(len(x), self.c, *x.shape[-2:])
            for f in x.unbind(1):
                r, z = self.gates(torch.cat([f[:, None], h], 1)).sigmoid().chunk(2, 1)
                h = z * h + (1 - z) * self.new(torch.cat([f[:, None], r * h], 1)).tanh()
            return self.out(h)

    n, g = 512, torch.arange(12.0)
    at, v, t = 2 + 8 * torch.rand(n, 2, 2), torch.randn(n, 1, 2).clamp(-1.5, 1.5), torch.arange(5.0)
    pos = at[:, None] + v[:, None] * t[:, None, None]
    rain = (-((g[:, None] - pos[..., :1, None]) ** 2 + (g - pos[..., 1:, None]) ** 2) / 4).exp().sum(2)
    x = 3 * rain[:, :4] - 0.5 + 0.3 * torch.randn(n, 4, 12, 12)
    return case(
        ConvGRU(),
        (x, (rain[:, 4:] > 0.4).float()),
        nn.BCEWithLogitsLoss(),
        'yes',
        lr=2e-2,
        epochs=6,
        bs=16,
        n=384,
    )


@situation
def monotone_scores():
    "who pays back? weights made positive, so that more income or a longer job never lowers the score; Nesterov"

    class Positive(nn.Linear):
        def forward(self, x):
            return F.linear(x, F.softplus(self.weight - 2), self.bias)

    x = torch.randn(3072, 6)
    s = 1.5 * (
        1.5 * x[:, 0].tanh()
        + x[:, 1].clamp(min=0)
        + 0.8 * x[:, 2]
        + 0.5 * (x[:, 3] + x[:, 4]).sigmoid() * 2
        - 0.3
    )
    y = (torch.rand(3072) < s.sigmoid()).float()[:, None]
    model = nn.Sequential(Positive(6, 24), nn.Tanh(), Positive(24, 24), nn.Tanh(), Positive(24, 1))
    return case(
        model,
        (x, y),
        nn.BCEWithLogitsLoss(),
        'yes',
        lr=0.2,
        opt=partial(optim.SGD, momentum=0.9, nesterov=True),
        epochs=6,
        bs=64,
        n=2560,
    )


# probability
@situation
def item_response():
    "does a pupil solve an item? ability, difficulty and discrimination, a sigmoid at the end"

    class TwoPL(nn.Module):
        def __init__(self):
            super().__init__()
            self.ability, self.hard, self.slope = (
                nn.Embedding(120, 1),
                nn.Embedding(40, 1),
                nn.Embedding(40, 1),
            )
            for e in (self.ability, self.hard, self.slope):
                nn.init.normal_(e.weight, std=0.1)

        def forward(self, who, what):
            return (self.slope(what).exp() * (self.ability(who) - self.hard(what))).sigmoid()

    who, what = torch.randint(120, (4096,)), torch.randint(40, (4096,))
    s = (0.3 * torch.randn(40)).exp()[what] * (1.2 * torch.randn(120)[who] - 1.3 * torch.randn(40)[what])
    return case(
        TwoPL(),
        (who, what, (torch.rand(4096) < s.sigmoid()).float()[:, None]),
        nn.BCELoss(),
        'probability',
        lr=0.01,
        epochs=5,
        bs=64,
        n=3328,
    )


@situation
def icu_stays():
    "who dies in intensive care: hourly values of which most are missing fade to the mean between measurements"

    class Decay(nn.Module):
        def __init__(self, d=6, h=32):
            super().__init__()
            self.fade, self.cell, self.out, self.h = (
                nn.Parameter(torch.zeros(d)),
                nn.GRUCell(2 * d, h),
                nn.Sequential(nn.Linear(h, 1), nn.Sigmoid()),
                h,
            )

        def forward(self, x, seen):
            last, h = torch.zeros_like(x[:, 0]), x.new_zeros(len(x), self.h)
            for t in range(x.shape[1]):
                last = torch.where(seen[:, t] > 0, x[:, t], last * self.fade.sigmoid())
                h = self.cell(torch.cat([last, seen[:, t]], 1), h)
            return self.out(h)

    n = 1536
    sick = torch.randn(n, 1, 1)
    x = (
        sick * torch.randn(6) * torch.linspace(0, 1.5, 12)[:, None]
        + 0.7 * torch.randn(n, 1, 6)
        + 0.7 * torch.randn(n, 12, 6)
    )
    seen = (torch.rand(n, 12, 6) < torch.tensor([0.9, 0.5, 0.4, 0.3, 0.2, 0.6])).float()
    y = (torch.rand(n, 1) < (2.5 * sick[:, 0] - 2).sigmoid()).float()
    return case(
        Decay(), (x * seen, seen, y), F.binary_cross_entropy, 'probability', lr=3e-3, epochs=5, bs=32, n=1280
    )


# words
@situation
def named_entities():
    "names of persons, places and firms in sentences of different lengths; a GRU of both directions, padding left out"

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.rnn, self.out = (
                nn.Embedding(100, 24, padding_idx=0),
                nn.GRU(24, 24, batch_first=True, bidirectional=True),
                nn.Linear(48, 4),
            )

        def forward(self, s):
            return self.out(self.rnn(self.emb(s))[0])

    n, T = 1280, 14
    s = torch.randint(1, 100, (n, T))
    said, met, at, name = s < 15, (s >= 15) & (s < 25), (s >= 25) & (s < 35), s >= 65
    before = lambda m: F.pad(m[:, :-1], (1, 0))
    tag = torch.where(
        name,
        torch.where(before(met) | F.pad(said[:, 1:], (0, 1)), 1, torch.where(before(at), 2, 3 * (s >= 85))),
        0,
    )
    gone = torch.arange(T) >= torch.randint(5, T + 1, (n, 1))

    def loss(p, y):
        return F.cross_entropy(p.flatten(0, 1), y.flatten(), ignore_index=-100)

    return case(
        Tagger(),
        (s.masked_fill(gone, 0), tag.masked_fill(gone, -100)),
        loss,
        'words',
        lr=2e-2,
        epochs=5,
        bs=32,
        n=1024,
    )


@situation
def gated_conv_lm():
    "the next note of made-up tunes: causal convolutions with gated linear units and residuals"

    class Block(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.conv = nn.Conv1d(c, 2 * c, 3)

        def forward(self, x):
            return x + F.glu(self.conv(F.pad(x, (2, 0))), 1)

    class LM(nn.Module):
        def __init__(self, c=32):
            super().__init__()
            self.emb, self.body, self.out = (
                nn.Embedding(12, c),
                nn.Sequential(Block(c), Block(c)),
                nn.Linear(c, 12),
            )

        def forward(self, s):
            return self.out(self.body(self.emb(s).transpose(1, 2)).transpose(1, 2))

    step, s = (2 * torch.randn(12, 12, 12)).softmax(2), [torch.randint(12, (640,)), torch.randint(12, (640,))]
    for _ in range(24):
        s.append(torch.multinomial(step[s[-2], s[-1]], 1)[:, 0])
    s = torch.stack(s, 1)

    def loss(p, y):
        return F.cross_entropy(p.reshape(-1, 12), y.reshape(-1))

    return case(
        LM(),
        (s[:, :-1], s[:, 1:]),
        loss,
        'words',
        lr=0.06,
        opt=partial(optim.SGD, momentum=0.95),
        epochs=8,
        bs=16,
        n=512,
    )


# pixels
@situation
def satellite_crops():
    "which of four crops grows on a pixel, from five bands; dilated convolutions; under clouds nothing is known (255)"
    n, g = 384, torch.arange(16.0)
    seeds, crop = 16 * torch.rand(n, 6, 2), torch.randint(4, (n, 6))
    d = (g[:, None] - seeds[..., :1, None]) ** 2 + (g - seeds[..., 1:, None]) ** 2
    y = crop.gather(1, d.argmin(1).flatten(1)).view(n, 16, 16)
    cloud = ((g[:, None] - 16 * torch.rand(n, 1, 1)) ** 2 + (g - 16 * torch.rand(n, 1, 1)) ** 2) < 16
    x = (
        torch.randn(4, 5)[y].permute(0, 3, 1, 2) * 0.7
        + torch.randn(n, 5, 16, 16)
        + 0.3 * torch.randn(n, 5, 1, 1)
    )
    x = torch.where(cloud[:, None], 1.5 + 0.2 * torch.randn(n, 1, 16, 16), x)
    model = nn.Sequential(
        nn.Conv2d(5, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2),
        nn.ReLU(),
        nn.Conv2d(16, 4, 1),
    )
    return case(
        model,
        (x, y.masked_fill(cloud, 255)),
        nn.CrossEntropyLoss(ignore_index=255),
        'pixels',
        lr=0.06,
        opt=partial(optim.SGD, momentum=0.9, weight_decay=1e-4),
        epochs=4,
        bs=16,
        n=320,
    )


@situation
def cell_walls():
    "outside, inside or wall of cells under a microscope: down and up again with instance norm, walls weigh more"

    class Net(nn.Module):
        def __init__(self, c=12):
            super().__init__()
            self.top = nn.Sequential(
                nn.Conv2d(1, c, 3, padding=1), nn.InstanceNorm2d(c, affine=True), nn.LeakyReLU(0.1)
            )
            self.low = nn.Sequential(
                nn.Conv2d(c, 2 * c, 3, stride=2, padding=1),
                nn.InstanceNorm2d(2 * c, affine=True),
                nn.LeakyReLU(0.1),
                nn.ConvTranspose2d(2 * c, c, 2, stride=2),
            )
            self.out = nn.Conv2d(2 * c, 3, 3, padding=1)

        def forward(self, x):
            x = self.top(x)
            return self.out(torch.cat([x, self.low(x)], 1))

    n, g = 384, torch.arange(16.0)
    at, size = 3 + 10 * torch.rand(n, 3, 2), 2 + 2 * torch.rand(n, 3, 1, 1)
    r = (((g[:, None] - at[..., :1, None]) ** 2 + (g - at[..., 1:, None]) ** 2).sqrt() - size).amin(1)
    y = torch.where(r > 0.5, 0, torch.where(r > -0.8, 2, 1))
    x = torch.tensor([0.0, 0.6, 1.4])[y] - 0.5 + 0.6 * torch.randn(n, 16, 16) + 0.4 * torch.randn(n, 1, 1)
    return case(
        Net(),
        (x[:, None], y),
        nn.CrossEntropyLoss(weight=torch.tensor([0.7, 1.0, 1.5])),
        'pixels',
        lr=1e-2,
        opt=optim.NAdam,
        epochs=5,
        bs=16,
        n=320,
    )


# other
@situation
def distilled():
    "a small net learns from a large one's softened answers and from the labels"
    x = torch.randn(2560, 16)
    logits = (x @ torch.randn(16, 24) / 2.5).tanh() @ torch.randn(24, 6)
    y = torch.multinomial(logits.softmax(1), 1)[:, 0]

    def loss(p, soft, y):
        return 0.7 * 4 * F.kl_div(
            (p / 2).log_softmax(1), soft, reduction='batchmean'
        ) + 0.3 * F.cross_entropy(p, y)

    d = case(mlp(16, 6, 32), (x, (logits / 2).softmax(1), y), loss, 'other', lr=3e-3, epochs=8, bs=64, n=2048)
    d['n_inp'] = 1
    return d


@situation
def made_bits():
    "masked layers give each of twelve answers of a survey its chance, given those before it"

    class Masked(nn.Linear):
        def __init__(self, i, o, last=False):
            super().__init__(i, o)
            di, do = torch.arange(i) % 12, torch.arange(o) % 12
            self.register_buffer('mask', (do[:, None] > di if last else do[:, None] >= di).float())

        def forward(self, x):
            return F.linear(x, self.weight * self.mask, self.bias)

    kinds = torch.rand(5, 12) < 0.5
    x = (kinds[torch.randint(5, (2560,))] ^ (torch.rand(2560, 12) < 0.1)).float()
    model = nn.Sequential(Masked(12, 60), nn.ReLU(), Masked(60, 60), nn.ReLU(), Masked(60, 12, last=True))
    return case(
        model, (x, x.clone()), F.binary_cross_entropy_with_logits, 'other', lr=1e-2, epochs=6, bs=64, n=2048
    )


@situation
def next_event_times():
    "the time to a customer's next visit: an LSTM over the intervals so far, a mixture of log-normals"

    class Times(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.LSTM(1, 24, batch_first=True), nn.Linear(24, 9)

        def forward(self, dt):
            return self.out(self.rnn((dt + 1e-3).log()[..., None])[0][:, -1])

    n, state, own, dt = 1792, torch.rand(1792) < 0.5, 0.5 * torch.randn(1792), []
    for _ in range(17):
        state = state ^ (torch.rand(n) < 0.15)
        dt.append((torch.where(state, -1.5, 1.2) + own + 0.5 * torch.randn(n)).exp())
    dt = torch.stack(dt, 1)

    def loss(p, y):
        w, m, s = p.chunk(3, 1)
        each = torch.distributions.Normal(m, F.softplus(s) + 0.05, validate_args=False).log_prob(y.log())
        return (y.log()[:, 0] - (w.log_softmax(1) + each).logsumexp(1)).mean()

    return case(
        Times(), (dt[:, :-1], dt[:, -1:]), loss, 'other', lr=3e-3, opt=optim.RMSprop, epochs=5, bs=64, n=1536
    )


@situation
def machine_life():
    "hours to failure, Weibull; a third of the machines still run (target: time, and whether it failed)"
    x = torch.randn(2560, 8)
    scale = (x @ torch.tensor([0.6, -0.4, 0.3, 0, 0, 0.2, 0, 0]) + 0.5 * x[:, 0] * x[:, 3]).exp()
    t, end = scale * (-torch.rand(2560).log()) ** (1 / 1.8), 3 * torch.rand(2560)
    y = torch.stack([torch.minimum(t, end), (t <= end).float()], 1)

    def loss(p, y):
        t, dead, k = y[:, 0].clamp(min=1e-3), y[:, 1], F.softplus(p[:, 1]) + 0.1
        z = k * (t.log() - p[:, 0])
        return (z.exp() - dead * (k.log() + z - t.log())).mean()

    return case(
        mlp(8, 2, 32, nn.SiLU),
        (x, y),
        loss,
        'other',
        lr=3e-3,
        opt=partial(optim.AdamW, weight_decay=0.05),
        epochs=6,
        bs=64,
        n=2048,
    )


@situation
def race_results():
    "the order of arrival of six horses (Plackett and Luce), each scored by the same net"

    class Score(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(5, 1, 32)

        def forward(self, x):
            return self.net(x)[..., 0]

    x = torch.randn(1536, 6, 5)
    s = x @ torch.tensor([1.0, -0.6, 0.4, 0, 0]) - 0.5 * x[..., 3] ** 2
    order = (s - (-torch.rand(1536, 6).log()).log()).argsort(1, descending=True)

    def loss(p, order):
        p = p.gather(1, order)
        return (p.flip(1).logcumsumexp(1).flip(1) - p).sum(1).mean()

    return case(Score(), (x, order), loss, 'other', lr=0.05, opt=optim.SGD, epochs=5, bs=32, n=1280)


@situation
def separate_speakers():
    "two voices from their sum by masks on a learned filter bank; either order of the answers is right"

    class Mask(nn.Module):
        def __init__(self, c=24):
            super().__init__()
            self.enc, self.dec = (
                nn.Conv1d(1, c, 8, stride=4, padding=2),
                nn.ConvTranspose1d(c, 1, 8, stride=4, padding=2),
            )
            self.mask = nn.Sequential(
                nn.Conv1d(c, 48, 3, padding=1),
                nn.PReLU(),
                nn.Conv1d(48, 48, 3, padding=2, dilation=2),
                nn.PReLU(),
                nn.Conv1d(48, 2 * c, 1),
                nn.Sigmoid(),
            )

        def forward(self, x):
            z = self.enc(x)
            return torch.cat([self.dec(z * m) for m in self.mask(z).chunk(2, 1)], 1)

    n, t = 768, torch.arange(64.0)
    f = torch.stack([0.05 + 0.05 * torch.rand(n), 0.25 + 0.1 * torch.rand(n)], 1)[..., None]
    s = (
        (6.28 * (f * t + torch.rand(n, 2, 1))).sin()
        * (6.28 * (t / 64 * (1 + torch.rand(n, 2, 1)) + torch.rand(n, 2, 1))).cos().abs()
        * 1.4
    )
    flip = torch.rand(n, 1, 1) < 0.5
    y = torch.where(flip, s.flip(1), s)

    def loss(p, y):
        return torch.minimum((p - y).square().mean((1, 2)), (p.flip(1) - y).square().mean((1, 2))).mean()

    return case(
        Mask(),
        (s.sum(1, keepdim=True) + 0.1 * torch.randn(n, 1, 64), y),
        loss,
        'other',
        lr=1e-2,
        epochs=8,
        bs=16,
        n=640,
    )


@situation
def returns_t():
    "how wild the next return will be: a GRU over twenty days, likelihood of Student's t; mostly noise"

    class Vol(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out, self.df = (
                nn.GRU(2, 16, batch_first=True),
                nn.Linear(16, 1),
                nn.Parameter(torch.tensor(1.5)),
            )

        def forward(self, r):
            h = self.rnn(torch.stack([r.clamp(-4, 4), r.abs().add(0.05).log()], 2))[0][:, -1]
            return torch.cat([self.out(h), self.df.expand(len(r), 1)], 1)

    n, v, r = 3072, torch.exp(0.8 * torch.randn(3072)), [torch.zeros(3072)]
    for _ in range(40):
        v = 0.03 + 0.25 * r[-1] ** 2 + 0.72 * v
        z = torch.randn(n) / (torch._standard_gamma(torch.full((n,), 3.0)) / 3).sqrt()
        r.append(0.8 * v.sqrt() * z)
    r = torch.stack(r[-21:], 1)
    r = r / r.abs().mean() / 1.3

    def loss(p, y):
        return (
            -torch.distributions.StudentT(2 + F.softplus(p[:, 1]), 0.0, p[:, 0].exp(), validate_args=False)
            .log_prob(y)
            .mean()
        )

    return case(Vol(), (r[:, :-1], r[:, -1]), loss, 'other', lr=2e-3, epochs=4, bs=64, n=2560)


@situation
def chamfer_sets():
    "sets of points through a code of eight numbers and back, Chamfer distance; cosine decay"

    class Auto(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc, self.dec = mlp(2, 8, 48), mlp(8, 32, 64)

        def forward(self, x):
            return self.dec(self.enc(x).amax(1)).view(-1, 16, 2)

    n = 1280
    a, turn, size = 6.28 * torch.rand(n, 16), 6.28 * torch.rand(n, 1), 0.3 + torch.rand(n, 2)
    u, v = a.cos() * size[:, :1], a.sin() * size[:, 1:]
    x = (
        torch.stack([u * turn.cos() - v * turn.sin(), u * turn.sin() + v * turn.cos()], 2)
        + 0.7 * torch.randn(n, 1, 2)
        + 0.05 * torch.randn(n, 16, 2)
    )

    def loss(p, y):
        d = torch.cdist(p, y)
        return d.amin(1).mean() + d.amin(2).mean()

    d = case(Auto(), (x, x.clone()), loss, 'other', lr=6e-3, epochs=7, bs=32, n=1024)
    d['cbs'] = [BatchSchedCB(partial(optim.lr_scheduler.CosineAnnealingLR, T_max=224))]
    return d


@situation
def neighbourhood_components():
    "a space of three numbers in which a sample's neighbours in the batch are of its class"
    y = torch.randint(6, (2048,))
    x = (
        torch.cat([1.5 * torch.randn(6, 4)[y] + 0.6 * torch.randn(2048, 4), torch.randn(2048, 16)], 1)
        @ torch.linalg.qr(torch.randn(20, 20))[0]
    )

    def loss(z, y):
        logp = (-torch.cdist(z, z).square()).masked_fill(torch.eye(len(z)).bool(), -1e4).log_softmax(1)
        same = (y[:, None] == y) & ~torch.eye(len(z)).bool()
        return -logp.masked_fill(~same, -1e4).logsumexp(1).clamp(min=-30).mean()

    return case(
        nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 3)),
        (x, y),
        loss,
        'other',
        lr=0.02,
        opt=optim.Adamax,
        epochs=6,
        bs=128,
        n=1536,
    )


@situation
def candidate_labels():
    "each sample comes with two to four labels, one of which is right; the chance of all of them together is to be high"
    y = torch.randint(8, (2560,))
    x = (torch.randn(8, 20)[y] + 1.5 * torch.randn(2560, 20)) / 1.8
    more = torch.rand(2560, 8).argsort(1)[:, :3]
    cand = (
        torch.zeros(2560, 8).scatter(1, more, (torch.rand(2560, 3) < 0.7).float()).scatter(1, y[:, None], 1.0)
    )

    def loss(p, c):
        return -p.log_softmax(1).masked_fill(c == 0, -1e4).logsumexp(1).mean()

    return case(
        mlp(20, 8, 32, nn.ELU),
        (x, cand),
        loss,
        'other',
        lr=0.05,
        opt=partial(optim.SGD, momentum=0.9),
        epochs=4,
        bs=64,
        n=2048,
    )


# faults
