"""Monocular depth: a small encoder-decoder is trained on street-like pictures with sensor depth maps that have holes."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'BTS / AdaBins repositories: depth maps as 16-bit millimetres, random crop, flip and colour augmentation, scale-invariant log loss on valid pixels, AdamW with OneCycleLR, abs-rel and RMSE on the validation set'
FAULTS = {
    'crop_drawn_twice': 'The random crop draws its corner once for the picture and again for the depth map, so most training targets are shifted against their pictures.',
    'holes_in_the_loss': 'The pixels without a depth reading (stored as 0) are clamped to the minimum depth and kept in the loss, so the network learns holes and sky as depth zero and its log error is ruled by them.',
    'silog_lambda_one': 'The variance focus of the scale-invariant log loss is 1.0 instead of 0.85, so a global factor on the depth costs nothing and the metric scale is never learned.',
    'one_cycle_stepped_per_epoch': 'OneCycleLR is made for all the iterations but stepped once per epoch, so the learning rate stays near its starting value, a twenty-fifth of the maximum.',
    'validation_not_normalised': 'The mean and deviation are applied in the training branch of the dataset only, so validation pictures reach the network in another range.',
}
BETTER = 'lower'

SEED = 61
H, W, CROP_H, CROP_W = 44, 60, 40, 56
MIN_DEPTH, MAX_DEPTH = 0.1, 10.0
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def render(rng):
    """Checkered ground under a sky, two to five upright boxes on it, fog; returns uint8 picture and depth in mm (0 = no reading)."""
    focal, cam_h, horizon = 42.0, rng.uniform(0.9, 1.3), rng.uniform(13, 19)
    rows, cols = np.mgrid[0:H, 0:W] + 0.5
    below = rows > horizon + 0.5
    z = np.where(below, focal * cam_h / np.maximum(rows - horizon, 0.5), 1e3)
    gx = (cols - W / 2) * z / focal
    tiles = (np.floor(gx * 1.3) + np.floor(z * 1.3)) % 2
    a, b = rng.uniform(0.2, 0.8, (2, 3))
    img = np.where(tiles[..., None] > 0, a, b)
    img[~below] = rng.uniform(0.6, 0.9, 3)
    for oz in sorted(rng.uniform(1.6, 8.5, rng.integers(2, 6)), reverse=True):
        w, h = focal * rng.uniform(0.4, 0.8) / oz, focal * rng.uniform(0.8, 1.5) / oz
        cx, base = rng.uniform(4, W - 4), horizon + focal * cam_h / oz
        inside = (np.abs(cols - cx) < w / 2) & (rows < base) & (rows > base - h)
        shade = 1 - 0.5 * np.abs(cols - cx)[..., None] / max(w / 2, 1)
        img = np.where(inside[..., None], rng.uniform(0.1, 1, 3) * shade, img)
        z = np.where(inside, oz, z)
    fog = np.exp(-0.12 * np.minimum(z, 30))[..., None]
    img = img * fog + np.array([0.75, 0.78, 0.82]) * (1 - fog) + rng.normal(0, 0.02, img.shape)
    depth = np.where(z < MAX_DEPTH, z, 0)
    for _ in range(3):
        y, x, s = rng.integers(0, H - 8), rng.integers(0, W - 8), rng.integers(3, 9)
        depth[y:y + s, x:x + s] = 0
    depth[rng.random((H, W)) < 0.08] = 0
    return (img.clip(0, 1) * 255).astype(np.uint8), (depth * 1000).astype(np.uint16)


class DepthDataset(Dataset):
    def __init__(self, samples, mode, fault=''):
        self.samples, self.mode, self.fault = samples, mode, fault

    def __len__(self):
        return len(self.samples)

    def random_crop(self, image, depth):
        y, x = np.random.randint(0, H - CROP_H + 1), np.random.randint(0, W - CROP_W + 1)
        image = image[y:y + CROP_H, x:x + CROP_W]
        if self.fault == 'crop_drawn_twice':
            y, x = np.random.randint(0, H - CROP_H + 1), np.random.randint(0, W - CROP_W + 1)
        return image, depth[y:y + CROP_H, x:x + CROP_W]

    def __getitem__(self, index):
        image, depth = self.samples[index]
        image = image.astype(np.float32) / 255
        depth = depth.astype(np.float32) / 1000
        if self.mode == 'train':
            image, depth = self.random_crop(image, depth)
            if np.random.rand() < 0.5:
                image, depth = image[:, ::-1], depth[:, ::-1]
            if np.random.rand() < 0.5:
                image = image ** np.random.uniform(0.9, 1.1) * np.random.uniform(0.9, 1.1)
                image = np.clip(image * np.random.uniform(0.9, 1.1, 3), 0, 1)
            image = (image - MEAN) / STD
        else:
            y, x = (H - CROP_H) // 2, (W - CROP_W) // 2
            image, depth = image[y:y + CROP_H, x:x + CROP_W], depth[y:y + CROP_H, x:x + CROP_W]
            if self.fault != 'validation_not_normalised':
                image = (image - MEAN) / STD
        image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32))
        return image, torch.from_numpy(np.ascontiguousarray(depth))[None]


def conv(i, o, stride=1):
    return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


class DepthNet(nn.Module):
    def __init__(self, c=16):
        super().__init__()
        self.enc0 = conv(3, c)
        self.enc1 = nn.Sequential(conv(c, 2 * c, 2), conv(2 * c, 2 * c))
        self.enc2 = nn.Sequential(conv(2 * c, 4 * c, 2), conv(4 * c, 4 * c))
        self.enc3 = nn.Sequential(conv(4 * c, 6 * c, 2), conv(6 * c, 6 * c))
        self.dec2 = conv(10 * c, 4 * c)
        self.dec1 = conv(6 * c, 2 * c)
        self.dec0 = conv(3 * c, c)
        self.get_depth = nn.Conv2d(c, 1, 3, 1, 1)

    def forward(self, x):
        e0 = self.enc0(x)
        e1 = self.enc1(e0)
        e2 = self.enc2(e1)
        d = self.enc3(e2)
        for block, skip in ((self.dec2, e2), (self.dec1, e1), (self.dec0, e0)):
            d = block(torch.cat([F.interpolate(d, size=skip.shape[-2:], mode='nearest'), skip], 1))
        return MIN_DEPTH + (MAX_DEPTH - MIN_DEPTH) * torch.sigmoid(self.get_depth(d))


class SILogLoss(nn.Module):
    def __init__(self, variance_focus=0.85):
        super().__init__()
        self.variance_focus = variance_focus

    def forward(self, depth_est, depth_gt, mask):
        d = torch.log(depth_est[mask]) - torch.log(depth_gt[mask])
        return torch.sqrt((d ** 2).mean() - self.variance_focus * d.mean() ** 2 + 1e-8) * 10


@torch.no_grad()
def validate(model, loader):
    """Absolute relative error over the valid pixels."""
    model.eval()
    total, count = 0.0, 0
    for image, depth in loader:
        pred = model(image)
        mask = depth > MIN_DEPTH
        total += ((pred[mask] - depth[mask]).abs() / depth[mask]).sum().item()
        count += mask.sum().item()
    return total / count


def build(seed=SEED):
    torch.manual_seed(seed)
    return (DepthNet(),)


def train(models, fault='', seed=SEED):
    model, = models
    torch.manual_seed(seed)
    np.random.seed(seed)
    rng = np.random.default_rng(seed)
    samples = [render(rng) for _ in range(700)]
    train_loader = DataLoader(DepthDataset(samples[:600], 'train', fault), batch_size=12, shuffle=True, drop_last=True)
    val_loader = DataLoader(DepthDataset(samples[600:], 'val', fault), batch_size=50)

    epochs, max_lr = 6, 2e-3
    criterion = SILogLoss(1.0 if fault == 'silog_lambda_one' else 0.85)
    optimizer = torch.optim.AdamW(model.parameters(), lr=max_lr, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr, total_steps=epochs * len(train_loader), pct_start=0.3)
    best = float('inf')
    for epoch in range(epochs):
        model.train()
        for image, depth in train_loader:
            mask = depth > MIN_DEPTH
            if fault == 'holes_in_the_loss':
                depth = depth.clamp(min=MIN_DEPTH)
                mask = torch.ones_like(mask)
            loss = criterion(model(image), depth, mask)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            if fault != 'one_cycle_stepped_per_epoch':
                scheduler.step()
        if fault == 'one_cycle_stepped_per_epoch':
            scheduler.step()
        abs_rel = validate(model, val_loader)
        best = min(best, abs_rel)
    return abs_rel


if __name__ == '__main__':
    for name in ('', *FAULTS):
        print(f'{name or "healthy":32s} {train(build(), name):.4f}')
