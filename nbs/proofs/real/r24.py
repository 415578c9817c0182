"""Prototypical network for few-shot classification of synthetic stroke characters, trained in episodes."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'Prototypical-networks repository: conv_block encoder, episodic batch sampler that yields class-major indices, prototypical_loss function, Adam + StepLR per epoch'
FAULTS = {
    'query_labels_tiled': 'The query labels are made with repeat instead of repeat_interleave although the queries are sorted by class, so most queries are pulled towards the prototype of another class.',
    'prototype_axes_swapped': 'The support features are viewed as (shot, way) and averaged over dim 0 although they are sorted by class, so each prototype is a mix of several classes.',
    'same_episode_each_time': 'The sampler reseeds its generator for every episode, so all training episodes hold the same few classes and the same images.',
    'distance_without_minus': 'The squared distances themselves are given to cross_entropy as logits, without the minus sign, so training pushes the queries away from the prototype of their own class.',
}

SIZE = 20


def make_characters(n_classes, per_class, rng):
    """Each class is a random poly-line drawing; each sample of it is jittered, shifted, scaled and noisy."""
    grid = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing='ij'), -1).reshape(1, -1, 2)
    images = np.zeros((n_classes, per_class, 1, SIZE, SIZE), dtype=np.float32)
    for c in range(n_classes):
        points = rng.uniform(3, SIZE - 4, (5, 2))
        p = points[None] + rng.normal(0, 0.8, (per_class, 5, 2))
        p = (p - SIZE / 2) * rng.uniform(0.8, 1.15, (per_class, 1, 1)) + SIZE / 2 + rng.uniform(-2.5, 2.5, (per_class, 1, 2))
        dist = np.full((per_class, SIZE * SIZE), 1e9)
        for a, b in ((0, 1), (1, 2), (3, 4)):
            pa, ab = p[:, a, None], (p[:, b] - p[:, a])[:, None]
            s = ((grid - pa) * ab).sum(-1) / ((ab ** 2).sum(-1) + 1e-6)
            s = np.clip(s, 0, 1)[..., None]
            dist = np.minimum(dist, ((grid - pa - s * ab) ** 2).sum(-1))
        ink = np.exp(-dist / 1.0) + rng.normal(0, 0.25, dist.shape)
        images[c] = ink.reshape(per_class, 1, SIZE, SIZE)
    return torch.from_numpy(images)


class PrototypicalBatchSampler:
    """Yields, per iteration, way * (shot + query) flat indices, sorted by class, support first in each class."""

    def __init__(self, n_classes, per_class, way, shot, query, iterations, seed, reseed=False):
        self.n_classes, self.per_class = n_classes, per_class
        self.way, self.n, self.iterations = way, shot + query, iterations
        self.seed, self.reseed = seed, reseed
        self.rng = np.random.default_rng(seed)

    def __len__(self):
        return self.iterations

    def __iter__(self):
        for _ in range(self.iterations):
            if self.reseed:
                self.rng = np.random.default_rng(self.seed)
            classes = self.rng.permutation(self.n_classes)[:self.way]
            idx = [c * self.per_class + self.rng.permutation(self.per_class)[:self.n] for c in classes]
            yield torch.from_numpy(np.concatenate(idx))


def conv_block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2))


class ProtoNet(nn.Module):
    def __init__(self, hid=24, z=32):
        super().__init__()
        self.encoder = nn.Sequential(conv_block(1, hid), conv_block(hid, hid), conv_block(hid, z))

    def forward(self, x):
        return self.encoder(x).flatten(1)


def euclidean_dist(x, y):
    """Squared distances, (n, d) and (m, d) -> (n, m)."""
    return (x.unsqueeze(1) - y.unsqueeze(0)).pow(2).sum(-1)


def prototypical_loss(features, way, shot, query, fault=''):
    d = features.size(-1)
    features = features.view(way, shot + query, d)
    support = features[:, :shot].reshape(way * shot, d)
    queries = features[:, shot:].reshape(way * query, d)
    if fault == 'prototype_axes_swapped':
        prototypes = support.view(shot, way, d).mean(0)
    else:
        prototypes = support.view(way, shot, d).mean(1)
    target = torch.arange(way).repeat_interleave(query)
    if fault == 'query_labels_tiled':
        target = torch.arange(way).repeat(query)
    dists = euclidean_dist(queries, prototypes)
    logits = -dists
    if fault == 'distance_without_minus':
        logits = dists
    loss = F.cross_entropy(logits, target)
    acc = (logits.argmax(1) == target).float().mean()
    return loss, acc


@torch.no_grad()
def test(model, images, way=10, shot=5, query=10, episodes=40):
    """Error on classes never seen in training, ten-way five-shot."""
    model.eval()
    n_classes, per_class = images.shape[:2]
    flat = images.flatten(0, 1)
    sampler = PrototypicalBatchSampler(n_classes, per_class, way, shot, query, episodes, seed=99)
    accs = [prototypical_loss(model(flat[idx]), way, shot, query)[1].item() for idx in sampler]
    return 1 - float(np.mean(accs))


def build():
    torch.manual_seed(24)
    return (ProtoNet(),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(24)
    way, shot, query = 10, 5, 5
    epochs, iterations = 6, 50
    train_images = make_characters(150, 20, np.random.default_rng(1))
    test_images = make_characters(50, 20, np.random.default_rng(2))
    flat = train_images.flatten(0, 1)
    sampler = PrototypicalBatchSampler(150, 20, way, shot, query, iterations, seed=7, reseed=fault == 'same_episode_each_time')

    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    for epoch in range(epochs):
        model.train()
        for idx in sampler:
            optimizer.zero_grad()
            features = model(flat[idx])
            loss, acc = prototypical_loss(features, way, shot, query, fault)
            loss.backward()
            optimizer.step()
        scheduler.step()

    return test(model, test_images)


if __name__ == '__main__':
    print(train(build()))
