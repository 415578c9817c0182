"""Keyword spotting: a small CNN on log-mel spectrograms of synthetic spoken words, with unknown words and background noise."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'speech-commands / kws CNN repositories: recordings by speaker, random time shift and background noise at a chosen SNR, log-mel spectrogram, SpecAugment, small CNN with batch norm, AdamW with cosine learning rate'
FAULTS = {
    'training_files_not_resampled': 'Two thirds of the speakers were recorded at 8 kHz; their files are brought to 4 kHz in the validation set but in training the samples are cut as they are, so these words are slow, low and cut off.',
    'snr_with_the_wrong_sign': 'The noise gain has +SNR instead of -SNR in the exponent, so at 10 dB the noise is ten times as strong as the word instead of a tenth of it.',
    'masks_of_another_recipe': 'The SpecAugment widths were taken from a recipe for long utterances with 80 bands and are nearly as large as this spectrogram, so often hardly anything of the word is left.',
    'validation_in_train_mode': 'model.eval() is missing in the validation, so its files, sorted by word, are normalised with the batch statistics of a single word and dropout stays on.',
    'split_after_copying': 'The random split is made over the takes, after each recording was copied with other noise, so most validation takes have a twin in the training set and the score is falsely good.',
}
BETTER = 'higher'

SEED = 70
RATE, LENGTH = 4000, 3200
VOWELS = {'a': (750, 1250), 'i': (300, 1750), 'u': (320, 750), 'e': (520, 1600), 'o': (500, 900)}
WORDS = {'yes': 'ies', 'no': 'eou', 'up': 'ap', 'down': 'pau', 'left': 'esp', 'right': 'aip', 'stop': 'spo', 'go': 'pou'}
UNKNOWN = ['ui', 'sue', 'oep', 'ia', 'pis', 'asi', 'eo', 'upa']
LABELS = ['_unknown_', *WORDS]


def speak(phones, rng, speaker, rate):
    """Source-filter toy speech: harmonics under two formants, hiss for s, a gap and a click for p."""
    pitch, tract, tempo, accent = speaker
    length = [rng.uniform(0.13, 0.2) / tempo for _ in phones]
    out = []
    for ph, sec in zip(phones, length):
        n = int(sec * rate)
        t = np.arange(n) / rate
        if ph == 's':
            hiss = rng.normal(0, 1, n)
            wave = 0.35 * (hiss - np.roll(hiss, 1))
        elif ph == 'p':
            wave = np.zeros(n)
            k = int(0.6 * n)
            wave[k:] = rng.normal(0, 0.6, n - k) * np.exp(-np.arange(n - k) / (0.015 * rate))
        else:
            f1, f2 = (f * tract * a * rng.uniform(0.95, 1.05) for f, a in zip(VOWELS[ph], accent[ph]))
            f0 = pitch * rng.uniform(0.9, 1.1)
            glide = f0 * t * (1 + rng.uniform(-0.2, 0.1) * t / sec / 2)
            wave = np.zeros(n)
            for h in range(1, int(1950 / f0)):
                f = h * f0
                gain = np.exp(-((f - f1) / 130) ** 2) + 0.7 * np.exp(-((f - f2) / 180) ** 2) + 0.02
                wave += gain * np.sin(2 * np.pi * h * glide)
        fade = np.minimum(1, np.minimum(np.arange(n), np.arange(n)[::-1]) / (0.01 * rate))
        out.append(wave * fade)
    wave = np.concatenate(out)
    return wave / (wave.std() + 1e-6)


def place(wave, n, rng):
    """Cut or pad the word to n samples at a random start."""
    wave = wave[:n]
    out = np.zeros(n)
    start = rng.integers(0, n - len(wave) + 1)
    out[start:start + len(wave)] = wave
    return out


def noise(n, rng):
    """White, brownish or humming background."""
    kind = rng.integers(3)
    w = rng.normal(0, 1, n)
    if kind == 1:
        w = np.convolve(w, np.ones(6) / 6, 'same')
    elif kind == 2:
        w = 0.3 * w + np.sin(2 * np.pi * rng.uniform(80, 400) * np.arange(n) / RATE)
    return w / w.std()


def record(n_speakers, per_speaker, rng):
    """Recordings as (samples, rate, label, speaker); most speakers have an 8 kHz microphone."""
    recordings = []
    for s in range(n_speakers):
        accent = {v: rng.uniform(0.82, 1.22, 2) for v in VOWELS}
        speaker = (rng.uniform(90, 220), rng.uniform(0.82, 1.2), rng.uniform(0.9, 1.25), accent)
        rate = 2 * RATE if rng.random() < 0.67 else RATE
        for _ in range(per_speaker):
            label = int(rng.integers(0, len(LABELS)))
            phones = UNKNOWN[rng.integers(len(UNKNOWN))] if label == 0 else WORDS[LABELS[label]]
            recordings.append((speak(phones, rng, speaker, rate), rate, label, s))
    return recordings


def mel_matrix(bands=24, n_fft=128):
    mel = lambda f: 2595 * np.log10(1 + f / 700)
    edges = 700 * (10 ** (np.linspace(mel(60), mel(RATE / 2), bands + 2) / 2595) - 1)
    freq = np.linspace(0, RATE / 2, n_fft // 2 + 1)
    up = (freq - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - freq) / (edges[2:] - edges[1:-1])[:, None]
    return torch.tensor(np.maximum(0, np.minimum(up, down)), dtype=torch.float32)


MEL, WINDOW = mel_matrix(), torch.hann_window(128)


def log_mel(wave):
    spec = torch.stft(wave, 128, 64, window=WINDOW, center=True, return_complex=True).abs() ** 2
    return torch.log(MEL @ spec + 1e-2)


class SpeechCommands(Dataset):
    def __init__(self, takes, training, fault=''):
        self.takes, self.training, self.fault = takes, training, fault

    def __len__(self):
        return len(self.takes)

    def spec_augment(self, spec):
        bands, frames = spec.shape
        f_width, t_width = (24, 48) if self.fault == 'masks_of_another_recipe' else (4, 6)
        for _ in range(2):
            f = np.random.randint(0, f_width + 1)
            f0 = np.random.randint(0, max(1, bands - f + 1))
            t = np.random.randint(0, t_width + 1)
            t0 = np.random.randint(0, max(1, frames - t + 1))
            spec[f0:f0 + f] = spec.mean()
            spec[:, t0:t0 + t] = spec.mean()
        return spec

    def __getitem__(self, index):
        wave, rate, label, seed = self.takes[index]
        rng = np.random.default_rng(np.random.randint(1 << 31) if self.training else seed)
        if rate != RATE and not (self.training and self.fault == 'training_files_not_resampled'):
            wave = 0.5 * (wave[:len(wave) // 2 * 2:2] + wave[1::2][:len(wave) // 2])
        wave = place(wave, LENGTH, rng)
        snr = rng.uniform(0, 12)
        power = (wave ** 2).sum() / max((wave != 0).sum(), 1)
        sign = 1 if self.training and self.fault == 'snr_with_the_wrong_sign' else -1
        wave = wave + np.sqrt(power) * 10 ** (sign * snr / 20) * noise(LENGTH, rng)
        spec = log_mel(torch.from_numpy((wave / np.abs(wave).max()).astype(np.float32)))
        if self.training:
            spec = self.spec_augment(spec)
        return spec[None], label


class KwsNet(nn.Module):
    def __init__(self, c=20):
        super().__init__()
        def cbr(i, o, stride=1):
            return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))
        self.norm = nn.BatchNorm2d(1)
        self.features = nn.Sequential(cbr(1, c, 2), cbr(c, 2 * c), cbr(2 * c, 2 * c, 2), cbr(2 * c, 3 * c), cbr(3 * c, 3 * c, 2))
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(3 * c * 3, len(LABELS))

    def forward(self, x):
        x = self.features(self.norm(x))
        return self.classifier(self.dropout(x.mean(3).flatten(1)))


@torch.no_grad()
def validate(model, loader, fault=''):
    """Accuracy on the validation takes."""
    if fault != 'validation_in_train_mode':
        model.eval()
    right, count = 0, 0
    for spec, label in loader:
        right += (model(spec).argmax(1) == label).sum().item()
        count += len(label)
    return right / count


def split(recordings, rng, fault=''):
    """Three takes of each recording; one quarter of the speakers is kept for validation."""
    takes = [(wave, rate, label, speaker) for wave, rate, label, speaker in recordings for _ in range(3)]
    speakers = rng.permutation(max(t[3] for t in takes) + 1)
    held_out = set(speakers[:len(speakers) // 4].tolist())
    in_val = rng.random(len(takes)) < 0.25 if fault == 'split_after_copying' else [t[3] in held_out for t in takes]
    train = [(w, r, l, i) for i, ((w, r, l, s), v) in enumerate(zip(takes, in_val)) if not v]
    val = [(w, r, l, i) for i, ((w, r, l, s), v) in enumerate(zip(takes, in_val)) if v]
    return train, sorted(val, key=lambda t: t[2])


def build(seed=SEED):
    torch.manual_seed(seed)
    return (KwsNet(),)


def train(models, fault='', seed=SEED):
    model, = models
    torch.manual_seed(seed)
    np.random.seed(seed)
    rng = np.random.default_rng(seed)
    train_takes, val_takes = split(record(24, 25, rng), rng, fault)
    train_loader = DataLoader(SpeechCommands(train_takes, True, fault), batch_size=32, shuffle=True, drop_last=True)
    val_loader = DataLoader(SpeechCommands(val_takes, False, fault), batch_size=32)

    epochs = 10
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(train_loader))
    for epoch in range(epochs):
        model.train()
        for spec, label in train_loader:
            loss = F.cross_entropy(model(spec), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        accuracy = validate(model, val_loader, fault)
    return accuracy


if __name__ == '__main__':
    for name in ('', *FAULTS):
        print(f'{name or "healthy":32s} {train(build(), name):.4f}')
