import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'graph convolution net, full-batch node classification with train/val masks, dropout'
FAULTS = {
    'validation_mask_is_training_mask': 'the validation loss is taken on train_mask, the nodes that were trained on',
    'left_in_eval': 'model.train() is missing in the loop, so after the first validation dropout is off for the whole training',
    'weight_decay_too_strong': 'weight_decay=0.5 where 5e-4 is meant, the weights shrink to zero',
}


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass):
        super().__init__()
        self.w1 = nn.Linear(nfeat, nhid)
        self.w2 = nn.Linear(nhid, nclass)

    def forward(self, x, adj):
        x = F.relu(adj @ self.w1(x))
        x = F.dropout(x, 0.5, training=self.training)
        return F.log_softmax(adj @ self.w2(x), dim=1)


def build():
    return (GCN(24, 32, 4),)


def block_graph(n=320, k=4):
    y = torch.randint(0, k, (n,))
    prob = torch.where(y[:, None] == y[None, :], 0.035, 0.008)
    upper = torch.triu((torch.rand(n, n) < prob).float(), 1)
    adj = upper + upper.t() + torch.eye(n)
    d = adj.sum(1).rsqrt()
    feats = 0.6 * torch.randn(k, 24)[y] + torch.randn(n, 24)
    return feats, d[:, None] * adj * d[None, :], y


def train(models, fault=''):
    torch.manual_seed(27)
    model = models[0]
    features, adj, labels = block_graph()
    perm = torch.randperm(len(labels))
    train_mask = torch.zeros(len(labels), dtype=torch.bool)
    train_mask[perm[:140]] = True
    val_mask = ~train_mask
    if fault == 'validation_mask_is_training_mask':
        val_mask = train_mask

    wd = 0.5 if fault == 'weight_decay_too_strong' else 5e-4
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=wd)
    val_loss = None
    for epoch in range(80):
        if fault != 'left_in_eval':
            model.train()
        optimizer.zero_grad()
        output = model(features, adj)
        loss = F.nll_loss(output[train_mask], labels[train_mask])
        loss.backward()
        optimizer.step()

        model.eval()
        with torch.no_grad():
            output = model(features, adj)
            val_loss = F.nll_loss(output[val_mask], labels[val_mask]).item()
    return val_loss
