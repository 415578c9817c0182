"""PointNet with an input T-Net, classification of synthetic point clouds."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'fxia22/pointnet.pytorch: STN3d + PointNetfeat + PointNetCls with log_softmax and nll_loss, dataset class with normalisation to the unit sphere, rotation about the up axis and jitter, Adam + StepLR per epoch'
FAULTS = {
    'view_instead_of_transpose': 'The (B, N, 3) points are brought to (B, 3, N) with view instead of transpose, so the coordinates of different points are mixed up in the training batches.',
    'rotation_about_wrong_axis': 'The augmentation rotates about the y axis although z is up in this data, so standing objects are shown lying and upside down and the up direction that tells classes apart is lost.',
    'scaled_per_axis': 'Each axis of a training cloud is divided by its own extent instead of one common radius, so the aspect ratio is lost in training and differs from that of the test clouds.',
    'pooled_over_channels': 'The max pooling of the global feature is over the channels instead of the points (both are 128, so nothing fails), so the feature depends on the arbitrary point order and says little about the shape.',
}

N_POINTS = 128
CLASSES = ['ball', 'tall_ellipsoid', 'flat_ellipsoid', 'cone_up', 'cone_down', 'tube_standing', 'tube_lying', 'box', 'table', 'chair', 'torus_flat', 'bowl', 'dome']


def unit(rng, n):
    p = rng.normal(size=(n, 3))
    return p / np.linalg.norm(p, axis=1, keepdims=True)


def plate(rng, n, lo, hi):
    return rng.uniform(np.array(lo), np.array(hi), (n, 3))


def sample_shape(name, n, rng):
    a = rng.uniform(0, 2 * np.pi, n)
    if name == 'ball':
        return unit(rng, n)
    if name == 'tall_ellipsoid':
        return unit(rng, n) * [1, 1, rng.uniform(1.4, 1.9)]
    if name == 'flat_ellipsoid':
        return unit(rng, n) * [1, 1, rng.uniform(0.5, 0.75)]
    if name in ('cone_up', 'cone_down'):
        h = np.sqrt(rng.uniform(0, 1, n))
        z = (0.5 - h) * rng.uniform(1.4, 2.2)
        p = np.stack([h * np.cos(a), h * np.sin(a), z], 1)
        return p if name == 'cone_up' else p * [1, 1, -1]
    if name in ('tube_standing', 'tube_lying'):
        p = np.stack([np.cos(a), np.sin(a), rng.uniform(-1, 1, n) * rng.uniform(1.2, 2.0)], 1)
        return p if name == 'tube_standing' else p[:, [0, 2, 1]]
    if name == 'box':
        p = rng.uniform(-1, 1, (n, 3))
        k = rng.integers(0, 3, n)
        p[np.arange(n), k] = np.sign(p[np.arange(n), k])
        return p * rng.uniform(0.8, 1.2, 3)
    if name == 'torus_flat':
        b = rng.uniform(0, 2 * np.pi, n)
        r = rng.uniform(0.25, 0.4)
        return np.stack([(1 + r * np.cos(b)) * np.cos(a), (1 + r * np.cos(b)) * np.sin(a), r * np.sin(b)], 1)
    if name in ('bowl', 'dome'):
        p = unit(rng, n)
        p[:, 2] = np.abs(p[:, 2]) * (1 if name == 'dome' else -1)
        return p
    legs = plate(rng, n, [-1, -1, -1], [-0.85, -0.85, 0]) * np.stack([rng.choice([-1, 1], n), rng.choice([-1, 1], n), np.ones(n)], 1)
    top = plate(rng, n, [-1, -1, -0.05], [1, 1, 0.05])
    p = np.where(rng.random((n, 1)) < 0.6, top, legs)
    if name == 'chair':
        back = plate(rng, n, [-1, 0.9, 0], [1, 1, rng.uniform(0.8, 1.4)])
        p = np.where(rng.random((n, 1)) < 0.3, back, p)
    return p


class PointClouds(Dataset):
    """Clouds with z up, normalised to the unit sphere."""

    def __init__(self, n, seed, augment=False, fault=''):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, len(CLASSES), n)
        self.clouds = [self.raw(CLASSES[c], rng) for c in self.labels]
        self.augment, self.fault = augment, fault
        self.rng = np.random.default_rng(seed + 100)

    def raw(self, name, rng):
        p = sample_shape(name, N_POINTS, rng) + rng.normal(0, 0.09, (N_POINTS, 3))
        junk = rng.random(N_POINTS) < 0.12
        p[junk] = rng.uniform(-1.2, 1.2, (junk.sum(), 3))
        t = rng.uniform(0, 2 * np.pi)
        rot = np.array([[np.cos(t), -np.sin(t), 0], [np.sin(t), np.cos(t), 0], [0, 0, 1]])
        return (p @ rot) * rng.uniform(0.5, 2) + rng.normal(0, 0.5, 3)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        p = self.clouds[i]
        p = p - p.mean(0)
        if self.fault == 'scaled_per_axis':
            p = p / np.abs(p).max(0)
        else:
            p = p / np.sqrt((p ** 2).sum(1)).max()
        if self.augment:
            t = self.rng.uniform(0, 2 * np.pi)
            plane = [0, 2] if self.fault == 'rotation_about_wrong_axis' else [0, 1]
            rot = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
            p[:, plane] = p[:, plane] @ rot
            p = p + np.clip(self.rng.normal(0, 0.01, p.shape), -0.05, 0.05)
        return torch.from_numpy(p.astype(np.float32)), int(self.labels[i])


def mlp(*dims):
    return nn.Sequential(*[nn.Sequential(nn.Conv1d(a, b, 1), nn.BatchNorm1d(b), nn.ReLU()) for a, b in zip(dims, dims[1:])])


class STN3d(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = mlp(3, 32, 64, 128)
        self.fc = nn.Sequential(nn.Linear(128, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 9))
        nn.init.zeros_(self.fc[-1].weight)
        nn.init.zeros_(self.fc[-1].bias)

    def forward(self, x):
        t = self.fc(self.conv(x).max(2)[0]).view(-1, 3, 3)
        return t + torch.eye(3, device=x.device)


class PointNetfeat(nn.Module):
    def __init__(self):
        super().__init__()
        self.stn = STN3d()
        self.conv = mlp(3, 32, 64)
        self.conv2 = nn.Sequential(nn.Conv1d(64, 128, 1), nn.BatchNorm1d(128))
        self.pool_dim = 2

    def forward(self, x):
        trans = self.stn(x)
        x = torch.bmm(x.transpose(2, 1), trans).transpose(2, 1)
        return self.conv2(self.conv(x)).max(self.pool_dim)[0], trans


class PointNetCls(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.feat = PointNetfeat()
        self.head = nn.Sequential(nn.Linear(128, 96), nn.BatchNorm1d(96), nn.ReLU(), nn.Dropout(0.3), nn.Linear(96, k))

    def forward(self, x):
        x, trans = self.feat(x)
        return self.head(x), trans


def feature_transform_regularizer(trans):
    eye = torch.eye(trans.size(1))
    return (torch.bmm(trans, trans.transpose(2, 1)) - eye).norm(dim=(1, 2)).mean()


@torch.no_grad()
def test(model, loader):
    """Classification error."""
    model.eval()
    wrong = total = 0
    for points, target in loader:
        pred, _ = model(points.transpose(2, 1))
        wrong, total = wrong + (pred.argmax(1) != target).sum().item(), total + len(target)
    return wrong / total


def build():
    torch.manual_seed(38)
    return (PointNetCls(len(CLASSES)),)


def train(models, fault=''):
    classifier = models[0]
    torch.manual_seed(38)
    if fault == 'pooled_over_channels':
        classifier.feat.pool_dim = 1
    trainset = PointClouds(2000, seed=1, augment=True, fault=fault)
    loader = DataLoader(trainset, batch_size=64, shuffle=True, drop_last=True)
    testloader = DataLoader(PointClouds(1000, seed=2), batch_size=200)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=6, gamma=0.4)
    for epoch in range(18):
        classifier.train()
        for points, target in loader:
            if fault == 'view_instead_of_transpose':
                points = points.view(points.size(0), 3, -1)
            else:
                points = points.transpose(2, 1)
            optimizer.zero_grad()
            pred, trans = classifier(points)
            pred = F.log_softmax(pred, dim=1)
            loss = F.nll_loss(pred, target) + 0.001 * feature_transform_regularizer(trans)
            loss.backward()
            optimizer.step()
        scheduler.step()

    return test(classifier, testloader)


if __name__ == '__main__':
    print(train(build()))
