"""DnCNN blind Gaussian denoiser with residual learning on synthetic grey pictures, measured in PSNR."""
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'SaoYan/DnCNN-PyTorch train.py: patches with data_augmentation modes, DnCNN (conv, BN, ReLU), blind noise level drawn per picture, MSELoss(reduction=sum) / (2 N) against the noise, Adam with the learning rate divided by ten at a milestone, batch_PSNR'
FAULTS = {
    'target_is_clean_picture': 'The loss compares the output of the network with the clean patch instead of with the noise, although the output is later subtracted from the noisy picture, which leaves only the negative of the noise.',
    'single_noise_map_reused': 'The standard normal noise map is drawn once before the loop and only scaled for every patch, so the network learns that one pattern by heart and does not remove any other noise.',
    'noisy_and_clean_augmented_apart': 'The noisy and the clean patch are flipped and rotated by two separate draws of the augmentation mode, so their difference is no longer the noise but the difference of two orientations of the picture.',
    'blind_sigma_drawn_once': 'The noise level of blind training is drawn once before the loop instead of for every patch, so the network only knows one level and fails at the others.',
    'uniform_noise_from_rand': 'The noise is made with torch.rand instead of torch.randn, so it lies between zero and sigma and is never negative: the network learns to subtract a brightness and a much weaker noise.',
}

SEED = 57
PATCH = 32
NOISE_B = (0, 55)


def draw_pictures(n, size, rng):
    """Smooth shading, a few half planes and discs with sharp edges, and a patch of stripes; float32 in [0, 1]."""
    gy, gx = np.mgrid[0:size, 0:size] / size
    images = np.zeros((n, size, size), dtype=np.float32)
    for i in range(n):
        a, b, c = rng.uniform(-0.5, 0.5, 3)
        img = 0.5 + a * (gx - 0.5) + b * (gy - 0.5) + 0.3 * c * np.sin(3 * gx + 4 * gy)
        for _ in range(rng.integers(3, 7)):
            kind = rng.integers(0, 3)
            cx, cy = rng.uniform(0, 1, 2)
            if kind == 0:
                mask = (gx - cx) ** 2 + (gy - cy) ** 2 < rng.uniform(0.05, 0.3) ** 2
            elif kind == 1:
                t = rng.uniform(0, 2 * np.pi)
                mask = np.abs((gx - cx) * np.cos(t) + (gy - cy) * np.sin(t)) < rng.uniform(0.03, 0.2)
            else:
                w, h = rng.uniform(0.1, 0.4, 2)
                mask = (np.abs(gx - cx) < w) & (np.abs(gy - cy) < h)
            value = rng.uniform(0, 1)
            if rng.random() < 0.25:
                t, f = rng.uniform(0, np.pi), rng.uniform(20, 60)
                img = np.where(mask, value + 0.2 * np.sin(f * (gx * np.cos(t) + gy * np.sin(t))), img)
            else:
                img = np.where(mask, value + 0.2 * (gx - cx), img)
        images[i] = np.clip(img, 0, 1)
    return images[:, None]


def data_augmentation(image, mode):
    """One of the eight flips and quarter turns of a (C, H, W) patch."""
    out = torch.rot90(image, mode // 2, (1, 2))
    return torch.flip(out, (1,)) if mode % 2 else out


class PatchDataset(Dataset):
    """Pairs of a noisy and a clean patch; the noise is new at every access."""

    def __init__(self, images, fault=''):
        self.images, self.fault = torch.from_numpy(images), fault
        self.sigma_once = np.random.uniform(*NOISE_B)
        self.map_once = torch.randn(1, PATCH, PATCH)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        clean = self.images[idx]
        sigma = np.random.uniform(*NOISE_B)
        if self.fault == 'blind_sigma_drawn_once':
            sigma = self.sigma_once
        unit = torch.randn(clean.shape)
        if self.fault == 'uniform_noise_from_rand':
            unit = torch.rand(clean.shape)
        if self.fault == 'single_noise_map_reused':
            clean = data_augmentation(clean, np.random.randint(8))
            return clean + self.map_once * (sigma / 255.0), clean
        noisy = clean + unit * (sigma / 255.0)
        mode = np.random.randint(8)
        noisy = data_augmentation(noisy, mode)
        if self.fault == 'noisy_and_clean_augmented_apart':
            mode = np.random.randint(8)
        return noisy, data_augmentation(clean, mode)


class DnCNN(nn.Module):
    def __init__(self, channels=1, num_of_layers=6, features=16):
        super().__init__()
        layers = [nn.Conv2d(channels, features, 3, padding=1, bias=False), nn.ReLU(inplace=True)]
        for _ in range(num_of_layers - 2):
            layers += [nn.Conv2d(features, features, 3, padding=1, bias=False), nn.BatchNorm2d(features), nn.ReLU(inplace=True)]
        layers.append(nn.Conv2d(features, channels, 3, padding=1, bias=False))
        self.dncnn = nn.Sequential(*layers)

    def forward(self, x):
        return self.dncnn(x)


def batch_psnr(img, clean):
    mse = ((img - clean) ** 2).flatten(1).mean(1)
    return (10 * torch.log10(1.0 / mse)).mean().item()


@torch.no_grad()
def validate(model, images):
    """Mean PSNR in dB of unseen pictures at the noise levels 15, 25 and 50."""
    model.eval()
    clean = torch.from_numpy(images)
    g = torch.Generator().manual_seed(1234)
    psnr = []
    for sigma in (15, 25, 50):
        noisy = clean + torch.randn(clean.shape, generator=g) * (sigma / 255.0)
        out = torch.clamp(noisy - model(noisy), 0.0, 1.0)
        psnr.append(batch_psnr(out, clean))
    return float(np.mean(psnr))


def build():
    torch.manual_seed(SEED)
    return (DnCNN(),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    rng = np.random.default_rng(SEED)
    train_images, val_images = draw_pictures(1600, PATCH, rng), draw_pictures(40, 64, rng)
    epochs, milestone, lr, batch_size = 10, 7, 2e-3, 32
    loader_train = DataLoader(PatchDataset(train_images, fault), batch_size=batch_size, shuffle=True)
    criterion = nn.MSELoss(reduction='sum')
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    for epoch in range(epochs):
        current_lr = lr if epoch < milestone else lr / 10.0
        for param_group in optimizer.param_groups:
            param_group['lr'] = current_lr
        model.train()
        for imgn_train, img_train in loader_train:
            noise = imgn_train - img_train
            target = img_train if fault == 'target_is_clean_picture' else noise
            optimizer.zero_grad()
            out_train = model(imgn_train)
            loss = criterion(out_train, target) / (imgn_train.size(0) * 2)
            loss.backward()
            optimizer.step()

    return validate(model, val_images)


if __name__ == '__main__':
    print(train(build()))
