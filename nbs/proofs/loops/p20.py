import copy
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'k-fold cross-validation by hand, the model is reset to the same start in each fold'
FAULTS = {
    'model_not_reset_between_folds': 'the start weights are kept as model.state_dict() without a copy, so later folds start from a model that has seen their validation data',
    'training_fold_contains_validation': 'the training indices are all indices, the validation fold is not left out',
    'sorted_folds_not_shuffled': 'the data are sorted by class and the folds are contiguous and unshuffled, so classes are missing in the training part',
}

K = 4


def build():
    return (nn.Sequential(nn.Linear(12, 80), nn.ReLU(), nn.Linear(80, 4)),)


def make_dataset(n):
    centers = 0.9 * torch.randn(4, 12)
    y = torch.arange(n) * 4 // n                 # sorted by class
    x = centers[y] + torch.randn(n, 12)
    return x / x.std(), y


def train(models, fault=''):
    torch.manual_seed(19)
    model = models[0]
    X, y = make_dataset(480)
    n = len(X)

    if fault == 'model_not_reset_between_folds':
        start = model.state_dict()
    else:
        start = copy.deepcopy(model.state_dict())
    if fault == 'sorted_folds_not_shuffled':
        indices = torch.arange(n)
    else:
        indices = torch.randperm(n)
    folds = indices.chunk(K)

    scores = []
    for k in range(K):
        val_idx = folds[k]
        train_idx = torch.cat([folds[j] for j in range(K) if j != k])
        if fault == 'training_fold_contains_validation':
            train_idx = indices
        model.load_state_dict(start)
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
        for epoch in range(7):
            model.train()
            if fault == 'sorted_folds_not_shuffled':
                order = train_idx
            else:
                order = train_idx[torch.randperm(len(train_idx))]
            for b in order.split(30):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(X[b]), y[b])
                loss.backward()
                optimizer.step()
        model.eval()
        with torch.no_grad():
            scores.append(F.cross_entropy(model(X[val_idx]), y[val_idx]).item())
        print(f'fold {k}: {scores[-1]:.4f}')
    return sum(scores) / K
