import torch
import torch.nn as nn

torch.set_num_threads(1)

STYLE = 'time series forecast with an LSTM over sliding windows, unfold, SGD with momentum, clipping, MultiStepLR'
FAULTS = {
    'test_scaled_by_itself': 'the later part of the series is standardised with its own mean and deviation, while predictions are scaled back with those of the training part',
    'clip_far_too_small': 'the gradient norm is clipped to 1e-4, so every update is tiny',
    'zero_grad_missing': 'the gradients are never cleared and add up over all batches',
}


class Forecaster(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(out[:, -1])


def build():
    return (Forecaster(),)


def train(models, fault=''):
    torch.manual_seed(43)
    model = models[0]
    t = torch.arange(1500).float()
    series = 20 + 4 * torch.sin(t / 4) + 3 * torch.sin(t / 13) + 0.004 * t + 0.3 * torch.randn(len(t))
    past, future = series[:1100], series[1100:]
    mean, std = past.mean(), past.std()

    def windows(part):
        w = part.unfold(0, 21, 1)
        return w[:, :-1].unsqueeze(-1), w[:, -1:]

    x_train, y_train = windows((past - mean) / std)
    if fault == 'test_scaled_by_itself':
        x_test, _ = windows((future - future.mean()) / future.std())
    else:
        x_test, _ = windows((future - mean) / std)
    _, y_test = windows(future)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[20, 26], gamma=0.3)
    limit = 1e-4 if fault == 'clip_far_too_small' else 5.0
    loss_fn = nn.MSELoss()
    for epoch in range(30):
        model.train()
        for idx in torch.randperm(len(x_train)).split(64):
            if fault != 'zero_grad_missing':
                optimizer.zero_grad()
            loss = loss_fn(model(x_train[idx]), y_train[idx])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), limit)
            optimizer.step()
        scheduler.step()

    model.eval()
    with torch.no_grad():
        forecast = model(x_test) * std + mean
        return ((forecast - y_test) ** 2).mean().sqrt().item()
