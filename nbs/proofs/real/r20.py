"""CenterNet-like detector on 48x48 scenes: heads for the class heat map, the box size and the centre offset."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'detector repository style: shared backbone with a ModuleDict of heads, target encoding and decoding functions, focal loss, AdamW with MultiStepLR, flip augmentation'
FAULTS = {
    'flip_image_only': 'The random horizontal flip is done to the picture but not to the boxes, so half of the training targets are mirrored.',
    'size_loss_unmasked': 'The size loss runs over all the cells, most of them background with target zero, instead of the object centres, so sizes are drawn to zero.',
    'xy_swapped': 'Targets are written at [cx, cy] instead of [row = cy, column = cx], so the heads learn transposed places.',
    'boxes_sorted_without_classes': 'Boxes are sorted by area before encoding (small ones win) but the class list is not sorted along, so many boxes get the class of another object.',
}

SIZE, STRIDE, CLASSES, MAX_OBJ = 48, 4, 3, 3
GRID = SIZE // STRIDE


def make_scene():
    """One to three objects (filled box, hollow box, ellipse) that hardly overlap, on noise; boxes as cx, cy, w, h."""
    img = 0.12 * torch.randn(SIZE, SIZE)
    g = torch.arange(SIZE) + 0.5
    boxes, classes = [], []
    for _ in range(int(torch.randint(1, MAX_OBJ + 1, (1,)))):
        for _try in range(10):
            w, h = (torch.rand(2) * 11 + 8).tolist()
            cx = w / 2 + torch.rand(1).item() * (SIZE - w)
            cy = h / 2 + torch.rand(1).item() * (SIZE - h)
            if all(abs(cx - b[0]) > (w + b[2]) / 2 or abs(cy - b[1]) > (h + b[3]) / 2 for b in boxes):
                break
        else:
            continue
        dx, dy = ((g[None] - cx) / (w / 2)).abs(), ((g[:, None] - cy) / (h / 2)).abs()
        c = int(torch.randint(CLASSES, (1,)))
        cheb = torch.maximum(dx.expand(SIZE, SIZE), dy.expand(SIZE, SIZE))
        m = (cheb <= 1) if c == 0 else (cheb <= 1) & (cheb > 0.6) if c == 1 else (dx ** 2 + dy ** 2 <= 1)
        img[m] += 0.5 + 0.5 * torch.rand(1).item()
        boxes.append([cx, cy, w, h])
        classes.append(c)
    return img[None], torch.tensor(boxes), torch.tensor(classes)


class Detector(nn.Module):
    def __init__(self, c=24):
        super().__init__()
        def cbr(i, o, stride=1, dil=1):
            return nn.Sequential(nn.Conv2d(i, o, 3, stride, dil, dilation=dil, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))
        self.backbone = nn.Sequential(cbr(1, 12, 2), cbr(12, c, 2), cbr(c, 2 * c), cbr(2 * c, 2 * c, dil=2), cbr(2 * c, 2 * c))
        self.heads = nn.ModuleDict({
            name: nn.Sequential(nn.Conv2d(2 * c, c, 1), nn.ReLU(inplace=True), nn.Conv2d(c, n, 1))
            for name, n in (('heat', CLASSES), ('size', 2), ('offset', 2))})
        nn.init.constant_(self.heads['heat'][-1].bias, -2.2)

    def forward(self, x):
        f = self.backbone(x)
        return {k: h(f) for k, h in self.heads.items()}


def build():
    return (Detector(),)


def encode(boxes, classes, fault):
    heat = torch.zeros(CLASSES, GRID, GRID)
    size, offset, mask = torch.zeros(2, GRID, GRID), torch.zeros(2, GRID, GRID), torch.zeros(1, GRID, GRID)
    if fault == 'boxes_sorted_without_classes':
        boxes = boxes[(boxes[:, 2] * boxes[:, 3]).argsort(descending=True)]
    else:
        order = (boxes[:, 2] * boxes[:, 3]).argsort(descending=True)
        boxes, classes = boxes[order], classes[order]
    g = torch.arange(GRID)
    for (cx, cy, w, h), c in zip(boxes.tolist(), classes.tolist()):
        gx, gy = int(cx / STRIDE), int(cy / STRIDE)
        col, row = (gy, gx) if fault == 'xy_swapped' else (gx, gy)
        sx, sy = w / STRIDE / 6, h / STRIDE / 6
        blob = torch.exp(-((g[None] - col) / sx) ** 2 / 2 - ((g[:, None] - row) / sy) ** 2 / 2)
        heat[c] = torch.maximum(heat[c], blob)
        size[:, row, col] = torch.tensor([w, h]) / SIZE
        offset[:, row, col] = torch.tensor([cx / STRIDE - gx, cy / STRIDE - gy])
        mask[0, row, col] = 1
    return heat, size, offset, mask


def focal_loss(logits, target):
    p = torch.sigmoid(logits).clamp(1e-4, 1 - 1e-4)
    pos = (target == 1).float()
    loss = pos * (1 - p) ** 2 * p.log() + (1 - pos) * (1 - target) ** 4 * p ** 2 * (1 - p).log()
    return -loss.sum() / pos.sum().clamp(min=1)


def criterion(out, heat, size, offset, mask, fault):
    n = mask.sum().clamp(min=1)
    l_heat = focal_loss(out['heat'], heat)
    l_off = ((out['offset'] - offset).abs() * mask).sum() / n
    if fault == 'size_loss_unmasked':
        l_size = (out['size'] - size).abs().mean() * 2
    else:
        l_size = ((out['size'] - size).abs() * mask).sum() / n
    return l_heat + 5 * l_size + 0.5 * l_off


def augment(img, boxes, fault):
    if torch.rand(1) < 0.5:
        img = img.flip(-1)
        if fault != 'flip_image_only':
            boxes = boxes.clone()
            boxes[:, 0] = SIZE - boxes[:, 0]
    return img, boxes


@torch.no_grad()
def detect(model, imgs, threshold=0.35):
    out = model(imgs)
    heat = torch.sigmoid(out['heat'])
    heat = heat * (heat == F.max_pool2d(heat, 3, 1, 1))
    found = []
    for b in range(len(imgs)):
        c, row, col = (heat[b] > threshold).nonzero().unbind(1)
        xy = (torch.stack([col, row], 1) + out['offset'][b, :, row, col].t()) * STRIDE
        wh = out['size'][b, :, row, col].t() * SIZE
        order = heat[b, c, row, col].argsort(descending=True)[:10]
        found.append((torch.cat([xy, wh], 1)[order], c[order]))
    return found


def iou(a, b):
    lo = torch.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
    hi = torch.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2)
    inter = (hi - lo).clamp(min=0).prod()
    return inter / (a[2:].clamp(min=0).prod() + b[2:].prod() - inter)


def f1_score(model, scenes):
    """F1 of found boxes with IoU >= 0.5 and the right class."""
    model.eval()
    found = detect(model, torch.stack([s[0] for s in scenes]))
    tp = n_found = n_true = 0
    for (boxes, cls), (_, gt, gt_cls) in zip(found, scenes):
        free = list(range(len(gt)))
        n_found, n_true = n_found + len(boxes), n_true + len(gt)
        for box, c in zip(boxes, cls):
            hit = next((j for j in free if gt_cls[j] == c and iou(box, gt[j]) >= 0.5), None)
            if hit is not None:
                free.remove(hit)
                tp += 1
    return 2 * tp / max(1, n_found + n_true)


def train(models, fault=''):
    torch.manual_seed(20)
    model, = models
    scenes = [make_scene() for _ in range(1400)]
    train_set, val_set = scenes[:1200], scenes[1200:]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-4)
    epochs = 10
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [6, 9], gamma=0.3)
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(train_set)).tolist()
        for i in range(0, len(order), 24):
            imgs, targets = [], []
            for j in order[i:i + 24]:
                img, boxes, classes = train_set[j]
                img, boxes = augment(img, boxes, fault)
                imgs.append(img)
                targets.append(encode(boxes, classes, fault))
            heat, size, offset, mask = (torch.stack(t) for t in zip(*targets))
            loss = criterion(model(torch.stack(imgs)), heat, size, offset, mask, fault)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
    return 1 - f1_score(model, val_set)


if __name__ == '__main__':
    print(train(build()))
