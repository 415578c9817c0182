import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)

STYLE = 'regression on a table (house prices) with standardised columns, RMSprop, running totals'
FAULTS = {
    'target_shape_broadcasts': 'the target is (n,) and the prediction (n,1), so the loss is over all pairs',
    'features_not_normalised': 'the raw columns (areas, years, incomes up to 100000) go in without standardising',
    'total_keeps_graph': 'total_loss += loss without .item() keeps the graph of every batch of the epoch',
}


class PriceNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1 = nn.Linear(6, 64)
        self.l2 = nn.Linear(64, 32)
        self.l3 = nn.Linear(32, 1)

    def forward(self, x):
        x = torch.relu(self.l1(x))
        x = torch.relu(self.l2(x))
        return self.l3(x)


def build():
    return (PriceNet(),)


def houses(n):
    area = 40 + 160 * torch.rand(n)
    rooms = (area / 30 + torch.randn(n)).round().clamp(1, 8)
    year = torch.randint(1900, 2024, (n,)).float()
    income = 20000 + 80000 * torch.rand(n)
    dist = 30 * torch.rand(n)
    floor = torch.randint(0, 12, (n,)).float()
    price = 2.0 * area + 10 * rooms + 0.6 * (year - 1900) + 0.002 * income - 60 * torch.log1p(dist / 3)
    price = price + 0.02 * area * floor + 15 * torch.randn(n)
    return torch.stack([area, rooms, year, income, dist, floor], 1), price


def train(models, fault=''):
    import warnings
    warnings.filterwarnings('ignore', message='Using a target size')
    torch.manual_seed(22)
    model = models[0]
    X, price = houses(1500)
    if fault != 'features_not_normalised':
        X = (X - X[:1200].mean(0)) / X[:1200].std(0)
    y = (price - price[:1200].mean()) / price[:1200].std()
    if fault != 'target_shape_broadcasts':
        y = y.view(-1, 1)

    train_loader = DataLoader(TensorDataset(X[:1200], y[:1200]), batch_size=40, shuffle=True)
    val_loader = DataLoader(TensorDataset(X[1200:], y[1200:]), batch_size=100)
    loss_fn = nn.MSELoss()
    opt = torch.optim.RMSprop(model.parameters(), lr=1e-3)

    val = None
    for epoch in range(10):
        model.train()
        total_loss = 0.0
        for xb, yb in train_loader:
            opt.zero_grad()
            loss = loss_fn(model(xb), yb)
            loss.backward()
            opt.step()
            if fault == 'total_keeps_graph':
                total_loss += loss
            else:
                total_loss += loss.item()
        model.eval()
        val = 0.0
        with torch.no_grad():
            for xb, yb in val_loader:
                val += loss_fn(model(xb), yb).item()
        val /= len(val_loader)
        print(f'Epoch {epoch + 1}: train {float(total_loss) / len(train_loader):.4f} val {val:.4f}')
    return val
