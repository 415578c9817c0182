"""Neural collaborative filtering (NeuMF) on synthetic implicit feedback with sampled negatives, leave-one-out hit rate at 10."""
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'guoyang9/NCF repository (NeuMF-end): NCFData with ng_sample in each epoch, GMF and MLP towers with their own embeddings, BCEWithLogitsLoss, Adam, metrics over 99 sampled negatives per user'
FAULTS = {
    'users_tiled_not_repeated': 'The user ids are tiled (the whole column again and again) while the items are listed row by row, one positive and its four negatives, so nearly all items stand next to an unrelated user.',
    'negatives_from_user_count': 'The negatives are drawn from range(num_users) instead of range(num_items), so the items with higher ids never occur as negatives and are ranked on top for everybody.',
    'labels_in_blocks': 'The items are listed row by row, one positive and its four negatives, but the labels are filled as a block of ones followed by a block of zeros, so they have nothing to do with the pairs.',
    'negative_test_reversed': 'The loop that redraws negatives runs while the pair is not an interaction (condition reversed), so the sampled negatives are the positives of the user themselves.',
    'scheduler_in_batch_loop': 'The exponential decay meant for each epoch is stepped in the batch loop, so the learning rate is practically zero before the end of the first epoch.',
}

SEED = 51
NUM_USERS, NUM_ITEMS = 500, 1000


def make_interactions(rng, per_user=31, dim=5):
    """Per user a set of items by taste and popularity; the last one in time is the test item, with 99 items never seen."""
    users, items = rng.normal(0, 1, (NUM_USERS, dim)), rng.normal(0, 1, (NUM_ITEMS, dim))
    popularity = rng.normal(0, 0.7, NUM_ITEMS)
    utility = 1.5 * users @ items.T + popularity + rng.gumbel(0, 1.0, (NUM_USERS, NUM_ITEMS))
    top = np.argsort(-utility, 1)[:, :per_user]
    top = rng.permuted(top, axis=1)
    train_data = np.stack([np.repeat(np.arange(NUM_USERS), per_user - 1), top[:, :-1].reshape(-1)], 1)
    test_items = np.zeros((NUM_USERS, 100), dtype=np.int64)
    for u in range(NUM_USERS):
        unseen = np.setdiff1d(np.arange(NUM_ITEMS), top[u])
        test_items[u] = np.concatenate([top[u, -1:], rng.choice(unseen, 99, replace=False)])
    train_mat = np.zeros((NUM_USERS, NUM_ITEMS), dtype=bool)
    train_mat[train_data[:, 0], train_data[:, 1]] = True
    return train_data, train_mat, test_items


class NCFData(Dataset):
    def __init__(self, features_ps, train_mat, num_ng=4, fault=''):
        self.features_ps, self.train_mat, self.num_ng, self.fault = features_ps, train_mat, num_ng, fault
        self.rng = np.random.default_rng(SEED + 1)

    def ng_sample(self):
        n = len(self.features_ps)
        high = NUM_USERS if self.fault == 'negatives_from_user_count' else NUM_ITEMS
        u = np.repeat(self.features_ps[:, 0], self.num_ng)
        j = self.rng.integers(0, high, len(u))
        reject = self.fault != 'negative_test_reversed'
        bad = self.train_mat[u, j] == reject
        while bad.any():
            j[bad] = self.rng.integers(0, high, bad.sum())
            bad = self.train_mat[u, j] == reject
        items = np.concatenate([self.features_ps[:, 1:], j.reshape(n, self.num_ng)], 1).reshape(-1)
        if self.fault == 'users_tiled_not_repeated':
            users = np.tile(self.features_ps[:, 0], self.num_ng + 1)
        else:
            users = np.repeat(self.features_ps[:, 0], self.num_ng + 1)
        self.features_fill = np.stack([users, items], 1)
        if self.fault == 'labels_in_blocks':
            self.labels_fill = np.array([1] * n + [0] * n * self.num_ng, dtype=np.float32)
        else:
            self.labels_fill = np.array(([1] + [0] * self.num_ng) * n, dtype=np.float32)

    def __len__(self):
        return (self.num_ng + 1) * len(self.features_ps)

    def __getitem__(self, idx):
        return self.features_fill[idx, 0], self.features_fill[idx, 1], self.labels_fill[idx]

    def __getitems__(self, idx):
        return self.features_fill[idx, 0], self.features_fill[idx, 1], self.labels_fill[idx]


def collate(batch):
    return [torch.from_numpy(np.ascontiguousarray(a)) for a in batch]


class NCF(nn.Module):
    def __init__(self, user_num, item_num, factor_num=8, num_layers=3, dropout=0.1):
        super().__init__()
        self.embed_user_GMF = nn.Embedding(user_num, factor_num)
        self.embed_item_GMF = nn.Embedding(item_num, factor_num)
        self.embed_user_MLP = nn.Embedding(user_num, factor_num * 2 ** (num_layers - 1))
        self.embed_item_MLP = nn.Embedding(item_num, factor_num * 2 ** (num_layers - 1))
        modules = []
        for i in range(num_layers):
            size = factor_num * 2 ** (num_layers - i)
            modules += [nn.Dropout(dropout), nn.Linear(size, size // 2), nn.ReLU()]
        self.MLP_layers = nn.Sequential(*modules)
        self.predict_layer = nn.Linear(factor_num * 2, 1)
        for m in self.modules():
            if isinstance(m, nn.Embedding):
                nn.init.normal_(m.weight, std=0.01)
            elif isinstance(m, nn.Linear):
                nn.init.xavier_uniform_(m.weight)
                nn.init.zeros_(m.bias)

    def forward(self, user, item):
        output_GMF = self.embed_user_GMF(user) * self.embed_item_GMF(item)
        interaction = torch.cat((self.embed_user_MLP(user), self.embed_item_MLP(item)), -1)
        output_MLP = self.MLP_layers(interaction)
        return self.predict_layer(torch.cat((output_GMF, output_MLP), -1)).view(-1)


@torch.no_grad()
def hit_rate(model, test_items, top_k=10):
    """Share of users whose held-out item is among the best ten of a hundred."""
    model.eval()
    items = torch.from_numpy(test_items)
    users = torch.arange(NUM_USERS)[:, None].expand_as(items)
    scores = model(users.reshape(-1), items.reshape(-1)).view_as(items)
    rank = (scores[:, 1:] >= scores[:, :1]).sum(1)
    return (rank < top_k).float().mean().item()


def build():
    torch.manual_seed(SEED)
    return (NCF(NUM_USERS, NUM_ITEMS),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(SEED)
    train_data, train_mat, test_items = make_interactions(np.random.default_rng(SEED))
    epochs, batch_size = 20, 256
    dataset = NCFData(train_data, train_mat, num_ng=4, fault=fault)
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True, collate_fn=collate)
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.93)

    for epoch in range(epochs):
        model.train()
        dataset.ng_sample()
        for user, item, label in loader:
            model.zero_grad()
            prediction = model(user, item)
            loss = loss_function(prediction, label)
            loss.backward()
            optimizer.step()
            if fault == 'scheduler_in_batch_loop':
                scheduler.step()
        if fault != 'scheduler_in_batch_loop':
            scheduler.step()

    return hit_rate(model, test_items)


if __name__ == '__main__':
    print(train(build()))
