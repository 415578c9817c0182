"""Seq2seq transformer (nn.Transformer) that translates a toy language, after the PyTorch tutorial."""
import math
import random
import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

torch.set_num_threads(1)

STYLE = 'PyTorch translation tutorial: Seq2SeqTransformer around nn.Transformer, create_mask helper, collate with pad_sequence, length buckets, Noam-like LambdaLR, greedy decoding'
FAULTS = {
    'decoder_input_not_shifted': 'the decoder gets tgt[:, 1:], the very sequence it must output, so it copies its input and greedy decoding from BOS fails',
    'padding_mask_inverted': 'the key padding masks are made with != PAD, so attention ignores all the words and sees the padding only',
    'only_source_sorted': 'the source sentences are sorted by length for the buckets but the target sentences stay in the old order, so the pairs do not belong together',
    'ignore_index_eos': 'the loss ignores EOS instead of PAD, so the model never learns to end a sentence and decodes rubbish after the last word',
}
PAD, BOS, EOS = 0, 1, 2
N_SRC, N_TGT, MAXLEN = 40, 44, 12


def make_pairs(n, seed):
    """nouns (3..22) map to one word; adjectives (23..39) go behind their noun; the rest keeps its order."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(n):
        src, tgt, last = [], [], None
        for _ in range(rng.randint(1, 4)):
            noun = rng.randint(3, 22)
            adjs = [rng.randint(23, 39)] if rng.random() < 0.5 else []
            src += adjs + [noun]
            tgt += [25 - noun] + [a + 2 for a in adjs]
        pairs.append((torch.tensor(src + [EOS]), torch.tensor([BOS] + tgt + [EOS])))
    return pairs


class PositionalEncoding(nn.Module):
    def __init__(self, emb_size, maxlen=64):
        super().__init__()
        den = torch.exp(-torch.arange(0, emb_size, 2) * math.log(10000) / emb_size)
        pos = torch.arange(0, maxlen).reshape(maxlen, 1)
        table = torch.zeros((maxlen, emb_size))
        table[:, 0::2] = torch.sin(pos * den)
        table[:, 1::2] = torch.cos(pos * den)
        self.register_buffer('table', table)

    def forward(self, x):
        return x + self.table[:x.size(1)]


class Seq2SeqTransformer(nn.Module):
    def __init__(self, emb_size=64, nhead=4, layers=2):
        super().__init__()
        self.emb_size = emb_size
        self.transformer = nn.Transformer(emb_size, nhead, layers, layers, 128, dropout=0.0, batch_first=True)
        self.generator = nn.Linear(emb_size, N_TGT)
        self.src_emb = nn.Embedding(N_SRC, emb_size)
        self.tgt_emb = nn.Embedding(N_TGT, emb_size)
        for emb in (self.src_emb, self.tgt_emb):
            nn.init.normal_(emb.weight, std=emb_size ** -0.5)
        self.positional = PositionalEncoding(emb_size)

    def embed(self, table, tokens):
        return self.positional(table(tokens) * math.sqrt(self.emb_size))

    def forward(self, src, tgt, tgt_mask, src_pad, tgt_pad):
        out = self.transformer(self.embed(self.src_emb, src), self.embed(self.tgt_emb, tgt), None, tgt_mask, None,
                               src_pad, tgt_pad, src_pad)
        return self.generator(out)


def build():
    torch.manual_seed(0)
    return (Seq2SeqTransformer(),)


def create_mask(src, tgt, fault):
    L = tgt.size(1)
    tgt_mask = torch.triu(torch.full((L, L), -1e9), diagonal=1)
    if fault == 'padding_mask_inverted':
        src_pad, tgt_pad = src != PAD, tgt != PAD
    else:
        src_pad, tgt_pad = src == PAD, tgt == PAD
    # additive masks, so that all masks are of one type
    return tgt_mask, src_pad.float() * -1e9, tgt_pad.float() * -1e9


def edit_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        prev, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            prev, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, prev + (x != y))
    return row[-1]


@torch.no_grad()
def evaluate(model, pairs, fault):
    model.eval()
    src = pad_sequence([s for s, _ in pairs], batch_first=True, padding_value=PAD)
    ys = torch.full((len(pairs), 1), BOS)
    for _ in range(MAXLEN):
        logits = model(src, ys, *create_mask(src, ys, fault))
        ys = torch.cat([ys, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    errors = words = 0
    for (_, tgt), hyp in zip(pairs, ys[:, 1:].tolist()):
        hyp = hyp[:hyp.index(EOS)] if EOS in hyp else hyp
        ref = tgt[1:-1].tolist()
        errors += edit_distance(hyp, ref)
        words += len(ref)
    return errors / words


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(3)
    pairs, val_pairs = make_pairs(3000, 1), make_pairs(200, 2)
    src_data, tgt_data = [s for s, _ in pairs], [t for _, t in pairs]
    order = sorted(range(len(pairs)), key=lambda i: len(src_data[i]))
    src_data = [src_data[i] for i in order]
    if fault != 'only_source_sorted':
        tgt_data = [tgt_data[i] for i in order]

    batch_size, epochs = 60, 12
    buckets = [(i, i + batch_size) for i in range(0, len(pairs), batch_size)]
    loss_fn = nn.CrossEntropyLoss(ignore_index=EOS if fault == 'ignore_index_eos' else PAD)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.98), eps=1e-9)
    warmup = 60
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min((s + 1) / warmup, (warmup / (s + 1)) ** 0.5))
    for epoch in range(epochs):
        model.train()
        for b in torch.randperm(len(buckets)).tolist():
            lo, hi = buckets[b]
            src = pad_sequence(src_data[lo:hi], batch_first=True, padding_value=PAD)
            tgt = pad_sequence(tgt_data[lo:hi], batch_first=True, padding_value=PAD)
            tgt_out = tgt[:, 1:]
            tgt_input = tgt_out if fault == 'decoder_input_not_shifted' else tgt[:, :-1]
            logits = model(src, tgt_input, *create_mask(src, tgt_input, fault))
            optimizer.zero_grad()
            loss = loss_fn(logits.reshape(-1, logits.shape[-1]), tgt_out.reshape(-1))
            loss.backward()
            optimizer.step()
            scheduler.step()
    return evaluate(model, val_pairs, fault)
