"""BERT in small: masked language model pretraining, then fine-tuning on few labelled sentences."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'two-stage script: Config-less BERT modules with additive extended attention mask, mask_tokens() as in Hugging Face, pretrain() and finetune() functions with linear-decay AdamW'
FAULTS = {
    'labels_cloned_after_masking': 'the MLM labels are copied after the [MASK] tokens were written in, so the model only learns to answer [MASK] and the pretraining is worthless',
    'attention_mask_convention': 'the 1-is-real mask is turned into the additive mask without 1 - mask, so the words are blocked and only padding is attended to',
    'finetune_lr_of_pretraining_times_ten': 'fine-tuning runs with a learning rate of 2e-2 instead of 5e-4, which destroys the pretrained weights on the few labelled sentences',
    'mlm_optimizer_reused': 'fine-tuning goes on with the optimizer made for the MLM model before the classifier existed, with its schedule run out, so the head is never updated',
}
PAD, CLS, MASK = 0, 1, 2
TOPICS, WORDS, COMMON = 8, 50, 60
FIRST_COMMON = 3
FIRST_TOPIC = FIRST_COMMON + COMMON
VOCAB = FIRST_TOPIC + TOPICS * WORDS
MAXLEN = 16


class BertSelfAttention(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))
        self.dense = nn.Linear(hidden, hidden)

    def forward(self, x, ext_mask):
        b, t, c = x.shape
        split = lambda z: z.view(b, t, self.heads, c // self.heads).transpose(1, 2)
        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        scores = q @ k.transpose(-1, -2) / (c // self.heads) ** 0.5 + ext_mask
        out = scores.softmax(-1) @ v
        return self.dense(out.transpose(1, 2).reshape(b, t, c))


class BertLayer(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.attention = BertSelfAttention(hidden, heads)
        self.ln1, self.ln2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.ffn = nn.Sequential(nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, hidden))

    def forward(self, x, m):
        x = self.ln1(x + self.attention(x, m))
        return self.ln2(x + self.ffn(x))


class Bert(nn.Module):
    def __init__(self, hidden=64, heads=2, layers=2):
        super().__init__()
        self.word = nn.Embedding(VOCAB, hidden, padding_idx=PAD)
        self.position = nn.Embedding(MAXLEN, hidden)
        nn.init.normal_(self.word.weight, std=0.1)
        nn.init.normal_(self.position.weight, std=0.02)
        self.ln = nn.LayerNorm(hidden)
        self.layers = nn.ModuleList([BertLayer(hidden, heads) for _ in range(layers)])
        self.mlm_bias = nn.Parameter(torch.zeros(VOCAB))
        self.mlm_transform = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.LayerNorm(hidden))
        self.mask_is_flipped = False

    def forward(self, ids, attention_mask):
        ext = attention_mask[:, None, None, :].float()
        ext = (ext if self.mask_is_flipped else 1.0 - ext) * -10000.0
        x = self.ln(self.word(ids) + self.position(torch.arange(ids.size(1))))
        for layer in self.layers:
            x = layer(x, ext)
        return x

    def mlm(self, ids, attention_mask):
        return self.mlm_transform(self(ids, attention_mask)) @ self.word.weight.T + self.mlm_bias


class Classifier(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.dropout = nn.Dropout(0.1)
        self.out = nn.Linear(hidden, TOPICS)

    def forward(self, states, mask):
        m = mask.unsqueeze(-1).float()
        return self.out(self.dropout((states * m).sum(1) / m.sum(1)))


def build():
    torch.manual_seed(0)
    return Bert(), Classifier()


def corpus(n, seed):
    g = torch.Generator().manual_seed(seed)
    topic = torch.randint(TOPICS, (n,), generator=g)
    words = FIRST_TOPIC + topic[:, None] * WORDS + torch.randint(WORDS, (n, MAXLEN), generator=g)
    common = FIRST_COMMON + torch.randint(COMMON, (n, MAXLEN), generator=g)
    ids = torch.where(torch.rand(n, MAXLEN, generator=g) < 0.45, common, words)
    length = torch.randint(7, MAXLEN, (n,), generator=g)
    mask = torch.arange(MAXLEN)[None] < length[:, None]
    ids[:, 0] = CLS
    return ids.masked_fill(~mask, PAD), mask.long(), topic


def mask_tokens(inputs, attention_mask, fault):
    inputs = inputs.clone()
    labels = inputs.clone()
    candidates = attention_mask.bool() & (inputs != CLS)
    chosen = (torch.rand(inputs.shape) < 0.2) & candidates
    r = torch.rand(inputs.shape)
    inputs[chosen & (r < 0.8)] = MASK
    rand = chosen & (r >= 0.9)
    inputs[rand] = torch.randint(FIRST_COMMON, VOCAB, (int(rand.sum()),))
    if fault == 'labels_cloned_after_masking':
        labels = inputs.clone()
    labels[~chosen] = -100
    return inputs, labels


def linear_decay(opt, steps):
    return torch.optim.lr_scheduler.LambdaLR(opt, lambda s: max(0.0, 1 - s / steps))


def pretrain(bert, steps, fault):
    ids, mask, _ = corpus(6000, 1)
    opt = torch.optim.AdamW(bert.parameters(), lr=2e-3, weight_decay=0.01)
    sched = linear_decay(opt, steps)
    bert.train()
    for step in range(steps):
        ix = torch.randint(len(ids), (64,))
        x, labels = mask_tokens(ids[ix], mask[ix], fault)
        logits = bert.mlm(x, mask[ix])
        loss = F.cross_entropy(logits.view(-1, VOCAB), labels.view(-1), ignore_index=-100)
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
    return opt


def finetune(bert, clf, mlm_opt, fault):
    ids, mask, y = corpus(4 * TOPICS, 2)
    lr = 2e-2 if fault == 'finetune_lr_of_pretraining_times_ten' else 5e-4
    if fault == 'mlm_optimizer_reused':
        opt = mlm_opt
    else:
        opt = torch.optim.AdamW(list(bert.parameters()) + list(clf.parameters()), lr=lr)
    bert.train(), clf.train()
    for epoch in range(25):
        for ix in torch.randperm(len(ids)).split(8):
            loss = F.cross_entropy(clf(bert(ids[ix], mask[ix]), mask[ix]), y[ix])
            opt.zero_grad()
            loss.backward()
            opt.step()


def train(models, fault=''):
    bert, clf = models
    torch.manual_seed(42)
    bert.mask_is_flipped = fault == 'attention_mask_convention'
    opt = pretrain(bert, 450, fault)
    finetune(bert, clf, opt, fault)
    ids, mask, y = corpus(1000, 3)
    bert.eval(), clf.eval()
    with torch.no_grad():
        pred = clf(bert(ids, mask), mask).argmax(-1)
    return (pred != y).float().mean().item()
