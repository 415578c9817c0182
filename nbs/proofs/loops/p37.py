import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'VAE module with reparametrisation, loss function of its own, warm KL weight, tensor.split as loader'
FAULTS = {
    'reconstruction_averaged': 'the reconstruction loss is a mean over pixels while the KL term is a sum, so the code collapses to the prior',
    'kl_sign': 'the KL term has the wrong sign, so codes are rewarded for leaving the prior',
    'code_detached': 'the sampled code is detached before the decoder, so the encoder gets no gradient from the reconstruction',
}


class VAE(nn.Module):
    def __init__(self, d=64, hidden=96, latent=6):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(d, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.mu = nn.Linear(hidden, latent)
        self.logvar = nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                                     nn.Linear(hidden, d))

    def encode(self, x):
        h = self.body(x)
        return self.mu(h), self.logvar(h)


def build():
    return (VAE(),)


def bars(n):
    rows = torch.rand(n, 8, 1) < 0.18
    cols = torch.zeros(n, 1, 8, dtype=torch.bool)
    cols[torch.arange(n), 0, torch.randint(0, 8, (n,))] = True
    return (rows | cols).float().flatten(1)


def train(models, fault=''):
    torch.manual_seed(37)
    vae = models[0]
    data, held_out = bars(2500), bars(500)

    def loss_terms(x):
        mu, logvar = vae.encode(x)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        if fault == 'code_detached':
            z = z.detach()
        recon = F.binary_cross_entropy_with_logits(vae.decoder(z), x, reduction='none')
        kl = -0.5 * (1 + logvar - mu ** 2 - logvar.exp()).sum(1)
        return recon, kl

    optimizer = torch.optim.Adam(vae.parameters(), lr=2e-3)
    epochs = 40
    for epoch in range(epochs):
        vae.train()
        beta = min(1.0, (epoch + 1) / 10)
        for x in data[torch.randperm(len(data))].split(64):
            recon, kl = loss_terms(x)
            if fault == 'reconstruction_averaged':
                loss = recon.mean() + beta * kl.mean()
            elif fault == 'kl_sign':
                loss = recon.sum(1).mean() - beta * kl.mean()
            else:
                loss = recon.sum(1).mean() + beta * kl.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    vae.eval()
    with torch.no_grad():
        recon, kl = loss_terms(held_out)
        return (recon.sum(1) + kl).mean().item()
