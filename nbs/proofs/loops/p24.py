import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'segmentation with a tiny U-Net, flip augmentation of picture and mask, BCE with logits, run_epoch(phase) for train and val'
FAULTS = {
    'flip_only_images': 'the random flip is applied to the pictures and not to the masks, so half of the targets do not fit',
    'sigmoid_before_bce_with_logits': 'the output goes through sigmoid before BCEWithLogitsLoss, so it is squashed twice',
    'validation_trains': 'run_epoch makes backward and optimizer.step() also in the val phase',
}


def conv_block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU())


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1 = conv_block(1, 8)
        self.down2 = conv_block(8, 16)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.fuse = conv_block(16, 8)
        self.final = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        u = self.up(b)
        return self.final(self.fuse(torch.cat([a, u], 1)))


def build():
    return (UNet(),)


def blobs(n):
    yy, xx = torch.meshgrid(torch.arange(16.), torch.arange(16.), indexing='ij')
    cx, cy = torch.rand(n, 1, 1) * 12 + 2, torch.rand(n, 1, 1) * 12 + 2
    r = torch.rand(n, 1, 1) * 2.5 + 2
    mask = ((xx - cx) ** 2 + (yy - cy) ** 2 < r ** 2).float().unsqueeze(1)
    img = 1.8 * mask - 0.4 + 0.8 * torch.randn(n, 1, 16, 16)
    return img, mask


def train(models, fault=''):
    torch.manual_seed(23)
    model = models[0]
    sets = {'train': blobs(400), 'val': blobs(100)}
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)

    def run_epoch(phase):
        is_train = phase == 'train'
        model.train(is_train)
        imgs, masks = sets[phase]
        order = torch.randperm(len(imgs)) if is_train else torch.arange(len(imgs))
        running = 0.0
        for idx in order.split(20):
            x, m = imgs[idx], masks[idx]
            if is_train and torch.rand(1).item() < 0.5:
                x = x.flip(-1)
                if fault != 'flip_only_images':
                    m = m.flip(-1)
            learn = is_train or fault == 'validation_trains'
            with torch.set_grad_enabled(learn):
                out = model(x)
                if fault == 'sigmoid_before_bce_with_logits':
                    out = torch.sigmoid(out)
                loss = criterion(out, m)
            if learn:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            running += loss.item() * len(idx)
        return running / len(imgs)

    val = None
    for epoch in range(9):
        tr = run_epoch('train')
        val = run_epoch('val')
        print(f'{epoch}: {tr:.4f} {val:.4f}')
    return val
