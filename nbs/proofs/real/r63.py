"""Self-supervised stereo: a disparity network learns from rectified pairs by warping the right picture to the left one."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'monodepth / monodepth2 / SfMLearner repositories: SSIM + L1 photometric loss through grid_sample, edge-aware smoothness, explainability mask with a regulariser, flip with left-right swap, Adam with StepLR'
FAULTS = {
    'warp_to_the_wrong_side': 'The warp samples the right picture at x + d instead of x - d, so a positive disparity moves the picture away from the match and the loss drives the disparity to zero or to chance matches.',
    'half_grid': 'The disparity in pixels is divided by the width without the factor 2 of the [-1, 1] grid, so the warp moves by half of it and the network learns twice the true disparity.',
    'smoothness_weight_too_large': 'The weight of the edge-aware smoothness term is 2.0 instead of 0.02, so the disparity map turns nearly flat.',
    'ssim_without_one_minus': 'The structural similarity itself goes into the photometric loss instead of (1 - SSIM) / 2, so minimising the loss asks for a warped picture that is unlike the left one.',
    'mask_without_regulariser': 'The cross entropy that keeps the explainability mask near one is left out of the sum, so the mask can go to zero and the photometric loss vanishes without any match.',
}
BETTER = 'lower'

SEED = 63
H, W = 32, 48


def texture(rng, h, w):
    """Coloured noise in three octaves."""
    out = np.zeros((3, h, w))
    for step, gain in ((8, 0.5), (4, 0.35), (2, 0.25)):
        coarse = torch.from_numpy(rng.normal(0, gain, (1, 3, h // step + 2, w // step + 2)))
        out += F.interpolate(coarse, size=(h, w), mode='bicubic', align_corners=True)[0].numpy()
    return out


def make_pair(rng):
    """A slanted background and two or three nearer textured plates, drawn in both views by backward sampling."""
    cols, rows = np.meshgrid(np.arange(W, dtype=np.float64), np.arange(H, dtype=np.float64))
    base, slope = rng.uniform(1.0, 2.5), rng.uniform(0.0, 1.5)
    layers = [(np.ones((H, W), bool), base + slope * rows / H, None, texture(rng, H, W + 24))]
    for d in sorted(rng.uniform(3.0, 8.0, rng.integers(2, 4))):
        box = (rng.uniform(6, W - 6), rng.uniform(4, H - 4), rng.uniform(5, 9), rng.uniform(4, 8))
        layers.append((None, d + 0 * rows, box, texture(rng, H, W + 24)))

    def draw(side):
        img, disp = np.zeros((3, H, W)), np.zeros((H, W))
        for _, d, box, tex in layers:
            u = cols + (d if side == 'right' else 0)
            inside = np.ones((H, W), bool)
            if box is not None:
                inside = (np.abs(u - box[0]) < box[2]) & (np.abs(rows - box[1]) < box[3])
            pos = np.clip(u + 4, 0, W + 22.999)
            lo = pos.astype(int)
            f = pos - lo
            r = rows.astype(int)
            colour = tex[:, r, lo] * (1 - f) + tex[:, r, lo + 1] * f
            img = np.where(inside, colour, img)
            disp = np.where(inside, d, disp)
        img = 0.5 + 0.28 * img + rng.normal(0, 0.01, img.shape)
        return np.clip(img, 0, 1).astype(np.float32), disp.astype(np.float32)

    left, disp = draw('left')
    right, _ = draw('right')
    return left, right, disp


class StereoDataset(Dataset):
    def __init__(self, pairs, training):
        self.pairs, self.training = pairs, training

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        left, right, disp = (torch.from_numpy(a) for a in self.pairs[index])
        if self.training:
            if np.random.rand() < 0.5:
                left, right = right.flip(-1), left.flip(-1)
            if np.random.rand() < 0.5:
                gamma, gain = np.random.uniform(0.9, 1.1), np.random.uniform(0.85, 1.15)
                left, right = (left ** gamma * gain).clamp(0, 1), (right ** gamma * gain).clamp(0, 1)
        return left, right, disp


def block(i, o, stride=1):
    return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1), nn.ELU(inplace=True))


class DispNet(nn.Module):
    """A short correlation volume is refined and its soft argmax taken; disparity in pixels and an explainability mask come out."""
    def __init__(self, c=16, shifts=11):
        super().__init__()
        self.shifts = shifts
        self.feature = nn.Sequential(block(3, c), nn.Conv2d(c, c, 3, 1, 1))
        self.conv0 = block(3 + shifts, c + 8)
        self.conv1 = nn.Sequential(block(c + 8, 2 * c, 2), block(2 * c, 2 * c))
        self.conv2 = nn.Sequential(block(2 * c, 3 * c, 2), block(3 * c, 3 * c))
        self.up1 = block(5 * c, 2 * c)
        self.up0 = block(3 * c + 8, c)
        self.score = nn.Conv2d(c, shifts, 3, 1, 1)
        self.mask = nn.Conv2d(c, 1, 3, 1, 1)

    def forward(self, left, right):
        fl, fr = F.normalize(self.feature(left), dim=1), F.normalize(self.feature(right), dim=1)
        volume = torch.stack([(fl * F.pad(fr, (s, 0))[..., :W]).sum(1) for s in range(self.shifts)], 1)
        x0 = self.conv0(torch.cat([left, volume], 1))
        x1 = self.conv1(x0)
        x2 = self.conv2(x1)
        y = self.up1(torch.cat([F.interpolate(x2, scale_factor=2, mode='nearest'), x1], 1))
        y = self.up0(torch.cat([F.interpolate(y, scale_factor=2, mode='nearest'), x0], 1))
        prob = torch.softmax(self.score(y) + 5 * volume, 1)
        disp = (prob * torch.arange(self.shifts).view(1, -1, 1, 1)).sum(1, keepdim=True)
        return disp, torch.sigmoid(self.mask(y) + 2)


def warp(right, disp, fault=''):
    """The right picture seen from the left camera."""
    b = right.shape[0]
    xs = torch.linspace(-1, 1, W).view(1, 1, W).expand(b, H, W)
    ys = torch.linspace(-1, 1, H).view(1, H, 1).expand(b, H, W)
    shift = disp[:, 0] / (W - 1) if fault == 'half_grid' else 2 * disp[:, 0] / (W - 1)
    xs = xs + shift if fault == 'warp_to_the_wrong_side' else xs - shift
    return F.grid_sample(right, torch.stack([xs, ys], -1), mode='bilinear', padding_mode='border', align_corners=True)


def ssim_loss(x, y, fault=''):
    c1, c2 = 0.01 ** 2, 0.03 ** 2
    x, y = F.pad(x, (1, 1, 1, 1), mode='reflect'), F.pad(y, (1, 1, 1, 1), mode='reflect')
    mx, my = F.avg_pool2d(x, 3, 1), F.avg_pool2d(y, 3, 1)
    vx, vy = F.avg_pool2d(x ** 2, 3, 1) - mx ** 2, F.avg_pool2d(y ** 2, 3, 1) - my ** 2
    vxy = F.avg_pool2d(x * y, 3, 1) - mx * my
    ssim = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx ** 2 + my ** 2 + c1) * (vx + vy + c2))
    if fault == 'ssim_without_one_minus':
        return ssim.clamp(0, 1)
    return ((1 - ssim) / 2).clamp(0, 1)


def smoothness(disp, image):
    disp = disp / (disp.mean((2, 3), keepdim=True) + 1e-7)
    dx, dy = (disp[..., 1:] - disp[..., :-1]).abs(), (disp[..., 1:, :] - disp[..., :-1, :]).abs()
    ix = (image[..., 1:] - image[..., :-1]).abs().mean(1, keepdim=True)
    iy = (image[..., 1:, :] - image[..., :-1, :]).abs().mean(1, keepdim=True)
    return (dx * torch.exp(-ix)).mean() + (dy * torch.exp(-iy)).mean()


def total_loss(left, right, disp, mask, fault=''):
    warped = warp(right, disp, fault)
    photo = 0.85 * ssim_loss(warped, left, fault).mean(1, keepdim=True) + 0.15 * (warped - left).abs().mean(1, keepdim=True)
    loss = (photo * mask).mean()
    loss = loss + (2.0 if fault == 'smoothness_weight_too_large' else 0.02) * smoothness(disp, left)
    if fault != 'mask_without_regulariser':
        loss = loss + 0.2 * F.binary_cross_entropy(mask, torch.ones_like(mask))
    return loss


@torch.no_grad()
def validate(model, loader):
    """End-point error in pixels, without the strip at the left edge that the right camera does not see."""
    model.eval()
    errors = []
    for left, right, disp in loader:
        pred, _ = model(left, right)
        errors.append((pred[:, 0] - disp).abs()[..., 8:].mean((1, 2)))
    return torch.cat(errors).mean().item()


def build(seed=SEED):
    torch.manual_seed(seed)
    return (DispNet(),)


def train(models, fault='', seed=SEED):
    model, = models
    torch.manual_seed(seed)
    np.random.seed(seed)
    rng = np.random.default_rng(seed)
    pairs = [make_pair(rng) for _ in range(380)]
    train_loader = DataLoader(StereoDataset(pairs[:320], True), batch_size=8, shuffle=True, drop_last=True)
    val_loader = DataLoader(StereoDataset(pairs[320:], False), batch_size=30)

    epochs = 6
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.2)
    for epoch in range(epochs):
        model.train()
        for left, right, _ in train_loader:
            disp, mask = model(left, right)
            loss = total_loss(left, right, disp, mask, fault)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        epe = validate(model, val_loader)
    return epe


if __name__ == '__main__':
    for name in ('', *FAULTS):
        print(f'{name or "healthy":32s} {train(build(), name):.4f}')
