"""Semantic segmentation of small street-like scenes with a U-Net: five classes, class weights and a void label."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'pytorch-deeplab-xception / Pytorch-UNet repositories: sample dict transforms (random scale and crop, flip, normalise), weighted cross entropy with ignore_index 255, SGD with a poly learning rate, Evaluator with a confusion matrix and mIoU'
FAULTS = {
    'mask_resized_bilinear': 'Random scaling resizes the label mask with bilinear interpolation like the picture, so along each border the class numbers are averaged to other classes and the void number spills into invented ones.',
    'void_clamped_to_last_class': 'The training mask is clamped to the number of classes minus one (to get rid of the out-of-bounds target 255), so the void rims and patches are taught as the last class, pole, which has the largest weight.',
    'weights_not_inverted': 'The class weights are proportional to the class frequencies instead of their inverse, so the common classes count most and the rare ones nearly nothing.',
    'poly_ends_after_first_epoch': 'The poly scheduler counts iterations but its maximum is the number of iterations of one epoch, so the learning rate is zero from the second epoch on.',
    'decoder_joins_itself': 'The decoder concatenates the upsampled tensor with itself instead of with the skip of the encoder, so the fine detail is lost.',
}
BETTER = 'higher'

SEED = 62
SIZE, CLASSES, VOID = 48, 5, 255
NAMES = ('background', 'road', 'car', 'person', 'pole')


def make_scene(rng):
    """Road trapezoid, cars, people and thin poles; void rim around objects and a few void patches."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    mask = np.zeros((SIZE, SIZE), np.uint8)
    img = np.empty((SIZE, SIZE, 3))
    img[:] = rng.uniform(0.3, 0.7, 3)
    img += 0.12 * np.sin(x * rng.uniform(0.2, 0.8) + y * rng.uniform(0.2, 0.8) + rng.uniform(0, 6))[..., None]
    top, centre, slope = rng.uniform(14, 24), rng.uniform(14, 34), rng.uniform(0.5, 0.9)
    road = (y > top) & (np.abs(x - centre) < 3 + slope * (y - top))
    mask[road], img[road] = 1, rng.uniform(0.35, 0.6) + np.zeros(3)
    rim = np.zeros((SIZE, SIZE), bool)
    for _ in range(rng.integers(3, 7)):
        kind = rng.choice([2, 3, 4], p=[0.4, 0.35, 0.25])
        cx, cy = rng.uniform(4, 44), rng.uniform(12, 42)
        colour = rng.uniform(0.1, 0.9, 3)
        if kind == 2:
            w, h = rng.uniform(4, 8), rng.uniform(2.5, 4.5)
            inside = (np.abs(x - cx) < w) & (np.abs(y - cy) < h)
            outer = (np.abs(x - cx) < w + 1) & (np.abs(y - cy) < h + 1)
            wheels = inside & (y > cy + h - 2) & (np.abs(np.abs(x - cx) - w * 0.6) < 1.5)
            img[inside] = colour
            img[inside & (y < cy - h * 0.2) & (np.abs(x - cx) < w * 0.5)] = [0.75, 0.85, 0.95]
            img[wheels] = 0.05
        elif kind == 3:
            h = rng.uniform(3.5, 6)
            body = ((x - cx) / (h * 0.38)) ** 2 + ((y - cy) / h) ** 2 < 1
            head = (x - cx) ** 2 + (y - cy + h) ** 2 < (h * 0.36) ** 2
            inside = body | head
            outer = ((x - cx) / (h * 0.38 + 1)) ** 2 + ((y - cy + 1) / (h + 2.2)) ** 2 < 1
            img[inside] = colour
            img[head] = [0.85, 0.65, 0.5]
        else:
            length = rng.uniform(10, 18)
            inside = (np.abs(x - cx) < 1) & (y < cy) & (y > cy - length)
            outer = (np.abs(x - cx) < 2) & (y < cy + 1) & (y > cy - length - 1)
            img[inside] = rng.uniform(0.75, 0.95)
        rim = (rim & ~inside) | (outer & ~inside)
        mask[inside] = kind
    mask[rim & (rng.random((SIZE, SIZE)) < 0.5)] = VOID
    for _ in range(2):
        cy, cx, s = rng.integers(0, 40), rng.integers(0, 40), rng.integers(6, 14)
        mask[cy:cy + s, cx:cx + s] = VOID
    img = img + rng.normal(0, 0.06, img.shape)
    return (img.clip(0, 1) * 255).astype(np.uint8), mask


class SceneSegmentation(Dataset):
    def __init__(self, scenes, split, fault=''):
        self.scenes, self.split, self.fault = scenes, split, fault

    def __len__(self):
        return len(self.scenes)

    def scale_crop(self, image, mask):
        size = int(SIZE * np.random.uniform(1.0, 1.5))
        image = F.interpolate(image[None], size=(size, size), mode='bilinear', align_corners=False)[0]
        if self.fault == 'mask_resized_bilinear':
            mask = F.interpolate(mask[None, None].float(), size=(size, size), mode='bilinear', align_corners=False)[0, 0].long()
            mask[(mask >= CLASSES) & (mask < VOID)] %= CLASSES
        else:
            mask = F.interpolate(mask[None, None].float(), size=(size, size), mode='nearest')[0, 0].long()
        y, x = np.random.randint(0, size - SIZE + 1, 2)
        return image[:, y:y + SIZE, x:x + SIZE], mask[y:y + SIZE, x:x + SIZE]

    def __getitem__(self, index):
        image, mask = self.scenes[index]
        image = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        mask = torch.from_numpy(mask).long()
        if self.split == 'train':
            if np.random.rand() < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            image, mask = self.scale_crop(image, mask)
            if self.fault == 'void_clamped_to_last_class':
                mask = mask.clamp(max=CLASSES - 1)
        return {'image': (image - 0.5) / 0.25, 'label': mask}


class DoubleConv(nn.Sequential):
    def __init__(self, i, o):
        super().__init__(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True),
                         nn.Conv2d(o, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


class Up(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.up = nn.ConvTranspose2d(i, o, 2, stride=2)
        self.conv = DoubleConv(2 * o, o)

    def forward(self, x, skip, fault=''):
        x = self.up(x)
        if fault == 'decoder_joins_itself':
            return self.conv(torch.cat([x, x], 1))
        return self.conv(torch.cat([skip, x], 1))


class UNet(nn.Module):
    def __init__(self, c=10):
        super().__init__()
        self.inc, self.down1 = DoubleConv(3, c), DoubleConv(c, 2 * c)
        self.down2, self.down3 = DoubleConv(2 * c, 4 * c), DoubleConv(4 * c, 8 * c)
        self.up1, self.up2, self.up3 = Up(8 * c, 4 * c), Up(4 * c, 2 * c), Up(2 * c, c)
        self.outc = nn.Conv2d(c, CLASSES, 1)

    def forward(self, x, fault=''):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = self.down3(F.max_pool2d(x3, 2))
        x = self.up1(x, x3, fault)
        x = self.up2(x, x2, fault)
        return self.outc(self.up3(x, x1, fault))


def class_weights(scenes, fault=''):
    counts = np.zeros(CLASSES)
    for _, mask in scenes:
        counts += np.bincount(mask[mask != VOID].ravel(), minlength=CLASSES)
    frequency = counts / counts.sum()
    if fault == 'weights_not_inverted':
        weights = np.log(1.02 + frequency)
    else:
        weights = 1 / np.log(1.02 + frequency)
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


class Evaluator:
    def __init__(self):
        self.matrix = np.zeros((CLASSES, CLASSES))

    def add_batch(self, gt, pred):
        valid = gt != VOID
        self.matrix += np.bincount(CLASSES * gt[valid] + pred[valid], minlength=CLASSES ** 2).reshape(CLASSES, CLASSES)

    def mean_iou(self):
        hit = np.diag(self.matrix)
        return float(np.mean(hit / np.maximum(self.matrix.sum(0) + self.matrix.sum(1) - hit, 1)))


@torch.no_grad()
def validation(model, loader, fault=''):
    model.eval()
    evaluator = Evaluator()
    for sample in loader:
        pred = model(sample['image'], fault).argmax(1)
        evaluator.add_batch(sample['label'].numpy(), pred.numpy())
    return evaluator.mean_iou()


def build(seed=SEED):
    torch.manual_seed(seed)
    return (UNet(),)


def train(models, fault='', seed=SEED):
    model, = models
    torch.manual_seed(seed)
    np.random.seed(seed)
    rng = np.random.default_rng(seed)
    scenes = [make_scene(rng) for _ in range(500)]
    train_loader = DataLoader(SceneSegmentation(scenes[:400], 'train', fault), batch_size=8, shuffle=True, drop_last=True)
    val_loader = DataLoader(SceneSegmentation(scenes[400:], 'val', fault), batch_size=50)

    epochs, base_lr = 7, 0.05
    criterion = nn.CrossEntropyLoss(weight=class_weights(scenes[:400], fault), ignore_index=VOID)
    optimizer = torch.optim.SGD(model.parameters(), lr=base_lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    max_iter = len(train_loader) if fault == 'poly_ends_after_first_epoch' else epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=max_iter, power=0.9)
    best_pred = 0.0
    for epoch in range(epochs):
        model.train()
        for sample in train_loader:
            output = model(sample['image'], fault)
            loss = criterion(output, sample['label'])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        miou = validation(model, val_loader, fault)
        best_pred = max(best_pred, miou)
    return miou


if __name__ == '__main__':
    for name in ('', *FAULTS):
        print(f'{name or "healthy":32s} {train(build(), name):.4f}')
