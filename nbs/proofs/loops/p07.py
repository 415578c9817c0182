import math
import torch
import torch.nn as nn

torch.set_num_threads(1)

STYLE = 'GAN on 2-D points, two networks and two Adam optimizers, endless sampling of real data'
FAULTS = {
    'fake_detached_in_generator_step': 'the generator loss is computed on fake.detach(), so no gradient reaches the generator',
    'opt_g_has_wrong_parameters': 'the generator optimizer is given the parameters of the discriminator (copy-paste)',
    'd_zero_grad_forgotten': 'opt_d.zero_grad() is missing, so the discriminator steps on gradients of all earlier steps and of the generator loss',
}

LATENT = 8


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(LATENT, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2))

    def forward(self, z):
        return self.net(z)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 48), nn.LeakyReLU(0.2), nn.Linear(48, 48), nn.LeakyReLU(0.2),
                                 nn.Linear(48, 1))

    def forward(self, x):
        return self.net(x)


def build():
    return Generator(), Discriminator()


def real_batch(n):
    a = torch.rand(n) * 2 * math.pi
    pts = torch.stack([1.5 * torch.cos(a), 0.8 * torch.sin(a)], 1) + 0.1 * torch.randn(n, 2)
    return pts + torch.tensor([0.8, -0.5])


def energy_distance(a, b):
    return (2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean()).item()


def train(models, fault=''):
    torch.manual_seed(6)
    netG, netD = models
    criterion = nn.BCEWithLogitsLoss()
    g_params = netD.parameters() if fault == 'opt_g_has_wrong_parameters' else netG.parameters()
    optG = torch.optim.Adam(g_params, lr=2e-3, betas=(0.5, 0.999))
    optD = torch.optim.Adam(netD.parameters(), lr=2e-3, betas=(0.5, 0.999))
    n = 64
    ones, zeros = torch.ones(n, 1), torch.zeros(n, 1)

    for step in range(400):
        # (1) discriminator
        if fault != 'd_zero_grad_forgotten':
            optD.zero_grad()
        real = real_batch(n)
        fake = netG(torch.randn(n, LATENT))
        loss_d = criterion(netD(real), ones) + criterion(netD(fake.detach()), zeros)
        loss_d.backward()
        optD.step()

        # (2) generator
        optG.zero_grad()
        if fault == 'fake_detached_in_generator_step':
            loss_g = criterion(netD(fake.detach()), ones)
        else:
            loss_g = criterion(netD(fake), ones)
        loss_g.backward()
        optG.step()

    with torch.no_grad():
        return energy_distance(netG(torch.randn(512, LATENT)), real_batch(512))
