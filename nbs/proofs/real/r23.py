"""Sparse mixture-of-experts language model: top-2 routing, expert capacity, load-balancing and z loss, on a synthetic language of dialects."""
import math
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'nanoGPT/nanoMoE style: GPTConfig-like class, fused qkv, pre-norm blocks with a routed FFN in every block, AdamW with decay groups, warmup and cosine lr set by hand, get_batch'
FAULTS = {
    'outputs_left_in_expert_order': 'The expert outputs are added back at positions 0, 1, 2... in the order in which the experts took the tokens, not at the tokens they came from, so tokens receive the features of others.',
    'router_softmax_over_tokens': 'The router softmax runs over dim 0, the tokens, instead of the experts, so every gate is about 1/number of tokens, the experts contribute almost nothing and top-k ranks the wrong quantity.',
    'causal_mask_missing': 'Attention runs without is_causal, so the net reads the next token in training; the held-out loss, which is measured on prefixes with the last token only, shows it learnt to copy the future.',
    'capacity_of_one_sequence': 'The expert capacity is computed from the sequence length although the experts share the tokens of the whole batch, so nearly all tokens are dropped and pass the expert layer unchanged.',
}


class Config:
    vocab_size = 24
    block_size = 32
    n_layer = 2
    n_head = 4
    n_embd = 48
    n_expert = 8
    top_k = 2
    capacity_factor = 1.25
    aux_coef = 0.01
    z_coef = 1e-3
    batch_size = 32
    max_iters = 750
    warmup_iters = 60
    learning_rate = 4e-3
    min_lr = 4e-4
    weight_decay = 0.1


class Dialects:
    """Each sequence starts with a dialect token (one of 8); the next of 16 words depends on the dialect and the last two words."""

    def __init__(self, n_dialects=8, n_words=16, seed=3):
        g = torch.Generator().manual_seed(seed)
        self.nd, self.nw = n_dialects, n_words
        succ = torch.stack([torch.randperm(n_words, generator=g) for _ in range(n_dialects * 2)])
        self.succ = succ.view(n_dialects, 2, n_words)      # two successors of every word and dialect
        self.flip = torch.randint(2, (n_dialects, n_words), generator=g)

    def sample(self, n, length, g):
        d = torch.randint(self.nd, (n,), generator=g)
        a = torch.randint(self.nw, (n,), generator=g)
        b = torch.randint(self.nw, (n,), generator=g)
        seq = [d + self.nw, a, b]
        for _ in range(length - 3):
            nxt = self.succ[d, self.flip[d, a], b]
            noise = torch.rand(n, generator=g) < 0.1
            nxt = torch.where(noise, torch.randint(self.nw, (n,), generator=g), nxt)
            seq.append(nxt)
            a, b = b, nxt
        return torch.stack(seq, dim=1)


class CausalSelfAttention(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.c_attn = nn.Linear(cfg.n_embd, 3 * cfg.n_embd, bias=False)
        self.c_proj = nn.Linear(cfg.n_embd, cfg.n_embd, bias=False)
        self.n_head = cfg.n_head
        self.causal = True

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(C, dim=2)
        q, k, v = (z.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for z in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))


class Expert(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.w1 = nn.Linear(dim, 2 * dim)
        self.w2 = nn.Linear(2 * dim, dim)

    def forward(self, x):
        return self.w2(F.gelu(self.w1(x)))


class MoE(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.n_expert, self.top_k, self.capacity_factor = cfg.n_expert, cfg.top_k, cfg.capacity_factor
        self.router = nn.Linear(cfg.n_embd, cfg.n_expert, bias=False)
        self.experts = nn.ModuleList([Expert(cfg.n_embd) for _ in range(cfg.n_expert)])
        self.fault = ''
        self.aux_loss = self.z_loss = 0.

    def forward(self, x):
        B, T, C = x.shape
        flat = x.view(-1, C)
        n = flat.size(0)
        logits = self.router(flat)
        probs = F.softmax(logits, dim=0 if self.fault == 'router_softmax_over_tokens' else -1)
        gate, idx = probs.topk(self.top_k, dim=-1)                    # (n, k)
        if self.fault != 'router_softmax_over_tokens':
            gate = gate / gate.sum(-1, keepdim=True)

        # Switch load-balancing loss: share of tokens times mean probability, per expert
        onehot = F.one_hot(idx, self.n_expert).float().sum(1)         # (n, E)
        self.aux_loss = self.n_expert * (onehot.mean(0) / self.top_k * probs.mean(0)).sum()
        self.z_loss = torch.logsumexp(logits, dim=-1).pow(2).mean()

        if self.fault == 'capacity_of_one_sequence':
            n = T
        capacity = int(math.ceil(self.top_k * n / self.n_expert * self.capacity_factor))
        out = torch.zeros_like(flat)
        start = 0
        for e, expert in enumerate(self.experts):
            tok, slot = torch.where(idx == e)
            tok, slot = tok[:capacity], slot[:capacity]               # the rest is dropped, only the residual path remains
            if tok.numel() == 0:
                continue
            y = expert(flat[tok]) * gate[tok, slot].unsqueeze(-1)
            if self.fault == 'outputs_left_in_expert_order':
                tok = torch.arange(start, start + len(tok)) % flat.size(0)
                start += len(tok)
            out = out.index_add(0, tok, y)
        return out.view(B, T, C)


class Block(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.ln_1 = nn.LayerNorm(cfg.n_embd)
        self.attn = CausalSelfAttention(cfg)
        self.ln_2 = nn.LayerNorm(cfg.n_embd)
        self.moe = MoE(cfg)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.moe(self.ln_2(x))


class MoEGPT(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.wte = nn.Embedding(cfg.vocab_size, cfg.n_embd)
        self.wpe = nn.Embedding(cfg.block_size, cfg.n_embd)
        self.h = nn.ModuleList([Block(cfg) for _ in range(cfg.n_layer)])
        self.ln_f = nn.LayerNorm(cfg.n_embd)
        self.lm_head = nn.Linear(cfg.n_embd, cfg.vocab_size, bias=False)
        self.apply(self._init_weights)

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.05)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, idx, targets=None):
        T = idx.size(1)
        x = self.wte(idx) + self.wpe(torch.arange(T))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.reshape(-1, logits.size(-1)), targets.reshape(-1))
        return logits, loss

    def aux_losses(self):
        return sum(b.moe.aux_loss for b in self.h), sum(b.moe.z_loss for b in self.h)

    def configure_optimizer(self):
        decay = [p for p in self.parameters() if p.dim() >= 2]
        nodecay = [p for p in self.parameters() if p.dim() < 2]
        groups = [{'params': decay, 'weight_decay': self.cfg.weight_decay}, {'params': nodecay, 'weight_decay': 0.0}]
        return torch.optim.AdamW(groups, lr=self.cfg.learning_rate, betas=(0.9, 0.95))


def get_lr(it, cfg):
    if it < cfg.warmup_iters:
        return cfg.learning_rate * (it + 1) / cfg.warmup_iters
    ratio = (it - cfg.warmup_iters) / (cfg.max_iters - cfg.warmup_iters)
    return cfg.min_lr + 0.5 * (1 + math.cos(math.pi * ratio)) * (cfg.learning_rate - cfg.min_lr)


@torch.no_grad()
def evaluate(model, data):
    """Cross entropy of the last token given the prefix, for several prefix lengths: no target is ever in the input."""
    model.eval()
    losses = []
    for end in (8, 16, 24, 32):
        logits, _ = model(data[:, :end])
        losses.append(F.cross_entropy(logits[:, -1], data[:, end]).item())
    return sum(losses) / len(losses)


def build():
    torch.manual_seed(1337)
    return (MoEGPT(Config()),)


def train(models, fault=''):
    model = models[0]
    cfg = model.cfg
    torch.manual_seed(23)
    g = torch.Generator().manual_seed(5)
    language = Dialects()
    train_data = language.sample(20000, cfg.block_size + 1, g)
    val_data = language.sample(500, cfg.block_size + 1, g)

    for block in model.h:
        block.moe.fault = fault
        if fault == 'causal_mask_missing':
            block.attn.causal = False

    def get_batch():
        seq = train_data[torch.randint(len(train_data), (cfg.batch_size,))]
        return seq[:, :-1], seq[:, 1:]

    optimizer = model.configure_optimizer()
    model.train()
    for it in range(cfg.max_iters):
        lr = get_lr(it, cfg)
        for group in optimizer.param_groups:
            group['lr'] = lr
        xb, yb = get_batch()
        _, loss = model(xb, yb)
        aux, z = model.aux_losses()
        loss = loss + cfg.aux_coef * aux + cfg.z_coef * z
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return evaluate(model, val_data)


if __name__ == '__main__':
    print(train(build()))
