"""A small transformer learns to summarise: it lists the marked items of a source in order, each with its code word."""
import math
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader

torch.set_num_threads(1)

STYLE = 'annotated-transformer / nn.Transformer sequence-to-sequence tutorials: nn.Transformer with batch_first, padding and causal masks, collate function with pad_sequence, label smoothing, Adam with the Noam schedule, greedy decoding up to the end token'
FAULTS = {
    'no_causal_mask': 'The target mask is not handed to the transformer in training, so each position sees the word it has to predict; the loss is very small and greedy decoding fails.',
    'end_token_is_the_pad': 'The targets are padded with the end token and the loss ignores that index, so no end is ever learned and the summaries run on.',
    'warmup_longer_than_training': 'The Noam schedule keeps its 4000 warm-up steps though the training has a few hundred, so the learning rate stays a small part of its peak.',
    'smoothing_for_confidence': 'label_smoothing is 0.95, the confidence, where 0.05 was meant, so the right word gets hardly more of the target than any other.',
    'only_the_last_word_fed': 'Greedy decoding feeds only the newest word instead of all the words so far, though there is no cache, so the decoder always works at position 0.',
}
BETTER = 'higher'

SEED = 67
PAD, BOS, EOS, MARK = 0, 1, 2, 3
ITEMS = list(range(4, 28))
VOCAB = 52
CODES = {item: 28 + (item * 7) % 24 for item in ITEMS}
MAX_OUT = 11


def make_pair(rng):
    """Filler and marked items; the summary holds each marked item and its code word, in the order of the source."""
    n_marked, n_filler = rng.integers(1, 5), rng.integers(3, 9)
    items = rng.choice(ITEMS, n_marked + n_filler, replace=False)
    marked = set(rng.choice(len(items), n_marked, replace=False).tolist())
    source, summary = [], []
    for i, item in enumerate(items.tolist()):
        if i in marked:
            source += [MARK, item]
            summary += [item, CODES[item]]
        else:
            source.append(item)
    return source, summary


def make_collate(fault=''):
    tgt_pad = EOS if fault == 'end_token_is_the_pad' else PAD

    def collate(batch):
        src = [torch.tensor(s) for s, _ in batch]
        tgt = [torch.tensor([BOS, *t, EOS]) for _, t in batch]
        return (nn.utils.rnn.pad_sequence(src, batch_first=True, padding_value=PAD),
                nn.utils.rnn.pad_sequence(tgt, batch_first=True, padding_value=tgt_pad))
    return collate


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, dropout=0.05, max_len=64):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        pos = torch.arange(max_len).unsqueeze(1)
        div = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, d_model)
        pe[:, 0::2], pe[:, 1::2] = torch.sin(pos * div), torch.cos(pos * div)
        self.register_buffer('pe', pe[None])

    def forward(self, x):
        return self.dropout(x + self.pe[:, :x.shape[1]])


class Seq2SeqTransformer(nn.Module):
    def __init__(self, d_model=64, heads=4, layers=2, ff=128):
        super().__init__()
        self.d_model = d_model
        self.embed = nn.Embedding(VOCAB, d_model, padding_idx=PAD)
        nn.init.normal_(self.embed.weight, 0, d_model ** -0.5)
        self.positional = PositionalEncoding(d_model)
        self.transformer = nn.Transformer(d_model, heads, layers, layers, ff, dropout=0.05, batch_first=True, norm_first=True)
        self.generator = nn.Linear(d_model, VOCAB)

    def prepare(self, tokens):
        return self.positional(self.embed(tokens) * math.sqrt(self.d_model))

    def forward(self, src, tgt, tgt_mask, src_padding, tgt_padding):
        out = self.transformer(self.prepare(src), self.prepare(tgt), tgt_mask=tgt_mask, src_key_padding_mask=src_padding,
                               tgt_key_padding_mask=tgt_padding, memory_key_padding_mask=src_padding)
        return self.generator(out)

    def encode(self, src, src_padding):
        return self.transformer.encoder(self.prepare(src), src_key_padding_mask=src_padding)

    def decode(self, tgt, memory, tgt_mask, src_padding):
        out = self.transformer.decoder(self.prepare(tgt), memory, tgt_mask=tgt_mask, memory_key_padding_mask=src_padding)
        return self.generator(out)


def causal_mask(n):
    return torch.triu(torch.ones(n, n, dtype=torch.bool), 1)


def noam(d_model, warmup, factor=1.0):
    return lambda step: factor * d_model ** -0.5 * min((step + 1) ** -0.5, (step + 1) * warmup ** -1.5)


@torch.no_grad()
def greedy_decode(model, src, fault=''):
    src_padding = src == PAD
    memory = model.encode(src, src_padding)
    ys = torch.full((len(src), 1), BOS)
    done = torch.zeros(len(src), dtype=torch.bool)
    for _ in range(MAX_OUT):
        seen = ys[:, -1:] if fault == 'only_the_last_word_fed' else ys
        logits = model.decode(seen, memory, causal_mask(seen.shape[1]), src_padding)
        word = logits[:, -1].argmax(-1).masked_fill(done, PAD)
        ys = torch.cat([ys, word[:, None]], 1)
        done |= word == EOS
        if done.all():
            break
    return ys[:, 1:]


@torch.no_grad()
def validate(model, pairs, collate, fault=''):
    """Share of the summaries that match the reference exactly, end token included."""
    model.eval()
    right = 0
    for i in range(0, len(pairs), 100):
        chunk = pairs[i:i + 100]
        src, _ = collate(chunk)
        for said, (_, ref) in zip(greedy_decode(model, src, fault).tolist(), chunk):
            said = said[:said.index(EOS)] if EOS in said else said + [None]
            right += said == ref
    return right / len(pairs)


def build(seed=SEED):
    torch.manual_seed(seed)
    return (Seq2SeqTransformer(),)


def train(models, fault='', seed=SEED):
    model, = models
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    train_pairs, val_pairs = [make_pair(rng) for _ in range(5200)], [make_pair(rng) for _ in range(300)]
    collate = make_collate(fault)
    loader = DataLoader(train_pairs, batch_size=64, shuffle=True, drop_last=True, collate_fn=collate)

    smoothing = 0.95 if fault == 'smoothing_for_confidence' else 0.05
    ignore = EOS if fault == 'end_token_is_the_pad' else PAD
    criterion = nn.CrossEntropyLoss(ignore_index=ignore, label_smoothing=smoothing)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    warmup = 4000 if fault == 'warmup_longer_than_training' else 150
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, noam(model.d_model, warmup, 0.4))
    for epoch in range(6):
        model.train()
        for src, tgt in loader:
            tgt_in, tgt_out = tgt[:, :-1], tgt[:, 1:]
            tgt_mask = None if fault == 'no_causal_mask' else causal_mask(tgt_in.shape[1])
            logits = model(src, tgt_in, tgt_mask, src == PAD, tgt_in == PAD)
            loss = criterion(logits.reshape(-1, VOCAB), tgt_out.reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        exact = validate(model, val_pairs, collate, fault)
    return exact


if __name__ == '__main__':
    for name in ('', *FAULTS):
        print(f'{name or "healthy":32s} {train(build(), name):.4f}')
