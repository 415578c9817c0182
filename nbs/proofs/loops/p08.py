import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'siamese embedding net with triplet margin loss, triplets sampled by hand'
FAULTS = {
    'same_batch_every_step': 'the triplets are sampled once before the loop and reused in every step',
    'positive_negative_swapped': 'positive and negative are given to the loss in the wrong order',
    'weight_decay_too_strong': 'weight_decay=1.0 in Adam drives all weights to zero',
}


class EmbeddingNet(nn.Module):
    def __init__(self, d_in=24, d_out=12):
        super().__init__()
        self.fc1 = nn.Linear(d_in, 96)
        self.fc2 = nn.Linear(96, d_out)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))


def build():
    return (EmbeddingNet(),)


def make_pool(n, prototypes):
    # the identity is coded in half of the features, the others are strong distractors
    y = torch.randint(0, len(prototypes), (n,))
    x = torch.cat([prototypes[y] + 0.5 * torch.randn(n, 12), 1.3 * torch.randn(n, 12)], 1)
    return x, y


def sample_triplets(x, y, n):
    anchor = torch.randint(0, len(x), (n,))
    pos, neg = torch.empty_like(anchor), torch.empty_like(anchor)
    for i, a in enumerate(anchor.tolist()):
        same = (y == y[a]).nonzero().flatten()
        diff = (y != y[a]).nonzero().flatten()
        pos[i] = same[torch.randint(0, len(same), (1,))]
        neg[i] = diff[torch.randint(0, len(diff), (1,))]
    return x[anchor], x[pos], x[neg]


def train(models, fault=''):
    torch.manual_seed(7)
    net = models[0]
    prototypes = torch.randn(8, 12)
    x, y = make_pool(600, prototypes)
    xv, yv = make_pool(300, prototypes)
    wd = 1.0 if fault == 'weight_decay_too_strong' else 1e-5
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3, weight_decay=wd)
    criterion = nn.TripletMarginLoss(margin=1.0)
    val_triplets = sample_triplets(xv, yv, 300)

    batch = sample_triplets(x, y, 32)
    for it in range(200):
        if fault != 'same_batch_every_step':
            batch = sample_triplets(x, y, 32)
        a, p, n = batch
        ea, ep, en = net(a), net(p), net(n)
        if fault == 'positive_negative_swapped':
            loss = criterion(ea, en, ep)
        else:
            loss = criterion(ea, ep, en)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    net.eval()
    with torch.no_grad():
        a, p, n = val_triplets
        return criterion(net(a), net(p), net(n)).item()
