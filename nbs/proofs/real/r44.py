"""DeepSurv: a small network for the log hazard, trained with the Cox partial likelihood on right-censored synthetic patients."""
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'DeepSurv.pytorch / pycox repositories: SurvivalDataset with durations and events, cox_ph_loss by sorting on time and logcumsumexp, Adam with inverse-time learning-rate decay, concordance index'
FAULTS = {
    'risk_set_of_the_departed': 'The batch is sorted by ascending time before the cumulative log-sum-exp, so the risk set of an event holds those who left before it instead of those still under observation, and the hazard is learned mostly the wrong way round.',
    'risks_left_unsorted': 'The durations and events are sorted by descending time but the log hazards keep the order of the batch, so each prediction is scored with the time and event of another patient.',
    'column_against_row': 'The log hazards keep their shape (n, 1) while the log-risk and the events are (n,), so the subtraction broadcasts to an n by n matrix and the event term averages over all patients instead of those with an event.',
    'censored_counted_as_events': 'The event indicator is not used and each censoring is counted as a death, so in data where censoring depends on the covariates the network learns who drops out.',
}

SEED = 44
DIM = 10


def true_log_hazard(x):
    return 1.2 * x[:, 0] * x[:, 1] + 0.9 * np.abs(x[:, 2]) - 0.8 * x[:, 3] + 0.7 * np.sin(2 * x[:, 4])


def make_patients(n, rng):
    """Weibull death times; drop-out depends on some of the same covariates and on others."""
    x = rng.normal(0, 1, (n, DIM))
    death = (rng.exponential(1, n) * np.exp(-true_log_hazard(x))) ** (1 / 1.3)
    dropout = rng.exponential(1, n) * np.exp(-(-0.2 + 1.4 * x[:, 3] + 1.5 * x[:, 5] + 0.8 * x[:, 6])) * 0.9
    duration = np.minimum(death, dropout)
    event = death <= dropout
    return x.astype(np.float32), duration.astype(np.float32), event.astype(np.float32), death


class SurvivalDataset(Dataset):
    def __init__(self, x, duration, event, mean, std):
        self.x = torch.from_numpy((x - mean) / std)
        self.duration, self.event = torch.from_numpy(duration), torch.from_numpy(event)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.duration[index], self.event[index]


class DeepSurv(nn.Module):
    def __init__(self, dims=(DIM, 64, 64), dropout=0.2):
        super().__init__()
        layers = []
        for a, b in zip(dims[:-1], dims[1:]):
            layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU(), nn.Dropout(dropout)]
        self.model = nn.Sequential(*layers, nn.Linear(dims[-1], 1))

    def forward(self, x):
        return self.model(x)


def cox_ph_loss(log_h, durations, events, fault=''):
    """Negative partial log-likelihood (Breslow), averaged over the events of the batch."""
    order = durations.sort(descending=fault != 'risk_set_of_the_departed')[1]
    events = events[order]
    if fault == 'censored_counted_as_events':
        events = torch.ones_like(events)
    if fault == 'column_against_row':
        log_h = log_h[order]
        log_risk = log_h.view(-1).logcumsumexp(0)
        return -((log_h - log_risk) * events).mean() * len(events) / events.sum().clamp(min=1)
    log_h = log_h.view(-1)
    if fault != 'risks_left_unsorted':
        log_h = log_h[order]
    log_risk = log_h.logcumsumexp(0)
    return -((log_h - log_risk) * events).sum() / events.sum().clamp(min=1)


def adjust_learning_rate(optimizer, epoch, lr, lr_decay_rate):
    for param_group in optimizer.param_groups:
        param_group['lr'] = lr / (1 + epoch * lr_decay_rate)


def c_index(risk, time):
    """Share of pairs in which the one with the higher risk dies first."""
    first = time[:, None] < time[None, :]
    right = risk[:, None] > risk[None, :]
    return (first & right).sum() / first.sum()


@torch.no_grad()
def evaluate(model, x, death):
    """One minus the concordance with the true death times of unseen patients."""
    model.eval()
    return float(1 - c_index(model(x).squeeze(1).numpy(), death))


def build():
    torch.manual_seed(SEED)
    return (DeepSurv(),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(SEED)
    epochs, lr, lr_decay_rate = 60, 2e-3, 0.05
    x, duration, event, _ = make_patients(30000, np.random.default_rng(SEED))
    test_x, test_duration, test_event, test_death = make_patients(3000, np.random.default_rng(SEED + 1))
    mean, std = x.mean(0), x.std(0)
    train_dataset = SurvivalDataset(x, duration, event, mean, std)
    test_dataset = SurvivalDataset(test_x, test_duration, test_event, mean, std)
    train_loader = DataLoader(train_dataset, batch_size=128, shuffle=True, drop_last=True)

    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=1e-4)
    for epoch in range(epochs):
        adjust_learning_rate(optimizer, epoch, lr, lr_decay_rate)
        model.train()
        for features, durations, events in train_loader:
            risk_pred = model(features)
            loss = cox_ph_loss(risk_pred, durations, events, fault)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return evaluate(model, test_dataset.x, test_death)


if __name__ == '__main__':
    print(train(build()))
