"""A decoder-only character GPT after nanoGPT, on generated text."""
import math
import random
import torch
import torch.nn as nn
from torch.nn import functional as F
from dataclasses import dataclass

torch.set_num_threads(1)

STYLE = 'nanoGPT: dataclass config, get_batch by random offsets, hand-set learning rate per iteration with warmup and cosine, decay/no-decay AdamW groups'
FAULTS = {
    'targets_not_shifted': 'get_batch takes y at the same offset as x, so the model learns to copy its input and not to predict the next character',
    'causal_mask_missing': 'attention runs without is_causal, so in training each position sees the character it should predict, the loss looks great and real prediction from the past fails',
    'logits_viewed_not_transposed': 'cross_entropy gets logits.view(B, V, T) instead of a transpose or a flatten, so logits of places and classes are mixed up',
    'warmup_longer_than_run': 'warmup_iters=20000 is copied from a big configuration though the run has a few hundred steps, so the learning rate never leaves its first small values',
}


@dataclass
class GPTConfig:
    block_size: int = 48
    vocab_size: int = 32
    n_layer: int = 2
    n_head: int = 4
    n_embd: int = 64
    causal: bool = True


class CausalSelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=False)

    def forward(self, x):
        B, T, C = x.size()
        h = self.config.n_head
        q, k, v = self.c_attn(x).split(C, dim=2)
        q, k, v = (t.view(B, T, h, C // h).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.config.causal)
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = MLP(config)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.transformer = nn.ModuleDict(dict(
            wte=nn.Embedding(config.vocab_size, config.n_embd),
            wpe=nn.Embedding(config.block_size, config.n_embd),
            h=nn.ModuleList([Block(config) for _ in range(config.n_layer)]),
            ln_f=nn.LayerNorm(config.n_embd)))
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.transformer.wte.weight = self.lm_head.weight
        self.apply(self._init_weights)
        for pn, p in self.named_parameters():
            if pn.endswith('c_proj.weight'):
                nn.init.normal_(p, mean=0.0, std=0.02 / math.sqrt(2 * config.n_layer))

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)

    def forward(self, idx):
        b, t = idx.size()
        pos = torch.arange(0, t)
        x = self.transformer.wte(idx) + self.transformer.wpe(pos)
        for block in self.transformer.h:
            x = block(x)
        return self.lm_head(self.transformer.ln_f(x))


def make_text(n, seed):
    rng = random.Random(seed)
    names = ['anna', 'bob', 'carla', 'david', 'eva', 'frank']
    things = ['apple', 'lamp', 'book', 'train', 'garden', 'window', 'river', 'stone']
    verbs = ['sees', 'likes', 'paints', 'buys', 'finds']
    adj = ['old', 'green', 'small', 'broken', 'quiet']
    out = []
    while sum(map(len, out)) < n:
        who, what, how = rng.choice(names), rng.choice(things), rng.choice(adj)
        # the second clause repeats the thing, so that context is of use
        out.append(f'{who} {rng.choice(verbs)} the {how} {what}. the {what} is {how}.\n')
    return ''.join(out)[:n]


def build():
    torch.manual_seed(1337)
    return (GPT(GPTConfig()),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(1337)
    cfg = model.config
    if fault == 'causal_mask_missing':
        cfg.causal = False
    text = make_text(60000, 0)
    stoi = {c: i for i, c in enumerate(sorted(set(text)))}
    data = torch.tensor([stoi[c] for c in text])
    n = int(0.9 * len(data))
    train_data, val_data = data[:n], data[n:]

    max_iters, warmup_iters, batch_size = 350, 20, 24
    learning_rate, min_lr = 3e-3, 3e-4
    if fault == 'warmup_longer_than_run':
        warmup_iters = 20000

    def get_batch():
        shift = 0 if fault == 'targets_not_shifted' else 1
        ix = torch.randint(len(train_data) - cfg.block_size - 1, (batch_size,))
        x = torch.stack([train_data[i:i + cfg.block_size] for i in ix])
        y = torch.stack([train_data[i + shift:i + shift + cfg.block_size] for i in ix])
        return x, y

    def get_lr(it):
        if it < warmup_iters:
            return learning_rate * (it + 1) / (warmup_iters + 1)
        ratio = (it - warmup_iters) / (max_iters - warmup_iters)
        return min_lr + 0.5 * (1 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)

    params = list(model.parameters())
    optimizer = torch.optim.AdamW([
        {'params': [p for p in params if p.dim() >= 2], 'weight_decay': 0.1},
        {'params': [p for p in params if p.dim() < 2], 'weight_decay': 0.0}], lr=learning_rate, betas=(0.9, 0.95))

    model.train()
    for it in range(max_iters):
        for group in optimizer.param_groups:
            group['lr'] = get_lr(it)
        x, y = get_batch()
        logits = model(x)
        if fault == 'logits_viewed_not_transposed':
            loss = F.cross_entropy(logits.view(batch_size, cfg.vocab_size, cfg.block_size), y)
        else:
            loss = F.cross_entropy(logits.view(-1, cfg.vocab_size), y.view(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    # honest measure: how well the next, unseen character is predicted from the context before it
    model.eval()
    with torch.no_grad():
        windows = val_data.unfold(0, cfg.block_size + 1, 3)
        loss = sum(F.cross_entropy(model(w[:, :-1])[:, -1], w[:, -1], reduction='sum').item() for w in windows.split(256))
    return loss / len(windows)
