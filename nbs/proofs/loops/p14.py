import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)

STYLE = 'knowledge distillation: a teacher is trained first, then a student learns from soft targets and labels'
FAULTS = {
    'optimizer_of_teacher': 'the optimizer of the second phase is made with teacher.parameters(), so the student never changes',
    'softmax_before_cross_entropy': 'the student outputs go through softmax before F.cross_entropy (both phases share the helper)',
    'kl_without_log': 'F.kl_div gets probabilities of the student instead of log-probabilities',
}

T = 3.0


def build():
    teacher = nn.Sequential(nn.Linear(12, 128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, 128), nn.ReLU(),
                            nn.Linear(128, 6))
    student = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 6))
    return teacher, student


def get_data(n, w1, w2):
    x = torch.randn(n, 12)
    y = (torch.tanh(x @ w1) @ w2).argmax(1)
    return x, y


def train(models, fault=''):
    torch.manual_seed(13)
    teacher, student = models
    w1, w2 = torch.randn(12, 16) / 2, torch.randn(16, 6)
    loader = DataLoader(TensorDataset(*get_data(1600, w1, w2)), batch_size=64, shuffle=True)
    x_val, y_val = get_data(500, w1, w2)

    def hard_loss(logits, y):
        if fault == 'softmax_before_cross_entropy':
            logits = F.softmax(logits, dim=1)
        return F.cross_entropy(logits, y)

    # phase 1: teacher
    opt_t = torch.optim.Adam(teacher.parameters(), lr=3e-3)
    teacher.train()
    for epoch in range(5):
        for x, y in loader:
            opt_t.zero_grad()
            loss = hard_loss(teacher(x), y)
            loss.backward()
            opt_t.step()

    # phase 2: student
    teacher.eval()
    params = teacher.parameters() if fault == 'optimizer_of_teacher' else student.parameters()
    opt_s = torch.optim.Adam(params, lr=5e-3)
    for epoch in range(8):
        student.train()
        for x, y in loader:
            with torch.no_grad():
                t_logits = teacher(x)
            s_logits = student(x)
            soft_targets = F.softmax(t_logits / T, dim=1)
            if fault == 'kl_without_log':
                soft = F.kl_div(F.softmax(s_logits / T, dim=1), soft_targets, reduction='batchmean')
            else:
                soft = F.kl_div(F.log_softmax(s_logits / T, dim=1), soft_targets, reduction='batchmean')
            loss = 0.7 * T * T * soft + 0.3 * hard_loss(s_logits, y)
            opt_s.zero_grad()
            loss.backward()
            opt_s.step()

    student.eval()
    with torch.no_grad():
        return hard_loss(student(x_val), y_val).item()
