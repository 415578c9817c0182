"""Extractive question answering on synthetic passages of facts: BiLSTM reader with question attention and span pointers."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

torch.set_num_threads(1)

STYLE = 'DrQA / BiDAF PyTorch re-implementations: batchify with padding masks, aligned question attention, packed BiLSTMs, self-attended question vector, bilinear start and end pointers, AdamW with linear warm-up and decay, exact match after a search over spans'
FAULTS = {
    'end_label_exclusive': 'The end label is start + length as in Python slices while the decoding takes the end as the last word of the answer, so each predicted answer is one word too long.',
    'questions_not_sorted_along': 'The batch is sorted by the length of the passages for packing, and the answers with it, but the questions stay in the old order, so the passages are read with the questions of others.',
    'question_mask_inverted': 'The mask of the question marks the words instead of the padding, so in training attention and question summary look at the padding only and the reader never sees the question.',
    'end_loss_on_start_logits': 'The loss for the end is computed from the start logits (copied line), so the end pointer is never trained and the start pointer is pulled to both ends of the span.',
    'total_steps_in_epochs': 'The schedule is given the number of epochs as its number of training steps while scheduler.step() is called for each batch, so the rate has decayed to zero after seven batches.',
}

SEED = 54
NUM_ENT, NUM_REL, NUM_VAL = 30, 8, 8
PAD, THE, OF, IS, DOT, HAS, WHAT, WHICH, QMARK, AND = range(10)
ENT0 = 10
REL0, VAL0 = ENT0 + NUM_ENT, ENT0 + NUM_ENT + NUM_REL
VOCAB = VAL0 + NUM_VAL


def make_examples(n, rng):
    """Passages of three to seven facts about two or three things; dicts with passage, question, start, end (last word)."""
    examples = []
    for _ in range(n):
        entities, relations = rng.choice(NUM_ENT, 3, replace=False), rng.choice(NUM_REL, 3, replace=False)
        pairs = [(e, r) for e in entities for r in relations]
        facts = [pairs[i] for i in rng.permutation(len(pairs))[:rng.integers(3, 8)]]
        asked = rng.integers(0, len(facts))
        passage = []
        for k, (e, r) in enumerate(facts):
            value = list(VAL0 + rng.integers(0, NUM_VAL, rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15])))
            head = [THE, REL0 + r, OF, ENT0 + e, IS] if rng.random() < 0.5 else [ENT0 + e, HAS, REL0 + r]
            if k == asked:
                start = len(passage) + len(head)
                end = start + len(value) - 1
            passage += head + value + [DOT]
        e, r = facts[asked]
        question = [[WHAT, IS, THE, REL0 + r, OF, ENT0 + e, QMARK], [WHICH, REL0 + r, HAS, ENT0 + e, QMARK]][rng.integers(0, 2)]
        examples.append({'passage': passage, 'question': question, 'start': start, 'end': end})
    return examples


def answer_span(example, fault=''):
    start, end = example['start'], example['end']
    if fault == 'end_label_exclusive':
        end = end + 1
    return start, end


def batchify(batch, fault=''):
    """Ids and masks (True on padding) of passages and questions, start and end."""
    def padded(sequences):
        ids = torch.zeros(len(sequences), max(map(len, sequences)), dtype=torch.long)
        mask = torch.ones_like(ids, dtype=torch.bool)
        for i, seq in enumerate(sequences):
            ids[i, :len(seq)] = torch.tensor(seq)
            mask[i, :len(seq)] = False
        return ids, mask
    by_length = sorted(batch, key=lambda ex: -len(ex['passage']))
    questions = [ex['question'] for ex in (batch if fault == 'questions_not_sorted_along' else by_length)]
    batch = by_length
    (x1, x1_mask), (x2, x2_mask) = padded([ex['passage'] for ex in batch]), padded(questions)
    if fault == 'question_mask_inverted':
        x2_mask = ~x2_mask
    spans = torch.tensor([answer_span(ex, fault) for ex in batch])
    return x1, x1_mask, x2, x2_mask, spans[:, 0], spans[:, 1]


class BiLSTM(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.rnn = nn.LSTM(input_size, hidden_size, batch_first=True, bidirectional=True)

    def forward(self, x, ids):
        lengths = (ids != PAD).sum(1)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.size(1))[0]


class SeqAttnMatch(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.linear = nn.Linear(size, size)

    def forward(self, x, y, y_mask):
        scores = F.relu(self.linear(x)) @ F.relu(self.linear(y)).transpose(1, 2)
        alpha = F.softmax(scores.masked_fill(y_mask[:, None], -1e9), -1)
        return alpha @ y


class Reader(nn.Module):
    def __init__(self, vocab=VOCAB, emb=48, hidden=40, dropout=0.1):
        super().__init__()
        self.embedding = nn.Embedding(vocab, emb, padding_idx=PAD)
        self.drop = nn.Dropout(dropout)
        self.qemb_match = SeqAttnMatch(emb)
        self.doc_rnn = BiLSTM(3 * emb, hidden)
        self.question_rnn = BiLSTM(emb, hidden)
        self.self_attn = nn.Linear(2 * hidden, 1)
        self.start_attn = nn.Linear(2 * hidden, 2 * hidden)
        self.end_attn = nn.Linear(2 * hidden, 2 * hidden)

    def forward(self, x1, x1_mask, x2, x2_mask):
        x1_emb, x2_emb = self.drop(self.embedding(x1)), self.drop(self.embedding(x2))
        aligned = self.qemb_match(x1_emb, x2_emb, x2_mask)
        doc = self.drop(self.doc_rnn(torch.cat([x1_emb, aligned, x1_emb * aligned], -1), x1))
        question = self.question_rnn(x2_emb, x2)
        weights = F.softmax(self.self_attn(question).squeeze(-1).masked_fill(x2_mask, -1e9), -1)
        question = self.drop((weights[:, None] @ question).squeeze(1))
        start = (doc @ self.start_attn(question)[:, :, None]).squeeze(-1)
        end = (doc @ self.end_attn(question)[:, :, None]).squeeze(-1)
        return start.masked_fill(x1_mask, -1e9), end.masked_fill(x1_mask, -1e9)


@torch.no_grad()
def exact_match(model, examples, max_len=5):
    """Share of questions whose predicted words are exactly the answer."""
    model.eval()
    hits = 0
    for k in range(0, len(examples), 100):
        batch = sorted(examples[k:k + 100], key=lambda ex: -len(ex['passage']))
        start, end = model(*batchify(batch)[:4])
        scores = F.log_softmax(start, -1)[:, :, None] + F.log_softmax(end, -1)[:, None]
        allowed = torch.ones_like(scores[0], dtype=torch.bool).triu().tril(max_len - 1)
        best = scores.masked_fill(~allowed, -1e30).flatten(1).argmax(1)
        for ex, i in zip(batch, best.tolist()):
            s, e = divmod(i, scores.size(2))
            hits += ex['passage'][s:e + 1] == ex['passage'][ex['start']:ex['end'] + 1]
    return hits / len(examples)


def build():
    torch.manual_seed(SEED)
    return (Reader(),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    train_examples, test_examples = make_examples(2500, rng), make_examples(600, rng)
    epochs, batch_size = 7, 32
    steps_per_epoch = (len(train_examples) + batch_size - 1) // batch_size
    total_steps = epochs if fault == 'total_steps_in_epochs' else epochs * steps_per_epoch
    warmup_steps = total_steps // 10
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / warmup_steps if step < warmup_steps else max(0.0, (total_steps - step) / (total_steps - warmup_steps)))

    for epoch in range(epochs):
        model.train()
        order = rng.permutation(len(train_examples))
        for k in range(0, len(order), batch_size):
            x1, x1_mask, x2, x2_mask, start, end = batchify([train_examples[i] for i in order[k:k + batch_size]], fault)
            start_logits, end_logits = model(x1, x1_mask, x2, x2_mask)
            if fault == 'end_loss_on_start_logits':
                loss = F.cross_entropy(start_logits, start) + F.cross_entropy(start_logits, end)
            else:
                loss = F.cross_entropy(start_logits, start) + F.cross_entropy(end_logits, end)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            scheduler.step()

    return exact_match(model, test_examples)


if __name__ == '__main__':
    print(train(build()))
