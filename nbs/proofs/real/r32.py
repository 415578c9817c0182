"""Causal transformer that forecasts many hourly series (electricity-like) one step after the other."""
import math
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'forecasting tutorial: sliding WindowDataset, PositionalEncoding module, nn.TransformerEncoder with a causal mask, scaling by window, AdamW + warmup and cosine LambdaLR, autoregressive rollout at test time'
FAULTS = {
    'mask_without_inf': 'The causal mask is the 0/1 upper triangle as a float and is merely added to the scores, so nothing is hidden, training can read the next value and the rollout fails.',
    'pos_encoding_batch_axis': 'The positional table for (time, batch, dim) is added to a batch-first input, so it numbers the samples of the batch instead of the time steps.',
    'scale_over_whole_batch': 'Mean and standard deviation are taken without dim, one pair for the whole batch instead of one per series, so small series are flattened to nothing beside large ones.',
    'reshape_for_transpose': 'The (time, series) training table is brought to (series, time) with reshape instead of a transpose, so each row mixes the values of all series.',
}

SERIES, CONTEXT, HORIZON, TEST = 50, 48, 24, 120


def make_table(hours=840):
    """Consumption table (time, series): daily profile of each customer, weekend factor, slow drift, very different sizes."""
    t = torch.arange(hours).float()[:, None]
    k = torch.arange(1, 3).float()
    amp = torch.rand(SERIES, 2) / k * 0.9
    phase = torch.rand(SERIES, 2) * 2 * math.pi
    daily = (amp * (2 * math.pi * k * t[:, :, None] / 24 + phase).sin()).sum(-1)
    weekend = ((t // 24) % 7 >= 5).float() * torch.rand(SERIES) * 0.6
    drift = torch.zeros(hours, SERIES)
    noise = torch.randn(hours, SERIES)
    for i in range(1, hours):
        drift[i] = 0.98 * drift[i - 1] + 0.05 * noise[i]
    size = (torch.randn(SERIES) * 1.5 + 3).exp()
    return size * (3 + daily * (1 - weekend) - weekend + drift + 0.2 * torch.randn(hours, SERIES))


class WindowDataset(Dataset):
    def __init__(self, series, length, stride):
        self.series, self.length = series, length
        self.index = [(s, i) for s in range(series.size(0)) for i in range(0, series.size(1) - length + 1, stride)]

    def __len__(self):
        return len(self.index)

    def __getitem__(self, j):
        s, i = self.index[j]
        return self.series[s, i:i + self.length]


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, max_len=256):
        super().__init__()
        pos = torch.arange(max_len).float()[:, None]
        div = torch.exp(torch.arange(0, d_model, 2).float() * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, d_model)
        pe[:, 0::2] = torch.sin(pos * div)
        pe[:, 1::2] = torch.cos(pos * div)
        self.register_buffer('pe', pe[:, None])                            # [max_len, 1, d_model]
        self.batch_axis = False

    def forward(self, x):                                                  # x: [batch, time, d_model]
        if self.batch_axis:
            return x + self.pe[:x.size(0)]
        return x + self.pe[:x.size(1)].transpose(0, 1)


class TimeSeriesTransformer(nn.Module):
    def __init__(self, d_model=32, nhead=4, layers=2, ff=64, dropout=0.0):
        super().__init__()
        self.d_model = d_model
        self.input_proj = nn.Linear(1, d_model)
        self.pos = PositionalEncoding(d_model)
        layer = nn.TransformerEncoderLayer(d_model, nhead, ff, dropout, activation='gelu', batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(d_model), enable_nested_tensor=False)
        self.head = nn.Linear(d_model, 1)
        self.mask_without_inf = False

    def causal_mask(self, n):
        mask = torch.triu(torch.ones(n, n), diagonal=1)
        if self.mask_without_inf:
            return mask
        return mask.masked_fill(mask == 1, float('-inf'))

    def forward(self, x):                                                  # [batch, time] -> next value at every step
        h = self.pos(self.input_proj(x.unsqueeze(-1)))
        h = self.encoder(h, mask=self.causal_mask(x.size(1)))
        return self.head(h).squeeze(-1)


def window_stats(context, fault=''):
    if fault == 'scale_over_whole_batch':
        return context.mean(), context.std() + 1e-5
    return context.mean(dim=1, keepdim=True), context.std(dim=1, keepdim=True) + 1e-5


@torch.no_grad()
def forecast(model, context, steps, fault=''):
    mean, std = window_stats(context, fault)
    x = (context - mean) / std
    for _ in range(steps):
        x = torch.cat([x, model(x)[:, -1:]], dim=1)
    return x[:, -steps:] * std + mean


def build():
    torch.manual_seed(3)
    return (TimeSeriesTransformer(),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(32)
    table = make_table()
    train_table, test_table = table[:-TEST], table[-TEST - CONTEXT:]
    if fault == 'reshape_for_transpose':
        train_series = train_table.reshape(SERIES, -1)
    else:
        train_series = train_table.t()
    train_dl = DataLoader(WindowDataset(train_series, CONTEXT + HORIZON, 8), batch_size=32, shuffle=True, drop_last=True)
    test_dl = DataLoader(WindowDataset(test_table.t(), CONTEXT + HORIZON, 24), batch_size=50)

    model.mask_without_inf = fault == 'mask_without_inf'
    model.pos.batch_axis = fault == 'pos_encoding_batch_axis'

    epochs = 4
    total, warmup = epochs * len(train_dl), 50
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    sched = torch.optim.lr_scheduler.LambdaLR(
        opt, lambda i: min((i + 1) / warmup, 0.5 * (1 + math.cos(math.pi * min(1, i / total)))))
    model.train()
    for epoch in range(epochs):
        for w in train_dl:
            mean, std = window_stats(w[:, :CONTEXT], fault)
            z = (w - mean) / std
            pred = model(z[:, :-1])
            loss = F.mse_loss(pred, z[:, 1:])
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            sched.step()

    # mean absolute error of each window, divided by that of the seasonal naive forecast (the day before)
    model.eval()
    err = naive = 0.
    for w in test_dl:
        context, future = w[:, :CONTEXT], w[:, CONTEXT:]
        scale = context.std(dim=1, keepdim=True)
        err += ((forecast(model, context, HORIZON, fault) - future) / scale).abs().sum().item()
        naive += ((context[:, -HORIZON:] - future) / scale).abs().sum().item()
    return err / naive


if __name__ == '__main__':
    print(train(build()))
