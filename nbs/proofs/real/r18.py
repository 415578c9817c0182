"""LoRA: a small vision transformer is pretrained on Fashion-MNIST and adapted to negative, transposed pictures with low-rank adapters."""
import os
import torch
import torch.nn as nn
import torch.nn.functional as F
from torchvision.datasets import FashionMNIST

torch.set_num_threads(1)

STYLE = 'loralib-like: class LoRALinear, inject_lora / mark_only_lora_as_trainable / merge functions, AdamW with OneCycleLR, one fit function for both phases'
FAULTS = {
    'a_and_b_zero': 'Both low-rank factors are initialized with zeros, so the gradient of each is zero for ever and the adapters never move.',
    'lora_frozen_too': 'Freezing runs after the injection over all parameters but the layer norms (name test for "lora_" forgotten), so no adapter is trained.',
    'merged_and_active': 'The update is merged into the base weights for validation, but the adapter path stays active, so it acts twice.',
    'scale_times_rank': 'The adapter is scaled by alpha * r instead of alpha / r, 64 times too strong, so the first steps wreck the net.',
}

D, HEADS, PATCH = 48, 4, 7


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(D, D), nn.Linear(D, D)
        self.v_proj, self.o_proj = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = (f(x).view(b, n, HEADS, -1).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj))
        return self.o_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, D))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.attn = Attention()
        self.fc1, self.fc2 = nn.Linear(D, 2 * D), nn.Linear(2 * D, D)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class TinyViT(nn.Module):
    def __init__(self, depth=3):
        super().__init__()
        self.embed = nn.Linear(PATCH * PATCH, D)
        self.pos = nn.Parameter(torch.randn(1, 16, D) * 0.02)
        self.blocks = nn.ModuleList([Block() for _ in range(depth)])
        self.norm = nn.LayerNorm(D)
        self.head = nn.Linear(D, 10)

    def forward(self, x):
        b = x.size(0)
        x = x.view(b, 4, PATCH, 4, PATCH).transpose(2, 3).reshape(b, 16, PATCH * PATCH)
        x = self.embed(x) + self.pos
        for blk in self.blocks:
            x = blk(x)
        return self.head(self.norm(x).mean(1))


class LoRALinear(nn.Module):
    def __init__(self, base, r=8, alpha=8, fault=''):
        super().__init__()
        self.base = base
        self.lora_A = nn.Parameter(torch.zeros(r, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, r))
        if fault != 'a_and_b_zero':
            nn.init.kaiming_uniform_(self.lora_A, a=5 ** 0.5)
        self.scaling = alpha * r if fault == 'scale_times_rank' else alpha / r
        self.merged = False

    def forward(self, x):
        out = self.base(x)
        if self.merged:
            return out
        return out + self.scaling * (x @ self.lora_A.t() @ self.lora_B.t())

    @torch.no_grad()
    def merge(self, fault):
        self.base.weight += self.scaling * self.lora_B @ self.lora_A
        if fault != 'merged_and_active':
            self.merged = True


def inject_lora(module, fault):
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear) and name != 'head':
            setattr(module, name, LoRALinear(child, fault=fault))
        else:
            inject_lora(child, fault)


def mark_only_lora_as_trainable(model, fault):
    for n, p in model.named_parameters():
        if fault == 'lora_frozen_too':
            p.requires_grad = 'norm' in n
        else:
            p.requires_grad = 'lora_' in n or 'norm' in n


def build():
    return (TinyViT(),)


def fit(model, x, y, epochs, max_lr, bs=64):
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=max_lr, weight_decay=0.01)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr, total_steps=epochs * (len(x) // bs))
    model.train()
    for _ in range(epochs):
        perm = torch.randperm(len(x))
        for i in range(len(x) // bs):
            idx = perm[i * bs:(i + 1) * bs]
            loss = F.cross_entropy(model(x[idx]), y[idx], label_smoothing=0.05)
            opt.zero_grad()
            loss.backward()
            opt.step()
            sched.step()


@torch.no_grad()
def error(model, x, y):
    model.eval()
    return (model(x).argmax(1) != y).float().mean().item()


def train(models, fault=''):
    torch.manual_seed(18)
    model, = models
    ds = FashionMNIST(os.environ.get('MINIAI_DATA', 'data'), train=True, download=False)
    x, y = ds.data[:11000].float().div(255).sub(0.286).div(0.353), ds.targets[:11000]

    # phase 1: pretraining with all weights
    fit(model, x[:6000], y[:6000], epochs=6, max_lr=3e-3)

    # phase 2: another domain (negative and transposed), the base weights are frozen
    new = -x[6000:].transpose(1, 2).contiguous()
    new_y = y[6000:]
    inject_lora(model, fault)
    mark_only_lora_as_trainable(model, fault)
    fit(model, new[:4000], new_y[:4000], epochs=8, max_lr=5e-3)

    for m in model.modules():
        if isinstance(m, LoRALinear):
            m.merge(fault)
    return error(model, new[4000:], new_y[4000:])


if __name__ == '__main__':
    print(train(build()))
