"""Multi-label picture classification with rare labels, some of them uncertain: BCE with pos_weight, OneCycleLR, weight averaging, mAP."""
import copy
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'CheXpert-style training (uncertain labels -1, masked BCE with pos_weight) in the frame of the Alibaba ASL train.py: ModelEma, add_weight_decay groups, Adam with OneCycleLR per batch, validate by macro mAP of the EMA model'
FAULTS = {
    'pos_weight_inverted': 'pos_weight is positives over negatives instead of negatives over positives, so the few positives of a rare label weigh next to nothing against its negatives.',
    'uncertain_minus_one_as_target': 'The uncertain entries, stored as -1, stay in the loss as targets of BCE, which can then be lowered without end by pushing the logits of these labels down.',
    'flip_keeps_sided_labels': 'The random horizontal flip leaves the labels as they are although six of them come in left and right forms, so the two forms cannot be told apart.',
    'sigmoid_before_bce_with_logits': 'The outputs go through a sigmoid and then into BCEWithLogits, so the second sigmoid only sees values from 0 to 1 and the gradient of confident pictures fades.',
    'ema_without_buffers': 'The averaged copy that is evaluated follows only the parameters and not the buffers, so its batch norm keeps the running statistics of the untrained network.',
}

SEED = 55
SIZE = 28
NAMES = ('arrow_left', 'arrow_right', 'hook_left', 'hook_right', 'slash_left', 'slash_right', 'disc', 'ring', 'square', 'cross')
SWAP = [1, 0, 3, 2, 5, 4, 6, 7, 8, 9]
FREQUENCY = (0.25, 0.18, 0.12, 0.08, 0.05, 0.04, 0.3, 0.04, 0.15, 0.03)


def shape_mask(k, u, v):
    """Soft ink of shape k in coordinates u (right) and v (down) of about -1 to 1."""
    def stroke(x0, y0, x1, y1):
        dx, dy = x1 - x0, y1 - y0
        t = np.clip(((u - x0) * dx + (v - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        return np.exp(-((u - x0 - t * dx) ** 2 + (v - y0 - t * dy) ** 2) / 0.06)
    if k in (1, 3, 5):
        u = -u
    r = np.sqrt(u ** 2 + v ** 2)
    if k in (0, 1):
        return np.maximum.reduce([stroke(-0.9, 0, 0.9, 0), stroke(-0.9, 0, -0.1, -0.7), stroke(-0.9, 0, -0.1, 0.7)])
    if k in (2, 3):
        return np.maximum(stroke(0.5, -0.9, 0.5, 0.8), stroke(0.5, 0.8, -0.6, 0.8))
    if k in (4, 5):
        return np.maximum(stroke(-0.7, -0.9, 0.7, 0.9), stroke(-0.7, 0.9, 0.0, 0.9))
    if k == 6:
        return 1 / (1 + np.exp((r - 0.75) * 12))
    if k == 7:
        return np.exp(-(r - 0.75) ** 2 / 0.04)
    if k == 8:
        return np.exp(-(np.maximum(np.abs(u), np.abs(v)) - 0.7) ** 2 / 0.04)
    return np.maximum(stroke(-0.8, -0.8, 0.8, 0.8), stroke(-0.8, 0.8, 0.8, -0.8))


def draw_pictures(n, rng):
    labels = (rng.random((n, len(NAMES))) < np.array(FREQUENCY)).astype(np.float32)
    images = np.zeros((n, 3, SIZE, SIZE), dtype=np.float32)
    gy, gx = np.mgrid[0:SIZE, 0:SIZE]
    cells = np.array([(x, y) for x in (5, 14, 23) for y in (5, 14, 23)])
    for i in range(n):
        present = np.flatnonzero(labels[i])
        if len(present) > len(cells):
            present = present[:len(cells)]
            labels[i] = 0
            labels[i, present] = 1
        img = np.ones((3, SIZE, SIZE)) * rng.uniform(0.1, 0.5, (3, 1, 1))
        img = img + rng.normal(0, 0.15, (3, 1, 1)) * np.sin(gx * rng.uniform(-0.4, 0.4) + gy * rng.uniform(-0.4, 0.4))
        places = cells[rng.permutation(len(cells))]
        for k, (cx, cy) in zip(present, places):
            s = rng.uniform(3.4, 4.6)
            u = (gx - cx - rng.normal(0, 0.4)) / s
            v = (gy - cy - rng.normal(0, 0.4)) / s
            ink = shape_mask(k, u, v)
            img = img * (1 - ink) + ink * rng.uniform(0.55, 1.0, (3, 1, 1))
        images[i] = img + rng.normal(0, 0.06, img.shape)
    return images, labels


class MultiLabelDataset(Dataset):
    def __init__(self, images, labels, is_train=False, fault=''):
        self.images, self.labels, self.is_train, self.fault = images, labels, is_train, fault

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image, label = self.images[idx], self.labels[idx]
        if self.is_train:
            if np.random.rand() < 0.5:
                image = image[:, :, ::-1]
                if self.fault != 'flip_keeps_sided_labels':
                    label = label[SWAP]
            dx, dy = np.random.randint(0, 5, 2)
            image = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode='edge')[:, dy:dy + SIZE, dx:dx + SIZE]
        return torch.from_numpy(np.ascontiguousarray((image - 0.4) / 0.25)), torch.from_numpy(label)


class BasicBlock(nn.Module):
    def __init__(self, a, b, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b)
        self.conv2, self.bn2 = nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b)
        self.downsample = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b)) if stride > 1 else nn.Identity()

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self, num_classes=len(NAMES), c=16):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU())
        self.layer1 = BasicBlock(c, c * 2, 2)
        self.layer2 = BasicBlock(c * 2, c * 3, 2)
        self.fc = nn.Linear(c * 3, num_classes)

    def forward(self, x):
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(F.adaptive_max_pool2d(x, 1).flatten(1))


class ModelEma:
    """Exponential moving average of the weights of a model."""

    def __init__(self, model, decay, fault=''):
        self.module, self.decay, self.fault = copy.deepcopy(model), decay, fault
        self.module.eval()

    @torch.no_grad()
    def update(self, model):
        for ema_p, p in zip(self.module.parameters(), model.parameters()):
            ema_p.mul_(self.decay).add_(p, alpha=1 - self.decay)
        if self.fault != 'ema_without_buffers':
            for ema_b, b in zip(self.module.buffers(), model.buffers()):
                ema_b.copy_(b)


def add_weight_decay(model, weight_decay):
    decay, no_decay = [], []
    for name, param in model.named_parameters():
        (no_decay if param.ndim == 1 or name.endswith('.bias') else decay).append(param)
    return [{'params': no_decay, 'weight_decay': 0.0}, {'params': decay, 'weight_decay': weight_decay}]


def average_precision(output, target):
    order = np.argsort(-output, kind='stable')
    hits = target[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return (precision * hits).sum() / max(hits.sum(), 1)


@torch.no_grad()
def validate(model, images, labels):
    """Macro mAP over the labels on unseen pictures."""
    model.eval()
    loader = DataLoader(MultiLabelDataset(images, labels), batch_size=100)
    preds = torch.cat([torch.sigmoid(model(x)) for x, _ in loader]).numpy()
    return float(np.mean([average_precision(preds[:, k], labels[:, k]) for k in range(labels.shape[1])]))


def build():
    torch.manual_seed(SEED)
    return (ResNet(),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    rng = np.random.default_rng(SEED)
    images, labels = draw_pictures(2400, rng)
    val_images, val_labels = draw_pictures(1000, rng)
    labels[rng.random(labels.shape) < 0.15] = -1.0      # the annotator was not sure

    epochs, batch_size, lr = 12, 32, 4e-3
    train_loader = DataLoader(MultiLabelDataset(images, labels, True, fault), batch_size=batch_size, shuffle=True, drop_last=True)
    positives = torch.from_numpy((labels == 1).sum(0)).float()
    negatives = torch.from_numpy((labels == 0).sum(0)).float()
    pos_weight = (negatives / positives).clamp(max=20)
    if fault == 'pos_weight_inverted':
        pos_weight = positives / negatives
    criterion = nn.BCEWithLogitsLoss(pos_weight=pos_weight, reduction='none')
    optimizer = torch.optim.Adam(add_weight_decay(model, 1e-4), lr=lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, steps_per_epoch=len(train_loader), epochs=epochs, pct_start=0.2)
    ema = ModelEma(model, 0.98, fault)

    for epoch in range(epochs):
        model.train()
        for input, target in train_loader:
            output = model(input)
            if fault == 'sigmoid_before_bce_with_logits':
                output = torch.sigmoid(output)
            mask = (target >= 0).float()
            if fault == 'uncertain_minus_one_as_target':
                loss = criterion(output, target).mean()
            else:
                loss = (criterion(output, target.clamp(min=0)) * mask).sum() / mask.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            ema.update(model)

    return validate(ema.module, val_images, val_labels)


if __name__ == '__main__':
    print(train(build()))
