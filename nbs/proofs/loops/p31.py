import torch
import torch.nn as nn

torch.set_num_threads(1)

STYLE = 'plain functions, index slicing over a permutation, BCEWithLogitsLoss with pos_weight for rare positives'
FAULTS = {
    'pos_weight_inverted': 'pos_weight is positives/negatives instead of negatives/positives, so the rare class is ignored',
    'features_not_scaled': 'the raw columns with very different units go into the network without standardisation',
    'zero_grad_before_step': 'zero_grad is called between backward and step, so no gradient ever reaches the optimizer',
}


def build():
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
    return (model,)


def make_data(n):
    z = torch.randn(n, 20)
    score = 1.6 * z[:, 0] - 1.2 * z[:, 1] + z[:, 2] * z[:, 3] + 0.3 * torch.randn(n)
    y = (score > 3.3).float()
    units = torch.logspace(-2, 4, 20)[torch.randperm(20)]
    offset = 3.0 * units
    return z * units + offset, y


def balanced_error(model, x, y):
    model.eval()
    with torch.no_grad():
        pred = (model(x).squeeze(1) > 0).float()
    miss = (pred[y == 1] == 0).float().mean()
    alarm = (pred[y == 0] == 1).float().mean()
    return (0.5 * (miss + alarm)).item()


def train(models, fault=''):
    torch.manual_seed(31)
    model, = models
    x, y = make_data(9000)
    x_train, y_train, x_test, y_test = x[:6000], y[:6000], x[6000:], y[6000:]
    mean, std = x_train.mean(0), x_train.std(0)
    if fault != 'features_not_scaled':
        x_train = (x_train - mean) / std
        x_test = (x_test - mean) / std

    pos, neg = y_train.sum(), (1 - y_train).sum()
    ratio = neg / pos
    if fault == 'pos_weight_inverted':
        ratio = pos / neg
    criterion = nn.BCEWithLogitsLoss(pos_weight=ratio)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

    batch = 100
    for epoch in range(25):
        model.train()
        perm = torch.randperm(len(x_train))
        for i in range(0, len(perm), batch):
            idx = perm[i:i + batch]
            if fault != 'zero_grad_before_step':
                optimizer.zero_grad()
            loss = criterion(model(x_train[idx]).squeeze(1), y_train[idx])
            loss.backward()
            if fault == 'zero_grad_before_step':
                optimizer.zero_grad()
            optimizer.step()
    return balanced_error(model, x_test, y_test)
