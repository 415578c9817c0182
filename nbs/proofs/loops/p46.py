import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'metric learning with triplets, sampler generator, TripletMarginLoss, nearest-neighbour error of new classes at the end'
FAULTS = {
    'positive_and_negative_swapped': 'positive and negative are passed in the wrong order, so same-class samples are pushed apart',
    'positives_of_any_class': 'the positives are drawn without regard to the class of the anchor',
    'learning_rate_too_high': 'AdamW runs with a learning rate of 0.3, and the network collapses to one point',
}


def build():
    net = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    return (net,)


def make_classes(n_classes, per_class, mix):
    core = 1.1 * torch.randn(n_classes, 1, 6)
    signal = core + 0.25 * torch.randn(n_classes, per_class, 6)
    signal = torch.cat([signal, signal[..., :2] * signal[..., 2:4]], -1)
    nuisance = 1.6 * torch.randn(n_classes, per_class, 32)
    return torch.cat([signal, nuisance], -1) @ mix


def knn_error(net, x):
    net.eval()
    with torch.no_grad():
        z = net(x.flatten(0, 1))
    label = torch.arange(x.shape[0]).repeat_interleave(x.shape[1])
    dist = torch.cdist(z, z)
    dist.fill_diagonal_(float('inf'))
    return (label[dist.argmin(1)] != label).float().mean().item()


def train(models, fault=''):
    torch.manual_seed(46)
    net = models[0]
    mix, _ = torch.linalg.qr(torch.randn(40, 40))
    x = make_classes(60, 20, mix)
    scale = x.std()
    x, x_new = x / scale, make_classes(20, 15, mix) / scale
    n_classes, per_class, _ = x.shape

    def triplets(steps, size=64):
        for _ in range(steps):
            c = torch.randint(0, n_classes, (size,))
            other = (c + torch.randint(1, n_classes, (size,))) % n_classes
            a = torch.randint(0, per_class, (size,))
            p = (a + torch.randint(1, per_class, (size,))) % per_class
            n = torch.randint(0, per_class, (size,))
            same = torch.randint(0, n_classes, (size,)) if fault == 'positives_of_any_class' else c
            yield x[c, a], x[same, p], x[other, n]

    criterion = nn.TripletMarginLoss(margin=1.0)
    lr = 0.3 if fault == 'learning_rate_too_high' else 1e-3
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-2)
    net.train()
    for anchor, positive, negative in triplets(900):
        za, zp, zn = net(torch.cat([anchor, positive, negative])).chunk(3)
        if fault == 'positive_and_negative_swapped':
            loss = criterion(za, zn, zp)
        else:
            loss = criterion(za, zp, zn)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return knn_error(net, x_new)
