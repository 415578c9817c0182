"""Recommender on implicit feedback: candidate-aware attention over the history (DIN-like), sampled negatives, BCE."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'Dataset class with negative sampling in __getitem__, DataLoader, masked attention over the history, Adam with StepLR, hit rate @10 at the end'
FAULTS = {
    'target_in_history': 'In training the item to be predicted is left in the history of the user (leave-one-out forgotten), so the attention learns to look for the candidate itself: the loss is falsely good and new items are ranked badly.',
    'positives_only': 'Only seen items are trained with label 1 and no negatives are sampled, so that predicting 1 for everything is best and nothing is ranked.',
    'codes_refitted': 'The category codes of the items are fitted anew (in order of appearance) for the catalogue at validation, so the categories mean something else than in training.',
    'labels_not_interleaved': 'Items are flattened as pos, neg, neg, … per row, while the labels are built as all ones first and then all zeros, so labels belong to other items.',
}

N_USERS, N_ITEMS, N_CAT, HIST, N_NEG = 700, 400, 20, 12, 4
PAD = 0                     # item ids start at 1


def make_log(seed=17):
    """Every user likes a few categories and a region of style; returns item categories (names) and the log of each user."""
    rng = np.random.default_rng(seed)
    names = np.array([f'cat_{k:02d}' for k in range(N_CAT)])
    cat = rng.integers(N_CAT, size=N_ITEMS)
    cat_vec = rng.normal(size=(N_CAT, 6))
    item_vec = 1.0 * cat_vec[cat] + 0.5 * rng.normal(size=(N_ITEMS, 6))
    pop = 0.5 * rng.normal(size=N_ITEMS)
    logs = []
    for _ in range(N_USERS):
        u = rng.normal(size=6)
        score = 1.6 * item_vec @ u + pop + rng.gumbel(size=N_ITEMS)
        items = np.argsort(-score)[:HIST + 1] + 1
        logs.append(rng.permutation(items))
    return names[cat], logs


def factorize(values):
    """Codes in order of appearance, as pandas.factorize."""
    seen = {}
    return np.array([seen.setdefault(v, len(seen)) for v in values])


class Interactions(Dataset):
    def __init__(self, logs, fault):
        self.fault = fault
        self.rows = [(u, k) for u, items in enumerate(logs) for k in range(HIST)]
        self.logs = logs
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        u, k = self.rows[i]
        hist = self.logs[u][:HIST].copy()
        target = hist[k]
        if self.fault != 'target_in_history':
            hist[k] = PAD
        n_neg = 0 if self.fault == 'positives_only' else N_NEG
        neg = self.rng.integers(1, N_ITEMS + 1, n_neg)
        return hist, np.concatenate([[target], neg])


class HistoryAttention(nn.Module):
    def __init__(self, d=24):
        super().__init__()
        self.item_emb = nn.Embedding(N_ITEMS + 1, d, padding_idx=PAD)
        self.cat_emb = nn.Embedding(N_CAT, d)
        nn.init.normal_(self.item_emb.weight, std=0.1)
        nn.init.normal_(self.cat_emb.weight, std=0.1)
        self.user_mlp = nn.Sequential(nn.Linear(d, 64), nn.ReLU(), nn.Linear(64, d))
        self.item_mlp = nn.Sequential(nn.Linear(d, 64), nn.ReLU(), nn.Linear(64, d))
        self.key = nn.Linear(d, d)
        self.item_bias = nn.Embedding(N_ITEMS + 1, 1)
        nn.init.zeros_(self.item_bias.weight)
        self.register_buffer('item_cat', torch.zeros(N_ITEMS + 1, dtype=torch.long))

    def embed(self, ids):
        return self.item_emb(ids) + self.cat_emb(self.item_cat[ids])

    def forward(self, hist, items):
        k, v = self.embed(hist), self.item_mlp(self.embed(items))          # (B, H, d), (B, N, d)
        att = v @ self.key(k).transpose(1, 2) / k.size(-1) ** 0.5          # (B, N, H)
        att = att.masked_fill((hist == PAD).unsqueeze(1), float('-inf')).softmax(-1)
        u = att @ self.user_mlp(k)
        return (v * u).sum(-1) + self.item_bias(items).squeeze(-1)


def build():
    return (HistoryAttention(),)


@torch.no_grad()
def hit_rate(model, logs, k=10):
    model.eval()
    hist = torch.tensor(np.stack([l[:HIST] for l in logs]))
    held_out = torch.tensor(np.array([l[HIST] for l in logs]))
    all_items = torch.arange(1, N_ITEMS + 1).expand(len(logs), -1)
    scores = model(hist, all_items)
    scores.scatter_(1, hist - 1, float('-inf'))
    rank = (scores > scores.gather(1, held_out[:, None] - 1)).sum(1)
    ties = (scores == scores.gather(1, held_out[:, None] - 1)).sum(1) - 1
    return ((rank + ties / 2) < k).float().mean().item()


def train(models, fault=''):
    torch.manual_seed(17)
    model, = models
    cats, logs = make_log()
    order = np.unique(cats)
    model.item_cat[1:] = torch.tensor(np.searchsorted(order, cats))

    loader = DataLoader(Interactions(logs, fault), batch_size=128, shuffle=True)
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=8, gamma=0.4)
    for epoch in range(16):
        model.train()
        for hist, items in loader:
            logits = model(hist, items).flatten()
            b, n = items.shape
            if fault == 'labels_not_interleaved':
                labels = torch.cat([torch.ones(b), torch.zeros(b * (n - 1))])
            else:
                labels = torch.zeros(b, n)
                labels[:, 0] = 1
                labels = labels.flatten()
            loss = criterion(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()

    if fault == 'codes_refitted':
        model.item_cat[1:] = torch.tensor(factorize(cats))
    return 1 - hit_rate(model, logs)


if __name__ == '__main__':
    print(train(build()))
