import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'multi-task net with shared trunk, one classification and one regression head, weighted sum of two losses'
FAULTS = {
    'one_loss_overwritten': 'loss = ... is assigned twice instead of added, so the classification loss is dropped and its head never trained',
    'regression_shape_broadcasts': 'the regression head gives (n,1) and the targets are (n,), so the MSE compares all pairs',
    'regression_loss_summed': 'the regression loss uses reduction="sum" and so is 64 times too strong against the other task',
}


class MultiTask(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.cls_head = nn.Linear(64, 3)
        self.reg_head = nn.Linear(64, 1)

    def forward(self, x):
        h = self.trunk(x)
        return self.cls_head(h), self.reg_head(h)


def build():
    return (MultiTask(),)


def make(n, wc, wr):
    x = torch.randn(n, 10)
    cls = (x @ wc + 0.3 * torch.randn(n, 3)).argmax(1)
    reg = torch.sin(x @ wr) + 0.5 * x[:, 0] + 0.1 * torch.randn(n)
    return x, cls, reg


def train(models, fault=''):
    import warnings
    warnings.filterwarnings('ignore', message='Using a target size')
    torch.manual_seed(15)
    model = models[0]
    wc, wr = torch.randn(10, 3), torch.randn(10) / 3
    x, c, r = make(1600, wc, wr)
    xv, cv, rv = make(400, wc, wr)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def losses(x, c, r, training):
        logits, pred = model(x)
        if not (training and fault == 'regression_shape_broadcasts'):
            pred = pred.squeeze(1)
        loss_cls = F.cross_entropy(logits, c)
        red = 'sum' if training and fault == 'regression_loss_summed' else 'mean'
        loss_reg = F.mse_loss(pred, r, reduction=red)
        loss = 1.0 * loss_cls
        if training and fault == 'one_loss_overwritten':
            loss = 1.0 * loss_reg
        else:
            loss = loss + 1.0 * loss_reg
        return loss

    for epoch in range(10):
        model.train()
        order = torch.randperm(len(x))
        for start in range(0, len(x), 64):
            b = order[start:start + 64]
            optimizer.zero_grad()
            loss = losses(x[b], c[b], r[b], True)
            loss.backward()
            optimizer.step()

    model.eval()
    with torch.no_grad():
        return losses(xv, cv, rv, False).item()
