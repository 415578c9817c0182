import torch
from torch import nn

torch.set_num_threads(1)

STYLE = 'CNN on uint8 images, index slicing with randperm and no loader, Adam'
FAULTS = {
    'inputs_not_normalised': 'the uint8 images go in as floats 0..255 without scaling',
    'labels_permuted': 'the images are shuffled every epoch with a permutation that the labels do not get',
    'lr_100x_too_high': 'learning rate 0.3 with Adam, 100 times too high',
}

BATCH = 40
EPOCHS = 5


def build():
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 16, 4))
    return (net,)


def make_images(n):
    # 0 = horizontal stripes, 1 = vertical stripes, 2 = checkerboard, 3 = disc
    yy, xx = torch.meshgrid(torch.arange(16), torch.arange(16), indexing='ij')
    labels = torch.randint(0, 4, (n,))
    imgs = torch.zeros(n, 16, 16)
    for i in range(n):
        s = int(torch.randint(0, 4, (1,)))
        k = int(labels[i])
        if k == 0:
            pat = ((yy + s) // 2 % 2)
        elif k == 1:
            pat = ((xx + s) // 2 % 2)
        elif k == 2:
            pat = (((xx + s) // 2 + (yy + s) // 2) % 2)
        else:
            pat = ((xx - 6 - s) ** 2 + (yy - 6 - s) ** 2 < 25)
        imgs[i] = pat.float()
    imgs = 80 + 90 * imgs + 80 * torch.randn(n, 16, 16)
    return imgs.clamp(0, 255).to(torch.uint8).unsqueeze(1), labels


def train(models, fault=''):
    torch.manual_seed(1)
    net = models[0]
    imgs, labels = make_images(1000)

    X = imgs.float()
    if fault != 'inputs_not_normalised':
        X = X / 255.0
        X = (X - X[:800].mean()) / X[:800].std()
    Xtr, ytr, Xva, yva = X[:800], labels[:800], X[800:], labels[800:]

    lr = 3e-3
    if fault == 'lr_100x_too_high':
        lr = 0.3
    opt = torch.optim.Adam(net.parameters(), lr=lr)
    loss_fn = nn.CrossEntropyLoss()

    for epoch in range(EPOCHS):
        net.train()
        perm = torch.randperm(len(Xtr))
        for i in range(0, len(Xtr), BATCH):
            idx = perm[i:i + BATCH]
            xb = Xtr[idx]
            if fault == 'labels_permuted':
                yb = ytr[i:i + BATCH]
            else:
                yb = ytr[idx]
            loss = loss_fn(net(xb), yb)
            opt.zero_grad()
            loss.backward()
            opt.step()

    net.eval()
    with torch.no_grad():
        return loss_fn(net(Xva), yva).item()
