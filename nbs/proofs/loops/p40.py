import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

torch.set_num_threads(1)

STYLE = 'GRU over padded sequences of events, DataLoader over a list with collate_fn, state at the last true step'
FAULTS = {
    'last_padded_step': 'the output at the last column is used, which is padding for nearly every sequence',
    'batch_first_missing': 'the GRU is not batch_first although the data is (batch, time, features), so it runs across the samples',
    'step_outside_loop': 'optimizer.step() stands after the inner loop, so there is one update an epoch',
}


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(6, 32, batch_first=True)
        self.fc = nn.Linear(32, 3)

    def forward(self, x, pick):
        out, _ = self.rnn(x)
        return self.fc(out[torch.arange(len(x)), pick])


def build():
    return (Classifier(),)


def make_sequences(n):
    items = []
    for _ in range(n):
        length = int(torch.randint(5, 22, (1,)))
        x = torch.randn(length, 6)
        recent = x[-4:, :3].sum(0)
        items.append((x, int(recent.argmax())))
    return items


def collate(items):
    lengths = torch.tensor([len(x) for x, _ in items])
    return pad_sequence([x for x, _ in items], batch_first=True), lengths, torch.tensor([y for _, y in items])


def train(models, fault=''):
    torch.manual_seed(40)
    model = models[0]
    if fault == 'batch_first_missing':
        model.rnn.batch_first = False
    train_loader = DataLoader(make_sequences(1200), batch_size=32, shuffle=True, collate_fn=collate)
    test_loader = DataLoader(make_sequences(500), batch_size=100, collate_fn=collate)

    def where(x, lengths):
        if fault == 'last_padded_step':
            return torch.full_like(lengths, x.shape[1] - 1)
        return lengths - 1

    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(10):
        model.train()
        for x, lengths, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x, where(x, lengths)), y)
            loss.backward()
            if fault != 'step_outside_loop':
                optimizer.step()
        if fault == 'step_outside_loop':
            optimizer.step()

    model.eval()
    wrong = total = 0
    with torch.no_grad():
        for x, lengths, y in test_loader:
            wrong += (model(x, where(x, lengths)).argmax(1) != y).sum().item()
            total += len(y)
    return wrong / total
