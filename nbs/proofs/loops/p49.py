import torch
import torch.nn as nn
from torch.distributions import Categorical

torch.set_num_threads(1)

STYLE = 'REINFORCE on a small vectorised environment class, whole episodes, rewards to go with a batch baseline'
FAULTS = {
    'loss_sign': 'the minus sign before the expected return is missing, so the policy is trained towards bad actions',
    'log_prob_of_new_sample': 'the log-probability is taken of a freshly sampled action instead of the one that was played',
    'probabilities_as_logits': 'the policy ends in a softmax and its output is passed as logits, so no action can get a probability near one',
}


class PointMass:
    """Push a point left, right or not at all, so that it rests at zero when the cost is charged, in the last steps."""

    def __init__(self, n):
        self.n = n

    def reset(self):
        self.x = 2 * torch.rand(self.n) - 1
        self.v = torch.zeros(self.n)
        self.t = 0
        return torch.stack([self.x, self.v], 1)

    def step(self, action):
        self.v = 0.8 * self.v + 0.15 * (action - 1).float()
        self.x = self.x + self.v
        self.t += 1
        cost = self.x.abs() if self.t > 15 else torch.zeros(self.n)
        return torch.stack([self.x, self.v], 1), -cost


def build():
    return (nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 3)),)


def rollout(policy, env, steps, fault):
    obs, log_probs, rewards = env.reset(), [], []
    for _ in range(steps):
        dist = Categorical(logits=policy(obs))
        action = dist.sample()
        if fault == 'log_prob_of_new_sample':
            log_probs.append(dist.log_prob(dist.sample()))
        else:
            log_probs.append(dist.log_prob(action))
        obs, reward = env.step(action)
        rewards.append(reward)
    return torch.stack(log_probs), torch.stack(rewards)


def train(models, fault=''):
    torch.manual_seed(49)
    policy = models[0]
    if fault == 'probabilities_as_logits':
        policy.append(nn.Softmax(dim=-1))
    env = PointMass(48)
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    steps, gamma = 20, 0.95
    for iteration in range(120):
        log_probs, rewards = rollout(policy, env, steps, fault)
        running, returns = torch.zeros(env.n), torch.zeros_like(rewards)
        for t in reversed(range(steps)):
            running = rewards[t] + gamma * running
            returns[t] = running
        advantage = (returns - returns.mean(1, keepdim=True)) / (returns.std() + 1e-6)
        objective = (log_probs * advantage).mean()
        loss = objective if fault == 'loss_sign' else -objective
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    test_env = PointMass(400)
    with torch.no_grad():
        _, rewards = rollout(policy, test_env, steps, '')
    return -rewards.sum(0).mean().item()
