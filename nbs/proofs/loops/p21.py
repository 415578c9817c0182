import math
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)

STYLE = 'learning-rate warm-up and cosine decay with LambdaLR per step, a global step counter over repeated passes of the loader'
FAULTS = {
    'scheduler_never_stepped': 'scheduler.step() is forgotten, so the learning rate stays at the start of the warm-up, which is zero',
    'optimizer_anew_each_step': 'the optimizer is made again in every step, so Adam has no moments and the scheduler acts on another object',
    'lr_1000x_too_low': 'peak learning rate 5e-6, 1000 times too low',
}

TOTAL, WARMUP = 300, 30


def build():
    return (nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)),)


def moons(n):
    t = torch.rand(n) * math.pi
    y = torch.randint(0, 2, (n,))
    x = torch.where(y == 0, torch.cos(t), 1 - torch.cos(t))
    z = torch.where(y == 0, torch.sin(t), 0.5 - torch.sin(t))
    pts = torch.stack([x, z], 1) + 0.12 * torch.randn(n, 2)
    return (pts - torch.tensor([0.5, 0.25])) / torch.tensor([0.87, 0.5]), y


def lr_lambda(step):
    if step < WARMUP:
        return step / WARMUP
    progress = (step - WARMUP) / (TOTAL - WARMUP)
    return 0.5 * (1 + math.cos(math.pi * progress))


def train(models, fault=''):
    torch.manual_seed(20)
    model = models[0]
    loader = DataLoader(TensorDataset(*moons(1500)), batch_size=50, shuffle=True)
    x_val, y_val = moons(400)
    base_lr = 5e-6 if fault == 'lr_1000x_too_low' else 5e-3
    optimizer = torch.optim.AdamW(model.parameters(), lr=base_lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda)
    criterion = nn.CrossEntropyLoss()

    global_step, done = 0, False
    model.train()
    while not done:
        for x, y in loader:
            if fault == 'optimizer_anew_each_step':
                optimizer = torch.optim.AdamW(model.parameters(), lr=base_lr)
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            if fault != 'scheduler_never_stepped':
                scheduler.step()
            optimizer.zero_grad()
            global_step += 1
            if global_step >= TOTAL:
                done = True
                break

    model.eval()
    with torch.no_grad():
        return criterion(model(x_val), y_val).item()
