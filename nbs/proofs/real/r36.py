"""SASRec: causal self-attention for next-item recommendation on synthetic user histories."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'pmixer/SASRec.pytorch: left-padded sequences with item 0 as padding, pos / neg items per position, BCE on pos and neg logits, Adam betas (0.9, 0.98), leave-one-out evaluation'
FAULTS = {
    'no_causal_mask': 'The self-attention has no causal mask, so in training each position sees its own next item; the training loss is falsely low and the last position was never trained to predict.',
    'log_not_sorted_by_time': 'The interaction log is grouped by user without sorting by timestamp, so the training histories are in arbitrary order and what follows what is lost.',
    'loss_mask_inverted': 'The loss is taken at the positions where pos == 0 instead of pos != 0, so only the padding is trained on.',
    'targets_not_shifted': 'The positives are the input items themselves instead of the items one step later, so the model learns to repeat the current item.',
}

N_ITEMS, N_USERS, MAXLEN = 300, 2000, 24


def make_log(seed=1):
    """Rows (user, item, timestamp) in arbitrary order; users walk along item chains within a genre and sometimes switch."""
    rng = np.random.default_rng(seed)
    n_genres = 12
    genre = rng.integers(0, n_genres, N_ITEMS)
    members = [np.flatnonzero(genre == g) for g in range(n_genres)]
    succ = np.stack([rng.permutation(members[genre[i]])[:4] if len(members[genre[i]]) >= 4 else rng.integers(0, N_ITEMS, 4) for i in range(N_ITEMS)])
    rows = []
    for u in range(N_USERS):
        likes = rng.permutation(n_genres)[:2]
        last = {g: rng.choice(members[g]) for g in likes}
        t = rng.uniform(0, 1000)
        g = likes[0]
        for _ in range(rng.integers(10, 32)):
            if rng.random() < 0.25:
                g = likes[0] if g == likes[1] else likes[1]
            if rng.random() < 0.9:
                item = succ[last[g], rng.choice(4, p=[0.5, 0.25, 0.15, 0.1])]
            else:
                item = rng.choice(members[g])
            last[g] = item
            t += rng.exponential(5.0)
            rows.append((u, item + 1, t))
    rows = np.array(rows)
    return rows[rng.permutation(len(rows))]


def data_partition(log, sort=True):
    """User histories in time order; the last item is the test item."""
    if sort:
        log = log[np.lexsort((log[:, 2], log[:, 0]))]
    else:
        log = log[np.argsort(log[:, 0], kind='stable')]
    histories = [[] for _ in range(N_USERS)]
    for u, i in log[:, :2].astype(int):
        histories[u].append(i)
    return histories


class TrainSequences(Dataset):
    def __init__(self, histories, shift=True):
        self.histories, self.shift = histories, shift
        self.sets = [np.array(sorted(set(h))) for h in histories]
        self.rng = np.random.default_rng(8)

    def __len__(self):
        return len(self.histories)

    def __getitem__(self, u):
        h = np.array(self.histories[u])
        seq, pos, neg = (np.zeros(MAXLEN, dtype=np.int64) for _ in range(3))
        inp = h[:-1][-MAXLEN:]
        target = (h[1:] if self.shift else h[:-1])[-MAXLEN:]
        seq[-len(inp):], pos[-len(target):] = inp, target
        negatives = self.rng.integers(1, N_ITEMS + 1, 4 * MAXLEN)
        negatives = negatives[~np.isin(negatives, self.sets[u])]
        neg[-len(target):] = negatives[:len(target)]
        return seq, pos, neg


class PointWiseFeedForward(nn.Module):
    def __init__(self, hidden, dropout):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(hidden, hidden, 1), nn.Conv1d(hidden, hidden, 1)
        self.dropout1, self.dropout2 = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, x):
        y = self.dropout2(self.conv2(F.relu(self.dropout1(self.conv1(x.transpose(1, 2))))))
        return y.transpose(1, 2) + x


class SASRec(nn.Module):
    def __init__(self, hidden=48, blocks=2, heads=2, dropout=0.1, causal=True):
        super().__init__()
        self.causal = causal
        self.item_emb = nn.Embedding(N_ITEMS + 1, hidden, padding_idx=0)
        self.pos_emb = nn.Embedding(MAXLEN, hidden)
        nn.init.normal_(self.item_emb.weight, std=0.1)
        nn.init.normal_(self.pos_emb.weight, std=0.1)
        self.item_emb.weight.data[0] = 0
        self.emb_dropout = nn.Dropout(dropout)
        self.attention_layernorms = nn.ModuleList([nn.LayerNorm(hidden) for _ in range(blocks)])
        self.attention_layers = nn.ModuleList([nn.MultiheadAttention(hidden, heads, dropout, batch_first=True) for _ in range(blocks)])
        self.forward_layernorms = nn.ModuleList([nn.LayerNorm(hidden) for _ in range(blocks)])
        self.forward_layers = nn.ModuleList([PointWiseFeedForward(hidden, dropout) for _ in range(blocks)])
        self.last_layernorm = nn.LayerNorm(hidden)

    def log2feats(self, seqs):
        x = self.item_emb(seqs) * self.item_emb.embedding_dim ** 0.5
        x = self.emb_dropout(x + self.pos_emb.weight)
        keep = (seqs != 0).unsqueeze(-1)
        x = x * keep
        attn_mask = torch.ones(MAXLEN, MAXLEN, dtype=torch.bool).triu(1) if self.causal else None
        for ln1, attn, ln2, ff in zip(self.attention_layernorms, self.attention_layers, self.forward_layernorms, self.forward_layers):
            q = ln1(x)
            x = q + attn(q, x, x, attn_mask=attn_mask, need_weights=False)[0]
            x = ff(ln2(x)) * keep
        return self.last_layernorm(x)

    def forward(self, seqs, pos, neg):
        feats = self.log2feats(seqs)
        return (feats * self.item_emb(pos)).sum(-1), (feats * self.item_emb(neg)).sum(-1)

    def predict(self, seqs):
        return self.log2feats(seqs)[:, -1] @ self.item_emb.weight.t()


@torch.no_grad()
def evaluate(model, histories):
    """1 - NDCG@10 of the last item of each history, ranked among all items."""
    model.eval()
    seqs = torch.zeros(len(histories), MAXLEN, dtype=torch.long)
    for u, h in enumerate(histories):
        s = h[:-1][-MAXLEN:]
        seqs[u, -len(s):] = torch.tensor(s)
    target = torch.tensor([h[-1] for h in histories])
    scores = model.predict(seqs)
    scores[:, 0] = -float('inf')
    rank = (scores > scores.gather(1, target[:, None])).sum(1)
    ndcg = torch.where(rank < 10, 1 / torch.log2(rank + 2.0), 0.0)
    return 1 - ndcg.mean().item()


def build():
    torch.manual_seed(36)
    return (SASRec(),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(36)
    log = make_log()
    test_histories = data_partition(log)
    last = np.zeros(N_USERS)
    np.maximum.at(last, log[:, 0].astype(int), log[:, 2])
    train_log = log[log[:, 2] < last[log[:, 0].astype(int)]]
    train_histories = data_partition(train_log, sort=fault != 'log_not_sorted_by_time')
    dataset = TrainSequences(train_histories, shift=fault != 'targets_not_shifted')
    loader = DataLoader(dataset, batch_size=64, shuffle=True, drop_last=True)
    model.causal = fault != 'no_causal_mask'

    bce_criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.98))
    for epoch in range(40):
        model.train()
        for seq, pos, neg in loader:
            optimizer.zero_grad()
            pos_logits, neg_logits = model(seq, pos, neg)
            indices = pos == 0 if fault == 'loss_mask_inverted' else pos != 0
            loss = bce_criterion(pos_logits[indices], torch.ones_like(pos_logits[indices]))
            loss = loss + bce_criterion(neg_logits[indices], torch.zeros_like(neg_logits[indices]))
            loss.backward()
            optimizer.step()

    return evaluate(model, test_histories)


if __name__ == '__main__':
    print(train(build()))
