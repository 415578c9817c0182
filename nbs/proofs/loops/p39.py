import torch
import torch.nn as nn

torch.set_num_threads(1)

STYLE = 'WGAN-GP on short signals, nested functions, several critic steps per generator step, gradient penalty'
FAULTS = {
    'penalty_without_create_graph': 'the gradient of the penalty is taken without create_graph, so the penalty does not act on the critic',
    'learning_rate_too_high': 'both optimizers run with a learning rate of 0.05 instead of 1e-3',
    'generator_loss_sign': 'the generator minimises the score of its samples instead of raising it',
}


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(1, 8, 5, stride=2, padding=2), nn.LeakyReLU(0.2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 8, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))

    def forward(self, x):
        return self.head(self.conv(x.unsqueeze(1)))


def build():
    generator = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
    return generator, Critic()


def waves(n):
    t = torch.linspace(0, 1, 16)
    phase = torch.rand(n, 1) * 6.28
    speed = 6.28 * (0.8 + 0.6 * torch.rand(n, 1))
    return (0.8 + 0.4 * torch.rand(n, 1)) * torch.sin(speed * t + phase)


def train(models, fault=''):
    torch.manual_seed(39)
    generator, critic = models
    lr = 0.05 if fault == 'learning_rate_too_high' else 1e-3
    opt_g = torch.optim.Adam(generator.parameters(), lr=lr, betas=(0.0, 0.9))
    opt_c = torch.optim.Adam(critic.parameters(), lr=lr, betas=(0.0, 0.9))
    B = 64

    def gradient_penalty(real, fake):
        eps = torch.rand(B, 1)
        mix = (eps * real + (1 - eps) * fake).requires_grad_(True)
        score = critic(mix)
        create = fault != 'penalty_without_create_graph'
        grad, = torch.autograd.grad(score.sum(), mix, create_graph=create)
        return ((grad.norm(2, dim=1) - 1) ** 2).mean()

    def critic_step():
        real = waves(B)
        with torch.no_grad():
            fake = generator(torch.randn(B, 6))
        loss = critic(fake).mean() - critic(real).mean() + 10.0 * gradient_penalty(real, fake)
        opt_c.zero_grad()
        loss.backward()
        opt_c.step()

    def generator_step():
        score = critic(generator(torch.randn(B, 6))).mean()
        loss = score if fault == 'generator_loss_sign' else -score
        opt_g.zero_grad()
        loss.backward()
        opt_g.step()

    for it in range(250):
        for _ in range(3):
            critic_step()
        generator_step()

    generator.eval()
    with torch.no_grad():
        a, b = generator(torch.randn(1500, 6)), waves(1500)
        return (2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean()).item()
