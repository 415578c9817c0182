import copy
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'diffusion on points in the plane, noise prediction with a time embedding, EMA copy used for sampling, warmup by LinearLR and SequentialLR'
FAULTS = {
    'target_is_clean_sample': 'the network is trained to return the clean sample, while the sampler takes its output for the noise',
    'timestep_not_passed': 'the network is trained with timestep zero for every sample, so it does not know the noise level',
    'ema_decay_too_close_to_one': 'the EMA decay is 0.9999 for a run of a thousand steps, so the copy used for sampling is still close to its start',
}


class Denoiser(nn.Module):
    def __init__(self, T=50, width=96):
        super().__init__()
        self.register_buffer('freq', torch.exp(torch.linspace(0, 4, 8)))
        self.T = T
        self.net = nn.Sequential(nn.Linear(2 + 16, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
                                 nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2))

    def forward(self, x, t):
        angle = (t / self.T)[:, None] * self.freq
        return self.net(torch.cat([x, angle.sin(), angle.cos()], dim=1))


def build():
    model = Denoiser()
    return model, copy.deepcopy(model)


def points(n):
    k = torch.randint(0, 5, (n,)).float()
    angle = 6.2832 * k / 5
    p = torch.stack([angle.cos(), angle.sin()], 1) * 1.3 + 0.12 * torch.randn(n, 2)
    return p / 0.93


def train(models, fault=''):
    torch.manual_seed(60)
    model, ema = models
    ema.load_state_dict(model.state_dict())
    ema.requires_grad_(False)
    T = 50
    beta = torch.linspace(1e-3, 0.16, T)
    alpha = 1 - beta
    alpha_bar = alpha.cumprod(0)
    data = points(4000)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, weight_decay=1e-4)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=50)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=950)
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, decay], milestones=[50])
    ema_decay = 0.9999 if fault == 'ema_decay_too_close_to_one' else 0.99

    model.train()
    for step in range(1000):
        x0 = data[torch.randint(0, len(data), (256,))]
        t = torch.randint(0, T, (len(x0),))
        level = alpha_bar[t][:, None]
        eps = torch.randn_like(x0)
        xt = level.sqrt() * x0 + (1 - level).sqrt() * eps
        pred = model(xt, torch.zeros_like(t) if fault == 'timestep_not_passed' else t)
        target = x0 if fault == 'target_is_clean_sample' else eps
        loss = F.mse_loss(pred, target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            for slow, fast in zip(ema.parameters(), model.parameters()):
                slow.lerp_(fast, 1 - ema_decay)

    ema.eval()
    with torch.no_grad():
        x = torch.randn(1000, 2)
        for i in reversed(range(T)):
            step_index = torch.full((len(x),), 0 if fault == 'timestep_not_passed' else i)
            eps = ema(x, step_index)
            x = (x - beta[i] / (1 - alpha_bar[i]).sqrt() * eps) / alpha[i].sqrt()
            if i > 0:
                x = x + beta[i].sqrt() * torch.randn_like(x)
        real = points(1000)
        return (2 * torch.cdist(x, real).mean() - torch.cdist(x, x).mean() - torch.cdist(real, real).mean()).item()
