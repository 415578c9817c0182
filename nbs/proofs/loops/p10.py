import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'VAE on binary 8x8 pictures, own ELBO written in arithmetic, train()/test() functions per epoch'
FAULTS = {
    'sample_cuts_graph': 'z is drawn with torch.normal(mu, std) under no_grad, without the reparametrisation, so the encoder gets no reconstruction gradient',
    'kl_summed_reconstruction_mean': 'KL is summed over the batch while the reconstruction is a mean over pixels, so the KL wins and the posterior collapses',
    'kl_sign_wrong': 'the KL term has the wrong sign, so the posterior is pushed away from the prior without bound',
}


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 128)
        self.fc_mu = nn.Linear(128, 8)
        self.fc_logvar = nn.Linear(128, 8)
        self.fc3 = nn.Linear(8, 128)
        self.fc4 = nn.Linear(128, 64)

    def encode(self, x):
        h = torch.relu(self.fc1(x))
        return self.fc_mu(h), self.fc_logvar(h)

    def decode(self, z):
        return torch.sigmoid(self.fc4(torch.relu(self.fc3(z))))


def build():
    return (VAE(),)


def bars(n):
    imgs = torch.zeros(n, 8, 8)
    rows, cols = torch.randint(0, 8, (n,)), torch.randint(0, 8, (n,))
    imgs[torch.arange(n), rows] = 1
    imgs[torch.arange(n), :, cols] = 1
    flip = torch.rand(n, 8, 8) < 0.02
    return torch.where(flip, 1 - imgs, imgs).view(n, 64)


def sample(mu, logvar, fault):
    std = torch.exp(0.5 * logvar)
    if fault == 'sample_cuts_graph':
        with torch.no_grad():
            return torch.normal(mu, std)
    return mu + std * torch.randn_like(std)


def elbo_loss(x, p, mu, logvar, fault):
    p = p.clamp(1e-6, 1 - 1e-6)
    ll = x * torch.log(p) + (1 - x) * torch.log(1 - p)
    kl = -0.5 * (1 + logvar - mu * mu - torch.exp(logvar))
    if fault == 'kl_summed_reconstruction_mean':
        return -ll.mean() + kl.sum()
    if fault == 'kl_sign_wrong':
        return -ll.sum(1).mean() - kl.sum(1).mean()
    return -ll.sum(1).mean() + kl.sum(1).mean()


def train(models, fault=''):
    torch.manual_seed(9)
    model = models[0]
    data, held_out = bars(1600), bars(300)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)

    def train_epoch():
        model.train()
        for x in data[torch.randperm(len(data))].split(50):
            optimizer.zero_grad()
            mu, logvar = model.encode(x)
            z = sample(mu, logvar, fault)
            loss = elbo_loss(x, model.decode(z), mu, logvar, fault)
            loss.backward()
            optimizer.step()

    def test_epoch():
        model.eval()
        with torch.no_grad():
            mu, logvar = model.encode(held_out)
            z = sample(mu, logvar, fault)
            return elbo_loss(held_out, model.decode(z), mu, logvar, fault).item()

    test_loss = None
    for epoch in range(12):
        train_epoch()
        test_loss = test_epoch()
    return test_loss
