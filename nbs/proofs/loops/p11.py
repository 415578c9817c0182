import math
import random
import torch
import torch.nn as nn

torch.set_num_threads(1)

STYLE = 'char language model with GRU, hidden state carried over (repackage_hidden), hand-made update p.data.add_ with clipping and no optimizer object'
FAULTS = {
    'hidden_not_detached_retain_graph': 'the hidden state is not detached and backward gets retain_graph=True, so the graph grows through the whole epoch',
    'update_on_local_name': 'the update is written p = p - lr * p.grad, which only rebinds the loop variable, so no weight ever changes',
    'target_not_shifted': 'the target is the input chunk itself and not the next character, so the net only learns to copy',
}

BPTT = 16
CHARS = 'abcdefghijklmnopqrstuvwxyz .'


class RNNModel(nn.Module):
    def __init__(self, ntoken, nemb=24, nhid=64):
        super().__init__()
        self.encoder = nn.Embedding(ntoken, nemb)
        self.rnn = nn.GRU(nemb, nhid)
        self.decoder = nn.Linear(nhid, ntoken)

    def forward(self, tokens, hidden):
        out, hidden = self.rnn(self.encoder(tokens), hidden)
        return self.decoder(out), hidden


def build():
    return (RNNModel(len(CHARS)),)


def make_text(n, rng):
    subj, verb, obj = ['the cat', 'a dog', 'my bird'], ['sees', 'likes', 'hunts'], ['fish', 'the mouse', 'bread']
    s = ''
    while len(s) < n:
        s += f'{rng.choice(subj)} {rng.choice(verb)} {rng.choice(obj)}. '
    return torch.tensor([CHARS.index(c) for c in s[:n]])


def batchify(data, bsz):
    nb = len(data) // bsz
    return data[:nb * bsz].view(bsz, nb).t().contiguous()


def get_batch(source, i, fault=''):
    n = min(BPTT, len(source) - 1 - i)
    x = source[i:i + n]
    y = source[i:i + n] if fault == 'target_not_shifted' else source[i + 1:i + 1 + n]
    return x, y.reshape(-1)


def repackage_hidden(h):
    return h.detach()


def train(models, fault=''):
    torch.manual_seed(10)
    rng = random.Random(10)
    model = models[0]
    train_data = batchify(make_text(16 * 161, rng), 16)
    val_data = batchify(make_text(8 * 81, rng), 8)
    criterion = nn.CrossEntropyLoss()
    lr, clip = 2.0, 1.0

    def evaluate():
        model.eval()
        total, hidden = 0.0, torch.zeros(1, 8, 64)
        with torch.no_grad():
            for i in range(0, len(val_data) - 1, BPTT):
                x, y = get_batch(val_data, i, fault)
                out, hidden = model(x, hidden)
                total += len(x) * criterion(out.view(-1, len(CHARS)), y).item()
        return total / (len(val_data) - 1)

    val_loss = None
    for epoch in range(10):
        model.train()
        hidden = torch.zeros(1, 16, 64)
        for i in range(0, len(train_data) - 1, BPTT):
            x, y = get_batch(train_data, i, fault)
            model.zero_grad()
            keep = fault == 'hidden_not_detached_retain_graph'
            if not keep:
                hidden = repackage_hidden(hidden)
            out, hidden = model(x, hidden)
            loss = criterion(out.view(-1, len(CHARS)), y)
            loss.backward(retain_graph=keep)
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            if fault == 'update_on_local_name':
                for p in model.parameters():
                    p = p - lr * p.grad
            else:
                for p in model.parameters():
                    p.data.add_(p.grad, alpha=-lr)
        val_loss = evaluate()
        print(f'epoch {epoch} valid loss {val_loss:.3f} ppl {math.exp(val_loss):.2f}')
    return val_loss
