"""YOLO-v1-like grid detector with two boxes per cell on synthetic scenes of squares, discs and triangles."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'abeardear/xiongzihua pytorch-YOLO-v1 repository: yoloDataset with encoder, small conv-BN-LeakyReLU backbone with a sigmoid grid output, yoloLoss (l_coord 5, l_noobj 0.5, responsible box by IoU, square roots of width and height), SGD with momentum and step schedule, decoder with NMS, voc_eval mAP'
FAULTS = {
    'grid_cell_axes_swapped': 'The encoder writes the target of an object to cell [column, row] instead of [row, column], so the target grid is transposed relative to the feature map and the responsible cells lie on other parts of the picture.',
    'centre_relative_to_image': 'The centre is stored as a fraction of the whole picture instead of an offset inside its cell, so the decoded centres are shifted by up to half a cell in a way that depends on the place.',
    'empty_cells_without_loss': 'The no-object confidence loss is taken over the cells with an object only (the mask of the object cells is used twice), so nothing pushes down the confidence of the empty cells and they all fire.',
    'root_of_target_only': 'The square root is taken of the target width and height but not of the predicted ones, so the network learns root(w) and every decoded box is much too large.',
    'grid_viewed_not_permuted': 'The output (N, C, S, S) is brought to (N, S, S, C) with a view instead of a permute for the loss, so channels and cells are mixed up and targets meet unrelated numbers.',
}

SEED = 49
SIZE, S, B, NUM_CLASSES = 48, 6, 2, 3
STRIDE = SIZE / S


def iou_np(a, b):
    lt, rb = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    wh = np.clip(rb - lt, 0, None)
    inter = wh[..., 0] * wh[..., 1]
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(1), (b[:, 2:] - b[:, :2]).prod(1)
    return inter / (area_a[:, None] + area_b[None] - inter)


def draw_scenes(n, rng):
    """Pictures with one to four objects of any colour on a noisy background; boxes as x1, y1, x2, y2 in pixels."""
    gy, gx = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    images, boxes, labels = np.zeros((n, 3, SIZE, SIZE), dtype=np.float32), [], []
    for i in range(n):
        img = np.ones((3, SIZE, SIZE)) * rng.uniform(0.2, 0.6, (3, 1, 1)) + 0.1 * rng.uniform(-1, 1, (3, 1, 1)) * gx / SIZE
        found, kinds, cells = [], [], set()
        for _ in range(rng.integers(1, 5)):
            w, h = rng.uniform(9, 19, 2)
            cx, cy = rng.uniform(w / 2, SIZE - w / 2), rng.uniform(h / 2, SIZE - h / 2)
            box = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
            cell = (int(cx // STRIDE), int(cy // STRIDE))
            if cell in cells or (found and iou_np(box[None], np.array(found)).max() > 0.05):
                continue
            kind = rng.integers(0, NUM_CLASSES)
            dx, dy = (gx - cx) / (w / 2), (gy - cy) / (h / 2)
            if kind == 0:
                mask = (abs(dx) < 1) & (abs(dy) < 1)
            elif kind == 1:
                mask = dx ** 2 + dy ** 2 < 1
            else:
                mask = (abs(dy) < 1) & (abs(dx) < (dy + 1) / 2)
            colour = rng.uniform(0, 1, 3)
            while abs(colour - img[:, int(cy), int(cx)]).max() < 0.35:
                colour = rng.uniform(0, 1, 3)
            img = np.where(mask[None], colour[:, None, None], img)
            found.append(box)
            kinds.append(kind)
            cells.add(cell)
        images[i] = img + rng.normal(0, 0.06, img.shape)
        boxes.append(np.array(found, dtype=np.float32))
        labels.append(np.array(kinds))
    return images, boxes, labels


class YoloDataset(Dataset):
    def __init__(self, images, boxes, labels, fault=''):
        self.images, self.boxes, self.labels, self.fault = images, boxes, labels, fault

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image, boxes, labels = self.images[idx], self.boxes[idx].copy(), self.labels[idx]
        if np.random.rand() < 0.5:
            image = image[:, :, ::-1]
            boxes[:, [0, 2]] = SIZE - boxes[:, [2, 0]]
        image = image * np.float32(np.random.uniform(0.8, 1.2))
        image = (image - 0.45) / 0.25
        return torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)), self.encoder(boxes, labels)

    def encoder(self, boxes, labels):
        """Target (S, S, 5B + C): B times x, y, w, h, confidence, then one-hot classes."""
        target = torch.zeros(S, S, 5 * B + NUM_CLASSES)
        cxcy, wh = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        for k in range(len(boxes)):
            col, row = (cxcy[k] // STRIDE).astype(int)
            delta = cxcy[k] / STRIDE - np.array([col, row])
            if self.fault == 'centre_relative_to_image':
                delta = cxcy[k] / SIZE
            cell = target[col, row] if self.fault == 'grid_cell_axes_swapped' else target[row, col]
            for b in range(B):
                cell[5 * b:5 * b + 2] = torch.from_numpy(delta)
                cell[5 * b + 2:5 * b + 4] = torch.from_numpy(wh[k] / SIZE)
                cell[5 * b + 4] = 1
            cell[5 * B + labels[k]] = 1
        return target


class YoloNet(nn.Module):
    def __init__(self, c=16):
        super().__init__()

        def conv(a, b, k=3):
            return nn.Sequential(nn.Conv2d(a, b, k, padding=k // 2, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.1, inplace=True))
        self.features = nn.Sequential(
            conv(3, c), nn.MaxPool2d(2), conv(c, 2 * c), nn.MaxPool2d(2),
            conv(2 * c, 4 * c), conv(4 * c, 2 * c, 1), conv(2 * c, 4 * c), nn.MaxPool2d(2),
            conv(4 * c, 6 * c), conv(6 * c, 6 * c))
        self.conv_end = nn.Conv2d(6 * c, 5 * B + NUM_CLASSES, 1)

    def forward(self, x):
        return torch.sigmoid(self.conv_end(self.features(x)))


def corners(box):
    """Boxes with a cell-relative centre to corners relative to their own cell, in units of the picture."""
    centre, wh = box[..., :2] / S, box[..., 2:4]
    return torch.cat([centre - wh / 2, centre + wh / 2], -1)


def compute_iou(a, b):
    lt, rb = torch.max(a[..., :2], b[..., :2]), torch.min(a[..., 2:], b[..., 2:])
    inter = (rb - lt).clamp(min=0).prod(-1)
    area_a, area_b = (a[..., 2:] - a[..., :2]).prod(-1), (b[..., 2:] - b[..., :2]).prod(-1)
    return inter / (area_a + area_b - inter + 1e-9)


class YoloLoss(nn.Module):
    def __init__(self, l_coord=5.0, l_noobj=0.5, fault=''):
        super().__init__()
        self.l_coord, self.l_noobj, self.fault = l_coord, l_noobj, fault

    def forward(self, pred, target):
        n = pred.size(0)
        if self.fault == 'grid_viewed_not_permuted':
            pred = pred.view(n, S, S, -1)
        else:
            pred = pred.permute(0, 2, 3, 1)
        coo_mask = target[..., 4] > 0
        noo_mask = target[..., 4] == 0
        if self.fault == 'empty_cells_without_loss':
            noo_mask = coo_mask
        coo_pred, coo_target = pred[coo_mask], target[coo_mask]
        box_pred = coo_pred[:, :5 * B].reshape(-1, B, 5)
        box_target = coo_target[:, :5 * B].reshape(-1, B, 5)

        with torch.no_grad():
            iou = compute_iou(corners(box_pred), corners(box_target))
            best = iou.argmax(1, keepdim=True)
            responsible = torch.zeros_like(iou, dtype=torch.bool).scatter_(1, best, True)
        resp_pred, resp_target = box_pred[responsible], box_target[responsible]
        contain_loss = F.mse_loss(resp_pred[:, 4], iou[responsible], reduction='sum')
        not_contain_loss = (box_pred[..., 4][~responsible] ** 2).sum()
        loc_loss = F.mse_loss(resp_pred[:, :2], resp_target[:, :2], reduction='sum')
        pred_size = resp_pred[:, 2:4] if self.fault == 'root_of_target_only' else (resp_pred[:, 2:4] + 1e-6).sqrt()
        size_loss = F.mse_loss(pred_size, resp_target[:, 2:4].sqrt(), reduction='sum')
        class_loss = F.mse_loss(coo_pred[:, 5 * B:], coo_target[:, 5 * B:], reduction='sum')

        noo_conf = pred[noo_mask][:, [5 * b + 4 for b in range(B)]]
        nooobj_loss = (noo_conf ** 2).sum()
        total = self.l_coord * (loc_loss + size_loss) + contain_loss + self.l_noobj * (nooobj_loss + not_contain_loss) + class_loss
        return total / n


def decoder(grid, thresh=0.05, nms_thresh=0.4):
    """One output (C, S, S) to boxes in pixels, labels and scores after NMS per class."""
    grid = grid.permute(1, 2, 0)
    rows, cols = torch.meshgrid(torch.arange(S), torch.arange(S), indexing='ij')
    boxes, scores, labels = [], [], []
    prob, cls = grid[..., 5 * B:].max(-1)
    for b in range(B):
        x, y, w, h, conf = grid[..., 5 * b:5 * b + 5].unbind(-1)
        cx, cy = (x + cols) / S, (y + rows) / S
        boxes.append(torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], -1).view(-1, 4) * SIZE)
        scores.append((conf * prob).view(-1))
        labels.append(cls.view(-1))
    boxes, scores, labels = torch.cat(boxes).numpy(), torch.cat(scores).numpy(), torch.cat(labels).numpy()
    keep = scores > thresh
    boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
    chosen, order = [], list(np.argsort(-scores))
    if order:
        iou = iou_np(boxes, boxes)
    while order:
        i = order.pop(0)
        chosen.append(i)
        order = [j for j in order if labels[j] != labels[i] or iou[i, j] < nms_thresh]
    return boxes[chosen], labels[chosen], scores[chosen]


@torch.no_grad()
def evaluate(model, images, gt_boxes, gt_labels):
    """Mean average precision at IoU 0.5 on unseen scenes."""
    model.eval()
    x = (torch.from_numpy(images) - 0.45) / 0.25
    detections = [decoder(grid) for chunk in x.split(100) for grid in model(chunk)]
    aps = []
    for c in range(NUM_CLASSES):
        npos, hits, found = sum((lab == c).sum() for lab in gt_labels), [], set()
        dets = [(s, i, box) for i, d in enumerate(detections) for box, lab, s in zip(*d) if lab == c]
        for s, i, box in sorted(dets, key=lambda d: -d[0]):
            mine = np.where(gt_labels[i] == c)[0]
            hit = False
            if len(mine):
                iou = iou_np(box[None], gt_boxes[i][mine])[0]
                j = mine[iou.argmax()]
                hit = iou.max() >= 0.5 and (i, j) not in found
                if hit:
                    found.add((i, j))
            hits.append(hit)
        tp = np.cumsum(hits)
        recall, precision = tp / npos, tp / np.arange(1, len(hits) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        aps.append(float(np.sum(np.diff(np.concatenate([[0], recall])) * precision)) if len(hits) else 0.0)
    return float(np.mean(aps))


def build():
    torch.manual_seed(SEED)
    return (YoloNet(),)


def train(models, fault=''):
    net = models[0]
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    num_epochs, batch_size = 20, 24
    rng = np.random.default_rng(SEED)
    train_set = YoloDataset(*draw_scenes(1000, rng), fault)
    test_images, test_boxes, test_labels = draw_scenes(300, rng)
    train_loader = DataLoader(train_set, batch_size=batch_size, shuffle=True)

    criterion = YoloLoss(fault=fault)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [14, 18], gamma=0.1)
    for epoch in range(num_epochs):
        net.train()
        for images, target in train_loader:
            pred = net(images)
            loss = criterion(pred, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()

    return evaluate(net, test_images, test_boxes, test_labels)


if __name__ == '__main__':
    print(train(build()))
