"""Vision Transformer from scratch: in which quadrant is the target glyph, and which of two glyphs is it?"""
import torch
from torch import nn
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'ViT tutorial: Dataset class with transforms, conv patch embedding, nn.MultiheadAttention blocks, AdamW + OneCycleLR stepped per batch, epoch loop'
FAULTS = {
    'batch_first_missing': 'nn.MultiheadAttention runs without batch_first=True, so it attends over the samples of the batch instead of over the patches and the class token never sees the image',
    'flip_breaks_label': 'a random horizontal flip is added as augmentation although the label names the left or right quadrant, so many training labels become wrong',
    'pos_embed_not_trained': 'the zero-initialised position table is missing from the optimizer (as a plain tensor would be), so it stays zero and the model cannot know where a patch lies',
    'onecycle_stepped_per_epoch': 'scheduler.step() stands in the epoch loop although OneCycleLR counts batches, so the learning rate stays at its small starting value for the whole run',
}

GLYPHS = torch.tensor([
    [[1, 0, 0, 0, 1], [0, 1, 0, 1, 0], [0, 0, 1, 0, 0], [0, 1, 0, 1, 0], [1, 0, 0, 0, 1]],      # x
    [[0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0]],      # +
    [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]],      # square
], dtype=torch.float)


class Quadrants(Dataset):
    """24x24 images; every quadrant holds a square but one, which holds an x or a +; label = quadrant*2 + glyph."""

    def __init__(self, n, seed, transform=None):
        g = torch.Generator().manual_seed(seed)
        self.images = torch.randn(n, 1, 24, 24, generator=g) * 0.15
        quad = torch.randint(4, (n,), generator=g)
        kind = torch.randint(2, (n,), generator=g)
        off = torch.randint(0, 4, (n, 4, 2), generator=g)
        for i in range(n):
            for q in range(4):
                glyph = GLYPHS[kind[i]] if q == quad[i] else GLYPHS[2]
                r, c = (q // 2) * 12 + 2 + int(off[i, q, 0]), (q % 2) * 12 + 2 + int(off[i, q, 1])
                self.images[i, 0, r:r + 5, c:c + 5] += glyph
        self.labels = quad * 2 + kind
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        x = self.images[i]
        if self.transform:
            x = self.transform(x)
        return x, self.labels[i]


class Block(nn.Module):
    def __init__(self, dim, heads, mlp_ratio=2, dropout=0.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim * mlp_ratio), nn.GELU(), nn.Linear(dim * mlp_ratio, dim))

    def forward(self, x):
        h = self.norm1(x)
        x = x + self.attn(h, h, h, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, img=24, patch=6, dim=64, depth=3, heads=4, classes=8):
        super().__init__()
        self.patch_embed = nn.Conv2d(1, dim, patch, patch)
        self.n = (img // patch) ** 2
        self.cls = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.pos = nn.Parameter(torch.zeros(1, self.n + 1, dim))
        self.blocks = nn.ModuleList([Block(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        b = x.shape[0]
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(b, -1, -1), x], dim=1) + self.pos
        for blk in self.blocks:
            x = blk(x)
        return self.head(self.norm(x)[:, 0])


def build():
    torch.manual_seed(0)
    return (ViT(),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(7)

    def augment(x):
        x = x * (0.7 + 0.6 * torch.rand(1)) + 0.1 * torch.randn(1)
        if fault == 'flip_breaks_label' and torch.rand(1) < 0.5:
            x = x.flip(-1)
        return x

    train_dl = DataLoader(Quadrants(4000, 1, augment), batch_size=64, shuffle=True, drop_last=True)
    val_dl = DataLoader(Quadrants(600, 2), batch_size=100)

    if fault == 'batch_first_missing':
        for blk in model.blocks:
            blk.attn.batch_first = False
    params = [p for n, p in model.named_parameters() if not (fault == 'pos_embed_not_trained' and n == 'pos')]

    epochs = 9
    opt = torch.optim.AdamW(params, lr=2e-3, weight_decay=0.01)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=2e-3, epochs=epochs, steps_per_epoch=len(train_dl))
    loss_fn = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        model.train()
        for xb, yb in train_dl:
            loss = loss_fn(model(xb), yb)
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            if fault != 'onecycle_stepped_per_epoch':
                sched.step()
        if fault == 'onecycle_stepped_per_epoch':
            sched.step()

    model.eval()
    correct = n = 0
    with torch.inference_mode():
        for xb, yb in val_dl:
            correct += (model(xb).argmax(-1) == yb).sum().item()
            n += len(yb)
    return 1 - correct / n
