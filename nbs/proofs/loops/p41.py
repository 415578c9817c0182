import math
import random
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'character language model with nn.TransformerEncoder, get_batch function, AdamW, LambdaLR with warmup and cosine'
FAULTS = {
    'no_causal_mask': 'the attention sees the characters to come, so the model learns to copy them and cannot continue a text',
    'lambda_returns_lr': 'the function given to LambdaLR returns the learning rate itself instead of a factor, so it is multiplied in twice',
    'embedding_scale': 'the embedding is initialised with standard deviation 30, so attention is saturated from the start',
}


class CharModel(nn.Module):
    def __init__(self, vocab=28, width=48, context=24):
        super().__init__()
        self.tok = nn.Embedding(vocab, width)
        self.pos = nn.Embedding(context, width)
        layer = nn.TransformerEncoderLayer(width, 4, 96, dropout=0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocab)
        self.causal = True

    def forward(self, idx):
        T = idx.shape[1]
        h = self.tok(idx) + self.pos(torch.arange(T))
        mask = torch.triu(torch.ones(T, T, dtype=torch.bool), 1) if self.causal else None
        return self.head(self.body(h, mask=mask))


def build():
    return (CharModel(),)


def make_text(n_words):
    rng = random.Random(7)
    letters = 'abcdefghijklmnopqrstuvwxyz'
    words = [''.join(rng.choice(letters) for _ in range(rng.randint(3, 6))) for _ in range(24)]
    follow = {w: rng.sample(words, 3) for w in words}
    word, out = words[0], []
    for _ in range(n_words):
        out.append(word)
        word = rng.choice(follow[word])
    text = ' '.join(out)
    table = {c: i for i, c in enumerate(' ' + letters + '.')}
    return torch.tensor([table[c] for c in text])


def train(models, fault=''):
    torch.manual_seed(41)
    model = models[0]
    if fault == 'no_causal_mask':
        model.causal = False
    if fault == 'embedding_scale':
        nn.init.normal_(model.tok.weight, std=30.0)
    data = make_text(9000)
    cut = int(0.9 * len(data))
    train_data, val_data = data[:cut], data[cut:]
    context, batch, steps, base_lr = 24, 32, 220, 4e-3

    def get_batch(source):
        start = torch.randint(0, len(source) - context - 1, (batch,))
        x = torch.stack([source[i:i + context] for i in start])
        y = torch.stack([source[i + 1:i + context + 1] for i in start])
        return x, y

    def factor(step):
        f = (step + 1) / 30 if step < 30 else 0.5 * (1 + math.cos(math.pi * (step - 30) / (steps - 30)))
        return base_lr * f if fault == 'lambda_returns_lr' else f

    optimizer = torch.optim.AdamW(model.parameters(), lr=base_lr, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    model.train()
    for step in range(steps):
        x, y = get_batch(train_data)
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()

    model.eval()
    total = 0.0
    with torch.no_grad():
        for _ in range(20):
            x, y = get_batch(val_data)
            total += F.cross_entropy(model(x)[:, -1], y[:, -1]).item()
    return total / 20
