import math
import torch
import torch.nn as nn

torch.set_num_threads(1)

STYLE = 'GAN on a ring of points, two optimizers, BCEWithLogitsLoss with label tensors, step loop'
FAULTS = {
    'fake_detached_in_generator_step': 'the fake samples are detached in the step of the generator too, so the generator gets no gradient',
    'generator_labels_zero': 'the generator is trained with the label "fake", so it helps the discriminator instead of fooling it',
    'discriminator_not_trained_on_real': 'the real batch gets the label of the fakes in the discriminator loss, so it never learns what real samples look like',
}


def build():
    G = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    D = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
    return G, D


def real_points(n):
    angle = 2 * math.pi * torch.rand(n)
    return torch.stack([angle.cos(), angle.sin()], 1) * 1.4 + 0.08 * torch.randn(n, 2)


def energy_distance(a, b):
    return (2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean()).item()


def train(models, fault=''):
    torch.manual_seed(38)
    G, D = models
    opt_g = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.5, 0.9))
    opt_d = torch.optim.Adam(D.parameters(), lr=2e-3, betas=(0.5, 0.9))
    bce = nn.BCEWithLogitsLoss()
    B = 128
    ones, zeros = torch.ones(B, 1), torch.zeros(B, 1)
    real_label = zeros if fault == 'discriminator_not_trained_on_real' else ones

    for step in range(900):
        real = real_points(B)
        fake = G(torch.randn(B, 4))
        opt_d.zero_grad()
        d_loss = bce(D(real), real_label) + bce(D(fake.detach()), zeros)
        d_loss.backward()
        opt_d.step()

        opt_g.zero_grad()
        if fault == 'fake_detached_in_generator_step':
            g_loss = bce(D(fake.detach()), ones)
        elif fault == 'generator_labels_zero':
            g_loss = bce(D(fake), zeros)
        else:
            g_loss = bce(D(fake), ones)
        g_loss.backward()
        opt_g.step()

    G.eval()
    with torch.no_grad():
        return energy_distance(G(torch.randn(1000, 4)), real_points(1000))
