import copy
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

torch.set_num_threads(1)

STYLE = 'class Trainer with train_step / validate / fit, small CNN with BatchNorm, own Dataset class'
FAULTS = {
    'left_in_eval': 'validate() switches to eval and nothing switches back to train, so all later epochs train in eval mode',
    'validation_trains': 'validate() calls train_step on the validation batches, so the model learns from them',
    'optimizer_of_older_copy': 'the optimizer gets the parameters of a deepcopy of the model that was made as a backup, so the model never changes',
}


class QuadrantDataset(Dataset):
    """A bright patch in one of the quadrants; the label is the quadrant."""

    def __init__(self, n):
        self.labels = torch.randint(0, 4, (n,))
        self.images = torch.randn(n, 1, 12, 12) * 0.8
        for i, k in enumerate(self.labels.tolist()):
            r = (k // 2) * 6 + int(torch.randint(0, 4, (1,)))
            c = (k % 2) * 6 + int(torch.randint(0, 4, (1,)))
            self.images[i, 0, r:r + 3, c:c + 3] += 2.0

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


def build():
    model = nn.Sequential(
        nn.Conv2d(1, 10, 3, padding=1, bias=False), nn.BatchNorm2d(10), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(10, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(16 * 36, 4))
    return (model,)


class Trainer:
    def __init__(self, model, train_loader, val_loader, lr=2e-3, fault=''):
        self.model = model
        self.train_loader = train_loader
        self.val_loader = val_loader
        self.fault = fault
        self.criterion = nn.CrossEntropyLoss()
        if fault == 'optimizer_of_older_copy':
            backup = copy.deepcopy(model)
            self.optimizer = torch.optim.Adam(backup.parameters(), lr=lr)
        else:
            self.optimizer = torch.optim.Adam(self.model.parameters(), lr=lr)
        self.model.train()

    def train_step(self, batch):
        x, y = batch
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def validate(self):
        if self.fault == 'validation_trains':
            losses = [self.train_step(batch) for batch in self.val_loader]
            return sum(losses) / len(losses)
        self.model.eval()
        losses = []
        with torch.no_grad():
            for x, y in self.val_loader:
                losses.append(self.criterion(self.model(x), y).item())
        return sum(losses) / len(losses)

    def fit(self, epochs):
        history = []
        for _ in range(epochs):
            if self.fault != 'left_in_eval':
                self.model.train()
            train_losses = [self.train_step(b) for b in self.train_loader]
            history.append((sum(train_losses) / len(train_losses), self.validate()))
        return history


def train(models, fault=''):
    torch.manual_seed(5)
    train_loader = DataLoader(QuadrantDataset(640), batch_size=32, shuffle=True)
    val_loader = DataLoader(QuadrantDataset(256), batch_size=64)
    trainer = Trainer(models[0], train_loader, val_loader, fault=fault)
    history = trainer.fit(6)
    return history[-1][1]
