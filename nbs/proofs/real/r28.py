"""Knowledge distillation after Hinton: a wide conv net teaches a small one, KL at temperature T plus cross entropy on noisy labels."""
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)

STYLE = 'Distillation tutorial: train_teacher, then teacher logits cached once and stored next to the samples, loss_fn_kd with T and alpha, SGD with Nesterov momentum + cosine schedule'
FAULTS = {
    'cached_logits_misaligned': 'The teacher logits are cached by a loader with shuffle=True but stored in the order of the data set, so every sample gets the soft targets of another sample.',
    'teacher_not_loaded': 'The caching function makes a fresh teacher and never loads the trained weights into it, so the student imitates a random net.',
    'teacher_input_not_normalized': 'The teacher logits are cached from the raw images in the range of 0 to 1 although the teacher was trained on normalised ones, so its soft targets are mostly wrong.',
    'kl_too_weak': 'The KL term has neither batchmean nor the factor T*T, so it is 160 times too small and the student learns the noisy labels alone.',
}

N_CLASSES, T, ALPHA = 10, 4.0, 0.9
MEAN, STD = 0.5, 0.15


def normalize(x):
    return (x - MEAN) / STD


def make_data(n, seed, label_noise=0.):
    """16x16 images in [0, 1]; every class has three smooth prototypes, which are shifted, scaled and covered with noise."""
    gp = torch.Generator().manual_seed(1234)
    protos = F.interpolate(torch.randn(N_CLASSES * 3, 1, 6, 6, generator=gp), size=16, mode='bicubic', align_corners=False)[:, 0]
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(N_CLASSES, (n,), generator=g)
    k = y * 3 + torch.randint(3, (n,), generator=g)
    shift = torch.randint(-2, 3, (n, 2), generator=g)
    x = torch.stack([protos[k[i]].roll(tuple(shift[i].tolist()), (0, 1)) for i in range(n)])
    x = x * (0.6 + 0.6 * torch.rand(n, 1, 1, generator=g)) + 1.1 * torch.randn(n, 16, 16, generator=g)
    wrong = torch.rand(n, generator=g) < label_noise
    y = torch.where(wrong, torch.randint(N_CLASSES, (n,), generator=g), y)
    return (0.5 + 0.1 * x.unsqueeze(1)).clamp(0, 1), y


class Teacher(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.drop = nn.Dropout(0.3)
        self.fc1 = nn.Linear(2 * width * 16, 128)
        self.fc2 = nn.Linear(128, N_CLASSES)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.relu(self.fc1(self.drop(x.flatten(1))))
        return self.fc2(self.drop(x))


class Student(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(2 * width * 16, 64), nn.ReLU(), nn.Linear(64, N_CLASSES),
        )

    def forward(self, x):
        return self.net(x)


def loss_fn_kd(outputs, labels, teacher_outputs, fault=''):
    soft = F.softmax(teacher_outputs / T, dim=1)
    log_p = F.log_softmax(outputs / T, dim=1)
    hard_loss = F.cross_entropy(outputs, labels)
    if fault == 'kl_too_weak':
        return ALPHA * F.kl_div(log_p, soft, reduction='none').mean() + (1 - ALPHA) * hard_loss
    return ALPHA * T * T * F.kl_div(log_p, soft, reduction='batchmean') + (1 - ALPHA) * hard_loss


def train_teacher(teacher, epochs=4):
    loader = DataLoader(TensorDataset(*make_data(6000, seed=1)), batch_size=64, shuffle=True)
    optimizer = optim.Adam(teacher.parameters(), lr=1e-3)
    teacher.train()
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(teacher(normalize(x)), y).backward()
            optimizer.step()
    return {k: v.clone() for k, v in teacher.state_dict().items()}


@torch.no_grad()
def cache_teacher_logits(state_dict, dataset, fault=''):
    teacher = Teacher()
    if fault != 'teacher_not_loaded':
        teacher.load_state_dict(state_dict)
    teacher.eval()
    loader = DataLoader(dataset, batch_size=100, shuffle=fault == 'cached_logits_misaligned')
    if fault == 'teacher_input_not_normalized':
        return torch.cat([teacher(x) for x, _ in loader])
    return torch.cat([teacher(normalize(x)) for x, _ in loader])


def train_kd(student, loader, epochs, fault):
    optimizer = optim.SGD(student.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=5e-4)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    for epoch in range(epochs):
        student.train()
        for x, y, teacher_logits in loader:
            loss = loss_fn_kd(student(normalize(x)), y, teacher_logits, fault)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()


@torch.no_grad()
def error_rate(model, x, y):
    model.eval()
    return 1 - (model(normalize(x)).argmax(1) == y).float().mean().item()


def build():
    torch.manual_seed(0)
    return Teacher(), Student()


def train(models, fault=''):
    teacher, student = models
    torch.manual_seed(28)
    state_dict = train_teacher(teacher)

    x, y = make_data(3000, seed=2, label_noise=0.5)
    logits = cache_teacher_logits(state_dict, TensorDataset(x, y), fault)
    loader = DataLoader(TensorDataset(x, y, logits), batch_size=64, shuffle=True)
    train_kd(student, loader, epochs=28, fault=fault)

    return error_rate(student, *make_data(2000, seed=3))


if __name__ == '__main__':
    print(train(build()))
