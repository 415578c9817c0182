"""Super-resolution x2 after ESPCN: sub-pixel convolution that predicts the residual over bicubic upsampling, L1 loss, PSNR."""
import math
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'ESPCN repository: Dataset with random crops and flips of uint8 images, Adam with a smaller learning rate for the last layer, MultiStepLR per epoch, L1 loss, PSNR on whole test images'
FAULTS = {
    'residual_wraps_in_uint8': 'The residual hr - bicubic is computed on uint8 tensors before the conversion to float, so every negative difference wraps around to a value near 255.',
    'view_instead_of_pixel_shuffle': 'The r*r channels are brought to the large image with view instead of pixel shuffle, so the values land in wrong places of the image.',
    'hr_crop_not_scaled': 'The crop of the large image starts at (top, left) of the small one without the factor r, so input and target show different parts of the picture.',
    'target_broadcasts_over_batch': 'The target has lost its channel dimension, so the subtraction in the L1 loss broadcasts to (B, B, H, W) and compares each output with the targets of all samples.',
}

R = 2


def make_images(n, size, seed):
    """Random scenes: a gradient, stripes, discs and boxes with sharp edges; uint8, (n, size, size)."""
    g = torch.Generator().manual_seed(seed)
    rand = lambda *s: torch.rand(*s, generator=g)
    big = size * 2
    ax = torch.linspace(0, 1, big)
    y, x = torch.meshgrid(ax, ax, indexing='ij')
    out = torch.empty(n, size, size, dtype=torch.uint8)
    for i in range(n):
        a = rand(3)
        img = 0.2 + 0.5 * a[0] + 0.3 * (a[1] - 0.5) * x + 0.3 * (a[2] - 0.5) * y
        for _ in range(7):
            cx, cy, rx, ry, v, f, th = rand(7).tolist()
            rx, ry = 0.06 + 0.22 * rx, 0.06 + 0.22 * ry
            th *= math.pi
            u, w = (x - cx) * math.cos(th) + (y - cy) * math.sin(th), (y - cy) * math.cos(th) - (x - cx) * math.sin(th)
            if f < 0.4:
                mask = (u / rx) ** 2 + (w / ry) ** 2 < 1
            else:
                mask = (u.abs() < rx) & (w.abs() < ry)
            paint = torch.full_like(img, v)
            if f > 0.7:
                paint = v + 0.3 * torch.sign(torch.sin(u * (60 + 40 * ry)))
            img = torch.where(mask, paint, img)
        img = F.avg_pool2d(img[None, None].clamp(0, 1), 2)[0, 0]
        out[i] = (img * 255).round().to(torch.uint8)
    return out


def to_uint8(x):
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


def downsample(hr):
    """uint8 (n, H, W) -> uint8 (n, H/R, W/R)"""
    x = F.interpolate(hr.unsqueeze(1).float() / 255., scale_factor=1 / R, mode='bicubic', align_corners=False, antialias=True)
    return to_uint8(x).squeeze(1)


def bicubic(lr):
    """float (B, 1, h, w) -> float (B, 1, R*h, R*w)"""
    return F.interpolate(lr, scale_factor=R, mode='bicubic', align_corners=False)


class TrainDataset(Dataset):
    def __init__(self, images, patch=12, repeat=10, fault=''):
        self.hr, self.lr = images, downsample(images)
        self.patch, self.repeat, self.fault = patch, repeat, fault

    def __len__(self):
        return len(self.hr) * self.repeat

    def __getitem__(self, idx):
        hr, lr = self.hr[idx % len(self.hr)], self.lr[idx % len(self.hr)]
        p = self.patch
        top, left = torch.randint(lr.shape[0] - p + 1, (2,)).tolist()
        lr = lr[top:top + p, left:left + p]
        if self.fault == 'hr_crop_not_scaled':
            hr = hr[top:top + p * R, left:left + p * R]
        else:
            hr = hr[top * R:(top + p) * R, left * R:(left + p) * R]
        if torch.rand(1) < 0.5:
            lr, hr = lr.flip(-1), hr.flip(-1)
        if torch.rand(1) < 0.5:
            lr, hr = lr.t(), hr.t()
        return lr.unsqueeze(0).contiguous(), hr.unsqueeze(0).contiguous()


class ESPCN(nn.Module):
    def __init__(self, upscale_factor=R, channels=1):
        super().__init__()
        self.first_part = nn.Sequential(
            nn.Conv2d(channels, 32, kernel_size=5, padding=2), nn.Tanh(),
            nn.Conv2d(32, 32, kernel_size=3, padding=1), nn.Tanh(),
        )
        self.last_part = nn.Sequential(
            nn.Conv2d(32, channels * upscale_factor ** 2, kernel_size=3, padding=1),
            nn.PixelShuffle(upscale_factor),
        )
        self._initialize_weights()

    def _initialize_weights(self):
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                std = 0.03 if m.in_channels == 32 and m.out_channels != 32 else math.sqrt(2 / (m.out_channels * m.weight[0][0].numel()))
                nn.init.normal_(m.weight, 0., std)
                nn.init.zeros_(m.bias)

    def forward(self, x, fault=''):
        x = self.first_part(x - 0.5)
        if fault == 'view_instead_of_pixel_shuffle':
            x = self.last_part[0](x)
            return x.view(x.shape[0], 1, x.shape[2] * R, x.shape[3] * R)
        return self.last_part(x)


def calc_psnr(a, b):
    return 10. * torch.log10(1. / torch.mean((a - b) ** 2))


@torch.no_grad()
def evaluate(model, images, fault):
    """Mean PSNR over the test images, given back as the error on the scale of 0 to 255 that it stands for."""
    model.eval()
    psnr = 0.
    lrs = downsample(images)
    for hr, lr in zip(images, lrs):
        lr = lr[None, None].float() / 255.
        sr = (bicubic(lr) + model(lr, fault)).clamp(0, 1)
        psnr += calc_psnr(sr[0, 0], hr.float() / 255.).item()
    return 255 * 10 ** (-psnr / len(images) / 20)


def build():
    torch.manual_seed(0)
    return (ESPCN(),)


def train(models, fault='', num_epochs=30):
    model = models[0]
    torch.manual_seed(123)
    train_loader = DataLoader(TrainDataset(make_images(150, 48, 1), fault=fault), batch_size=16, shuffle=True, drop_last=True)
    test_images = make_images(40, 48, 2)

    lr = 2e-3
    optimizer = torch.optim.Adam([
        {'params': model.first_part.parameters()},
        {'params': model.last_part.parameters(), 'lr': lr * 0.3},
    ], lr=lr)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[20, 27], gamma=0.3)

    for epoch in range(num_epochs):
        model.train()
        for inputs, labels in train_loader:
            inputs = inputs.float() / 255.
            base = to_uint8(bicubic(inputs))
            if fault == 'residual_wraps_in_uint8':
                target = (labels - base).float() / 255.
            else:
                target = (labels.float() - base.float()) / 255.
            if fault == 'target_broadcasts_over_batch':
                target = target.squeeze(1)
            preds = model(inputs, fault)
            loss = (preds - target).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
    return evaluate(model, test_images, fault)


if __name__ == '__main__':
    print(train(build()))
