import torch
import torch.nn as nn
from torch.distributions import Categorical

torch.set_num_threads(1)

STYLE = 'policy gradient (REINFORCE) on a contextual bandit with running baseline and entropy bonus'
FAULTS = {
    'sign_wrong': 'the policy loss lacks the minus sign, so expected reward is minimised',
    'log_prob_detached': 'log_prob is detached, only the entropy bonus still has a gradient',
    'reward_shape_broadcasts': 'rewards have shape (n,1) and log-probs (n,), so every reward is credited to every action',
}

N_ARMS = 4
CTX = 8


def build():
    policy = nn.Sequential(nn.Linear(CTX, 48), nn.Tanh(), nn.Linear(48, N_ARMS))
    return (policy,)


class Bandit:
    def __init__(self):
        self.w = torch.randn(CTX, N_ARMS)

    def contexts(self, n):
        return torch.randn(n, CTX)

    def pull(self, ctx, arm):
        best = (ctx @ self.w).argmax(1)
        return (arm == best).float() + 0.1 * torch.randn(len(arm))


def train(models, fault=''):
    torch.manual_seed(12)
    policy = models[0]
    env = Bandit()
    optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)
    baseline = 0.0

    for episode in range(350):
        state = env.contexts(128)
        dist = Categorical(logits=policy(state))
        action = dist.sample()
        reward = env.pull(state, action)
        baseline = 0.9 * baseline + 0.1 * reward.mean().item()
        advantage = reward - baseline
        if fault == 'reward_shape_broadcasts':
            advantage = advantage.unsqueeze(1)
        log_prob = dist.log_prob(action)
        if fault == 'log_prob_detached':
            log_prob = log_prob.detach()
        policy_loss = -(log_prob * advantage).mean()
        if fault == 'sign_wrong':
            policy_loss = (log_prob * advantage).mean()
        loss = policy_loss - 0.005 * dist.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    # regret of the greedy policy on fresh contexts
    with torch.no_grad():
        ctx = env.contexts(1000)
        arm = policy(ctx).argmax(1)
        return 1.0 - (arm == (ctx @ env.w).argmax(1)).float().mean().item()
