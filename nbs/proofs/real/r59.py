"""ArcFace embedding on synthetic coloured crests: trained on some identities, retrieval among identities never seen."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'ronghuaiyang/arcface-pytorch: ArcMarginProduct(s, m, easy_margin) with th and mm, backbone ending in BatchNorm1d, two merged identity sets, SGD with momentum and weight decay over backbone and metric head, StepLR; Recall@1 by cosine on other identities'
FAULTS = {
    'features_normalised_over_batch': 'F.normalize of the embeddings in the head runs over dimension 0, the batch, so each feature column has length one and the products with the class weights are no cosines.',
    'head_not_in_optimizer': 'The optimizer gets only the parameters of the backbone, so the class centres of the ArcFace head stay at their random start.',
    'labels_collide_in_merged_sets': 'The second identity set is appended without shifting its labels by the number of identities of the first, so two different identities share each class.',
    'scheduler_stepped_per_batch': 'scheduler.step() stands inside the batch loop while its step size is counted in epochs, so the learning rate is almost zero after a part of the first epochs.',
    'margin_taken_off_the_angle': 'The margin is subtracted from the angle of the right class instead of added, so the right class counts as nearer than it is and the classes need not be compact.',
}

SEED = 59
SIZE = 24


class Identities:
    """Each identity is a fixed arrangement of soft blobs; pictures of it differ in pose, light, occlusion and noise."""

    def __init__(self, n, rng):
        self.centre = rng.uniform(-0.65, 0.65, (n, 5, 2))
        self.width = rng.uniform(0.12, 0.3, (n, 5))
        self.tone = rng.uniform(-1, 1, (n, 5, 1)) * 0.6 + rng.uniform(-1, 1, (n, 5, 3)) * 0.4

    def draw(self, per_identity, rng):
        gy, gx = np.mgrid[0:SIZE, 0:SIZE] / (SIZE / 2) - 1 + 1 / SIZE
        images, labels = [], []
        for k in range(len(self.centre)):
            for _ in range(per_identity):
                a, s = rng.normal(0, 0.15), rng.uniform(0.88, 1.12)
                shift = rng.normal(0, 0.07, 2)
                rot = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) * s
                img = np.zeros((3, SIZE, SIZE))
                for c, w, tone in zip(self.centre[k] @ rot.T + shift, self.width[k] * s, self.tone[k]):
                    img += tone[:, None, None] * np.exp(-((gx - c[0]) ** 2 + (gy - c[1]) ** 2) / (2 * w * w))
                img = img * rng.uniform(0.5, 1.3) + rng.normal(0, 0.3, (3, 1, 1)) + rng.normal(0, 0.25) * gx + rng.normal(0, 0.25) * gy
                y0, x0 = rng.integers(0, SIZE - 5, 2)
                img[:, y0:y0 + 5, x0:x0 + 5] = rng.uniform(-0.5, 0.5, (3, 1, 1))
                images.append(img + rng.normal(0, 0.12, img.shape))
                labels.append(k)
        return np.array(images, dtype=np.float32), np.array(labels)


class FaceDataset(Dataset):
    def __init__(self, images, labels, phase='train'):
        self.images, self.labels, self.phase = images, labels, phase

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = self.images[idx]
        if self.phase == 'train':
            dx, dy = np.random.randint(0, 5, 2)
            image = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode='edge')[:, dy:dy + SIZE, dx:dx + SIZE]
            image = image * np.float32(np.random.uniform(0.8, 1.2))
        return torch.from_numpy(np.ascontiguousarray(image)), int(self.labels[idx])


class Backbone(nn.Module):
    def __init__(self, embedding=64, c=16):
        super().__init__()

        def block(a, b):
            return nn.Sequential(nn.Conv2d(a, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b), nn.PReLU(b), nn.MaxPool2d(2))
        self.features = nn.Sequential(block(3, c), block(c, c * 2), block(c * 2, c * 4))
        self.bn4 = nn.BatchNorm2d(c * 4)
        self.dropout = nn.Dropout(0.2)
        self.fc5 = nn.Linear(c * 4 * 9, embedding)
        self.bn5 = nn.BatchNorm1d(embedding)

    def forward(self, x):
        x = self.dropout(self.bn4(self.features(x)))
        return self.bn5(self.fc5(x.flatten(1)))


class ArcMarginProduct(nn.Module):
    def __init__(self, in_features, out_features, s=16.0, m=0.3, easy_margin=False):
        super().__init__()
        self.s, self.m, self.easy_margin = s, m, easy_margin
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        nn.init.xavier_uniform_(self.weight)
        self.feature_dim = 1
        self.set_margin(m)

    def set_margin(self, m):
        self.m = m
        self.cos_m, self.sin_m = np.cos(m), np.sin(m)
        self.th, self.mm = np.cos(np.pi - m), np.sin(np.pi - m) * m

    def forward(self, input, label):
        cosine = F.linear(F.normalize(input, dim=self.feature_dim), F.normalize(self.weight))
        sine = torch.sqrt((1.0 - cosine.pow(2)).clamp(1e-6, 1))
        phi = cosine * self.cos_m - sine * self.sin_m
        if self.easy_margin:
            phi = torch.where(cosine > 0, phi, cosine)
        else:
            phi = torch.where(cosine > self.th, phi, cosine - self.mm)
        one_hot = torch.zeros_like(cosine)
        one_hot.scatter_(1, label.view(-1, 1).long(), 1)
        return ((one_hot * phi) + ((1.0 - one_hot) * cosine)) * self.s


@torch.no_grad()
def recall_at_1(model, images, labels):
    """Share of pictures of unseen identities whose nearest other picture (cosine) shows the same identity."""
    model.eval()
    loader = DataLoader(FaceDataset(images, labels, phase='test'), batch_size=100)
    emb = F.normalize(torch.cat([model(x) for x, _ in loader]))
    similarity = emb @ emb.T
    similarity.fill_diagonal_(-2)
    labels = torch.from_numpy(labels)
    return (labels[similarity.argmax(1)] == labels).float().mean().item()


def build():
    torch.manual_seed(SEED)
    return Backbone(), ArcMarginProduct(64, 150)


def train(models, fault=''):
    model, metric_fc = models
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    rng = np.random.default_rng(SEED)
    first_x, first_y = Identities(75, rng).draw(18, rng)
    second_x, second_y = Identities(75, rng).draw(18, rng)
    test_x, test_y = Identities(100, rng).draw(6, rng)
    offset = 0 if fault == 'labels_collide_in_merged_sets' else first_y.max() + 1
    train_x, train_y = np.concatenate([first_x, second_x]), np.concatenate([first_y, second_y + offset])
    train_loader = DataLoader(FaceDataset(train_x, train_y), batch_size=32, shuffle=True, drop_last=True)

    criterion = nn.CrossEntropyLoss()
    if fault == 'features_normalised_over_batch':
        metric_fc.feature_dim = 0
    if fault == 'margin_taken_off_the_angle':
        metric_fc.set_margin(-metric_fc.m)
    params = [{'params': model.parameters()}]
    if fault != 'head_not_in_optimizer':
        params.append({'params': metric_fc.parameters()})
    optimizer = torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.1)
    max_epoch = 18
    for epoch in range(max_epoch):
        model.train()
        for data_input, label in train_loader:
            feature = model(data_input)
            output = metric_fc(feature, label)
            loss = criterion(output, label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if fault == 'scheduler_stepped_per_batch':
                scheduler.step()
        if fault != 'scheduler_stepped_per_batch':
            scheduler.step()

    return recall_at_1(model, test_x, test_y)


if __name__ == '__main__':
    print(train(build()))
