"""DeepFM for click-through prediction on a synthetic log with categorical and numeric columns."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import TensorDataset, DataLoader

torch.set_num_threads(1)

STYLE = 'pytorch-fm / DeepCTR-Torch repositories: FeaturesLinear, FeaturesEmbedding with offsets, FactorizationMachine, MultiLayerPerceptron, BCEWithLogits, Adam with weight decay, target encoding of the high-cardinality column'
FAULTS = {
    'offsets_forgotten': 'The offsets of the fields are not added to the raw category ids when the training batches are encoded, so the fields share the first embedding rows and the rows used at test time are hardly trained.',
    'target_encoding_with_own_label': 'The mean-click encoding of the user column is computed on the training rows with the label of the row itself included, so training leans on a column that leaks the label and is much weaker at test time.',
    'negatives_dropped_uncorrected': 'The non-clicks are down-sampled to a quarter for training and the predictions are not corrected for it (no shift of the logit), so the predicted click rate is far too high.',
    'sigmoid_before_logits_loss': 'The model output is passed through sigmoid and then given to binary_cross_entropy_with_logits, so the loss sees logits only between 0 and 1 and pushes the outputs to the extremes.',
}

SEED = 43
USERS = 20000
FIELD_DIMS = [300, 24, 12, 7, 30]
NUMERIC = 4


def make_log(n, world, rng):
    """Columns: user (only used as a rate), item, hour, device, weekday, site, four numeric ones; clicks from biases and pairwise tastes."""
    users = rng.integers(0, USERS, n)
    cats = np.stack([rng.integers(0, d, n) for d in FIELD_DIMS], 1)
    cats[:, 0] = np.minimum((rng.random(n) ** 2 * FIELD_DIMS[0]).astype(int), FIELD_DIMS[0] - 1)
    nums = np.exp(rng.normal(0, 1, (n, NUMERIC)))
    z = np.log(nums)
    logit = -1.6 + 0.8 * world['user'][users] + 0.6 * world['item'][cats[:, 0]]
    logit += 1.4 * (world['item_v'][cats[:, 0]] * world['hour_v'][cats[:, 1]]).sum(1)
    logit += 1.0 * (world['item_v'][cats[:, 0]] * world['device_v'][cats[:, 2]]).sum(1)
    logit += 0.6 * z[:, 0] - 0.4 * z[:, 1] + 0.5 * z[:, 2] * world['device'][cats[:, 2]]
    y = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    return users, cats, nums.astype(np.float32), y


def make_world(rng):
    return {'user': rng.normal(0, 1, USERS), 'item': rng.normal(0, 1, FIELD_DIMS[0]),
            'item_v': rng.normal(0, 0.8, (FIELD_DIMS[0], 3)), 'hour_v': rng.normal(0, 0.8, (FIELD_DIMS[1], 3)),
            'device_v': rng.normal(0, 0.8, (FIELD_DIMS[2], 3)), 'device': rng.normal(0, 1, FIELD_DIMS[2])}


class TargetEncoder:
    """Smoothed mean click per category; on the training rows computed out of fold."""

    def __init__(self, n_categories, smoothing=2.0, folds=5):
        self.n, self.smoothing, self.folds = n_categories, smoothing, folds

    def fit(self, column, y):
        self.prior = y.mean()
        count = np.bincount(column, minlength=self.n)
        clicks = np.bincount(column, weights=y, minlength=self.n)
        self.table = (clicks + self.smoothing * self.prior) / (count + self.smoothing)
        return self

    def transform(self, column):
        return self.table[column].astype(np.float32)

    def fit_transform(self, column, y, rng):
        fold = rng.integers(0, self.folds, len(y))
        out = np.zeros(len(y), dtype=np.float32)
        for k in range(self.folds):
            out[fold == k] = self.fit(column[fold != k], y[fold != k]).transform(column[fold == k])
        self.fit(column, y)
        return out


class FeaturesLinear(nn.Module):
    def __init__(self, field_dims, num_numeric, output_dim=1):
        super().__init__()
        self.fc = nn.Embedding(sum(field_dims), output_dim)
        self.numeric = nn.Linear(num_numeric, output_dim)
        nn.init.normal_(self.fc.weight, 0, 0.01)

    def forward(self, x, num):
        return self.fc(x).sum(dim=1) + self.numeric(num)


class FeaturesEmbedding(nn.Module):
    def __init__(self, field_dims, embed_dim):
        super().__init__()
        self.embedding = nn.Embedding(sum(field_dims), embed_dim)
        nn.init.normal_(self.embedding.weight, 0, 0.05)

    def forward(self, x):
        return self.embedding(x)


class FactorizationMachine(nn.Module):
    def forward(self, x):
        square_of_sum = torch.sum(x, dim=1) ** 2
        sum_of_square = torch.sum(x ** 2, dim=1)
        return 0.5 * torch.sum(square_of_sum - sum_of_square, dim=1, keepdim=True)


class DeepFM(nn.Module):
    def __init__(self, field_dims, num_numeric, embed_dim=8, mlp_dims=(64, 32), dropout=0.1):
        super().__init__()
        self.linear = FeaturesLinear(field_dims, num_numeric)
        self.fm = FactorizationMachine()
        self.embedding = FeaturesEmbedding(field_dims, embed_dim)
        layers, d = [], len(field_dims) * embed_dim + num_numeric
        for h in mlp_dims:
            layers += [nn.Linear(d, h), nn.BatchNorm1d(h), nn.ReLU(), nn.Dropout(dropout)]
            d = h
        self.mlp = nn.Sequential(*layers, nn.Linear(d, 1))

    def forward(self, x, num):
        embed_x = self.embedding(x)
        out = self.linear(x, num) + self.fm(embed_x) + self.mlp(torch.cat([embed_x.flatten(1), num], 1))
        return out.squeeze(1)


@torch.no_grad()
def logloss(model, cats, nums, y):
    model.eval()
    total = 0.0
    for idx in torch.arange(len(y)).split(2000):
        total += F.binary_cross_entropy_with_logits(model(cats[idx], nums[idx]), y[idx], reduction='sum').item()
    return total / len(y)


def build():
    torch.manual_seed(SEED)
    return (DeepFM(FIELD_DIMS, NUMERIC + 1),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    epochs, batch_size = 8, 200
    world = make_world(rng)
    users, cats, nums, y = make_log(200000, world, rng)
    test_users, test_cats, test_nums, test_y = make_log(20000, world, rng)

    encoder = TargetEncoder(USERS)
    user_rate = encoder.fit_transform(users, y, rng)
    if fault == 'target_encoding_with_own_label':
        user_rate = encoder.fit(users, y).transform(users)
    logs = np.concatenate([np.log(nums), user_rate[:, None]], 1)
    test_logs = np.concatenate([np.log(test_nums), encoder.transform(test_users)[:, None]], 1)
    mean, std = logs.mean(0), logs.std(0)
    logs, test_logs = (logs - mean) / std, (test_logs - mean) / std

    offsets = np.concatenate([[0], np.cumsum(FIELD_DIMS)[:-1]])
    encoded = cats + offsets
    if fault == 'offsets_forgotten':
        encoded = cats
    keep = np.ones(len(y), dtype=bool)
    if fault == 'negatives_dropped_uncorrected':
        keep = (y > 0) | (rng.random(len(y)) < 0.25)
    train_set = TensorDataset(torch.from_numpy(encoded[keep]), torch.from_numpy(logs[keep].astype(np.float32)), torch.from_numpy(y[keep]))
    test = (torch.from_numpy(test_cats + offsets), torch.from_numpy(test_logs.astype(np.float32)), torch.from_numpy(test_y))
    loader = DataLoader(train_set, batch_size=batch_size, shuffle=True)

    tables = [model.embedding.embedding.weight, model.linear.fc.weight]
    rest = [p for p in model.parameters() if all(p is not t for t in tables)]
    optimizer = torch.optim.Adam([{'params': tables, 'weight_decay': 3e-5}, {'params': rest, 'weight_decay': 1e-6}], lr=1e-3)
    criterion = nn.BCEWithLogitsLoss()
    for epoch in range(epochs):
        model.train()
        for fields, numeric, target in loader:
            pred = model(fields, numeric)
            if fault == 'sigmoid_before_logits_loss':
                pred = torch.sigmoid(pred)
            loss = criterion(pred, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return logloss(model, *test)


if __name__ == '__main__':
    print(train(build()))
