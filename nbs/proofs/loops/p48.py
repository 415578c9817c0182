import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'graph convolution on one graph with a dense normalised adjacency, full batch, train and test masks, weight decay'
FAULTS = {
    'edges_in_one_direction': 'each edge is entered in one direction only, so many nodes get no message from their neighbours',
    'weight_decay_too_high': 'weight decay is 0.5 instead of 5e-4, so all weights shrink to nothing',
    'loss_over_all_nodes': 'the loss is taken over all nodes, test nodes included, so the test error is falsely low',
}


class GCN(nn.Module):
    def __init__(self, d=40, hidden=48, classes=4, p=0.6):
        super().__init__()
        self.lin1, self.lin2 = nn.Linear(d, hidden), nn.Linear(hidden, classes)
        self.p = p

    def forward(self, x, adj):
        x = F.dropout(x, self.p, training=self.training)
        x = F.relu(adj @ self.lin1(x))
        x = F.dropout(x, self.p, training=self.training)
        return adj @ self.lin2(x)


def build():
    return (GCN(),)


def make_graph(n=400, classes=4, d=40, both_ways=True):
    y = torch.randint(0, classes, (n,))
    prob = torch.where(y[:, None] == y[None, :], 0.035, 0.007)
    upper = torch.triu(torch.rand(n, n) < prob, 1).float()
    a = upper + torch.eye(n)
    if both_ways:
        a = a + upper.t()
    deg = a.sum(1).rsqrt()
    centers = torch.randn(classes, d) * 0.28
    x = centers[y] + torch.randn(n, d)
    return x, deg[:, None] * a * deg[None, :], y


def train(models, fault=''):
    torch.manual_seed(48)
    model = models[0]
    x, adj, y = make_graph(both_ways=fault != 'edges_in_one_direction')
    order = torch.randperm(len(y))
    train_mask = torch.zeros(len(y), dtype=torch.bool)
    train_mask[order[:120]] = True
    test_mask = ~train_mask
    if fault == 'loss_over_all_nodes':
        train_mask = torch.ones_like(train_mask)
    decay = 0.5 if fault == 'weight_decay_too_high' else 5e-4
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=decay)

    for epoch in range(250):
        model.train()
        optimizer.zero_grad()
        out = model(x, adj)
        loss = F.cross_entropy(out[train_mask], y[train_mask])
        loss.backward()
        optimizer.step()

    model.eval()
    with torch.no_grad():
        pred = model(x, adj).argmax(1)
        return (pred[test_mask] != y[test_mask]).float().mean().item()
