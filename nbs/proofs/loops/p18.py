import copy
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'exponential moving average of the weights, the EMA copy is validated'
FAULTS = {
    'ema_never_updated': 'the update of the EMA copy is missing, so validation sees the weights of the start',
    'optimizer_of_ema_copy': 'the optimizer is made with ema_model.parameters(), so the trained model never gets an update',
    'three_steps_per_backward': 'optimizer.step() is called three times for one backward',
}


class EMA:
    def __init__(self, model, decay=0.95):
        self.model = copy.deepcopy(model).eval()
        self.decay = decay
        for p in self.model.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for e, p in zip(self.model.parameters(), model.parameters()):
            e.mul_(self.decay).add_(p, alpha=1 - self.decay)


def build():
    net = nn.Sequential(nn.Linear(6, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
    return (net,)


def friedman(n):
    x = torch.rand(n, 6)
    y = 10 * torch.sin(torch.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    y = y + 0.5 * torch.randn(n)
    return (x - 0.5) * 12 ** 0.5, ((y - 14.4) / 4.9).unsqueeze(1)


def train(models, fault=''):
    torch.manual_seed(17)
    model = models[0]
    ema = EMA(model)
    x, y = friedman(2000)
    xv, yv = friedman(500)
    params = ema.model.parameters() if fault == 'optimizer_of_ema_copy' else model.parameters()
    optimizer = torch.optim.SGD(params, lr=0.05, momentum=0.9)

    step = 0
    while step < 300:
        idx = torch.randint(0, len(x), (64,))
        loss = F.mse_loss(model(x[idx]), y[idx])
        model.zero_grad()
        loss.backward()
        optimizer.step()
        if fault == 'three_steps_per_backward':
            optimizer.step()
            optimizer.step()
        if fault != 'ema_never_updated':
            ema.update(model)
        step += 1
        if step % 100 == 0:
            with torch.no_grad():
                print(step, 'ema val', F.mse_loss(ema.model(xv), yv).item())

    with torch.no_grad():
        return F.mse_loss(ema.model(xv), yv).item()
