"""Message passing on molecule-like graphs (batched as one large graph): regress an energy that depends on bonded pairs."""
import random
import torch
from torch import nn

torch.set_num_threads(1)

STYLE = 'PyG-like without PyG: collate function that packs graphs, index_add_ message passing, global add pooling, Adam with ReduceLROnPlateau'
FAULTS = {
    'edges_not_offset': 'collate concatenates the edge lists without adding the number of atoms before, so every bond points into the first molecules of the batch.',
    'scatter_overwrites': 'Messages are written with out[dst] = msg instead of added, so an atom keeps only one of its neighbours.',
    'pool_whole_batch': 'The readout sums over all atoms of the batch rather than per molecule (batch vector ignored), so that every molecule gets the same broadcast prediction.',
    'bond_types_interleaved': 'Edges are laid out as [all i->j, all j->i] but the bond types as b0, b0, b1, b1, … (repeat_interleave), so most bonds carry the type of another bond.',
}

N_TYPES = 5


def random_molecule(rng):
    """A random tree with some rings closed: atom types, directed bonds both ways with a bond type."""
    n = rng.randint(6, 16)
    atoms = [rng.randrange(N_TYPES) for _ in range(n)]
    bonds = {}
    for i in range(1, n):
        bonds[(rng.randrange(max(0, i - 4), i), i)] = rng.randrange(2)
    for _ in range(rng.randint(0, 3)):
        i, j = sorted(rng.sample(range(n), 2))
        bonds.setdefault((i, j), rng.randrange(2))
    return atoms, bonds


def energy(atoms, bonds, pair, own):
    e = sum(own[a] for a in atoms)
    deg = [0] * len(atoms)
    for (i, j), b in bonds.items():
        e += pair[b][atoms[i]][atoms[j]]
        deg[i] += 1
        deg[j] += 1
    return e + sum(0.4 * (d - 2) ** 2 for d in deg)


def make_dataset(n, rng, fault=''):
    own = [rng.uniform(-0.3, 0.3) for _ in range(N_TYPES)]
    chi = [0., 0.5, 0.9, 1.4, 2.]                              # "electronegativity" of a type; bonds of unlike atoms are strong
    pair = [[[(1.2 if b else -0.6) * ((ci - cj) ** 2 - 0.7) for cj in chi] for ci in chi] for b in range(2)]
    out = []
    for _ in range(n):
        atoms, bonds = random_molecule(rng)
        ij = torch.tensor(list(bonds)).t()
        bt = torch.tensor(list(bonds.values()))
        edge_attr = bt.repeat_interleave(2) if fault == 'bond_types_interleaved' else torch.cat([bt, bt])
        out.append(dict(x=torch.tensor(atoms), edge_index=torch.cat([ij, ij.flip(0)], 1), edge_attr=edge_attr,
                        y=torch.tensor(energy(atoms, bonds, pair, own), dtype=torch.float)))
    return out


def collate(graphs, fault=''):
    xs, eis, eas, batch, ys, off = [], [], [], [], [], 0
    for k, g in enumerate(graphs):
        n = len(g['x'])
        xs.append(g['x'])
        eis.append(g['edge_index'] + (0 if fault == 'edges_not_offset' else off))
        eas.append(g['edge_attr'])
        batch.append(torch.full((n,), k))
        ys.append(g['y'])
        off += n
    return torch.cat(xs), torch.cat(eis, 1), torch.cat(eas), torch.cat(batch), torch.stack(ys)


class MPLayer(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.bond = nn.Embedding(2, d)
        self.msg = nn.Sequential(nn.Linear(2 * d, d), nn.ReLU(), nn.Linear(d, d))
        self.upd = nn.Sequential(nn.Linear(2 * d, d), nn.ReLU())
        self.norm = nn.BatchNorm1d(2 * d)
        self.overwrite = False

    def forward(self, h, edge_index, edge_attr):
        src, dst = edge_index
        m = self.msg(torch.cat([h[src] + self.bond(edge_attr), h[dst]], 1))
        agg = torch.zeros_like(h)
        if self.overwrite:
            agg[dst] = m
        else:
            agg.index_add_(0, dst, m)
        return h + self.upd(self.norm(torch.cat([h, agg], 1)))


class MolNet(nn.Module):
    def __init__(self, d=48, layers=2):
        super().__init__()
        self.atom = nn.Embedding(N_TYPES, d)
        self.layers = nn.ModuleList(MPLayer(d) for _ in range(layers))
        self.head = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, 1))
        self.pool_all = False

    def forward(self, x, edge_index, edge_attr, batch, n_graphs):
        h = self.atom(x)
        for layer in self.layers:
            h = layer(h, edge_index, edge_attr)
        e = self.head(h).squeeze(1)
        if self.pool_all:
            return e.sum(0, keepdim=True) / n_graphs
        return torch.zeros(n_graphs).index_add_(0, batch, e)


def build():
    return (MolNet(),)


def train(models, fault=''):
    torch.manual_seed(15)
    rng = random.Random(15)
    model, = models
    graphs = make_dataset(2900, rng, fault)
    train_set, val_set = graphs[:2400], graphs[2400:]
    ys = torch.stack([g['y'] for g in train_set])
    std = ys.std()          # only scaled, not shifted: the energy is a sum over atoms and has no constant part
    for layer in model.layers:
        layer.overwrite = fault == 'scatter_overwrites'
    model.pool_all = fault == 'pool_whole_batch'

    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    sched = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, factor=0.5, patience=1)

    def evaluate():
        model.eval()
        err = 0.
        with torch.no_grad():
            for i in range(0, len(val_set), 100):
                x, ei, ea, b, y = collate(val_set[i:i + 100], fault)
                err += (model(x, ei, ea, b, len(y)) * std - y).abs().sum().item()
        return err / len(val_set)

    for epoch in range(16):
        model.train()
        rng.shuffle(train_set)
        for i in range(0, len(train_set), 32):
            x, ei, ea, b, y = collate(train_set[i:i + 32], fault)
            pred = model(x, ei, ea, b, len(y))
            loss = ((pred - y / std) ** 2).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
        val = evaluate()
        sched.step(val)
    return val / ys.std().item()      # mean absolute error in deviations of the target


if __name__ == '__main__':
    print(train(build()))
