"""BiLSTM-CRF tagger for named entities on synthetic sentences of variable length."""
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import Dataset, DataLoader
from torch.nn.utils.rnn import pad_sequence, pack_padded_sequence, pad_packed_sequence

torch.set_num_threads(1)

STYLE = 'PyTorch BiLSTM-CRF tutorials (sgrvinod, pytorch-crf style): collate_fn that sorts by length, packed BiLSTM, CRF with forward algorithm and Viterbi, Adam + ReduceLROnPlateau-like decay, entity F1'
FAULTS = {
    'tags_not_reordered': 'The sentences of a batch are sorted by length for packing but the tags stay in the old order, so sentences and tags no longer belong together.',
    'packed_as_time_major': 'The padded (batch, time) embeddings go through an LSTM without batch_first, so it runs over the sentences of the batch and no word sees its neighbours.',
    'iob1_tags_in_training': 'The training tags are in the IOB1 scheme (B- only between adjacent entities of one type) while model and scoring use IOB2, so nearly all entities are learned without their B- tag.',
    'emissions_one_step_late': 'The gold score takes the transition from tag t to tag t+1 with the emission of step t instead of t+1, so emissions are rewarded for the tag of the word before.',
}

PAD, UNK = 0, 1
TAGS = ['O', 'B-PER', 'I-PER', 'B-LOC', 'I-LOC', 'B-ORG', 'I-ORG']
TAG2ID = {t: i for i, t in enumerate(TAGS)}


class Grammar:
    """Names are shared by the entity types; the words around them decide the type, names may have several words."""

    def __init__(self, rng):
        self.names = [f'name{i}' for i in range(220)]
        self.fill = [f'w{i}' for i in range(150)]
        self.cues = {k: ([f'{k}_pre{i}' for i in range(8)], [f'{k}_post{i}' for i in range(8)]) for k in ('PER', 'LOC', 'ORG')}
        self.lean = rng.integers(0, 3, len(self.names))

    def vocabulary(self):
        return self.names + self.fill + [w for pre, post in self.cues.values() for w in pre + post]

    def sentence(self, rng, new_name_rate=0.0):
        words, tags = [], []
        for _ in range(rng.integers(1, 5)):
            for _ in range(rng.integers(0, 5)):
                words.append(rng.choice(self.fill))
                tags.append('O')
            kind = ('PER', 'LOC', 'ORG')[rng.integers(3)]
            pre, post = self.cues[kind]
            where = rng.random()
            if where < 0.5:
                words.append(rng.choice(pre))
                tags.append('O')
            n = rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2])
            for j in range(n):
                name = self.names[rng.integers(len(self.names))]
                words.append('unseen' if rng.random() < new_name_rate else name)
                tags.append(('B-' if j == 0 else 'I-') + kind)
            if where >= 0.5:
                words.append(rng.choice(post))
                tags.append('O')
            if rng.random() < 0.2:
                words.append(self.names[rng.integers(len(self.names))])
                tags.append('O')
                words.append(rng.choice(self.fill))
                tags.append('O')
        return words, tags


class NERDataset(Dataset):
    def __init__(self, sentences, word2id):
        self.items = [(torch.tensor([word2id.get(w, UNK) for w in ws]), torch.tensor([TAG2ID[t] for t in ts])) for ws, ts in sentences]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def collate_fn(batch, reorder_tags=True):
    words, tags = [list(x) for x in zip(*batch)]
    order = sorted(range(len(words)), key=lambda i: -len(words[i]))
    lengths = torch.tensor([len(words[i]) for i in order])
    words = pad_sequence([words[i] for i in order], batch_first=True)
    tags = pad_sequence([tags[i] for i in order] if reorder_tags else tags, batch_first=True)
    mask = torch.arange(words.size(1))[None] < lengths[:, None]
    return words, tags, lengths, mask


class CRF(nn.Module):
    def __init__(self, num_tags):
        super().__init__()
        self.transitions = nn.Parameter(torch.empty(num_tags, num_tags).uniform_(-0.1, 0.1))
        self.start_transitions = nn.Parameter(torch.empty(num_tags).uniform_(-0.1, 0.1))
        self.end_transitions = nn.Parameter(torch.empty(num_tags).uniform_(-0.1, 0.1))

    def score(self, emissions, tags, mask, shifted=False):
        m = mask.float()
        e = emissions.gather(2, tags.unsqueeze(2)).squeeze(2)
        if shifted:
            e = torch.cat([e[:, :1], emissions[:, 1:].gather(2, tags[:, :-1].unsqueeze(2)).squeeze(2)], 1)
        t = self.transitions[tags[:, :-1], tags[:, 1:]]
        last = tags.gather(1, mask.sum(1, keepdim=True) - 1).squeeze(1)
        return self.start_transitions[tags[:, 0]] + (e * m).sum(1) + (t * m[:, 1:]).sum(1) + self.end_transitions[last]

    def partition(self, emissions, mask):
        alpha = self.start_transitions + emissions[:, 0]
        for t in range(1, emissions.size(1)):
            new = torch.logsumexp(alpha.unsqueeze(2) + self.transitions + emissions[:, t].unsqueeze(1), 1)
            alpha = torch.where(mask[:, t].unsqueeze(1), new, alpha)
        return torch.logsumexp(alpha + self.end_transitions, 1)

    @torch.no_grad()
    def decode(self, emissions, mask):
        score = self.start_transitions + emissions[:, 0]
        history = []
        for t in range(1, emissions.size(1)):
            best, idx = (score.unsqueeze(2) + self.transitions + emissions[:, t].unsqueeze(1)).max(1)
            score = torch.where(mask[:, t].unsqueeze(1), best, score)
            history.append(idx)
        score = score + self.end_transitions
        paths = []
        for b, length in enumerate(mask.sum(1).tolist()):
            tag = score[b].argmax().item()
            path = [tag]
            for idx in reversed(history[:length - 1]):
                tag = idx[b, tag].item()
                path.append(tag)
            paths.append(path[::-1])
        return paths


class BiLSTM_CRF(nn.Module):
    def __init__(self, vocab_size, num_tags=len(TAGS), emb=32, hidden=32, dropout=0.3, batch_first=True):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, emb, padding_idx=PAD)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(emb, hidden, bidirectional=True, batch_first=True)
        self.hidden2tag = nn.Linear(2 * hidden, num_tags)
        self.crf = CRF(num_tags)
        self.batch_first = batch_first

    def features(self, words, lengths):
        x = self.dropout(self.embedding(words))
        if self.batch_first:
            packed = pack_padded_sequence(x, lengths, batch_first=True)
            x, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        else:
            x = self.lstm(x)[0]
        return self.hidden2tag(self.dropout(x))

    def loss(self, words, tags, lengths, mask, fault=''):
        emissions = self.features(words, lengths)
        gold = self.crf.score(emissions, tags, mask, shifted=fault == 'emissions_one_step_late')
        norm = self.crf.partition(emissions, mask)
        return (norm - gold).mean()

    def forward(self, words, lengths, mask):
        return self.crf.decode(self.features(words, lengths), mask)


def get_entities(tags):
    entities, start = set(), None
    for i, t in enumerate(list(tags) + [0]):
        name = TAGS[t]
        if start is not None and (not name.startswith('I-') or name[2:] != kind):
            entities.add((start, i, kind))
            start = None
        if name.startswith('B-'):
            start, kind = i, name[2:]
    return entities


@torch.no_grad()
def evaluate(model, loader):
    """1 - entity F1."""
    model.eval()
    correct = n_pred = n_gold = 0
    for words, tags, lengths, mask in loader:
        for path, gold, n in zip(model(words, lengths, mask), tags, lengths):
            p, g = get_entities(path), get_entities(gold[:n].tolist())
            correct, n_pred, n_gold = correct + len(p & g), n_pred + len(p), n_gold + len(g)
    return 1 - 2 * correct / max(n_pred + n_gold, 1)


def to_iob1(tags):
    out = []
    for prev, t in zip(['O'] + tags, tags):
        out.append('I-' + t[2:] if t.startswith('B-') and prev[2:] != t[2:] else t)
    return out


def make_data(iob1=False):
    rng = np.random.default_rng(1)
    grammar = Grammar(rng)
    word2id = {w: i + 2 for i, w in enumerate(grammar.vocabulary())}
    train_sentences = [grammar.sentence(rng, 0.05) for _ in range(4000)]
    if iob1:
        train_sentences = [(words, to_iob1(tags)) for words, tags in train_sentences]
    train_set = NERDataset(train_sentences, word2id)
    test_set = NERDataset([grammar.sentence(rng, 0.2) for _ in range(500)], word2id)
    return train_set, test_set, len(word2id) + 2


def build():
    torch.manual_seed(37)
    return (BiLSTM_CRF(2 + 220 + 150 + 48),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(37)
    train_set, test_set, _ = make_data(fault == 'iob1_tags_in_training')
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True, collate_fn=lambda b: collate_fn(b, fault != 'tags_not_reordered'))
    test_loader = DataLoader(test_set, batch_size=100, collate_fn=collate_fn)
    model.lstm.batch_first = fault != 'packed_as_time_major'
    model.batch_first = model.lstm.batch_first

    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.88)
    for epoch in range(14):
        model.train()
        for words, tags, lengths, mask in train_loader:
            optimizer.zero_grad()
            loss = model.loss(words, tags, lengths, mask, fault)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        scheduler.step()

    return evaluate(model, test_loader)


if __name__ == '__main__':
    print(train(build()))
