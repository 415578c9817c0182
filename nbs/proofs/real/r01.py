"""Small ResNet on a Fashion-MNIST subset, SGD + Nesterov + cosine, crop/flip + mixup."""
import os
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision
import torchvision.transforms.v2 as T
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)

STYLE = 'kuangliu-style ResNet script: train(epoch)/test() functions, DataLoader, SGD with Nesterov momentum, per-epoch CosineAnnealingLR, crop+flip+mixup'
FAULTS = {
    'mixup_lambda_swapped': 'the mixup loss weighs the two labels with lam and 1-lam exchanged, so the net is asked for the label of the weaker image of each mix',
    'val_not_normalized': 'the validation transform lacks the Normalize of the training transform, so the net is tested on inputs of another mean and scale and its accuracy falls',
    'never_back_to_train': 'model.train() is called once before the epoch loop and test() leaves eval mode on, so batch norm uses frozen statistics of the first epoch while the weights move on at a high rate',
    'folder_order_not_shuffled': 'the train loader lacks shuffle=True while the images lie class by class (as ImageFolder lists them), so each batch has one class, which upsets SGD and the batch-norm statistics',
}

ROOT = os.environ.get('MINIAI_DATA', 'data')
MEAN, STD = 0.286, 0.353
EPOCHS = 8


class BasicBlock(nn.Module):
    def __init__(self, in_planes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(nn.Conv2d(in_planes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class ResNet(nn.Module):
    def __init__(self, widths=(16, 32, 64), num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, widths[0], 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        layers, c = [], widths[0]
        for i, w in enumerate(widths):
            layers.append(BasicBlock(c, w, 1 if i == 0 else 2))
            c = w
        self.layers = nn.Sequential(*layers)
        self.linear = nn.Linear(c, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layers(x)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.linear(x)


def build():
    torch.manual_seed(0)
    return (ResNet(),)


def load(train, n):
    ds = torchvision.datasets.FashionMNIST(ROOT, train=train, download=False)
    x, y = ds.data[:n].unsqueeze(1).float() / 255, ds.targets[:n]
    order = y.argsort(stable=True)            # class after class, as ImageFolder lists its files
    return x[order], y[order]


def mixup_data(x, y, alpha=0.3):
    lam = float(np.random.beta(alpha, alpha))
    index = torch.randperm(x.size(0))
    return lam * x + (1 - lam) * x[index], y, y[index], lam


def train(models, fault=''):
    net, = models
    torch.manual_seed(1)
    np.random.seed(1)
    normalize = T.Normalize([MEAN], [STD])
    tf_train = T.Compose([T.RandomCrop(28, padding=2), T.RandomHorizontalFlip(), normalize])
    tf_test = normalize
    if fault == 'val_not_normalized':
        tf_test = T.Identity()

    trainloader = DataLoader(TensorDataset(*load(True, 4000)), batch_size=64, shuffle=fault != 'folder_order_not_shuffled')
    testloader = DataLoader(TensorDataset(*load(False, 1000)), batch_size=250)

    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)

    def train_epoch(epoch):
        if fault != 'never_back_to_train' or epoch == 0:
            net.train()
        for inputs, targets in trainloader:
            inputs = tf_train(inputs)
            inputs, ya, yb, lam = mixup_data(inputs, targets)
            if fault == 'mixup_lambda_swapped':
                lam = 1 - lam
            optimizer.zero_grad()
            outputs = net(inputs)
            loss = lam * criterion(outputs, ya) + (1 - lam) * criterion(outputs, yb)
            loss.backward()
            optimizer.step()

    def test():
        net.eval()
        wrong = total = 0
        with torch.no_grad():
            for inputs, targets in testloader:
                pred = net(tf_test(inputs)).argmax(1)
                wrong += (pred != targets).sum().item()
                total += len(targets)
        return wrong / total

    for epoch in range(EPOCHS):
        train_epoch(epoch)
        err = test()
        scheduler.step()
    return err
