import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'super-resolution, while loop with a step count, random crops, OneCycleLR, clipping, L1 loss'
FAULTS = {
    'crops_not_aligned': 'the crop of the high-resolution image is drawn with an offset of its own, so it does not show what the low-resolution crop shows',
    'onecycle_stepped_per_epoch': 'OneCycleLR is made for all steps but stepped once per pass over the images, so the learning rate stays in its warmup',
    'upscale_by_view': 'the channels are turned into pixels by view instead of pixel shuffle, which puts them in the wrong places',
}


class ByView(nn.Module):
    def forward(self, x):
        return x.reshape(x.shape[0], 1, 2 * x.shape[2], 2 * x.shape[3])


class SuperRes(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, width, 5, padding=2), nn.ReLU(),
                                  nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
                                  nn.Conv2d(width, 4, 3, padding=1))
        self.upscale = nn.PixelShuffle(2)

    def forward(self, low):
        return F.interpolate(low, scale_factor=2, mode='bilinear') + self.upscale(self.body(low))


def build():
    return (SuperRes(),)


def make_images(n, size):
    yy, xx = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing='ij')
    img = torch.zeros(n, size, size)
    for _ in range(3):
        angle, phase = 6.28 * torch.rand(2, n, 1, 1)
        along = torch.cos(angle) * xx + torch.sin(angle) * yy
        img = img + torch.sin(6.28 / (4.5 + 4 * torch.rand(n, 1, 1)) * along + phase) * (0.3 + torch.rand(n, 1, 1))
    return img[:, None]


def train(models, fault=''):
    torch.manual_seed(36)
    model = models[0]
    if fault == 'upscale_by_view':
        model.upscale = ByView()
    high = make_images(320, 32)
    low = F.avg_pool2d(high, 2)
    test_high = make_images(60, 32)
    test_low = F.avg_pool2d(test_high, 2)

    max_steps, batch = 400, 16
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=max_steps, div_factor=500)
    steps_per_epoch = len(high) // batch

    step = 0
    model.train()
    while step < max_steps:
        idx = torch.randint(0, len(high), (batch,))
        r, c = torch.randint(0, 5, (2,)).tolist()
        x = low[idx, :, r:r + 12, c:c + 12]
        if fault == 'crops_not_aligned':
            r, c = torch.randint(0, 5, (2,)).tolist()
        y = high[idx, :, 2 * r:2 * r + 24, 2 * c:2 * c + 24]

        loss = F.l1_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if fault == 'onecycle_stepped_per_epoch':
            if step % steps_per_epoch == 0:
                scheduler.step()
        else:
            scheduler.step()

    model.eval()
    with torch.no_grad():
        return F.l1_loss(model(test_low), test_high).item()
