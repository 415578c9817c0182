"""Graph attention network (Velickovic et al.) on one synthetic citation graph: classify papers from words and citations, full-batch."""
import copy
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'pyGAT-like: load_data with raw paper ids and idx_map, sparse GATConv written with index_add_, Adam with L2 weight decay, full-batch epochs, early stopping on validation loss'
FAULTS = {
    'ids_not_mapped': 'The raw paper ids of the citation list are turned into row numbers by their sorted rank instead of by their row in the content table, so the edges connect unrelated nodes.',
    'softmax_over_all_edges': 'The attention softmax runs over all edges of the graph instead of over the incoming edges of each node, so all messages are nearly zero and the layers hardly pass anything on.',
    'train_mask_forgotten': 'The training labels are zero-filled outside the training mask and the loss is taken over all nodes, so the net learns to put almost everything in class 0.',
    'early_stopping_reversed': 'Early stopping watches the validation loss but keeps the checkpoint with the largest value, as if it were an accuracy, so nearly untrained weights are restored.',
}

N, CLASSES, WORDS = 2700, 7, 600


def make_papers():
    """What the .content and .cites files would hold: (id, words, label) rows in random order and (cited id, citing id) pairs."""
    y = torch.randint(CLASSES, (N,))
    topic = torch.rand(CLASSES, WORDS) < 0.08
    rate = torch.full((N, WORDS), 0.012) + 0.03 * topic[y]
    words = (torch.rand(N, WORDS) < rate).float()
    ids = torch.randperm(10 * N)[:N]
    by_class = [(y == c).nonzero().flatten() for c in range(CLASSES)]
    a = torch.randint(N, (2 * N,))
    b = torch.randint(N, (2 * N,))
    same = torch.rand(2 * N) < 0.78
    for c in range(CLASSES):
        m = same & (y[a] == c)
        b[m] = by_class[c][torch.randint(len(by_class[c]), (int(m.sum()),))]
    keep = a != b
    return ids, words, y, torch.stack([ids[a[keep]], ids[b[keep]]])


def load_data(fault=''):
    ids, words, y, cites = make_papers()
    order = ids.tolist()
    if fault == 'ids_not_mapped':
        order = sorted(order)
    idx_map = {j: i for i, j in enumerate(order)}
    edges = torch.tensor([[idx_map[int(j)] for j in row] for row in cites])
    edges = torch.cat([edges, edges.flip(0)], dim=1)                       # undirected
    edges = torch.unique(edges, dim=1)
    loops = torch.arange(N)
    edges = torch.cat([edges, torch.stack([loops, loops])], dim=1)         # self loops
    x = words / words.sum(1, keepdim=True).clamp(min=1)                    # row-normalised bag of words

    train_mask = torch.zeros(N, dtype=torch.bool)
    val_mask, test_mask = train_mask.clone(), train_mask.clone()
    for c in range(CLASSES):
        train_mask[(y == c).nonzero().flatten()[:20]] = True
    rest = (~train_mask).nonzero().flatten()
    val_mask[rest[:500]] = True
    test_mask[rest[-1000:]] = True
    return x, edges, y, train_mask, val_mask, test_mask


class GATConv(nn.Module):
    def __init__(self, in_dim, out_dim, heads, concat=True, dropout=0.5, slope=0.2):
        super().__init__()
        self.heads, self.out_dim, self.concat, self.dropout, self.slope = heads, out_dim, concat, dropout, slope
        self.over_all_edges = False
        self.W = nn.Linear(in_dim, heads * out_dim, bias=False)
        self.a_src = nn.Parameter(torch.empty(1, heads, out_dim))
        self.a_dst = nn.Parameter(torch.empty(1, heads, out_dim))
        self.bias = nn.Parameter(torch.zeros(heads * out_dim if concat else out_dim))
        nn.init.xavier_uniform_(self.W.weight, gain=1.414)
        nn.init.xavier_uniform_(self.a_src, gain=1.414)
        nn.init.xavier_uniform_(self.a_dst, gain=1.414)

    def forward(self, x, edges):
        n, (src, dst) = x.size(0), edges
        x = F.dropout(x, self.dropout, training=self.training)
        h = self.W(x).view(n, self.heads, self.out_dim)
        score = (h * self.a_src).sum(-1)[src] + (h * self.a_dst).sum(-1)[dst]
        score = F.leaky_relu(score, self.slope)                            # [E, heads]
        score = (score - score.max()).exp()
        if self.over_all_edges:
            alpha = score / score.sum(0, keepdim=True)
        else:
            total = torch.zeros(n, self.heads).index_add_(0, dst, score)
            alpha = score / (total[dst] + 1e-16)
        alpha = F.dropout(alpha, self.dropout, training=self.training)
        out = torch.zeros_like(h).index_add_(0, dst, alpha.unsqueeze(-1) * h[src])
        out = out.flatten(1) if self.concat else out.mean(1)
        return out + self.bias


class GAT(nn.Module):
    def __init__(self, in_dim=WORDS, hidden=8, classes=CLASSES, heads=6):
        super().__init__()
        self.conv1 = GATConv(in_dim, hidden, heads)
        self.conv2 = GATConv(hidden * heads, classes, 1, concat=False)

    def forward(self, x, edges):
        x = F.elu(self.conv1(x, edges))
        return F.log_softmax(self.conv2(x, edges), dim=-1)


def build():
    torch.manual_seed(72)
    return (GAT(),)


def train(models, fault=''):
    model, = models
    torch.manual_seed(29)
    x, edges, y, train_mask, val_mask, test_mask = load_data(fault)
    if fault == 'softmax_over_all_edges':
        model.conv1.over_all_edges = model.conv2.over_all_edges = True
    y_train = torch.where(train_mask, y, torch.zeros_like(y))

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=5e-4)
    best, best_state, bad, patience = None, None, 0, 100
    for epoch in range(250):
        model.train()
        optimizer.zero_grad()
        out = model(x, edges)
        if fault == 'train_mask_forgotten':
            loss = F.nll_loss(out, y_train)
        else:
            loss = F.nll_loss(out[train_mask], y_train[train_mask])
        loss.backward()
        optimizer.step()

        model.eval()
        with torch.no_grad():
            val_loss = F.nll_loss(model(x, edges)[val_mask], y[val_mask]).item()
        if fault == 'early_stopping_reversed':
            better = best is None or val_loss > best
        else:
            better = best is None or val_loss < best
        if better:
            best, best_state, bad = val_loss, copy.deepcopy(model.state_dict()), 0
        else:
            bad += 1
            if bad == patience:
                break

    model.load_state_dict(best_state)
    model.eval()
    with torch.no_grad():
        pred = model(x, edges).argmax(-1)
    return 1 - (pred[test_mask] == y[test_mask]).float().mean().item()


if __name__ == '__main__':
    print(train(build()))
