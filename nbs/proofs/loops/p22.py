import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'masked language model toy: random [MASK], ignore_index=-100, bidirectional GRU encoder'
FAULTS = {
    'input_not_masked': 'the mask is used for the labels but the input keeps the true tokens, so the net just copies',
    'softmax_before_cross_entropy': 'softmax is applied to the logits before cross_entropy',
    'rnn_frozen_by_mistake': 'requires_grad is switched off for every parameter but the embedding and the last layer, so the fresh GRU is never trained',
}

VOCAB, MASK, LEN = 13, 12, 12


class MLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, 24)
        self.gru = nn.GRU(24, 48, batch_first=True, bidirectional=True)
        self.out = nn.Linear(96, VOCAB - 1)

    def forward(self, tokens):
        h, _ = self.gru(self.embed(tokens))
        return self.out(h)


def build():
    return (MLM(),)


def corpus(n):
    # the sentences go up or down by 1, 2 or 3 from a random start
    start = torch.randint(0, 12, (n, 1))
    stride = torch.randint(1, 4, (n, 1)) * (torch.randint(0, 2, (n, 1)) * 2 - 1)
    return (start + stride * torch.arange(LEN)) % 12


def mask_tokens(tokens, fault):
    mask = torch.rand(tokens.shape) < 0.2
    labels = torch.where(mask, tokens, torch.full_like(tokens, -100))
    if fault == 'input_not_masked':
        inputs = tokens
    else:
        inputs = torch.where(mask, torch.full_like(tokens, MASK), tokens)
    return inputs, labels


def mlm_loss(logits, labels, fault):
    if fault == 'softmax_before_cross_entropy':
        logits = logits.softmax(-1)
    return F.cross_entropy(logits.reshape(-1, VOCAB - 1), labels.reshape(-1), ignore_index=-100)


def train(models, fault=''):
    torch.manual_seed(21)
    model = models[0]
    if fault == 'rnn_frozen_by_mistake':
        for name, p in model.named_parameters():
            p.requires_grad = name.startswith(('embed', 'out'))
    train_set, val_set = corpus(1600), corpus(300)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3)

    for epoch in range(7):
        model.train()
        for batch in train_set[torch.randperm(len(train_set))].split(40):
            inputs, labels = mask_tokens(batch, fault)
            loss = mlm_loss(model(inputs), labels, fault)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    model.eval()
    with torch.no_grad():
        inputs, labels = mask_tokens(val_set, fault)
        return mlm_loss(model(inputs), labels, fault).item()
