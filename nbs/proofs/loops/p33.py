import torch
import torch.nn as nn

torch.set_num_threads(1)

STYLE = 'small CNN with BatchNorm on uint8 images, a generator yields augmented batches, gradients accumulated over two micro-batches'
FAULTS = {
    'softmax_before_cross_entropy': 'the network ends in a softmax and CrossEntropyLoss applies another one, so the loss cannot fall below 0.74',
    'eval_forgotten': 'the test images are predicted one by one without net.eval(), so BatchNorm uses the statistics of the single image',
    'flip_changes_class': 'random horizontal flips turn one class into another, but the label is kept',
}


def build():
    net = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(24 * 9, 4))
    return (net,)


def make_images(n):
    labels = torch.randint(0, 4, (n,))
    rows = torch.arange(12).view(1, 12, 1).float()
    cols = torch.arange(12).view(1, 1, 12).float()
    shift = torch.randint(-3, 4, (n, 1, 1)).float()
    rising = ((rows + cols - 11 + shift).abs() < 1.1).float()
    falling = ((rows - cols + shift).abs() < 1.1).float()
    left = ((cols < 4 + shift.abs() / 3) & (rows > 5 + shift)).float()
    right = ((cols > 7 - shift.abs() / 3) & (rows > 5 + shift)).float()
    shapes = torch.stack([rising, falling, left, right])
    base = shapes[labels, torch.arange(n)]
    color = 0.3 + 0.7 * torch.rand(n, 1, 1, 3)
    img = base.unsqueeze(-1) * color * 130 + 130 * torch.rand(n, 12, 12, 3)
    return img.clamp(0, 255).to(torch.uint8), labels


def train(models, fault=''):
    torch.manual_seed(33)
    net = models[0]
    if fault == 'softmax_before_cross_entropy':
        net.append(nn.Softmax(dim=1))
    images, labels = make_images(1500)
    train_x, train_y = images[:900], labels[:900]
    test_x, test_y = images[900:], labels[900:]

    def to_input(batch):
        batch = (batch.float() / 255 - 0.35) / 0.25
        return batch.permute(0, 3, 1, 2)

    def batches(size):
        perm = torch.randperm(len(train_x))
        for start in range(0, len(perm), size):
            idx = perm[start:start + size]
            x = to_input(train_x[idx])
            if fault == 'flip_changes_class':
                flip = torch.rand(len(x)) < 0.5
                x[flip] = x[flip].flip(-1)
            dx, dy = torch.randint(-1, 2, (2,)).tolist()
            yield torch.roll(x, (dy, dx), dims=(2, 3)), train_y[idx]

    criterion = nn.CrossEntropyLoss()
    opt = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
    accumulate = 2
    for epoch in range(8):
        net.train()
        opt.zero_grad(set_to_none=True)
        for step, (x, y) in enumerate(batches(18)):
            loss = criterion(net(x), y) / accumulate
            loss.backward()
            if (step + 1) % accumulate == 0:
                opt.step()
                opt.zero_grad(set_to_none=True)

    if fault != 'eval_forgotten':
        net.eval()
    total = 0.0
    with torch.inference_mode():
        for image, label in zip(test_x.split(1), test_y.split(1)):
            total += criterion(net(to_input(image)), label).item()
    return total / len(test_x)
