"""Store sales from a table: entity embeddings for the categorical columns, standardised continuous columns with missing values."""
import math
import torch
import torch.nn as nn
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'Rossmann-like tutorial: preprocessing functions (categorify, fill_missing, normalize), TabularDataset, TabularModel with embeddings, BatchNorm and dropout, Adam + OneCycleLR, log target, RMSPE'
FAULTS = {
    'codes_made_per_split': 'The category-to-integer dictionary is made again from the validation rows in order of appearance, so the embeddings looked up there belong to other stores and states.',
    'sentinel_in_statistics': 'Missing values stay as -999 and enter mean and standard deviation, so the true variation of the continuous columns shrinks to almost nothing.',
    'target_taken_before_sort': 'The training table is sorted by date after the target column was taken out, so rows and targets no longer belong together.',
    'dropout_as_keep_prob': 'nn.Dropout receives 0.9 as if it were the probability of keeping a unit, so nine tenths of all activations are dropped.',
}

CAT = {'store': 250, 'state': 12, 'weekday': 7, 'month': 12, 'promo': 2}
CONT = ['distance', 'temperature', 'rain', 'trend', 'price']


def make_world():
    """The hidden rules behind the sales."""
    return dict(store=0.45 * torch.randn(250), state=0.2 * torch.randn(12), kind=torch.randint(3, (250,)),
                home=torch.randint(12, (250,)), week=0.25 * torch.randn(3, 7), month=0.15 * torch.randn(12),
                far=torch.rand(250).mul(3).exp() * 1.5, lift=0.2 + 0.2 * torch.rand(3))


def make_table(w, n, days):
    """Rows as read from a csv: strings for categories, nan for missing numbers."""
    store, day = torch.randint(250, (n,)), torch.randint(*days, (n,))
    t = {'day': day, 'store': store, 'state': w['home'][store], 'weekday': day % 7, 'month': day // 30 % 12,
         'promo': (torch.rand(n) < 0.4).long()}
    season = (day / 365 * 2 * math.pi)
    t['distance'] = w['far'][store] * (0.15 * torch.randn(n)).exp()
    t['temperature'] = 10 - 9 * season.cos() + 4 * torch.randn(n)
    t['rain'] = torch.rand(n).pow(3) * 20
    t['trend'] = 50 + 15 * torch.randn(n)
    t['price'] = 4 + torch.randn(n)
    kind = w['kind'][store]
    y = 8 + w['store'][store] + w['state'][t['state']] + w['week'][kind, t['weekday']] + w['month'][t['month']]
    y = y + w['lift'][kind] * t['promo'] * (1 + 0.5 * torch.tanh(4 - t['price'])) + 0.12 * t['distance'].log()
    y = y - 0.25 * (t['price'] - 4) + 0.2 * torch.tanh((t['trend'] - 50) / 10) - 0.02 * t['rain'] * (t['temperature'] < 8)
    t['sales'] = (y + 0.05 * torch.randn(n)).exp()
    for c in CONT:
        t[c] = torch.where(torch.rand(n) < 0.08, torch.tensor(float('nan')), t[c])
    for c in CAT:
        t[c] = [f'{c}_{int(v)}' for v in t[c]]
    return t


def categorify(col):
    """Category -> integer in order of appearance; 0 is kept for unknown."""
    codes = {}
    for v in col:
        codes.setdefault(v, len(codes) + 1)
    return codes


def preprocess(train, valid, fault=''):
    cats, conts = [[], []], [[], []]
    for c in CAT:
        codes = categorify(train[c])
        for i, df in enumerate((train, valid)):
            if fault == 'codes_made_per_split' and i == 1:
                codes = categorify(df[c])
            cats[i].append(torch.tensor([codes.get(v, 0) for v in df[c]]))
    for c in CONT:
        known = train[c][~train[c].isnan()]
        fill, mean, std = known.median(), known.mean(), known.std()
        if fault == 'sentinel_in_statistics':
            fill = torch.tensor(-999.)
            col = train[c].nan_to_num(-999.)
            mean, std = col.mean(), col.std()
        for i, df in enumerate((train, valid)):
            missing = df[c].isnan()
            conts[i].append((torch.where(missing, fill, df[c]) - mean) / std)
            conts[i].append(missing.float())
    return [torch.stack(c, 1) for c in cats], [torch.stack(c, 1) for c in conts]


class TabularDataset(Dataset):
    def __init__(self, cats, conts, y):
        self.cats, self.conts, self.y = cats, conts, y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.cats[i], self.conts[i], self.y[i]


class TabularModel(nn.Module):
    def __init__(self, cards, n_cont, layers=(128, 64), emb_drop=0.05, p=0.1):
        super().__init__()
        sizes = [(c + 1, min(50, (c + 1) // 2 + 1, round(1.6 * c ** 0.56))) for c in cards]
        self.embeds = nn.ModuleList([nn.Embedding(c, s) for c, s in sizes])
        for e in self.embeds:
            nn.init.trunc_normal_(e.weight, std=0.05)
        self.emb_drop = nn.Dropout(emb_drop)
        self.bn_cont = nn.BatchNorm1d(n_cont)
        dims = [sum(s for _, s in sizes) + n_cont, *layers]
        blocks = []
        for a, b in zip(dims[:-1], dims[1:]):
            blocks += [nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU(inplace=True), nn.Dropout(p)]
        self.layers = nn.Sequential(*blocks, nn.Linear(dims[-1], 1))

    def forward(self, cats, conts):
        x = torch.cat([e(cats[:, i]) for i, e in enumerate(self.embeds)], dim=1)
        x = torch.cat([self.emb_drop(x), self.bn_cont(conts)], dim=1)
        return self.layers(x).squeeze(-1)


def rmspe(pred, target):
    return ((pred - target) / target).pow(2).mean().sqrt().item()


def build():
    torch.manual_seed(5)
    return (TabularModel(list(CAT.values()), 2 * len(CONT)),)


def train(models, fault=''):
    model, = models
    torch.manual_seed(31)
    world = make_world()
    df, df_val = make_table(world, 20000, (0, 660)), make_table(world, 4000, (660, 720))

    target = df['sales'].log()
    order = df['day'].argsort(stable=True)
    df = {c: [v[i] for i in order] if isinstance(v, list) else v[order] for c, v in df.items()}
    if fault != 'target_taken_before_sort':
        target = df['sales'].log()
    y_mean, y_std = target.mean(), target.std()

    cats, conts = preprocess(df, df_val, fault)
    train_dl = DataLoader(TabularDataset(cats[0], conts[0], (target - y_mean) / y_std), batch_size=64, shuffle=True, drop_last=True)
    val_dl = DataLoader(TabularDataset(cats[1], conts[1], df_val['sales']), batch_size=500)

    if fault == 'dropout_as_keep_prob':
        for m in model.layers:
            if isinstance(m, nn.Dropout):
                m.p = 0.9

    epochs = 16
    opt = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-5)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=8e-3, total_steps=epochs * len(train_dl))
    loss_fn = nn.MSELoss()
    for epoch in range(epochs):
        model.train()
        for xc, xn, y in train_dl:
            opt.zero_grad()
            loss = loss_fn(model(xc, xn), y)
            loss.backward()
            opt.step()
            sched.step()

    model.eval()
    preds = []
    with torch.no_grad():
        for xc, xn, _ in val_dl:
            preds.append((model(xc, xn) * y_std + y_mean).exp())
    return rmspe(torch.cat(preds), df_val['sales'])


if __name__ == '__main__':
    print(train(build()))
