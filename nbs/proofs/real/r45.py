"""Simple-baseline pose estimation on synthetic stick figures: joint heatmaps, visibility weights, flip and shift augmentation."""
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'human-pose-estimation.pytorch (simple baselines) repository: JointsDataset with generate_target and fliplr_joints, PoseResNet with deconvolution head, JointsMSELoss with target_weight, MultiStepLR, get_max_preds'
FAULTS = {
    'flip_without_swapping_sides': 'The flipped training pictures keep the joint order, so the left wrist of a mirrored figure is labelled as the right one and the network puts both sides half on each.',
    'missing_joints_supervised': 'The target weight is not used: joints without annotation, stored as (0, 0), get a heatmap with a peak in the corner, and the network learns the corner as an answer.',
    'heatmap_axes_swapped': 'The Gaussian is drawn at row x and column y, so the heatmaps are transposed relative to the pictures.',
    'joints_shifted_the_other_way': 'In the random translation the joints are moved by minus the shift of the picture, so picture and heatmap disagree by twice the shift.',
}

SEED = 45
SIZE, HEATMAP = 32, 16
NUM_JOINTS = 7                      # head, left and right shoulder, hand, foot
FLIP_PAIRS = [(1, 2), (3, 4), (5, 6)]
BONES = [(0, 1), (0, 2), (1, 3), (2, 4), (0, 5), (0, 6)]
COLOURS = np.array([[1, 1, 1], [1, 0.3, 0.2], [0.2, 0.4, 1], [1, 0.6, 0.1], [0.1, 0.8, 0.9], [0.9, 0.2, 0.7], [0.3, 0.9, 0.3]])


def draw_figures(n, rng):
    """Figures facing the viewer; the left side is tinted warm, the right side cold, on any background with clutter."""
    joints = np.zeros((n, NUM_JOINTS, 2), dtype=np.float32)
    images = np.zeros((n, 3, SIZE, SIZE), dtype=np.float32)
    gy, gx = np.mgrid[0:SIZE, 0:SIZE]
    for i in range(n):
        cx, cy, s = rng.uniform(13, 19), rng.uniform(8, 13), rng.uniform(0.8, 1.15)
        j = np.zeros((NUM_JOINTS, 2))
        j[0] = 0, 0
        j[1] = -5, 4
        j[2] = 5, 4
        j[3] = j[1] + (-5 + rng.normal(0, 1.5), rng.normal(3, 4))
        j[4] = j[2] + (5 + rng.normal(0, 1.5), rng.normal(3, 4))
        j[5] = -3 + rng.normal(0, 1.5), 14 + rng.normal(0, 1)
        j[6] = 3 + rng.normal(0, 1.5), 14 + rng.normal(0, 1)
        j = np.clip(j * s + (cx, cy) + rng.normal(0, 0.5, j.shape), 1.5, SIZE - 2.5)
        img = np.ones((3, SIZE, SIZE)) * rng.uniform(0, 0.5, (3, 1, 1))
        for a, b in BONES:
            d = j[b] - j[a]
            t = np.clip(((gx - j[a, 0]) * d[0] + (gy - j[a, 1]) * d[1]) / ((d ** 2).sum() + 1e-6), 0, 1)
            dist = (gx - j[a, 0] - t * d[0]) ** 2 + (gy - j[a, 1] - t * d[1]) ** 2
            ink = np.exp(-dist / 1.2)
            img = img * (1 - ink) + ink * 0.6
        for k in range(NUM_JOINTS):
            ink = np.exp(-((gx - j[k, 0]) ** 2 + (gy - j[k, 1]) ** 2) / 3.0) * rng.uniform(0.3, 0.6)
            base = COLOURS[k].mean() + 0.35 * (COLOURS[k] - COLOURS[k].mean())
            img = img * (1 - ink) + ink * base[:, None, None]
        for _ in range(3):
            y0, x0 = rng.integers(0, SIZE - 5, 2)
            img[:, y0:y0 + 5, x0:x0 + 5] = rng.uniform(0, 1, (3, 1, 1))
        joints[i], images[i] = j, img + rng.normal(0, 0.12, img.shape)
    return images, joints


def fliplr_joints(joints, joints_vis, width, matched_parts):
    joints = joints.copy()
    joints_vis = joints_vis.copy()
    joints[:, 0] = width - joints[:, 0] - 1
    for a, b in matched_parts:
        joints[[a, b]] = joints[[b, a]]
        joints_vis[[a, b]] = joints_vis[[b, a]]
    return joints, joints_vis


class JointsDataset(Dataset):
    def __init__(self, images, joints, joints_vis, is_train, fault=''):
        self.images, self.joints, self.joints_vis = images, joints, joints_vis
        self.is_train, self.fault, self.sigma = is_train, fault, 1.0
        self.feat_stride = SIZE / HEATMAP

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image, joints, joints_vis = self.images[idx], self.joints[idx].copy(), self.joints_vis[idx].copy()
        if self.is_train:
            if np.random.rand() < 0.5:
                image = image[:, :, ::-1]
                pairs = [] if self.fault == 'flip_without_swapping_sides' else FLIP_PAIRS
                joints, joints_vis = fliplr_joints(joints, joints_vis, SIZE, pairs)
            dx, dy = np.random.randint(-3, 4, 2)
            image = np.pad(image, ((0, 0), (3, 3), (3, 3)), mode='edge')[:, 3 - dy:3 - dy + SIZE, 3 - dx:3 - dx + SIZE]
            if self.fault == 'joints_shifted_the_other_way':
                dx, dy = -dx, -dy
            joints = joints + np.array([dx, dy]) * joints_vis[:, None]
        target, target_weight = self.generate_target(joints, joints_vis)
        return torch.from_numpy(np.ascontiguousarray(image)), torch.from_numpy(target), torch.from_numpy(target_weight)

    def generate_target(self, joints, joints_vis):
        target_weight = joints_vis.astype(np.float32)
        if self.fault == 'missing_joints_supervised':
            target_weight = np.ones_like(target_weight)
            joints = joints * joints_vis[:, None]
        mu = joints / self.feat_stride
        x = np.arange(HEATMAP, dtype=np.float32)
        gx = np.exp(-(x[None] - mu[:, 0, None]) ** 2 / (2 * self.sigma ** 2))
        gy = np.exp(-(x[None] - mu[:, 1, None]) ** 2 / (2 * self.sigma ** 2))
        if self.fault == 'heatmap_axes_swapped':
            target = gx[:, :, None] * gy[:, None, :]
        else:
            target = gy[:, :, None] * gx[:, None, :]
        return target.astype(np.float32), target_weight


class BasicBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c)
        self.conv2, self.bn2 = nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + x)


class PoseResNet(nn.Module):
    def __init__(self, c=16):
        super().__init__()

        def down(a, b):
            return nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))

        def deconv(a, b):
            return nn.Sequential(nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
        self.layers = nn.Sequential(down(3, c), BasicBlock(c), down(c, c * 2), BasicBlock(c * 2), down(c * 2, c * 4), BasicBlock(c * 4))
        self.deconv_layers = nn.Sequential(deconv(c * 4, c * 2), deconv(c * 2, c * 2))
        self.final_layer = nn.Conv2d(c * 2, NUM_JOINTS, 1)

    def forward(self, x):
        return self.final_layer(self.deconv_layers(self.layers(x)))


class JointsMSELoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.criterion = nn.MSELoss()

    def forward(self, output, target, target_weight):
        batch_size, num_joints = output.shape[:2]
        heatmaps_pred = output.reshape(batch_size, num_joints, -1).split(1, 1)
        heatmaps_gt = target.reshape(batch_size, num_joints, -1).split(1, 1)
        loss = 0
        for idx in range(num_joints):
            weight = target_weight[:, idx, None]
            loss = loss + 0.5 * self.criterion(heatmaps_pred[idx].squeeze(1) * weight, heatmaps_gt[idx].squeeze(1) * weight)
        return loss / num_joints


def get_max_preds(heatmaps):
    idx = heatmaps.flatten(2).argmax(2)
    return torch.stack([idx % HEATMAP, idx // HEATMAP], -1).float()


@torch.no_grad()
def validate(model, images, joints):
    """Share of joints of unseen figures that are off by more than two pixels."""
    model.eval()
    preds = torch.cat([get_max_preds(model(x)) for x in torch.from_numpy(images).split(100)]) * (SIZE / HEATMAP)
    dist = (preds - torch.from_numpy(joints)).norm(dim=-1)
    return (dist > 2.0).float().mean().item()


def build():
    torch.manual_seed(SEED)
    return (PoseResNet(),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    end_epoch = 22
    rng = np.random.default_rng(SEED)
    images, joints = draw_figures(1200, rng)
    joints_vis = (rng.random(joints.shape[:2]) > 0.55).astype(np.float32)
    joints = joints * joints_vis[:, :, None]
    val_images, val_joints = draw_figures(400, rng)
    train_loader = DataLoader(JointsDataset(images, joints, joints_vis, True, fault), batch_size=24, shuffle=True)

    criterion = JointsMSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    lr_scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [16, 20], gamma=0.1)
    for epoch in range(end_epoch):
        model.train()
        for input, target, target_weight in train_loader:
            output = model(input)
            loss = criterion(output, target, target_weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        lr_scheduler.step()

    return validate(model, val_images, val_joints)


if __name__ == '__main__':
    print(train(build()))
