"""word2vec: skip-gram with negative sampling, plain tensors and index slicing."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'notebook word2vec: numpy corpus and window pairs, unigram^0.75 noise, two nn.Embedding tables, summed loss with sparse-free SGD and linear learning-rate decay'
FAULTS = {
    'negatives_with_wrong_sign': 'the negative term uses logsigmoid(score) instead of logsigmoid(-score), so noise words are pulled near as well and all vectors become alike',
    'mean_loss_with_word2vec_lr': 'the loss is averaged over the batch but the learning rate of the per-pair original (0.025) is kept, so the vectors hardly move',
    'context_table_not_in_optimizer': 'only the word table is passed to the optimizer; the zero-initialised context table stays zero and gives no gradient at all',
    'negatives_from_neighbouring_pairs': 'the noise words are the contexts of the next pairs of the unshuffled batch, i.e. true neighbours of the same word, so the same pairs are pushed and pulled',
}
VOCAB, GROUPS, WINDOW, K = 400, 20, 3, 5


class SkipGram(nn.Module):
    def __init__(self, vocab=VOCAB, dim=32):
        super().__init__()
        self.center = nn.Embedding(vocab, dim)
        self.context = nn.Embedding(vocab, dim)
        nn.init.uniform_(self.center.weight, -0.5 / dim, 0.5 / dim)
        nn.init.zeros_(self.context.weight)
        self.neg_sign = -1.0

    def forward(self, c, o, neg):
        v = self.center(c)                                                # (B, D)
        pos = (v * self.context(o)).sum(-1)                               # (B,)
        negs = torch.bmm(self.context(neg), v.unsqueeze(2)).squeeze(2)    # (B, K)
        return -(F.logsigmoid(pos) + F.logsigmoid(self.neg_sign * negs).sum(1))


def build():
    torch.manual_seed(0)
    return (SkipGram(),)


def make_corpus(n_sent, rng):
    """Words belong to hidden groups; a sentence stays in one group with frequent function words (0..19) and stray words between."""
    group = np.full(VOCAB, -1)
    group[20:] = rng.permutation(np.arange(VOCAB - 20) % GROUPS)
    members = [np.where(group == g)[0] for g in range(GROUPS)]
    sents = []
    for _ in range(n_sent):
        m = members[rng.integers(GROUPS)]
        w = rng.choice(m, 12)
        stray = rng.random(12) < 0.15
        w[stray] = rng.integers(20, VOCAB, stray.sum())
        func = rng.random(12) < 0.3
        w[func] = rng.integers(0, 20, func.sum())
        sents.append(w)
    return sents, group


def make_pairs(sents):
    pairs = []
    for s in sents:
        for i in range(len(s)):
            for j in range(max(0, i - WINDOW), min(len(s), i + WINDOW + 1)):
                if j != i:
                    pairs.append((s[i], s[j]))
    return torch.tensor(np.array(pairs))


def neighbour_error(emb, group):
    """Share of the 5 nearest neighbours that lie outside the word's own group."""
    words = torch.arange(20, VOCAB)
    e = F.normalize(emb[words] - emb[words].mean(0), dim=1)
    sim = e @ e.T
    sim.fill_diagonal_(-2)
    near = sim.topk(5).indices
    g = torch.tensor(group)[words]
    return (g[near] != g[:, None]).float().mean().item()


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(2)
    rng = np.random.default_rng(2)
    sents, group = make_corpus(5000, rng)
    pairs = make_pairs(sents)
    counts = np.bincount(np.concatenate(sents), minlength=VOCAB)
    noise = torch.tensor(counts ** 0.75)
    noise = noise / noise.sum()

    if fault == 'negatives_with_wrong_sign':
        model.neg_sign = 1.0
    params = model.center.parameters() if fault == 'context_table_not_in_optimizer' else model.parameters()
    lr0, batch, epochs = 0.025, 256, 5
    opt = torch.optim.SGD(params, lr=lr0)
    total = epochs * (len(pairs) // batch)
    step = 0
    for epoch in range(epochs):
        starts = torch.randperm(len(pairs) // batch) * batch
        for s in starts.tolist():
            c, o = pairs[s:s + batch].T
            if fault == 'negatives_from_neighbouring_pairs':
                neg = torch.stack([o.roll(-k) for k in range(1, K + 1)], dim=1)
            else:
                neg = torch.multinomial(noise, batch * K, replacement=True).view(batch, K)
            loss = model(c, o, neg)
            loss = loss.mean() if fault == 'mean_loss_with_word2vec_lr' else loss.sum()
            opt.zero_grad()
            loss.backward()
            for g in opt.param_groups:
                g['lr'] = lr0 * max(1 - step / total, 1e-3)
            opt.step()
            step += 1
    return neighbour_error(model.center.weight.detach(), group)
