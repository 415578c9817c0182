import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)

STYLE = 'fine-tuning: pre-train on a source task, freeze the backbone, train adapter and classifier on a small target set'
FAULTS = {
    'adapter_frozen_by_mistake': 'the freeze loop freezes everything whose name has no "classifier", so the fresh adapter is frozen too',
    'classifier_replaced_after_optimizer': 'the new classifier layer is put in after the optimizer was made, so it is never trained',
    'inputs_not_normalised': 'the target pictures go in as 0..255, while the backbone was pre-trained on normalised ones',
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.adapter = nn.Sequential(nn.Linear(96, 24), nn.ReLU())
        self.classifier = nn.Linear(24, 5)

    def forward(self, x):
        return self.classifier(self.adapter(self.backbone(x)))


def build():
    return (Net(),)


def pictures(n, templates):
    """uint8-like pictures 0..255"""
    y = torch.randint(0, len(templates), (n,))
    x = 128 + 45 * templates[y] + 40 * torch.randn(n, 1, 12, 12)
    return x.clamp(0, 255).round(), y


def normalise(x):
    return (x - 128.0) / 60.0


def smooth_templates():
    t = torch.randn(5, 1, 6, 6)
    t = torch.nn.functional.interpolate(t, size=(12, 12), mode='bilinear')
    return t / t.std()


def run_epochs(model, loader, optimizer, criterion, epochs):
    for _ in range(epochs):
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()


def train(models, fault=''):
    torch.manual_seed(14)
    model = models[0]
    criterion = nn.CrossEntropyLoss()

    # source task
    x, y = pictures(800, smooth_templates())
    source = DataLoader(TensorDataset(normalise(x), y), batch_size=40, shuffle=True)
    run_epochs(model, source, torch.optim.Adam(model.parameters(), lr=3e-3), criterion, 4)

    # target task
    target_templates = smooth_templates()
    x, y = pictures(240, target_templates)
    xv, yv = pictures(250, target_templates)
    if fault != 'inputs_not_normalised':
        x, xv = normalise(x), normalise(xv)
    loader = DataLoader(TensorDataset(x, y), batch_size=24, shuffle=True)

    for name, p in model.named_parameters():
        if fault == 'adapter_frozen_by_mistake':
            p.requires_grad = 'classifier' in name
        else:
            p.requires_grad = not name.startswith('backbone')
    model.adapter[0].reset_parameters()
    model.classifier.reset_parameters()
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=3e-3)
    if fault == 'classifier_replaced_after_optimizer':
        model.classifier = nn.Linear(24, 5)
    run_epochs(model, loader, optimizer, criterion, 12)

    model.eval()
    with torch.no_grad():
        return criterion(model(xv), yv).item()
