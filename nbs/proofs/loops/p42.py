import torch
import torch.nn as nn

torch.set_num_threads(1)

STYLE = 'seq2seq translation, GRU encoder and decoder as two modules with two optimizers, teacher forcing, greedy decoding at the end'
FAULTS = {
    'decoder_input_not_shifted': 'the decoder gets as input the very token it has to predict, so it copies and cannot decode freely',
    'logits_reshaped_not_transposed': 'the logits (batch, time, words) are brought to (batch, words, time) by reshape instead of transpose',
    'encoder_state_unused': 'the decoder starts from zeros instead of the state of the encoder, so it never sees the source',
}

BOS, WORDS, LENGTH = 0, 11, 5


class Encoder(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.emb = nn.Embedding(WORDS, 16)
        self.gru = nn.GRU(16, width, batch_first=True)

    def forward(self, src):
        return self.gru(self.emb(src))[1]


class Decoder(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.emb = nn.Embedding(WORDS, 16)
        self.gru = nn.GRU(16, width, batch_first=True)
        self.out = nn.Linear(width, WORDS)

    def forward(self, tokens, state):
        h, state = self.gru(self.emb(tokens), state)
        return self.out(h), state


def build():
    return Encoder(), Decoder()


def make_pairs(n):
    src = torch.randint(1, WORDS, (n, LENGTH))
    table = torch.tensor([0, 4, 7, 1, 9, 2, 10, 3, 8, 5, 6])
    return src, table[src].flip(1)


def train(models, fault=''):
    torch.manual_seed(42)
    encoder, decoder = models
    src, tgt = make_pairs(4000)
    test_src, test_tgt = make_pairs(400)
    enc_opt = torch.optim.Adam(encoder.parameters(), lr=6e-3)
    dec_opt = torch.optim.Adam(decoder.parameters(), lr=6e-3)
    criterion = nn.CrossEntropyLoss()

    def initial_state(source):
        state = encoder(source)
        if fault == 'encoder_state_unused':
            state = torch.zeros_like(state)
        return state

    def train_step(source, target):
        enc_opt.zero_grad()
        dec_opt.zero_grad()
        bos = torch.full((len(source), 1), BOS)
        if fault == 'decoder_input_not_shifted':
            tokens = target
        else:
            tokens = torch.cat([bos, target[:, :-1]], dim=1)
        logits, _ = decoder(tokens, initial_state(source))
        if fault == 'logits_reshaped_not_transposed':
            logits = logits.reshape(logits.shape[0], logits.shape[2], logits.shape[1])
        else:
            logits = logits.transpose(1, 2)
        loss = criterion(logits, target)
        loss.backward()
        enc_opt.step()
        dec_opt.step()
        return loss.item()

    encoder.train()
    decoder.train()
    for epoch in range(8):
        order = torch.randperm(len(src))
        for i in range(0, len(order), 64):
            pick = order[i:i + 64]
            train_step(src[pick], tgt[pick])

    encoder.eval()
    decoder.eval()
    with torch.no_grad():
        state = initial_state(test_src)
        token = torch.full((len(test_src), 1), BOS)
        decoded = []
        for _ in range(LENGTH):
            logits, state = decoder(token, state)
            token = logits.argmax(-1)
            decoded.append(token)
        decoded = torch.cat(decoded, dim=1)
    return (decoded != test_tgt).float().mean().item()
