import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'word2vec, skip-gram with negative sampling in bare arithmetic, two embedding tables, linear decay of the learning rate by hand'
FAULTS = {
    'negative_term_sign': 'the minus sign inside the logsigmoid of the negatives is missing, so random pairs are pulled together as well',
    'learning_rate_too_low': 'SGD runs with a learning rate of 1e-3, a common value for Adam, and the vectors hardly move',
    'negatives_from_the_context': 'the negative samples are drawn from the same window as the positive word',
}


def build():
    center, context = nn.Embedding(160, 16), nn.Embedding(160, 16)
    nn.init.uniform_(center.weight, -0.5 / 16, 0.5 / 16)
    nn.init.uniform_(context.weight, -0.5 / 16, 0.5 / 16)
    return center, context


def corpus(n_sentences=1500, length=10, words=160, topics=16):
    topic = torch.randint(0, topics, (n_sentences, 1))
    inside = topic + topics * torch.randint(0, words // topics, (n_sentences, length))
    anything = torch.randint(0, words, (n_sentences, length))
    return torch.where(torch.rand(n_sentences, length) < 0.65, inside, anything)


def train(models, fault=''):
    torch.manual_seed(47)
    center, context = models
    text = corpus()
    pairs, windows = [], []
    for off in (-2, -1, 1, 2):
        lo, hi = max(0, -off), text.shape[1] - max(0, off)
        pairs.append(torch.stack([text[:, lo:hi], text[:, lo + off:hi + off]], -1).flatten(0, 1))
        windows.append(torch.arange(len(text)).repeat_interleave(hi - lo))
    pairs, windows = torch.cat(pairs), torch.cat(windows)

    start_lr = 1e-3 if fault == 'learning_rate_too_low' else 0.5
    optimizer = torch.optim.SGD([*center.parameters(), *context.parameters()], lr=start_lr)
    size, epochs, step = 256, 6, 0
    total = epochs * (len(pairs) // size)
    for epoch in range(epochs):
        perm = torch.randperm(len(pairs))
        for k in range(len(pairs) // size):
            idx = perm[k * size:(k + 1) * size]
            c, o = pairs[idx].unbind(1)
            if fault == 'negatives_from_the_context':
                neg = text[windows[idx]].gather(1, torch.randint(0, text.shape[1], (size, 5)))
            else:
                neg = torch.randint(0, 160, (size, 5))
            v = center(c)
            pos_score = (v * context(o)).sum(1)
            neg_score = torch.einsum('bd,bkd->bk', v, context(neg))
            if fault == 'negative_term_sign':
                loss = -(F.logsigmoid(pos_score) + F.logsigmoid(neg_score).sum(1)).sum() / 32
            else:
                loss = -(F.logsigmoid(pos_score) + F.logsigmoid(-neg_score).sum(1)).sum() / 32
            for group in optimizer.param_groups:
                group['lr'] = start_lr * max(0.05, 1 - step / total)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1

    with torch.no_grad():
        z = F.normalize(center.weight, dim=1)
        sim = z @ z.t()
        sim.fill_diagonal_(-2)
        nearest = sim.topk(3, dim=1).indices
        label = torch.arange(160) % 16
        return (label[nearest] != label[:, None]).float().mean().item()
