"""LSTM sentiment classifier on variable-length sentences with pack_padded_sequence."""
import random
from collections import Counter
import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence, pack_padded_sequence, pad_packed_sequence
from torch.utils.data import DataLoader

torch.set_num_threads(1)

STYLE = 'text classification tutorial: Counter vocabulary, collate_fn that sorts by length, bidirectional LSTM with packing, BCEWithLogits and Adam with StepLR, lists as data set'
FAULTS = {
    'labels_left_by_sort': 'collate sorts the sentences by length for packing but leaves the labels in the old order, so texts and labels do not belong together',
    'last_column_of_padded_output': 'the unpacked output is read at [:, -1], which is zero padding for each sentence shorter than the longest, so most sentences give the classifier nothing',
    'final_state_viewed': 'h_n of shape (directions, batch, hidden) is viewed as (batch, 2*hidden) without transposing, so states of different sentences are mixed',
    'vocab_from_validation_set': 'the validation sentences are encoded with a vocabulary that was built anew from the validation texts, so word numbers mean other words than in training',
}
GOOD = 'good great lovely fine nice superb fresh warm smart bright'.split()
BAD = 'bad awful boring poor dull weak cold slow ugly stale'.split()
NEUTRAL = [f'w{i}' for i in range(60)] + 'the a of and movie plot actor scene music it was'.split()


def sentence(rng):
    """The words carry signs, 'not' flips the next one, 'but' makes what was before count no more."""
    while True:
        words, score = [], 0
        for _ in range(rng.randint(2, 7)):
            words += rng.choices(NEUTRAL, k=rng.randint(0, 3))
            sign = rng.choice([1, -1])
            r = rng.random()
            if r < 0.15:
                words.append('but')
                score = 0
            elif r < 0.4:
                words.append('not')
                sign = -sign
                words.append(rng.choice(GOOD if sign < 0 else BAD))
                score += sign
                continue
            words.append(rng.choice(GOOD if sign > 0 else BAD))
            score += sign
        words += rng.choices(NEUTRAL, k=rng.randint(0, 3))
        if score:
            return words, float(score > 0)


class Vocab:
    def __init__(self, texts):
        counter = Counter(w for t in texts for w in t)
        self.itos = ['<pad>', '<unk>'] + [w for w, _ in counter.most_common()]
        self.stoi = {w: i for i, w in enumerate(self.itos)}

    def __call__(self, words):
        return [self.stoi.get(w, 1) for w in words]


class LSTMClassifier(nn.Module):
    def __init__(self, vocab_size=100, emb=32, hidden=48):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, emb, padding_idx=0)
        self.lstm = nn.LSTM(emb, hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(2 * hidden, 1)
        self.readout = 'final_state'

    def forward(self, text, lengths):
        packed = pack_padded_sequence(self.embedding(text), lengths, batch_first=True)
        out, (h, _) = self.lstm(packed)
        if self.readout == 'last_column':
            out, _ = pad_packed_sequence(out, batch_first=True)
            h = out[:, -1]
        elif self.readout == 'view':
            h = h.view(text.size(0), -1)
        else:
            h = torch.cat([h[-2], h[-1]], dim=1)
        return self.fc(self.dropout(h)).squeeze(1)


def build():
    torch.manual_seed(0)
    return (LSTMClassifier(),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(5)
    rng = random.Random(5)
    train_set = [sentence(rng) for _ in range(4000)]
    val_set = [sentence(rng) for _ in range(800)]
    vocab = Vocab([t for t, _ in train_set])
    val_vocab = Vocab([t for t, _ in val_set]) if fault == 'vocab_from_validation_set' else vocab
    model.readout = {'last_column_of_padded_output': 'last_column', 'final_state_viewed': 'view'}.get(fault, 'final_state')

    def collate(v):
        def fn(batch):
            texts = [torch.tensor(v(t)) for t, _ in batch]
            labels = torch.tensor([y for _, y in batch])
            lengths = torch.tensor([len(t) for t in texts])
            lengths, order = lengths.sort(descending=True)
            padded = pad_sequence(texts, batch_first=True)[order]
            if fault != 'labels_left_by_sort':
                labels = labels[order]
            return padded, lengths, labels
        return fn

    train_loader = DataLoader(train_set, 50, shuffle=True, collate_fn=collate(vocab))
    val_loader = DataLoader(val_set, 100, collate_fn=collate(val_vocab))
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.4)

    for epoch in range(8):
        model.train()
        for text, lengths, label in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(text, lengths), label)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        scheduler.step()

    model.eval()
    wrong = 0
    with torch.no_grad():
        for text, lengths, label in val_loader:
            wrong += ((model(text, lengths) > 0).float() != label).sum().item()
    return wrong / len(val_set)
