"""Conditional RealNVP in four dimensions: density of (moon point, arm joint angles) given a class."""
import math
import torch
import torch.nn as nn

torch.set_num_threads(1)

STYLE = 'notebook style: class RealNVP with a list of coupling layers and a buffer of masks, loss = -log_prob, Adamax with ExponentialLR, batches drawn afresh each step'
FAULTS = {
    'logdet_over_batch': 'The log determinant is summed over all axes (.sum()) rather than over the features, and broadcasts onto each example: its weight is the batch size times too large.',
    'prior_mean_over_dims': 'The log density of the prior is averaged over the dimensions while the log determinant is summed, so the prior weighs four times too little and the density is not a likelihood.',
    'masks_all_same': 'Every coupling layer has the same mask (the flip 1 - mask is forgotten), so half of the dimensions pass unchanged through the flow.',
    'condition_left_out': 'The class is embedded but zeros are passed to the coupling nets, so one density for all the classes is learned.',
}

DIM, CLASSES, BATCH = 4, 4, 256


class Coupling(nn.Module):
    """Affine coupling: the masked part is kept and gives scale and shift for the rest."""
    def __init__(self, cond, hidden=64):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(DIM + cond, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
                                 nn.Linear(hidden, 2 * DIM))
        self.s_max = nn.Parameter(torch.ones(DIM))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x, mask, c):
        s, t = self.net(torch.cat([x * mask, c], 1)).chunk(2, 1)
        s = self.s_max * torch.tanh(s) * (1 - mask)
        z = x * mask + (1 - mask) * (x * s.exp() + t)
        return z, s


class RealNVP(nn.Module):
    def __init__(self, layers=8, cond=8):
        super().__init__()
        self.couplings = nn.ModuleList([Coupling(cond) for _ in range(layers)])
        self.label_emb = nn.Embedding(CLASSES, cond)
        m = torch.tensor([[1., 0., 1., 0.], [0., 1., 0., 1.], [1., 1., 0., 0.], [0., 0., 1., 1.]])
        self.register_buffer('masks', m.repeat(layers // 4 + 1, 1)[:layers])

    def forward(self, x, y, use_cond=True):
        """-> z and the list of the log scales of the layers, (B, DIM) each"""
        c = self.label_emb(y)
        if not use_cond:
            c = torch.zeros_like(c)
        scales = []
        for layer, mask in zip(self.couplings, self.masks):
            x, s = layer(x, mask, c)
            scales.append(s)
        return x, scales


def log_normal(z):
    return -0.5 * (z ** 2 + math.log(2 * math.pi))


def sample_data(n):
    """Class-dependent bent curves in the first two and a two-peaked angle pair in the last two dimensions."""
    y = torch.randint(CLASSES, (n,))
    a = torch.rand(n) * math.pi
    up = (y % 2 == 0).float() * 2 - 1
    x0 = torch.cos(a) * 1.2 + 0.4 * up + 0.08 * torch.randn(n)
    x1 = up * torch.sin(a) - 0.4 * up + 0.08 * torch.randn(n)
    peak = (torch.rand(n) < 0.5).float() * 2 - 1
    x2 = peak * (0.5 + 0.3 * (y // 2)) + 0.12 * torch.randn(n)
    x3 = torch.sin(2 * x2) * (1 - 2 * (y // 2)) + 0.5 * x0 + 0.1 * torch.randn(n)
    return torch.stack([x0, x1, x2, x3], 1), y


def build():
    return (RealNVP(),)


def train(models, fault=''):
    torch.manual_seed(19)
    flow, = models
    if fault == 'masks_all_same':
        flow.masks[:] = flow.masks[0]
    use_cond = fault != 'condition_left_out'
    optimizer = torch.optim.Adamax(flow.parameters(), lr=5e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.998)

    flow.train()
    for step in range(1500):
        x, y = sample_data(BATCH)
        z, scales = flow(x, y, use_cond)
        s = torch.stack(scales, 1)                        # (B, layers, DIM)
        if fault == 'logdet_over_batch':
            log_det = s.sum()
        else:
            log_det = s.sum((1, 2))
        if fault == 'prior_mean_over_dims':
            log_prior = log_normal(z).mean(1)
        else:
            log_prior = log_normal(z).sum(1)
        loss = -(log_prior + log_det).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 5.)
        optimizer.step()
        scheduler.step()

    # the true negative log likelihood of fresh examples, nats; a single Gaussian has about 4.1, one per class 2.05
    flow.eval()
    with torch.no_grad():
        x, y = sample_data(4000)
        z, scales = flow(x, y, use_cond)
        nll = -(log_normal(z).sum(1) + sum(s.sum(1) for s in scales))
    return nll.clamp(max=1e4).nan_to_num(1e4).mean().item()


if __name__ == '__main__':
    print(train(build()))
