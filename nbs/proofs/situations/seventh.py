"The seventh half, after which rules were changed"

import math
import random
from functools import partial
import torch, torch.nn.functional as F
from torch import nn, optim
from miniai.schedule import BatchSchedCB
from .common import blobs, case, group

SEVENTH, situation = group()


@situation
def modulation_types():
    "radio signals as I and Q: which of four modulations? complex convolutions by hand, then magnitudes; NAdam"
    n = 1664
    y, s = torch.randint(4, (n,)), torch.randint(4, (n, 8)).repeat_interleave(8, 1).float()
    t, k = torch.arange(64.0), y[:, None]
    phase = torch.where(
        k == 0,
        math.pi * (s % 2),
        torch.where(k == 1, math.pi / 2 * s, torch.where(k == 2, 0 * s, (0.5 * (s % 2) - 0.25).cumsum(1))),
    )
    amp = torch.where(k == 2, (s + 1) / 2.7, torch.ones_like(s))
    phase = phase + 6.28 * torch.rand(n, 1) + 0.05 * torch.randn(n, 1) * t
    x = torch.stack([amp * phase.cos(), amp * phase.sin()], 1) + 0.35 * torch.randn(n, 2, 64)

    class ComplexConv(nn.Module):
        def __init__(self, ni, no, ks, stride):
            super().__init__()
            self.re, self.im = (nn.Conv1d(ni, no, ks, stride=stride, bias=False) for _ in range(2))
            self.shift = nn.Parameter(torch.full((no, 1), -0.05))

        def forward(self, z):
            a, b = z
            re, im = self.re(a) - self.im(b), self.re(b) + self.im(a)
            mag = (re * re + im * im + 1e-6).sqrt()
            gate = F.relu(mag + self.shift) / mag  # modReLU: the phase is kept
            return re * gate, im * gate

    class Receiver(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.Sequential(ComplexConv(1, 10, 7, 1), ComplexConv(10, 12, 5, 2))
            self.head = nn.Sequential(nn.BatchNorm1d(48), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 4))

        def forward(self, x):
            a = (x * x).sum(1, keepdim=True).sqrt()
            re, im = self.convs((x[:, :1], x[:, 1:]))
            m = (re * re + im * im + 1e-6).sqrt()
            return self.head(torch.cat([m.mean(2), m.std(2), m.amax(2), m.amin(2)], 1))

    return case(Receiver(), (x, y), lr=5e-3, opt=optim.NAdam, epochs=5, bs=64, n=1280)


@situation
def plural_endings():
    "a made-up language's plural ending from the letters of a noun: packed sequences of different lengths, GRU of both directions"
    n, top = 1792, 9
    ln = torch.randint(3, top + 1, (n,))
    w = torch.randint(1, 21, (n, top)) * (torch.arange(top) < ln[:, None])
    last, before, vowel = (
        w.gather(1, ln[:, None] - 1)[:, 0],
        w.gather(1, ln[:, None] - 2)[:, 0],
        lambda c: c <= 5,
    )
    y = torch.where(
        vowel(last),
        torch.where(vowel(before), 0, 1),
        torch.where(last > 15, 2, torch.where(w[:, 0] <= 10, 3, 0)),
    )
    y = torch.where(torch.rand(n) < 0.05, torch.randint(4, (n,)), y)  # exceptions, as in any language

    class Plural(nn.Module):
        def __init__(self, emb=12, hidden=20):
            super().__init__()
            self.letters = nn.Embedding(21, emb, padding_idx=0)
            self.rnn = nn.GRU(emb, hidden, batch_first=True, bidirectional=True)
            self.out = nn.Linear(2 * hidden, 4)

        def forward(self, w):
            packed = nn.utils.rnn.pack_padded_sequence(
                self.letters(w), (w > 0).sum(1).clamp(min=1), batch_first=True, enforce_sorted=False
            )
            _, h = self.rnn(packed)
            return self.out(torch.cat([h[0], h[1]], 1))

    return case(Plural(), (w, y), lr=1e-2, opt=optim.Adam, epochs=5, bs=64, n=1280)


@situation
def matrix_product_state():
    "a tensor network as in many-body physics: twenty sites, bond dimension six, the class sits on the middle site"
    n, sites, bond, k = 1536, 20, 6, 5
    proto = (torch.rand(k, sites) < 0.5).float()
    y = torch.randint(k, (n,))
    x = (0.15 + 0.7 * proto[y] + 0.4 * torch.randn(n, sites)).clamp(0, 1)

    class MPS(nn.Module):
        def __init__(self):
            super().__init__()
            self.cores = nn.Parameter(
                torch.eye(bond).repeat(sites, 2, 1, 1) + 0.15 * torch.randn(sites, 2, bond, bond)
            )
            self.middle = nn.Parameter(torch.randn(k, bond, bond) / bond)
            self.register_buffer('edge', torch.ones(bond) / bond**0.5)

        def forward(self, x):
            phi = torch.stack([(math.pi / 2 * x).cos(), (math.pi / 2 * x).sin()], 2)
            m = torch.einsum('nsf,sfab->snab', phi, self.cores)
            l = r = self.edge.expand(len(x), -1)
            for i in range(sites // 2):
                l = torch.einsum('na,nab->nb', l, m[i])
                r = torch.einsum('nab,nb->na', m[-1 - i], r)
                l, r = F.normalize(l, dim=1), F.normalize(r, dim=1)
            return 4 * torch.einsum('na,kab,nb->nk', l, self.middle, r)

    return case(MPS(), (x, y), lr=1e-2, epochs=6, bs=64)


@situation
def pollen_grains():
    "grains that lie in any orientation: convolutions over the group of quarter turns (p4), no augmentation"
    n = 1152
    glyph = torch.sign(torch.randn(4, 5, 5))
    y, img = torch.randint(4, (n,)), 0.7 * torch.randn(n, 1, 12, 12)
    for i in range(n):
        a, b, q = random.randrange(8), random.randrange(8), random.randrange(4)
        img[i, 0, a : a + 5, b : b + 5] += torch.rot90(glyph[y[i]], q)

    class Lift(nn.Module):
        def __init__(self, no):
            super().__init__()
            self.w = nn.Parameter(torch.randn(no, 1, 5, 5) * (2 / 25) ** 0.5)

        def forward(self, x):
            return torch.stack([F.conv2d(x, torch.rot90(self.w, q, (2, 3)), padding=1) for q in range(4)], 2)

    class GroupConv(nn.Module):
        def __init__(self, ni, no):
            super().__init__()
            self.w = nn.Parameter(torch.randn(no, ni, 4, 3, 3) * (2 / (ni * 36)) ** 0.5)

        def forward(self, x):
            turned = [torch.rot90(self.w, q, (3, 4)).roll(q, 2).flatten(1, 2) for q in range(4)]
            return torch.stack([F.conv2d(x.flatten(1, 2), w) for w in turned], 2)

    class Pool(nn.Module):
        def forward(self, x):
            return x.amax((2, 3, 4))

    net = nn.Sequential(
        Lift(8),
        nn.BatchNorm3d(8),
        nn.ReLU(),
        GroupConv(8, 12),
        nn.BatchNorm3d(12),
        nn.ReLU(),
        Pool(),
        nn.Linear(12, 4),
    )
    return case(net, (img, y), lr=1e-2, opt=optim.Adam, epochs=4, bs=32, n=896)


@situation
def event_camera():
    "a cloud of sixty events (place, time, polarity): six learned queries read it twice, which way did the edge move?"
    n, m = 1408, 60
    y = torch.randint(4, (n,))
    t = torch.rand(n, m)
    ang = (y * math.pi / 2)[:, None]
    along, across = (
        (2 * t - 1) * (0.6 + 0.4 * torch.rand(n, 1)) + 0.1 * torch.randn(n, m),
        2 * torch.rand(n, m) - 1,
    )
    px, py = along * ang.cos() - across * ang.sin(), along * ang.sin() + across * ang.cos()
    stray = torch.rand(n, m) < 0.5
    px[stray] = 2 * torch.rand(int(stray.sum())) - 1
    py[stray] = 2 * torch.rand(int(stray.sum())) - 1
    x = torch.stack([px, py, 2 * t - 1, torch.sign(torch.randn(n, m))], 2)

    class Perceiver(nn.Module):
        def __init__(self, dim=24, latents=6):
            super().__init__()
            self.embed = nn.Sequential(nn.Linear(4, dim), nn.GELU(), nn.Linear(dim, dim))
            self.latents = nn.Parameter(0.3 * torch.randn(latents, dim))
            self.read = nn.MultiheadAttention(dim, 2, batch_first=True)
            self.n1, self.n2, self.n3 = (nn.LayerNorm(dim) for _ in range(3))
            self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
            self.classify = nn.Linear(dim, 4)

        def forward(self, x):
            e = self.n3(self.embed(x))
            z = self.latents.expand(len(x), -1, -1)
            for _ in range(2):
                z = z + self.read(self.n1(z), e, e, need_weights=False)[0]
                z = z + self.mlp(self.n2(z))
            return self.classify(z.mean(1))

    return case(
        Perceiver(), (x, y), lr=3e-3, opt=partial(optim.AdamW, weight_decay=0.01), epochs=4, bs=32, n=1024
    )


@situation
def equilibrium_layer():
    "a layer defined by its fixed point: ten steps without gradient, one with (Jacobian-free); clusters of three classes"
    n = 2048
    centres = 1.4 * torch.randn(9, 12)
    c = torch.randint(9, (n,))
    x, y = (centres[c] + torch.randn(n, 12)) / 1.8, c % 3

    class Equilibrium(nn.Module):
        def __init__(self, ni=12, h=40):
            super().__init__()
            self.inject, self.again = nn.Linear(ni, h), nn.Linear(h, h, bias=False)
            nn.init.orthogonal_(self.again.weight, 0.7)
            self.out = nn.Linear(h, 3)

        def step(self, z, u):
            return torch.tanh(self.again(z) + u)

        def forward(self, x):
            u = self.inject(x)
            z = torch.zeros_like(u)
            with torch.no_grad():
                for _ in range(10):
                    z = self.step(z, u)
            return self.out(self.step(z, u))

    return case(Equilibrium(), (x, y), lr=7e-3, epochs=6, bs=48, n=1536)


@situation
def taxonomy():
    "twelve species of four genera: the log probability of the genus plus that of the species within it; SGD with momentum, warm-up"
    from torch.optim.lr_scheduler import LambdaLR

    n = 2048
    genus, own = 1.2 * torch.randn(4, 18), torch.randn(12, 18)
    y = torch.randint(12, (n,))
    x = (genus[y // 3] + own[y] + torch.randn(n, 18)) / 2

    class TwoLevels(nn.Module):
        def __init__(self, h=48):
            super().__init__()
            self.genus, self.species = nn.Linear(h, 4), nn.Linear(h, 12)

        def forward(self, z):
            g, s = F.log_softmax(self.genus(z), 1), F.log_softmax(self.species(z).view(-1, 4, 3), 2)
            return (g[:, :, None] + s).flatten(1)

    net = nn.Sequential(
        nn.Linear(18, 48), nn.LeakyReLU(0.1), nn.Linear(48, 48), nn.LeakyReLU(0.1), TwoLevels()
    )
    return case(net, (x, y), lr=0.05, opt=partial(optim.SGD, momentum=0.9), epochs=5, bs=64, n=1536) | dict(
        cbs=[BatchSchedCB(partial(LambdaLR, lr_lambda=lambda i: min(1.0, (i + 1) / 20)))]
    )


@situation
def crowd_annotators():
    "labels by ten annotators of different skill; a confusion matrix for each of them is learned behind the classifier"
    n, k, who = 2304, 4, 10
    x, y = blobs(k, 12, n)
    a = torch.randint(who, (n,))
    skill = torch.linspace(0.7, 1, who)
    bad, swap = torch.rand(n) > skill[a], torch.tensor([1, 0, 2, 3])
    seen = torch.where(
        bad, torch.randint(k, (n,)), torch.where(a < 2, swap[y], y)
    )  # two of them take 0 for 1

    class Crowd(nn.Module):
        def __init__(self):
            super().__init__()
            self.base = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, k))
            self.confusion = nn.Parameter(2.5 * torch.eye(k).repeat(who, 1, 1))

        def forward(self, x, a):
            truth, says = F.log_softmax(self.base(x), 1), F.log_softmax(self.confusion[a], 2)
            return torch.logsumexp(truth[:, :, None] + says, 1)

    return case(Crowd(), (x, a, seen), lr=2e-2, epochs=5, bs=64, n=1792)


@situation
def letters_to_sounds():
    "a sound for each letter from a window of seven letters, one hidden layer of sigmoids, as in 1987"
    n, ln, k = 896, 14, 10
    w = torch.randint(16, (n, ln))
    table = torch.randint(k, (16, 2, 2))
    pad = F.pad(w, (1, 1), value=0)
    y = table[w, (pad[:, :-2] < 6).long(), (pad[:, 2:] < 6).long()]

    class Window(nn.Module):
        def forward(self, w):
            o = F.pad(F.one_hot(w, 16).float(), (0, 0, 3, 3))
            return o.unfold(1, 7, 1).flatten(2)

    class PlacesLast(nn.Module):
        def forward(self, x):
            return x.transpose(1, 2)

    net = nn.Sequential(Window(), nn.Linear(7 * 16, 60), nn.Sigmoid(), nn.Linear(60, k), PlacesLast())
    nn.init.normal_(net[1].weight, std=0.6)
    nn.init.zeros_(net[3].bias)
    return case(
        net, (w, y), kind='words', lr=1.0, opt=partial(optim.SGD, momentum=0.9), epochs=8, bs=16, n=704
    )


@situation
def sudoku():
    "sudoku of four by four: the cells tell those of their row, column and box what they hold, four rounds; given cells count nothing"
    n = 1280
    base = torch.tensor([[0, 1, 2, 3], [2, 3, 0, 1], [1, 0, 3, 2], [3, 2, 1, 0]])
    grids = []
    for _ in range(n):
        order = lambda: [2 * b + i for b in random.sample([0, 1], 2) for i in random.sample([0, 1], 2)]
        g = torch.randperm(4)[base[order()][:, order()]]
        grids.append((g.T if random.random() < 0.5 else g).flatten())
    g = torch.stack(grids)
    given = torch.rand(n, 16) < 0.55
    x, y = torch.where(given, g + 1, 0), torch.where(given, -100, g)
    r, c = torch.arange(16) // 4, torch.arange(16) % 4
    near = [(v[:, None] == v).float() - torch.eye(16) for v in (r, c, r // 2 * 2 + c // 2)]

    class Solver(nn.Module):
        def __init__(self, h=24):
            super().__init__()
            self.cell, self.start = nn.Embedding(5, h), nn.Linear(h, h)
            self.tell, self.gru, self.digit = nn.Linear(h, h), nn.GRUCell(3 * h, h), nn.Linear(h, 4)
            self.register_buffer('near', torch.stack(near))

        def forward(self, x):
            h = torch.tanh(self.start(self.cell(x)))
            for _ in range(4):
                m = torch.einsum('kij,njd->nikd', self.near, F.relu(self.tell(h))).flatten(2)
                h = self.gru(m.flatten(0, 1), h.flatten(0, 1)).view_as(h)
            return self.digit(h).transpose(1, 2)

    return case(Solver(), (x, y), kind='words', lr=5e-3, epochs=4, bs=32, n=1024)


@situation
def maze_flood():
    "where does the water run? a cellular automaton with eight hidden channels, learned, runs seven steps; walls, wet and dry cells"
    n, s = 768, 8
    wall = (torch.rand(n, s, s) < 0.35).float()
    wet = torch.zeros(n, s, s)
    i = torch.randint(s, (n, 2))
    wet[torch.arange(n), i[:, 0], i[:, 1]] = 1
    wall = wall * (1 - wet)
    spring = wet.clone()
    for _ in range(6):
        wet = F.conv2d(
            F.pad(wet, (1, 1, 1, 1))[:, None], torch.tensor([[[[0.0, 1, 0], [1, 1, 1], [0, 1, 0]]]])
        )[:, 0].clamp(max=1) * (1 - wall)
    x, y = torch.stack([wall, spring], 1), torch.where(wall > 0, 0, 2 - wet.long())

    class Automaton(nn.Module):
        def __init__(self, ch=8):
            super().__init__()
            self.ch, self.look, self.change, self.read = (
                ch,
                nn.Conv2d(ch + 2, 20, 3, padding=1),
                nn.Conv2d(20, ch, 1),
                nn.Conv2d(ch + 2, 3, 1),
            )
            nn.init.normal_(self.change.weight, std=0.05)
            nn.init.zeros_(self.change.bias)

        def forward(self, x):
            h = x.new_zeros(len(x), self.ch, *x.shape[2:])
            for _ in range(7):
                h = h + self.change(F.relu(self.look(torch.cat([h, x], 1))))
            return self.read(torch.cat([h, x], 1))

    return case(Automaton(), (x, y), kind='pixels', lr=1e-2, epochs=4, bs=32, n=640)


@situation
def lidar_rings():
    "range images of a laser scanner that turns: free, car, pole or kerb; padded around the circle, AdamW and exponential decay"
    from torch.optim.lr_scheduler import ExponentialLR

    n, h, w = 480, 6, 36
    y, dist = (
        torch.zeros(n, h, w, dtype=torch.long),
        (10 + 3 * torch.arange(h).float())[None, :, None].repeat(n, 1, w),
    )
    for i in range(n):
        for kind, wide, high in ((1, 7, 3), (2, 1, 6), (3, 12, 1)):
            for _ in range(random.randrange(1, 3)):
                a, d, b = random.randrange(w), 4 + 5 * random.random(), random.randrange(h - high + 1)
                cols = [(a + j) % w for j in range(wide)]
                y[i, b : b + high, cols], dist[i, b : b + high, cols] = kind, d
    x = torch.stack(
        [
            (dist + 0.4 * torch.randn(n, h, w) - 14) / 6,
            dist.mean(1, keepdim=True).expand(-1, h, -1) / 6 - 2.3,
        ],
        1,
    )

    class Ring(nn.Module):
        def __init__(self, ni, no, ks=5):
            super().__init__()
            self.c, self.p = nn.Conv2d(ni, no, (3, ks)), ks // 2

        def forward(self, x):
            return self.c(F.pad(F.pad(x, (self.p, self.p, 0, 0), mode='circular'), (0, 0, 1, 1)))

    net = nn.Sequential(
        Ring(2, 12), nn.ReLU(), Ring(12, 16), nn.ReLU(), Ring(16, 12), nn.ReLU(), nn.Conv2d(12, 4, 1)
    )
    return case(
        net,
        (x, y),
        kind='pixels',
        lr=1e-2,
        opt=partial(optim.AdamW, weight_decay=0.02),
        epochs=4,
        bs=16,
        n=384,
    ) | dict(cbs=[BatchSchedCB(partial(ExponentialLR, gamma=0.99))])


@situation
def narma_reservoir():
    "a fixed random reservoir of eighty units (echo state net), its readout alone is trained; one nonlinear memory of the past inputs"
    n, T = 1536, 24
    u = torch.rand(n, T)
    y = 1.5 * u[:, -2] * u[:, -5] + 0.6 * u[:, -3] + 0.4 * u[:, -8] ** 2 + 0.05 * torch.randn(n)
    y = (y - y.mean()) / y.std()

    class Reservoir(nn.Module):
        def __init__(self, h=80, radius=0.8):
            super().__init__()
            w = torch.randn(h, h) * (torch.rand(h, h) < 0.1)
            self.register_buffer('w', w * radius / torch.linalg.eigvals(w).abs().max())
            self.register_buffer('w_in', (torch.rand(h, 2) - 0.5) * 1.2)

        @torch.no_grad()
        def forward(self, u):
            z = u.new_zeros(len(u), len(self.w))
            for t in range(u.shape[1]):
                z = torch.tanh(
                    z @ self.w.T + torch.stack([u[:, t] - 0.5, torch.ones_like(u[:, t])], 1) @ self.w_in.T
                )
            return torch.cat([z, z * z], 1)

    res = Reservoir()
    net = nn.Sequential(res, nn.BatchNorm1d(160, affine=False), nn.Linear(160, 1))
    nn.init.zeros_(net[2].weight)
    return case(net, (u, y[:, None]), F.mse_loss, 'number', lr=5e-3, epochs=6, bs=32)


@situation
def pharmacokinetics():
    "drug in the blood over time: a net says how fast a patient takes it up and clears it, the one-compartment formula does the rest"
    n, t = 1536, torch.tensor([0.25, 0.5, 1, 2, 4, 6, 9, 12])
    x = torch.randn(n, 5)

    def curve(ka, ke, v):
        return torch.log(ka / (v * (ka - ke)) * (torch.exp(-ke * t) - torch.exp(-ka * t)) + 1e-4)

    ke = 0.2 * torch.exp(0.4 * x[:, :1] - 0.4 * x[:, 1:2].abs() + 0.2 * x[:, 2:3] * x[:, 0:1]).clamp(max=3)
    v = torch.exp(0.4 * x[:, 3:4] + 0.2 * x[:, 4:5])
    y = curve(ke + torch.exp(0.3 * x[:, 2:3] + 0.2), ke, v) + 0.1 * torch.randn(n, 8)
    at = y.mean(0)

    class Compartment(nn.Module):
        def forward(self, p):
            ke = 0.2 * torch.exp(p[:, :1].clamp(-4, 4))
            ka = ke + F.softplus(p[:, 1:2]) + 1e-2
            return curve(ka, ke, torch.exp(p[:, 2:3].clamp(-5, 5))) - at

    net = nn.Sequential(
        nn.Linear(5, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 3), Compartment()
    )
    return case(net, (x, y - at), F.mse_loss, 'number', lr=2e-2, opt=optim.RAdam, epochs=5, bs=32)


@situation
def lista():
    "sparse codes from compressed measurements: five unrolled steps of ISTA whose matrices and thresholds are learned"
    n, m, k = 1664, 20, 32
    A = F.normalize(torch.randn(m, k), dim=0)
    z = torch.randn(n, k) * (torch.rand(n, k) < 0.1) * 3
    x = z @ A.T + 0.05 * torch.randn(n, m)

    class Unrolled(nn.Module):
        def __init__(self, steps=5):
            super().__init__()
            L = torch.linalg.matrix_norm(A, 2) ** 2 * 1.05
            self.We, self.S = nn.Parameter(A.T / L), nn.Parameter(torch.eye(k) - A.T @ A / L)
            self.theta = nn.Parameter(torch.full((steps, k), 0.1))

        def forward(self, x):
            b = x @ self.We.T
            h = torch.zeros_like(b)
            for th in self.theta:
                v = b + h @ self.S.T
                h = v.sign() * F.relu(v.abs() - th.abs())
            return h

    return case(Unrolled(), (x, z), F.mse_loss, 'number', lr=3e-3, epochs=6, bs=32, n=1280)


@situation
def used_cars():
    "log prices of used cars: each column as a piecewise linear code over quantiles, residual blocks, absolute error, half-cosine decay"
    from torch.optim.lr_scheduler import CosineAnnealingLR

    n, c, bins = 2048, 7, 8
    x = torch.randn(n, c)
    x[:, 0], x[:, 1] = x[:, 0].exp(), x[:, 1].abs() ** 1.5
    x[:, 2] = torch.rand(n) * 3
    y = (
        torch.sin(2 * x[:, 2])
        - 0.9 * x[:, 0].log1p()
        + 0.5 * (x[:, 3] > 0.3)
        + 0.6 * x[:, 4] * (x[:, 1] > 0.6)
        + 0.15 * torch.randn(n)
    )
    y = ((y - y.mean()) / y.std())[:, None]

    class Pieces(nn.Module):
        def __init__(self):
            super().__init__()
            q = torch.quantile(x[:1536], torch.linspace(0, 1, bins + 1), dim=0).T
            self.register_buffer('lo', q[:, :-1])
            self.register_buffer('wide', q[:, 1:] - q[:, :-1] + 1e-3)

        def forward(self, x):
            return ((x[:, :, None] - self.lo) / self.wide).clamp(0, 1).flatten(1) - 0.5

    class Block(nn.Module):
        def __init__(self, h):
            super().__init__()
            self.n, self.a, self.b = nn.LayerNorm(h), nn.Linear(h, 2 * h), nn.Linear(2 * h, h)

        def forward(self, h):
            return h + self.b(F.relu(self.a(self.n(h))))

    net = nn.Sequential(
        Pieces(), nn.Linear(c * bins, 28), Block(28), Block(28), nn.LayerNorm(28), nn.Linear(28, 1)
    )
    return case(
        net,
        (x, y),
        F.l1_loss,
        'number',
        lr=5e-3,
        opt=partial(optim.AdamW, weight_decay=0.05),
        epochs=6,
        bs=64,
        n=1536,
    ) | dict(cbs=[BatchSchedCB(partial(CosineAnnealingLR, T_max=144))])


@situation
def fuzzy_rules():
    "a neuro-fuzzy controller: twelve rules with Gaussian memberships, normalised, each with a linear answer; Adamax"
    n = 1792
    x = 2 * torch.rand(n, 3) - 1
    p = math.pi
    y = (
        torch.sin(p * x[:, 0]) * (x[:, 1] > 0)
        + x[:, 2] * x[:, 1]
        - 0.5 * x[:, 0] * (x[:, 1] <= 0)
        + 0.1 * torch.randn(n)
    )

    class Rules(nn.Module):
        def __init__(self, r=12, ni=3):
            super().__init__()
            self.centre, self.log_width = (
                nn.Parameter(x[torch.randperm(1280)[:r]].clone()),
                nn.Parameter(torch.full((r, ni), math.log(0.5))),
            )
            self.answer = nn.Linear(ni, r)

        def forward(self, x):
            fire = -0.5 * (((x[:, None] - self.centre) / self.log_width.exp()) ** 2).sum(2)
            return (F.softmax(fire, 1) * self.answer(x)).sum(1, keepdim=True)

    return case(
        Rules(),
        (x, 1.6 * y[:, None]),
        F.mse_loss,
        'number',
        lr=5e-2,
        opt=optim.Adamax,
        epochs=8,
        bs=32,
        n=1280,
    )


@situation
def colony_counts():
    "how many colonies are on a dish? a density over the image is summed, Poisson likelihood of the count"
    n, s = 1024, 14
    k = torch.poisson(torch.full((n,), 2.0).exp() * torch.rand(n) * 1.2).clamp(max=20)
    g = torch.arange(s).float()
    x = torch.zeros(n, 1, s, s)
    for i in range(n):
        m = int(k[i])
        if m:
            c = torch.rand(m, 2) * (s - 2) + 0.5
            x[i, 0] = torch.exp(
                -((g[:, None] - c[:, 0]) ** 2)[:, None] / 1.2 - ((g[:, None] - c[:, 1]) ** 2)[None] / 1.2
            ).sum(2)
    x = x + 0.15 * torch.randn_like(x)

    class Density(nn.Module):
        def __init__(self, ch=10):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, ch, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(ch, ch, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(ch, 1, 1),
            )
            nn.init.constant_(self.body[-1].bias, -3.5)

        def forward(self, x):
            return F.softplus(self.body(x)).sum((1, 2, 3))[:, None]

    def poisson(p, y):
        return F.poisson_nll_loss(p, y, log_input=False, full=True)

    return case(Density(), (x, k[:, None]), poisson, 'count', lr=5e-3, epochs=5, bs=32, n=768)


@situation
def chirps():
    "is there a chirp, as of two merging stars, in the noise? a bank of learned filters, the greatest energy of each, one logit"
    n, L = 1792, 96
    t = torch.arange(24.0) / 24
    y, x = (torch.rand(n, 1) < 0.5).float(), torch.randn(n, 1, L)
    chirp = torch.sin(6.28 * (1.5 * t + 3 * t**3)) * (0.4 + t)
    glitch = torch.sin(6.28 * 5 * t) * torch.exp(-10 * (t - 0.5) ** 2)
    for i in range(n):
        a = random.randrange(L - 24)
        x[i, 0, a : a + 24] += random.choice([-1, 1]) * (1.7 * chirp if y[i] else 1.5 * glitch)

    class Bank(nn.Module):
        def __init__(self, k=12, ks=21):
            super().__init__()
            self.f = nn.Conv1d(1, k, ks, bias=False)

        def forward(self, x):
            e = self.f(x / 1.2) ** 2
            return torch.log1p(F.avg_pool1d(e, 4, 2).amax(2))

    net = nn.Sequential(Bank(), nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 1))
    return case(net, (x, y), F.binary_cross_entropy_with_logits, 'yes', lr=7e-3, epochs=5, bs=32, n=1280)


@situation
def noisy_or():
    "a symptom's chance from sixteen diagnoses, each of which may cause it by itself (noisy or), with two shared modifiers"
    n = 2048
    d = (torch.rand(n, 16) < 0.13).float()
    m = torch.randn(n, 2)
    q = torch.zeros(16)
    q[:6] = torch.tensor([3.0, 2.5, 2, 2, 1.5, 3])
    harm = (d * q).sum(1, keepdim=True) * torch.exp(0.5 * m[:, :1]) + 0.03
    y = (torch.rand(n, 1) < 1 - torch.exp(-harm)).float()

    class NoisyOr(nn.Module):
        def __init__(self):
            super().__init__()
            self.cause, self.modify = (
                nn.Parameter(torch.full((16,), -1.0) + 0.1 * torch.randn(16)),
                nn.Linear(2, 1),
            )
            self.leak = nn.Parameter(torch.tensor(-2.5))
            nn.init.zeros_(self.modify.bias)

        def forward(self, x):
            rate = (x[:, :16] @ F.softplus(self.cause))[:, None] * torch.exp(
                self.modify(x[:, 16:]).clamp(-3, 3)
            ) + F.softplus(self.leak)
            return (1 - torch.exp(-rate)).clamp(1e-5, 1 - 1e-5)

    return case(
        NoisyOr(),
        (torch.cat([d, m], 1), y),
        F.binary_cross_entropy,
        'probability',
        lr=5e-2,
        epochs=5,
        bs=64,
        n=1536,
    )


@situation
def inverse_kinematics():
    "angles of an arm of three links that bring its hand to a goal; the error is that of the hand (forward kinematics in the loss)"
    n, link = 1536, torch.tensor([1.0, 0.8, 0.5])
    r, a = (0.6 + 1.5 * torch.rand(n)), math.pi * (torch.rand(n) - 0.5)
    goal = torch.stack([r * a.cos(), r * a.sin()], 1)

    def hand(q):
        s = q.cumsum(1)
        return torch.stack([(link * s.cos()).sum(1), (link * s.sin()).sum(1)], 1)

    def miss(q, goal):
        return ((hand(q) - goal) ** 2).sum(1).mean() + 1e-3 * (q**2).mean()

    net = nn.Sequential(nn.Linear(2, 40), nn.ELU(), nn.Linear(40, 40), nn.ELU(), nn.Linear(40, 3))
    nn.init.uniform_(net[-1].bias, 0.2, 0.6)
    return case(net, (goal, goal.clone()), miss, 'other', lr=8e-3, opt=optim.NAdam, epochs=6, bs=32)


@situation
def deep_hedging():
    "a bank hedges a call over ten days: a net gives each day's holding, the loss is the squared rest of payoff, premium and trades"
    n, T = 1536, 10
    ret = 0.05 * torch.randn(n, T)
    S = torch.cat([torch.ones(n, 1), torch.exp(ret.cumsum(1) - 0.00125 * torch.arange(1, T + 1))], 1)
    payoff = 10 * F.relu(S[:, -1:] - 1)
    dS = 10 * (S[:, 1:] - S[:, :-1])

    class Hedge(nn.Module):
        def __init__(self):
            super().__init__()
            self.hold = nn.Sequential(
                nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 1)
            )
            self.premium = nn.Parameter(torch.zeros(1))
            self.register_buffer('left', torch.linspace(1, -1, T))

        def forward(self, s):
            f = torch.stack([s, self.left.expand_as(s)], 2)
            return torch.cat([self.hold(f)[:, :, 0].sigmoid(), self.premium.expand(len(s), 1)], 1)

    def rest(p, dS, payoff):
        return ((payoff - p[:, -1:] - (p[:, :-1] * dS).sum(1, keepdim=True)) ** 2).mean()

    return case(
        Hedge(), ((S[:, :-1] - 1) / 0.11, dS, payoff), rest, 'other', lr=1e-2, epochs=5, bs=32
    ) | dict(n_inp=1)


@situation
def scanner_adversary():
    "tissue from scans of two hospitals, whose scanners must not show in the features: a reversed gradient (domain-adversarial)"
    n = 1792
    x, y = blobs(3, 16, n)
    dom = torch.randint(2, (n,))
    x = x + torch.where(dom[:, None] > 0, 0.5, -0.5) * torch.sign(torch.randn(16)) * (torch.arange(16) < 6)

    class Reverse(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, g):
            return -0.6 * g

    class DANN(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Linear(16, 40), nn.ReLU(), nn.Linear(40, 24), nn.ReLU())
            self.tissue, self.scanner = (
                nn.Linear(24, 3),
                nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 2)),
            )

        def forward(self, x):
            f = self.features(x)
            return torch.cat([self.tissue(f), self.scanner(Reverse.apply(f))], 1)

    def both(p, dom, y):
        return F.cross_entropy(p[:, :3], y) + F.cross_entropy(p[:, 3:], dom)

    return case(DANN(), (x, dom, y), both, 'other', lr=2e-3, epochs=5, bs=64, n=1280) | dict(n_inp=1)


@situation
def deep_kernel():
    "a Gaussian process over learned features: the marginal likelihood of each batch, with its length, scale and noise"
    n = 1536
    x = torch.randn(n, 8)
    y = torch.sin(1.5 * x[:, :1] + x[:, 1:2]) + 0.5 * x[:, 2:3].abs() - 0.4 + 0.15 * torch.randn(n, 1)

    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Linear(8, 40), nn.Tanh(), nn.Linear(40, 20), nn.Tanh(), nn.Linear(20, 2)
            )
            self.log_scale, self.log_noise = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.tensor([-1.0]))

        def forward(self, x):
            return torch.cat(
                [self.body(x), self.log_scale.expand(len(x), 1), self.log_noise.expand(len(x), 1)], 1
            )

    def marginal(p, y):
        z, s, e = p[:, :2], p[:, 2].mean().clamp(-5, 5), p[:, 3].mean().clamp(-5, 5)
        d = (z[:, None] - z[None]).square().sum(2)
        L = torch.linalg.cholesky_ex(
            (2 * s).exp() * torch.exp(-0.5 * d) + ((2 * e).exp() + 1e-3) * torch.eye(len(p))
        )[0]
        w = torch.linalg.solve_triangular(L, y, upper=False)
        return 0.5 * (w * w).mean() + L.diagonal().log().mean() + 0.919

    return case(Features(), (x, y), marginal, 'other', lr=2e-2, epochs=6, bs=64)


@situation
def physics_informed():
    "a decay with a force, for any rate and frequency: the net's own derivative put into the equation is to give the force"
    n = 1536
    t, k, w = 2 * torch.rand(n, 1), 0.5 + 2 * torch.rand(n, 1), 1 + 3 * torch.rand(n, 1)
    force = 1.5 * torch.cos(w * t) + 0.5 * k

    class Equation(nn.Module):
        def __init__(self, h=32):
            super().__init__()
            self.u = nn.Sequential(nn.Linear(3, h), nn.Tanh(), nn.Linear(h, h), nn.Tanh(), nn.Linear(h, 1))

        def forward(self, x):
            with torch.enable_grad():
                t = x[:, :1].detach().clone().requires_grad_()
                u = 1 + t * self.u(
                    torch.cat([t - 1, x[:, 1:2] - 1.5, (x[:, 2:] - 2.5) / 1.5], 1)
                )  # u(0) = 1 by construction
                return torch.autograd.grad(u.sum(), t, create_graph=True)[0] + x[:, 1:2] * u

    return case(Equation(), (torch.cat([t, k, w], 1), force), F.mse_loss, 'other', lr=1.5e-2, epochs=6, bs=32)


@situation
def toxic_assays():
    "which of six assays does a molecule trip? bits of a fingerprint, half of the answers are missing (nan) and left out; Lion, by hand"

    class Lion(optim.Optimizer):
        def __init__(self, params, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0):
            super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

        @torch.no_grad()
        def step(self, closure=None):
            for g in self.param_groups:
                for p in g['params']:
                    if p.grad is None:
                        continue
                    m = self.state[p].setdefault('m', torch.zeros_like(p))
                    a, b = g['betas']
                    p.mul_(1 - g['lr'] * g['weight_decay']).sub_(g['lr'] * (a * m + (1 - a) * p.grad).sign())
                    m.lerp_(p.grad, 1 - b)

    n = 2304
    bits = (torch.rand(n, 48) < 0.25).float()
    w = torch.randn(48, 6) * (torch.rand(48, 6) < 0.3) * 2.5
    s = bits @ w
    y = (torch.rand(n, 6) < torch.sigmoid(1.5 * (s - s.mean(0)))).float()
    y[torch.rand(n, 6) < 0.5] = math.nan

    def masked(p, y):
        m = y == y
        return F.binary_cross_entropy_with_logits(p[m], y[m])

    net = nn.Sequential(nn.Linear(48, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 6))
    return case(
        net,
        ((bits - 0.25) / 0.43, y),
        masked,
        'other',
        lr=3e-3,
        opt=partial(Lion, weight_decay=0.1),
        epochs=6,
        bs=64,
        n=1792,
    )
