import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'contrastive learning (SimCLR, NT-Xent) with encoder and projector, two noisy views'
FAULTS = {
    'second_view_permuted': 'the second view comes from another permutation of the batch, so the positive pairs do not belong together',
    'lr_1000x_too_low': 'learning rate 3e-6, 1000 times too low',
    'self_similarity_not_masked': 'the diagonal of the similarity matrix is not masked, so every row has itself as the strongest candidate',
}


def build():
    encoder = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
    projector = nn.Linear(32, 16)
    return encoder, projector


def latent_data(n, mix):
    # 6 informative directions inside 32 features
    return torch.randn(n, 6) @ mix


def augment(x, noise_dirs):
    # nuisance directions are drawn again for every view
    return x + 1.2 * torch.randn(len(x), 6) @ noise_dirs + 0.1 * torch.randn_like(x)


def nt_xent(z1, z2, tau, fault):
    n = len(z1)
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    sim = z @ z.t() / tau
    if fault != 'self_similarity_not_masked':
        sim = sim.masked_fill(torch.eye(2 * n, dtype=torch.bool), float('-inf'))
    target = torch.cat([torch.arange(n, 2 * n), torch.arange(0, n)])
    return F.cross_entropy(sim, target)


def train(models, fault=''):
    torch.manual_seed(24)
    encoder, projector = models
    basis = torch.linalg.qr(torch.randn(32, 32))[0] * 2
    mix, noise_dirs = basis[:6], basis[6:12]
    data, held_out = latent_data(1500, mix), latent_data(128, mix)
    lr = 3e-6 if fault == 'lr_1000x_too_low' else 3e-3
    optimizer = torch.optim.Adam([{'params': encoder.parameters()}, {'params': projector.parameters()}], lr=lr)

    def loss_on(x):
        v1, v2 = augment(x, noise_dirs), augment(x, noise_dirs)
        if fault == 'second_view_permuted':
            v2 = v2[torch.randperm(len(v2))]
        return nt_xent(projector(encoder(v1)), projector(encoder(v2)), 0.2, fault)

    for epoch in range(10):
        for idx in torch.randperm(len(data)).split(64):
            loss = loss_on(data[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    with torch.no_grad():
        return loss_on(held_out).item()
