import torch
import torch.nn as nn
from torch.nn import functional as F

torch.set_num_threads(1)

STYLE = 'small causal transformer in the nanoGPT way: get_batch(split), estimate_loss(), one loop over iterations, AdamW'
FAULTS = {
    'causal_mask_missing': 'the attention has no causal mask, so each position can see the token that it has to predict',
    'zero_grad_between_backward_and_step': 'optimizer.zero_grad() is called after loss.backward() and before optimizer.step()',
    'lr_100x_too_high': 'learning rate 0.3 with AdamW, 100 times too high',
}

block_size = 16
vocab_size = 12
n_embd = 40
batch_size = 24
max_iters = 250


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1 = nn.LayerNorm(n_embd)
        self.qkv = nn.Linear(n_embd, 3 * n_embd)
        self.proj = nn.Linear(n_embd, n_embd)
        self.ln2 = nn.LayerNorm(n_embd)
        self.mlp = nn.Sequential(nn.Linear(n_embd, 2 * n_embd), nn.GELU(), nn.Linear(2 * n_embd, n_embd))

    def forward(self, x, causal):
        B, T, C = x.shape
        q, k, v = (t.view(B, T, 2, C // 2).transpose(1, 2) for t in self.qkv(self.ln1(x)).split(C, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        x = x + self.proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp(self.ln2(x))


class TinyGPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(vocab_size, n_embd)
        self.pos = nn.Embedding(block_size, n_embd)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.ln_f = nn.LayerNorm(n_embd)
        self.head = nn.Linear(n_embd, vocab_size)

    def forward(self, idx, targets, causal=True):
        x = self.tok(idx) + self.pos(torch.arange(idx.size(1)))
        for b in self.blocks:
            x = b(x, causal)
        logits = self.head(self.ln_f(x))
        return F.cross_entropy(logits.reshape(-1, vocab_size), targets.reshape(-1))


def build():
    return (TinyGPT(),)


def make_stream(n_lines):
    # every line repeats a motif of 4 tokens
    motif = torch.randint(0, vocab_size, (n_lines, 4))
    return motif.repeat(1, 5)[:, :block_size + 1]


def train(models, fault=''):
    torch.manual_seed(11)
    model = models[0]
    data = {'train': make_stream(3000), 'val': make_stream(400)}
    causal = fault != 'causal_mask_missing'

    def get_batch(split):
        ix = torch.randint(len(data[split]), (batch_size,))
        chunk = data[split][ix]
        return chunk[:, :-1], chunk[:, 1:]

    @torch.no_grad()
    def estimate_loss(iters=5):
        model.eval()
        out = torch.stack([model(*get_batch('val'), causal=causal) for _ in range(iters)]).mean().item()
        model.train()
        return out

    lr = 0.3 if fault == 'lr_100x_too_high' else 3e-3
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    model.train()
    for it in range(max_iters):
        xb, yb = get_batch('train')
        loss = model(xb, yb, causal=causal)
        if fault == 'zero_grad_between_backward_and_step':
            loss.backward()
            optimizer.zero_grad(set_to_none=False)
            optimizer.step()
        else:
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return estimate_loss(10)
