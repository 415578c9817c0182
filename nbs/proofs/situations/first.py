"The first situations, of many kinds"

from functools import partial
import torch, torch.nn.functional as F
from torch import nn, optim
from miniai.data import TensorLoader
from miniai.learner import Callback, TrainLearner
from miniai.schedule import BatchSchedCB
from torch.optim.lr_scheduler import OneCycleLR
from .common import blobs, case, group, mlp

FIRST, situation = group()


@situation
def blobs_adam():
    return case(mlp(20, 4), blobs())


@situation
def blobs_momentum():
    return case(mlp(20, 6), blobs(6), lr=0.05, opt=partial(optim.SGD, momentum=0.9))


@situation
def small_batches():
    return case(mlp(20, 4), blobs(spread=0.6), bs=4, lr=1e-3, epochs=3)


@situation
def one_cycle():
    d = case(mlp(20, 4), blobs(), lr=1e-2)
    d['cbs'] = [BatchSchedCB(partial(OneCycleLR, max_lr=1e-2))]
    return d


@situation
def deep_tanh():
    layers = [o for _ in range(5) for o in (nn.Linear(32, 32), nn.Tanh())]
    return case(nn.Sequential(nn.Linear(20, 32), *layers, nn.Linear(32, 4)), blobs(), lr=2e-3)


def tokens(n=1536, t=12, v=16):
    "Which of two tokens comes more often?"
    x = torch.randint(v, (n, t))
    return x, ((x < 5).sum(1) > (x > 10).sum(1)).long()


class Encoder(nn.Module):
    "With a class token that begins at zero"

    def __init__(self, v=16, d=32, n_out=2):
        super().__init__()
        self.emb, self.pos, self.cls = (
            nn.Embedding(v, d),
            nn.Parameter(torch.randn(13, d) * 0.02),
            nn.Parameter(torch.zeros(1, 1, d)),
        )
        self.enc = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(d, 4, 64, 0.1, 'gelu', batch_first=True), 2
        )
        self.out = nn.Linear(d, n_out)

    def forward(self, x):
        h = torch.cat([self.cls.expand(len(x), 1, -1), self.emb(x)], 1)
        return self.out(self.enc(h + self.pos[: h.shape[1]])[:, 0])


@situation
def class_token():
    return case(Encoder(), tokens(), epochs=8)


def chain(n=768, t=16, v=12):
    "Sequences of a Markov chain"
    p, x = (torch.randn(v, v) * 2).softmax(1), torch.randint(v, (n, 1))
    for _ in range(t):
        x = torch.cat([x, p[x[:, -1]].multinomial(1)], 1)
    return x[:, :-1], x[:, 1:]


def by_word(preds, y):
    return F.cross_entropy(preds.flatten(0, 1), y.flatten())


class CausalLM(nn.Module):
    def __init__(self, v=12, d=32):
        super().__init__()
        self.emb, self.pos, self.out = (
            nn.Embedding(v, d),
            nn.Parameter(torch.randn(16, d) * 0.02),
            nn.Linear(d, v, bias=False),
        )
        self.enc = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(d, 4, 64, 0.0, 'gelu', batch_first=True, norm_first=True), 2
        )
        nn.init.normal_(self.emb.weight, std=0.1)
        self.out.weight = self.emb.weight  # tied

    def forward(self, x):
        return self.out(
            self.enc(
                self.emb(x) + self.pos,
                nn.Transformer.generate_square_subsequent_mask(x.shape[1]),
                is_causal=True,
            )
        )


class RecurrentLM(nn.Module):
    def __init__(self, v=12, d=48):
        super().__init__()
        self.emb, self.rnn, self.out = nn.Embedding(v, d), nn.LSTM(d, d, batch_first=True), nn.Linear(d, v)

    def forward(self, x):
        return self.out(self.rnn(self.emb(x))[0])


@situation
def transformer_lm():
    return case(CausalLM(), chain(), by_word, 'words', n=512, bs=32)


@situation
def lstm_lm():
    return case(RecurrentLM(), chain(), by_word, 'words', n=512, bs=32, lr=1e-2)


class GRUClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(3, 32, batch_first=True), nn.Linear(32, 3)

    def forward(self, x):
        return self.out(self.rnn(x)[0].mean(1))


def waves(n=1536, t=24, c=3):
    y, t = torch.randint(3, (n,)), torch.arange(t) / 4
    return torch.stack(
        [
            ((1 + y[:, None]) * t * 0.7 + 6 * torch.rand(n, 1)).sin() + 0.4 * torch.randn(n, len(t))
            for _ in range(c)
        ],
        2,
    ), y


@situation
def gru():
    return case(GRUClassifier(), waves(), lr=1e-2)


@situation
def conv1d():
    x, y = waves()
    part = lambda i, o: nn.Sequential(nn.Conv1d(i, o, 5, 2, 2), nn.BatchNorm1d(o), nn.ReLU())
    return case(
        nn.Sequential(part(3, 16), part(16, 32), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 3)),
        (x.mT.contiguous(), y),
    )


class UNet(nn.Module):
    def __init__(self):
        super().__init__()

        def part(i, o, s=1):
            return nn.Sequential(nn.Conv2d(i, o, 3, s, 1), nn.GroupNorm(4, o), nn.SiLU())

        self.a, self.b, self.c, self.up, self.out = (
            part(1, 8),
            part(8, 16, 2),
            part(16, 16),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(24, 2, 1),
        )

    def forward(self, x):
        a = self.a(x)
        return self.out(torch.cat([a, self.up(self.c(self.b(a)))], 1))


@situation
def segmentation():
    g = torch.stack(torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing='ij'))
    centre, radius = 4 + 8 * torch.rand(384, 2, 1, 1), 2 + 3 * torch.rand(384, 1, 1)
    y = ((g - centre).square().sum(1).sqrt() < radius).long()
    return case(UNet(), ((y[:, None] + 0.7 * torch.randn(384, 1, 16, 16)), y), kind='pixels', n=256, bs=16)


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.net = nn.Embedding(8, 4), mlp(10, 1)

    def forward(self, cat, x):
        return self.net(torch.cat([self.emb(cat), x], 1))


@situation
def table():
    cat, x = torch.randint(8, (1536,)), torch.randn(1536, 6)
    y = torch.randn(8)[cat] + x[:, 0] * x[:, 1] + x[:, 2] + 0.3 * torch.randn(1536)
    return case(Table(), (cat, x, (y / y.std())[:, None]), F.mse_loss, 'number', epochs=8)


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.out = mlp(20, 16), nn.Linear(16, 1)

    def forward(self, a, b):
        return self.out((self.net(a) - self.net(b)).abs())


@situation
def siamese():
    (x, y), (a, b) = blobs(5, n=3072, spread=1.6), (slice(0, 1536), slice(1536, None))
    j = torch.where(torch.rand(1536) < 0.5, torch.arange(1536), torch.randperm(1536))
    other = torch.stack([x[b][(y[b] == c).nonzero()[:, 0]][0] for c in range(5)])
    twin = torch.where((torch.rand(1536) < 0.5)[:, None], x[b], other[y[a]] + 0.5 * torch.randn(1536, 20))
    same = ((x[a] - twin).square().mean(1) < (x[a] - twin).square().mean(1).median()).float()[:, None]
    return case(Siamese(), (x[a], twin, same), F.binary_cross_entropy_with_logits, 'yes', epochs=8)


@situation
def several_labels():
    x = torch.randn(1536, 20)
    return case(
        mlp(20, 5), (x, (x @ torch.randn(20, 5) > 1).float()), F.binary_cross_entropy_with_logits, 'yes'
    )


@situation
def sigmoid_bce():
    x = torch.randn(1536, 20)
    return case(
        mlp(20, 1, 64, nn.ReLU, nn.Sigmoid()),
        (x, (x @ torch.randn(20, 1) > 0).float()),
        F.binary_cross_entropy,
        'probability',
        epochs=8,
    )


@situation
def heavy_tails():
    x = torch.randn(1536, 10)
    noise = torch.distributions.StudentT(1.6).sample((1536, 1))
    return case(
        mlp(10, 1), (x, x[:, :1] - x[:, 1:2].abs() + 0.3 * noise), F.huber_loss, 'number', lr=2e-3, noise=True
    )


@situation
def noisy_numbers():
    x = torch.randn(1536, 10)
    return case(
        mlp(10, 1, 32),
        (x, 0.5 * x[:, :1] + torch.randn(1536, 1)),
        F.mse_loss,
        'number',
        bs=32,
        lr=2e-3,
        noise=True,
    )


@situation
def rare_class():
    x = torch.randn(3072, 10)
    return case(mlp(10, 2), (x, (x[:, 0] + x[:, 1] > 2.2).long()), n=2048, epochs=5)


@situation
def counts():
    x = torch.randn(1536, 8)
    return case(
        mlp(8, 1), (x, torch.poisson((0.8 * x[:, :1] + 0.5).exp())), F.poisson_nll_loss, 'count', lr=2e-3
    )


class VAE(nn.Module):
    def __init__(self, d=20, z=4):
        super().__init__()
        self.enc, self.dec = mlp(d, 2 * z), mlp(z, d)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        return self.dec(mu + (logvar / 2).exp() * torch.randn_like(mu)), mu, logvar


def elbo(preds, y):
    out, mu, logvar = preds
    return F.mse_loss(out, y) - 0.01 * (1 + logvar - mu.square() - logvar.exp()).mean()


@situation
def vae():
    x = blobs(spread=1.5)[0]
    return case(VAE(), (x, x), elbo, 'other')


@situation
def autoencoder():
    x = blobs(spread=1.5)[0]
    return case(nn.Sequential(mlp(20, 4), mlp(4, 20)), (x, x), F.mse_loss, 'number')


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.g, self.d = mlp(8, 2), mlp(2, 1, 64, partial(nn.LeakyReLU, 0.2))


class GAN(TrainLearner):
    "Two optimizers, and a step of one's own"

    def before_fit(self):
        self.opts = [optim.Adam(m.parameters(), 1e-3, betas=(0.5, 0.9)) for m in (self.model.g, self.model.d)]

    def predict(self):
        self.preds = self.model.g(torch.randn(len(self.inputs[0]), 8))

    def get_loss(self):
        d, real, one = self.model.d, self.inputs[0], torch.ones(len(self.inputs[0]), 1)
        bce = F.binary_cross_entropy_with_logits
        self.loss_d = bce(d(real), one) + bce(d(self.preds.detach()), 0 * one)
        self.loss = bce(d(self.preds), one)

    def backward(self):
        self.loss.backward()
        self.model.d.zero_grad()
        self.loss_d.backward()

    def step(self):
        for o in self.opts:
            o.step()

    def zero_grad(self):
        for o in self.opts:
            o.zero_grad()


@situation
def gan():
    a = 6.3 * torch.rand(1536)
    d = case(
        Pair(),
        (torch.stack([a.sin(), a.cos()], 1) + 0.05 * torch.randn(1536, 2), torch.zeros(1536)),
        F.mse_loss,
        'other',
    )
    return {**d, 'learner': GAN}


class GraphNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(4, 32), nn.Linear(32, 32), nn.Linear(32, 2)

    def forward(self, adj, x):
        return self.out((adj @ self.b((adj @ self.a(x)).relu())).relu().mean(1))


@situation
def graphs():
    adj, x = (torch.rand(1536, 10, 10) < torch.rand(1536, 1, 1)).float(), torch.randn(1536, 10, 4)
    adj = ((adj + adj.mT + torch.eye(10)) > 0).float()
    y = (adj.mean((1, 2)) + 0.05 * torch.randn(1536) > 0.7).long()
    return case(GraphNet(), (adj / 10, x * 0.1 + 1, y))


@situation
def forecast():
    t, f = torch.arange(25.0), 0.2 + 0.4 * torch.rand(1536, 1)
    s = (f * t + 6 * torch.rand(1536, 1)).sin() + 0.1 * torch.randn(1536, 25)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.LSTM(1, 32, batch_first=True), nn.Linear(32, 1)

        def forward(self, x):
            return self.out(self.rnn(x)[0][:, -1])

    return case(Net(), (s[:, :24, None], s[:, 24:]), F.mse_loss, 'number', lr=1e-2)


class Agent(TrainLearner):
    "A policy that is rewarded for the right arm (REINFORCE)"

    def get_loss(self):
        dist = torch.distributions.Categorical(logits=self.preds)
        arm = dist.sample()
        reward = (arm == self.targets[0]).float()
        self.loss = -(dist.log_prob(arm) * (reward - reward.mean())).mean()


@situation
def bandit():
    return {**case(mlp(20, 4), blobs(spread=1.5), kind='other', epochs=10), 'learner': Agent}


def pictures(n=1280):
    "Two bars, across or down, in noise"
    x, y = torch.randn(n, 1, 12, 12) * 0.5, torch.randint(4, (n,))
    for i in range(n):
        a = 2 + 6 * int(y[i] % 2)
        (x[i, 0, a : a + 2] if y[i] < 2 else x[i, 0, :, a : a + 2]).add_(1.0)
    return x, y


class ZeroBranch(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.f = nn.Sequential(
            nn.Conv2d(c, c, 3, padding=1),
            nn.BatchNorm2d(c),
            nn.ReLU(),
            nn.Conv2d(c, c, 3, padding=1),
            nn.BatchNorm2d(c),
        )
        nn.init.zeros_(self.f[4].weight)

    def forward(self, x):
        return (x + self.f(x)).relu()


def resnet():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1),
        ZeroBranch(16),
        ZeroBranch(16),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(144, 4),
    )


@situation
def zero_branches():
    return case(resnet(), pictures(), lr=0.05, opt=partial(optim.SGD, momentum=0.9), epochs=4)


def pretrained(make, data, epochs=6):
    d = case(make, data)
    TrainLearner(
        d['model'], [TensorLoader(*d['train'], bs=64, shuffle=True)], d['loss'], lr=3e-3, opt_func=optim.Adam
    ).fit(epochs, valid=False)
    return d['model']


@situation
def fine_tuning():
    data = blobs()
    return case(pretrained(mlp(20, 4), data), (data[0] + 0.1, data[1]), lr=1e-4)


@situation
def frozen_backbone():
    x, y = blobs(8)
    body = pretrained(
        nn.Sequential(
            nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)
        ),
        (x, y),
    )[:-1]
    body.requires_grad_(False)
    return case(nn.Sequential(body, nn.Linear(64, 2)), (x, y % 2), lr=1e-2)


class Lora(nn.Module):
    def __init__(self, base, r=4):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a, self.b = (
            nn.Linear(base.in_features, r, bias=False),
            nn.Linear(r, base.out_features, bias=False),
        )
        nn.init.zeros_(self.b.weight)

    def forward(self, x):
        return self.base(x) + self.b(self.a(x))


@situation
def adapters():
    x, y = blobs(4)
    m = pretrained(mlp(20, 4), (x, y))
    for i in (0, 2):
        m[i] = Lora(m[i])
    m[4].requires_grad_(False)
    return case(m, (x, (y + (x[:, 0] > 0)) % 4), lr=1e-2, epochs=8)


class Accumulate(TrainLearner):
    def step(self):
        if self.iter % 4 == 3:
            super().step()

    def zero_grad(self):
        if self.iter % 4 == 3:
            super().zero_grad()


@situation
def accumulation():
    return {**case(mlp(20, 4), blobs(), bs=16, lr=3e-3), 'learner': Accumulate}


class Half(TrainLearner):
    def predict(self):
        with torch.autocast('cpu', torch.bfloat16):
            super().predict()

    def get_loss(self):
        self.preds = self.preds.float()
        super().get_loss()


@situation
def autocast():
    return {**case(mlp(20, 4), blobs()), 'learner': Half}


@situation
def words_counted():
    topic, p = torch.randint(3, (1536,)), (torch.randn(3, 800) * 1.5).softmax(1)
    x = torch.zeros(1536, 800).scatter_add_(1, p[topic].multinomial(20, True), torch.ones(1536, 20))
    return case(mlp(800, 3), (x / x.norm(dim=1, keepdim=True), topic))


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.out = nn.EmbeddingBag(400, 16, sparse=True), nn.Linear(16, 3)

    def forward(self, x):
        return self.out(self.emb(x))


@situation
def sparse_rows():
    topic, p = torch.randint(3, (1536,)), (torch.randn(3, 400) * 2).softmax(1)
    return case(Bag(), (p[topic].multinomial(20, True), topic), lr=0.5, opt=optim.SGD, epochs=8)


class ByName(TrainLearner):
    def predict(self):
        self.preds = self.model(self.batch['x'])

    def get_loss(self):
        self.loss = self.loss_func(self.preds, self.batch['y'])


@situation
def named_batches():
    d = case(mlp(20, 4), blobs())
    return {
        **d,
        'learner': ByName,
        'cbs': [
            Callback(
                before_batch=lambda learn: setattr(learn, 'batch', dict(zip('xy', learn.batch))), order=-50
            )
        ],
        'kind': 'other',
    }


@situation
def resumed():
    data = blobs()
    return case(pretrained(mlp(20, 4), data, 3), data)
