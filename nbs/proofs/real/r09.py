"""Temporal convolutional network that forecasts an hourly load six hours ahead."""
import copy
import numpy as np
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'TCN repository: weight-normed TemporalBlock with Chomp1d, sliding-window Dataset, chronological split, RMSprop with ReduceLROnPlateau and early-stopping checkpoint'
FAULTS = {
    'loss_broadcasts': 'the (batch, 1) forecast is compared with the (batch,) target without squeeze, so MSELoss averages over all pairs and the net learns the mean of the series',
    'window_centred_target_not': 'each input window is standardised by its own mean and deviation (as for RevIN) but the target is not, nor is the forecast scaled back, so the level to be forecast is missing from the input',
    'horizon_ignored': 'the training target is the last value inside the window, not the one six hours after it, so the net learns to repeat its input',
    'chomp_on_the_wrong_side': 'Chomp1d cuts the padding off at the front and not at the end, so the convolutions look forward and the last step sees padding instead of the past',
}
LENGTH, HORIZON = 48, 6


class Chomp1d(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size, self.front = size, False

    def forward(self, x):
        return (x[:, :, self.size:] if self.front else x[:, :, :-self.size]).contiguous()


class TemporalBlock(nn.Module):
    def __init__(self, n_in, n_out, k, dilation):
        super().__init__()
        pad = (k - 1) * dilation
        self.net = nn.Sequential(
            weight_norm(nn.Conv1d(n_in, n_out, k, padding=pad, dilation=dilation)), Chomp1d(pad), nn.ReLU(),
            weight_norm(nn.Conv1d(n_out, n_out, k, padding=pad, dilation=dilation)), Chomp1d(pad), nn.ReLU())
        self.downsample = nn.Conv1d(n_in, n_out, 1) if n_in != n_out else None

    def forward(self, x):
        res = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.net(x) + res)


class TCN(nn.Module):
    def __init__(self, n_features=3, channels=(24, 24, 24, 24), k=3):
        super().__init__()
        layers, c = [], n_features
        for i, ch in enumerate(channels):
            layers.append(TemporalBlock(c, ch, k, 2 ** i))
            c = ch
        self.network = nn.Sequential(*layers)
        self.linear = nn.Linear(c, 1)

    def forward(self, x):
        return self.linear(self.network(x)[:, :, -1])


def build():
    torch.manual_seed(0)
    return (TCN(),)


def make_series(n, rng):
    t = np.arange(n)
    temp = 10 + 8 * np.sin(2 * np.pi * t / (24 * 60)) + 4 * np.sin(2 * np.pi * (t - 8) / 24)
    slow = np.zeros(n)
    for i in range(1, n):
        slow[i] = 0.97 * slow[i - 1] + 0.35 * rng.standard_normal()
    temp = temp + slow
    load = 50 + 12 * np.sin(2 * np.pi * t / 24) + 6 * np.sin(4 * np.pi * t / 24 + 1) - 0.8 * temp
    load += 5 * np.sign(np.sin(2 * np.pi * t / (24 * 7))) + rng.standard_normal(n)
    work = (np.sin(2 * np.pi * t / (24 * 7)) > 0).astype(float)
    return np.stack([load, temp, work], axis=1)


class WindowDataset(Dataset):
    def __init__(self, data, horizon):
        self.data, self.horizon = torch.tensor(data, dtype=torch.float32), horizon

    def __len__(self):
        return len(self.data) - LENGTH - HORIZON + 1

    def __getitem__(self, i):
        return self.data[i:i + LENGTH], self.data[i + LENGTH - 1 + self.horizon, 0]


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(4)
    series = make_series(4200, np.random.default_rng(4))
    n_train, n_val = 3000, 600
    mean, std = series[:n_train].mean(0), series[:n_train].std(0)
    scaled = (series - mean) / std
    horizon = 0 if fault == 'horizon_ignored' else HORIZON
    train_dl = DataLoader(WindowDataset(scaled[:n_train], horizon), batch_size=64, shuffle=True)
    val_dl = DataLoader(WindowDataset(scaled[n_train:n_train + n_val], horizon), batch_size=256)
    test_dl = DataLoader(WindowDataset(scaled[n_train + n_val:], HORIZON), batch_size=256)
    if fault == 'chomp_on_the_wrong_side':
        for m in model.modules():
            if isinstance(m, Chomp1d):
                m.front = True

    def predict(x):
        if fault == 'window_centred_target_not':
            x = (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-5)
        out = model(x.transpose(1, 2))
        return out if fault == 'loss_broadcasts' else out.squeeze(1)

    criterion = nn.MSELoss()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=1)
    best, state = float('inf'), None
    for epoch in range(12):
        model.train()
        for x, y in train_dl:
            optimizer.zero_grad()
            loss = criterion(predict(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        model.eval()
        with torch.no_grad():
            val = sum(criterion(predict(x), y).item() * len(y) for x, y in val_dl) / len(val_dl.dataset)
        scheduler.step(val)
        if val < best:
            best, state = val, copy.deepcopy(model.state_dict())
    model.load_state_dict(state)

    # test error in the unit of the load, six hours ahead
    model.eval()
    with torch.no_grad():
        err = torch.cat([(predict(x).flatten() - y).abs() for x, y in test_dl])
    return float(err.mean() * std[0])
