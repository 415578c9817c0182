"""DeepConvLSTM for human activity recognition on synthetic accelerometer and gyroscope recordings, split by person."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'PyTorch ports of DeepConvLSTM (Ordonez and Roggen; mariusbock/dl_har style): decimation, standardisation with training statistics, sliding windows labelled by their last sample, four convolutions over time, two LSTM layers, last step to the classifier, weighted cross-entropy, early stopping on held-out persons'
FAULTS = {
    'labels_not_decimated': 'The signals are taken from 50 Hz to 25 Hz with [::2] but the labels of the training recordings are not, so a window gets the label of the moment at half its time.',
    'windows_reshaped_not_transposed': 'The (channels, time) training windows are brought to (time, channels) with reshape instead of a transpose, so times and channels are mixed within every window.',
    'full_rotation_augmentation': 'The augmentation turns the sensor by any angle in space instead of a few degrees, so the direction of gravity, which tells lying, sitting and standing apart, is lost.',
    'units_not_converted': 'Half of the training persons wore another device that logs m/s2 and degrees per second, and their recordings are used without conversion to g and rad/s, so their signals are many times larger than all others.',
    'best_epoch_by_highest_loss': 'Early stopping watches the validation loss in mode max, as if it were an accuracy, so the weights of the epoch with the highest loss are kept and training ends when the loss no longer grows.',
}

SEED = 56
ACTIVITIES = ('lying', 'sitting', 'standing', 'walking', 'stairs_up', 'stairs_down', 'running', 'cycling')
RATE, WINDOW, STEP = 25, 48, 24


def rotation(axis, angle):
    """Rotation matrix about a unit axis (Rodrigues)."""
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def random_axis(rng):
    v = rng.normal(size=3)
    return v / np.linalg.norm(v)


def record_person(rng):
    """One recording at 50 Hz of a person, (6, L) in g and rad/s with its label per sample."""
    signals, labels = [], []
    pace, vigour = rng.uniform(0.85, 1.15), rng.uniform(0.7, 1.3)
    mount = rotation(random_axis(rng), rng.uniform(0, 0.3))
    harmonics = rng.normal(0, 0.15, (8, 3))
    for activity in np.concatenate([rng.permutation(8) for _ in range(2)]):
        n = int(rng.uniform(10, 16) * 2 * RATE)
        t = np.arange(n) / (2 * RATE)
        drift = np.cumsum(rng.normal(0, 0.01, n))
        tilt = {0: 1.5, 1: 0.7, 2: 0.0, 3: 0.05, 4: 0.2, 5: -0.1, 6: 0.1, 7: 0.7}[int(activity)] + rng.normal(0, 0.1)
        hz = {0: 0.25, 1: 0.3, 2: 0.4, 3: 1.8, 4: 1.5, 5: 1.9, 6: 2.6, 7: 1.3}[int(activity)] * pace * rng.uniform(0.92, 1.08)
        size = {0: 0.02, 1: 0.03, 2: 0.04, 3: 0.35, 4: 0.3, 5: 0.4, 6: 0.9, 7: 0.2}[int(activity)] * vigour
        impact = {3: 0.5, 4: 0.2, 5: 1.1, 6: 0.8}.get(int(activity), 0.0)
        phase = 2 * np.pi * hz * t + drift * 3 + rng.uniform(0, 2 * np.pi)
        up = size * (np.sin(phase) + (0.4 + harmonics[activity, 0]) * np.sin(2 * phase + 1) + impact * np.exp(4 * (np.cos(phase) - 1)))
        fore = size * (0.6 + harmonics[activity, 1]) * np.sin(phase / 2 + 0.7)
        side = size * (0.3 + harmonics[activity, 2]) * np.cos(phase / 2)
        sway = tilt + 0.15 * size * np.sin(phase / 2)
        acc = np.stack([np.sin(sway) + fore, side, np.cos(sway) + up])
        gyro = np.stack([0.8 * side, 1.5 * size * np.cos(phase / 2 + 0.3), 0.4 * fore])
        noise = rng.normal(0, 0.06, (6, n))
        signals.append(np.concatenate([mount @ acc, mount @ gyro]) + noise)
        labels.append(np.full(n, activity))
    return np.concatenate(signals, axis=1).astype(np.float32), np.concatenate(labels)


UNITS = np.array([9.81] * 3 + [180 / np.pi] * 3, dtype=np.float32)[:, None]


def load_recordings(persons, fault=''):
    """Recordings in g and rad/s; the device of every second person logs m/s2 and degrees per second."""
    recordings = []
    for i, (signal, labels) in enumerate(persons):
        if i % 2:
            signal = signal * UNITS         # as this device wrote it
            if fault != 'units_not_converted':
                signal = signal / UNITS
        recordings.append(decimate(signal, labels, fault))
    return recordings


def decimate(signal, labels, fault=''):
    if fault == 'labels_not_decimated':
        return signal[:, ::2], labels
    return signal[:, ::2], labels[::2]


def sliding_windows(recordings, mean, std, fault=''):
    """Windows (N, time, channels) of all recordings and the label of the last sample of each."""
    xs, ys = [], []
    for signal, labels in recordings:
        signal = (signal - mean) / std
        for start in range(0, signal.shape[1] - WINDOW + 1, STEP):
            window = signal[:, start:start + WINDOW]
            if fault == 'windows_reshaped_not_transposed':
                xs.append(window.reshape(WINDOW, -1))
            else:
                xs.append(window.T)
            ys.append(labels[start + WINDOW - 1])
    return np.stack(xs).astype(np.float32), np.array(ys)


class HARDataset(Dataset):
    """Standardised windows; in training the sensor is turned a little, in its own units."""

    def __init__(self, x, y, mean, std, augment=False, fault=''):
        self.x, self.y, self.augment = x, y, augment
        self.mean, self.std = mean[:, 0], std[:, 0]
        self.max_angle = np.pi if fault == 'full_rotation_augmentation' else 0.15

    def __len__(self):
        return len(self.x)

    def __getitem__(self, idx):
        x = self.x[idx]
        if self.augment:
            turn = rotation(random_axis(np.random), np.random.uniform(0, self.max_angle)).astype(np.float32)
            raw = x * self.std + self.mean
            raw = np.concatenate([raw[:, :3] @ turn.T, raw[:, 3:] @ turn.T], axis=1)
            x = (raw - self.mean) / self.std
        return torch.from_numpy(x), torch.tensor(self.y[idx])


class DeepConvLSTM(nn.Module):
    def __init__(self, channels=6, num_classes=len(ACTIVITIES), filters=24, filter_width=5, hidden=48, dropout=0.3):
        super().__init__()
        self.conv1 = nn.Conv2d(1, filters, (filter_width, 1))
        self.conv2 = nn.Conv2d(filters, filters, (filter_width, 1))
        self.conv3 = nn.Conv2d(filters, filters, (filter_width, 1))
        self.conv4 = nn.Conv2d(filters, filters, (filter_width, 1))
        self.lstm = nn.LSTM(filters * channels, hidden, num_layers=2, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(hidden, num_classes)

    def forward(self, x):
        x = x.unsqueeze(1)
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = F.relu(conv(x))
        x = x.permute(0, 2, 1, 3).flatten(2)
        x, _ = self.lstm(x)
        return self.fc(self.dropout(x[:, -1, :]))


@torch.no_grad()
def predict(model, x):
    model.eval()
    return torch.cat([model(b) for b in torch.from_numpy(x).split(100)])


def macro_f1(pred, y):
    """Mean over the activities of F1."""
    scores = []
    for c in range(len(ACTIVITIES)):
        tp = ((pred == c) & (y == c)).sum()
        scores.append(2 * tp / max((pred == c).sum() + (y == c).sum(), 1))
    return float(np.mean(scores))


def build():
    torch.manual_seed(SEED)
    return (DeepConvLSTM(),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    rng = np.random.default_rng(SEED)
    persons = [record_person(rng) for _ in range(22)]
    train_rec = load_recordings(persons[:10], fault)
    val_rec, test_rec = load_recordings(persons[10:13]), load_recordings(persons[13:])
    everything = np.concatenate([s for s, _ in train_rec], axis=1)
    mean, std = everything.mean(axis=1, keepdims=True), everything.std(axis=1, keepdims=True)
    x_train, y_train = sliding_windows(train_rec, mean, std, fault)
    x_val, y_val = sliding_windows(val_rec, mean, std)
    x_test, y_test = sliding_windows(test_rec, mean, std)

    counts = np.bincount(y_train, minlength=len(ACTIVITIES))
    class_weights = torch.tensor(len(y_train) / (len(ACTIVITIES) * np.maximum(counts, 1)), dtype=torch.float32)
    train_loader = DataLoader(HARDataset(x_train, y_train, mean, std, True, fault), batch_size=32, shuffle=True)
    criterion = nn.CrossEntropyLoss(weight=class_weights)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)

    epochs, patience, waited = 20, 5, 0
    mode = -1 if fault == 'best_epoch_by_highest_loss' else 1
    best_loss, best_state = float('inf'), None
    for epoch in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        val_loss = criterion(predict(model, x_val), torch.from_numpy(y_val)).item()
        if mode * val_loss < best_loss:
            best_loss, waited = mode * val_loss, 0
            best_state = {k: v.clone() for k, v in model.state_dict().items()}
        else:
            waited += 1
            if waited >= patience:
                break
    model.load_state_dict(best_state)

    return macro_f1(predict(model, x_test).argmax(1).numpy(), y_test)


if __name__ == '__main__':
    print(train(build()))
