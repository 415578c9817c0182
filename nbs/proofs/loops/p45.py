import torch
import torch.nn as nn

torch.set_num_threads(1)

STYLE = 'recommendation by matrix factorisation with biases, functions fit and rmse, index batches, Adam'
FAULTS = {
    'embeddings_start_at_zero': 'both user and item factors start at zero, so each has a zero gradient through the other and only the biases learn',
    'weight_decay_too_high': 'a weight decay of 0.1 in Adam holds all factors at zero',
    'users_shuffled_alone': 'the user column is shuffled each epoch while items and ratings keep their order',
}


class Factors(nn.Module):
    def __init__(self, users=150, items=80, k=6):
        super().__init__()
        self.user, self.item = nn.Embedding(users, k), nn.Embedding(items, k)
        self.user_bias, self.item_bias = nn.Embedding(users, 1), nn.Embedding(items, 1)
        for table in (self.user, self.item):
            nn.init.normal_(table.weight, std=0.1)
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)
        self.mean = nn.Parameter(torch.zeros(()))

    def forward(self, u, i):
        dot = (self.user(u) * self.item(i)).sum(1)
        return dot + self.user_bias(u).squeeze(1) + self.item_bias(i).squeeze(1) + self.mean


def build():
    return (Factors(),)


def ratings():
    p, q = torch.randn(150, 3), torch.randn(80, 3)
    full = p @ q.t() * 0.6 + 0.4 * torch.randn(150, 1) + 0.4 * torch.randn(1, 80)
    u, i = torch.meshgrid(torch.arange(150), torch.arange(80), indexing='ij')
    u, i = u.flatten(), i.flatten()
    order = torch.randperm(len(u))
    u, i = u[order], i[order]
    r = 3.5 + full[u, i] + 0.2 * torch.randn(len(u))
    return u, i, r


def rmse(model, u, i, r):
    model.eval()
    with torch.no_grad():
        return ((model(u, i) - r) ** 2).mean().sqrt().item()


def fit(model, u, i, r, fault):
    decay = 0.1 if fault == 'weight_decay_too_high' else 1e-5
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=decay)
    for epoch in range(25):
        model.train()
        perm = torch.randperm(len(u))
        eu, ei, er = u[perm], i[perm], r[perm]
        if fault == 'users_shuffled_alone':
            eu = u[torch.randperm(len(u))]
        for a in range(0, len(u), 128):
            err = model(eu[a:a + 128], ei[a:a + 128]) - er[a:a + 128]
            loss = (err ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def train(models, fault=''):
    torch.manual_seed(45)
    model = models[0]
    if fault == 'embeddings_start_at_zero':
        nn.init.zeros_(model.user.weight)
        nn.init.zeros_(model.item.weight)
    u, i, r = ratings()
    cut = 5000
    r = r - r[:cut].mean()
    fit(model, u[:cut], i[:cut], r[:cut], fault)
    return rmse(model, u[cut:], i[cut:], r[cut:])
