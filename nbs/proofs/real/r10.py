"""U-Net with Dice + BCE on synthetic microscope-like images."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'milesial-like U-Net: DoubleConv/Down/Up modules, Dataset with joint augmentation, Dice + BCE loss, Adam with ExponentialLR, validation Dice after each epoch'
FAULTS = {
    'mask_not_flipped': 'the random flips are applied to the image and not to its mask, so most training masks do not lie on their cells',
    'dice_not_subtracted': 'the loss adds the Dice coefficient itself instead of 1 - Dice, so the overlap is minimised against the BCE term',
    'mask_in_0_255': 'the masks are loaded as 0..255 and not divided by 255, so BCE has targets far above one and drives the logits up without bound',
    'sigmoid_in_the_net_too': 'the net ends with a sigmoid although loss and evaluation apply their own, so the second sigmoid never falls below one half and every pixel becomes a cell',
}
SIZE = 32


def draw(n, seed):
    """Bright blobs (cells) with soft rims on an uneven background; thin bright streaks are no cells."""
    g = torch.Generator().manual_seed(seed)
    yy, xx = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing='ij')
    images, masks = [], []
    for _ in range(n):
        img = torch.randn(SIZE, SIZE, generator=g) * 0.25
        a = torch.rand(2, generator=g) - 0.5
        img += (a[0] * yy + a[1] * xx) / SIZE
        mask = torch.zeros(SIZE, SIZE)
        for _ in range(int(torch.randint(1, 4, (1,), generator=g))):
            cy, cx = (torch.rand(2, generator=g) * SIZE).tolist()
            ry, rx = (2.0 + 2.5 * torch.rand(2, generator=g)).tolist()
            cell = ((yy - cy) / ry) ** 2 + ((xx - cx) / rx) ** 2 < 1
            img += cell * (0.5 + 0.4 * torch.rand(1, generator=g))
            mask[cell] = 1
        for _ in range(2):
            r = int(torch.randint(SIZE, (1,), generator=g))
            line = torch.zeros(SIZE, SIZE)
            line[r] = 1
            img += 0.7 * (line if torch.rand(1, generator=g) < 0.5 else line.T) * (mask == 0)
        images.append(img)
        masks.append(mask * 255)
    return torch.stack(images).unsqueeze(1), torch.stack(masks).to(torch.uint8).unsqueeze(1)


class CellDataset(Dataset):
    def __init__(self, n, seed, augment=False, scale=255, flip_mask=True):
        self.images, self.masks = draw(n, seed)
        self.augment, self.scale, self.flip_mask = augment, scale, flip_mask

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        img, mask = self.images[i], self.masks[i].float() / self.scale
        if self.augment:
            for dim in (-1, -2):
                if torch.rand(1) < 0.5:
                    img = img.flip(dim)
                    if self.flip_mask:
                        mask = mask.flip(dim)
        return {'image': img, 'mask': mask}


class DoubleConv(nn.Sequential):
    def __init__(self, i, o):
        super().__init__(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True),
                         nn.Conv2d(o, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


class Up(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.up = nn.ConvTranspose2d(i, o, 2, 2)
        self.conv = DoubleConv(2 * o, o)

    def forward(self, x, skip):
        return self.conv(torch.cat([skip, self.up(x)], dim=1))


class UNet(nn.Module):
    def __init__(self, c=8):
        super().__init__()
        self.inc = DoubleConv(1, c)
        self.down1, self.down2 = DoubleConv(c, 2 * c), DoubleConv(2 * c, 4 * c)
        self.up1, self.up2 = Up(4 * c, 2 * c), Up(2 * c, c)
        self.outc = nn.Conv2d(c, 1, 1)
        self.final_sigmoid = False

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        out = self.outc(self.up2(self.up1(x3, x2), x1))
        return torch.sigmoid(out) if self.final_sigmoid else out


def build():
    torch.manual_seed(0)
    return (UNet(),)


def dice_coeff(p, t, eps=1.0):
    inter = (p * t).sum(dim=(1, 2, 3))
    return ((2 * inter + eps) / (p.sum(dim=(1, 2, 3)) + t.sum(dim=(1, 2, 3)) + eps)).mean()


def train(models, fault=''):
    net = models[0]
    torch.manual_seed(8)
    train_set = CellDataset(600, 1, augment=True, scale=1 if fault == 'mask_in_0_255' else 255,
                            flip_mask=fault != 'mask_not_flipped')
    val_set = CellDataset(120, 2)
    train_loader = DataLoader(train_set, batch_size=16, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=40)

    if fault == 'sigmoid_in_the_net_too':
        net.final_sigmoid = True
    bce = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
    for epoch in range(10):
        net.train()
        for batch in train_loader:
            logits = net(batch['image'])
            dice = dice_coeff(torch.sigmoid(logits), batch['mask'])
            loss = bce(logits, batch['mask']) + (dice if fault == 'dice_not_subtracted' else 1 - dice)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        scheduler.step()

        net.eval()
        scores = []
        with torch.no_grad():
            for batch in val_loader:
                pred = (torch.sigmoid(net(batch['image'])) > 0.5).float()
                scores.append(dice_coeff(pred, batch['mask']).item())
    return 1 - sum(scores) / len(scores)
