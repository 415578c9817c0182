import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

torch.set_num_threads(1)

STYLE = 'segmentation with a small U-Net, Dataset class with random flips, BCE plus dice, autocast with bfloat16'
FAULTS = {
    'mask_not_flipped': 'the random flip is applied to the image but not to its mask',
    'dice_added_instead_of_one_minus': 'the dice coefficient itself is added to the loss, so the overlap is pushed down',
    'sigmoid_twice': 'the network ends in a sigmoid although loss and evaluation apply the sigmoid themselves',
}


class UNet(nn.Module):
    def __init__(self, width=10):
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.GroupNorm(2, width), nn.ReLU())
        self.down2 = nn.Sequential(nn.Conv2d(width, 2 * width, 3, padding=1), nn.GroupNorm(2, 2 * width), nn.ReLU())
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.merge = nn.Sequential(nn.Conv2d(2 * width, width, 3, padding=1), nn.GroupNorm(2, width), nn.ReLU())
        self.out = nn.Sequential(nn.Conv2d(width, 1, 1))

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        return self.out(self.merge(torch.cat([a, self.up(b)], dim=1)))


class Blobs(Dataset):
    def __init__(self, n, augment, fault=''):
        grid = torch.arange(16).float()
        cx, cy = 3 + 10 * torch.rand(n, 1, 1), 3 + 10 * torch.rand(n, 1, 1)
        r = 2.0 + 2.5 * torch.rand(n, 1, 1)
        self.masks = (((grid.view(1, 1, 16) - cx) ** 2 + (grid.view(1, 16, 1) - cy) ** 2) < r ** 2).float()
        stripes = (torch.rand(n, 16, 1) < 0.15).float()
        self.images = 1.2 * self.masks + stripes + 0.6 * torch.randn(n, 16, 16)
        self.images = (self.images - 0.35) / 0.85
        self.augment, self.fault = augment, fault

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image, mask = self.images[i], self.masks[i]
        if self.augment:
            for dim in (0, 1):
                if torch.rand(()) < 0.5:
                    image = image.flip(dim)
                    if self.fault != 'mask_not_flipped':
                        mask = mask.flip(dim)
        return image[None], mask[None]


def build():
    return (UNet(),)


def train(models, fault=''):
    torch.manual_seed(34)
    model = models[0]
    if fault == 'sigmoid_twice':
        model.out.append(nn.Sigmoid())
    loader = DataLoader(Blobs(320, True, fault), batch_size=16, shuffle=True)
    test_loader = DataLoader(Blobs(200, False), batch_size=50)

    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8)
    for epoch in range(8):
        model.train()
        for image, mask in loader:
            optimizer.zero_grad()
            with torch.autocast('cpu', dtype=torch.bfloat16):
                logits = model(image)
            logits = logits.float()
            prob = torch.sigmoid(logits)
            dice = (2 * (prob * mask).sum((1, 2, 3)) + 1) / (prob.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + 1)
            if fault == 'dice_added_instead_of_one_minus':
                region = dice.mean()
            else:
                region = (1 - dice).mean()
            loss = F.binary_cross_entropy_with_logits(logits, mask) + region
            loss.backward()
            optimizer.step()
        scheduler.step()

    model.eval()
    inter = union = 0.0
    with torch.no_grad():
        for image, mask in test_loader:
            pred = (torch.sigmoid(model(image)) > 0.5).float()
            inter += (pred * mask).sum().item()
            union += ((pred + mask) > 0).float().sum().item()
    return 1 - inter / union
