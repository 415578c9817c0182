import copy
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Subset, TensorDataset

torch.set_num_threads(1)

STYLE = 'early stopping with patience, the best state_dict is copied and loaded back at the end'
FAULTS = {
    'state_dict_not_copied': 'best_state = model.state_dict() without a copy, so the "best" weights are the last ones',
    'training_data_in_validation': 'the validation subset is taken from the training indices, so overfitting is never seen',
    'validation_without_eval': 'validation runs in train mode, with dropout on',
}


def build():
    model = nn.Sequential(nn.Linear(15, 128), nn.ReLU(), nn.Dropout(0.3),
                          nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 2))
    return (model,)


def train(models, fault=''):
    torch.manual_seed(18)
    model = models[0]
    n = 500
    X = torch.randn(n, 15)
    logit = 2.0 * X[:, 0] - 1.5 * X[:, 1] + 1.5 * X[:, 2] * X[:, 3]
    Y = (torch.rand(n) < torch.sigmoid(1.5 * logit)).long()
    dataset = TensorDataset(X, Y)

    idx = torch.randperm(n).tolist()
    train_idx, val_idx = idx[:250], idx[250:]
    if fault == 'training_data_in_validation':
        val_idx = train_idx[:200]
    train_loader = DataLoader(Subset(dataset, train_idx), batch_size=25, shuffle=True)
    val_loader = DataLoader(Subset(dataset, val_idx), batch_size=250)

    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def validate():
        if fault != 'validation_without_eval':
            model.eval()
        loss_sum, count = 0.0, 0
        with torch.no_grad():
            for x, y in val_loader:
                loss_sum += criterion(model(x), y).item() * len(x)
                count += len(x)
        return loss_sum / count

    best_loss, best_state, patience, bad_epochs = float('inf'), None, 6, 0
    for epoch in range(40):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()

        val_loss = validate()
        if val_loss < best_loss:
            best_loss = val_loss
            if fault == 'state_dict_not_copied':
                best_state = model.state_dict()
            else:
                best_state = copy.deepcopy(model.state_dict())
            bad_epochs = 0
        else:
            bad_epochs += 1
            if bad_epochs >= patience:
                print('early stop at epoch', epoch)
                break

    model.load_state_dict(best_state)
    return validate()
