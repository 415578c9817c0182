"""LSTM language model with truncated back-propagation through time, tied weights and gradient clipping on synthetic text."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'pytorch/examples word_language_model (and AWD-LSTM): Corpus, batchify, get_batch, repackage_hidden, RNNModel with tied weights, plain SGD with clipping, learning rate divided by four when validation does not improve'
FAULTS = {
    'batchify_without_transpose': 'batchify views the text as (rows, bsz) directly instead of (bsz, rows) transposed, so each column steps through every bsz-th word and the model never sees neighbouring words.',
    'targets_flattened_other_way': 'get_batch flattens the targets column by column although the outputs are flattened row by row, so most predictions are scored with the word of another column and another time.',
    'annealed_on_improvement': 'The comparison with the best validation loss is reversed: the learning rate is divided by four after every epoch that improves, so training all but stops after a few epochs.',
    'target_is_the_input': 'The target of each step is the word that is the input of the same step instead of the next word, so the training loss falls to nearly zero while nothing about the next word is learned.',
}

SEED = 48


class Corpus:
    """Sentences of a small random grammar; a topic word at the start of a paragraph decides which nouns follow."""

    def __init__(self, n_train, n_valid, rng):
        self.ntoken = 120
        self.topics, self.nouns, self.verbs = range(2, 10), range(10, 74), range(74, 98)
        self.adjectives, self.function = range(98, 114), range(114, 120)
        self.verb_of = rng.integers(74, 98, (64, 3))
        self.adj_of = rng.integers(98, 114, (64, 3))
        self.train, self.valid, self.test = (self.tokenize(n, rng) for n in (n_train, n_valid, n_valid))

    def tokenize(self, n, rng):
        ids = []
        while len(ids) < n:
            topic = rng.integers(0, 8)
            ids += [2 + topic, 1]
            for _ in range(rng.integers(4, 9)):
                subject, obj = topic * 8 + rng.integers(0, 8, 2)
                ids.append(114 + rng.integers(0, 2))
                if rng.random() < 0.6:
                    adjective = self.adj_of[subject, rng.integers(0, 3)]
                    ids.append(adjective)
                ids += [10 + subject, self.verb_of[subject, rng.integers(0, 3)]]
                if rng.random() < 0.5:
                    ids.append(116 + topic % 2)
                ids += [118 + subject % 2, 10 + obj, 1]
        return torch.tensor(ids[:n])


def batchify(data, bsz, fault=''):
    nbatch = data.size(0) // bsz
    data = data.narrow(0, 0, nbatch * bsz)
    if fault == 'batchify_without_transpose':
        return data.view(-1, bsz).contiguous()
    return data.view(bsz, -1).t().contiguous()


def get_batch(source, i, bptt, fault=''):
    seq_len = min(bptt, len(source) - 1 - i)
    data = source[i:i + seq_len]
    target = source[i + 1:i + 1 + seq_len]
    if fault == 'target_is_the_input':
        target = source[i:i + seq_len]
    if fault == 'targets_flattened_other_way':
        return data, target.t().reshape(-1)
    return data, target.reshape(-1)


def repackage_hidden(h):
    if isinstance(h, torch.Tensor):
        return h.detach()
    return tuple(repackage_hidden(v) for v in h)


class RNNModel(nn.Module):
    def __init__(self, ntoken, ninp, nhid, nlayers, dropout=0.2, tie_weights=True):
        super().__init__()
        self.ntoken, self.nhid, self.nlayers = ntoken, nhid, nlayers
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(ntoken, ninp)
        self.rnn = nn.LSTM(ninp, nhid, nlayers, dropout=dropout)
        self.decoder = nn.Linear(nhid, ntoken)
        if tie_weights:
            if nhid != ninp:
                raise ValueError('When using the tied flag, nhid must be equal to emsize')
            self.decoder.weight = self.encoder.weight
        self.init_weights()

    def init_weights(self):
        initrange = 0.1
        nn.init.uniform_(self.encoder.weight, -initrange, initrange)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, input, hidden):
        emb = self.drop(self.encoder(input))
        output, hidden = self.rnn(emb, hidden)
        decoded = self.decoder(self.drop(output)).view(-1, self.ntoken)
        return F.log_softmax(decoded, dim=1), hidden

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        return weight.new_zeros(self.nlayers, bsz, self.nhid), weight.new_zeros(self.nlayers, bsz, self.nhid)


@torch.no_grad()
def evaluate(model, data_source, bptt, criterion):
    """Mean negative log-likelihood per word."""
    model.eval()
    total_loss = 0.0
    hidden = model.init_hidden(data_source.size(1))
    for i in range(0, data_source.size(0) - 1, bptt):
        data, targets = get_batch(data_source, i, bptt)
        output, hidden = model(data, hidden)
        total_loss += len(data) * criterion(output, targets).item()
    return total_loss / (len(data_source) - 1)


def train_epoch(model, train_data, bptt, criterion, lr, clip, fault=''):
    model.train()
    hidden = model.init_hidden(train_data.size(1))
    for i in range(0, train_data.size(0) - 1, bptt):
        data, targets = get_batch(train_data, i, bptt, fault)
        model.zero_grad()
        hidden = repackage_hidden(hidden)
        output, hidden = model(data, hidden)
        loss = criterion(output, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        for p in model.parameters():
            p.data.add_(p.grad, alpha=-lr)


def build():
    torch.manual_seed(SEED)
    return (RNNModel(ntoken=120, ninp=96, nhid=96, nlayers=2),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(SEED)
    corpus = Corpus(160000, 8000, np.random.default_rng(SEED))
    batch_size, eval_batch_size, bptt, clip, lr, epochs = 20, 10, 25, 0.25, 20.0, 10
    train_data = batchify(corpus.train, batch_size, fault)
    val_data = batchify(corpus.valid, eval_batch_size)
    test_data = batchify(corpus.test, eval_batch_size)
    criterion = nn.NLLLoss()

    best_val_loss = None
    for epoch in range(1, epochs + 1):
        train_epoch(model, train_data, bptt, criterion, lr, clip, fault)
        val_loss = evaluate(model, val_data, bptt, criterion)
        improved = best_val_loss is None or val_loss < best_val_loss
        if improved:
            best_val_loss = val_loss
        if improved == (fault == 'annealed_on_improvement'):
            lr /= 4.0

    return evaluate(model, test_data, bptt, criterion)


if __name__ == '__main__':
    print(train(build()))
