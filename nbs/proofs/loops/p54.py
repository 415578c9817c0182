import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'multi-task, class and keypoint of a shape from one CNN with two heads, weighted sum of losses, validation inside the epoch loop'
FAULTS = {
    'keypoint_in_pixels': 'the keypoint is left in pixels instead of divided by the image size, so its loss swamps that of the class',
    'second_loss_replaces_first': 'loss is assigned again instead of added to, so only the keypoint is trained',
    'dropout_too_high': 'the dropout before the heads drops 90 percent of the features',
}


class ShapeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(24 * 16, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Dropout(0.2))
        self.classify = nn.Linear(48, 3)
        self.locate = nn.Linear(48, 2)

    def forward(self, x):
        h = self.features(x)
        return self.classify(h), self.locate(h)


def build():
    return (ShapeNet(),)


def shapes(n, size=16):
    kind = torch.randint(0, 3, (n,))
    center = 4 + 8 * torch.rand(n, 2)
    g = torch.arange(size).float()
    dx = (g.view(1, 1, size) - center[:, 0].view(n, 1, 1)).abs()
    dy = (g.view(1, size, 1) - center[:, 1].view(n, 1, 1)).abs()
    square = (torch.maximum(dx, dy) < 2.6).float()
    diamond = (dx + dy < 3.6).float()
    cross = ((torch.minimum(dx, dy) < 1.0) & (torch.maximum(dx, dy) < 3.4)).float()
    img = torch.stack([square, diamond, cross])[kind, torch.arange(n)]
    img = img + 0.4 * torch.randn(n, size, size)
    return (img[:, None] - 0.1) / 0.5, kind, center


def train(models, fault=''):
    torch.manual_seed(54)
    model = models[0]
    if fault == 'dropout_too_high':
        model.features[-1].p = 0.9
    size = 16
    x, kind, center = shapes(1200)
    x_val, kind_val, center_val = shapes(500)
    unit = 1.0 if fault == 'keypoint_in_pixels' else size
    target = center / unit
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=12, power=1.0)

    def validate():
        model.eval()
        with torch.no_grad():
            logits, point = model(x_val)
        wrong = (logits.argmax(1) != kind_val).float().mean().item()
        away = (point * unit - center_val).norm(dim=1).mean().item() / size
        return wrong + away

    for epoch in range(12):
        model.train()
        for idx in torch.randperm(len(x)).split(30):
            logits, point = model(x[idx])
            loss = F.cross_entropy(logits, kind[idx])
            if fault == 'second_loss_replaces_first':
                loss = 5.0 * F.mse_loss(point, target[idx])
            else:
                loss = loss + 5.0 * F.mse_loss(point, target[idx])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
        scheduler.step()
        score = validate()
    return score
