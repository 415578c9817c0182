import math
import torch
import torch.nn as nn

torch.set_num_threads(1)

STYLE = 'normalising flow with affine coupling layers, log_prob and sample methods, Adamax, mini-batches from an endless generator'
FAULTS = {
    'logdet_sign': 'the log-determinant is subtracted instead of added, so the flow is paid for contracting',
    'logdet_summed_over_batch': 'the log-determinant is summed over the whole batch instead of over the features of each sample',
    'masks_do_not_alternate': 'every coupling layer keeps the same half, so one coordinate is never transformed',
}


class Coupling(nn.Module):
    def __init__(self, mask, hidden=40):
        super().__init__()
        self.register_buffer('mask', mask)
        self.net = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 4))

    def params(self, kept):
        s, t = self.net(kept).chunk(2, dim=1)
        return (1 - self.mask) * torch.tanh(s), (1 - self.mask) * t

    def forward(self, x):
        kept = self.mask * x
        s, t = self.params(kept)
        return kept + (1 - self.mask) * (x * s.exp() + t), s

    def inverse(self, z):
        kept = self.mask * z
        s, t = self.params(kept)
        return kept + (1 - self.mask) * ((z - t) * (-s).exp())


class Flow(nn.Module):
    def __init__(self, depth=6):
        super().__init__()
        masks = [torch.tensor([[1.0, 0.0]]) if i % 2 else torch.tensor([[0.0, 1.0]]) for i in range(depth)]
        self.layers = nn.ModuleList(Coupling(m) for m in masks)

    def log_prob(self, x, fault=''):
        logdet = torch.zeros(len(x))
        for layer in self.layers:
            x, s = layer(x)
            logdet = logdet + (s.sum() if fault == 'logdet_summed_over_batch' else s.sum(dim=1))
        base = -0.5 * (x ** 2).sum(1) - math.log(2 * math.pi)
        return base - logdet if fault == 'logdet_sign' else base + logdet

    def sample(self, n):
        z = torch.randn(n, 2)
        for layer in reversed(self.layers):
            z = layer.inverse(z)
        return z


def build():
    return (Flow(),)


def moons(n):
    a = math.pi * torch.rand(n)
    upper = torch.rand(n) < 0.5
    x = torch.where(upper, a.cos(), 1 - a.cos())
    y = torch.where(upper, a.sin(), 0.5 - a.sin())
    p = torch.stack([x - 0.5, y - 0.25], 1) + 0.07 * torch.randn(n, 2)
    return p / torch.tensor([[0.87, 0.5]])


def endless(data, size):
    while True:
        for idx in torch.randperm(len(data)).split(size):
            yield data[idx]


def train(models, fault=''):
    torch.manual_seed(59)
    flow = models[0]
    if fault == 'masks_do_not_alternate':
        for layer in flow.layers:
            layer.mask.copy_(flow.layers[0].mask)
    data, held_out = moons(4000), moons(1500)
    optimizer = torch.optim.Adamax(flow.parameters(), lr=5e-3)
    stream = endless(data, 128)
    flow.train()
    for step in range(700):
        loss = -flow.log_prob(next(stream), fault).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimizer.step()

    flow.eval()
    with torch.no_grad():
        return -flow.log_prob(held_out).mean().item()
