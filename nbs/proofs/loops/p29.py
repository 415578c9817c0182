import torch
import torch.nn as nn

torch.set_num_threads(1)

STYLE = 'matrix factorisation recommender with embeddings and biases, slices of a shuffled rating table, Adagrad'
FAULTS = {
    'item_embedding_frozen': 'item_emb.weight.requires_grad is set to False, left over from an experiment',
    'weight_decay_too_strong': 'weight_decay=0.1 in Adagrad where 1e-5 is meant, the factors shrink to zero',
    'bias_shape_broadcasts': 'the biases are not squeezed: (n,1) + (n,) gives an (n,n) table of predictions',
}

USERS, ITEMS, DIM = 120, 80, 8


class MF(nn.Module):
    def __init__(self):
        super().__init__()
        self.user_emb = nn.Embedding(USERS, DIM)
        self.item_emb = nn.Embedding(ITEMS, DIM)
        self.user_bias = nn.Embedding(USERS, 1)
        self.item_bias = nn.Embedding(ITEMS, 1)
        for e in (self.user_emb, self.item_emb, self.user_bias, self.item_bias):
            nn.init.normal_(e.weight, std=0.2)

    def forward(self, u, i, squeeze=True):
        dot = (self.user_emb(u) * self.item_emb(i)).sum(1)
        bias = self.user_bias(u) + self.item_bias(i)
        if squeeze:
            bias = bias.squeeze(1)
        return dot + bias


def build():
    return (MF(),)


def ratings():
    p, q = torch.randn(USERS, 3), torch.randn(ITEMS, 3)
    bu, bi = 0.5 * torch.randn(USERS), 0.5 * torch.randn(ITEMS)
    full = 0.6 * p @ q.t() + bu[:, None] + bi[None, :] + 0.1 * torch.randn(USERS, ITEMS)
    u, i = torch.meshgrid(torch.arange(USERS), torch.arange(ITEMS), indexing='ij')
    keep = torch.randperm(USERS * ITEMS)[:6000]
    return u.flatten()[keep], i.flatten()[keep], full.flatten()[keep]


def train(models, fault=''):
    torch.manual_seed(28)
    model = models[0]
    u, i, r = ratings()
    tr, va = slice(0, 5000), slice(5000, 6000)
    u_tr, i_tr, r_tr = u[tr], i[tr], r[tr]
    if fault == 'item_embedding_frozen':
        model.item_emb.weight.requires_grad = False
    wd = 0.1 if fault == 'weight_decay_too_strong' else 1e-5
    optimizer = torch.optim.Adagrad([p for p in model.parameters() if p.requires_grad], lr=0.2, weight_decay=wd)
    squeeze = fault != 'bias_shape_broadcasts'

    batch_size = 125
    for epoch in range(8):
        perm = torch.randperm(len(u_tr))
        u_tr, i_tr, r_tr = u_tr[perm], i_tr[perm], r_tr[perm]
        model.train()
        for s in range(0, len(u_tr), batch_size):
            e = s + batch_size
            optimizer.zero_grad()
            err = model(u_tr[s:e], i_tr[s:e], squeeze) - r_tr[s:e]
            loss = (err ** 2).mean()
            loss.backward()
            optimizer.step()

    model.eval()
    with torch.no_grad():
        return ((model(u[va], i[va], squeeze) - r[va]) ** 2).mean().item()
