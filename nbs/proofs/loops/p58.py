import math
import torch
import torch.nn as nn

torch.set_num_threads(1)

STYLE = 'physics-informed network for a boundary value problem, residual by autograd.grad, collocation points drawn anew, CosineAnnealingLR'
FAULTS = {
    'second_derivative_without_graph': 'the second derivative is taken without create_graph, so the residual has no gradient and only the boundary is trained',
    'relu_network': 'the network uses ReLU, whose second derivative is zero everywhere, so it cannot satisfy the equation',
    'boundary_term_missing': 'the boundary term is left out of the sum of losses, so the solution is free by a linear function',
}


def build():
    return (nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)),)


def solution(x):
    return torch.sin(math.pi * x) + 0.5 * torch.sin(2 * math.pi * x) + 0.5 * x


def source(x):
    return -math.pi ** 2 * (torch.sin(math.pi * x) + 2.0 * torch.sin(2 * math.pi * x))


def train(models, fault=''):
    torch.manual_seed(58)
    net = models[0]
    if fault == 'relu_network':
        net[1], net[3] = nn.ReLU(), nn.ReLU()

    def residual(x):
        x = x.requires_grad_(True)
        u = net(x)
        du, = torch.autograd.grad(u.sum(), x, create_graph=True)
        keep = fault != 'second_derivative_without_graph'
        ddu, = torch.autograd.grad(du.sum(), x, create_graph=keep, materialize_grads=True)
        return ddu - source(x.detach())

    ends = torch.tensor([[0.0], [1.0]])
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    steps = 1000
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=1e-5)
    for step in range(steps):
        inner = 0.01 * (residual(torch.rand(64, 1)) ** 2).mean()
        border = ((net(ends) - solution(ends)) ** 2).mean()
        loss = inner if fault == 'boundary_term_missing' else inner + border
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()

    x = torch.linspace(0, 1, 201)[:, None]
    with torch.no_grad():
        return (net(x) - solution(x)).abs().mean().item()
