"The fifth half, written by somebody who had read neither the rules nor the notebooks"

import math
from functools import partial
import torch, torch.nn.functional as F
from torch import nn, optim
from miniai.schedule import BatchSchedCB
from .common import blobs, case, group, mlp

FIFTH, situation = group()


@situation
def softmax_regression():
    "one linear layer, as a baseline"
    x, y = blobs(6, 30, 3072, 0.5)
    return case(nn.Linear(30, 6), (x, y), lr=0.5, opt=optim.SGD, n=2048)


@situation
def least_squares():
    "one linear layer, SGD"
    x = torch.randn(1536, 12)
    y = x @ torch.randn(12, 1) + 2 + 0.5 * torch.randn(1536, 1)
    return case(nn.Linear(12, 1), (x, y), F.mse_loss, 'number', 0.02, optim.SGD, bs=32)


@situation
def spirals_rbf():
    "radial basis functions on two spirals"

    class RBF(nn.Module):
        def __init__(self, ni, n):
            super().__init__()
            self.c, self.log_s = nn.Parameter(torch.randn(n, ni)), nn.Parameter(torch.zeros(n))

        def forward(self, x):
            return (-torch.cdist(x, self.c).square() * self.log_s.exp()).exp()

    y, t = torch.randint(2, (3072,)), 4 * torch.rand(3072) + 0.5
    a = t + math.pi * y
    x = torch.stack([t * a.cos(), t * a.sin()], 1) / 2.5 + 0.2 * torch.randn(3072, 2)
    return case(nn.Sequential(RBF(2, 64), nn.Linear(64, 2)), (x, y), lr=0.01, epochs=8, bs=32, n=2048)


@situation
def kan_formula():
    "layers of learned one-dimensional functions (hat basis), a formula"

    class KAN(nn.Module):
        def __init__(self, ni, no, k=9):
            super().__init__()
            self.w, self.lin = nn.Parameter(0.1 * torch.randn(ni * k, no)), nn.Linear(ni, no)
            self.register_buffer('at', torch.linspace(-2, 2, k))

        def forward(self, x):
            return self.lin(x) + F.relu(1 - (x[..., None] - self.at).abs() * 2).flatten(1) @ self.w

    x = 4 * torch.rand(3072, 4) - 2
    y = (2 * x[:, 0]).sin() + x[:, 1].square() / 2 + x[:, 2] * x[:, 3].abs() / 2
    return case(
        nn.Sequential(KAN(4, 8), KAN(8, 1)),
        (x, y[:, None] + 0.1 * torch.randn(3072, 1)),
        F.mse_loss,
        'number',
        5e-3,
        epochs=8,
        n=2048,
    )


@situation
def maxout_adadelta():
    class Maxout(nn.Module):
        def __init__(self, ni, no, k=3):
            super().__init__()
            self.k, self.lin = k, nn.Linear(ni, no * k)

        def forward(self, x):
            return self.lin(x).unflatten(1, (-1, self.k)).amax(2)

    x, y = blobs(5, 24, 3072, 0.5)
    return case(
        nn.Sequential(Maxout(24, 32), nn.Dropout(0.2), Maxout(32, 32), nn.Linear(32, 5)),
        (x, y),
        lr=1.0,
        opt=partial(optim.Adadelta, rho=0.9),
        n=2048,
    )


@situation
def self_normalising():
    "SELU and alpha dropout, eight features"
    x = torch.randn(3072, 8)
    y = (x[:, 0] * x[:, 1] > 0).long() + 2 * (x[:, 2:5].sum(1) > 0).long()
    net = []
    for i in range(5):
        net += [nn.Linear(8 if i == 0 else 40, 40), nn.SELU(), nn.AlphaDropout(0.03)]
    net = nn.Sequential(*net, nn.Linear(40, 4))
    for m in net:
        if isinstance(m, nn.Linear):
            nn.init.kaiming_normal_(m.weight, nonlinearity='linear')
            nn.init.zeros_(m.bias)
    return case(net, (x, y), opt=optim.NAdam, lr=2e-3, epochs=6, bs=32, n=2048)


@situation
def highway():
    "ten highway layers"

    class Highway(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.h, self.t = nn.Linear(n, n), nn.Linear(n, n)
            nn.init.constant_(self.t.bias, -2.0)

        def forward(self, x):
            t = self.t(x).sigmoid()
            return x + t * (F.relu(self.h(x)) - x)

    x, y = blobs(7, 32, 3072, 0.5)
    return case(
        nn.Sequential(nn.Linear(32, 32), *[Highway(32) for _ in range(10)], nn.Linear(32, 7)),
        (x, y),
        opt=optim.Adamax,
        lr=4e-3,
        n=2048,
    )


@situation
def mlp_mixer():
    "patches of striped images, one cycle"

    class Mix(nn.Module):
        def __init__(self, p, c):
            super().__init__()
            self.n1, self.n2 = nn.LayerNorm(c), nn.LayerNorm(c)
            self.tok, self.chan = (
                nn.Sequential(nn.Linear(n, 2 * n), nn.GELU(), nn.Linear(2 * n, n)) for n in (p, c)
            )

        def forward(self, x):
            x = x + self.tok(self.n1(x).mT).mT
            return x + self.chan(self.n2(x))

    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.body, self.head = (
                nn.Conv2d(1, 24, 4, 4),
                nn.Sequential(Mix(16, 24), Mix(16, 24)),
                nn.Linear(24, 4),
            )

        def forward(self, x):
            return self.head(self.body(self.emb(x).flatten(2).mT).mean(1))

    y, g = torch.randint(4, (3072,)), torch.arange(16) / 2.0
    a = (y * math.pi / 4)[:, None, None]
    x = (g * a.cos() + g[:, None] * a.sin() + 6 * torch.rand(3072, 1, 1)).sin() + 1.5 * torch.randn(
        3072, 16, 16
    )
    d = case(Mixer(), (x[:, None], y), opt=partial(optim.AdamW, weight_decay=0.05), lr=4e-3, epochs=6, n=2048)
    d['cbs'] = [BatchSchedCB(partial(optim.lr_scheduler.OneCycleLR, max_lr=4e-3))]
    return d


@situation
def separable_conv():
    "depthwise and pointwise convolutions on three channels"

    def block(i, o, s=2):
        return [
            nn.Conv2d(i, i, 3, s, 1, groups=i, bias=False),
            nn.Conv2d(i, o, 1, bias=False),
            nn.BatchNorm2d(o),
            nn.ReLU6(),
        ]

    y = torch.randint(5, (3072,))
    x = 2 * torch.randn(3072, 3, 14, 14) + F.interpolate(torch.randn(5, 3, 4, 4), size=14, mode='bilinear')[y]
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU6(),
        *block(16, 24),
        *block(24, 32),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 5),
    )
    return case(net, (x, y), opt=partial(optim.RMSprop, momentum=0.9), lr=5e-4, bs=32, n=2048)


@situation
def capsules():
    "lengths of squashed vectors, margin loss"

    class Caps(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5 * 8))

        def forward(self, x):
            v = self.net(x).unflatten(1, (5, 8))
            s = v.square().sum(2)
            return s / (1 + s)

    def margin(p, y):
        t = F.one_hot(y, 5)
        return (t * F.relu(0.9 - p).square() + 0.5 * (1 - t) * F.relu(p - 0.1).square()).sum(1).mean()

    return case(Caps(), blobs(5, 20, 2048, 0.7), margin, 'other', 2e-3)


@situation
def instance_bags():
    "bags of instances, attention pooling: is one of the instances odd?"

    class Bags(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.v, self.u, self.w, self.out = (
                nn.Sequential(nn.Linear(6, 32), nn.ReLU()),
                nn.Linear(32, 16),
                nn.Linear(32, 16),
                nn.Linear(16, 1),
                nn.Linear(32, 1),
            )

        def forward(self, x):
            h = self.emb(x)
            a = self.w(self.v(h).tanh() * self.u(h).sigmoid()).softmax(1)
            return self.out((a * h).sum(1))

    x, y = torch.randn(3072, 10, 6), torch.randint(2, (3072, 1)).float()
    x[:, 0] += y * torch.tensor([2.5, -2.5, 2.0, 0, 0, 0])
    x = torch.stack([b[torch.randperm(10)] for b in x])
    return case(Bags(), (x, y), F.binary_cross_entropy_with_logits, 'yes', 2e-3, epochs=6, bs=32, n=2048)


@situation
def relations():
    "all pairs of five objects: do two of them have about the same two codes?"

    class Relations(nn.Module):
        def __init__(self):
            super().__init__()
            self.g, self.f = mlp(6, 48), mlp(48, 2, 32)

        def forward(self, x):
            a, b = x[:, :, None].expand(-1, -1, 5, -1), x[:, None].expand(-1, 5, -1, -1)
            return self.f(self.g(torch.cat([a, b], 3)).amax((1, 2)))

    x, i = torch.randn(4096, 5, 3), torch.randint(4, (4096,))
    x[::2, 4] = x[torch.arange(0, 4096, 2), i[::2]]
    d = (x[:, :, None, :2] - x[:, None, :, :2]).norm(dim=3) + 9 * torch.eye(5)
    x[..., 2], p = torch.randn(4096, 5), torch.randperm(4096)
    return case(Relations(), (x[p], (d.flatten(1).amin(1) < 0.35).long()[p]), lr=5e-3, epochs=10, n=3072)


@situation
def edge_messages():
    "molecule-like graphs, messages with edge features, one number a graph"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.msg, self.upd, self.out = (
                nn.Linear(4, 32),
                nn.Linear(32 + 3, 32),
                nn.GRUCell(32, 32),
                nn.Linear(32, 1),
            )

        def forward(self, v, e):
            h = self.emb(v)
            for _ in range(2):
                m = F.relu(self.msg(torch.cat([h[:, None].expand(-1, 6, -1, -1), e], 3))).mean(2)
                h = self.upd(m.flatten(0, 1), h.flatten(0, 1)).view_as(h)
            return self.out(h.mean(1))

    v, e = torch.randn(2048, 6, 4), torch.randn(2048, 6, 6, 3)
    y = (
        2 * v[..., 0].mean(1)
        + (v[:, None, :, 1] * e[..., 0].tanh()).mean((1, 2)) * 4
        + e[..., 1].mean((1, 2)) * 3
    )
    return case(Net(), (v, e, y[:, None]), F.mse_loss, 'number', 3e-3, epochs=6, n=1536)


@situation
def soft_tree():
    "a soft decision tree, its leaves' class distributions mixed"

    class Tree(nn.Module):
        def __init__(self, ni, no, depth=4):
            super().__init__()
            self.depth, self.gates, self.leaves = (
                depth,
                nn.Linear(ni, 2**depth - 1),
                nn.Parameter(torch.randn(2**depth, no)),
            )

        def forward(self, x):
            g, p, at = (2 * self.gates(x)).sigmoid(), x.new_ones(len(x), 1), 0
            for k in range(self.depth):
                s, at = g[:, at : at + 2**k], at + 2**k
                p = torch.stack([p * s, p * (1 - s)], 2).flatten(1)
            return (p @ self.leaves.softmax(1)).log()

    x = torch.randn(3072, 10)
    y = (
        2 * (x[:, 0] + 0.5 * x[:, 1] > 0).long()
        + torch.where(x[:, 0] > 0, x[:, 2] + x[:, 3] > 0.5, x[:, 4] < 0).long()
    )
    y = torch.where(torch.rand(3072) < 0.05, torch.randint(4, (3072,)), y)
    return case(Tree(10, 4), (x, y), lr=0.02, epochs=8, n=2048)


@situation
def factorisation_machine():
    "which user likes which thing in which context: ids of four fields"

    class FM(nn.Module):
        def __init__(self, n, k=6):
            super().__init__()
            self.v, self.w, self.b = nn.Embedding(n, k), nn.Embedding(n, 1), nn.Parameter(torch.zeros(1))
            nn.init.normal_(self.v.weight, std=0.1)
            nn.init.zeros_(self.w.weight)

        def forward(self, x):
            v = self.v(x)
            return (
                self.b + self.w(x).sum(1) + (v.sum(1).square() - v.square().sum(1)).sum(1, keepdim=True) / 2
            )

    x = torch.randint(20, (8192, 4))
    u, w = torch.randn(4, 20, 2), 0.7 * torch.randn(4, 20)
    z = torch.stack([u[i][x[:, i]] for i in range(4)], 1)
    s = (z[:, 0] * z[:, 1]).sum(1) + 0.7 * (z[:, 1] * z[:, 2]).sum(1) + sum(w[i][x[:, i]] for i in range(4))
    return case(
        FM(80),
        (x + 20 * torch.arange(4), torch.bernoulli(s.sigmoid())[:, None]),
        F.binary_cross_entropy_with_logits,
        'yes',
        0.01,
        epochs=8,
        bs=128,
        n=6144,
    )


@situation
def two_towers():
    "users and things with features, the other things of a batch as negatives"

    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            self.u, self.v = mlp(16, 16), mlp(12, 16)

        def forward(self, u, v):
            return F.normalize(self.u(u), dim=1) @ F.normalize(self.v(v), dim=1).T / 0.1

    z = torch.randn(4096, 6)
    u, v = (z @ torch.randn(6, k) / 2.5 + 0.3 * torch.randn(4096, k) for k in (16, 12))
    return case(
        Towers(),
        (u, v, torch.zeros(4096)),
        lambda p, y: F.cross_entropy(p, torch.arange(len(p))),
        'other',
        2e-3,
        bs=128,
        n=3072,
    )


@situation
def hashed_ids():
    "rare ids in two hashed tables with a few numbers, Adagrad"

    class Hashed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.net = nn.Embedding(64, 8), nn.Embedding(61, 8), mlp(8 + 3, 1, 32)

        def forward(self, i, x):
            return self.net(torch.cat([self.a(i % 64) + self.b(i * 7919 % 61), x], 1))

    i = (120 * torch.rand(6144).square()).long()
    x = torch.randn(6144, 3)
    y = torch.randn(120)[i] + x[:, 0] * x[:, 1].sign() + 0.3 * torch.randn(6144)
    return case(Hashed(), (i, x, y[:, None]), F.mse_loss, 'number', 0.05, optim.Adagrad, epochs=8, n=5120)


@situation
def bracket_depths():
    "both directions of an LSTM say how deep in brackets each place is"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.rnn, self.out = (
                nn.Embedding(3, 8),
                nn.LSTM(8, 24, batch_first=True, bidirectional=True),
                nn.Linear(48, 5),
            )

        def forward(self, x):
            return self.out(self.rnn(self.emb(x))[0]).mT

    x = torch.randint(3, (2048, 16))
    depth, y = torch.zeros(2048, dtype=torch.long), []
    for t in range(16):
        depth = (depth + torch.tensor([1, -1, 0])[x[:, t]]).clamp(0, 4)
        y.append(depth)
    return case(Net(), (x, torch.stack(y, 1)), kind='words', lr=0.01, epochs=8, bs=32, n=1536)


@situation
def pointer():
    "additive attention points at the one of twelve vectors that the query asks for"

    class Pointer(nn.Module):
        def __init__(self, n=32):
            super().__init__()
            self.k, self.q, self.v = nn.Linear(6, n), nn.Linear(6, n), nn.Linear(n, 1, bias=False)

        def forward(self, x):
            return self.v((self.k(x[:, 1:]) + self.q(x[:, :1])).tanh()).squeeze(2)

    x = torch.randn(4096, 13, 6)
    w = torch.randn(6, 6) / 2.5
    y = (-torch.cdist(x[:, :1] @ w, x[:, 1:]).squeeze(1) * 3 - torch.rand(4096, 12).log().neg().log()).argmax(
        1
    )
    return case(Pointer(), (x, y), lr=0.01, epochs=10, n=3072)


@situation
def crf_tags():
    "a chain of tags with learned transitions, negative log-likelihood"

    class Emit(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.trans = (
                nn.Sequential(nn.Linear(5, 24), nn.Tanh(), nn.Linear(24, 4)),
                nn.Parameter(torch.zeros(4, 4)),
            )

        def forward(self, x):
            return self.net(x), self.trans

    def nll(p, y):
        e, tr = p
        a, s = e[:, 0], e.gather(2, y[..., None]).sum((1, 2)) + tr[y[:, :-1], y[:, 1:]].sum(1)
        for t in range(1, e.shape[1]):
            a = (a[:, :, None] + tr).logsumexp(1) + e[:, t]
        return (a.logsumexp(1) - s).mean() / e.shape[1]

    y, P = (
        [torch.randint(4, (1536,))],
        torch.tensor([[0.7, 0.3, 0, 0], [0, 0.6, 0.4, 0], [0, 0, 0.5, 0.5], [0.8, 0, 0, 0.2]]),
    )
    for _ in range(11):
        y.append(torch.multinomial(P[y[-1]], 1)[:, 0])
    y = torch.stack(y, 1)
    x = torch.randn(4, 5)[y] + torch.randn(1536, 12, 5)
    return case(Emit(), (x, y), nll, 'other', 0.01, epochs=6, bs=32)


@situation
def focal():
    "focal loss for a rare yes"

    def focal_loss(p, y, g=2.0, a=0.75):
        l = F.binary_cross_entropy_with_logits(p, y, reduction='none')
        return ((a * y + (1 - a) * (1 - y)) * (1 - (-l).exp()).pow(g) * l).mean()

    x = torch.randn(6144, 10)
    y = ((x[:, 0] + x[:, 1] * x[:, 2] + 0.5 * torch.randn(6144)) > 1.9).float()[:, None]
    return case(mlp(10, 1, 48), (x, y), focal_loss, 'other', 2e-3, optim.AdamW, bs=128, n=4096)


@situation
def huber_outliers():
    "a table with a few wild targets, Huber loss"
    x = torch.randn(3072, 9)
    y = x[:, 0] * x[:, 1] + x[:, 2].clamp(-1, 1) * 2 + x[:, 3] + 0.2 * torch.randn(3072)
    y = torch.where(torch.rand(3072) < 0.03, y + 8 * torch.randn(3072), y)
    net = nn.Sequential(nn.Linear(9, 64), nn.PReLU(), nn.Linear(64, 64), nn.PReLU(), nn.Linear(64, 1))
    return case(
        net,
        (x, y[:, None]),
        partial(F.huber_loss, delta=0.5),
        'number',
        3e-3,
        optim.RAdam,
        epochs=8,
        bs=32,
        n=2048,
    )


@situation
def tweedie():
    "rainfall: mostly zero, else skewed; compound Poisson-gamma deviance"

    def loss(p, y, q=1.5):
        return (-y * (p * (1 - q)).exp() / (1 - q) + (p * (2 - q)).exp() / (2 - q)).mean()

    x = torch.randn(6144, 7)
    mu = (0.8 * x[:, 0] + 0.6 * x[:, 1] * (x[:, 2] > 0) - 0.3).exp()
    k = torch.poisson(mu)
    y = torch.where(k > 0, torch._standard_gamma(k.clamp(min=1) * 2) / 2, torch.zeros(6144))
    return case(mlp(7, 1, 32, nn.ELU), (x, y[:, None]), loss, 'other', 2e-3, bs=128, n=4096)


@situation
def gamma_durations():
    "positive waiting times, gamma likelihood with a log link, SGD with momentum"
    x = torch.randn(3072, 6)
    mu = (x[:, 0] + 0.7 * x[:, 1].abs() - 0.5 * x[:, 2]).exp()
    y = torch._standard_gamma(torch.full((3072,), 3.0)) / 3 * mu
    return case(
        mlp(6, 1, 48, nn.Tanh),
        (x, y[:, None]),
        lambda p, y: (p + y * (-p).exp()).mean(),
        'other',
        0.02,
        partial(optim.SGD, momentum=0.9),
        epochs=6,
        n=2048,
    )


@situation
def negative_binomial():
    "overdispersed counts, log mean and log dispersion"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.log_r = mlp(8, 1, 32, nn.SiLU), nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return torch.cat([self.net(x), self.log_r.expand(len(x), 1)], 1)

    def loss(p, y):
        m, r, y = p[:, :1], p[:, 1:].exp(), y
        return -(
            torch.lgamma(y + r)
            - torch.lgamma(r)
            - torch.lgamma(y + 1)
            - r * F.softplus(m - r.log())
            - y * F.softplus(r.log() - m)
        ).mean()

    x = torch.randn(4096, 8)
    mu = (1.2 + 0.8 * x[:, 0] + 0.7 * (x[:, 1] * x[:, 2]).tanh() - 0.5 * x[:, 3]).exp()
    y = torch.poisson(mu * torch._standard_gamma(torch.full((4096,), 2.0)) / 2)
    return case(Net(), (x, y[:, None]), loss, 'count', 3e-3, optim.AdamW, epochs=6, n=3072)


@situation
def photon_counts():
    "detector pixels, Poisson likelihood of a small image from a source's place and strength"
    p, g = torch.rand(3072, 3), torch.arange(6.0)
    mu = (
        3
        * (0.3 + p[:, 2])[:, None, None]
        * (-((g - 5 * p[:, :1])[:, None] ** 2 + (g - 5 * p[:, 1:2])[:, :, None] ** 2) / 4).exp()
        + 0.2
    )
    net = nn.Sequential(nn.Linear(3, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 36))
    return case(
        net,
        (2 * p - 1, torch.poisson(mu).flatten(1)),
        nn.PoissonNLLLoss(),
        'count',
        3e-3,
        epochs=6,
        bs=32,
        n=2048,
    )


@situation
def expectiles():
    "the upper expectile of skewed numbers, exponential decay of the rate"

    def loss(p, y, tau=0.8):
        e = y - p
        return (torch.where(e > 0, tau, 1 - tau) * e.square()).mean()

    x = torch.randn(3072, 6)
    y = 2 * x[:, 0] + x[:, 1] * x[:, 2] - (1 + 0.3 * x[:, 3].abs()) * torch.rand(3072).log() * 0.5
    d = case(mlp(6, 1, 64, nn.LeakyReLU), (x, y[:, None]), loss, 'number', 5e-3, epochs=6, bs=32, n=2048)
    d['cbs'] = [BatchSchedCB(partial(optim.lr_scheduler.ExponentialLR, gamma=0.995))]
    return d


@situation
def wind_direction():
    "an angle as a unit vector, one minus its cosine"
    x = torch.randn(3072, 10)
    a = torch.atan2(x[:, 0] + 0.5 * x[:, 2] * x[:, 3], x[:, 1] + 0.5) + 0.2 * torch.randn(3072)
    loss = lambda p, y: (1 - F.cosine_similarity(p, y)).mean()
    return case(
        mlp(10, 2, 64), (x, torch.stack([a.cos(), a.sin()], 1)), loss, 'other', 3e-3, epochs=6, n=2048
    )


@situation
def age_distributions():
    "label distributions over twenty ages, Kullback-Leibler divergence"
    x, k = torch.randn(3072, 12), torch.arange(20.0)
    m, s = 10 + 3 * x[:, :1] + 2 * (x[:, 1:2] * 2).sin(), 1 + 0.5 * x[:, 2:3].sigmoid()
    y = (-((k - m) / s).square() / 2 + 0.3 * torch.randn(3072, 20)).softmax(1)
    loss = lambda p, y: F.kl_div(p.log_softmax(1), y, reduction='batchmean')
    return case(
        nn.Sequential(nn.Linear(12, 80), nn.LayerNorm(80), nn.GELU(), nn.Linear(80, 20)),
        (x, y),
        loss,
        'other',
        5e-3,
        optim.AdamW,
        epochs=8,
        n=2048,
    )


@situation
def super_resolution():
    "blurred 6 x 6 images to 12 x 12, pixel shuffle on top of bilinear, absolute error"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1),
                nn.PReLU(),
                nn.Conv2d(16, 16, 3, padding=1),
                nn.PReLU(),
                nn.Conv2d(16, 4, 3, padding=1),
                nn.PixelShuffle(2),
            )

        def forward(self, x):
            return F.interpolate(x, scale_factor=2, mode='bilinear') + self.body(x)

    g = torch.arange(12.0)
    a, f, ph = (
        math.pi * torch.rand(1536, 1, 1),
        0.3 + 0.7 * torch.rand(1536, 1, 1),
        6 * torch.rand(1536, 1, 1),
    )
    y = (f * (g * a.cos() + g[:, None] * a.sin()) + ph).sin().sign()[:, None] + 0.05 * torch.randn(
        1536, 1, 12, 12
    )
    return case(Net(), (F.avg_pool2d(y, 2), y), F.l1_loss, 'number', 2e-3, epochs=6, bs=32)


@situation
def colour_bins():
    "grey images of coloured things to one of six colour bins a pixel"
    g = torch.arange(10.0)
    c, k = 9 * torch.rand(1536, 2, 1, 1), torch.randint(5, (1536,))
    r = torch.max((g - c[:, 0]).abs(), (g[:, None] - c[:, 1]).abs())
    on = r < 2.5
    tex = torch.stack(
        [
            torch.cos(g * f) * torch.sin(g[:, None] * h + 1)
            for f, h in ((1.5, 0.0), (0.0, 1.5), (1.5, 1.5), (3.1, 0.0), (0.0, 3.1))
        ]
    )[k]
    x = torch.where(on, 1.2 * tex + 0.3, torch.zeros(())) + 0.4 * torch.randn(1536, 10, 10)
    net = [
        nn.Conv2d(1, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
    ]
    return case(
        nn.Sequential(*net, nn.Conv2d(24, 6, 5, padding=2)),
        (x[:, None], torch.where(on, 1 + k[:, None, None], 0)),
        kind='pixels',
        lr=4e-3,
        bs=32,
    )


@situation
def voxels():
    "three-dimensional scans with one of four shapes, SGD with momentum"
    g, y = torch.arange(8.0) - 3.5, torch.randint(4, (4096,))
    c = 3 * torch.rand(4096, 3, 1, 1, 1) - 1.5
    a, b, d = (g[:, None, None] - c[:, 0]), (g[:, None] - c[:, 1]), (g - c[:, 2])
    r = torch.stack(
        [
            (a**2 + b**2 + d**2).sqrt(),
            (a**2 + b**2).sqrt() + 0 * d,
            (b**2 + d**2).sqrt() + 0 * a,
            torch.max(torch.max(a.abs(), b.abs()), d.abs()) * 1.1,
        ]
    )[y, torch.arange(4096)]
    x = (r < 2).float() * 1.5 - 0.4 + 0.8 * torch.randn(4096, 8, 8, 8)
    net = nn.Sequential(
        nn.Conv3d(1, 8, 3, 2, 1),
        nn.BatchNorm3d(8),
        nn.ReLU(),
        nn.Conv3d(8, 16, 3, 2, 1),
        nn.BatchNorm3d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 4),
    )
    return case(
        net, (x[:, None], y), lr=0.01, opt=partial(optim.SGD, momentum=0.9, weight_decay=1e-3), n=3072
    )


@situation
def spectrograms():
    "sounds with a rising, falling, steady or wobbling tone; log spectrogram within the model"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer('win', torch.hann_window(32))
            self.net = nn.Sequential(
                nn.Conv2d(1, 12, 3, 2, 1),
                nn.GroupNorm(3, 12),
                nn.ReLU(),
                nn.Conv2d(12, 24, 3, 2, 1),
                nn.GroupNorm(3, 24),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(24 * 5 * 5, 4),
            )

        def forward(self, x):
            s = torch.stft(x, 32, 16, window=self.win, return_complex=True).abs()
            return self.net((s + 0.1).log()[:, None])

    y, t = torch.randint(4, (1536,)), torch.linspace(0, 1, 272)
    f = torch.stack([1 + t, 2 - t, 1.5 + 0 * t, 1.5 + 0.5 * (12 * t).sin()])[y] * (
        0.3 + 0.3 * torch.rand(1536, 1)
    )
    return case(
        Net(),
        ((f.cumsum(1) + 6 * torch.rand(1536, 1)).sin() + 1.2 * torch.randn(1536, 272), y),
        lr=1e-3,
        epochs=6,
        bs=32,
    )


@situation
def heartbeat_parts():
    "a one-dimensional U-Net says which part of a beat each moment belongs to"

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            conv = lambda i, o: nn.Sequential(nn.Conv1d(i, o, 5, padding=2), nn.BatchNorm1d(o), nn.ReLU())
            self.a, self.b, self.c, self.out = conv(1, 12), conv(12, 24), conv(36, 16), nn.Conv1d(16, 4, 1)

        def forward(self, x):
            a = self.a(x)
            b = F.interpolate(self.b(F.max_pool1d(a, 2)), scale_factor=2)
            return self.out(self.c(torch.cat([a, b], 1)))

    t = (torch.arange(64) + 32 * torch.rand(1536, 1)) / (20 + 12 * torch.rand(1536, 1)) % 1
    x = (
        0.4 * (-(((t - 0.15) / 0.05) ** 2)).exp()
        + 1.5 * (-(((t - 0.4) / 0.03) ** 2)).exp()
        + 0.6 * (-(((t - 0.7) / 0.08) ** 2)).exp()
        + 0.15 * torch.randn(1536, 64)
    )
    y = ((t - 0.15).abs() < 0.1).long() + 2 * ((t - 0.4).abs() < 0.08) + 3 * ((t - 0.7).abs() < 0.15)
    return case(UNet(), (x[:, None], y), kind='words', lr=3e-3, bs=32)


@situation
def heatmaps():
    "where two joints are, as blurred spots in two channels, mean squared error"
    g = torch.arange(12.0)
    p = 1 + 9 * torch.rand(1536, 2, 2)
    spot = lambda s: (
        -((g - p[..., :1])[:, :, None] ** 2 + (g - p[..., 1:])[..., None] ** 2) / (2 * s * s)
    ).exp()
    a = spot(0.8)
    x = torch.stack([a[:, 0] + a[:, 1], a[:, 0] - a[:, 1]], 1) + 0.25 * torch.randn(1536, 2, 12, 12)
    net = nn.Sequential(
        nn.Conv2d(2, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 2, 3, padding=1),
    )
    return case(net, (x, 3 * spot(1.5)), F.mse_loss, 'number', 2e-3, optim.RMSprop, bs=32)


@situation
def shift_estimation():
    "how far did the second image move? two images stacked, log-cosh"

    def log_cosh(p, y):
        e = p - y
        return (e + F.softplus(-2 * e) - math.log(2)).mean()

    n, g = 3072, torch.arange(10.0) - 4.5
    f, ph, s = 0.5 * torch.randn(n, 3, 2), 6 * torch.rand(n, 3), 1.2 * torch.randn(n, 2)

    def image(s):
        u, v = g - s[:, :1], g - s[:, 1:]
        return (
            sum(
                (
                    f[:, i, :1, None] * u[:, None] + f[:, i, 1:, None] * v[..., None] + ph[:, i, None, None]
                ).cos()
                for i in range(3)
            )
            / 1.2
        )

    x = torch.stack([image(0 * s), image(s)], 1) + 0.05 * torch.randn(n, 2, 10, 10)
    net = nn.Sequential(
        nn.Conv2d(2, 24, 3, 1),
        nn.ReLU(),
        nn.Conv2d(24, 32, 3, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(288, 64),
        nn.ReLU(),
        nn.Linear(64, 2),
    )
    return case(net, (x, s), log_cosh, 'number', 1e-3, epochs=10, bs=32, n=2048)


@situation
def imitation():
    "what an expert does on a small field: position, aim, two obstacles; five actions, one in twenty at random"
    x = 4 * torch.rand(4096, 8) - 2
    d = x[:, 2:4] - x[:, :2]
    near = ((x[:, 4:6] - x[:, :2]).norm(dim=1) < 0.8) | ((x[:, 6:8] - x[:, :2]).norm(dim=1) < 0.8)
    y = torch.where(d[:, 0].abs() > d[:, 1].abs(), (d[:, 0] > 0).long(), 2 + (d[:, 1] > 0).long())
    y = torch.where(near, 4, y)
    return case(
        mlp(8, 5, 96, nn.Tanh),
        (x, torch.where(torch.rand(4096) < 0.05, torch.randint(5, (4096,)), y)),
        lr=3e-3,
        epochs=8,
        n=3072,
    )


@situation
def inverse_dynamics():
    "which force led from one state of a cart to the next"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc, self.head = nn.Sequential(nn.Linear(4, 48), nn.SiLU()), mlp(96 + 4, 1, 48, nn.SiLU)

        def forward(self, s, t):
            return self.head(torch.cat([self.enc(s), self.enc(t), t - s], 1))

    s, f = torch.randn(3072, 4), torch.randn(3072, 1)
    a = f * (0.5 + s[:, 2:3].cos()) - 0.5 * s[:, 1:2] + 0.5 * s[:, 2:3].sin()
    t = torch.cat(
        [
            s[:, :1] + 0.3 * s[:, 1:2],
            s[:, 1:2] + 0.6 * a,
            s[:, 2:3] + 0.3 * s[:, 3:],
            s[:, 3:] - 0.4 * a * s[:, 2:3].cos(),
        ],
        1,
    ) + 0.03 * torch.randn(3072, 4)
    return case(Net(), (s, t, f), F.mse_loss, 'number', 5e-3, optim.AdamW, epochs=8, bs=32, n=2048)


@situation
def world_model():
    "one step ahead of a bouncing ball's state after an action, several steps rolled out"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(6, 4, 64)

        def forward(self, s, a):
            out = []
            for t in range(4):
                s = s + self.net(torch.cat([s, a[:, t]], 1))
                out.append(s)
            return torch.stack(out, 1)

    s, a, ys = 2 * torch.rand(2048, 4) - 1, torch.randn(2048, 4, 2), []
    q, v = s[:, :2], s[:, 2:]
    for t in range(4):
        v = 0.9 * v + 0.3 * a[:, t] - 0.3 * q
        q = q + 0.5 * v
        v = torch.where(q.abs() > 1, -v, v)
        q = q.clamp(-1, 1)
        ys.append(torch.cat([q, v], 1))
    return case(Net(), (s, a, torch.stack(ys, 1)), nn.SmoothL1Loss(), 'number', 2e-3, epochs=8, bs=32, n=1536)


@situation
def siren_image():
    "one image as a function of its coordinates, sines as activations"

    class Sine(nn.Module):
        def __init__(self, ni, no, w, first=False):
            super().__init__()
            self.lin, self.w = nn.Linear(ni, no), w
            k = 1 / ni if first else math.sqrt(6 / ni) / w
            nn.init.uniform_(self.lin.weight, -k, k)

        def forward(self, x):
            return (self.w * self.lin(x)).sin()

    x = 2 * torch.rand(8192, 2) - 1
    y = (6 * x[:, 0] + 3 * (4 * x[:, 1]).sin()).sin() + 0.8 * (
        (x - torch.tensor([0.3, -0.2])).norm(dim=1) < 0.4
    )
    return case(
        nn.Sequential(Sine(2, 64, 12.0, True), Sine(64, 64, 12.0), nn.Linear(64, 1)),
        (x, y[:, None] - 0.1 + 0.1 * torch.randn(8192, 1)),
        F.mse_loss,
        'number',
        1e-3,
        epochs=8,
        bs=128,
        n=6144,
    )


@situation
def terrain():
    "heights at map coordinates, fixed random Fourier features"

    class Fourier(nn.Module):
        def __init__(self, ni, n, s):
            super().__init__()
            self.register_buffer('b', s * torch.randn(ni, n))

        def forward(self, x):
            z = x @ self.b
            return torch.cat([z.sin(), z.cos()], 1)

    x = torch.rand(6144, 2)
    k = torch.randn(12, 2) * 8
    y = ((x @ k.T + torch.arange(12)).sin() * torch.rand(12)).sum(1) / 1.2 + 0.1 * torch.randn(6144)
    return case(
        nn.Sequential(Fourier(2, 32, 6.0), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)),
        (x, y[:, None]),
        F.mse_loss,
        'number',
        2e-3,
        optim.NAdam,
        epochs=6,
        n=5120,
    )


@situation
def char_ngram():
    "the next letter of a made-up language from the four before it, SGD"
    a, b, s = 2 * torch.randn(12, 12), 2 * torch.randn(12, 12), torch.randint(12, (1024, 2))
    for _ in range(14):
        s = torch.cat([s, torch.multinomial((a[s[:, -2]] + b[s[:, -1]]).softmax(1), 1)], 1)
    w = s[:, 2:].unfold(1, 5, 1).reshape(-1, 5)
    net = nn.Sequential(nn.Embedding(12, 10), nn.Flatten(), nn.Linear(40, 96), nn.Tanh(), nn.Linear(96, 12))
    return case(net, (w[:, :4], w[:, 4]), lr=0.02, opt=partial(optim.SGD, momentum=0.9), epochs=6, n=8192)


@situation
def sorting():
    "a transformer sorts eight digits at once"

    class Sorter(nn.Module):
        def __init__(self, c=8, t=8, d=32):
            super().__init__()
            self.emb, self.pos = nn.Embedding(c, d), nn.Parameter(0.1 * torch.randn(t, d))
            self.body, self.out = (
                nn.TransformerEncoder(nn.TransformerEncoderLayer(d, 4, 64, 0.0, batch_first=True), 2),
                nn.Linear(d, c),
            )

        def forward(self, x):
            return self.out(self.body(self.emb(x) + self.pos)).mT

    x = torch.randint(8, (3072, 8))
    return case(Sorter(), (x, x.sort(1).values), kind='words', lr=2e-3, opt=optim.AdamW, epochs=10, n=2560)


@situation
def game_of_life():
    "the next generation of cells on a torus; one in fifty flips"
    x = (torch.rand(2048, 1, 10, 10) < 0.4).float()
    k = F.conv2d(F.pad(x, (1, 1, 1, 1), mode='circular'), torch.ones(1, 1, 3, 3)) - x
    y = ((k == 3) | ((k == 2) & (x > 0)))[:, 0] ^ (torch.rand(2048, 10, 10) < 0.02)
    net = nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1, padding_mode='circular'),
        nn.ReLU(),
        nn.Conv2d(24, 24, 1),
        nn.ReLU(),
        nn.Conv2d(24, 2, 1),
    )
    return case(net, (x, y.long()), kind='pixels', lr=5e-3, epochs=6, bs=32, n=1536)


@situation
def pixel_cnn():
    "each pixel's grey level of four from those before it, masked convolutions"

    class Masked(nn.Conv2d):
        def __init__(self, i, o, k, inner):
            super().__init__(i, o, k, padding=k // 2)
            self.register_buffer('mask', torch.ones(k, k))
            self.mask[k // 2, k // 2 + inner :] = 0
            self.mask[k // 2 + 1 :] = 0

        def forward(self, x):
            return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)

    g = torch.arange(8.0)
    a, ph, f = (
        math.pi * torch.rand(1536, 1, 1),
        6 * torch.rand(1536, 1, 1),
        0.6 + 0.6 * torch.rand(1536, 1, 1),
    )
    y = (
        ((f * (g * a.cos() + g[:, None] * a.sin()) + ph).sin() * 2 + 2 + 0.3 * torch.randn(1536, 8, 8))
        .long()
        .clamp(0, 3)
    )
    net = nn.Sequential(
        Masked(1, 32, 5, 0),
        nn.ReLU(),
        Masked(32, 32, 3, 1),
        nn.ReLU(),
        Masked(32, 32, 3, 1),
        nn.ReLU(),
        nn.Conv2d(32, 4, 1),
    )
    return case(net, (y[:, None] / 1.5 - 1, y), kind='pixels', lr=3e-3, epochs=6, bs=32)


@situation
def matches():
    "who wins? strengths of two teams and the home field, BCE behind a sigmoid"

    class Elo(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.s, self.home = nn.Embedding(n, 1), nn.Parameter(torch.zeros(1))
            nn.init.zeros_(self.s.weight)

        def forward(self, x):
            return (self.s(x[:, 0]) - self.s(x[:, 1]) + self.home).sigmoid()

    x, s = torch.randint(40, (6144, 2)), 1.5 * torch.randn(40)
    y = torch.bernoulli((s[x[:, 0]] - s[x[:, 1]] + 0.4).sigmoid())[:, None]
    return case(Elo(40), (x, y), F.binary_cross_entropy, 'probability', 0.05, n=5120)


@situation
def default_risk():
    "batch norm on a table of very different columns, a sigmoid at the end"
    x = torch.randn(4096, 12)
    z = x[:, 0] + x[:, 1] * x[:, 2] + (x[:, 3] > 1) * 2 - 0.5 * x[:, 4].abs() - 0.5
    y = torch.bernoulli((2 * z).sigmoid())[:, None]
    x[:, 5:8] = x[:, 5:8].exp()
    net = nn.Sequential(
        nn.BatchNorm1d(12),
        nn.Linear(12, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(64, 1),
        nn.Sigmoid(),
    )
    return case(net, (x, y), nn.BCELoss(), 'probability', 5e-3, optim.AdamW, epochs=6, n=3072)


@situation
def treatment():
    "does a patient recover, given traits and a dose? triangular cycles of the rate"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.traits, self.dose, self.head = nn.Linear(9, 32), nn.Linear(1, 32), mlp(32, 1, 32)

        def forward(self, x, a):
            return self.head(F.relu(self.traits(x)) * self.dose(a).sigmoid())

    x, a = torch.randn(4096, 9), torch.rand(4096, 1)
    y = torch.bernoulli((2 * x[:, :1] - 1.5 * x[:, 1:2] + 4 * (a - 0.5) * (x[:, 2:3] + 0.5)).sigmoid())
    d = case(Net(), (x, a, y), F.binary_cross_entropy_with_logits, 'yes', 3e-3, epochs=6, n=3072)
    d['cbs'] = [
        BatchSchedCB(
            partial(
                optim.lr_scheduler.CyclicLR, base_lr=5e-4, max_lr=5e-3, step_size_up=72, cycle_momentum=False
            )
        )
    ]
    return d


@situation
def neural_process():
    "a curve at new places from eight of its points: mean of an encoder over the context"

    class CNP(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc, self.dec = mlp(2, 32, 48), mlp(33, 1, 48)

        def forward(self, c, at):
            r = self.enc(c).mean(1, keepdim=True)
            return self.dec(torch.cat([r.expand(-1, at.shape[1], -1), at], 2))

    x, a, ph = 4 * torch.rand(4096, 16, 1) - 2, 0.5 + torch.rand(4096, 1, 1), math.pi * torch.rand(4096, 1, 1)
    y = a * (1.5 * x + ph).sin() + 0.05 * torch.randn(4096, 16, 1)
    return case(
        CNP(),
        (torch.cat([x, y], 2)[:, :8], x[:, 8:], y[:, 8:]),
        F.mse_loss,
        'number',
        2e-3,
        epochs=10,
        n=3584,
    )


@situation
def neural_ode():
    "points of two rings flow for eight Euler steps, then one linear layer"

    class Flow(nn.Module):
        def __init__(self):
            super().__init__()
            self.f, self.out = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 3)), nn.Linear(3, 3)

        def forward(self, x):
            x = F.pad(x, (0, 1))
            for t in range(8):
                x = x + self.f(F.pad(x, (0, 1), value=t / 8)) / 8
            return self.out(x)

    y, a = torch.randint(3, (3072,)), 2 * math.pi * torch.rand(3072)
    x = (y + 0.3)[:, None] * torch.stack([a.cos(), a.sin()], 1) * 0.8 + 0.15 * torch.randn(3072, 2)
    return case(Flow(), (x, y), lr=0.01, epochs=6, bs=32, n=2048)


@situation
def linear_recurrence():
    "a diagonal state-space layer: which of four motifs was in a long signal?"

    class SSM(nn.Module):
        def __init__(self, n=32):
            super().__init__()
            self.inp, self.log_a, self.out = (
                nn.Linear(1, n),
                nn.Parameter(torch.linspace(-3, 1, n)),
                mlp(n, 4, 48, nn.GELU),
            )
            self.w = nn.Parameter(3.0 * torch.rand(n))

        def forward(self, x):
            t = torch.arange(x.shape[1] - 1, -1, -1)[:, None]
            k = (-self.log_a.exp() * t / 8).exp() * (self.w * t).cos()
            return self.out((self.inp(x) * k).sum(1) / 4)

    y, t = torch.randint(4, (3072,)), torch.arange(48.0)
    f, ph = torch.tensor([0.3, 0.8, 1.4, 2.2])[y], 6 * torch.rand(3072)
    x = (f[:, None] * t + ph[:, None]).sin() * (t > 20) + 0.9 * torch.randn(3072, 48)
    return case(SSM(), (x[..., None], y), lr=5e-3, epochs=8, bs=32, n=2048)


@situation
def glu_table():
    "gated linear units, polynomial decay of the rate"

    class GLU(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.norm, self.up, self.down = nn.LayerNorm(n), nn.Linear(n, 4 * n), nn.Linear(2 * n, n)

        def forward(self, x):
            return x + self.down(F.glu(self.up(self.norm(x))))

    x = torch.randn(4096, 14)
    y = (
        x[:, 0] * (x[:, 1] > 0)
        + (2 * x[:, 2]).sin()
        + x[:, 3] * x[:, 4] / 2
        + 0.5 * x[:, 5]
        + 0.2 * torch.randn(4096)
    )
    d = case(
        nn.Sequential(nn.Linear(14, 32), GLU(32), GLU(32), nn.Linear(32, 1)),
        (x, y[:, None]),
        F.mse_loss,
        'number',
        5e-3,
        optim.AdamW,
        epochs=6,
        n=3072,
    )
    d['cbs'] = [BatchSchedCB(partial(optim.lr_scheduler.PolynomialLR, total_iters=300, power=1.0))]
    return d


@situation
def weight_normed():
    "convolutions with weight norm instead of batch norm, Nesterov"
    wn = nn.utils.parametrizations.weight_norm
    y, g = torch.randint(6, (4096,)), torch.arange(12.0)
    ph = 6 * torch.rand(4096, 1, 1)
    a, f = (y % 3 * math.pi / 3)[:, None, None], (0.8 + 0.8 * (y // 3))[:, None, None]
    x = (f * (g * a.cos() + g[:, None] * a.sin()) + ph).sin() + 1.5 * torch.randn(4096, 12, 12)
    net = nn.Sequential(
        wn(nn.Conv2d(1, 16, 3)),
        nn.ELU(),
        wn(nn.Conv2d(16, 32, 3, 2)),
        nn.ELU(),
        wn(nn.Conv2d(32, 32, 3)),
        nn.ELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        wn(nn.Linear(32, 6)),
    )
    return case(
        net, (x[:, None], y), lr=0.02, opt=partial(optim.SGD, momentum=0.9, nesterov=True), epochs=6, n=3072
    )


@situation
def spectral_normed():
    "real or forged? a critic with spectral norm and leaky ReLUs"
    sn, n = nn.utils.parametrizations.spectral_norm, 3072
    y = torch.randint(2, (n, 1)).float()
    z = torch.randn(n, 4)
    x = torch.where(y > 0, torch.cat([z, 1.5 * z.abs() - 1], 1), torch.randn(n, 8)) + 0.1 * torch.randn(n, 8)
    net = nn.Sequential(
        sn(nn.Linear(8, 64)), nn.LeakyReLU(0.2), sn(nn.Linear(64, 64)), nn.LeakyReLU(0.2), nn.Linear(64, 1)
    )
    return case(
        net,
        (x, y),
        F.binary_cross_entropy_with_logits,
        'yes',
        5e-3,
        partial(optim.Adam, betas=(0.5, 0.999)),
        epochs=10,
        bs=32,
        n=2048,
    )


@situation
def elman():
    "a plain recurrent net: which of five kinds of pen stroke?"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.RNN(2, 40, batch_first=True), nn.Linear(40, 5)
            nn.init.orthogonal_(self.rnn.weight_hh_l0)

        def forward(self, x):
            return self.out(self.rnn(x)[1][0])

    y, t = torch.randint(5, (2048,)), torch.linspace(0, 1, 14)
    turn = torch.stack([0 * t, 4 * t, -4 * t, 6 * (t - 0.5).abs(), (9 * t).sin() * 1.5])[
        y
    ] + 0.6 * torch.randn(2048, 1)
    x = torch.stack([turn.cos(), turn.sin()], 2) + 0.5 * torch.randn(2048, 14, 2)
    return case(Net(), (x, y), lr=2e-3, opt=partial(optim.RMSprop, alpha=0.95), epochs=8, bs=32, n=1536)


@situation
def group_norm():
    "batches of eight, group norm, images with one of three textures"
    y, k = (
        torch.randint(3, (1024,)),
        torch.tensor(
            [
                [[1.0, 1, 1], [0, 0, 0], [-1, -1, -1]],
                [[1, 0, -1], [1, 0, -1], [1, 0, -1]],
                [[1, 0, -1], [0, 0, 0], [-1, 0, 1]],
            ]
        )[:, None],
    )
    z = torch.randn(1024, 1, 14, 14)
    x = torch.stack([F.conv2d(z, k[i : i + 1] / k[i].norm()) for i in range(3)])[
        y, torch.arange(1024)
    ] + 0.9 * torch.randn(1024, 1, 12, 12)
    conv = lambda i, o, s: [nn.Conv2d(i, o, 3, s, 1), nn.GroupNorm(4, o), nn.SiLU()]
    net = nn.Sequential(
        *conv(1, 16, 1),
        *conv(16, 24, 2),
        *conv(24, 32, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 3),
    )
    return case(net, (x, y), lr=5e-4, epochs=8, bs=8, n=640)


@situation
def crps():
    "a normal forecast's mean and spread, continuous ranked probability score"

    def loss(p, y):
        m, s = p[:, :1], F.softplus(p[:, 1:]) + 1e-3
        z = (y - m) / s
        return (
            s * (z * torch.erf(z / 2**0.5) + 2 * (-z * z / 2).exp() / (2 * math.pi) ** 0.5 - 1 / math.pi**0.5)
        ).mean()

    x = torch.randn(3072, 6)
    y = x[:, :1] * 2 + (2 * x[:, 1:2]).sin() + (0.5 * x[:, 2:3]).exp() * 0.5 * torch.randn(3072, 1)
    return case(mlp(6, 2, 48), (x, y), loss, 'other', 2e-3, optim.Adamax, epochs=8, bs=32, n=2048)


@situation
def masked_autoencoder():
    "hidden parts of a signal from the visible ones, error on the hidden parts only"

    class MAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.net = (
                nn.Linear(6, 16),
                nn.Sequential(
                    nn.Linear(128, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU(), nn.Linear(128, 48)
                ),
            )

        def forward(self, x, hide):
            return self.net((self.emb(x.unflatten(1, (8, 6))) * (1 - hide)[..., None]).flatten(1))

    def loss(p, y):
        return ((p - y[0]).square() * y[1]).sum() / y[1].sum()

    t = torch.linspace(0, 1, 48)
    x = sum(
        torch.randn(4096, 1) * (6 * (k + 1) * t + 6 * torch.rand(4096, 1)).sin() for k in range(2)
    ) + 0.1 * torch.randn(4096, 48)
    hide = (torch.rand(4096, 8) < 0.3).float()
    return case(
        MAE(),
        (x, hide, torch.stack([x, hide.repeat_interleave(6, 1)], 1)),
        lambda p, y: loss(p, y.unbind(1)),
        'other',
        2e-3,
        optim.AdamW,
        epochs=8,
        n=3072,
    )


@situation
def energies():
    "the energy of eight particles, a sum over pairs"

    class Pairs(nn.Module):
        def __init__(self):
            super().__init__()
            self.phi, self.rho = mlp(5, 32, 48, nn.SiLU), nn.Sequential(nn.SiLU(), nn.Linear(32, 1))

        def forward(self, x, q):
            d = (x[:, :, None] - x[:, None]).square().sum(3, keepdim=True)
            qa, qb = q[:, :, None, None].expand(-1, -1, 8, -1), q[:, None, :, None].expand(-1, 8, -1, -1)
            return self.rho(self.phi(torch.cat([d, (-d).exp(), qa, qb, qa * qb], 3)).mean((1, 2)))

    x, q = torch.randn(3072, 8, 3), torch.randint(2, (3072, 8)) * 2.0 - 1
    d = torch.cdist(x, x)
    y = (q[:, :, None] * q[:, None] * (-d).exp()).sum((1, 2)) - 8
    return case(Pairs(), (x, q, y[:, None] / 2), F.mse_loss, 'number', 2e-3, epochs=6, bs=32, n=2048)


@situation
def entity_embeddings():
    "daily sales: embeddings of shop, weekday and promotion beside three numbers"

    class Net(nn.Module):
        def __init__(self, sizes=(30, 7, 3)):
            super().__init__()
            self.emb, self.net = (
                nn.ModuleList(nn.Embedding(n, 6) for n in sizes),
                nn.Sequential(
                    nn.Linear(21, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 1)
                ),
            )

        def forward(self, i, x):
            return self.net(torch.cat([e(i[:, k]) for k, e in enumerate(self.emb)] + [x], 1))

    i = torch.stack([torch.randint(n, (6144,)) for n in (30, 7, 3)], 1)
    x = torch.randn(6144, 3)
    a, b, c = torch.randn(30), torch.randn(30, 7) / 2, torch.tensor([0.0, 0.5, 1.2])
    y = (
        a[i[:, 0]]
        + b[i[:, 0] % 5, i[:, 1]]
        + c[i[:, 2]] * (1 + x[:, 0].sigmoid())
        + 0.4 * x[:, 1]
        - 1
        + 0.3 * torch.randn(6144)
    )
    return case(Net(), (i, x, y[:, None]), F.mse_loss, 'number', 5e-3, epochs=6, n=5120)


@situation
def knowledge_graph():
    "translations between entities, a margin against a random tail"

    class TransE(nn.Module):
        def __init__(self, n=100, r=5, d=12):
            super().__init__()
            self.e, self.r = nn.Embedding(n, d), nn.Embedding(r, d)

        def forward(self, x):
            h = self.e(x[:, 0]) + self.r(x[:, 1])
            return torch.stack([(h - self.e(x[:, i])).norm(dim=1) for i in (2, 3)], 1)

    e, r = torch.randn(100, 3), torch.randn(5, 3)
    h, k = torch.randint(100, (9216,)), torch.randint(5, (9216,))
    near = torch.cdist(e[h] + r[k], e).topk(4, largest=False).indices
    t = near[torch.arange(9216), torch.randint(4, (9216,))]
    x = torch.stack([h, k, t, torch.randint(100, (9216,))], 1)
    return case(
        TransE(),
        (x, torch.zeros(9216)),
        lambda p, y: F.relu(1 + p[:, 0] - p[:, 1]).mean(),
        'other',
        0.01,
        epochs=8,
        bs=128,
        n=8192,
    )


@situation
def averaged_sgd():
    "logistic regression on quadratic features, ASGD"

    class Squares(nn.Module):
        def forward(self, x):
            return torch.cat([x, (x[:, :, None] * x[:, None]).flatten(1) / 2], 1)

    x = torch.randn(5120, 8)
    y = torch.bernoulli((2 * x[:, 0] - x[:, 1] * x[:, 2] * 2 + x[:, 3].square() - 1).sigmoid())[:, None]
    return case(
        nn.Sequential(Squares(), nn.Linear(72, 1)),
        (x, y),
        F.binary_cross_entropy_with_logits,
        'yes',
        0.2,
        optim.ASGD,
        n=4096,
    )


@situation
def bilinear_pooling():
    "bilinear pooling of two small nets' features, plain Adam"

    class Bilinear(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (
                nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(2)
            )
            self.out = nn.Linear(64, 4)

        def forward(self, x):
            z = (self.a(x).flatten(2) @ self.b(x).flatten(2).mT / 25).flatten(1)
            return self.out(F.normalize((z + 1e-4).sqrt(), dim=1) * 4)

    y, k = torch.randint(4, (3072,)), torch.randn(4, 1, 3, 3)
    z = torch.randn(3072, 1, 14, 14)
    x = torch.stack([F.conv2d(z, k[i : i + 1] / k[i].norm()) for i in range(4)])[
        y, torch.arange(3072)
    ] + 0.3 * torch.randn(3072, 1, 12, 12)
    return case(Bilinear(), (x, y), lr=0.01, epochs=10, n=2048)


@situation
def wide_and_shallow():
    "one very wide layer and large batches, cosine decay"
    x = torch.randn(10240, 16)
    y = (x[:, :4].sum(1) > 0).long() + (x[:, 4] * x[:, 5] + x[:, 8] > 0.3).long() + (x[:, 9] > 1).long()
    d = case(
        nn.Sequential(nn.Linear(16, 1024), nn.GELU(), nn.Linear(1024, 4)),
        (x, y),
        lr=0.01,
        opt=partial(optim.AdamW, weight_decay=0.1),
        epochs=8,
        bs=512,
        n=8192,
    )
    d['cbs'] = [BatchSchedCB(partial(optim.lr_scheduler.CosineAnnealingLR))]
    return d


@situation
def sound_events():
    "which of five sounds are in a recording of four channels? several may be"
    y, m = (torch.rand(3072, 5) < 0.35).float(), torch.randn(5, 4, 8)
    x = torch.randn(3072, 4, 40)
    for k in range(5):
        at = torch.randint(32, (3072, 1, 1)).expand(-1, 4, 1) + torch.arange(8)
        x.scatter_add_(2, at, 1.3 * y[:, k, None, None] * m[k].expand(3072, -1, -1))
    conv = lambda i, o: [nn.Conv1d(i, o, 5, padding=2), nn.BatchNorm1d(o), nn.ReLU()]
    net = nn.Sequential(
        *conv(4, 24), nn.MaxPool1d(2), *conv(24, 32), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(32, 5)
    )
    return case(net, (x, y), F.binary_cross_entropy_with_logits, 'yes', 3e-3, bs=32, n=2048)


@situation
def defects():
    "is there a scratch on a tile? a probability, SGD with momentum and a step of the rate"
    g, y = torch.arange(12.0), torch.randint(2, (3072, 1)).float()
    a, o = math.pi * torch.rand(3072, 1, 1), 3 * torch.rand(3072, 1, 1) - 1.5
    line = ((g - 5.5) * a.cos() + (g[:, None] - 5.5) * a.sin() - o).abs() < 0.7
    x = 0.8 * torch.randn(3072, 12, 12) + 1.2 * line * y[:, :, None]
    net = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(216, 1),
        nn.Sigmoid(),
    )
    d = case(
        net,
        (x[:, None], y),
        nn.BCELoss(),
        'probability',
        0.03,
        partial(optim.SGD, momentum=0.9),
        epochs=6,
        bs=32,
        n=2048,
    )
    d['cbs'] = [BatchSchedCB(partial(optim.lr_scheduler.StepLR, step_size=256, gamma=0.3))]
    return d
