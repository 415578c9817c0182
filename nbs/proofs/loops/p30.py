import torch
import torch.nn as nn

torch.set_num_threads(1)

STYLE = 'time-series forecasting with an LSTM on sliding windows, chronological split, fit() and evaluate() functions, grads set to None by hand'
FAULTS = {
    'target_inside_window': 'the windows are off by one, so the value to be predicted is the last input value',
    'lr_100x_too_high': 'learning rate 0.5 with Adam, 100 times too high',
    'zero_grad_forgotten': 'the gradients are never set to zero between the batches',
}

WINDOW = 20


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(1, 32, batch_first=True)
        self.linear = nn.Linear(32, 1)

    def forward(self, x):
        _, (h, _) = self.lstm(x)
        return self.linear(h[-1]).squeeze(-1)


def build():
    return (Forecaster(),)


def make_series(n=1200):
    t = torch.arange(n).float()
    s = torch.sin(t * 0.35) + 0.6 * torch.sin(t * 0.81 + 1) + 0.1 * torch.randn(n)
    return s


def windows(series, fault):
    horizon = 0 if fault == 'target_inside_window' else 1
    w = series.unfold(0, WINDOW, 1)
    last = len(series) - WINDOW
    x = w[:last].unsqueeze(-1)
    start = WINDOW - 1 + horizon
    y = series[start:start + last]
    return x, y


def fit(model, x, y, optimizer, criterion, epochs, batch_size, fault):
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(x))
        for k in range(0, len(x), batch_size):
            sel = order[k:k + batch_size]
            if fault != 'zero_grad_forgotten':
                for p in model.parameters():
                    p.grad = None
            loss = criterion(model(x[sel]), y[sel])
            loss.backward()
            optimizer.step()


def evaluate(model, x, y, criterion):
    model.eval()
    with torch.no_grad():
        return criterion(model(x), y).item()


def train(models, fault=''):
    torch.manual_seed(29)
    model = models[0]
    series = make_series()
    past, future = series[:900], series[900:]
    mean, std = past.mean(), past.std()
    x_tr, y_tr = windows((past - mean) / std, fault)
    x_va, y_va = windows((future - mean) / std, fault)
    lr = 0.5 if fault == 'lr_100x_too_high' else 5e-3
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    criterion = nn.MSELoss()
    fit(model, x_tr, y_tr, optimizer, criterion, epochs=8, batch_size=40, fault=fault)
    return evaluate(model, x_va, y_va, criterion)
