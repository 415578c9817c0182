import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset, random_split

torch.set_num_threads(1)

STYLE = 'quantile regression with a pinball loss module, random_split, ReduceLROnPlateau on the validation loss'
FAULTS = {
    'pinball_sign': 'prediction and target are swapped in the pinball loss, so the low quantile becomes the high one',
    'plateau_mode_max': 'ReduceLROnPlateau has mode max although it watches a loss, so the rate is cut while the loss falls',
    'loss_wrapped_anew': 'the losses of the quantiles are put into a new torch.tensor with requires_grad, which cuts them off from the network',
}

QUANTILES = (0.1, 0.5, 0.9)


class PinballLoss(nn.Module):
    def __init__(self, fault=''):
        super().__init__()
        self.fault = fault

    def forward(self, pred, target):
        parts = []
        for i, q in enumerate(QUANTILES):
            diff = target - pred[:, i]
            if self.fault == 'pinball_sign':
                diff = -diff
            parts.append(torch.maximum(q * diff, (q - 1) * diff).mean())
        if self.fault == 'loss_wrapped_anew':
            return torch.tensor(parts, requires_grad=True).sum()
        return torch.stack(parts).sum()


def build():
    return (nn.Sequential(nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 3)),)


def train(models, fault=''):
    torch.manual_seed(56)
    net = models[0]
    x = torch.rand(3000, 4) * 2 - 1
    spread = 0.1 + 0.9 * (x[:, 1] + 1) / 2
    y = torch.sin(3 * x[:, 0]) + x[:, 2] * x[:, 3] + spread * torch.randn(len(x))
    fit_set, val_set, test_set = random_split(TensorDataset(x / 0.577, y), [2000, 300, 700])
    fit_loader = DataLoader(fit_set, batch_size=50, shuffle=True)
    val_loader, test_loader = DataLoader(val_set, batch_size=300), DataLoader(test_set, batch_size=700)

    criterion = PinballLoss(fault)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    mode = 'max' if fault == 'plateau_mode_max' else 'min'
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode, factor=0.1, patience=1)

    def evaluate(loader, loss_fn):
        net.eval()
        with torch.no_grad():
            return sum(loss_fn(net(a), b).item() * len(b) for a, b in loader) / len(loader.dataset)

    for epoch in range(25):
        net.train()
        for a, b in fit_loader:
            loss = criterion(net(a), b)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step(evaluate(val_loader, criterion))
    return evaluate(test_loader, PinballLoss())
