"""Convolutional variational autoencoder on Fashion-MNIST (a subset), in the manner of the pytorch/examples VAE."""
import os
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import FashionMNIST

torch.set_num_threads(1)

STYLE = 'pytorch/examples-like script: DataLoader, functions train_epoch/test, Adam, summed BCE + KL, conv encoder and transposed-conv decoder'
FAULTS = {
    'recon_mean_kl_sum': 'The reconstruction is averaged over the pixels while the KL is summed over the latent dims, so the KL weighs 784 times too much and the posterior collapses to the prior.',
    'sample_without_grad': 'z is drawn with Normal.sample() instead of rsample(), so no reconstruction gradient reaches the encoder and the latent code carries nothing learned.',
    'sigmoid_twice': 'The decoder output goes through a sigmoid and then into binary_cross_entropy_with_logits, so the real predicted values stay within 0.5 and 0.73 and dark pixels cannot be modelled.',
    'normalized_targets': 'The pictures are standardized to mean 0 and deviation 1 and then used as BCE targets too, which are no probabilities any more (negative, above 1): the loss rewards saturated pixels.',
}

LATENT = 12


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 4, stride=2, padding=1)    # 14
        self.conv2 = nn.Conv2d(16, 32, 4, stride=2, padding=1)   # 7
        self.bn2 = nn.BatchNorm2d(32)
        self.fc = nn.Linear(32 * 7 * 7, 96)
        self.fc_mu = nn.Linear(96, LATENT)
        self.fc_logvar = nn.Linear(96, LATENT)

    def forward(self, x):
        h = F.relu(self.conv1(x))
        h = F.relu(self.bn2(self.conv2(h)))
        h = F.relu(self.fc(h.flatten(1)))
        return self.fc_mu(h), self.fc_logvar(h)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(LATENT, 96), nn.ReLU(), nn.Linear(96, 32 * 7 * 7), nn.ReLU())
        self.deconv = nn.Sequential(
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1))

    def forward(self, z):
        return self.deconv(self.fc(z).view(-1, 32, 7, 7))      # logits


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return mu + std * torch.randn_like(std)

    def forward(self, x):
        mu, logvar = self.encoder(x)
        return self.decoder(self.reparameterize(mu, logvar)), mu, logvar


def build():
    return (VAE(),)


def get_loaders(fault):
    ds = FashionMNIST(os.environ.get('MINIAI_DATA', 'data'), train=True, download=False)
    x = ds.data[:7000].float().div(255).unsqueeze(1)
    train_x, test_x = x[:6000], x[6000:]
    if fault == 'normalized_targets':
        train_x, test_x = (train_x - 0.286) / 0.353, (test_x - 0.286) / 0.353
    return (DataLoader(TensorDataset(train_x), batch_size=64, shuffle=True),
            DataLoader(TensorDataset(test_x), batch_size=250))


def loss_function(logits, x, mu, logvar, fault):
    if fault == 'recon_mean_kl_sum':
        bce = F.binary_cross_entropy_with_logits(logits, x) * x.size(0)
    elif fault == 'sigmoid_twice':
        bce = F.binary_cross_entropy_with_logits(torch.sigmoid(logits), x, reduction='sum')
    else:
        bce = F.binary_cross_entropy_with_logits(logits, x, reduction='sum')
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return bce + kld


def train_epoch(model, loader, optimizer, fault):
    model.train()
    total = 0.
    for (x,) in loader:
        optimizer.zero_grad()
        if fault == 'sample_without_grad':
            mu, logvar = model.encoder(x)
            z = torch.distributions.Normal(mu, torch.exp(0.5 * logvar)).sample()
            logits = model.decoder(z)
        else:
            logits, mu, logvar = model(x)
        loss = loss_function(logits, x, mu, logvar, fault)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader.dataset)


@torch.no_grad()
def test(model, loader, fault):
    """Mean negative ELBO of a held-out picture, nats per picture."""
    model.eval()
    total = 0.
    for (x,) in loader:
        logits, mu, logvar = model(x)
        target = x * 0.353 + 0.286 if fault == 'normalized_targets' else x
        p = torch.sigmoid(logits)
        if fault == 'sigmoid_twice':
            p = torch.sigmoid(p)
        p = p.clamp(1e-6, 1 - 1e-6)
        bce = F.binary_cross_entropy(p, target.clamp(0, 1), reduction='sum')
        kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        total += (bce + kld).item()
    return total / len(loader.dataset)


def train(models, fault=''):
    torch.manual_seed(11)
    model, = models
    train_loader, test_loader = get_loaders(fault)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(5):
        train_epoch(model, train_loader, optimizer, fault)
    return test(model, test_loader, fault)


if __name__ == '__main__':
    print(train(build()))
