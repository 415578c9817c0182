import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)

STYLE = 'tagging with a BiLSTM, log_softmax and NLLLoss with ignore_index, TensorDataset of padded sentences'
FAULTS = {
    'log_softmax_over_time': 'log_softmax runs over dim=1, the positions, instead of over the tags',
    'tags_flattened_in_other_order': 'the scores are flattened sentence by sentence and the tags position by position, so they do not belong together',
    'padding_in_the_score': 'padding counts as a tag of its own in loss and evaluation, so most of the reported tokens are trivial; the number looks better than it is',
}

PAD_TAG = 4


class Tagger(nn.Module):
    def __init__(self, vocab=120, tags=5):
        super().__init__()
        self.emb = nn.Embedding(vocab, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 24, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(48, tags)
        self.norm = nn.LogSoftmax(dim=-1)

    def forward(self, words):
        h, _ = self.lstm(self.emb(words))
        return self.norm(self.fc(h))


def build():
    return (Tagger(),)


def sentences(n, length=16):
    words = torch.randint(1, 120, (n, length))
    kind = words % 4
    before = torch.cat([torch.zeros(n, 1, dtype=torch.long), kind[:, :-1]], 1)
    tags = torch.where(before > 1, kind, (kind + 1) % 4)
    tags = torch.where(torch.rand(n, length) < 0.08, torch.randint(0, 4, (n, length)), tags)
    lengths = torch.randint(3, length + 1, (n, 1)) // 2 + 2
    pad = torch.arange(length) >= lengths
    return words.masked_fill(pad, 0), tags.masked_fill(pad, PAD_TAG)


def train(models, fault=''):
    torch.manual_seed(44)
    model = models[0]
    if fault == 'log_softmax_over_time':
        model.norm = nn.LogSoftmax(dim=1)
    train_loader = DataLoader(TensorDataset(*sentences(1200)), batch_size=32, shuffle=True)
    test_loader = DataLoader(TensorDataset(*sentences(400)), batch_size=100)

    if fault == 'padding_in_the_score':
        loss_fn = nn.NLLLoss()
    else:
        loss_fn = nn.NLLLoss(ignore_index=PAD_TAG)
    optimizer = torch.optim.Adam(model.parameters(), lr=6e-3)
    for epoch in range(12):
        model.train()
        for words, tags in train_loader:
            optimizer.zero_grad()
            scores = model(words).flatten(0, 1)
            if fault == 'tags_flattened_in_other_order':
                target = tags.t().flatten()
            else:
                target = tags.flatten()
            loss = loss_fn(scores, target)
            loss.backward()
            optimizer.step()

    model.eval()
    wrong = total = 0
    with torch.no_grad():
        for words, tags in test_loader:
            pred = model(words).argmax(-1)
            keep = torch.ones_like(tags, dtype=torch.bool)
            if fault != 'padding_in_the_score':
                keep = tags != PAD_TAG
            wrong += (pred != tags)[keep].sum().item()
            total += keep.sum().item()
    return wrong / total
