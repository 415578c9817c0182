"""REINFORCE with a learned baseline on a numpy cart-pole, eight episodes per update."""
import numpy as np
import torch
import torch.nn as nn
from torch.distributions import Categorical

torch.set_num_threads(1)

STYLE = 'pytorch/examples reinforcement_learning (reinforce.py, actor_critic.py) and Spinning Up VPG: Categorical policy, rewards to go, learned value baseline with its own optimizer, normalised advantages, masks for finished episodes'
FAULTS = {
    'returns_accumulated_forwards': 'The discounted sum runs from the first step to the last instead of backwards, so each action is credited with the rewards before it and not with those it leads to.',
    'action_sampled_again': 'For the loss an action is sampled anew from the policy instead of taking the one that was played, so the log-probability has nothing to do with the return.',
    'steps_after_done_counted': 'The mask of finished episodes is left out, so the pole that has fallen goes on collecting a reward in each step up to the time limit and all episodes are worth the same.',
    'advantage_sign': 'The advantage is baseline minus return, so actions that did better than expected are made less probable and the policy learns to let the pole fall.',
    'rewards_standardised': 'The single rewards are standardised instead of the returns; the reward is one in each step, so all of them become zero and the advantage is only the error of the baseline.',
}

SEED = 53


class CartPole:
    """n cart-poles stepped together; reward one per step; a fallen one stays done but is simulated on."""

    def __init__(self, n, seed, length=200):
        self.n, self.length, self.rng = n, length, np.random.default_rng(seed)

    def reset(self):
        self.state = self.rng.uniform(-0.05, 0.05, (self.n, 4))
        self.done, self.t = np.zeros(self.n, dtype=bool), 0
        return self.state.astype(np.float32)

    def step(self, action):
        x, x_dot, theta, theta_dot = self.state.T
        force = np.where(action == 1, 10.0, -10.0)
        cos, sin = np.cos(theta), np.sin(theta)
        temp = (force + 0.05 * theta_dot ** 2 * sin) / 1.1
        theta_acc = (9.8 * sin - cos * temp) / (0.5 * (4.0 / 3.0 - 0.1 * cos ** 2 / 1.1))
        x_acc = temp - 0.05 * theta_acc * cos / 1.1
        new = np.stack([x + 0.02 * x_dot, x_dot + 0.02 * x_acc, theta + 0.02 * theta_dot, theta_dot + 0.02 * theta_acc], 1)
        self.state = np.where(self.done[:, None], np.clip(new, -3, 3), new)
        self.t += 1
        self.done = self.done | (abs(self.state[:, 0]) > 2.4) | (abs(self.state[:, 2]) > 0.2095)
        return self.state.astype(np.float32), np.ones(self.n, dtype=np.float32), self.done.copy(), self.t >= self.length


class Policy(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 2))

    def forward(self, x):
        return self.net(x)


class Value(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, x):
        return self.net(x).squeeze(-1)


def collect(env, policy):
    """One episode in each environment: observations, actions, rewards and the mask of the steps that were alive, all (T, N)."""
    obs, done, finished = env.reset(), np.zeros(env.n, dtype=bool), False
    observations, actions, rewards, masks = [], [], [], []
    while not finished and not done.all():
        with torch.no_grad():
            action = Categorical(logits=policy(torch.from_numpy(obs))).sample()
        observations.append(torch.from_numpy(obs))
        actions.append(action)
        masks.append(torch.from_numpy(~done).float())
        obs, reward, done, finished = env.step(action.numpy())
        rewards.append(torch.from_numpy(reward))
    return [torch.stack(a) for a in (observations, actions, rewards, masks)]


def discounted_returns(rewards, gamma, fault=''):
    steps = range(len(rewards))
    if fault != 'returns_accumulated_forwards':
        steps = reversed(steps)
    returns, running = torch.zeros_like(rewards), torch.zeros_like(rewards[0])
    for t in steps:
        running = rewards[t] + gamma * running
        returns[t] = running
    return returns


@torch.no_grad()
def evaluate(policy, episodes=100):
    """Mean length of episodes (at most 200) of the most probable action from fixed start states."""
    env = CartPole(episodes, seed=1234)
    obs, finished, alive = env.reset(), False, np.ones(episodes, dtype=bool)
    total = 0
    while not finished:
        total += alive.sum()
        obs, _, done, finished = env.step(policy(torch.from_numpy(obs)).argmax(1).numpy())
        alive = ~done
    return float(total / episodes)


def build():
    torch.manual_seed(SEED)
    return Policy(), Value()


def train(models, fault=''):
    policy, value = models
    torch.manual_seed(SEED)
    num_updates, gamma, value_iters = 220, 0.99, 5
    env = CartPole(8, seed=SEED)
    policy_optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)
    value_optimizer = torch.optim.Adam(value.parameters(), lr=5e-3)

    for update in range(num_updates):
        obs, actions, rewards, mask = collect(env, policy)
        if fault == 'steps_after_done_counted':
            mask = torch.ones_like(mask)
        if fault == 'rewards_standardised':
            rewards = (rewards - rewards.mean()) / (rewards.std() + 1e-8)
        returns = discounted_returns(rewards * mask, gamma, fault) * (1 - gamma)
        alive = mask > 0
        obs, actions, returns = obs[alive], actions[alive], returns[alive]

        with torch.no_grad():
            advantage = returns - value(obs)
            if fault == 'advantage_sign':
                advantage = value(obs) - returns
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        dist = Categorical(logits=policy(obs))
        if fault == 'action_sampled_again':
            actions = dist.sample()
        policy_loss = -(dist.log_prob(actions) * advantage).mean()
        policy_optimizer.zero_grad()
        policy_loss.backward()
        policy_optimizer.step()

        for _ in range(value_iters):
            value_loss = (value(obs) - returns).pow(2).mean()
            value_optimizer.zero_grad()
            value_loss.backward()
            value_optimizer.step()

    return evaluate(policy)


if __name__ == '__main__':
    print(train(build()))
