"""Direct preference optimisation of a small causal language model after supervised fine-tuning on demonstrations of mixed quality."""
import copy
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

torch.set_num_threads(1)

STYLE = 'eric-mitchell/direct-preference-optimization repository: collator with labels of -100 on the prompt, _get_batch_logps, concatenated_forward, preference_loss with beta, SFT trainer followed by DPO trainer, RMSprop with linear warm-up'
FAULTS = {
    'logps_not_shifted': 'In _get_batch_logps of the preference stage the logits are not shifted against the labels, so the log-probability of each token is read at its own position, where it is already an input, instead of one position earlier.',
    'prompt_kept_completion_masked': 'In the preference stage the label mask is inverted: the completion is set to -100 and the prompt, which chosen and rejected share, is scored, so the two log-ratios cancel and nothing is learned.',
    'policy_not_from_sft': 'The policy of the preference stage is a freshly initialised model while only the reference holds the SFT weights, so the policy learns to prefer one answer over the other without ever having learned to write either.',
    'reference_is_the_policy': 'The reference model is the same object as the policy instead of a frozen copy, so the implicit reward is always zero, the loss never saturates and the policy runs away from the language it had learned.',
}

SEED = 46
DIGITS, LENGTH = 10, 5
PAD, BOS, SEP, EOS = 10, 11, 12, 13
VOCAB = 14


def make_prompt(rng):
    n = rng.integers(3, LENGTH + 1)
    return list(rng.integers(0, DIGITS, n))


def good_answer(prompt):
    return sorted(prompt) + [EOS]


def bad_answer(prompt, rng):
    """The wish is the digits in ascending order; the other answers are descending or copied."""
    out = sorted(prompt, reverse=True) if rng.random() < 0.5 else list(prompt)
    if out == sorted(prompt):
        out = out[1:]
    return out + [EOS]


def make_data(n, rng):
    data = []
    for _ in range(n):
        p = make_prompt(rng)
        data.append({'prompt': [BOS] + p + [SEP], 'chosen': good_answer(p), 'rejected': bad_answer(p, rng),
                     'demonstration': good_answer(p) if rng.random() < 0.4 else bad_answer(p, rng)})
    return data


def get_collate_fn(keys, invert=False):
    """Pads on the right; labels are -100 on the prompt and on the padding."""
    def collate_fn(batch):
        out = {}
        for key in keys:
            width = 2 * LENGTH + 3
            ids = torch.full((len(batch), width), PAD)
            labels = torch.full((len(batch), width), -100)
            for i, row in enumerate(batch):
                p, c = torch.tensor(row['prompt']), torch.tensor(row[key])
                ids[i, :len(p)] = p
                ids[i, len(p):len(p) + len(c)] = c
                if invert:
                    labels[i, :len(p)] = p
                else:
                    labels[i, len(p):len(p) + len(c)] = c
            out[key + '_input_ids'], out[key + '_labels'] = ids, labels
        return out
    return collate_fn


class Block(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.c_attn, self.c_proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.c_attn(self.ln_1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(b, t, d))
        return x + self.mlp(self.ln_2(x))


class CausalLM(nn.Module):
    def __init__(self, d=64, heads=4, layers=2, max_len=2 * LENGTH + 3):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCAB, d), nn.Embedding(max_len, d)
        self.h = nn.Sequential(*[Block(d, heads) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(d)
        self.lm_head = nn.Linear(d, VOCAB, bias=False)

    def forward(self, input_ids):
        x = self.wte(input_ids) + self.wpe(torch.arange(input_ids.size(1)))
        return self.lm_head(self.ln_f(self.h(x)))


def _get_batch_logps(logits, labels, shift=True):
    if shift:
        labels = labels[:, 1:].clone()
        logits = logits[:, :-1, :]
    else:
        labels = labels.clone()
    loss_mask = labels != -100
    labels[labels == -100] = 0
    per_token_logps = torch.gather(logits.log_softmax(-1), dim=2, index=labels.unsqueeze(2)).squeeze(2)
    return (per_token_logps * loss_mask).sum(-1)


def concatenated_forward(model, batch, shift=True):
    ids = torch.cat([batch['chosen_input_ids'], batch['rejected_input_ids']])
    labels = torch.cat([batch['chosen_labels'], batch['rejected_labels']])
    logps = _get_batch_logps(model(ids), labels, shift)
    return logps.chunk(2)


def preference_loss(policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, beta):
    pi_logratios = policy_chosen_logps - policy_rejected_logps
    ref_logratios = reference_chosen_logps - reference_rejected_logps
    return -F.logsigmoid(beta * (pi_logratios - ref_logratios)).mean()


@torch.no_grad()
def evaluate(model, data):
    """Share of unseen prompts whose sampled answer is not exactly the wished one."""
    model.eval()
    generator = torch.Generator().manual_seed(5)
    wrong = 0
    for n in range(3, LENGTH + 1):
        rows = [r for r in data if len(r['prompt']) == n + 2]
        ids = torch.tensor([r['prompt'] for r in rows])
        for _ in range(n + 1):
            probs = model(ids)[:, -1].softmax(-1)
            ids = torch.cat([ids, torch.multinomial(probs, 1, generator=generator)], 1)
        wish = torch.tensor([r['chosen'] for r in rows])
        wrong += (ids[:, n + 2:] != wish).any(1).sum().item()
    model.train()
    return wrong / len(data)


def build():
    torch.manual_seed(SEED)
    return (CausalLM(),)


def train(models, fault=''):
    policy = models[0]
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    sft_data, dpo_data, test_data = make_data(8000, rng), make_data(4000, rng), make_data(1000, rng)
    untrained = copy.deepcopy(policy.state_dict())

    # supervised stage
    loader = DataLoader(sft_data, batch_size=64, shuffle=True, collate_fn=get_collate_fn(['demonstration']))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=2e-3, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=14 * len(loader))
    for epoch in range(14):
        for batch in loader:
            labels = batch['demonstration_labels']
            loss = -_get_batch_logps(policy(batch['demonstration_input_ids']), labels).sum() / (labels != -100).sum()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
            scheduler.step()

    # preference stage
    reference = copy.deepcopy(policy).eval()
    for p in reference.parameters():
        p.requires_grad_(False)
    if fault == 'reference_is_the_policy':
        reference = policy
    if fault == 'policy_not_from_sft':
        policy.load_state_dict(untrained)
    beta, warmup_steps = 0.5, 20
    shift = fault != 'logps_not_shifted'
    collate_fn = get_collate_fn(['chosen', 'rejected'], invert=fault == 'prompt_kept_completion_masked')
    loader = DataLoader(dpo_data, batch_size=32, shuffle=True, collate_fn=collate_fn)
    optimizer = torch.optim.RMSprop(policy.parameters(), lr=5e-5)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (warmup_steps + 1)))
    for epoch in range(3):
        for batch in loader:
            policy_chosen_logps, policy_rejected_logps = concatenated_forward(policy, batch, shift)
            with torch.no_grad():
                reference_chosen_logps, reference_rejected_logps = concatenated_forward(reference, batch, shift)
            loss = preference_loss(policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, beta)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), 10.0)
            optimizer.step()
            scheduler.step()

    return evaluate(policy, test_data)


if __name__ == '__main__':
    print(train(build()))
