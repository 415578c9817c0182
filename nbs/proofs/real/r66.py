"""Show, attend and tell in small: a CNN encoder and an LSTM decoder with attention describe pictures of two shapes."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'a-PyTorch-Tutorial-to-Image-Captioning repository: captions sorted by decreasing length, teacher forcing with soft attention, packed scores and targets, doubly stochastic attention regularisation, two Adams for encoder and decoder, greedy decoding on the validation pictures'
FAULTS = {
    'targets_not_shifted': 'The targets are the captions from <start> on instead of from the second token on, so at each step the decoder learns to repeat the word it was given.',
    'pictures_not_sorted_along': 'The captions are sorted by decreasing length for packing but the encoder output keeps the order of the batch, so most captions are trained against the picture of another sample.',
    'mirror_with_left_and_right': 'The training pictures are mirrored at random while the captions say left and right, so half of these words contradict the picture.',
    'state_not_carried_in_decoding': 'The greedy loop throws away the new hidden and cell state and feeds each word to the initial state, so the decoder does not know how far it has come; training with teacher forcing is right.',
    'encoder_without_gradient': 'The encoder runs under no_grad as if it were pretrained, though it starts from random weights, so only the decoder learns.',
}
BETTER = 'higher'

SEED = 66
SIZE = 32
WORDS = ['<pad>', '<start>', '<end>', '<unk>', 'a', 'red', 'green', 'blue', 'yellow', 'small', 'big', 'circle', 'square', 'triangle',
         'left', 'right', 'of', 'above', 'below', 'alone']
WORD_MAP = {w: i for i, w in enumerate(WORDS)}
COLOURS = {'red': (0.9, 0.1, 0.1), 'green': (0.1, 0.8, 0.2), 'blue': (0.15, 0.2, 0.9), 'yellow': (0.9, 0.85, 0.1)}
MAX_LEN = 14


def make_sample(rng):
    """One or two shapes of different colours; the caption names first the one whose colour comes first in COLOURS."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    img = np.empty((SIZE, SIZE, 3))
    img[:] = rng.uniform(0.3, 0.6)
    img += rng.normal(0, 0.05, img.shape)
    horizontal = rng.random() < 0.8
    centres = np.array([[9, 16], [23, 16]]) if horizontal else np.array([[16, 9], [16, 23]])
    centres = centres + rng.uniform(-2.5, 2.5, (2, 2))
    count = 1 if rng.random() < 0.25 else 2
    place = rng.permutation(2)
    colours = [list(COLOURS)[i] for i in np.sort(rng.choice(4, count, replace=False))]
    phrases = []
    for k, colour in enumerate(colours):
        cx, cy = centres[place[k]]
        shape, big = rng.choice(['circle', 'square', 'triangle']), rng.random() < 0.5
        r = rng.uniform(5.2, 6.2) if big else rng.uniform(2.8, 3.6)
        if shape == 'circle':
            inside = np.hypot(x - cx, y - cy) < r
        elif shape == 'square':
            inside = np.maximum(np.abs(x - cx), np.abs(y - cy)) < r * 0.88
        else:
            inside = (y - cy < r * 0.7) & (np.abs(x - cx) < (y - cy + r) * 0.55)
        img[inside] = np.array(COLOURS[colour]) * rng.uniform(0.85, 1.05)
        size = [] if shape == 'triangle' else ['big' if big else 'small']
        phrases.append(['a', *size, colour, shape])
    if count == 1:
        return (img.clip(0, 1) * 255).astype(np.uint8), phrases[0] + ['alone']
    if horizontal:
        relation = ['left', 'of'] if place[0] == 0 else ['right', 'of']
    else:
        relation = ['above'] if place[0] == 0 else ['below']
    return (img.clip(0, 1) * 255).astype(np.uint8), phrases[0] + relation + phrases[1]


class CaptionDataset(Dataset):
    def __init__(self, samples, split, fault=''):
        self.samples, self.split, self.fault = samples, split, fault

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        img, words = self.samples[index]
        if self.split == 'TRAIN':
            img = np.clip(img * np.random.uniform(0.9, 1.1), 0, 255)
            if self.fault == 'mirror_with_left_and_right' and np.random.rand() < 0.5:
                img = img[:, ::-1]
        img = torch.from_numpy(np.ascontiguousarray(img.transpose(2, 0, 1)).astype(np.float32)) / 255
        codes = [WORD_MAP['<start>']] + [WORD_MAP.get(w, WORD_MAP['<unk>']) for w in words] + [WORD_MAP['<end>']]
        caption = torch.tensor(codes + [WORD_MAP['<pad>']] * (MAX_LEN - len(codes)))
        return (img - 0.45) / 0.25, caption, len(codes)


class Encoder(nn.Module):
    def __init__(self, c=24):
        super().__init__()
        def cbr(i, o, stride):
            return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))
        self.cnn = nn.Sequential(cbr(3, c, 2), cbr(c, c, 1), cbr(c, 2 * c, 2), cbr(2 * c, 2 * c, 1), cbr(2 * c, 3 * c, 2))
        self.place = nn.Parameter(0.1 * torch.randn(3 * c, SIZE // 8, SIZE // 8))
        self.dim = 3 * c

    def forward(self, images):
        return (self.cnn(images) + self.place).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, encoder_dim, decoder_dim, attention_dim):
        super().__init__()
        self.encoder_att, self.decoder_att = nn.Linear(encoder_dim, attention_dim), nn.Linear(decoder_dim, attention_dim)
        self.full_att = nn.Linear(attention_dim, 1)

    def forward(self, encoder_out, hidden):
        att = self.full_att(torch.relu(self.encoder_att(encoder_out) + self.decoder_att(hidden).unsqueeze(1))).squeeze(2)
        alpha = torch.softmax(att, dim=1)
        return (encoder_out * alpha.unsqueeze(2)).sum(1), alpha


class DecoderWithAttention(nn.Module):
    def __init__(self, encoder_dim, embed_dim=32, decoder_dim=96, attention_dim=48, dropout=0.2):
        super().__init__()
        self.attention = Attention(encoder_dim, decoder_dim, attention_dim)
        self.embedding = nn.Embedding(len(WORDS), embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.decode_step = nn.LSTMCell(embed_dim + encoder_dim, decoder_dim)
        self.init_h, self.init_c = nn.Linear(encoder_dim, decoder_dim), nn.Linear(encoder_dim, decoder_dim)
        self.f_beta = nn.Linear(decoder_dim, encoder_dim)
        self.fc = nn.Linear(decoder_dim, len(WORDS))

    def init_hidden_state(self, encoder_out):
        mean = encoder_out.mean(1)
        return self.init_h(mean), self.init_c(mean)

    def step(self, word, encoder_out, h, c):
        awe, alpha = self.attention(encoder_out, h)
        awe = torch.sigmoid(self.f_beta(h)) * awe
        h, c = self.decode_step(torch.cat([self.embedding(word), awe], 1), (h, c))
        return self.fc(self.dropout(h)), h, c, alpha

    def forward(self, encoder_out, captions, lengths, fault=''):
        lengths, sort_ind = lengths.sort(descending=True)
        if fault != 'pictures_not_sorted_along':
            encoder_out = encoder_out[sort_ind]
        captions = captions[sort_ind]
        h, c = self.init_hidden_state(encoder_out)
        decode_lengths = (lengths - 1).tolist()
        steps = max(decode_lengths)
        predictions = encoder_out.new_zeros(len(captions), steps, len(WORDS))
        alphas = encoder_out.new_zeros(len(captions), steps, encoder_out.shape[1])
        for t in range(steps):
            n = sum(l > t for l in decode_lengths)
            preds, h, c, alpha = self.step(captions[:n, t], encoder_out[:n], h[:n], c[:n])
            predictions[:n, t], alphas[:n, t] = preds, alpha
        return predictions, captions, decode_lengths, alphas


@torch.no_grad()
def validate(encoder, decoder, loader, fault=''):
    """Share of the greedy captions that match the reference word for word."""
    encoder.eval()
    decoder.eval()
    right, count = 0, 0
    for images, captions, _ in loader:
        encoder_out = encoder(images)
        h, c = decoder.init_hidden_state(encoder_out)
        word = torch.full((len(images),), WORD_MAP['<start>'])
        said = []
        for _ in range(MAX_LEN - 1):
            if fault == 'state_not_carried_in_decoding':
                scores, _, _, _ = decoder.step(word, encoder_out, h, c)
            else:
                scores, h, c, _ = decoder.step(word, encoder_out, h, c)
            word = scores.argmax(1)
            said.append(word)
        said = torch.stack(said, 1)
        ended = (said == WORD_MAP['<end>']).long().cumsum(1) - (said == WORD_MAP['<end>']).long()
        said = said.masked_fill(ended > 0, WORD_MAP['<pad>'])
        right += (said == captions[:, 1:]).all(1).sum().item()
        count += len(images)
    return right / count


def build(seed=SEED):
    torch.manual_seed(seed)
    encoder = Encoder()
    return encoder, DecoderWithAttention(encoder.dim)


def train(models, fault='', seed=SEED):
    encoder, decoder = models
    torch.manual_seed(seed)
    np.random.seed(seed)
    rng = np.random.default_rng(seed)
    samples = [make_sample(rng) for _ in range(2350)]
    train_loader = DataLoader(CaptionDataset(samples[:2050], 'TRAIN', fault), batch_size=32, shuffle=True, drop_last=True)
    val_loader = DataLoader(CaptionDataset(samples[2050:], 'VAL'), batch_size=100)

    epochs, alpha_c = 11, 0.1
    encoder_optimizer = torch.optim.Adam(encoder.parameters(), lr=3e-3)
    decoder_optimizer = torch.optim.Adam(decoder.parameters(), lr=3e-3)
    schedulers = [torch.optim.lr_scheduler.MultiStepLR(o, [8, 10], 0.3) for o in (encoder_optimizer, decoder_optimizer)]
    for epoch in range(epochs):
        encoder.train()
        decoder.train()
        for images, captions, lengths in train_loader:
            with torch.set_grad_enabled(fault != 'encoder_without_gradient'):
                encoder_out = encoder(images)
            scores, caps_sorted, decode_lengths, alphas = decoder(encoder_out, captions, lengths, fault)
            targets = caps_sorted[:, :-1] if fault == 'targets_not_shifted' else caps_sorted[:, 1:]
            scores = pack_padded_sequence(scores, decode_lengths, batch_first=True).data
            targets = pack_padded_sequence(targets, decode_lengths, batch_first=True).data
            loss = F.cross_entropy(scores, targets)
            loss = loss + alpha_c * ((1.0 - alphas.sum(1)) ** 2).mean()
            encoder_optimizer.zero_grad()
            decoder_optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(decoder.parameters(), 5.0)
            encoder_optimizer.step()
            decoder_optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
        exact = validate(encoder, decoder, val_loader, fault)
    return exact


if __name__ == '__main__':
    for name in ('', *FAULTS):
        print(f'{name or "healthy":32s} {train(build(), name):.4f}')
