"""Graph classification with GIN on synthetic molecules: batched graphs by an index vector, sum pooling of every layer, batch norm."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'weihua916/powerful-gnns (GIN) and the PyG mutag_gin example written with index_add_: MLP with batch norm in each layer, (1 + eps) h plus the sum of the neighbours, a linear prediction from the sum-pooled nodes of every layer, Adam with StepLR(gamma 0.5)'
FAULTS = {
    'edges_not_offset_in_batch': 'collate joins the edge lists of the graphs without adding the number of nodes before each graph, so all edges of a batch fall on the nodes of its first graphs and the other graphs have none.',
    'edge_list_reshaped_not_transposed': 'The (E, 2) edge list is brought to (2, E) with reshape instead of a transpose, so sources and targets are paired across different edges of the list and the training graphs are wired at random.',
    'edges_in_one_direction_only': 'The training graphs keep each bond once as stored (i, j) and the reverse edges are never added, so a node hears only some of its neighbours and the sums differ from those of complete graphs.',
    'nll_loss_of_raw_scores': 'nll_loss gets the scores of the network without log_softmax, so the loss is only minus the score of the right class and falls without end while nothing holds the other classes down.',
    'nodes_permuted_without_edges': 'The random renumbering of the nodes as augmentation permutes the node features but leaves the edge list as it was, so atom types sit on other atoms than those they belong to.',
}

SEED = 60
NUM_TYPES, NUM_CLASSES = 5, 4      # atoms: C, N, O, S, H


def make_molecule(y, rng):
    """A ring of five or six (y % 2) with an N and an O that are bonded or apart (y // 2), and random branches with decoys."""
    ring = 5 + y % 2
    edges = [(i, (i + 1) % ring) for i in range(ring)]
    types = [0] * ring
    i = int(rng.integers(0, ring))
    types[i] = 1
    distance = 1 if y // 2 else int(rng.integers(2, ring - 1))
    types[(i + distance) % ring] = 2
    for _ in range(rng.integers(6, 14)):
        parent = int(rng.integers(0, len(types)))
        while types[parent] == 4:
            parent = int(rng.integers(0, len(types)))
        edges.append((parent, len(types)))
        types.append(int(rng.choice(NUM_TYPES, p=[0.4, 0.08, 0.08, 0.09, 0.35])))
    perm = rng.permutation(len(types))
    edges = np.array([(perm[a], perm[b]) if rng.random() < 0.5 else (perm[b], perm[a]) for a, b in edges])
    x = np.zeros(len(types), dtype=np.int64)
    x[perm] = types
    return x, edges[rng.permutation(len(edges))], y


def make_dataset(n, rng):
    return [make_molecule(int(y), rng) for y in rng.integers(0, NUM_CLASSES, n)]


def collate(graphs, fault='', augment=None):
    """Joins graphs to one big graph: node features, edge_index (2, E), graph index of each node, labels."""
    xs, edge_indices, batch, ys, offset = [], [], [], [], 0
    for g, (types, edges, y) in enumerate(graphs):
        if augment is not None:
            perm = augment.permutation(len(types))
            permuted = np.zeros_like(types)
            permuted[perm] = types
            types = permuted
            if fault != 'nodes_permuted_without_edges':
                edges = perm[edges]
        if fault == 'edge_list_reshaped_not_transposed':
            edge_index = edges.reshape(2, -1)
        else:
            edge_index = edges.T
        if fault != 'edges_in_one_direction_only':
            edge_index = np.concatenate([edge_index, edge_index[::-1]], axis=1)
        xs.append(types)
        edge_indices.append(edge_index + offset)
        batch.append(np.full(len(types), g))
        ys.append(y)
        if fault != 'edges_not_offset_in_batch':
            offset += len(types)
    x = F.one_hot(torch.from_numpy(np.concatenate(xs)), NUM_TYPES).float()
    return x, torch.from_numpy(np.concatenate(edge_indices, axis=1)), torch.from_numpy(np.concatenate(batch)), torch.tensor(ys)


def global_add_pool(h, batch, size):
    return h.new_zeros(size, h.size(1)).index_add_(0, batch, h)


class GINConv(nn.Module):
    def __init__(self, in_dim, hidden):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(in_dim, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.eps = nn.Parameter(torch.zeros(1))
        self.batch_norm = nn.BatchNorm1d(hidden)

    def forward(self, x, edge_index):
        source, target = edge_index
        neighbours = torch.zeros_like(x).index_add_(0, target, x[source])
        return F.relu(self.batch_norm(self.mlp((1 + self.eps) * x + neighbours)))


class GIN(nn.Module):
    def __init__(self, in_dim=NUM_TYPES, hidden=32, num_layers=4, num_classes=NUM_CLASSES, dropout=0.3):
        super().__init__()
        self.convs = nn.ModuleList(GINConv(in_dim if i == 0 else hidden, hidden) for i in range(num_layers))
        self.linears_prediction = nn.ModuleList(nn.Linear(in_dim if i == 0 else hidden, num_classes) for i in range(num_layers + 1))
        self.dropout = dropout

    def forward(self, x, edge_index, batch, num_graphs):
        hidden_rep = [x]
        for conv in self.convs:
            hidden_rep.append(conv(hidden_rep[-1], edge_index))
        score = 0
        for h, linear in zip(hidden_rep, self.linears_prediction):
            score = score + F.dropout(linear(global_add_pool(h, batch, num_graphs)), self.dropout, training=self.training)
        return score


@torch.no_grad()
def test(model, graphs):
    """Share of unseen graphs that are classified rightly."""
    model.eval()
    correct = 0
    for i in range(0, len(graphs), 64):
        x, edge_index, batch, y = collate(graphs[i:i + 64])
        correct += (model(x, edge_index, batch, len(y)).argmax(1) == y).sum().item()
    return correct / len(graphs)


def build():
    torch.manual_seed(SEED)
    return (GIN(),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    train_graphs, test_graphs = make_dataset(1500, rng), make_dataset(500, rng)
    epochs, batch_size = 60, 32
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=20, gamma=0.5)
    for epoch in range(epochs):
        model.train()
        order = rng.permutation(len(train_graphs))
        for i in range(0, len(order), batch_size):
            x, edge_index, batch, y = collate([train_graphs[j] for j in order[i:i + batch_size]], fault, rng)
            output = model(x, edge_index, batch, len(y))
            if fault != 'nll_loss_of_raw_scores':
                output = F.log_softmax(output, dim=1)
            loss = F.nll_loss(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()

    return test(model, test_graphs)


if __name__ == '__main__':
    print(train(build()))
