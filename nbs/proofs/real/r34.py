"""Masked autoencoder with a small ViT on synthetic oriented textures, judged by a linear probe on frozen features."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import TensorDataset, DataLoader

torch.set_num_threads(1)

STYLE = 'facebookresearch/mae: MaskedAutoencoderViT with random_masking / ids_restore, forward_encoder, forward_decoder, forward_loss, AdamW betas (0.9, 0.95), per-step warm-up + cosine; linear probe afterwards'
FAULTS = {
    'loss_on_visible': 'The loss is averaged over the kept patches instead of the removed ones (mask inverted), so the encoder learns only to copy what it sees.',
    'unshuffle_with_ids_shuffle': 'The decoder tokens are put back with ids_shuffle instead of ids_restore, so tokens are predicted at the wrong places and the task cannot be solved.',
    'pos_embed_after_masking': 'The position embedding is added after the masking, as the first rows for all samples, so the encoder does not know where the kept patches come from.',
    'decoder_without_positions': 'The decoder position embedding is not added, so all mask tokens of an image are identical and only a mean patch can be predicted.',
}

IMG, PATCH = 24, 4
N_CLASSES = 12


def make_textures(n, seed):
    """The class is orientation (6) x waveform (2); phase, frequency, contrast, sign and noise vary."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, N_CLASSES, n)
    yy, xx = np.mgrid[:IMG, :IMG].astype(np.float64)
    theta = (y % 6) * np.pi / 6 + rng.normal(0, 0.05, n)
    freq = rng.uniform(0.3, 0.5, n)
    phase = rng.uniform(0, 2 * np.pi, n)
    arg = freq[:, None, None] * (np.cos(theta)[:, None, None] * xx + np.sin(theta)[:, None, None] * yy) + phase[:, None, None]
    wave = np.where((y // 6 == 0)[:, None, None], np.sin(arg), np.maximum(np.sin(arg), 0.55) * 4.4 - 3.0)
    x = wave * rng.uniform(0.5, 1.0, (n, 1, 1)) + rng.normal(0, 0.5, wave.shape) + rng.normal(0, 0.3, (n, 1, 1))
    return torch.from_numpy(x[:, None].astype(np.float32)), torch.from_numpy(y)


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x):
        B, N, C = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, C)
        x = x + self.proj(a)
        return x + self.mlp(self.norm2(x))


def get_2d_sincos_pos_embed(dim, grid):
    def one(pos, d):
        omega = 1.0 / 10000 ** (np.arange(d // 2) / (d / 2))
        out = pos.reshape(-1)[:, None] * omega[None]
        return np.concatenate([np.sin(out), np.cos(out)], 1)
    gy, gx = np.mgrid[:grid, :grid].astype(np.float64)
    emb = np.concatenate([one(gy, dim // 2), one(gx, dim // 2)], 1)
    return torch.from_numpy(emb.astype(np.float32))[None]


class MaskedAutoencoderViT(nn.Module):
    def __init__(self, dim=48, depth=3, heads=4, decoder_dim=32, decoder_depth=1, fault=''):
        super().__init__()
        self.fault = fault
        grid = IMG // PATCH
        self.patch_embed = nn.Linear(PATCH * PATCH, dim)
        self.register_buffer('pos_embed', get_2d_sincos_pos_embed(dim, grid))
        self.blocks = nn.ModuleList([Block(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.decoder_embed = nn.Linear(dim, decoder_dim)
        self.mask_token = nn.Parameter(torch.randn(1, 1, decoder_dim) * 0.02)
        self.register_buffer('decoder_pos_embed', get_2d_sincos_pos_embed(decoder_dim, grid))
        self.decoder_blocks = nn.ModuleList([Block(decoder_dim, heads) for _ in range(decoder_depth)])
        self.decoder_norm = nn.LayerNorm(decoder_dim)
        self.decoder_pred = nn.Linear(decoder_dim, PATCH * PATCH)

    def patchify(self, imgs):
        h = IMG // PATCH
        x = imgs.reshape(len(imgs), 1, h, PATCH, h, PATCH)
        return torch.einsum('nchpwq->nhwpqc', x).reshape(len(imgs), h * h, PATCH * PATCH)

    def random_masking(self, x, mask_ratio):
        N, L, D = x.shape
        len_keep = int(L * (1 - mask_ratio))
        ids_shuffle = torch.rand(N, L).argsort(1)
        ids_restore = ids_shuffle.argsort(1)
        ids_keep = ids_shuffle[:, :len_keep]
        x = x.gather(1, ids_keep[..., None].expand(-1, -1, D))
        mask = torch.ones(N, L)
        mask[:, :len_keep] = 0
        mask = mask.gather(1, ids_restore)
        return x, mask, ids_shuffle if self.fault == 'unshuffle_with_ids_shuffle' else ids_restore

    def forward_encoder(self, imgs, mask_ratio):
        x = self.patch_embed(self.patchify(imgs))
        if self.fault == 'pos_embed_after_masking':
            x, mask, ids_restore = self.random_masking(x, mask_ratio)
            x = x + self.pos_embed[:, :x.shape[1]]
        else:
            x = x + self.pos_embed
            x, mask, ids_restore = self.random_masking(x, mask_ratio)
        for blk in self.blocks:
            x = blk(x)
        return self.norm(x), mask, ids_restore

    def forward_decoder(self, x, ids_restore):
        x = self.decoder_embed(x)
        N, n, D = x.shape
        mask_tokens = self.mask_token.expand(N, ids_restore.shape[1] - n, -1)
        x = torch.cat([x, mask_tokens], 1)
        x = x.gather(1, ids_restore[..., None].expand(-1, -1, D))
        if self.fault != 'decoder_without_positions':
            x = x + self.decoder_pos_embed
        for blk in self.decoder_blocks:
            x = blk(x)
        return self.decoder_pred(self.decoder_norm(x))

    def forward_loss(self, imgs, pred, mask):
        loss = (pred - self.patchify(imgs)).pow(2).mean(-1)
        if self.fault == 'loss_on_visible':
            mask = 1 - mask
        return (loss * mask).sum() / mask.sum()

    def forward(self, imgs, mask_ratio=0.75):
        latent, mask, ids_restore = self.forward_encoder(imgs, mask_ratio)
        return self.forward_loss(imgs, self.forward_decoder(latent, ids_restore), mask)

    @torch.no_grad()
    def features(self, imgs):
        x = self.patch_embed(self.patchify(imgs)) + self.pos_embed
        for blk in self.blocks:
            x = blk(x)
        return self.norm(x).mean(1)


def linear_probe(model, seed=5):
    """Error on held-out images of a linear classifier trained on the frozen, mean-pooled features."""
    model.eval()
    (x, y), (xt, yt) = make_textures(800, 11), make_textures(1500, 12)
    f, ft = model.features(x), model.features(xt)
    mean, std = f.mean(0), f.std(0) + 1e-6
    f, ft = (f - mean) / std, (ft - mean) / std
    head = nn.Linear(f.shape[1], N_CLASSES)
    nn.init.zeros_(head.weight)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02, weight_decay=1e-3)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(head(f), y).backward()
        optimizer.step()
    return 1 - (head(ft).argmax(1) == yt).float().mean().item()


def build():
    torch.manual_seed(34)
    return (MaskedAutoencoderViT(),)


def train(models, fault=''):
    model = models[0]
    model.fault = fault
    torch.manual_seed(34)
    images, _ = make_textures(4096, 1)
    loader = DataLoader(TensorDataset(images), batch_size=128, shuffle=True, drop_last=True)
    epochs, lr, warmup = 30, 2e-3, 60
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.05)
    total = epochs * len(loader)
    step = 0
    for epoch in range(epochs):
        model.train()
        for (x,) in loader:
            scale = (step + 1) / warmup if step < warmup else 0.5 * (1 + np.cos(np.pi * (step - warmup) / (total - warmup)))
            for group in optimizer.param_groups:
                group['lr'] = lr * scale
            optimizer.zero_grad()
            loss = model(x)
            loss.backward()
            optimizer.step()
            step += 1

    return linear_probe(model)


if __name__ == '__main__':
    print(train(build()))
