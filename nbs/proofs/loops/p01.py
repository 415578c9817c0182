import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)

STYLE = 'plain epochs over a DataLoader, MLP classifier with BatchNorm and dropout, SGD with momentum'
FAULTS = {
    'zero_grad_forgotten': 'optimizer.zero_grad() is never called, so gradients pile up over all batches',
    'sorted_by_class_not_shuffled': 'the training set is ordered by class and the loader has shuffle=False',
    'validation_without_eval': 'model.eval() is not called before validation, so dropout and batch statistics are active',
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(20, 64)
        self.bn1 = nn.BatchNorm1d(64)
        self.drop = nn.Dropout(0.3)
        self.fc2 = nn.Linear(64, 5)

    def forward(self, x):
        x = F.relu(self.bn1(self.fc1(x)))
        return self.fc2(self.drop(x))


def build():
    return (Net(),)


def make_data(n, centers):
    y = torch.randint(0, 5, (n,))
    x = (centers[y] + torch.randn(n, 20)) / 1.3
    return x, y


def train(models, fault=''):
    torch.manual_seed(0)
    (model,) = models
    centers = torch.randn(5, 20) * 0.8
    x_train, y_train = make_data(1200, centers)
    x_val, y_val = make_data(300, centers)

    shuffle = True
    if fault == 'sorted_by_class_not_shuffled':
        order = y_train.argsort()
        x_train, y_train = x_train[order], y_train[order]
        shuffle = False

    train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=32, shuffle=shuffle)
    val_loader = DataLoader(TensorDataset(x_val, y_val), batch_size=100)

    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

    val_loss = 0.0
    for epoch in range(6):
        model.train()
        for inputs, labels in train_loader:
            if fault != 'zero_grad_forgotten':
                optimizer.zero_grad()
            outputs = model(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()

        if fault != 'validation_without_eval':
            model.eval()
        val_loss, n = 0.0, 0
        with torch.no_grad():
            for inputs, labels in val_loader:
                loss = criterion(model(inputs), labels)
                val_loss += loss.item() * len(labels)
                n += len(labels)
        val_loss /= n
    return val_loss
