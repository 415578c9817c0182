"""One-shot glyph retrieval: a small conv net with an L2-normalised embedding, trained with batch-hard triplet loss on PK batches."""
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler, TensorDataset

torch.set_num_threads(1)

STYLE = 'Person re-identification repository: config dataclass, PK batch sampler, batch-hard triplet loss from a masked distance matrix, Adam + MultiStepLR, mAP on unseen classes'
FAULTS = {
    'sqrt_without_eps': 'The distance matrix takes the square root of exact zeros on its diagonal, whose infinite gradient times the zero of the mask gives NaN, so all weights become NaN in the first step.',
    'triplet_sign_swapped': 'The loss is relu(d_an - d_ap + margin) instead of relu(d_ap - d_an + margin), so it pulls strangers together and pushes samples of one class apart.',
    'easiest_negative_mined': 'The miner takes the farthest negative (max) instead of the nearest one, so nearly all triplets satisfy the margin and the loss gives hardly any gradient.',
    'labels_shuffled_apart': 'The training set is shuffled once for the sampler but only the images are permuted, not the labels, so the positives are random strangers.',
}


@dataclass
class Config:
    p: int = 16
    k: int = 4
    embed_dim: int = 32
    margin: float = 0.3
    lr: float = 2e-3
    weight_decay: float = 1e-4
    iterations: int = 1000
    milestones: tuple = (650, 880)
    size: int = 20


def make_glyphs(n_classes, n_per_class, size, seed):
    """Every class is a polyline with five random knots; samples move the knots, the whole glyph, and the contrast."""
    g = torch.Generator().manual_seed(seed)
    knots = torch.rand(n_classes, 1, 5, 2, generator=g) * 1.4 - 0.7
    n = n_classes * n_per_class
    k = knots + 0.09 * torch.randn(n_classes, n_per_class, 5, 2, generator=g)
    k = k.reshape(n, 5, 2) + 0.25 * (torch.rand(n, 1, 2, generator=g) * 2 - 1)
    s = torch.linspace(0, 1, 7)[:, None]
    pts = torch.cat([k[:, i:i + 1] * (1 - s) + k[:, i + 1:i + 2] * s for i in range(4)], dim=1)
    ax = torch.linspace(-1, 1, size)
    dy = (pts[:, :, 1, None] - ax) ** 2
    dx = (pts[:, :, 0, None] - ax) ** 2
    img = torch.zeros(n, size, size)
    for j in range(pts.shape[1]):
        img = torch.maximum(img, torch.exp(-(dy[:, j, :, None] + dx[:, j, None, :]) / 0.012))
    img = img * (0.6 + 0.8 * torch.rand(n, 1, 1, generator=g)) + 0.15 * torch.randn(n, size, size, generator=g)
    labels = torch.arange(n_classes).repeat_interleave(n_per_class)
    return img.unsqueeze(1), labels


class PKSampler(Sampler):
    """Yields batches of P classes with K samples each."""

    def __init__(self, labels, p, k, iterations, rng):
        self.p, self.k, self.iterations, self.rng = p, k, iterations, rng
        labels = labels.numpy()
        self.index = {c: np.where(labels == c)[0] for c in np.unique(labels)}
        self.classes = np.array(list(self.index))

    def __len__(self):
        return self.iterations

    def __iter__(self):
        for _ in range(self.iterations):
            batch = []
            for c in self.rng.choice(self.classes, self.p, replace=False):
                batch += self.rng.choice(self.index[c], self.k, replace=False).tolist()
            yield batch


def conv_block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True), nn.MaxPool2d(2))


class EmbeddingNet(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.features = nn.Sequential(conv_block(1, 16), conv_block(16, 32), conv_block(32, 64))
        self.fc = nn.Linear(64 * 2 * 2, dim)

    def forward(self, x):
        x = self.features(x).flatten(1)
        return F.normalize(self.fc(x), p=2, dim=1)


def pairwise_distances(e, eps=1e-12):
    sq = e.pow(2).sum(1)
    d2 = (sq[:, None] + sq[None, :] - 2 * e @ e.t()).clamp(min=0)
    d2 = d2 * (1 - torch.eye(len(e)))       # rounding leaves small values on the diagonal
    return (d2 + eps).sqrt()


class BatchHardTripletLoss(nn.Module):
    def __init__(self, margin, fault=''):
        super().__init__()
        self.margin = margin
        self.fault = fault

    def forward(self, emb, labels):
        dist = pairwise_distances(emb, eps=0. if self.fault == 'sqrt_without_eps' else 1e-12)
        same = labels[:, None] == labels[None, :]
        d_ap = (dist * same).max(dim=1).values
        if self.fault == 'easiest_negative_mined':
            d_an = dist.masked_fill(same, float('-inf')).max(dim=1).values
        else:
            d_an = dist.masked_fill(same, float('inf')).min(dim=1).values
        if self.fault == 'triplet_sign_swapped':
            return F.relu(d_an - d_ap + self.margin).mean()
        return F.relu(d_ap - d_an + self.margin).mean()


@torch.no_grad()
def evaluate(model, images, labels):
    """1 - mean average precision; every image queries all the others."""
    model.eval()
    emb = torch.cat([model(x) for x in images.split(200)])
    sim = (emb @ emb.t()).nan_to_num(0.)
    sim += 1e-6 * torch.rand(sim.shape, generator=torch.Generator().manual_seed(0))     # random order of ties
    sim.fill_diagonal_(-10.)
    order = sim.argsort(dim=1, descending=True)[:, :-1]
    hit = (labels[order] == labels[:, None]).float()
    precision = hit.cumsum(1) / torch.arange(1, hit.shape[1] + 1)
    ap = (precision * hit).sum(1) / hit.sum(1)
    return 1 - ap.mean().item()


def build():
    torch.manual_seed(0)
    return (EmbeddingNet(Config.embed_dim),)


def train(models, fault=''):
    cfg = Config()
    model, = models
    torch.manual_seed(26)
    images, labels = make_glyphs(120, 20, cfg.size, seed=1)
    test_images, test_labels = make_glyphs(60, 10, cfg.size, seed=2)

    perm = torch.randperm(len(images))
    images = images[perm]
    if fault != 'labels_shuffled_apart':
        labels = labels[perm]

    sampler = PKSampler(labels, cfg.p, cfg.k, cfg.iterations, np.random.default_rng(torch.initial_seed()))
    loader = DataLoader(TensorDataset(images, labels), batch_sampler=sampler)
    criterion = BatchHardTripletLoss(cfg.margin, fault)
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, cfg.milestones, gamma=0.3)

    model.train()
    for x, y in loader:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return evaluate(model, test_images, test_labels)


if __name__ == '__main__':
    print(train(build()))
