import torch
import torch.nn as nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)

STYLE = 'sequence classifier (LSTM) with gradient clipping and a StepLR scheduler per epoch'
FAULTS = {
    'clip_after_step': 'clip_grad_norm_ is called after optimizer.step(), so it has no effect on the update',
    'scheduler_stepped_per_batch': 'scheduler.step() is inside the batch loop, so the learning rate is gone after a few batches',
    'optimizer_anew_each_epoch': 'the optimizer is made again in every epoch, so the momentum is lost and the scheduler works on a dead optimizer',
}


class SeqNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 40, batch_first=True)
        self.fc = nn.Linear(40, 3)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.fc(out[:, -1])


def build():
    return (SeqNet(),)


def sequences(n):
    # which of the three channels drifts upwards?
    y = torch.randint(0, 3, (n,))
    x = torch.randn(n, 16, 3)
    x[torch.arange(n), :, y] += 0.7
    return x, y


def train(models, fault=''):
    torch.manual_seed(16)
    model = models[0]
    train_loader = DataLoader(TensorDataset(*sequences(800)), batch_size=32, shuffle=True)
    val_loader = DataLoader(TensorDataset(*sequences(300)), batch_size=100)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    scheduler = StepLR(optimizer, step_size=2, gamma=0.5)
    max_norm = 0.5

    for epoch in range(8):
        if fault == 'optimizer_anew_each_epoch':
            optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            if fault == 'clip_after_step':
                optimizer.step()
                nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            else:
                nn.utils.clip_grad_norm_(model.parameters(), max_norm)
                optimizer.step()
            if fault == 'scheduler_stepped_per_batch':
                scheduler.step()
        if fault != 'scheduler_stepped_per_batch':
            scheduler.step()

    model.eval()
    total = 0.0
    with torch.no_grad():
        for x, y in val_loader:
            total += criterion(model(x), y).item() * len(x)
    return total / len(val_loader.dataset)
