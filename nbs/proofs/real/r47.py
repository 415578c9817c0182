"""Link prediction on a synthetic citation-like graph: GraphSAGE encoder, dot-product decoder, negative sampling, edge split."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'PyTorch Geometric link_pred example, written in plain PyTorch: RandomLinkSplit-like train/val/test edges, Net with encode and decode, negative_sampling in every step, BCEWithLogits, best model by validation AUC'
FAULTS = {
    'negatives_are_self_loops': 'The corrupted target node is taken from the source row itself, so each negative pair is a node with itself; the decoder learns to tell a node from itself instead of linked from unlinked pairs.',
    'features_in_another_order': 'The feature matrix used for training was reordered by community (as after a groupby) while the edges still carry the old node numbers, so features and neighbours do not belong to the same node.',
    'labels_before_concat_order': 'The negative edges are concatenated before the positive ones while the labels are ones followed by zeros, so linked pairs are trained as unlinked and the other way round.',
    'embeddings_detached_in_decode': 'The node embeddings are computed once per epoch under no_grad and reused for the mini-batches of edges, so the encoder gets no gradient and only the decoder learns.',
}

SEED = 47
NODES, COMMUNITIES, FEATURES = 3000, 12, 64


def make_graph(rng):
    """Blocks with a ring of related blocks; each node has a popularity and a noisy bag of words of its block."""
    block = rng.integers(0, COMMUNITIES, NODES)
    popularity = np.exp(rng.normal(0, 0.5, NODES))
    affinity = np.full((COMMUNITIES, COMMUNITIES), 0.02)
    for c in range(COMMUNITIES):
        affinity[c, (c + 3) % COMMUNITIES] = affinity[(c + 3) % COMMUNITIES, c] = 1.0
        affinity[c, c] = 0.5
    rate = affinity[block[:, None], block[None]] * popularity[:, None] * popularity[None]
    rate = np.triu(rate, 1)
    rate *= 22000 / rate.sum()
    src, dst = np.nonzero(rng.random(rate.shape) < rate)
    words = rng.random((COMMUNITIES, FEATURES)) * (rng.random((COMMUNITIES, FEATURES)) < 0.3)
    x = (rng.random((NODES, FEATURES)) < 0.06 + 0.35 * words[block]).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(np.stack([src, dst])), torch.from_numpy(block)


def random_link_split(edge_index, num_val, num_test, generator):
    """Undirected edges into train / val / test; messages travel along the training edges, both ways."""
    n = edge_index.size(1)
    perm = torch.randperm(n, generator=generator)
    n_val, n_test = int(n * num_val), int(n * num_test)
    val, test, train = perm[:n_val], perm[n_val:n_val + n_test], perm[n_val + n_test:]
    train_edges = edge_index[:, train]
    message_edges = torch.cat([train_edges, train_edges.flip(0)], 1)
    return train_edges, edge_index[:, val], edge_index[:, test], message_edges


def negative_sampling(num_neg, known, generator=None):
    """Pairs of nodes that are not among the known edges."""
    codes = torch.cat([known[0] * NODES + known[1], known[1] * NODES + known[0]]).unique()
    pairs = torch.randint(0, NODES, (2, num_neg * 2), generator=generator)
    ok = (pairs[0] != pairs[1]) & ~torch.isin(pairs[0] * NODES + pairs[1], codes)
    return pairs[:, ok][:, :num_neg]


class SAGEConv(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.lin_l = nn.Linear(in_channels, out_channels)
        self.lin_r = nn.Linear(in_channels, out_channels, bias=False)

    def forward(self, x, edge_index):
        src, dst = edge_index
        out = torch.zeros_like(x).index_add_(0, dst, x[src])
        deg = torch.zeros(x.size(0)).index_add_(0, dst, torch.ones(len(dst))).clamp(min=1)
        return self.lin_l(out / deg[:, None]) + self.lin_r(x)


class Net(nn.Module):
    def __init__(self, in_channels, hidden_channels, out_channels, dropout=0.3):
        super().__init__()
        self.conv1 = SAGEConv(in_channels, hidden_channels)
        self.conv2 = SAGEConv(hidden_channels, out_channels)
        self.relation = nn.Linear(out_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(1))
        self.dropout = dropout

    def encode(self, x, edge_index):
        x = self.conv1(x, edge_index).relu()
        x = F.dropout(x, self.dropout, self.training)
        return self.conv2(x, edge_index)

    def decode(self, z, edge_label_index):
        a, b = z[edge_label_index[0]], z[edge_label_index[1]]
        return ((self.relation(a) * b).sum(-1) + (self.relation(b) * a).sum(-1)) / 2 + self.bias


def roc_auc_score(y, score):
    rank = torch.empty(len(score), dtype=torch.double)
    rank[score.argsort()] = torch.arange(1, len(score) + 1, dtype=torch.double)
    pos = y > 0.5
    n_pos, n_neg = pos.sum().item(), (~pos).sum().item()
    return ((rank[pos].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg)).item()


@torch.no_grad()
def test(model, x, message_edges, pos, neg):
    model.eval()
    z = model.encode(x, message_edges)
    score = model.decode(z, torch.cat([pos, neg], 1))
    y = torch.cat([torch.ones(pos.size(1)), torch.zeros(neg.size(1))])
    return roc_auc_score(y, score)


def build():
    torch.manual_seed(SEED)
    return (Net(FEATURES, 64, 32),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(SEED)
    epochs, batch_size = 50, 512
    generator = torch.Generator().manual_seed(SEED)
    x, edge_index, block = make_graph(np.random.default_rng(SEED))
    train_edges, val_pos, test_pos, message_edges = random_link_split(edge_index, 0.05, 0.2, generator)
    val_neg = negative_sampling(val_pos.size(1), edge_index, generator)
    test_neg = negative_sampling(test_pos.size(1), edge_index, generator)
    train_x = x
    if fault == 'features_in_another_order':
        train_x = x[block.argsort()]

    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-5)
    criterion = nn.BCEWithLogitsLoss()
    best_val_auc, final_test_auc = 0.0, 0.0
    for epoch in range(epochs):
        model.train()
        if fault == 'embeddings_detached_in_decode':
            with torch.no_grad():
                z_epoch = model.encode(train_x, message_edges)
        perm = torch.randperm(train_edges.size(1))
        for idx in perm.split(batch_size):
            pos = train_edges[:, idx]
            neg = negative_sampling(pos.size(1), train_edges)
            if fault == 'negatives_are_self_loops':
                neg = torch.stack([neg[0], neg[0]])
            edge_label_index = torch.cat([pos, neg], 1)
            if fault == 'labels_before_concat_order':
                edge_label_index = torch.cat([neg, pos], 1)
            edge_label = torch.cat([torch.ones(pos.size(1)), torch.zeros(neg.size(1))])
            if fault == 'embeddings_detached_in_decode':
                z = z_epoch
            else:
                z = model.encode(train_x, message_edges)
            loss = criterion(model.decode(z, edge_label_index), edge_label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        val_auc = test(model, x, message_edges, val_pos, val_neg)
        if val_auc > best_val_auc:
            best_val_auc = val_auc
            final_test_auc = test(model, x, message_edges, test_pos, test_neg)

    return 1 - final_test_auc


if __name__ == '__main__':
    print(train(build()))
