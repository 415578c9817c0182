"""BYOL on small synthetic pictures: online and target network, predictor, moving average; judged by a linear probe."""
import copy
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import TensorDataset, DataLoader

torch.set_num_threads(1)

STYLE = 'byol-pytorch repositories: BYOLTrainer-like loop with MLPHead, regression_loss, _update_target_network_parameters, two augmented views per batch, then a linear evaluation on frozen features'
FAULTS = {
    'target_views_not_swapped': 'The prediction from the first view is compared with the target projection of the same first view instead of the second one, so nothing pushes the features to be invariant to the augmentations.',
    'online_overwritten_by_target': 'The moving average is written into the online network (from the target) instead of into the target, so every step pulls the online network back to the untrained target.',
    'views_of_other_pictures': 'The two views come from two loaders that each shuffle on their own, so the views paired with each other show different pictures and the only common answer is a constant.',
    'target_trained_without_predictor': 'The target branch is neither detached nor separate: the projections of the two views are regressed onto each other with gradients on both sides and without the predictor, so the features collapse.',
}

SEED = 42
SIZE = 24
CLASSES = 8


def make_pictures(n, rng):
    """Class = direction and pitch of a faint weave; colour, shading, phase and noise have nothing to do with it."""
    y = rng.integers(0, CLASSES, n)
    gy, gx = np.mgrid[0:SIZE, 0:SIZE] - (SIZE - 1) / 2
    X = np.zeros((n, 3, SIZE, SIZE), dtype=np.float32)
    for i in range(n):
        angle = np.pi / 4 * (y[i] % 4) + rng.normal(0, 0.1)
        pitch = (3.2, 5.5)[y[i] // 4] * rng.uniform(0.93, 1.07)
        wave = np.sin(2 * np.pi / pitch * (gx * np.cos(angle) + gy * np.sin(angle)) + rng.uniform(0, 2 * np.pi))
        shade = (gx * rng.normal() + gy * rng.normal()) / SIZE * 0.15
        for _ in range(2):
            cy, cx = rng.uniform(-10, 10, 2)
            shade = shade + rng.normal(0, 0.1) * np.exp(-((gx - cx) ** 2 + (gy - cy) ** 2) / rng.uniform(20, 60))
        colour = rng.uniform(0.2, 0.8, 3)[:, None, None]
        X[i] = colour + shade + rng.uniform(0.12, 0.28) * wave + rng.normal(0, 0.12, (3, SIZE, SIZE))
    return torch.from_numpy(X), torch.from_numpy(y)


def augment(x):
    """Random crop by shift, fresh colour, gain and grey, smooth lighting and noise, one draw per picture."""
    n = x.size(0)
    pad = F.pad(x, (4, 4, 4, 4), mode='reflect')
    oy, ox = torch.randint(0, 9, (2, n))
    idx = torch.arange(SIZE)
    x = pad[torch.arange(n)[:, None, None], :, (oy[:, None] + idx)[:, :, None], (ox[:, None] + idx)[:, None, :]].permute(0, 3, 1, 2)
    x = (x - x.mean((2, 3), keepdim=True)) * (0.6 + 0.8 * torch.rand(n, 1, 1, 1)) + 0.5 + 0.12 * torch.randn(n, 3, 1, 1)
    grey = torch.rand(n, 1, 1, 1) < 0.3
    x = torch.where(grey, x.mean(1, keepdim=True).expand_as(x), x)
    light = F.interpolate(0.15 * torch.randn(n, 1, 4, 4), size=(SIZE, SIZE), mode='bilinear', align_corners=True)
    return x + light + 0.08 * torch.randn_like(x)


class MLPHead(nn.Module):
    def __init__(self, in_channels, mlp_hidden_size, projection_size):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(in_channels, mlp_hidden_size), nn.BatchNorm1d(mlp_hidden_size), nn.ReLU(inplace=True),
                                 nn.Linear(mlp_hidden_size, projection_size))

    def forward(self, x):
        return self.net(x)


class Network(nn.Module):
    def __init__(self, width=24, feature=64, projection=32):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 5, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width * 2, 3, 2, 1, bias=False), nn.BatchNorm2d(width * 2), nn.ReLU(),
            nn.Conv2d(width * 2, feature, 3, 2, 1, bias=False), nn.BatchNorm2d(feature), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.projection = MLPHead(feature, 128, projection)

    def forward(self, x):
        return self.projection(self.encoder(x))


def regression_loss(x, y):
    x = F.normalize(x, dim=1)
    y = F.normalize(y, dim=1)
    return 2 - 2 * (x * y).sum(dim=-1)


@torch.no_grad()
def update_parameters(source, destination, m):
    for param_s, param_d in zip(source.parameters(), destination.parameters()):
        param_d.data = param_d.data * m + param_s.data * (1.0 - m)


def linear_evaluation(network, train_set, test_set, epochs=30):
    """Error of a linear classifier on frozen features."""
    network.eval()
    with torch.no_grad():
        ftr, fte = network.encoder(train_set[0]), network.encoder(test_set[0])
    network.train()
    mean, std = ftr.mean(0), ftr.std(0) + 1e-5
    ftr, fte = (ftr - mean) / std, (fte - mean) / std
    torch.manual_seed(SEED)
    probe = nn.Linear(ftr.size(1), CLASSES)
    optimizer = torch.optim.Adam(probe.parameters(), lr=1e-2)
    for epoch in range(epochs):
        for idx in torch.randperm(len(ftr)).split(100):
            loss = F.cross_entropy(probe(ftr[idx]), train_set[1][idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return (probe(fte).argmax(1) != test_set[1]).float().mean().item()


def build():
    torch.manual_seed(SEED)
    online_network = Network()
    predictor = MLPHead(32, 128, 32)
    target_network = copy.deepcopy(online_network)
    for param in target_network.parameters():
        param.requires_grad = False
    return online_network, predictor, target_network


def train(models, fault=''):
    online_network, predictor, target_network = models
    torch.manual_seed(SEED)
    max_epochs, m = 32, 0.99
    X, _ = make_pictures(1500, np.random.default_rng(SEED))
    probe_train = make_pictures(250, np.random.default_rng(SEED + 1))
    probe_test = make_pictures(1000, np.random.default_rng(SEED + 2))
    loader = DataLoader(TensorDataset(X), batch_size=64, shuffle=True, drop_last=True)
    other_loader = DataLoader(TensorDataset(X), batch_size=64, shuffle=True, drop_last=True)

    optimizer = torch.optim.Adam(list(online_network.parameters()) + list(predictor.parameters()), lr=2e-3, weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max_epochs)
    for epoch in range(max_epochs):
        pairs = ((x, x) for (x,) in loader)
        if fault == 'views_of_other_pictures':
            pairs = ((a[0], b[0]) for a, b in zip(loader, other_loader))
        for x1, x2 in pairs:
            view_1, view_2 = augment(x1), augment(x2)
            if fault == 'target_trained_without_predictor':
                predictions_1, predictions_2 = online_network(view_1), online_network(view_2)
                targets_1, targets_2 = predictions_2, predictions_1
            else:
                predictions_1 = predictor(online_network(view_1))
                predictions_2 = predictor(online_network(view_2))
                with torch.no_grad():
                    targets_1, targets_2 = target_network(view_2), target_network(view_1)
            if fault == 'target_views_not_swapped':
                targets_1, targets_2 = targets_2, targets_1
            loss = (regression_loss(predictions_1, targets_1) + regression_loss(predictions_2, targets_2)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if fault == 'online_overwritten_by_target':
                update_parameters(target_network, online_network, m)
            else:
                update_parameters(online_network, target_network, m)
        scheduler.step()

    return linear_evaluation(online_network, probe_train, probe_test)


if __name__ == '__main__':
    print(train(build()))
