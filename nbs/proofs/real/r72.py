"""Anomaly detection on a machine's sensor series: a GRU variational autoencoder learns normal windows, its error is the score."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'LSTM-VAE / OmniAnomaly / USAD-like repositories: scaler fitted on the training stretch, sliding windows, GRU encoder and decoder, reconstruction plus KL with warm-up, threshold from a quantile of the scores of a clean stretch, point-wise F1 on the test stretch'
FAULTS = {
    'scaled_window_by_window': 'Each window is standardised with its own mean and deviation instead of the scaler of the training stretch, so shifts of level and of amplitude are scaled away before the model sees them.',
    'kl_summed_error_averaged': 'The squared error is averaged over time, sensors and batch while the KL term is summed over the latent, so the KL outweighs it some hundred times and the latent collapses.',
    'decay_per_batch': 'The ExponentialLR factor 0.88, meant per epoch, is applied after each batch, so the learning rate is gone after half an epoch.',
    'score_at_the_window_start': 'The score of a window, which is the error of its last step, is written to the index where the window starts, so all scores come 31 steps early.',
    'point_adjusted': 'Before the F1 every detected point marks its entire true segment as found (point adjustment), so one lucky alarm per segment counts as full recall and the score is falsely good.',
}
BETTER = 'higher'

SEED = 72
SENSORS, WINDOW = 6, 32


def make_series(n, rng, machine):
    """Six sensors that follow a load cycle of varying period and two work modes through fixed gains."""
    gain, phase, bend = machine
    rate = 2 * np.pi / 24 * (1 + 0.15 * np.sin(np.cumsum(rng.normal(0, 0.03, n))))
    angle = np.cumsum(rate)
    mode = np.zeros(n)
    t, state = 0, 0
    while t < n:
        length = rng.integers(60, 140)
        mode[t:t + length] = state
        t, state = t + length, 1 - state
    mode = np.convolve(mode, np.ones(8) / 8, 'same')
    x = np.empty((n, SENSORS))
    for s in range(SENSORS):
        wave = np.sin(angle + phase[s]) + bend[s] * np.sin(2 * angle + 2 * phase[s])
        x[:, s] = gain[s] * ((0.5 + 0.7 * mode) * wave + (1.5 * mode if s % 2 == 0 else -mode))
    return x + 0.08 * gain * rng.normal(0, 1, x.shape)


def add_anomalies(x, rng, scale):
    """Segments with a level shift, a frozen sensor, a lost amplitude, a sensor out of phase or a noise burst."""
    x, truth = x.copy(), np.zeros(len(x), bool)
    t = 60
    while t < len(x) - 100:
        length, s, kind = rng.integers(12, 36), rng.integers(SENSORS), rng.integers(5)
        seg = slice(t, t + length)
        if kind == 0:
            x[seg, s] += rng.choice([-1, 1]) * rng.uniform(1.5, 2.5) * scale[s]
        elif kind == 1:
            x[seg, s] = x[t, s]
        elif kind == 2:
            x[seg, s] = x[seg, s].mean() + 0.15 * (x[seg, s] - x[seg, s].mean())
        elif kind == 3:
            x[seg, s] = x[t - 11:t - 11 + length, s]
        else:
            x[seg, s] += rng.normal(0, 1.2 * scale[s], length)
        truth[seg] = True
        t += length + rng.integers(60, 140)
    return x, truth


class StandardScaler:
    def fit(self, x):
        self.mean, self.std = x.mean(0), x.std(0)
        return self

    def transform(self, x):
        return (x - self.mean) / self.std


class WindowDataset(Dataset):
    def __init__(self, series, stride, fault=''):
        self.series, self.stride, self.fault = series.astype(np.float32), stride, fault

    def __len__(self):
        return (len(self.series) - WINDOW) // self.stride + 1

    def __getitem__(self, index):
        start = index * self.stride
        window = self.series[start:start + WINDOW]
        if self.fault == 'scaled_window_by_window':
            window = (window - window.mean(0)) / (window.std(0) + 1e-3)
        return torch.from_numpy(window)


class GRUVAE(nn.Module):
    def __init__(self, hidden=48, latent=8):
        super().__init__()
        self.encoder = nn.GRU(SENSORS, hidden, batch_first=True)
        self.mu, self.logvar = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.expand = nn.Linear(latent, hidden)
        self.decoder = nn.GRU(hidden, hidden, batch_first=True)
        self.output = nn.Linear(hidden, SENSORS)

    def forward(self, x):
        _, last = self.encoder(x)
        mu, logvar = self.mu(last[-1]), self.logvar(last[-1])
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar) if self.training else mu
        h = torch.tanh(self.expand(z))
        steps = h.unsqueeze(1).expand(-1, WINDOW, -1)
        out, _ = self.decoder(steps, h.unsqueeze(0).contiguous())
        # the decoder works from the last step back to the first
        return self.output(out).flip(1), mu, logvar


def vae_loss(recon, x, mu, logvar, beta, fault=''):
    kl = -0.5 * (1 + logvar - mu ** 2 - logvar.exp())
    if fault == 'kl_summed_error_averaged':
        return F.mse_loss(recon, x) + beta * kl.sum()
    return ((recon - x) ** 2).sum((1, 2)).mean() + beta * kl.sum(1).mean()


@torch.no_grad()
def score_series(model, series, fault=''):
    """Error of the last step of each window, smoothed; the first WINDOW - 1 points have no score."""
    model.eval()
    loader = DataLoader(WindowDataset(series, 1, fault), batch_size=256)
    error = torch.cat([((model(x)[0] - x) ** 2)[:, -1].amax(1) for x in loader]).numpy()
    error = np.convolve(error, np.ones(7) / 7, 'same')
    scores = np.zeros(len(series))
    if fault == 'score_at_the_window_start':
        scores[:len(error)] = error
    else:
        scores[WINDOW - 1:] = error
    return scores


def adjust(alarm, truth):
    alarm = alarm.copy()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], truth.astype(int), [0]])))
    for a, b in edges.reshape(-1, 2):
        if alarm[a:b].any():
            alarm[a:b] = True
    return alarm


def evaluate(model, clean, test, truth, fault=''):
    """Point-wise F1 with the 98 percent quantile of the clean scores as threshold."""
    threshold = np.quantile(score_series(model, clean, fault)[WINDOW:], 0.98)
    alarm = score_series(model, test, fault) > threshold
    if fault == 'point_adjusted':
        alarm = adjust(alarm, truth)
    hit = (alarm & truth).sum()
    return float(2 * hit / (alarm.sum() + truth.sum()))


def build(seed=SEED):
    torch.manual_seed(seed)
    return (GRUVAE(),)


def train(models, fault='', seed=SEED):
    model, = models
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    machine = rng.uniform(0.5, 3, SENSORS), rng.uniform(0, 2 * np.pi, SENSORS), rng.uniform(0, 0.5, SENSORS)
    series, clean, test = (make_series(n, rng, machine) for n in (9000, 2500, 8000))
    scaler = StandardScaler().fit(series)
    test, truth = add_anomalies(test, rng, scaler.std)
    if fault != 'scaled_window_by_window':
        series, clean, test = (scaler.transform(x) for x in (series, clean, test))
    loader = DataLoader(WindowDataset(series, 3, fault), batch_size=64, shuffle=True, drop_last=True)

    epochs = 14
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.88)
    for epoch in range(epochs):
        model.train()
        beta = min(1.0, (epoch + 1) / 4) * 0.5
        for x in loader:
            recon, mu, logvar = model(x)
            loss = vae_loss(recon, x, mu, logvar, beta, fault)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            if fault == 'decay_per_batch':
                scheduler.step()
        if fault != 'decay_per_batch':
            scheduler.step()
        f1 = evaluate(model, clean, test, truth, fault)
    return f1


if __name__ == '__main__':
    for name in ('', *FAULTS):
        print(f'{name or "healthy":32s} {train(build(), name):.4f}')
