"""House prices: MLP with a neighbourhood embedding on a synthetic table, log targets, AdamW and plateau schedule."""
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import TensorDataset, DataLoader

torch.set_num_threads(1)

STYLE = 'Kaggle house-prices notebooks in PyTorch: log1p target, standardised numeric columns with missing values filled by the mean, entity embedding for the neighbourhood, MLP with BatchNorm and dropout, AdamW, ReduceLROnPlateau on validation RMSE'
FAULTS = {
    'standardised_over_whole_table': 'Mean and standard deviation are taken over the whole table without axis=0, so the columns in thousands of square feet set the scale and grades and counts hardly vary at all.',
    'categories_coded_per_table': 'The neighbourhoods of the training table are coded in the order of their appearance there while the other tables use the sorted list, so the embedding rows belong to other neighbourhoods at test time.',
    'target_broadcast': 'The prices have shape (B,) and the outputs (B, 1), so the difference broadcasts to (B, B) and every house is fitted to all prices of the batch, that is to their mean.',
    'outliers_not_dropped_from_prices': 'Very large houses are dropped from the columns and the neighbourhoods but not from the prices, so after the rows are renumbered most houses are paired with the price of another row.',
    'price_statistics_before_log': 'Mean and standard deviation for scaling the target are those of the raw prices but applied to the log prices, so the scaled targets are all the same number up to rounding and carry no signal.',
}

SEED = 52
NUM_HOODS = 25
COLUMNS = ['lot_area', 'living_area', 'basement_area', 'quality', 'condition', 'year_built', 'bathrooms', 'rooms', 'garage_cars', 'fireplaces']


def make_table(n, market, rng):
    """Numeric columns (some missing), neighbourhood names and sale prices."""
    hood = rng.integers(0, NUM_HOODS, n)
    z = rng.normal(0, 1, (n, 4))
    quality = np.clip(np.round(6 + 1.2 * z[:, 0] + 0.6 * rng.normal(0, 1, n)), 1, 10)
    condition = np.clip(np.round(5.5 + 1.1 * rng.normal(0, 1, n)), 1, 9)
    living = np.exp(7.25 + 0.25 * z[:, 1] + 0.12 * z[:, 0])
    lot = np.exp(9.1 + 0.45 * z[:, 2] + 0.15 * z[:, 1])
    basement = living * rng.uniform(0.3, 0.8, n) * (rng.random(n) > 0.1)
    year = np.round(np.clip(1972 + 25 * z[:, 3] + 6 * z[:, 0], 1880, 2010))
    rooms = np.clip(np.round(living / 230 + rng.normal(0, 1, n)), 2, 14)
    baths = np.clip(np.round(living / 800 + 0.5 * rng.normal(0, 1, n)), 1, 4)
    garage = np.clip(np.round(1.4 + 0.6 * z[:, 0] + 0.6 * rng.normal(0, 1, n)), 0, 4)
    fire = rng.binomial(2, 0.3, n)
    log_price = (11.9 + 0.75 * (np.log(living) - 7.25) + 0.13 * (np.log(lot) - 9.1) + 0.00012 * basement + 0.11 * (quality - 6)
                 + 0.05 * (condition - 5.5) + 0.05 * garage + 0.06 * fire + 0.05 * baths
                 + 0.0035 * (year - 1972) * (1 + 0.5 * (year > 1990)) + market['hood'][hood]
                 + market['slope'][hood] * (quality - 6) + 0.05 * np.sin(rooms) + 0.07 * rng.normal(0, 1, n))
    x = np.stack([lot, living, basement, quality, condition, year, baths, rooms, garage, fire], 1)
    x[rng.random(x.shape) < 0.02] = np.nan
    return x, np.array([market['names'][h] for h in hood]), np.exp(log_price)


class Preprocessor:
    def fit(self, x, fault=''):
        if fault == 'standardised_over_whole_table':
            self.mean = np.full(x.shape[1], np.nanmean(x))
            self.std = np.full(x.shape[1], np.nanstd(x))
        else:
            self.mean, self.std = np.nanmean(x, axis=0), np.nanstd(x, axis=0)
        self.fill = np.nanmean(x, axis=0)
        return self

    def transform(self, x):
        x = np.where(np.isnan(x), self.fill, x)
        return torch.tensor((x - self.mean) / self.std, dtype=torch.float32)


def encode(names, categories):
    index = {name: i for i, name in enumerate(categories)}
    return torch.tensor([index[name] for name in names])


class HouseNet(nn.Module):
    def __init__(self, num_numeric, num_categories, emb_dim=8, hidden=(128, 64), dropout=0.05):
        super().__init__()
        self.embedding = nn.Embedding(num_categories, emb_dim)
        layers, size = [], num_numeric + emb_dim
        for h in hidden:
            layers += [nn.Linear(size, h), nn.BatchNorm1d(h), nn.ReLU(), nn.Dropout(dropout)]
            size = h
        self.layers = nn.Sequential(*layers, nn.Linear(size, 1))

    def forward(self, x_num, x_cat):
        return self.layers(torch.cat([x_num, self.embedding(x_cat)], 1))


@torch.no_grad()
def rmsle(model, x_num, x_cat, prices, mean, std):
    """Root mean squared error of the log price."""
    model.eval()
    log_pred = model(x_num, x_cat).squeeze(1) * std + mean
    return (log_pred - torch.tensor(np.log1p(prices), dtype=torch.float32)).pow(2).mean().sqrt().item()


def build():
    torch.manual_seed(SEED)
    return (HouseNet(len(COLUMNS), NUM_HOODS),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    market = {'hood': rng.normal(0, 0.25, NUM_HOODS), 'slope': rng.normal(0, 0.04, NUM_HOODS),
              'names': [f'hood_{k}' for k in rng.permutation(NUM_HOODS)]}
    x, names, prices = make_table(4000, market, rng)
    test_x, test_names, test_prices = make_table(1000, market, rng)
    keep = np.where(~(x[:, COLUMNS.index('living_area')] > 2400))[0]
    x, names = x[keep], names[keep]
    if fault != 'outliers_not_dropped_from_prices':
        prices = prices[keep]
    order = rng.permutation(len(x))
    train_idx, val_idx = order[500:], order[:500]

    categories = sorted(market['names'])
    train_categories = categories
    if fault == 'categories_coded_per_table':
        train_categories = list(dict.fromkeys(names[train_idx]))
    pre = Preprocessor().fit(x[train_idx], fault)
    train_num, val_num, test_num = pre.transform(x[train_idx]), pre.transform(x[val_idx]), pre.transform(test_x)
    train_cat = encode(names[train_idx], train_categories)
    val_cat, test_cat = encode(names[val_idx], categories), encode(test_names, categories)

    y = np.log1p(prices[train_idx])
    if fault == 'price_statistics_before_log':
        mean, std = float(prices[train_idx].mean()), float(prices[train_idx].std())
    else:
        mean, std = float(y.mean()), float(y.std())
    train_y = torch.tensor((y - mean) / std, dtype=torch.float32)[:, None]
    if fault == 'target_broadcast':
        train_y = train_y.squeeze(1)

    loader = DataLoader(TensorDataset(train_num, train_cat, train_y), batch_size=64, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=4)
    for epoch in range(120):
        model.train()
        for x_num, x_cat, target in loader:
            optimizer.zero_grad()
            loss = ((model(x_num, x_cat) - target) ** 2).mean()
            loss.backward()
            optimizer.step()
        scheduler.step(rmsle(model, val_num, val_cat, prices[val_idx], mean, std))

    return rmsle(model, test_num, test_cat, test_prices, mean, std)


if __name__ == '__main__':
    print(train(build()))
