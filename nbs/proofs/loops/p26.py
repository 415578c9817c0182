import math
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'diffusion (DDPM) on 2-D points, noise prediction with a time embedding module'
FAULTS = {
    'target_is_fresh_noise': 'the target noise is drawn again and is not the noise that was added to x',
    'time_embedding_never_used': 'the time embedding is replaced by zeros, so this module is never used and the net does not know the noise level',
    'optimizer_anew_each_step': 'Adam is made again inside the loop, so its moments are lost in every step',
}

STEPS_T = 50


class TimeEmbedding(nn.Module):
    def __init__(self, dim=24):
        super().__init__()
        self.register_buffer('freqs', torch.exp(torch.linspace(0, math.log(100.0), dim // 2)))
        self.lin = nn.Linear(dim, dim)

    def forward(self, t):
        a = t.float()[:, None] / STEPS_T * self.freqs
        return F.silu(self.lin(torch.cat([a.sin(), a.cos()], 1)))


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2 + 24, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 2))

    def forward(self, x, temb):
        return self.net(torch.cat([x, temb], 1))


def build():
    return TimeEmbedding(), Denoiser()


def points(n):
    k = torch.randint(0, 4, (n,))
    centers = torch.tensor([[1.2, 1.2], [-1.2, 1.2], [1.2, -1.2], [-1.2, -1.2]])
    return centers[k] + 0.08 * torch.randn(n, 2)


def train(models, fault=''):
    torch.manual_seed(25)
    temb_net, net = models
    betas = torch.linspace(1e-3, 0.2, STEPS_T)
    abar = torch.cumprod(1 - betas, 0)
    params = [*temb_net.parameters(), *net.parameters()]
    opt = torch.optim.Adam(params, lr=3e-3)

    def diffusion_loss(x0):
        t = torch.randint(0, STEPS_T, (len(x0),))
        noise = torch.randn_like(x0)
        a = abar[t].unsqueeze(1)
        xt = a.sqrt() * x0 + (1 - a).sqrt() * noise
        temb = temb_net(t)
        if fault == 'time_embedding_never_used':
            temb = torch.zeros(len(x0), 24)
        pred = net(xt, temb)
        if fault == 'target_is_fresh_noise':
            noise = torch.randn_like(x0)
        return F.mse_loss(pred, noise)

    for it in range(400):
        if fault == 'optimizer_anew_each_step':
            opt = torch.optim.Adam(params, lr=3e-3)
        loss = diffusion_loss(points(128))
        opt.zero_grad()
        loss.backward()
        opt.step()

    with torch.no_grad():
        return diffusion_loss(points(2000)).item()
