"""CLIP-like contrastive pre-training of a small conv image encoder and a text transformer on synthetic scenes with captions."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'openai/CLIP and open_clip: encode_image / encode_text, causal text transformer pooled at the end-of-text token, learned logit_scale, symmetric cross entropy, AdamW with warm-up and cosine per step'
FAULTS = {
    'horizontal_flip': 'The images are randomly flipped left-right as augmentation although the captions say which object is on the left, so half of the pairs no longer belong together.',
    'pooled_at_first_token': 'The text feature is taken at position 0 (as with a CLS token) although the text transformer is causal, so it sees only the start token and all captions get the same embedding.',
    'divided_by_logit_scale': 'The cosine similarities are divided by exp(logit_scale) instead of multiplied, so the softmax is nearly flat and the contrastive gradient almost vanishes.',
    'caption_index_order': 'The flat caption list holds the two captions of each image one after the other, but is indexed as if all first captions came first, so the images are paired with the captions of other images.',
}

SIZE = 24
COLORS = {'red': (0.9, 0.1, 0.1), 'green': (0.1, 0.8, 0.1), 'blue': (0.1, 0.2, 0.9), 'yellow': (0.9, 0.9, 0.1)}
SHAPES = ['circle', 'square', 'triangle', 'cross']
GROUNDS = {'black': 0.0, 'gray': 0.35, 'white': 1.0}
WORDS = ['<pad>', 'a', 'the', 'photo', 'of', 'left', 'right', 'above', 'below', 'on', 'ground', 'is', 'there', 'and'] \
    + list(COLORS) + SHAPES + list(GROUNDS) + ['<start>', '<end>']
VOCAB = {w: i for i, w in enumerate(WORDS)}
CONTEXT = 18


def draw(canvas, shape, color, cy, cx, r):
    yy, xx = np.mgrid[:SIZE, :SIZE]
    dy, dx = yy - cy, xx - cx
    if shape == 'circle':
        m = dy ** 2 + dx ** 2 <= r ** 2
    elif shape == 'square':
        m = np.maximum(abs(dy), abs(dx)) <= r * 0.85
    elif shape == 'triangle':
        m = (dy <= r * 0.8) & (dy >= -r) & (abs(dx) <= (dy + r) * 0.6)
    else:
        m = ((abs(dy) <= r * 0.35) & (abs(dx) <= r)) | ((abs(dx) <= r * 0.35) & (abs(dy) <= r))
    canvas[:, m] = np.array(COLORS[color])[:, None]


def render(scene, rng):
    (c1, s1), (c2, s2), layout, ground = scene
    img = np.full((3, SIZE, SIZE), GROUNDS[ground])
    near, far, mid = rng.uniform(5, 7.5), rng.uniform(15.5, 18), rng.uniform(8, 15, 2)
    p1, p2 = ((mid[0], near), (mid[1], far)) if layout == 'h' else ((near, mid[0]), (far, mid[1]))
    draw(img, s1, c1, *p1, rng.uniform(3.8, 4.8))
    draw(img, s2, c2, *p2, rng.uniform(3.8, 4.8))
    return (img + rng.normal(0, 0.08, img.shape)).astype(np.float32)


def caption(scene, rng):
    (c1, s1), (c2, s2), layout, ground = scene
    first, second = f'{c1} {s1}', f'{c2} {s2}'
    words = ['left of', 'right of'] if layout == 'h' else ['above', 'below']
    if rng.random() < 0.5:
        first, second, words = second, first, words[::-1]
    art = rng.choice(['a', 'the'])
    head = rng.choice(['', 'a photo of ', 'there is '])
    return f'{head}{art} {first} {words[0]} {art} {second} on {ground} ground'


def tokenize(texts):
    out = torch.zeros(len(texts), CONTEXT, dtype=torch.long)
    for i, t in enumerate(texts):
        ids = [VOCAB['<start>']] + [VOCAB[w] for w in t.split()] + [VOCAB['<end>']]
        out[i, :len(ids)] = torch.tensor(ids)
    return out


def random_scene(rng):
    def thing():
        return (list(COLORS)[rng.integers(4)], SHAPES[rng.integers(4)])
    a, b = thing(), thing()
    while a == b:
        b = thing()
    return a, b, 'h' if rng.random() < 0.65 else 'v', list(GROUNDS)[rng.integers(3)]


class SceneCaptions(Dataset):
    """Each image has `per_image` captions, one of which is drawn at each access."""

    def __init__(self, scenes, seed, per_image=2, flip=False, fault=''):
        rng = np.random.default_rng(seed)
        self.images = torch.from_numpy(np.stack([render(s, rng) for s in scenes]))
        self.tokens = tokenize([caption(s, rng) for s in scenes for _ in range(per_image)])
        self.per_image, self.flip, self.fault = per_image, flip, fault

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = self.images[i]
        if self.flip and torch.rand(()) < 0.5:
            image = image.flip(-1)
        k = int(torch.randint(self.per_image, ()))
        if self.fault == 'caption_index_order':
            tokens = self.tokens[k * len(self.images) + i]
        else:
            tokens = self.tokens[i * self.per_image + k]
        return (image - 0.45) / 0.35, tokens


class ImageEncoder(nn.Module):
    def __init__(self, embed_dim, width=24):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU())
        self.proj = nn.Sequential(nn.Flatten(), nn.Linear(2 * width * (SIZE // 4) ** 2, 192), nn.ReLU(), nn.Linear(192, embed_dim))

    def forward(self, x):
        return self.proj(self.stem(x))


class ResidualAttentionBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x, attn_mask):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=attn_mask)[0]
        return x + self.mlp(self.ln_2(x))


class CLIP(nn.Module):
    def __init__(self, embed_dim=48, width=64, heads=4, layers=2, pool='end'):
        super().__init__()
        self.pool = pool
        self.visual = ImageEncoder(embed_dim)
        self.token_embedding = nn.Embedding(len(WORDS), width)
        self.positional_embedding = nn.Parameter(torch.randn(CONTEXT, width) * 0.02)
        self.blocks = nn.ModuleList([ResidualAttentionBlock(width, heads) for _ in range(layers)])
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, embed_dim) * width ** -0.5)
        self.logit_scale = nn.Parameter(torch.tensor(np.log(1 / 0.07), dtype=torch.float32))
        self.register_buffer('attn_mask', torch.full((CONTEXT, CONTEXT), float('-inf')).triu(1))

    def encode_image(self, image):
        return self.visual(image)

    def encode_text(self, text):
        x = self.token_embedding(text) + self.positional_embedding
        for block in self.blocks:
            x = block(x, self.attn_mask)
        x = self.ln_final(x)
        x = x[torch.arange(len(x)), text.argmax(-1)] if self.pool == 'end' else x[:, 0]
        return x @ self.text_projection


def clip_loss(image_features, text_features, logit_scale, fault=''):
    image_features = F.normalize(image_features, dim=-1)
    text_features = F.normalize(text_features, dim=-1)
    if fault == 'divided_by_logit_scale':
        logits_per_image = image_features @ text_features.t() / logit_scale.exp()
    else:
        logits_per_image = logit_scale.exp() * image_features @ text_features.t()
    logits_per_text = logits_per_image.t()
    labels = torch.arange(len(logits_per_image))
    return (F.cross_entropy(logits_per_image, labels) + F.cross_entropy(logits_per_text, labels)) / 2


@torch.no_grad()
def retrieval_error(model, dataset):
    """1 - mean of image-to-text and text-to-image recall at 1."""
    model.eval()
    images, texts = next(iter(DataLoader(dataset, batch_size=len(dataset))))
    fi = F.normalize(model.encode_image(images), dim=-1)
    ft = F.normalize(model.encode_text(texts), dim=-1)
    sim = fi @ ft.t()
    target = torch.arange(len(sim))
    r1 = (sim.argmax(1) == target).float().mean() + (sim.argmax(0) == target).float().mean()
    return 1 - r1.item() / 2


def build():
    torch.manual_seed(33)
    return (CLIP(),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(33)
    if fault == 'pooled_at_first_token':
        model.pool = 'first'
    rng = np.random.default_rng(1)
    train_set = SceneCaptions([random_scene(rng) for _ in range(4000)], seed=2, flip=fault == 'horizontal_flip', fault=fault)
    seen, test_scenes = set(), []
    while len(test_scenes) < 200:
        s = random_scene(rng)
        mirror = (s[1], s[0], s[2], s[3])
        if s not in seen:
            seen.update([s, mirror])
            test_scenes += [s, mirror]
    test_set = SceneCaptions(test_scenes, seed=3, per_image=1)
    loader = DataLoader(train_set, batch_size=128, shuffle=True, drop_last=True)

    epochs, lr, warmup = 14, 2e-3, 30
    no_decay = [p for n, p in model.named_parameters() if p.ndim < 2]
    decay = [p for n, p in model.named_parameters() if p.ndim >= 2]
    optimizer = torch.optim.AdamW([{'params': no_decay, 'weight_decay': 0.0}, {'params': decay, 'weight_decay': 0.05}], lr=lr)
    total = epochs * len(loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: (s + 1) / warmup if s < warmup else 0.5 * (1 + np.cos(np.pi * (s - warmup) / (total - warmup))))
    for epoch in range(epochs):
        model.train()
        for images, texts in loader:
            optimizer.zero_grad()
            loss = clip_loss(model.encode_image(images), model.encode_text(texts), model.logit_scale, fault)
            loss.backward()
            optimizer.step()
            scheduler.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, np.log(100))

    return retrieval_error(model, test_set)


if __name__ == '__main__':
    print(train(build()))
