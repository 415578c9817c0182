"""Date normalisation ("tuesday 3 march 1998" -> "1998-3-3") with a GRU encoder-decoder and Bahdanau attention, character level."""
import random
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'PyTorch seq2seq tutorial: Encoder / BahdanauAttention / Decoder modules with one optimizer each, packed sources sorted by length in collate_fn, teacher forcing step by step, CrossEntropyLoss with ignore_index'
FAULTS = {
    'attention_softmax_over_batch': 'The attention softmax runs over dim 0, the batch, instead of over the source positions, so the weights depend on the other samples and do not select characters of the own source.',
    'targets_not_reordered': 'The collate function sorts the sources by length for packing but leaves the targets in the old order, so most training pairs join a source with the date of another one.',
    'decoder_input_not_shifted': 'Under teacher forcing the decoder gets the token it has to predict instead of the previous one, so it learns to copy its input and fails in free decoding.',
    'hidden_not_carried': 'The decoder loop throws away the new hidden state and starts every step from the encoder state, so the attention query is always the same and the decoder does not know where it is.',
}

PAD, SOS, EOS = 0, 1, 2
MONTHS = ['january', 'february', 'march', 'april', 'may', 'june', 'july', 'august', 'september', 'october', 'november', 'december']
DAYS = ['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday']


class Vocab:
    def __init__(self, chars):
        self.itos = ['<pad>', '<sos>', '<eos>'] + sorted(set(chars))
        self.stoi = {c: i for i, c in enumerate(self.itos)}

    def __len__(self):
        return len(self.itos)

    def encode(self, s):
        return torch.tensor([self.stoi[c] for c in s] + [EOS])

    def decode(self, ids):
        out = []
        for i in ids:
            if i == EOS:
                break
            out.append(self.itos[i] if i > EOS else '?')
        return ''.join(out)


SRC = Vocab('abcdefghijklmnopqrstuvwxyz0123456789 ,./')
TGT = Vocab('0123456789-')


def random_date(rng):
    y, m, d = rng.randint(1950, 2020), rng.randint(1, 12), rng.randint(1, 28)
    name = MONTHS[m - 1]
    src = rng.choice([
        f'{d} {name} {y}',
        f'{name} {d}, {y}',
        f'{name[:3]} {d} {y}',
        f'{d} {name[:3]} {y}',
        f'{rng.choice(DAYS)} {d} {name} {y}',
        f'{rng.choice(DAYS)}, {name} {d}, {y}',
        f'{d:02d}.{m:02d}.{y}',
        f'{m}/{d}/{y}',
    ])
    return src, f'{y}-{m}-{d}'


class Dates(Dataset):
    def __init__(self, n, seed):
        rng = random.Random(seed)
        self.pairs = [random_date(rng) for _ in range(n)]

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        s, t = self.pairs[i]
        return SRC.encode(s), TGT.encode(t)


def make_collate(fault=''):
    def collate(batch):
        src, tgt = zip(*batch)
        lengths = torch.tensor([len(s) for s in src])
        src = pad_sequence(src, batch_first=True, padding_value=PAD)
        tgt = pad_sequence(tgt, batch_first=True, padding_value=PAD)
        lengths, order = lengths.sort(descending=True)
        src = src[order]
        if fault != 'targets_not_reordered':
            tgt = tgt[order]
        return src, lengths, tgt
    return collate


class Encoder(nn.Module):
    def __init__(self, vocab, emb=32, hidden=64, dropout=0.1):
        super().__init__()
        self.embedding = nn.Embedding(vocab, emb, padding_idx=PAD)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(emb, hidden, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * hidden, hidden)

    def forward(self, src, lengths):
        x = self.dropout(self.embedding(src))
        packed = pack_padded_sequence(x, lengths, batch_first=True)
        outputs, h = self.gru(packed)
        outputs, _ = pad_packed_sequence(outputs, batch_first=True)
        hidden = torch.tanh(self.fc(torch.cat([h[0], h[1]], dim=1)))
        return outputs, hidden.unsqueeze(0)


class BahdanauAttention(nn.Module):
    def __init__(self, hidden, enc_size):
        super().__init__()
        self.Wa = nn.Linear(hidden, hidden)
        self.Ua = nn.Linear(enc_size, hidden)
        self.Va = nn.Linear(hidden, 1)
        self.softmax_dim = 1

    def forward(self, query, keys, mask):
        # query (B, 1, H), keys (B, S, E), mask (B, S)
        scores = self.Va(torch.tanh(self.Wa(query) + self.Ua(keys))).squeeze(2)
        scores = scores.masked_fill(~mask, -1e9)
        weights = F.softmax(scores, dim=self.softmax_dim)
        context = torch.bmm(weights.unsqueeze(1), keys)
        return context, weights


class Decoder(nn.Module):
    def __init__(self, vocab, emb=32, hidden=64, dropout=0.1):
        super().__init__()
        self.embedding = nn.Embedding(vocab, emb)
        self.dropout = nn.Dropout(dropout)
        self.attention = BahdanauAttention(hidden, 2 * hidden)
        self.gru = nn.GRU(emb + 2 * hidden, hidden, batch_first=True)
        self.out = nn.Linear(hidden, vocab)

    def forward_step(self, token, hidden, enc_outputs, mask):
        e = self.dropout(self.embedding(token)).unsqueeze(1)
        context, weights = self.attention(hidden.permute(1, 0, 2), enc_outputs, mask)
        output, hidden = self.gru(torch.cat([e, context], dim=2), hidden)
        return self.out(output.squeeze(1)), hidden, weights

    def forward(self, enc_outputs, hidden, mask, target=None, max_len=12, fault=''):
        token = torch.full((enc_outputs.size(0),), SOS, dtype=torch.long)
        steps = target.size(1) if target is not None else max_len
        logits = []
        for t in range(steps):
            if fault == 'decoder_input_not_shifted' and target is not None:
                token = target[:, t]
            if fault == 'hidden_not_carried':
                out, _, _ = self.forward_step(token, hidden, enc_outputs, mask)
            else:
                out, hidden, _ = self.forward_step(token, hidden, enc_outputs, mask)
            logits.append(out)
            if target is not None:
                token = target[:, t]                    # teacher forcing
            else:
                token = out.argmax(dim=-1).detach()     # own prediction
        return torch.stack(logits, dim=1)


def train_epoch(dataloader, encoder, decoder, encoder_optimizer, decoder_optimizer, criterion, fault):
    encoder.train()
    decoder.train()
    total_loss = 0
    for src, lengths, tgt in dataloader:
        encoder_optimizer.zero_grad()
        decoder_optimizer.zero_grad()
        enc_outputs, hidden = encoder(src, lengths)
        logits = decoder(enc_outputs, hidden, src != PAD, tgt, fault=fault)
        loss = criterion(logits.reshape(-1, logits.size(-1)), tgt.reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        encoder_optimizer.step()
        decoder_optimizer.step()
        total_loss += loss.item()
    return total_loss / len(dataloader)


def edit_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        prev, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            prev, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, prev + (x != y))
    return row[-1]


@torch.no_grad()
def evaluate(dataloader, encoder, decoder, fault):
    """Character error rate of greedy decoding."""
    encoder.eval()
    decoder.eval()
    wrong = chars = 0
    for src, lengths, tgt in dataloader:
        enc_outputs, hidden = encoder(src, lengths)
        ids = decoder(enc_outputs, hidden, src != PAD, fault=fault).argmax(-1)
        for p, t in zip(ids.tolist(), tgt.tolist()):
            p, t = TGT.decode(p), TGT.decode(t)
            wrong += edit_distance(p, t)
            chars += len(t)
    return wrong / chars


def build():
    torch.manual_seed(0)
    return Encoder(len(SRC)), Decoder(len(TGT))


def train(models, fault='', n_epochs=4):
    encoder, decoder = models
    torch.manual_seed(25)
    train_dl = DataLoader(Dates(5000, 1), batch_size=64, shuffle=True, collate_fn=make_collate(fault))
    val_dl = DataLoader(Dates(500, 2), batch_size=100, collate_fn=make_collate())

    if fault == 'attention_softmax_over_batch':
        decoder.attention.softmax_dim = 0

    encoder_optimizer = torch.optim.Adam(encoder.parameters(), lr=3e-3)
    decoder_optimizer = torch.optim.Adam(decoder.parameters(), lr=3e-3)
    criterion = nn.CrossEntropyLoss(ignore_index=PAD)
    for epoch in range(n_epochs):
        train_epoch(train_dl, encoder, decoder, encoder_optimizer, decoder_optimizer, criterion, fault)
    return evaluate(val_dl, encoder, decoder, fault)


if __name__ == '__main__':
    print(train(build()))
