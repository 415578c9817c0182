import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'distillation, a teacher trained first, then a small student on soft targets with temperature, functions for both phases'
FAULTS = {
    'kl_of_probabilities': 'kl_div gets the probabilities of the student instead of their logarithm',
    'blocks_in_plain_list': 'the blocks of the student are in a plain Python list, so they are not among its parameters and keep their random weights',
    'teacher_in_optimizer': 'the optimizer of the student holds the teacher too and its output is not detached, so the teacher drifts to meet the student',
}


class Student(nn.Module):
    def __init__(self, width=12, depth=2):
        super().__init__()
        self.stem = nn.Linear(2, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        h = F.relu(self.stem(x))
        for block in self.blocks:
            h = F.relu(block(h))
        return self.head(h)


def build():
    teacher = nn.Sequential(nn.Linear(2, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 4))
    return teacher, Student()


def spirals(n):
    y = torch.randint(0, 4, (n,))
    r = 0.15 + 0.85 * torch.rand(n)
    angle = 1.57 * y + 3.2 * r + 0.4 * torch.randn(n)
    return 1.7 * torch.stack([r * angle.cos(), r * angle.sin()], 1), y


def fit_teacher(teacher, x, y):
    optimizer = torch.optim.Adam(teacher.parameters(), lr=3e-3, weight_decay=1e-4)
    teacher.train()
    for epoch in range(15):
        for idx in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(teacher(x[idx]), y[idx]).backward()
            optimizer.step()
    teacher.eval()


def fit_student(teacher, student, x, fault, temperature=2.0):
    params = list(student.parameters())
    if fault == 'teacher_in_optimizer':
        params += list(teacher.parameters())
    optimizer = torch.optim.Adam(params, lr=1e-2)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.95)
    student.train()
    for epoch in range(40):
        for idx in torch.randperm(len(x)).split(64):
            with torch.set_grad_enabled(fault == 'teacher_in_optimizer'):
                soft = F.softmax(teacher(x[idx]) / temperature, dim=1)
            out = student(x[idx]) / temperature
            if fault == 'kl_of_probabilities':
                loss = F.kl_div(F.softmax(out, dim=1), soft, reduction='batchmean')
            else:
                loss = F.kl_div(F.log_softmax(out, dim=1), soft, reduction='batchmean')
            loss = loss * temperature ** 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
    student.eval()


def train(models, fault=''):
    torch.manual_seed(52)
    teacher, student = models
    if fault == 'blocks_in_plain_list':
        blocks = list(student.blocks)
        del student.blocks
        student.blocks = blocks
    x, y = spirals(1000)
    fit_teacher(teacher, x, y)
    unlabelled, _ = spirals(2000)
    fit_student(teacher, student, unlabelled, fault)
    x_test, y_test = spirals(1000)
    with torch.no_grad():
        return F.cross_entropy(student(x_test), y_test).item()
