"""MoCo in small: a query encoder learns against a momentum encoder and a queue; a k-nearest-neighbour vote judges the features."""
import copy
import math
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'facebookresearch/moco and its CIFAR notebook: two random views, key encoder with momentum update under no_grad, queue as a buffer with a pointer, InfoNCE with labels zero, Adam with cosine learning rate, kNN monitor each epoch'
FAULTS = {
    'positive_at_the_end': 'The logits are concatenated as negatives first and positive last while the labels stay zero, so the loss pulls each query to the oldest entry of the queue and pushes it off its own key.',
    'both_views_the_same': 'The random view is drawn once and used as query and as key, so the pretext task can be solved by matching pixels and colours and the features carry little of the shape.',
    'lr_of_sgd_for_adam': 'The learning rate 0.06 of the SGD recipe was kept when the optimizer was changed to Adam, which wants some thousandths, so the first steps wreck the encoder.',
    'shuffle_not_undone': 'The key pictures are shuffled for the batch norm statistics but their features are not put back in order, so the positive of a query is the key of another picture.',
    'momentum_exchanged': 'The momentum update takes m times the query weights and (1 - m) times the key weights, so the key encoder follows the query encoder at once and the queue is inconsistent.',
}
BETTER = 'higher'

SEED = 69
SIZE, CLASSES = 24, 12


def make_pictures(n, rng):
    """Woven stuffs: twelve kinds (orientation and thread width) under uneven light, with stains, folds and sensor noise."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    images, labels = np.zeros((n, 1, SIZE, SIZE), np.float32), rng.integers(0, CLASSES, n)
    for i, c in enumerate(labels):
        angle = np.pi * (c % 6) / 6 + rng.normal(0, 0.08)
        freq = (0.85 if c < 6 else 1.55) * rng.uniform(0.93, 1.07)
        u = np.cos(angle) * x + np.sin(angle) * y
        weave = rng.uniform(0.1, 0.28) * np.sin(freq * u + rng.uniform(0, 2 * np.pi))
        light = rng.uniform(0.3, 0.7) + rng.uniform(-0.3, 0.3) * (x / SIZE - 0.5) + rng.uniform(-0.3, 0.3) * (y / SIZE - 0.5)
        img = light + weave
        for _ in range(rng.integers(2, 6)):
            cx, cy, r = rng.uniform(0, SIZE), rng.uniform(0, SIZE), rng.uniform(2, 5)
            img += rng.uniform(-0.4, 0.4) * (np.hypot(x - cx, y - cy) < r)
        images[i, 0] = img + rng.normal(0, rng.uniform(0.05, 0.15), img.shape)
    return torch.from_numpy(images.clip(0, 1)), torch.from_numpy(labels)


def random_view(img):
    """Random crop, contrast, brightness, light gradient, noise and an erased patch."""
    s = 16
    top, left = np.random.randint(0, SIZE - s + 1, 2)
    img = img[:, top:top + s, left:left + s]
    img = (img - img.mean()) * np.random.uniform(0.6, 1.5) + np.random.uniform(0.25, 0.75)
    ramp = torch.linspace(-0.5, 0.5, s)
    img = img + np.random.uniform(-0.4, 0.4) * ramp + np.random.uniform(-0.4, 0.4) * ramp[:, None]
    img = img + np.random.uniform(0, 0.1) * torch.randn_like(img)
    if np.random.rand() < 0.5:
        y, x = np.random.randint(0, s - 5, 2)
        img[:, y:y + 5, x:x + 5] = np.random.rand()
    return (img - 0.5) / 0.25


class PairDataset(Dataset):
    def __init__(self, images, fault=''):
        self.images, self.fault = images, fault

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        img = self.images[index]
        im_q = random_view(img)
        im_k = im_q.clone() if self.fault == 'both_views_the_same' else random_view(img)
        return im_q, im_k


class BaseEncoder(nn.Module):
    def __init__(self, c=24, dim=32):
        super().__init__()
        def cbr(i, o, stride):
            return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))
        self.backbone = nn.Sequential(cbr(1, c, 1), cbr(c, c, 2), cbr(c, 2 * c, 2), cbr(2 * c, 3 * c, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Sequential(nn.Linear(3 * c, 3 * c), nn.ReLU(inplace=True), nn.Linear(3 * c, dim))

    def forward(self, x):
        return self.fc(self.backbone(x))


class MoCo(nn.Module):
    def __init__(self, dim=32, K=256, m=0.995, T=0.1):
        super().__init__()
        self.K, self.m, self.T = K, m, T
        self.encoder_q = BaseEncoder(dim=dim)
        self.encoder_k = copy.deepcopy(self.encoder_q)
        for p in self.encoder_k.parameters():
            p.requires_grad = False
        self.register_buffer('queue', F.normalize(torch.randn(dim, K), dim=0))
        self.register_buffer('queue_ptr', torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def momentum_update(self, fault=''):
        m = 1 - self.m if fault == 'momentum_exchanged' else self.m
        for p_q, p_k in zip(self.encoder_q.parameters(), self.encoder_k.parameters()):
            p_k.data = p_k.data * m + p_q.data * (1 - m)

    @torch.no_grad()
    def dequeue_and_enqueue(self, keys):
        ptr = int(self.queue_ptr)
        self.queue[:, ptr:ptr + len(keys)] = keys.T
        self.queue_ptr[0] = (ptr + len(keys)) % self.K

    def forward(self, im_q, im_k, fault=''):
        q = F.normalize(self.encoder_q(im_q), dim=1)
        with torch.no_grad():
            self.momentum_update(fault)
            shuffle = torch.randperm(len(im_k))
            k = F.normalize(self.encoder_k(im_k[shuffle]), dim=1)
            if fault != 'shuffle_not_undone':
                k = k[shuffle.argsort()]
        l_pos = (q * k).sum(1, keepdim=True)
        l_neg = q @ self.queue.clone().detach()
        logits = torch.cat([l_neg, l_pos] if fault == 'positive_at_the_end' else [l_pos, l_neg], dim=1)
        logits = logits / self.T
        labels = torch.zeros(len(q), dtype=torch.long)
        self.dequeue_and_enqueue(k)
        return F.cross_entropy(logits, labels)


def adjust_learning_rate(optimizer, epoch, epochs, lr):
    for group in optimizer.param_groups:
        group['lr'] = lr * 0.5 * (1 + math.cos(math.pi * epoch / epochs))


@torch.no_grad()
def knn_monitor(net, bank_images, bank_labels, images, labels, k=10, t=0.1):
    """Accuracy of the weighted vote of the k nearest training features."""
    net.eval()
    features = lambda x: F.normalize(torch.cat([net.backbone((b - 0.5) / 0.25) for b in x.split(256)]), dim=1)
    sim, idx = (features(images) @ features(bank_images).T).topk(k, dim=1)
    votes = torch.zeros(len(images), CLASSES).scatter_add_(1, bank_labels[idx], (sim / t).exp())
    return (votes.argmax(1) == labels).float().mean().item()


def build(seed=SEED):
    torch.manual_seed(seed)
    return (MoCo(),)


def train(models, fault='', seed=SEED):
    model, = models
    torch.manual_seed(seed)
    np.random.seed(seed)
    rng = np.random.default_rng(seed)
    images, labels = make_pictures(2560, rng)
    train_images, train_labels, val_images, val_labels = images[:2048], labels[:2048], images[2048:], labels[2048:]
    loader = DataLoader(PairDataset(train_images, fault), batch_size=32, shuffle=True, drop_last=True)

    epochs, lr = 10, 0.06 if fault == 'lr_of_sgd_for_adam' else 2e-3
    optimizer = torch.optim.Adam(model.encoder_q.parameters(), lr=lr)
    for epoch in range(epochs):
        adjust_learning_rate(optimizer, epoch, epochs, lr)
        model.train()
        for im_q, im_k in loader:
            loss = model(im_q, im_k, fault)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        accuracy = knn_monitor(model.encoder_q, train_images, train_labels, val_images, val_labels)
    return accuracy


if __name__ == '__main__':
    for name in ('', *FAULTS):
        print(f'{name or "healthy":44s} {train(build(), name):.4f}')
