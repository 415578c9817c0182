"""CRNN + CTC: reads digit strings written as strips of varying width."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'CRNN repository: conv feature extractor over the width, bidirectional GRU, nn.CTCLoss with padded targets, Trainer class with fit/evaluate, Adam with MultiStepLR'
FAULTS = {
    'digits_share_the_blank': 'the digit classes are numbered from 0 while the CTC blank is 0 as well, so the digit zero cannot be told from the blank and is never read',
    'viewed_to_time_first': 'the (batch, time, class) output is brought to (time, batch, class) with view instead of permute, so frames of different strips are strung together',
    'target_lengths_of_padding': 'the target lengths are the padded width for every sample, so the zeros of the padding count as labels and are trained as output',
    'width_pooled_away_zero_infinity': 'a second width pooling leaves fewer frames than the longer labels need; zero_infinity hides the infinite losses and only the short labels are learned',
}
HEIGHT, GLYPH_W = 12, 6


class CRNN(nn.Module):
    def __init__(self, n_class=11, hidden=48):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d((2, 2)),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d((2, 1)))
        self.extra_pool = 1
        self.rnn = nn.GRU(32 * HEIGHT // 4, hidden, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(2 * hidden, n_class)

    @property
    def reduction(self):
        return 2 * self.extra_pool

    def forward(self, x):
        f = self.cnn(x)
        f = F.max_pool2d(f, (1, self.extra_pool))
        b, c, h, w = f.shape
        f = f.permute(0, 3, 1, 2).reshape(b, w, c * h)
        out, _ = self.rnn(f)
        return self.fc(out)                       # (batch, time, class)


def build():
    torch.manual_seed(0)
    return (CRNN(),)


def make_strips(n, seed):
    shapes = (torch.rand(10, HEIGHT - 4, GLYPH_W, generator=torch.Generator().manual_seed(99)) > 0.5).float()
    g = torch.Generator().manual_seed(seed)
    rnd = lambda lo, hi: int(torch.randint(lo, hi, (1,), generator=g))
    images, labels = [], []
    for _ in range(n):
        digits = torch.randint(10, (rnd(3, 8),), generator=g)
        parts = [torch.zeros(HEIGHT, rnd(1, 3))]
        for d in digits:
            glyph = torch.zeros(HEIGHT, rnd(5, 8))
            top = rnd(0, 5)
            glyph[top:top + HEIGHT - 4] = F.interpolate(shapes[d][None, None], size=(HEIGHT - 4, glyph.size(1)))[0, 0]
            parts += [glyph, torch.zeros(HEIGHT, rnd(0, 2))]
        img = torch.cat(parts, dim=1)
        images.append(img + 0.2 * torch.randn(img.shape, generator=g))
        labels.append(digits)
    return images, labels


class Trainer:
    def __init__(self, model, fault, epochs=9, batch_size=50):
        self.model, self.fault, self.epochs, self.batch_size = model, fault, epochs, batch_size
        self.first = 0 if fault == 'digits_share_the_blank' else 1     # class of the digit 0
        if fault == 'width_pooled_away_zero_infinity':
            model.extra_pool = 4
        self.train_data, self.val_data = make_strips(1500, 1), make_strips(300, 2)
        self.ctc = nn.CTCLoss(blank=0, zero_infinity=True)
        self.opt = torch.optim.Adam(model.parameters(), lr=4e-3)
        self.sched = torch.optim.lr_scheduler.MultiStepLR(self.opt, [6, 8], gamma=0.3)

    def collate(self, images, labels):
        w = max(i.size(1) for i in images)
        w += -w % 8
        x = torch.stack([F.pad(i, (0, w - i.size(1))) for i in images]).unsqueeze(1)
        in_len = torch.tensor([i.size(1) // self.model.reduction for i in images])
        y = torch.zeros(len(labels), max(map(len, labels)), dtype=torch.long)
        for row, l in zip(y, labels):
            row[:len(l)] = l + self.first
        y_len = torch.tensor([len(l) for l in labels])
        if self.fault == 'target_lengths_of_padding':
            y_len = torch.full((len(labels),), y.size(1))
        return x, in_len, y, y_len

    def time_first(self, out):
        b, t, c = out.shape
        return out.view(t, b, c) if self.fault == 'viewed_to_time_first' else out.permute(1, 0, 2)

    def batches(self, data, order):
        for ix in order.split(self.batch_size):
            yield self.collate([data[0][i] for i in ix], [data[1][i] for i in ix])

    def fit(self):
        for _ in range(self.epochs):
            self.model.train()
            for x, in_len, y, y_len in self.batches(self.train_data, torch.randperm(len(self.train_data[0]))):
                log_probs = self.time_first(self.model(x)).log_softmax(-1)
                loss = self.ctc(log_probs, y, in_len, y_len)
                self.opt.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), 5)
                self.opt.step()
            self.sched.step()

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        edits = total = 0
        refs = iter(self.val_data[1])
        for x, in_len, _, _ in self.batches(self.val_data, torch.arange(len(self.val_data[0]))):
            best = self.time_first(self.model(x)).argmax(-1).T
            for path, n in zip(best, in_len):
                path = torch.unique_consecutive(path[:n])
                hyp = (path[path != 0] - self.first).tolist()
                ref = next(refs).tolist()
                edits += levenshtein(hyp, ref)
                total += len(ref)
        return edits / total


def levenshtein(a, b):
    d = list(range(len(b) + 1))
    for i in range(1, len(a) + 1):
        diag, d[0] = d[0], i
        for j in range(1, len(b) + 1):
            diag, d[j] = d[j], min(d[j] + 1, d[j - 1] + 1, diag + (a[i - 1] != b[j - 1]))
    return d[-1]


def train(models, fault=''):
    torch.manual_seed(11)
    trainer = Trainer(models[0], fault)
    trainer.fit()
    return float(trainer.evaluate())
