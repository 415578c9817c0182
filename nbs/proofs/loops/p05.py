import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)

STYLE = 'AMP: torch.amp.GradScaler("cpu") with bfloat16 autocast and gradient clipping, SGD'
FAULTS = {
    'clip_before_unscale': 'clip_grad_norm_ works on the scaled gradients (no unscale_ before it), so the real gradients become tiny',
    'step_never_called': 'scaler.step(optimizer) is missing, only scaler.update() is called',
    'left_in_eval': 'model.train() is only called once before the epochs, so from the second epoch on training runs in eval mode',
}


def build():
    net = nn.Sequential(
        nn.Linear(16, 96), nn.BatchNorm1d(96), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(96, 96), nn.ReLU(),
        nn.Linear(96, 3))
    return (net,)


def spiral_features(n, proj):
    y = torch.randint(0, 3, (n,))
    r = torch.rand(n) * 0.9 + 0.1
    a = r * 4 + y * 2.0944 + 0.15 * torch.randn(n)
    xy = torch.stack([r * torch.cos(a), r * torch.sin(a)], 1) / 0.45
    return xy @ proj + 0.05 * torch.randn(n, 16), y


@torch.no_grad()
def evaluate(model, loader, criterion):
    model.eval()
    tot, cnt = 0.0, 0
    for x, y in loader:
        with torch.autocast('cpu', dtype=torch.bfloat16):
            out = model(x)
        tot += criterion(out.float(), y).item() * y.size(0)
        cnt += y.size(0)
    return tot / cnt


def train(models, fault=''):
    torch.manual_seed(4)
    model = models[0]
    proj = torch.randn(2, 16) / 2 ** 0.5
    train_loader = DataLoader(TensorDataset(*spiral_features(1280, proj)), batch_size=64, shuffle=True, drop_last=True)
    val_loader = DataLoader(TensorDataset(*spiral_features(256, proj)), batch_size=128)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler('cpu')
    criterion = nn.CrossEntropyLoss()

    val_loss = None
    model.train()
    for epoch in range(10):
        if fault != 'left_in_eval':
            model.train()
        for x, y in train_loader:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast('cpu', dtype=torch.bfloat16):
                loss = criterion(model(x), y)
            scaler.scale(loss).backward()
            if fault != 'clip_before_unscale':
                scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            if fault != 'step_never_called':
                scaler.step(optimizer)
            scaler.update()
        val_loss = evaluate(model, val_loader, criterion)
    return val_loss
