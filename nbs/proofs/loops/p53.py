import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)

STYLE = 'fine-tuning, a backbone pretrained on a broad task, frozen, a new head for a new set of classes, parameters filtered by requires_grad'
FAULTS = {
    'head_replaced_after_optimizer': 'the new head is put in after the optimizer was made, so the optimizer holds the old head',
    'sorted_without_shuffle': 'the images of the new task are sorted by class and the loader does not shuffle, so each step sees a single class',
    'images_not_normalised': 'the images of the new task are fed as raw pixel values from 0 to 255, while the backbone was pretrained on normalised ones',
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.fc = nn.Linear(96, 8)

    def forward(self, x):
        return self.fc(self.backbone(x))


def build():
    return (Net(),)


def textures(n, angles):
    y = torch.randint(0, len(angles), (n,))
    angle = torch.tensor(angles)[y].view(n, 1, 1) + 0.08 * torch.randn(n, 1, 1)
    yy, xx = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing='ij')
    wave = torch.sin(1.4 * (angle.cos() * xx + angle.sin() * yy) + 6.28 * torch.rand(n, 1, 1))
    pixels = (128 + 50 * wave + 45 * torch.randn(n, 12, 12)).clamp(0, 255)
    return pixels[:, None], y


def normalise(pixels):
    return (pixels / 255 - 0.5) / 0.25


def run_epochs(model, loader, optimizer, epochs):
    loss_fn = nn.CrossEntropyLoss()
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()


def train(models, fault=''):
    torch.manual_seed(53)
    model = models[0]
    x, y = textures(1200, [i * 3.1416 / 8 for i in range(8)])
    run_epochs(model, DataLoader(TensorDataset(normalise(x), y), batch_size=32, shuffle=True),
               torch.optim.Adam(model.parameters(), lr=3e-3), 8)

    angles = [0.2, 0.55, 0.9, 1.25, 1.6]
    x, y = textures(600, angles)
    x_test, y_test = textures(600, angles)
    if fault != 'images_not_normalised':
        x, x_test = normalise(x), normalise(x_test)
    order = y.argsort()
    x, y = x[order], y[order]

    for p in model.backbone.parameters():
        p.requires_grad_(False)

    def make_optimizer():
        return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05, momentum=0.9)

    if fault == 'head_replaced_after_optimizer':
        optimizer = make_optimizer()
        model.fc = nn.Linear(96, 5)
    else:
        model.fc = nn.Linear(96, 5)
        optimizer = make_optimizer()
    loader = DataLoader(TensorDataset(x, y), batch_size=10, shuffle=fault != 'sorted_without_shuffle')
    run_epochs(model, loader, optimizer, 8)

    model.eval()
    with torch.no_grad():
        return (model(x_test).argmax(1) != y_test).float().mean().item()
