"""Mean teacher with few labels: a student learns from 60 labelled pictures and from the moving-average teacher on the others."""
import copy
import math
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'CuriousAI/mean-teacher and FixMatch-pytorch repositories: weak and strong views, cross entropy on the labelled part, thresholded pseudo-labels of an EMA teacher with ramp-up on the unlabelled part, SGD with Nesterov and cosine decay, evaluation of the EMA model'
FAULTS = {
    'buffers_not_copied': 'The EMA update walks over the parameters only, so the batch norm running statistics of the teacher keep their initial values and the teacher in eval mode is wrong.',
    'ema_decay_without_rampup': 'The EMA decay is 0.9999 from the first step on instead of min(1 - 1/(step + 1), decay) with 0.98, so after some hundred steps the teacher is still mostly its initialisation.',
    'unlabelled_as_class_zero': 'The label -1 of the unlabelled pictures is clamped to 0 and goes through the cross entropy with the labelled ones, so most of the training set is taught as class 0.',
    'mask_of_the_unsure': 'The pseudo-label mask keeps the pictures whose confidence is below the threshold instead of above, so the student is fed the least certain guesses and learns nothing from the sure ones.',
    'hidden_labels_used': 'The cross entropy takes the true labels of the whole batch, unlabelled part included, so the score of the few-label setting is falsely good.',
}
BETTER = 'higher'

SEED = 71
SIZE, CLASSES, NO_LABEL = 16, 8, -1


def make_pictures(n, rng):
    """Eight pictograms on cluttered ground with random place, size, tilt, contrast and polarity."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] - (SIZE - 1) / 2
    images, labels = np.zeros((n, 1, SIZE, SIZE), np.float32), rng.integers(0, CLASSES, n)
    for i, c in enumerate(labels):
        cx, cy = rng.uniform(-2, 2, 2)
        r, a = rng.uniform(4.2, 6.2), rng.uniform(-0.3, 0.3)
        u = ((x - cx) * np.cos(a) + (y - cy) * np.sin(a)) / r
        v = (-(x - cx) * np.sin(a) + (y - cy) * np.cos(a)) / r
        rad, au, av = np.hypot(u, v), np.abs(u), np.abs(v)
        inside = [rad < 0.85,
                  (rad < 1) & (rad > 0.6),
                  (np.minimum(au, av) < 0.22) & (np.maximum(au, av) < 1),
                  (np.maximum(au, av) < 0.95) & (np.maximum(au, av) > 0.6),
                  (av < 0.25) & (au < 1),
                  (au < 0.25) & (av < 1),
                  (au < 1) & (np.abs(av - 0.55) < 0.22),
                  (np.abs(au - av) < 0.28) & (rad < 1)][c]
        img = 0.5 + rng.uniform(-0.12, 0.12) + 0.08 * np.sin(rng.uniform(-1, 1) * x + rng.uniform(-1, 1) * y + rng.uniform(0, 6))
        img = img + rng.choice([-1, 1]) * rng.uniform(0.2, 0.4) * inside
        for _ in range(rng.integers(0, 4)):
            py, px = rng.integers(0, SIZE, 2)
            img[py:py + 2, px:px + 2] = rng.random()
        images[i, 0] = img + rng.normal(0, 0.06, img.shape)
    return torch.from_numpy(images.clip(0, 1)), torch.from_numpy(labels)


def weak(img):
    pad = F.pad(img[None], (2, 2, 2, 2), mode='reflect')[0]
    y, x = np.random.randint(0, 5, 2)
    return pad[:, y:y + SIZE, x:x + SIZE]


def strong(img):
    img = weak(img)
    img = (img - img.mean()) * np.random.uniform(0.5, 1.6) + np.random.uniform(0.3, 0.7)
    if np.random.rand() < 0.5:
        img = 1 - img
    a, s = np.random.uniform(-0.35, 0.35), np.random.uniform(0.85, 1.2)
    theta = torch.tensor([[[math.cos(a) * s, -math.sin(a) * s, 0], [math.sin(a) * s, math.cos(a) * s, 0]]], dtype=torch.float32)
    img = F.grid_sample(img[None], F.affine_grid(theta, (1, 1, SIZE, SIZE), align_corners=False), padding_mode='reflection', align_corners=False)[0]
    y, x = np.random.randint(0, SIZE - 4, 2)
    img[:, y:y + 5, x:x + 5] = 0.5
    return img


class SemiDataset(Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        img = self.images[index]
        return (weak(img) - 0.5) / 0.25, (strong(img) - 0.5) / 0.25, self.labels[index]


class TwoStreamBatchSampler:
    """Batches with a fixed share of labelled samples; an epoch is one pass over the unlabelled ones."""
    def __init__(self, labelled, unlabelled, batch_size, labelled_batch_size):
        self.labelled, self.unlabelled = labelled, unlabelled
        self.n_l, self.n_u = labelled_batch_size, batch_size - labelled_batch_size

    def __len__(self):
        return len(self.unlabelled) // self.n_u

    def __iter__(self):
        order = np.random.permutation(self.unlabelled)
        for b in range(len(self)):
            yield [*np.random.choice(self.labelled, self.n_l, replace=False), *order[b * self.n_u:(b + 1) * self.n_u]]


class Net(nn.Module):
    def __init__(self, c=20):
        super().__init__()
        def cbr(i, o, stride=1):
            return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.1, inplace=True))
        self.features = nn.Sequential(cbr(1, c), cbr(c, 2 * c, 2), cbr(2 * c, 2 * c), cbr(2 * c, 3 * c, 2), cbr(3 * c, 3 * c))
        self.fc = nn.Linear(3 * c, CLASSES)

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


@torch.no_grad()
def update_ema_variables(student, teacher, step, fault=''):
    alpha = 0.9999 if fault == 'ema_decay_without_rampup' else min(1 - 1 / (step + 1), 0.98)
    for p_t, p_s in zip(teacher.parameters(), student.parameters()):
        p_t.mul_(alpha).add_(p_s, alpha=1 - alpha)
    if fault != 'buffers_not_copied':
        for b_t, b_s in zip(teacher.buffers(), student.buffers()):
            b_t.copy_(b_s)


def sigmoid_rampup(current, length):
    phase = 1 - min(current, length) / length
    return math.exp(-5 * phase * phase)


@torch.no_grad()
def validate(model, images, labels):
    """Accuracy of the EMA model on unseen pictures."""
    model.eval()
    return (model((images - 0.5) / 0.25).argmax(1) == labels).float().mean().item()


def build(seed=SEED):
    torch.manual_seed(seed)
    student = Net()
    return student, copy.deepcopy(student)


def train(models, fault='', seed=SEED):
    student, teacher = models
    torch.manual_seed(seed)
    np.random.seed(seed)
    images, true_labels = make_pictures(3000, np.random.default_rng(seed))
    val_images, val_labels = images[2000:], true_labels[2000:]
    labels = torch.full((2000,), NO_LABEL)
    labelled = torch.cat([(true_labels[:2000] == c).nonzero()[:7, 0] for c in range(CLASSES)])
    labels[labelled] = true_labels[labelled]
    unlabelled = (labels == NO_LABEL).nonzero()[:, 0].numpy()
    if fault == 'hidden_labels_used':
        labels = true_labels[:2000]
    sampler = TwoStreamBatchSampler(labelled.numpy(), unlabelled, 64, 16)
    loader = DataLoader(SemiDataset(images[:2000], labels), batch_sampler=sampler)

    epochs, lr, threshold, weight = 10, 0.05, 0.9, 1.0
    for p in teacher.parameters():
        p.requires_grad_(False)
    optimizer = torch.optim.SGD(student.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader) + 1)
    step = 0
    for epoch in range(epochs):
        student.train()
        teacher.eval()
        for x_weak, x_strong, y in loader:
            if fault == 'unlabelled_as_class_zero':
                y = y.clamp(min=0)
            logits = student(torch.cat([x_weak, x_strong]))
            logits_weak, logits_strong = logits.chunk(2)
            class_loss = F.cross_entropy(logits_weak, y, ignore_index=NO_LABEL)

            with torch.no_grad():
                confidence, pseudo = torch.softmax(teacher(x_weak), 1).max(1)
            mask = confidence.le(threshold) if fault == 'mask_of_the_unsure' else confidence.ge(threshold)
            consistency = (F.cross_entropy(logits_strong, pseudo, reduction='none') * mask.float()).mean()
            loss = class_loss + weight * sigmoid_rampup(step, 2 * len(loader)) * consistency
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            step += 1
            update_ema_variables(student, teacher, step, fault)
        accuracy = validate(teacher, val_images, val_labels)
    return accuracy


if __name__ == '__main__':
    for name in ('', *FAULTS):
        print(f'{name or "healthy":32s} {train(build(), name):.4f}')
