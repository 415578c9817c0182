"""Class-conditional GAN with hinge loss, spectral norm and a projection discriminator on 16x16 glyph pictures."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils import spectral_norm
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)

STYLE = 'SNGAN-projection / BigGAN-PyTorch repositories: conditional batch norm generator, spectrally normalised projection discriminator, hinge loss, two Adams with betas (0, 0.9), class-wise Frechet distance in the features of a classifier'
FAULTS = {
    'labels_drawn_again_for_the_judge': 'In the generator step the labels are drawn once for the generator and again for the discriminator, so the gradient asks for another class than the one the generator was told, and the condition is not learned.',
    'no_detach_no_zero': 'The fakes of the discriminator step are not detached and the generator gradients are cleared only before that step, so the generator also gets the gradient of the discriminator loss, which pulls the other way.',
    'reals_in_zero_one': 'The real pictures stay in [0, 1] while the generator ends in tanh over [-1, 1] and samples are compared in that range, so the generator learns grey backgrounds where black is due.',
    'uniform_noise_at_sampling': 'The generator is trained with normal noise and sampled with torch.rand in [0, 1), so samples for evaluation come from one corner of the latent space.',
    'hinge_margin_on_the_wrong_side': 'The fake term of the discriminator hinge loss is relu(1 - D(fake)) instead of relu(1 + D(fake)), so fakes are pushed up together with reals and the discriminator tells nothing.',
}
BETTER = 'lower'

SEED = 64
SIZE, CLASSES, Z_DIM = 16, 6, 24


def make_glyphs(n, rng):
    """Ring, cross, bar, triangle, two dots and L shape, with varied size, place, thickness and brightness, in [0, 1]."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] - (SIZE - 1) / 2
    images, labels = np.zeros((n, SIZE, SIZE), np.float32), rng.integers(0, CLASSES, n)
    for i, c in enumerate(labels):
        cx, cy = rng.uniform(-1.8, 1.8, 2)
        r, t = rng.uniform(3.5, 5.5), rng.uniform(0.8, 1.5)
        a = rng.uniform(-0.35, 0.35)
        u, v = (x - cx) * np.cos(a) + (y - cy) * np.sin(a), -(x - cx) * np.sin(a) + (y - cy) * np.cos(a)
        seg = lambda p, q, half: np.maximum(np.abs(p), np.abs(q) - half)
        if c == 0:
            d = np.abs(np.hypot(u, v) - r * 0.8)
        elif c == 1:
            d = np.minimum(seg(u, v, r), seg(v, u, r))
        elif c == 2:
            d = seg(u, v, r)
        elif c == 3:
            d = np.maximum(v - r * 0.6, np.abs(u) * 0.87 - (v + r) * 0.5)
        elif c == 4:
            d = np.minimum(np.hypot(u - r * 0.6, v), np.hypot(u + r * 0.6, v)) - 0.8
        else:
            d = np.minimum(seg(u + r * 0.6, v, r), seg(v - r * 0.8, u, r * 0.8))
        images[i] = np.clip(t - d + 0.5, 0, 1) * rng.uniform(0.75, 1.0)
    return torch.from_numpy(images)[:, None], torch.from_numpy(labels)


class ConditionalBatchNorm(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.bn = nn.BatchNorm2d(c, affine=False)
        self.embed = nn.Embedding(CLASSES, 2 * c)
        nn.init.ones_(self.embed.weight[:, :c].data)
        nn.init.zeros_(self.embed.weight[:, c:].data)

    def forward(self, x, y):
        gamma, beta = self.embed(y)[:, :, None, None].chunk(2, 1)
        return self.bn(x) * gamma + beta


class Generator(nn.Module):
    def __init__(self, c=20):
        super().__init__()
        self.fc = nn.Linear(Z_DIM, 2 * c * 16)
        self.bn0, self.conv0 = ConditionalBatchNorm(2 * c), nn.Conv2d(2 * c, 2 * c, 3, 1, 1)
        self.bn1, self.conv1 = ConditionalBatchNorm(2 * c), nn.Conv2d(2 * c, c, 3, 1, 1)
        self.bn2, self.out = ConditionalBatchNorm(c), nn.Conv2d(c, 1, 3, 1, 1)

    def forward(self, z, y):
        h = self.fc(z).view(len(z), -1, 4, 4)
        h = self.conv0(F.interpolate(F.relu(self.bn0(h, y)), scale_factor=2))
        h = self.conv1(F.interpolate(F.relu(self.bn1(h, y)), scale_factor=2))
        return torch.tanh(self.out(F.relu(self.bn2(h, y))))


class Discriminator(nn.Module):
    def __init__(self, c=20):
        super().__init__()
        sn = spectral_norm
        self.body = nn.Sequential(
            sn(nn.Conv2d(1, c, 3, 1, 1)), nn.LeakyReLU(0.1), sn(nn.Conv2d(c, c, 4, 2, 1)), nn.LeakyReLU(0.1),
            sn(nn.Conv2d(c, 2 * c, 4, 2, 1)), nn.LeakyReLU(0.1), sn(nn.Conv2d(2 * c, 2 * c, 3, 1, 1)), nn.LeakyReLU(0.1))
        self.linear = sn(nn.Linear(2 * c, 1))
        self.embed = sn(nn.Embedding(CLASSES, 2 * c))

    def forward(self, x, y):
        h = self.body(x).sum((2, 3))
        return self.linear(h).squeeze(1) + (self.embed(y) * h).sum(1)


class FeatureNet(nn.Module):
    """The fixed classifier whose features the Frechet distance uses."""
    def __init__(self, c=16):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, c, 3, 2, 1), nn.ReLU(), nn.Conv2d(c, 2 * c, 3, 2, 1), nn.ReLU(), nn.Flatten(),
                                  nn.Linear(2 * c * 16, 24), nn.Tanh())
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x):
        return self.head(self.body(x))


def fit_feature_net(images, labels, seed):
    torch.manual_seed(seed)
    net = FeatureNet()
    opt = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(3):
        for idx in torch.randperm(len(images)).split(64):
            loss = F.cross_entropy(net(images[idx] * 2 - 1), labels[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
    return net.eval().requires_grad_(False)


def frechet(a, b):
    ma, mb = a.mean(0), b.mean(0)
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    cross = np.sqrt(np.maximum(np.linalg.eigvals(ca @ cb).real, 0)).sum()
    return float(((ma - mb) ** 2).sum() + np.trace(ca) + np.trace(cb) - 2 * cross)


@torch.no_grad()
def evaluate(netG, feature_net, val_images, val_labels, fault=''):
    """Frechet distance between samples and unseen reals of the same class, averaged over the classes."""
    netG.eval()
    scores = []
    for c in range(CLASSES):
        y = torch.full((300,), c)
        z = torch.rand(300, Z_DIM) if fault == 'uniform_noise_at_sampling' else torch.randn(300, Z_DIM)
        fake = feature_net.body(netG(z, y)).double().numpy()
        real = feature_net.body(val_images[val_labels == c] * 2 - 1).double().numpy()
        scores.append(frechet(fake, real))
    netG.train()
    return float(np.mean(scores))


def build(seed=SEED):
    torch.manual_seed(seed)
    return Generator(), Discriminator()


def train(models, fault='', seed=SEED):
    netG, netD = models
    images, labels = make_glyphs(3500, np.random.default_rng(seed))
    feature_net = fit_feature_net(images[:2000], labels[:2000], seed)
    torch.manual_seed(seed)
    train_images = images[:2000] if fault == 'reals_in_zero_one' else images[:2000] * 2 - 1
    loader = DataLoader(TensorDataset(train_images, labels[:2000]), batch_size=50, shuffle=True, drop_last=True)
    optG = torch.optim.Adam(netG.parameters(), lr=1e-3, betas=(0.0, 0.9))
    optD = torch.optim.Adam(netD.parameters(), lr=1e-3, betas=(0.0, 0.9))

    for epoch in range(7):
        netG.train()
        netD.train()
        for real, y_real in loader:
            # discriminator
            z = torch.randn(len(real), Z_DIM)
            y_fake = torch.randint(0, CLASSES, (len(real),))
            if fault == 'no_detach_no_zero':
                optG.zero_grad()
                fake = netG(z, y_fake)
            else:
                fake = netG(z, y_fake).detach()
            d_real = netD(real, y_real)
            d_fake = netD(fake, y_fake)
            if fault == 'hinge_margin_on_the_wrong_side':
                lossD = F.relu(1 - d_real).mean() + F.relu(1 - d_fake).mean()
            else:
                lossD = F.relu(1 - d_real).mean() + F.relu(1 + d_fake).mean()
            optD.zero_grad()
            lossD.backward()
            optD.step()

            # generator
            z = torch.randn(len(real), Z_DIM)
            y_fake = torch.randint(0, CLASSES, (len(real),))
            fake = netG(z, y_fake)
            if fault == 'labels_drawn_again_for_the_judge':
                y_fake = torch.randint(0, CLASSES, (len(real),))
            lossG = -netD(fake, y_fake).mean()
            if fault != 'no_detach_no_zero':
                optG.zero_grad()
            lossG.backward()
            optG.step()
        score = evaluate(netG, feature_net, images[2000:], labels[2000:], fault)
    return score


if __name__ == '__main__':
    for name in ('', *FAULTS):
        print(f'{name or "healthy":32s} {train(build(), name):.4f}')
