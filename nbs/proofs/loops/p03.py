import math
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)

STYLE = 'gradient accumulation over micro-batches, Conv1d on signals, SGD with momentum'
FAULTS = {
    'zero_grad_before_step': 'zero_grad is called after every micro-batch backward, so the step sees empty gradients',
    'step_never_called': 'the micro-batch counter is reset inside the loop, so the condition for optimizer.step() is never true',
    'summed_loss': 'reduction="sum" in the training loss where the mean is meant, with a learning rate tuned for the mean',
}

ACCUM_STEPS = 4


class SignalNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(1, 12, 7, padding=3)
        self.conv2 = nn.Conv1d(12, 24, 7, padding=3, stride=2)
        self.head = nn.Linear(24, 4)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        return self.head(x.mean(-1))


def build():
    return (SignalNet(),)


def signals(n):
    t = torch.linspace(0, 1, 48)
    y = torch.randint(0, 4, (n,))
    freq = torch.tensor([2.0, 4.0, 7.0, 11.0])[y]
    phase = torch.rand(n) * 2 * math.pi
    x = 1.2 * torch.sin(2 * math.pi * freq[:, None] * t + phase[:, None]) + 0.5 * torch.randn(n, 48)
    return x.unsqueeze(1), y


def train(models, fault=''):
    torch.manual_seed(2)
    model = models[0]
    train_dl = DataLoader(TensorDataset(*signals(1024)), batch_size=8, shuffle=True)
    x_val, y_val = signals(256)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    reduction = 'sum' if fault == 'summed_loss' else 'mean'

    val = float('nan')
    for epoch in range(4):
        model.train()
        optimizer.zero_grad()
        micro = 0
        for x, y in train_dl:
            if fault == 'step_never_called':
                micro = 0
            loss = F.cross_entropy(model(x), y, reduction=reduction) / ACCUM_STEPS
            loss.backward()
            if fault == 'zero_grad_before_step':
                optimizer.zero_grad()
            micro += 1
            if micro % ACCUM_STEPS == 0:
                optimizer.step()
                optimizer.zero_grad()

        model.eval()
        with torch.no_grad():
            val = F.cross_entropy(model(x_val), y_val).item()
        print(f'epoch {epoch} val {val:.4f}')
    return val
