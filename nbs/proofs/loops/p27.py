import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)

STYLE = 'endless iterator over the loader with next(), fixed number of iterations, evaluation now and then, NAdam'
FAULTS = {
    'same_batch_every_step': 'next(iter(loader)) of an unshuffled loader in each step always gives the first batch',
    'list_of_losses_keeps_graph': 'losses.append(loss) keeps the loss tensors with their graphs over the whole training',
    'several_steps_per_backward': 'an inner loop calls optimizer.step() four times for each backward',
}


class ResMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(18, 64)
        self.a = nn.Linear(64, 64)
        self.b = nn.Linear(64, 64)
        self.out = nn.Linear(64, 6)

    def forward(self, x):
        h = F.gelu(self.inp(x))
        h = h + F.gelu(self.a(h))
        h = h + F.gelu(self.b(h))
        return self.out(h)


def build():
    return (ResMLP(),)


def infinite(loader):
    while True:
        yield from loader


def make(n, w):
    x = torch.randn(n, 18)
    return x, (x @ w + 0.5 * (x * x.roll(1, 1)) @ w.flip(0)).argmax(1)


def train(models, fault=''):
    torch.manual_seed(26)
    model = models[0]
    w = torch.randn(18, 6)
    train_ds, val_ds = TensorDataset(*make(3000, w)), TensorDataset(*make(500, w))
    loader = DataLoader(train_ds, batch_size=64, shuffle=fault != 'same_batch_every_step')
    val_loader = DataLoader(val_ds, batch_size=250)
    optimizer = torch.optim.NAdam(model.parameters(), lr=2e-3)
    batches = infinite(loader)

    def evaluate():
        model.eval()
        with torch.no_grad():
            total = sum(F.cross_entropy(model(x), y, reduction='sum').item() for x, y in val_loader)
        model.train()
        return total / len(val_ds)

    losses = []
    for step in range(1, 301):
        if fault == 'same_batch_every_step':
            x, y = next(iter(loader))
        else:
            x, y = next(batches)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        for _ in range(4 if fault == 'several_steps_per_backward' else 1):
            optimizer.step()
        losses.append(loss if fault == 'list_of_losses_keeps_graph' else loss.item())
        if step % 100 == 0:
            print(step, float(sum(losses[-100:])) / 100, evaluate())
    return evaluate()
