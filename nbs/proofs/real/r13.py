"""DDPM on two-dimensional points (a spiral of clusters), with EMA weights, after the "tiny-diffusion" repositories."""
import copy
import math
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'Trainer class with an EMA copy, NoiseScheduler class, AdamW with cosine decay and gradient clipping, batches by random index'
FAULTS = {
    'alphas_not_cumulative': 'The forward process takes alphas[t] instead of the cumulative product, so the net only sees almost clean points and the sampler starts from noise it never met.',
    'time_not_passed': 'The net is always called with t = 0 in training and sampling, so it cannot tell how much noise is in its input and predicts an average.',
    'fresh_noise_target': 'The loss compares the prediction with a newly drawn noise instead of the one that was added, so the best prediction is zero.',
    'ema_too_slow': 'The EMA decay is 0.99995 for a run of a few thousand steps, so the sampled EMA weights are still nearly the random initial ones.',
}


class SinusoidalEmbedding(nn.Module):
    def __init__(self, size, scale=1.):
        super().__init__()
        self.scale = scale
        self.register_buffer('freq', torch.exp(-math.log(10000.) * torch.arange(size // 2) / (size // 2 - 1)))

    def forward(self, x):
        a = (x * self.scale).unsqueeze(-1) * self.freq
        return torch.cat([a.sin(), a.cos()], dim=-1)


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.ff = nn.Linear(size, size)
        self.act = nn.GELU()

    def forward(self, x):
        return x + self.act(self.ff(self.norm(x)))


class Denoiser(nn.Module):
    def __init__(self, hidden=96, emb=32, layers=3):
        super().__init__()
        self.time_emb = SinusoidalEmbedding(emb)
        self.in1, self.in2 = SinusoidalEmbedding(emb, 25.), SinusoidalEmbedding(emb, 25.)
        self.joint = nn.Linear(3 * emb + 2, hidden)
        self.blocks = nn.ModuleList([Block(hidden) for _ in range(layers)])
        self.out = nn.Linear(hidden, 2)

    def forward(self, x, t):
        h = torch.cat([x, self.in1(x[:, 0]), self.in2(x[:, 1]), self.time_emb(t.float())], dim=-1)
        h = F.gelu(self.joint(h))
        for b in self.blocks:
            h = b(h)
        return self.out(h)


class NoiseScheduler:
    def __init__(self, T=60, beta_start=1e-3, beta_end=0.15):
        self.T = T
        self.betas = torch.linspace(beta_start, beta_end, T)
        self.alphas = 1. - self.betas
        self.alphas_cumprod = torch.cumprod(self.alphas, dim=0)

    def add_noise(self, x0, noise, t, fault):
        a = self.alphas_cumprod[t]
        if fault == 'alphas_not_cumulative':
            a = self.alphas[t]
        a = a[:, None]
        return a.sqrt() * x0 + (1 - a).sqrt() * noise

    def step(self, eps, t, x):
        a, ac, b = self.alphas[t], self.alphas_cumprod[t], self.betas[t]
        mean = (x - b / (1 - ac).sqrt() * eps) / a.sqrt()
        if t == 0:
            return mean
        var = b * (1 - self.alphas_cumprod[t - 1]) / (1 - ac)
        return mean + var.sqrt() * torch.randn_like(x)


def spiral(n):
    k = torch.randint(9, (n,)).float()
    a = k * 0.75
    c = torch.stack([a.cos(), a.sin()], 1) * (0.3 + 0.17 * k)[:, None]
    return c + 0.05 * torch.randn(n, 2)


def energy_distance(a, b):
    return float(2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean())


class Trainer:
    def __init__(self, model, fault, steps=3000, batch_size=256):
        self.model, self.fault, self.steps, self.bs = model, fault, steps, batch_size
        self.ema = copy.deepcopy(model).eval().requires_grad_(False)
        self.ema_decay = 0.995
        if fault == 'ema_too_slow':
            self.ema_decay = 0.99995
        self.sched = NoiseScheduler()
        self.opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
        self.lr_sched = torch.optim.lr_scheduler.CosineAnnealingLR(self.opt, steps)
        data = spiral(8000)
        self.std = data.std()
        self.data = (data - data.mean(0)) / self.std
        self.held_out = (spiral(2000) - data.mean(0)) / self.std

    @torch.no_grad()
    def update_ema(self):
        for e, p in zip(self.ema.parameters(), self.model.parameters()):
            e.lerp_(p, 1 - self.ema_decay)

    def training_step(self):
        x0 = self.data[torch.randint(len(self.data), (self.bs,))]
        noise = torch.randn_like(x0)
        t = torch.randint(0, self.sched.T, (self.bs,))
        xt = self.sched.add_noise(x0, noise, t, self.fault)
        if self.fault == 'time_not_passed':
            t = torch.zeros_like(t)
        pred = self.model(xt, t)
        if self.fault == 'fresh_noise_target':
            loss = F.mse_loss(pred, torch.randn_like(x0))
        else:
            loss = F.mse_loss(pred, noise)
        self.opt.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.opt.step()
        self.lr_sched.step()
        self.update_ema()
        return loss.item()

    @torch.no_grad()
    def sample(self, n):
        x = torch.randn(n, 2)
        for t in reversed(range(self.sched.T)):
            tt = torch.full((n,), 0 if self.fault == 'time_not_passed' else t)
            x = self.sched.step(self.ema(x, tt), t, x)
        return x

    def fit(self):
        self.model.train()
        for _ in range(self.steps):
            self.training_step()
        return self

    def evaluate(self):
        x = self.sample(2000).nan_to_num(1e3).clamp(-1e3, 1e3)
        return energy_distance(x, self.held_out)


def build():
    return (Denoiser(),)


def train(models, fault=''):
    torch.manual_seed(13)
    return Trainer(models[0], fault).fit().evaluate()


if __name__ == '__main__':
    print(train(build()))
