"The eighth half, written in the same way by somebody else: the test half"

import math
from functools import partial
import torch, torch.nn.functional as F
from torch import nn, optim
from miniai.schedule import BatchSchedCB
from torch.optim.lr_scheduler import StepLR
from .common import case, group

EIGHTH, situation = group()


@situation
def poker_hands():
    "nothing, a pair, two pairs, or three alike? a sum over five cards' embeddings, so that their order counts nothing; Adamax"

    class Hand(nn.Module):
        def __init__(self):
            super().__init__()
            self.rank, self.suit = nn.Embedding(7, 40), nn.Embedding(4, 40)
            self.rho = nn.Sequential(
                nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
            )

        def forward(self, cards):
            e = self.rank(cards % 7) + self.suit(cards // 7)
            return self.rho(e.sum(dim=1) / 2)

    deck = torch.rand(4608, 28).argsort(1)[:, :5]
    many = F.one_hot(deck % 7, 7).sum(1)
    y = torch.where((many > 2).any(1), 3, (many == 2).sum(1))
    return case(Hand(), (deck, y), lr=1.5e-2, opt=optim.Adamax, epochs=6, n=3840)


@situation
def ising_phase():
    "cold, critical or hot? spins on a torus after Metropolis sweeps, convolutions with circular padding, AdamW"
    N, L = 1536, 10
    y = torch.randint(3, (N,))
    T = torch.tensor([2.1, 2.7, 4.0])[y].view(N, 1, 1)
    s = torch.randint(0, 2, (N, L, L)).float() * 2 - 1
    checker = (torch.arange(L).view(-1, 1) + torch.arange(L)) % 2
    for sweep in range(30):
        for colour in 0, 1:
            nb = s.roll(1, 1) + s.roll(-1, 1) + s.roll(1, 2) + s.roll(-1, 2)
            flip = (torch.rand(N, L, L) < torch.exp(-2 * s * nb / T)) & (checker == colour)
            s = torch.where(flip, -s, s)
    conv = partial(nn.Conv2d, kernel_size=3, padding=1, padding_mode='circular')
    net = nn.Sequential(
        conv(1, 12),
        nn.ReLU(),
        conv(12, 16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    return case(
        net, (s.unsqueeze(1), y), lr=2e-3, opt=partial(optim.AdamW, weight_decay=1e-3), epochs=5, bs=32
    )


@situation
def sentence_trees():
    "is a sentence bad, neutral or good, where a 'not' turns what it stands before? a gated recursive net up a tree of eight words"

    class Tree(nn.Module):
        def __init__(self, words=30, d=24):
            super().__init__()
            self.emb = nn.Embedding(words, d)
            nn.init.normal_(self.emb.weight, std=0.5)
            self.join, self.gate = nn.Linear(2 * d, d), nn.Linear(2 * d, 2 * d)
            self.out = nn.Linear(d, 3)

        def forward(self, w):
            h = self.emb(w)
            while h.size(1) > 1:
                pair = h.reshape(h.size(0), -1, 2 * h.size(2))
                l, r = pair.chunk(2, -1)
                gl, gr = torch.sigmoid(self.gate(pair)).chunk(2, -1)
                h = torch.tanh(self.join(pair)) + gl * l + gr * r
            return self.out(h[:, 0])

    value = torch.cat([torch.zeros(4), torch.arange(26.0) % 3 - 1])
    w = torch.randint(30, (3072, 8))
    w = torch.where((torch.rand(3072, 8) < 0.3) & (torch.arange(8) % 2 == 0), torch.randint(4, (3072, 8)), w)
    a, b = w[:, ::2], w[:, 1::2]
    total = torch.where(a < 4, -value[b], value[a] + value[b]).sum(1)
    return case(Tree(), (w, total.sign().long() + 1), lr=1e-2, epochs=5, n=2560)


@situation
def story_questions():
    "'Ann went to the kitchen.' Where is Ann now? a memory network with one hop over six sentences; two inputs"

    class Memory(nn.Module):
        def __init__(self, d=20):
            super().__init__()
            self.who, self.ask = nn.Embedding(4, d), nn.Embedding(4, d)
            self.where, self.W = nn.Embedding(5, d), nn.Linear(d, 5)
            self.time = nn.Parameter(0.1 * torch.randn(6, d))

        def forward(self, story, question):
            keys = self.who(story[..., 0]) + self.time
            u = self.ask(question)
            p = torch.einsum('nsd,nd->ns', keys, u).div(math.sqrt(u.shape[-1])).softmax(-1)
            o = torch.einsum('ns,nsd->nd', p, self.where(story[..., 1]))
            return self.W(o)

    N = 2560
    story = torch.stack([torch.randint(4, (N, 6)), torch.randint(5, (N, 6))], -1)
    q = story[torch.arange(N), torch.randint(6, (N,)), 0]
    last = ((story[..., 0] == q[:, None]) * torch.arange(1, 7)).argmax(1)
    return case(Memory(), (story, q, story[torch.arange(N), last, 1]), lr=2e-2, epochs=6, n=2048)


@situation
def rotated_cells():
    "four kinds of cells, turned by quarters: convolutions over the group of rotations, largest response; SGD with momentum"

    class Lift(nn.Module):
        def __init__(self, o):
            super().__init__()
            self.w = nn.Parameter(torch.randn(o, 1, 3, 3) / 3)
            self.b = nn.Parameter(torch.zeros(o))

        def forward(self, x):
            return torch.stack(
                [F.conv2d(x, torch.rot90(self.w, k, (2, 3)), self.b, padding=1) for k in range(4)], 2
            )

    class Group(nn.Module):
        def __init__(self, i, o):
            super().__init__()
            self.w = nn.Parameter(torch.empty(o, i, 4, 3, 3))
            nn.init.kaiming_normal_(self.w, nonlinearity='relu')
            self.b = nn.Parameter(torch.zeros(o))

        def forward(self, x):
            ws = [torch.rot90(self.w, k, (3, 4)).roll(k, 2).flatten(1, 2) for k in range(4)]
            return torch.stack([F.conv2d(x.flatten(1, 2), w, self.b) for w in ws], 2)

    glyph = (torch.rand(4, 5, 5) < 0.5).float()
    N = 1280
    y = torch.randint(4, (N,))
    x = 0.3 * torch.randn(N, 10, 10)
    at = torch.randint(6, (N, 2))
    k = torch.randint(4, (N,))
    for n in range(N):
        i, j = at[n].tolist()
        x[n, i : i + 5, j : j + 5] += torch.rot90(glyph[y[n]], int(k[n]), (0, 1))
    x = ((x - x.mean()) / x.std()).unsqueeze(1)
    net = nn.Sequential(
        Lift(4),
        nn.ReLU(),
        Group(4, 10),
        nn.ReLU(),
        nn.Flatten(2),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(10, 4),
    )
    return case(net, (x, y), lr=3e-2, opt=partial(optim.SGD, momentum=0.9), epochs=3, bs=32)


@situation
def echo_state():
    "a fixed random reservoir and a trained readout: which of five gestures did three sensors see?"

    class Reservoir(nn.Module):
        def __init__(self, ni=3, h=80, no=5, leak=0.4):
            super().__init__()
            w = torch.randn(h, h) * (torch.rand(h, h) < 0.1)
            self.register_buffer('w', w * 0.9 / torch.linalg.eigvals(w).abs().max())
            self.register_buffer('w_in', 0.6 * (2 * torch.rand(ni, h) - 1))
            self.leak, self.readout = leak, nn.Linear(2 * h, no)

        def forward(self, x):
            h, mean = x.new_zeros(len(x), self.w.size(0)), 0.0
            for t in range(x.size(1)):
                h = (1 - self.leak) * h + self.leak * torch.tanh(x[:, t] @ self.w_in + h @ self.w)
                mean = mean + h * h / x.size(1)
            return self.readout(torch.cat([h, mean], 1) * 3)

    y = torch.randint(5, (1536,))
    t = torch.linspace(0, 1, 24)
    a, f, ph = torch.randn(5, 3, 1), 1 + 2 * torch.rand(5, 3, 1), 6.3 * torch.rand(5, 3, 1)
    x = a[y] * torch.sin(
        6.3 * f[y] * t * (1 + 0.1 * torch.randn(1536, 1, 1)) + ph[y] + 0.3 * torch.randn(1536, 1, 1)
    ) + 0.4 * torch.randn(1536, 3, 24)
    return case(
        Reservoir(),
        (x.transpose(1, 2).contiguous() / x.std(), y),
        lr=6e-2,
        opt=partial(optim.AdamW, weight_decay=0.01),
        epochs=4,
        bs=32,
    )


@situation
def text_svm():
    "which of five newspaper sections? tf-idf of two hundred words, one linear layer, the hinge of several classes; SGD"
    topic = torch.distributions.Dirichlet(torch.full((200,), 0.3)).sample((5,))
    y = torch.randint(5, (2048,))
    common = torch.ones(200) / 200
    tf = torch.distributions.Multinomial(25, 0.45 * topic[y] + 0.55 * common).sample()
    x = tf.log1p() * torch.log(2048 / (1 + (tf > 0).sum(0)))
    return case(
        nn.Linear(200, 5),
        (F.normalize(x), y),
        F.multi_margin_loss,
        lr=8.0,
        opt=optim.SGD,
        epochs=5,
        bs=32,
        n=1536,
    )


@situation
def wine_origin():
    "three regions from sixteen measurements: in each of three steps a mask chooses which to look at (as in TabNet); cosine decay"
    from torch.optim.lr_scheduler import CosineAnnealingLR

    class Step(nn.Module):
        def __init__(self, d, h):
            super().__init__()
            self.att = nn.Sequential(nn.Linear(h, d), nn.BatchNorm1d(d))
            self.fc = nn.Sequential(nn.Linear(d, 2 * h), nn.BatchNorm1d(2 * h), nn.GLU())

    class Masks(nn.Module):
        def __init__(self, d=16, h=16, no=3, steps=3):
            super().__init__()
            self.bn, self.first, self.steps = (
                nn.BatchNorm1d(d),
                nn.Sequential(nn.Linear(d, 2 * h), nn.GLU()),
                nn.ModuleList(Step(d, h) for _ in range(steps)),
            )
            self.out = nn.Linear(h, no)

        def forward(self, x):
            x = self.bn(x)
            a, prior, total = self.first(x), 1.0, 0.0
            for s in self.steps:
                m = (s.att(a) * prior).softmax(-1)
                prior = prior * (1.5 - m)
                a = s.fc(m * x * 4)
                total = total + a.relu()
            return self.out(total)

    x = torch.randn(2560, 16)
    s = torch.where(x[:, 0] > 0, 1.5 * x[:, 3] + x[:, 4], 1.5 * x[:, 7] - x[:, 8]) + 0.3 * torch.randn(2560)
    y = (s > -0.7).long() + (s > 0.7).long()
    return case(Masks(), (x, y), lr=2e-2, epochs=6, n=2048) | dict(
        cbs=[BatchSchedCB(partial(CosineAnnealingLR, T_max=192))]
    )


@situation
def order_book():
    "does the price fall, stay or rise, from ten moments of an order book? mostly chance; a home-made Lion optimizer"

    class Lion(optim.Optimizer):
        def __init__(self, ps, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0):
            super().__init__(ps, dict(lr=lr, betas=betas, weight_decay=weight_decay))

        @torch.no_grad()
        def step(self, closure=None):
            for g in self.param_groups:
                b1, b2 = g['betas']
                for p in g['params']:
                    if p.grad is None:
                        continue
                    m = self.state[p].setdefault('m', torch.zeros_like(p))
                    p.mul_(1 - g['lr'] * g['weight_decay']).add_(
                        (b1 * m + (1 - b1) * p.grad).sign(), alpha=-g['lr']
                    )
                    m.mul_(b2).add_(p.grad, alpha=1 - b2)

    N = 2560
    press = torch.randn(N, 1, 10).cumsum(2) * 0.5 + torch.randn(N, 1, 1)
    depth = torch.randn(N, 8, 10)
    side = torch.tensor([1.0, 0.8, 0.5, 0.3, -1, -0.8, -0.5, -0.3]).view(1, 8, 1)
    x = depth * 0.5 + side * press
    x = (x - x.mean((0, 2), keepdim=True)) / x.std((0, 2), keepdim=True)
    s = 1.5 * press[:, 0, -1] + 0.8 * torch.randn(N)
    y = (s > -1).long() + (s > 1).long()
    net = nn.Sequential(
        nn.Conv1d(8, 16, 1),
        nn.GELU(),
        nn.Conv1d(16, 16, 3),
        nn.GELU(),
        nn.Flatten(),
        nn.LayerNorm(128),
        nn.Linear(128, 3),
    )
    return case(net, (x, y), lr=2e-3, opt=Lion, epochs=4, n=2048)


@situation
def raman():
    "which of five minerals? peaks of a Raman spectrum on a fluorescent background, long kernels, Mish, RAdam"
    N = 1280
    y = torch.randint(5, (N,))
    nu = torch.linspace(0, 1, 120)
    centre, height = 0.1 + 0.8 * torch.rand(5, 3), 0.4 + torch.rand(5, 3)
    c = centre[y] + 0.008 * torch.randn(N, 1)
    h = height[y] * (1 + 0.3 * torch.randn(N, 3))
    x = (h[..., None] * torch.exp(-(((nu - c[..., None]) / 0.02) ** 2))).sum(1)
    x = (
        x * (0.3 + torch.rand(N, 1))
        + torch.rand(N, 1) * torch.exp(-2 * nu * torch.rand(N, 1))
        + 0.5 * torch.rand(N, 1) * nu
        + 0.12 * torch.randn(N, 120)
    )
    x = (x - x.mean(1, keepdim=True)) / x.std(
        1, keepdim=True
    )  # standard normal variate, spectrum by spectrum
    layers = []
    for i, o in ((1, 8), (8, 12), (12, 16)):
        layers += [nn.Conv1d(i, o, 9, padding=4), nn.BatchNorm1d(o), nn.Mish(), nn.MaxPool1d(3)]
    return case(
        nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 5)),
        (x[:, None], y),
        lr=6e-2,
        opt=optim.RAdam,
        epochs=4,
        bs=32,
    ) | dict(cbs=[BatchSchedCB(partial(StepLR, step_size=32, gamma=0.5))])


@situation
def typists():
    "who is typing? holds and gaps of twenty keys, a recurrent net whose units only see themselves (IndRNN); keys and times as inputs"

    class IndRNN(nn.Module):
        def __init__(self, i, h):
            super().__init__()
            self.proj, self.u = nn.Linear(i, h), nn.Parameter(torch.rand(h))

        def forward(self, x):
            p, h, out = self.proj(x), 0.0, []
            for t in range(x.size(1)):
                h = F.relu(p[:, t] + self.u * h)
                out.append(h)
            return torch.stack(out, 1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.key = nn.Embedding(8, 6)
            self.one, self.norm, self.two, self.head = (
                IndRNN(8, 40),
                nn.LayerNorm(40),
                IndRNN(40, 40),
                nn.Linear(40, 6),
            )

        def forward(self, k, t):
            x = torch.cat((self.key(k), t), dim=2)
            x = self.two(self.norm(self.one(x)))
            return self.head(x[:, -1] / 4)

    N = 1920
    who = torch.randint(6, (N,))
    k = torch.randint(8, (N, 20))
    habit = torch.randn(6, 8, 2) * 0.6 + 0.4 * torch.randn(6, 1, 2)
    t = habit[who[:, None], k] + torch.randn(N, 20, 2)
    return case(Net(), (k, t / t.std(), who), lr=8e-3, epochs=5, n=1536)


@situation
def constellation():
    "a radio link as an autoencoder: sixteen messages, points in the plane with a bounded power, noise (an input), and their reading"

    class Link(nn.Module):
        def __init__(self):
            super().__init__()
            self.points = nn.Embedding(16, 2)
            self.receiver = nn.Sequential(nn.Linear(2, 48), nn.ELU(), nn.Linear(48, 16))

        def forward(self, message, noise):
            power = self.points.weight.pow(2).sum(1).mean().sqrt()
            return self.receiver(2 * (self.points(message) / power + noise))

    m = torch.randint(16, (5120,))
    return case(
        Link(),
        (m, 0.12 * torch.randn(5120, 2), m),
        lr=2e-2,
        opt=partial(optim.Adam, betas=(0.9, 0.98)),
        epochs=4,
        bs=64,
        n=4096,
    )


@situation
def sparse_codes():
    "which three of forty sources made these twenty measurements? shrinkage steps unrolled, with learned matrices (LISTA)"
    A = F.normalize(torch.randn(20, 40), dim=0)

    class Lista(nn.Module):
        def __init__(self, steps=5):
            super().__init__()
            L = float(torch.linalg.matrix_norm(A, 2)) ** 2
            self.B, self.S = nn.Parameter(A.t() / L), nn.Parameter(torch.eye(40) - A.t() @ A / L)
            self.theta = nn.Parameter(torch.full((steps, 1), 0.1))

        def forward(self, y):
            drive = y @ self.B.t()
            z = F.softshrink(drive, 0.0)
            for th in self.theta:
                c = drive + z @ self.S.t()
                z = c.sign() * F.relu(c.abs() - th)
            return z

    on = torch.zeros(2560, 40).scatter_(1, torch.rand(2560, 40).argsort(1)[:, :3], 1.0)
    x = on * torch.randn(2560, 40).sign() * (0.8 + 0.6 * torch.rand(2560, 40)) * 2
    return case(
        Lista(),
        (x @ A.t() + 0.05 * torch.randn(2560, 20), x),
        F.mse_loss,
        'number',
        lr=3e-3,
        epochs=6,
        n=2048,
    )


@situation
def deep_onet():
    "the integral of a force up to a time: a branch net for twenty sensors, a trunk net for the time (two inputs), their product"
    from torch.optim.lr_scheduler import ExponentialLR

    class DeepONet(nn.Module):
        def __init__(self, p=24):
            super().__init__()
            self.branch = nn.Sequential(nn.Linear(20, 48), nn.GELU(), nn.Linear(48, p))
            self.trunk = nn.Sequential(nn.Linear(1, 48), nn.Tanh(), nn.Linear(48, p), nn.Tanh())
            self.bias = nn.Parameter(torch.zeros(1))

        def forward(self, f, t):
            return (self.branch(f) * self.trunk(t)).sum(1, keepdim=True) / 4 + self.bias

    N = 3072
    k = torch.arange(1, 5).float()
    a, ph = torch.randn(N, 4) / k, 6.3 * torch.rand(N, 4)
    s = torch.linspace(0, 1, 20).view(1, 20, 1)
    t = torch.rand(N, 1)
    f = (a[:, None] * torch.sin(3.14 * k * s + ph[:, None])).sum(2)
    F_ = (a * (torch.cos(ph) - torch.cos(3.14 * k * t + ph)) / (3.14 * k)).sum(1, keepdim=True)
    return case(
        DeepONet(),
        (f / f.std(), 2 * t - 1, F_ / F_.std()),
        F.mse_loss,
        'number',
        lr=1.5e-2,
        opt=partial(optim.AdamW, weight_decay=1e-4),
        epochs=6,
        n=2560,
    ) | dict(cbs=[BatchSchedCB(partial(ExponentialLR, gamma=0.99))])


@situation
def yield_curves():
    "yields of eight maturities from six figures of an economy, by way of Nelson and Siegel's level, slope and hump; Huber, Nesterov"
    tau = torch.tensor([0.25, 0.5, 1, 2, 3, 5, 7, 10])

    def basis(lam):
        z = lam * tau
        s = (1 - torch.exp(-z)) / z
        return torch.stack([torch.ones_like(tau), s, s - torch.exp(-z)])

    class NelsonSiegel(nn.Module):
        def __init__(self):
            super().__init__()
            self.factors = nn.Sequential(nn.Linear(6, 24), nn.SiLU(), nn.Linear(24, 3))
            self.raw = nn.Parameter(torch.tensor(1.0))

        def forward(self, macro):
            return self.factors(macro) @ basis(F.softplus(self.raw))

    z = torch.randn(1280, 6)
    b = torch.stack(
        [z[:, 0] + 0.5 * z[:, 1], -1.2 * z[:, 2] + 0.6 * z[:, 0] * z[:, 3], 1.5 * torch.tanh(z[:, 4])], 1
    ) + 0.25 * torch.randn(1280, 3)
    y = b @ basis(torch.tensor(0.6)) + 0.05 * torch.randn(1280, 8)
    return case(
        NelsonSiegel(),
        (z, (y - y.mean()) / y.std()),
        F.huber_loss,
        'number',
        lr=0.05,
        opt=partial(optim.SGD, momentum=0.9, nesterov=True),
        epochs=6,
        bs=32,
    )


@situation
def dose_response():
    "how many cells survive a dose of a compound? a net gives the top, the middle and the slope of a Hill curve; AMSGrad"

    class Hill(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3)
            )

        def forward(self, compound, dose):
            top, ec50, slope = self.net(compound).split(1, dim=-1)
            return (1 + 0.3 * top) * torch.sigmoid(F.softplus(slope + 1) * (ec50 - dose))

    c = torch.randn(2048, 5)
    dose = 4 * torch.rand(2048, 1) - 2
    mid = c[:, :1] - 0.8 * c[:, 1:2] * c[:, 2:3]
    top = 1 + 0.2 * torch.tanh(c[:, 3:4])
    y = top * torch.sigmoid((1.5 + 0.5 * torch.tanh(c[:, 4:])) * (mid - dose)) + 0.05 * torch.randn(2048, 1)
    return case(
        Hill(),
        (c, dose, y),
        F.mse_loss,
        'number',
        lr=5e-3,
        opt=partial(optim.Adam, amsgrad=True),
        epochs=5,
        bs=32,
        n=1536,
    )


@situation
def wavefront():
    "five aberrations of a telescope from the spots behind sixteen lenslets: a net for each lenslet (stride as wide as the kernel)"
    g = torch.linspace(-0.75, 0.75, 4)
    Y, X = torch.meshgrid(g, g, indexing='ij')
    o = torch.ones_like(X)
    z = torch.zeros_like(X)
    sx, sy = (
        torch.stack([o, z, 2 * X, 2 * Y, 2 * X]),
        torch.stack([z, o, 2 * Y, 2 * X, -2 * Y]),
    )  # slopes of tilts, defocus, two astigmatisms
    N = 1536
    a = torch.randn(N, 5)
    dx, dy = (0.3 * torch.einsum('nk,kij->nij', a, s)[..., None, None] for s in (sx, sy))
    p = torch.arange(5.0) - 2
    spot = torch.exp(-((p.view(5, 1) - dy) ** 2 + (p - dx) ** 2) / 1.2)  # n, 4, 4, 5, 5
    x = spot.permute(0, 1, 3, 2, 4).reshape(N, 1, 20, 20) + 0.1 * torch.randn(N, 1, 20, 20)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=5),
        nn.LeakyReLU(0.1),
        nn.Conv2d(16, 8, 1),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        nn.Linear(128, 5),
    )
    return case(net, ((x - x.mean()) / x.std(), a), F.mse_loss, 'number', lr=1e-2, epochs=5, bs=32, n=1280)


@situation
def load_mixer():
    "a town's electric load for the next twelve hours, from 48 of load, warmth and a clock: layers mix hours, then features; warm-up, then cosine"
    from torch.optim.lr_scheduler import LambdaLR

    class Mixer(nn.Module):
        def __init__(self, L=48, c=3):
            super().__init__()
            self.n1, self.hours = nn.LayerNorm(c), nn.Sequential(nn.Linear(L, L), nn.ReLU(), nn.Dropout(0.05))
            self.n2, self.feats = (
                nn.LayerNorm(c),
                nn.Sequential(nn.Linear(c, 16), nn.ReLU(), nn.Linear(16, c)),
            )
            self.head = nn.Linear(L * c, 12)

        def forward(self, x):
            x = x + self.hours(self.n1(x).transpose(1, 2)).transpose(1, 2)
            return self.head((x + self.feats(self.n2(x))).flatten(1))

    N = 1536
    t = torch.arange(60.0) + torch.randint(24, (N, 1))
    warm = torch.sin(6.283 * (t - 8) / 24) + torch.randn(N, 1) + 0.2 * torch.randn(N, 60)
    load = (
        torch.cos(6.283 * (t - 18) / 24)
        + 0.5 * torch.cos(12.57 * t / 24)
        - 0.5 * warm.clamp(max=0.0)
        + 0.5 * torch.randn(N, 1)
        + 0.15 * torch.randn(N, 60)
    )
    s = torch.stack([load, warm, torch.sin(6.283 * t / 24)], 2)
    s = (s - s.mean((0, 1))) / s.std((0, 1))
    warm_cos = lambda i: min(1.0, (i + 1) / 15) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, i / 160)))
    return case(
        Mixer(),
        (s[:, :48].contiguous(), s[:, 48:, 0].contiguous()),
        F.mse_loss,
        'number',
        lr=1e-2,
        epochs=5,
        bs=40,
        n=1280,
    ) | dict(cbs=[BatchSchedCB(partial(LambdaLR, lr_lambda=warm_cos))])


@situation
def noise_to_noise():
    "seismic traces without noise, from pairs of noisy ones only: dilated convolutions with a way around; RMSprop"

    class Denoise(nn.Module):
        def __init__(self, c=12):
            super().__init__()
            self.inp, self.out = nn.Conv1d(1, c, 5, padding=2), nn.Conv1d(c, 1, 5, padding=2)
            self.mid = nn.ModuleList(nn.Conv1d(c, c, 3, padding=d, dilation=d) for d in (1, 2, 4))
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

        def forward(self, x):
            h = F.softplus(self.inp(x[:, None]))
            for m in self.mid:
                h = h + F.relu(m(h))
            return x + self.out(h)[:, 0]

    N = 1280
    t = torch.arange(48.0)

    def ricker():
        u = ((t - 48 * torch.rand(N, 1)) / (2 + torch.rand(N, 1))) ** 2
        return torch.randn(N, 1) * (1 - u) * torch.exp(-u / 2)

    clean = 2.5 * (ricker() + ricker() + ricker())
    return case(
        Denoise(),
        (clean + 0.7 * torch.randn(N, 48), clean + 0.7 * torch.randn(N, 48)),
        F.mse_loss,
        'number',
        lr=1e-3,
        opt=optim.RMSprop,
        epochs=4,
        bs=32,
    )


@situation
def tomography():
    "rays through a slice: a density as a function of the place, summed up along each ray; the data are angles and offsets"

    class Field(nn.Module):
        def __init__(self, k=24, h=40):
            super().__init__()
            self.register_buffer('freq', torch.randn(2, k) * 2.5)
            self.net = nn.Sequential(
                nn.Linear(2 * k, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, 1)
            )
            self.register_buffer('steps', torch.linspace(-1, 1, 24))

        def forward(self, ray):
            ang, s = 3.1416 * ray[:, :1], ray[:, 1:]
            xy = torch.stack(
                [s * ang.cos() - self.steps * ang.sin(), s * ang.sin() + self.steps * ang.cos()], -1
            )
            q = xy @ self.freq
            return F.softplus(self.net(torch.cat([q.sin(), q.cos()], -1))).mean(1)

    N = 1280
    ray = torch.stack([torch.rand(N), 2 * torch.rand(N) - 1], 1)
    u = torch.linspace(-1, 1, 200)
    ang, s = 3.1416 * ray[:, :1], ray[:, 1:]
    x, y = s * ang.cos() - u * ang.sin(), s * ang.sin() + u * ang.cos()
    dens = (
        2.0 * (((x / 0.8) ** 2 + (y / 0.6) ** 2 < 1).float())
        + 3.0 * ((x - 0.3) ** 2 + (y - 0.1) ** 2 < 0.04)
        - 1.5 * ((x + 0.35) ** 2 + (y + 0.1) ** 2 < 0.06)
    )
    target = dens.mean(1, keepdim=True)
    return case(
        Field(),
        (ray, target / target.std() + 0.05 * torch.randn(N, 1)),
        F.mse_loss,
        'number',
        lr=2e-2,
        epochs=5,
        bs=32,
    ) | dict(cbs=[BatchSchedCB(partial(StepLR, step_size=60, gamma=0.5))])


@situation
def cell_counts():
    "how many cells are in a microscope's field? a density from convolutions, summed over the image; Poisson likelihood of the count"

    class Density(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 12, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(12, 12, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(12, 1, 1),
            )
            nn.init.constant_(self.body[-1].bias, -3.0)  # about five cells in 144 pixels to begin with

        def forward(self, x):
            return F.softplus(self.body(x)).sum((1, 2, 3))[:, None] + 1e-3

    N = 1280
    n = torch.randint(0, 12, (N, 1))
    ij = torch.rand(N, 12, 2) * 11
    g = torch.arange(12.0)
    blob = torch.exp(
        -((g.view(-1, 1) - ij[..., 0, None, None]) ** 2 + (g - ij[..., 1, None, None]) ** 2) / 0.8
    ) * (0.7 + 0.6 * torch.rand(N, 12, 1, 1))
    x = (blob * (torch.arange(12) < n).float()[..., None, None]).sum(1, keepdim=True) + 0.15 * torch.randn(
        N, 1, 12, 12
    )
    loss = partial(F.poisson_nll_loss, log_input=False, full=True)
    return case(Density(), ((x - x.mean()) / x.std(), n.float()), loss, 'count', lr=2e-2, epochs=4, bs=32)


@situation
def rare_birds():
    "birds seen on a walk: many zeros as nobody looked well, else Poisson; the log of the mean and the logit of not looking"

    def zip_loss(out, y):
        log_mu, logit = out[:, 0].clamp(max=5.0), out[:, 1]
        y = y[:, 0]
        pois = y * log_mu - log_mu.exp() - torch.lgamma(y + 1)
        zero = torch.logaddexp(F.logsigmoid(logit), F.logsigmoid(-logit) + pois)
        return -torch.where(y == 0, zero, F.logsigmoid(-logit) + pois).mean()

    x = torch.randn(2560, 9)
    mu = torch.exp(1.0 + 0.8 * x[:, :1] - 0.6 * x[:, 1:2].abs() + 0.3 * x[:, 2:3])
    looked = torch.sigmoid(2 * x[:, 3:4] + 1.5 * x[:, 4:5] * x[:, 5:6] + 0.5)
    y = torch.poisson(mu.clamp(max=30.0)) * (torch.rand(2560, 1) < looked)
    net = nn.Sequential(nn.Linear(9, 32), nn.Softplus(), nn.Linear(32, 32), nn.Softplus(), nn.Linear(32, 2))
    nn.init.zeros_(net[-1].weight)
    nn.init.zeros_(net[-1].bias)
    return case(net, (x, y), zip_loss, 'count', lr=5e-3, epochs=5, n=2048)


@situation
def jets():
    "one prong or two? up to fourteen particles (part of the energy, two angles, there or not), an energy flow network"

    class EnergyFlow(nn.Module):
        def __init__(self):
            super().__init__()
            self.phi = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(), nn.Linear(32, 24), nn.LeakyReLU())
            self.head = nn.Sequential(nn.Linear(24, 32), nn.LeakyReLU(), nn.Linear(32, 1))

        def forward(self, p):
            z, angles, there = p[..., :1], p[..., 1:3], p[..., 3:]
            return self.head((z * there * self.phi(angles)).sum(1))

    N, M = 2560, 14
    y = (torch.rand(N, 1) < 0.5).float()
    there = (torch.arange(M) < torch.randint(5, M + 1, (N, 1))).float()
    phi = 6.283 * torch.rand(N, 1)
    axis = torch.stack([phi.cos(), phi.sin()], -1) * (0.7 + 0.3 * torch.rand(N, 1, 1))
    side = torch.where(torch.rand(N, M, 1) < 0.5, 1.0, -1.0)
    angles = torch.randn(N, M, 2) * torch.where(y > 0, 0.3, 0.6)[..., None] + y[..., None] * side * axis
    z = torch.rand(N, M) ** 2 * there
    z = z / z.sum(1, keepdim=True)
    return case(
        EnergyFlow(),
        (torch.cat([z[..., None], angles * there[..., None], there[..., None]], 2), y),
        F.binary_cross_entropy_with_logits,
        'yes',
        lr=8e-3,
        epochs=6,
        n=2048,
    )


@situation
def neutron_or_gamma():
    "which particle hit the scintillator? the shape of a pulse, strided convolutions and learned slopes below zero; SGD with a step of the rate"
    N = 1536
    t = torch.arange(64.0) - 6 - 2 * torch.rand(N, 1)
    y = (torch.rand(N, 1) < 0.4).float()
    tail = (0.18 + 0.14 * y + 0.05 * torch.randn(N, 1)).clamp(min=0.02)
    tt = t.clamp(min=0.0)
    pulse = ((1 - tail) * torch.exp(-tt / 4) + tail * torch.exp(-tt / 25)) * (t > 0)
    x = pulse * torch.exp(0.4 * torch.randn(N, 1)) + 0.05 * torch.randn(N, 64)
    x = x / x.amax(1, keepdim=True)
    x = ((x - x.mean()) / x.std()).unsqueeze(1)
    net = nn.Sequential(
        nn.Conv1d(1, 8, 5, stride=2),
        nn.PReLU(),
        nn.Conv1d(8, 16, 5, stride=2),
        nn.PReLU(),
        nn.Conv1d(16, 16, 5, stride=2),
        nn.PReLU(),
        nn.Flatten(),
        nn.Linear(80, 1),
    )
    return case(
        net,
        (x, y),
        F.binary_cross_entropy_with_logits,
        'yes',
        lr=0.02,
        opt=partial(optim.SGD, momentum=0.9, weight_decay=1e-4),
        epochs=6,
        bs=32,
    ) | dict(cbs=[BatchSchedCB(partial(StepLR, step_size=96, gamma=0.3))])


@situation
def ratio_estimation():
    "do these settings go with this simulation, or were the pairs mixed? what is learned is the ratio of likelihoods; two inputs"

    class Ratio(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 48), nn.Linear(6, 48)
            self.rest = nn.Sequential(
                nn.LayerNorm(48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 1)
            )

        def forward(self, theta, x):
            return self.rest(self.a(theta) + self.b(x))

    N = 3072
    th = 2 * torch.rand(N, 2) - 1
    t = torch.linspace(0.2, 1.2, 6)
    x = th[:, :1] * torch.sin(3 * t + 2 * th[:, 1:]) + 0.1 * torch.randn(N, 6)
    y = (torch.arange(N) % 2).float()[:, None]
    th = torch.where(y > 0, th, th.roll(2, 0))
    return case(
        Ratio(),
        (th / 0.58, x / x.std(), y),
        F.binary_cross_entropy_with_logits,
        'yes',
        lr=1.5e-2,
        opt=partial(optim.AdamW, weight_decay=1e-3),
        epochs=6,
        n=2560,
    )


@situation
def card_fraud():
    "is the last of ten card payments a fraud? shops' codes, amounts and times (as sines of learned periods), attention of the last over the others"

    class Fraud(nn.Module):
        def __init__(self, d=24):
            super().__init__()
            self.shop = nn.Embedding(12, 8)
            self.freq, self.phase = nn.Parameter(torch.rand(6) * 2), nn.Parameter(6.28 * torch.rand(6))
            self.inp = nn.Linear(8 + 1 + 1 + 6, d)
            self.q, self.kv = nn.Linear(d, d), nn.Linear(d, 2 * d)
            self.out = nn.Sequential(nn.Linear(2 * d, 32), nn.ReLU(), nn.Linear(32, 1))

        def forward(self, shop, amount, hours):
            time = torch.sin(hours[..., None] * self.freq + self.phase)
            h = torch.relu(
                self.inp(torch.cat([self.shop(shop), amount[..., None], hours[..., None] / 2, time], -1))
            )
            last = h[:, -1:]
            k, v = self.kv(h[:, :-1]).chunk(2, -1)
            o = F.scaled_dot_product_attention(self.q(last), k, v)
            return self.out(torch.cat([o, last], -1)[:, 0])

    N = 2560
    home = torch.randint(4, (N, 1))
    y = torch.rand(N, 1) < 0.3
    shop = 3 * home + torch.randint(3, (N, 10))
    level = torch.randn(N, 1)
    amount = level + 0.5 * torch.randn(N, 10)
    hours = torch.rand(N, 10).mul(4).cumsum(1).flip(1) / 5  # before now, in days
    shop[:, -1:] = torch.where(y & (torch.rand(N, 1) < 0.7), torch.randint(12, (N, 1)), shop[:, -1:])
    amount[:, -1:] += y * (1.2 + 0.5 * torch.randn(N, 1))
    hours[:, -1:] *= torch.where(y, 0.3, 1.0)
    return case(
        Fraud(),
        (shop, amount / amount.std(), hours, y.float()),
        F.binary_cross_entropy_with_logits,
        'yes',
        lr=3e-3,
        epochs=5,
        n=2048,
    )


@situation
def loss_given_default():
    "which part of a loan is lost? shares between zero and one, mostly near an end, as soft targets behind a sigmoid; RMSprop with momentum"
    x = torch.randn(2560, 12)
    s = 3 * x[:, :1] - 2 * x[:, 1:2].clamp(min=0.0) + 2 * x[:, 2:3] * (x[:, 3:4] > 0) + 0.5
    y = torch.sigmoid(s * 1.3 + 1.2 * torch.randn(2560, 1))
    net = nn.Sequential(
        nn.Linear(12, 32), nn.Hardswish(), nn.Linear(32, 16), nn.Hardswish(), nn.Linear(16, 1), nn.Sigmoid()
    )
    return case(
        net,
        (x, y),
        F.binary_cross_entropy,
        'probability',
        lr=1e-3,
        opt=partial(optim.RMSprop, momentum=0.9),
        epochs=5,
        n=2048,
    )


@situation
def gap_ahead():
    "is there a gap in the ring of 36 laser distances that a robot fits through? circular convolutions, largest response, a sigmoid"
    N = 2048
    wall = 0.8 + 0.5 * torch.rand(N, 36)
    k = torch.arange(36)
    for _ in range(3):
        start, width = torch.randint(36, (N, 1)), torch.randint(1, 5, (N, 1))
        wall = wall + 1.5 * ((k - start) % 36 < width)
    far = wall > 2.0
    run = far
    for s in (1, 2, 3):
        run = run & far.roll(-s, 1)
    x = wall.clamp(max=4.0) + 0.2 * torch.randn(N, 36)
    ring = lambda i, o: nn.Conv1d(i, o, 5, padding=2, padding_mode='circular')
    net = nn.Sequential(
        ring(1, 10),
        nn.ReLU(),
        ring(10, 16),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(16, 1),
        nn.Sigmoid(),
    )
    return case(
        net,
        (((x - x.mean()) / x.std())[:, None], run.any(1, keepdim=True).float()),
        F.binary_cross_entropy,
        'probability',
        lr=1.5e-2,
        epochs=5,
        bs=32,
        n=1536,
    ) | dict(cbs=[BatchSchedCB(partial(StepLR, step_size=48, gamma=0.6))])


@situation
def codons():
    "amino acids from bases: three of them are one, by a made-up code, and a tenth of all last bases cannot be read; stride three, Adamax"
    code = torch.randint(8, (4, 4)).view(4, 4, 1).repeat(1, 1, 4)
    code[:, ::2, 2:] = (code[:, ::2, 2:] + 3) % 8
    base = torch.randint(4, (1280, 12, 3))
    y = code[base[..., 0], base[..., 1], base[..., 2]]
    base[..., 2] = torch.where(torch.rand(1280, 12) < 0.1, 4, base[..., 2])

    class Ribosome(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.conv = nn.Embedding(5, 12), nn.Conv1d(12, 64, 3, stride=3)
            self.mlp = nn.Sequential(nn.Conv1d(64, 64, 1), nn.ReLU(), nn.Conv1d(64, 8, 1))

        def forward(self, b):
            return self.mlp(F.relu(self.conv(self.emb(b).transpose(1, 2))))

    return case(Ribosome(), (base.flatten(1), y), kind='words', lr=5e-3, opt=optim.Adamax, epochs=5, bs=32)


@situation
def helix_strand_coil():
    "the secondary structure of a protein at each residue: one layer of attention that fades with distance (ALiBi), pre-norm"

    class Block(nn.Module):
        def __init__(self, d=24, heads=4):
            super().__init__()
            self.heads, self.n1, self.n2 = heads, nn.LayerNorm(d), nn.LayerNorm(d)
            self.qkv, self.o = nn.Linear(d, 3 * d), nn.Linear(d, d)
            self.ff = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))

        def forward(self, x):
            n, L, d = x.shape
            i = torch.arange(L)
            bias = -(i[:, None] - i).abs() * torch.tensor([2.0, 1.0, 0.5, 0.25])[:, None, None]
            q, k, v = (
                t.view(n, L, self.heads, -1).transpose(1, 2) for t in self.qkv(self.n1(x)).chunk(3, -1)
            )
            x = x + self.o(
                F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).reshape(n, L, d)
            )
            return x + self.ff(self.n2(x))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.block, self.norm, self.out = (
                nn.Embedding(12, 24),
                Block(),
                nn.LayerNorm(24),
                nn.Linear(24, 3),
            )

        def forward(self, s):
            return self.out(self.norm(self.block(self.emb(s)))).transpose(1, 2)

    N, L = 1280, 24
    seg = (torch.rand(N, L) < 0.2).cumsum(1)
    y = torch.randint(3, (N, L)).gather(1, seg.clamp(max=L - 1))
    aa = (
        torch.distributions.Categorical(logits=1.2 * torch.randn(3, 12))
        .sample((N, L))
        .gather(2, y[..., None])[..., 0]
    )
    return case(Net(), (aa, y), kind='words', lr=5e-3, epochs=4, bs=32)


@situation
def maze_directions():
    "which way to go from each field of a maze? the same convolution again and again, as in value iteration; walls are not asked (-100)"
    N, S = 1280, 7
    free = torch.rand(N, S, S) > 0.25
    goal = torch.zeros(N, S * S, dtype=torch.bool)
    goal[torch.arange(N), (free.flatten(1) + torch.rand(N, S * S)).argmax(1)] = True
    goal = goal.view(N, S, S) & free
    dist = torch.where(goal, 0.0, 99.0)

    def neighbours(d):
        p = F.pad(d, (1, 1, 1, 1), value=99.0)
        return torch.stack([p[:, :-2, 1:-1], p[:, 2:, 1:-1], p[:, 1:-1, :-2], p[:, 1:-1, 2:]], 1)

    for _ in range(12):
        dist = torch.where(free, torch.minimum(dist, neighbours(dist).amin(1) + 1), 99.0)
    y = torch.where(free & ~goal & (dist < 12), neighbours(dist).argmin(1), -100)

    class Planner(nn.Module):
        def __init__(self, c=14, steps=7):
            super().__init__()
            self.steps, self.inp, self.step, self.out = (
                steps,
                nn.Conv2d(2, c, 3, padding=1),
                nn.Conv2d(c + 2, c, 3, padding=1),
                nn.Conv2d(c, 4, 1),
            )

        def forward(self, x):
            h = F.relu(self.inp(x))
            for _ in range(self.steps):
                h = F.relu(self.step(torch.cat([h, x], 1)) + h)
            return self.out(h)

    return case(
        Planner(),
        (torch.stack([(~free).float(), goal.float()], 1), y),
        kind='pixels',
        lr=8e-3,
        epochs=4,
        bs=32,
    )


@situation
def minesweeper():
    "where are the mines? half of a board's fields are open and show a number; only the closed ones count, whole batches of 64, RAdam"
    N, S = 1792, 8
    mine = (torch.rand(N, 1, S, S) < 0.18).float()
    number = F.conv2d(mine, torch.ones(1, 1, 3, 3), padding=1)
    shown = (mine == 0) & (torch.rand(N, 1, S, S) < 0.6)
    x = torch.cat([shown * (number - 1.5) / 1.2, shown.float(), torch.ones(N, 1, S, S)], 1)
    y = torch.where(shown, 255, mine.long())[:, 0]
    net = nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1),
        nn.CELU(),
        nn.Conv2d(24, 24, 3, padding=1),
        nn.CELU(),
        nn.Conv2d(24, 2, 1),
    )
    return case(
        net,
        (x, y),
        partial(F.cross_entropy, ignore_index=255),
        'pixels',
        lr=8e-2,
        opt=optim.RAdam,
        epochs=5,
        n=1536,
    )


@situation
def spring_physics():
    "a damped spring's motion from a few early measurements (nan elsewhere) and its equation, by derivatives within the forward pass (PINN)"

    class Spring(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
            )

        def forward(self, tw):
            with torch.enable_grad():
                t, w = tw[:, :1].clone().requires_grad_(), tw[:, 1:]
                u = self.net(torch.cat([t, w], 1))
                (v,) = torch.autograd.grad(u.sum(), t, create_graph=True)
                (a,) = torch.autograd.grad(v.sum(), t, create_graph=True)
            return torch.cat([u, (a + 0.6 * v + (3 + w) ** 2 * u) / 9], 1)

    def loss(out, y):
        known = ~y.isnan()
        fit = (out[:, :1] - y.nan_to_num(0.0)).pow(2).masked_select(known).sum() / known.sum().clamp(min=1)
        return fit + 0.1 * out[:, 1:].pow(2).mean()

    t, w = 2 * torch.rand(1280, 1) - 1, torch.rand(1280, 1) - 0.5
    om = ((3 + w) ** 2 - 0.09).sqrt()
    u = torch.exp(-0.3 * (t + 1)) * torch.cos(om * (t + 1))
    y = torch.where(t < 0.4, u + 0.02 * torch.randn(1280, 1), math.nan)
    return case(Spring(), (torch.cat([t, w], 1), y), loss, 'other', lr=3e-2, epochs=8, bs=32) | dict(
        cbs=[BatchSchedCB(partial(StepLR, step_size=64, gamma=0.5))]
    )


@situation
def boxes():
    "a box around the bright thing in an image, its corners from centre and size; one minus the generalised overlap (GIoU)"

    def corners(b):
        c, s = b[:, :2], b[:, 2:]
        return torch.cat([c - s / 2, c + s / 2], 1)

    def area(b):
        return (b[:, 2:] - b[:, :2]).clamp(min=0.0).prod(1)

    def giou(out, box):
        p, q = corners(out), corners(box)
        inter = area(torch.cat([torch.maximum(p[:, :2], q[:, :2]), torch.minimum(p[:, 2:], q[:, 2:])], 1))
        hull = area(torch.cat([torch.minimum(p[:, :2], q[:, :2]), torch.maximum(p[:, 2:], q[:, 2:])], 1))
        union = area(p) + area(q) - inter
        return (1 - inter / (union + 1e-6) + (hull - union) / (hull + 1e-6)).mean()

    N = 1280
    size = 0.2 + 0.4 * torch.rand(N, 2)
    c = size / 2 + (1 - size) * torch.rand(N, 2)
    g = (torch.arange(14.0) + 0.5) / 14
    inside = ((g - c[:, 1:]).abs() < size[:, 1:] / 2).float()[:, :, None] * (
        (g - c[:, :1]).abs() < size[:, :1] / 2
    ).float()[:, None]
    x = inside * (1 + torch.rand(N, 1, 1)) + 0.3 * torch.randn(N, 14, 14)
    x = ((x - x.mean()) / x.std())[:, None]
    net = nn.Sequential(
        nn.Conv2d(1, 10, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(10, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 32),
        nn.ReLU(),
        nn.Linear(32, 4),
        nn.Sigmoid(),
    )
    return case(net, (x, torch.cat([c, size], 1)), giou, 'other', lr=6e-3, epochs=5, bs=32)


@situation
def orientations():
    "how is a rigid body turned? eight markers, six numbers that are made a rotation matrix (Gram and Schmidt); AdamW"

    class Pose(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 6)
            )

        def forward(self, x):
            a, b = self.body(x.flatten(1)).chunk(2, dim=1)
            e1 = F.normalize(a, dim=1)
            e2 = F.normalize(b - (e1 * b).sum(1, keepdim=True) * e1, dim=1)
            return torch.stack([e1, e2, torch.linalg.cross(e1, e2, dim=1)], dim=2)

    N = 2048
    q = F.normalize(torch.randn(N, 4), dim=1)
    w, x, y, z = q.unbind(1)
    R = torch.stack(
        [
            1 - 2 * (y * y + z * z),
            2 * (x * y - w * z),
            2 * (x * z + w * y),
            2 * (x * y + w * z),
            1 - 2 * (x * x + z * z),
            2 * (y * z - w * x),
            2 * (x * z - w * y),
            2 * (y * z + w * x),
            1 - 2 * (x * x + y * y),
        ],
        1,
    ).view(N, 3, 3)
    markers = torch.randn(8, 3) @ R.transpose(1, 2) + 0.15 * torch.randn(N, 8, 3)

    def chordal(p, r):
        return (p - r).pow(2).sum((1, 2)).mean()

    return case(
        Pose(),
        (markers, R),
        chordal,
        'other',
        lr=8e-3,
        opt=partial(optim.AdamW, weight_decay=0.01),
        epochs=5,
        bs=32,
        n=1536,
    )


@situation
def arm_reach():
    "angles of a three-jointed arm for a place to reach, judged by where its hand comes to; small angles preferred"
    lengths = torch.tensor([1.0, 0.8, 0.5])

    def hand(q):
        a = q.cumsum(1)
        return torch.stack([(lengths * a.cos()).sum(1), (lengths * a.sin()).sum(1)], 1)

    def loss(q, xy):
        return (hand(q) - xy).pow(2).sum(1).mean() + 1e-3 * q.pow(2).mean()

    r, a = 0.6 + 1.4 * torch.rand(2048, 1), 2.4 * (2 * torch.rand(2048, 1) - 1)
    xy = torch.cat([r * a.cos(), r * a.sin()], 1)
    net = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3))
    nn.init.normal_(net[-1].weight, std=0.05)
    nn.init.constant_(net[-1].bias, 0.2)
    return case(net, (xy, xy.clone()), loss, 'other', lr=8e-3, epochs=5, bs=32, n=1536)


@situation
def kalman_track():
    "where will the radar see the target next? a Kalman filter whose two noises and drag are learned by the likelihood"

    class Filter(nn.Module):
        def __init__(self):
            super().__init__()
            self.log_q, self.log_r, self.drag = (
                nn.Parameter(torch.zeros(())),
                nn.Parameter(torch.zeros(())),
                nn.Parameter(torch.tensor(0.5)),
            )

        def forward(self, z):
            q, r, k = self.log_q.exp(), self.log_r.exp(), torch.sigmoid(self.drag)
            p, v = z.new_zeros(len(z)), z.new_zeros(len(z))
            a, b, c = 2.0 + 0 * q, 0 * q, 1.0 + 0 * q  # covariance [[a, b], [b, c]]
            out = []
            for t in range(z.size(1)):
                p, v = p + v, k * v
                a, b, c = a + 2 * b + c, k * (b + c), k * k * c + q
                s = a + r
                out.append(torch.stack([p, s.expand_as(p)], -1))
                e = z[:, t] - p
                p, v = p + a / s * e, v + b / s * e
                a, b, c = a * r / s, b * r / s, c - b * b / s
            return torch.stack(out, 1)

    def nll(out, z):
        m, s = out.unbind(-1)
        return 0.5 * ((z - m) ** 2 / s.clamp(min=1e-6) + s.clamp(min=1e-6).log()).mean() + 0.92

    v, p, seen = torch.randn(1280) * 0.5, torch.randn(1280), []
    for _ in range(20):
        v = 0.9 * v + 0.15 * torch.randn(1280)
        p = p + v
        seen.append(p + 0.3 * torch.randn(1280))
    z = torch.stack(seen, 1)
    return case(Filter(), (z, z.clone()), nll, 'other', lr=0.1, epochs=3, bs=32)


@situation
def positive_unlabelled():
    "which of the unlabelled patients have the illness too? known cases and a mixture, the non-negative risk for a share of four in ten"

    def nnpu(out, y, prior=0.4):
        pos, unl = (y > 0).float(), (y == 0).float()
        n_p, n_u = pos.sum().clamp(min=1.0), unl.sum().clamp(min=1.0)
        r_pos, r_neg = (torch.sigmoid(-out) * pos).sum() / n_p, (torch.sigmoid(out) * pos).sum() / n_p
        return prior * r_pos + F.relu((torch.sigmoid(out) * unl).sum() / n_u - prior * r_neg)

    N = 3072
    ill = (torch.rand(N, 1) < 0.58).float()
    shift = torch.randn(10)
    x = torch.randn(N, 10) + ill * shift * 0.5
    x[:, :1] = torch.where(ill > 0, x[:, :1].abs() + 0.3, -x[:, :1].abs() + 0.3 * torch.randn(N, 1))
    y = ill * (torch.rand(N, 1) < 0.52)
    x = (x - x.mean(0)) / x.std(0)
    net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    return case(
        net,
        (x, y),
        nnpu,
        'other',
        lr=6e-3,
        opt=partial(optim.Adam, weight_decay=1e-4),
        epochs=5,
        bs=64,
        n=2560,
    )


@situation
def other_scanner():
    "three tissues, labelled on one scanner only; a head for the scanner whose gradient is turned around (domain adversarial)"

    class Turn(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, g):
            return -0.3 * g

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU())
            self.tissue, self.scanner = (
                nn.Linear(24, 3),
                nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 2)),
            )

        def forward(self, x):
            h = self.body(x)
            return torch.cat([self.tissue(h), self.scanner(Turn.apply(h))], 1)

    def loss(out, y):
        labelled = y[:, 0] >= 0
        ce = F.cross_entropy(out[:, :3], y[:, 0].clamp(min=0), reduction='none')
        return (ce * labelled).sum() / labelled.sum().clamp(min=1) + F.cross_entropy(out[:, 3:], y[:, 1])

    N = 2560
    t, s = torch.randint(3, (N,)), torch.randint(2, (N,))
    x = 1.1 * torch.randn(3, 16)[t] + torch.randn(N, 16) + s[:, None] * torch.randn(16) * 0.35
    y = torch.stack([torch.where(s == 0, t, -1), s], 1)
    return case(Net(), ((x - x.mean(0)) / x.std(0), y), loss, 'other', lr=3e-3, epochs=4, n=2048)


@situation
def torn_strips():
    "strips of a torn curve in their order: each strip's scores for the places are made a doubly stochastic matrix (Sinkhorn)"

    class Sorter(nn.Module):
        def __init__(self):
            super().__init__()
            self.strip = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU())
            self.score = nn.Linear(96, 5)

        def forward(self, x):
            h = self.strip(x)
            s = self.score(torch.cat([h, h.mean(1, keepdim=True).expand_as(h)], -1))
            for _ in range(8):
                s = s - s.logsumexp(2, keepdim=True)
                s = s - s.logsumexp(1, keepdim=True)
            return s

    def loss(s, place):
        return F.nll_loss(s.log_softmax(2).flatten(0, 1), place.flatten())

    N = 2048
    u = torch.linspace(0, 1, 30)
    curve = (
        torch.randn(N, 1) * 0.8
        + (0.5 + torch.rand(N, 1)) * 3 * u
        + 0.4 * torch.sin(6.3 * u * (1 + torch.rand(N, 1)) + 6.3 * torch.rand(N, 1))
        + 0.1 * torch.randn(N, 30)
    )
    strips = curve.view(N, 5, 6)
    place = torch.rand(N, 5).argsort(1)
    x = strips.gather(1, place[..., None].expand(-1, -1, 6))
    return case(Sorter(), ((x - x.mean()) / x.std(), place), loss, 'other', lr=6e-3, epochs=6, bs=32, n=1536)
