"""FixMatch: semi-supervised classification of synthetic glyph images with few labels, EMA model for testing."""
import copy
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'kekmodel/FixMatch-pytorch: x_u_split, TransformFixMatch returning (weak, strong), interleave / de_interleave around one forward pass, threshold mask, ModelEMA, SGD nesterov with cosine schedule per step'
FAULTS = {
    'not_de_interleaved': 'The logits are not de-interleaved after the forward pass, so the labeled, weak and strong logits are mixed up and compared with the wrong partners.',
    'weak_strong_swapped': 'The dataset returns (strong, weak) while the loop unpacks (weak, strong), so the pseudo labels come from the distorted view and the weak view is trained on them.',
    'flip_in_weak_augment': 'The weak augmentation also flips left-right although some glyph classes are mirror images of each other (as b and d), so labels and pseudo labels are wrong for flipped images.',
    'labels_not_stratified': 'The labeled subset is the first entries of a dataset that is sorted by class instead of a few of each class, so most classes have no label at all.',
}

SIZE, N_CLASSES = 16, 8


def make_glyphs(per_class, seed):
    """Images sorted by class; each class is a poly-line glyph (the second half mirrors the first) under shift, scale, rotation, distortion and noise."""
    shape_rng, rng = np.random.default_rng(77), np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing='ij'), -1).reshape(1, -1, 2)
    images, labels = [], []
    glyphs = [shape_rng.uniform(-5.5, 5.5, (4, 2)) for _ in range(N_CLASSES // 2)]
    glyphs += [g * [1, -1] for g in glyphs]
    for c, pts in enumerate(glyphs):
        n = per_class
        p = pts[None] + rng.normal(0, 0.5, (n, 4, 2))
        t = rng.normal(0, 0.25, n)
        rot = np.stack([np.stack([np.cos(t), -np.sin(t)], -1), np.stack([np.sin(t), np.cos(t)], -1)], 1)
        p = p @ rot * rng.uniform(0.8, 1.1, (n, 1, 1)) + SIZE / 2 - 0.5 + rng.uniform(-2, 2, (n, 1, 2))
        dist = np.full((n, SIZE * SIZE), 1e9)
        for i in range(3):
            pa, ab = p[:, i, None], (p[:, i + 1] - p[:, i])[:, None]
            s = np.clip(((grid - pa) * ab).sum(-1) / ((ab ** 2).sum(-1) + 1e-6), 0, 1)[..., None]
            dist = np.minimum(dist, ((grid - pa - s * ab) ** 2).sum(-1))
        ink = np.exp(-dist) * rng.uniform(0.6, 1.4, (n, 1)) + rng.normal(0, 0.2, dist.shape)
        images.append(ink.reshape(n, 1, SIZE, SIZE).astype(np.float32))
        labels.append(np.full(n, c))
    return torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(labels))


def x_u_split(labels, num_labeled, stratify=True):
    if stratify:
        per_class = num_labeled // N_CLASSES
        rng = np.random.default_rng(5)
        labeled = np.concatenate([rng.choice(np.flatnonzero(labels.numpy() == c), per_class, False) for c in range(N_CLASSES)])
    else:
        labeled = np.arange(num_labeled)
    return torch.from_numpy(labeled), torch.arange(len(labels))


def weak_augment(x, g, flip=False):
    if flip and torch.rand((), generator=g) < 0.5:
        x = x.flip(-1)
    p = F.pad(x, (1, 1, 1, 1))
    dy, dx = torch.randint(0, 3, (2,), generator=g).tolist()
    return p[:, dy:dy + SIZE, dx:dx + SIZE]


def strong_augment(x, g):
    x = weak_augment(x, g)
    r = torch.rand(8, generator=g)
    x = x * (0.5 + r[0]) + 0.4 * (r[1] - 0.5)
    angle = (r[2] - 0.5) * 0.9
    shear = (r[3] - 0.5) * 0.5
    c, s = torch.cos(angle), torch.sin(angle)
    theta = torch.stack([torch.stack([c, -s + shear, (r[4] - 0.5) * 0.3]), torch.stack([s, c, (r[5] - 0.5) * 0.3])])
    x = F.grid_sample(x[None], F.affine_grid(theta[None], (1, 1, SIZE, SIZE), align_corners=False), align_corners=False)[0]
    cy, cx = (r[6:8] * (SIZE - 4)).long().tolist()
    x[:, cy:cy + 4, cx:cx + 4] = 0
    return x


class GlyphSSL(Dataset):
    def __init__(self, images, labels, indices, mode, seed=0, flip=False):
        self.images, self.labels, self.mode = images[indices], labels[indices], mode
        self.flip = flip
        self.g = torch.Generator().manual_seed(seed)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        x = self.images[i]
        if self.mode == 'labeled':
            return weak_augment(x, self.g, self.flip), self.labels[i]
        return (weak_augment(x, self.g, self.flip), strong_augment(x, self.g)), self.labels[i]


class ConvNet(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        def block(a, b, pool):
            return nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b, momentum=0.05), nn.LeakyReLU(0.1), *([nn.MaxPool2d(2)] if pool else []))
        self.net = nn.Sequential(block(1, width, True), block(width, 2 * width, True), block(2 * width, 2 * width, False))
        self.fc = nn.Linear(2 * width * 16, N_CLASSES)

    def forward(self, x):
        return self.fc(self.net(x).flatten(1))


class ModelEMA:
    def __init__(self, model, decay=0.99):
        self.ema = copy.deepcopy(model).eval()
        self.decay = decay
        for p in self.ema.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for p, q in zip(self.ema.parameters(), model.parameters()):
            p.mul_(self.decay).add_(q, alpha=1 - self.decay)
        for b, c in zip(self.ema.buffers(), model.buffers()):
            b.copy_(c)


def interleave(x, size):
    s = list(x.shape)
    return x.reshape([-1, size] + s[1:]).transpose(0, 1).reshape([-1] + s[1:])


def de_interleave(x, size):
    s = list(x.shape)
    return x.reshape([size, -1] + s[1:]).transpose(0, 1).reshape([-1] + s[1:])


@torch.no_grad()
def test(model, images, labels):
    """Classification error."""
    model.eval()
    pred = torch.cat([model(x).argmax(1) for x in images.split(250)])
    return (pred != labels).float().mean().item()


def build():
    torch.manual_seed(39)
    return (ConvNet(),)


def cycle(loader):
    while True:
        yield from loader


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(39)
    batch_size, mu, total_steps = 16, 3, 1000
    threshold, lambda_u, T = 0.95, 1.0, 1.0
    images, labels = make_glyphs(300, seed=1)
    test_images, test_labels = make_glyphs(150, seed=2)
    labeled_idx, unlabeled_idx = x_u_split(labels, 40, stratify=fault != 'labels_not_stratified')
    labeled = GlyphSSL(images, labels, labeled_idx, 'labeled', seed=3, flip=fault == 'flip_in_weak_augment')
    unlabeled = GlyphSSL(images, labels, unlabeled_idx, 'unlabeled', seed=4, flip=fault == 'flip_in_weak_augment')
    labeled_iter = cycle(DataLoader(labeled, batch_size=batch_size, shuffle=True, drop_last=True))
    unlabeled_iter = cycle(DataLoader(unlabeled, batch_size=batch_size * mu, shuffle=True, drop_last=True))

    no_decay = [p for p in model.parameters() if p.ndim < 2]
    decay = [p for p in model.parameters() if p.ndim >= 2]
    optimizer = torch.optim.SGD([{'params': decay, 'weight_decay': 5e-4}, {'params': no_decay, 'weight_decay': 0.0}], lr=0.03, momentum=0.9, nesterov=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: np.cos(7 / 16 * np.pi * s / total_steps))
    ema_model = ModelEMA(model)

    model.train()
    for step in range(total_steps):
        inputs_x, targets_x = next(labeled_iter)
        (inputs_u_w, inputs_u_s), _ = next(unlabeled_iter)
        if fault == 'weak_strong_swapped':
            inputs_u_w, inputs_u_s = inputs_u_s, inputs_u_w
        inputs = interleave(torch.cat((inputs_x, inputs_u_w, inputs_u_s)), 2 * mu + 1)
        logits = model(inputs)
        if fault != 'not_de_interleaved':
            logits = de_interleave(logits, 2 * mu + 1)
        logits_x = logits[:batch_size]
        logits_u_w, logits_u_s = logits[batch_size:].chunk(2)
        Lx = F.cross_entropy(logits_x, targets_x)

        pseudo_label = torch.softmax(logits_u_w.detach() / T, dim=-1)
        max_probs, targets_u = pseudo_label.max(-1)
        mask = max_probs.ge(threshold).float()
        Lu = (F.cross_entropy(logits_u_s, targets_u, reduction='none') * mask).mean()
        loss = Lx + lambda_u * Lu
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        ema_model.update(model)

    return test(ema_model.ema, test_images, test_labels)


if __name__ == '__main__':
    print(train(build()))
