import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)

STYLE = 'trainer class, mixture of experts for tabular regression, StepLR stepped once an epoch'
FAULTS = {
    'target_shape_broadcasts': 'the prediction is (N, 1) and the target (N,), so MSELoss compares every pair and the model learns the mean',
    'gate_softmax_over_batch': 'the softmax of the gate runs over the batch (dim=0) instead of over the experts',
    'scheduler_step_per_batch': 'StepLR counts epochs but is stepped after every batch, so the learning rate is gone within the first epochs',
}


class MixtureOfExperts(nn.Module):
    def __init__(self, d_in, n_experts=4, hidden=24):
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(d_in, n_experts), nn.Softmax(dim=1))
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(d_in, hidden), nn.Tanh(), nn.Linear(hidden, 1)) for _ in range(n_experts))

    def forward(self, x):
        weights = self.gate(x)
        out = torch.cat([expert(x) for expert in self.experts], dim=1)
        return (weights * out).sum(dim=1, keepdim=True)


def build():
    return (MixtureOfExperts(8),)


class Trainer:
    def __init__(self, model, loaders, fault):
        self.model = model
        self.train_loader, self.test_loader = loaders
        self.fault = fault
        self.criterion = nn.MSELoss()
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=10, gamma=0.3)

    def fit(self, epochs):
        for _ in range(epochs):
            self.model.train()
            for x, y in self.train_loader:
                self.optimizer.zero_grad()
                pred = self.model(x)
                if self.fault == 'target_shape_broadcasts':
                    y = y.squeeze(1)
                loss = self.criterion(pred, y)
                loss.backward()
                self.optimizer.step()
                if self.fault == 'scheduler_step_per_batch':
                    self.scheduler.step()
            if self.fault != 'scheduler_step_per_batch':
                self.scheduler.step()

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        total, count = 0.0, 0
        for x, y in self.test_loader:
            total += ((self.model(x) - y) ** 2).sum().item()
            count += len(x)
        return (total / count) ** 0.5


def train(models, fault=''):
    torch.manual_seed(32)
    model = models[0]
    if fault == 'gate_softmax_over_batch':
        model.gate[1] = nn.Softmax(dim=0)
    x = torch.randn(3500, 8)
    y = torch.where(x[:, 0] > 0, 2 * torch.sin(2 * x[:, 1]), 1.5 * x[:, 2] * torch.tanh(x[:, 3])) + x[:, 4]
    y = y + 0.1 * torch.randn(len(y))
    y = ((y - y[:2500].mean()) / y[:2500].std()).unsqueeze(1)
    loaders = (DataLoader(TensorDataset(x[:2500], y[:2500]), batch_size=50, shuffle=True),
               DataLoader(TensorDataset(x[2500:], y[2500:]), batch_size=500))
    trainer = Trainer(model, loaders, fault)
    trainer.fit(30)
    return trainer.evaluate()
