"""WGAN-GP on 16x16 pictures of a bright disc or a ring; quality = Frechet distance in a PCA space."""
import torch
from torch import nn, autograd, optim

torch.set_num_threads(1)

STYLE = 'GAN-zoo-like single loop "for it in range(ITERS)": n_critic inner steps, gradient penalty function, Adam(0, 0.9), hand-made batches by index'
FAULTS = {
    'penalty_no_graph': 'autograd.grad for the gradient penalty is called without create_graph=True, so the penalty is a constant for the critic: it is not Lipschitz, its outputs grow and the generator gets poor gradients.',
    'generator_sign': 'The generator minimizes +D(fake).mean() instead of -D(fake).mean(), so it is driven away from the data.',
    'real_not_rescaled': 'Real pictures stay in [0, 1] while the generator ends in tanh and its samples are shown by (x+1)/2: the samples come out grey and washed out.',
    'noise_drawn_once': 'The noise batch is drawn once before the loop and used in every step, so the generator learns 48 codes only and fresh noise gives bad or uniform pictures.',
}

Z, BATCH, ITERS, N_CRITIC, LAMBDA = 16, 48, 400, 3, 10.


class Generator(nn.Module):
    def __init__(self, c=24):
        super().__init__()
        self.project = nn.Sequential(nn.Linear(Z, c * 4 * 4), nn.BatchNorm1d(c * 16), nn.ReLU(True))
        self.main = nn.Sequential(
            nn.Upsample(scale_factor=2), nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU(True),
            nn.Upsample(scale_factor=2), nn.Conv2d(c, c // 2, 3, padding=1), nn.BatchNorm2d(c // 2), nn.ReLU(True),
            nn.Conv2d(c // 2, 1, 3, padding=1), nn.Tanh())

    def forward(self, z):
        h = self.project(z)
        return self.main(h.view(h.size(0), -1, 4, 4))


class Critic(nn.Module):
    def __init__(self, c=16):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(1, c, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(c, 2 * c, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Flatten(), nn.Linear(2 * c * 16, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))

    def forward(self, x):
        return self.main(x).view(-1)


def build():
    return Generator(), Critic()


def make_data(n):
    """Discs and rings of varying place, radius and brightness, pixel values in [0, 1]."""
    g = torch.arange(16.)
    cx, cy = torch.rand(2, n, 1, 1) * 6 + 5
    r = torch.rand(n, 1, 1) * 2 + 2.5
    d = ((g[None, :, None] - cy) ** 2 + (g[None, None] - cx) ** 2).sqrt()
    disc, ring = torch.sigmoid(2.5 * (r - d)), torch.exp(-(d - r) ** 2 / 1.2)
    kind = (torch.rand(n, 1, 1) < 0.5).float()
    img = (kind * disc + (1 - kind) * ring) * (0.7 + 0.3 * torch.rand(n, 1, 1))
    return img.unsqueeze(1)


def gradient_penalty(critic, real, fake, fault):
    eps = torch.rand(real.size(0), 1, 1, 1)
    x = (eps * real + (1 - eps) * fake).requires_grad_(True)
    out = critic(x)
    create_graph = fault != 'penalty_no_graph'
    grads, = autograd.grad(out, x, torch.ones_like(out), create_graph=create_graph)
    return ((grads.flatten(1).norm(2, dim=1) - 1) ** 2).mean()


def frechet(a, b, k=24):
    """Frechet distance of two sets of pictures in the first k principal components of b."""
    a, b = a.flatten(1).double(), b.flatten(1).double()
    mean = b.mean(0)
    _, _, v = torch.pca_lowrank(b - mean, q=k)
    a, b = (a - mean) @ v, (b - mean) @ v
    ca, cb = torch.cov(a.T), torch.cov(b.T)
    ev = torch.linalg.eigvals(ca @ cb).real.clamp(min=0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).pow(2).sum() + ca.trace() + cb.trace() - 2 * ev)


def train(models, fault=''):
    torch.manual_seed(12)
    netG, netD = models
    pictures, held_out = make_data(4000), make_data(2000)
    data = pictures * 2 - 1
    if fault == 'real_not_rescaled':
        data = pictures

    optG = optim.Adam(netG.parameters(), lr=1.5e-3, betas=(0., 0.9))
    optD = optim.Adam(netD.parameters(), lr=1.5e-3, betas=(0., 0.9))
    fixed = torch.randn(BATCH, Z)

    def noise():
        return fixed if fault == 'noise_drawn_once' else torch.randn(BATCH, Z)

    netG.train(), netD.train()
    for it in range(ITERS):
        # (1) the critic
        for _ in range(N_CRITIC):
            real = data[torch.randint(len(data), (BATCH,))]
            with torch.no_grad():
                fake = netG(noise())
            lossD = netD(fake).mean() - netD(real).mean() + LAMBDA * gradient_penalty(netD, real, fake, fault)
            optD.zero_grad()
            lossD.backward()
            optD.step()
        # (2) the generator
        score = netD(netG(noise())).mean()
        lossG = score if fault == 'generator_sign' else -score
        optG.zero_grad()
        lossG.backward()
        optG.step()

    netG.eval()
    with torch.no_grad():
        samples = torch.cat([netG(torch.randn(500, Z)) for _ in range(4)])
    return frechet((samples + 1) / 2, held_out)


if __name__ == '__main__':
    print(train(build()))
