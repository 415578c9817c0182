import copy
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'k-fold cross-validation of a small network after feature selection, generator of folds, reset from a saved state, Adam per fold'
FAULTS = {
    'validated_on_fit_indices': 'the validation batch is taken with the indices of the training folds; the number is falsely low',
    'features_selected_before_split': 'the features are selected by their correlation with the labels of all samples, validation fold included; the number is falsely low',
    'folds_cut_from_sorted_data': 'the folds are cut from data sorted by class without shuffling, so the validation class is scarce in training',
}


def build():
    return (nn.Sequential(nn.Linear(20, 24), nn.ReLU(), nn.Dropout(0.2), nn.Linear(24, 2)),)


def make_data(n=240, d=1000):
    y = (torch.arange(n) >= n // 2).long()
    x = torch.randn(n, d)
    x[:, :10] += 0.33 * (2 * y[:, None] - 1).float()
    return x, y


def select(x, y, k=20):
    xc = x - x.mean(0)
    yc = y.float() - y.float().mean()
    score = (xc * yc[:, None]).mean(0).abs() / x.std(0)
    return score.topk(k).indices


def folds(order, k=5):
    parts = order.chunk(k)
    for i in range(k):
        rest = torch.cat([p for j, p in enumerate(parts) if j != i])
        yield rest, parts[i]


def train(models, fault=''):
    torch.manual_seed(55)
    model = models[0]
    start = copy.deepcopy(model.state_dict())
    x, y = make_data()
    if fault == 'folds_cut_from_sorted_data':
        order = torch.arange(len(x))
    else:
        order = torch.randperm(len(x))
    everywhere = select(x, y)

    errors = []
    for fit_idx, val_idx in folds(order):
        model.load_state_dict(start)
        if fault == 'validated_on_fit_indices':
            val_idx = fit_idx
        keep = everywhere if fault == 'features_selected_before_split' else select(x[fit_idx], y[fit_idx])
        keep = keep.sort().values
        x_fit, x_val = x[fit_idx][:, keep], x[val_idx][:, keep]
        mean, std = x_fit.mean(0), x_fit.std(0)
        x_fit, x_val = (x_fit - mean) / std, (x_val - mean) / std
        y_fit, y_val = y[fit_idx], y[val_idx]

        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-3)
        model.train()
        for epoch in range(30):
            for idx in torch.randperm(len(x_fit)).split(16):
                optimizer.zero_grad()
                F.cross_entropy(model(x_fit[idx]), y_fit[idx]).backward()
                optimizer.step()
        model.eval()
        with torch.no_grad():
            errors.append((model(x_val).argmax(1) != y_val).float().mean().item())
    return sum(errors) / len(errors)
