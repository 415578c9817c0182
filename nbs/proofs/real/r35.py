"""Soft actor-critic on a small numpy pendulum swing-up, four environments stepped together."""
import copy
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'CleanRL / pranz24 pytorch-soft-actor-critic: tanh Gaussian policy with action_scale, twin Q networks, polyak target, automatic entropy temperature, numpy replay buffer'
FAULTS = {
    'reward_shape_broadcast': 'The rewards come from the buffer as (B,) while the target Q is (B, 1), so the sum broadcasts to (B, B) and every Q value is fitted to the rewards of all transitions.',
    'stored_observation_aliased': 'The buffer stores the observation array after the step, which the environment updates in place, so obs and next_obs of each transition are the same state.',
    'target_entropy_positive': 'The target entropy is +dim(A) (sign missing), above what a tanh policy on [-1, 1] can have, so alpha grows and the policy stays random.',
    'target_net_never_updated': 'The polyak update is applied to a fresh list of copies, so the target networks stay at their initial weights and the critic sees no value beyond the next reward.',
}


class Pendulum:
    """n pendulums; obs (cos, sin, theta_dot), torque in [-2, 2]; `step` updates and returns the same obs array."""

    def __init__(self, n, seed, length=100):
        self.rng = np.random.default_rng(seed)
        self.n, self.length = n, length
        self.obs = np.zeros((n, 3), dtype=np.float32)

    def _fill(self):
        self.obs[:, 0], self.obs[:, 1], self.obs[:, 2] = np.cos(self.th), np.sin(self.th), self.thdot

    def reset(self):
        self.th = self.rng.uniform(-np.pi, np.pi, self.n)
        self.thdot = self.rng.uniform(-1, 1, self.n)
        self.t = 0
        self._fill()
        return self.obs

    def step(self, action):
        u = np.clip(action[:, 0], -2, 2)
        angle = (self.th + np.pi) % (2 * np.pi) - np.pi
        reward = -(angle ** 2 + 0.1 * self.thdot ** 2 + 0.001 * u ** 2)
        self.thdot = np.clip(self.thdot + (15 * np.sin(self.th) + 3 * u) * 0.05, -8, 8)
        self.th = self.th + self.thdot * 0.05
        self.t += 1
        self._fill()
        return self.obs, reward.astype(np.float32), self.t >= self.length


class ReplayBuffer:
    def __init__(self, capacity, obs_dim, act_dim):
        self.obs = np.zeros((capacity, obs_dim), dtype=np.float32)
        self.next_obs = np.zeros((capacity, obs_dim), dtype=np.float32)
        self.actions = np.zeros((capacity, act_dim), dtype=np.float32)
        self.rewards = np.zeros((capacity, 1), dtype=np.float32)
        self.dones = np.zeros((capacity, 1), dtype=np.float32)
        self.size, self.capacity = 0, capacity
        self.rng = np.random.default_rng(3)

    def add(self, obs, next_obs, actions, rewards, dones):
        n = len(obs)
        i = (self.size + np.arange(n)) % self.capacity
        self.obs[i], self.next_obs[i], self.actions[i] = obs, next_obs, actions
        self.rewards[i, 0], self.dones[i, 0] = rewards, dones
        self.size += n

    def sample(self, batch_size):
        i = self.rng.integers(0, min(self.size, self.capacity), batch_size)
        return [torch.from_numpy(a[i]) for a in (self.obs, self.next_obs, self.actions, self.rewards, self.dones)]


class SoftQNetwork(nn.Module):
    def __init__(self, obs_dim, act_dim, hidden=64):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(obs_dim + act_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, x, a):
        return self.net(torch.cat([x, a], 1))


LOG_STD_MIN, LOG_STD_MAX = -5, 2


class Actor(nn.Module):
    def __init__(self, obs_dim, act_dim, action_scale=2.0, hidden=64):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(obs_dim, hidden), nn.Linear(hidden, hidden)
        self.fc_mean, self.fc_logstd = nn.Linear(hidden, act_dim), nn.Linear(hidden, act_dim)
        self.action_scale = action_scale

    def forward(self, x):
        x = F.relu(self.fc2(F.relu(self.fc1(x))))
        log_std = torch.tanh(self.fc_logstd(x))
        return self.fc_mean(x), LOG_STD_MIN + 0.5 * (LOG_STD_MAX - LOG_STD_MIN) * (log_std + 1)

    def get_action(self, x):
        mean, log_std = self(x)
        normal = torch.distributions.Normal(mean, log_std.exp())
        x_t = normal.rsample()
        y_t = torch.tanh(x_t)
        log_prob = normal.log_prob(x_t) - torch.log(1 - y_t.pow(2) + 1e-6)
        return y_t * self.action_scale, log_prob.sum(1, keepdim=True), torch.tanh(mean) * self.action_scale


@torch.no_grad()
def evaluate(actor, episodes=40):
    """Mean cost (minus reward) per step of the deterministic policy from fixed start states."""
    env = Pendulum(episodes, seed=1234)
    obs, done, total = env.reset(), False, 0.0
    while not done:
        obs, reward, done = env.step(actor.get_action(torch.from_numpy(obs))[2].numpy())
        total += reward.mean()
    return float(-total / env.length)


def build():
    torch.manual_seed(35)
    return Actor(3, 1), SoftQNetwork(3, 1), SoftQNetwork(3, 1)


def train(models, fault=''):
    actor, qf1, qf2 = models
    torch.manual_seed(35)
    num_envs, total_steps, learning_starts, batch_size = 4, 7500, 150, 128
    gamma, tau, reward_scale = 0.97, 0.01, 0.3
    qf1_target, qf2_target = copy.deepcopy(qf1), copy.deepcopy(qf2)
    q_optimizer = torch.optim.Adam(list(qf1.parameters()) + list(qf2.parameters()), lr=1e-3)
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=1e-3)
    target_entropy = 1.0 if fault == 'target_entropy_positive' else -1.0
    log_alpha = torch.zeros(1, requires_grad=True)
    alpha_optimizer = torch.optim.Adam([log_alpha], lr=1e-3)

    envs = Pendulum(num_envs, seed=2)
    rb = ReplayBuffer(20000, 3, 1)
    action_rng = np.random.default_rng(4)
    obs = envs.reset()
    for step in range(total_steps):
        if step < learning_starts:
            actions = action_rng.uniform(-2, 2, (num_envs, 1)).astype(np.float32)
        else:
            with torch.no_grad():
                actions = actor.get_action(torch.from_numpy(obs))[0].numpy()
        prev = obs if fault == 'stored_observation_aliased' else obs.copy()
        next_obs, rewards, truncated = envs.step(actions)
        rb.add(prev, next_obs, actions, rewards * reward_scale, 0.0)
        obs = envs.reset() if truncated else next_obs

        if step < learning_starts:
            continue
        s, s2, a, r, d = rb.sample(batch_size)
        if fault == 'reward_shape_broadcast':
            r, d = r.flatten(), d.flatten()
        alpha = log_alpha.exp().detach()
        with torch.no_grad():
            a2, logp2, _ = actor.get_action(s2)
            min_q = torch.min(qf1_target(s2, a2), qf2_target(s2, a2)) - alpha * logp2
            target = r + (1 - d) * gamma * min_q
        q_loss = (qf1(s, a) - target).pow(2).mean() + (qf2(s, a) - target).pow(2).mean()
        q_optimizer.zero_grad()
        q_loss.backward()
        q_optimizer.step()

        pi, logp, _ = actor.get_action(s)
        actor_loss = (alpha * logp - torch.min(qf1(s, pi), qf2(s, pi))).mean()
        actor_optimizer.zero_grad()
        actor_loss.backward()
        actor_optimizer.step()

        alpha_loss = (-log_alpha.exp() * (logp.detach() + target_entropy)).mean()
        alpha_optimizer.zero_grad()
        alpha_loss.backward()
        alpha_optimizer.step()

        for net, net_target in ((qf1, qf1_target), (qf2, qf2_target)):
            params = list(net_target.parameters())
            if fault == 'target_net_never_updated':
                params = [p.clone() for p in params]
            for p, pt in zip(net.parameters(), params):
                pt.data.mul_(1 - tau).add_(p.data, alpha=tau)

    return evaluate(actor)


if __name__ == '__main__':
    print(train(build()))
