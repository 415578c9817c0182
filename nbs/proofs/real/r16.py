"""Double DQN with a target net on a small cart-pole written here (16 copies stepped as one)."""
import math
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'CleanRL-like single-file DQN: vectorized numpy environment, ReplayBuffer class, linear epsilon and learning-rate schedules, hard target syncs, Adam'
FAULTS = {
    'done_not_masked': 'The bootstrap value is added after a fall too, so falling costs nothing and all Q values go to 1/(1-gamma).',
    'target_never_synced': 'The target net is copied once at the start and never again, so the targets stay those of a random net.',
    'q_target_broadcast': 'Q(s,a) has shape (B,1) and the target (B,), so the loss compares all pairs and Q learns the batch mean.',
    'state_by_reference': 'The buffer gets the state after env.step has changed the array in place, so state and next state are the same in each transition.',
}

GAMMA, MAX_LEN = 0.98, 200


class CartPoleVec:
    """The usual cart-pole, n copies. self.s is changed in place; a finished copy is reset at once."""
    def __init__(self, n, seed):
        self.n, self.rng = n, np.random.default_rng(seed)
        self.s = np.zeros((n, 4), dtype=np.float32)
        self.t = np.zeros(n, dtype=int)
        self.reset_some(np.ones(n, dtype=bool))

    def reset_some(self, m):
        self.s[m] = self.rng.uniform(-0.05, 0.05, (m.sum(), 4))
        self.t[m] = 0

    def step(self, a):
        """-> next state (before the reset), reward, fallen, time limit reached"""
        x, xd, th, thd = self.s.T
        f = np.where(a == 1, 10., -10.)
        c, s = np.cos(th), np.sin(th)
        tmp = (f + 0.05 * thd ** 2 * s) / 1.1
        tha = (9.8 * s - c * tmp) / (0.5 * (4 / 3 - 0.1 * c ** 2 / 1.1))
        xa = tmp - 0.05 * tha * c / 1.1
        self.s[:] = np.stack([x + 0.02 * xd, xd + 0.02 * xa, th + 0.02 * thd, thd + 0.02 * tha], 1)
        self.t += 1
        fallen = (np.abs(self.s[:, 0]) > 2.4) | (np.abs(self.s[:, 2]) > 12 * math.pi / 180)
        return self.s.copy(), np.ones(self.n, dtype=np.float32), fallen, self.t >= MAX_LEN


class ReplayBuffer:
    def __init__(self, size):
        self.size, self.pos, self.full = size, 0, False
        self.s, self.s2 = np.zeros((size, 4), np.float32), np.zeros((size, 4), np.float32)
        self.a, self.r, self.d = np.zeros(size, np.int64), np.zeros(size, np.float32), np.zeros(size, np.float32)

    def add(self, s, a, r, s2, d):
        i = (self.pos + np.arange(len(a))) % self.size
        self.s[i], self.a[i], self.r[i], self.s2[i], self.d[i] = s, a, r, s2, d
        self.full |= self.pos + len(a) >= self.size
        self.pos = (self.pos + len(a)) % self.size

    def sample(self, n):
        i = np.random.randint(self.size if self.full else self.pos, size=n)
        return [torch.from_numpy(v[i]) for v in (self.s, self.a, self.r, self.s2, self.d)]


class QNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(4, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, x):
        return self.network(x * torch.tensor([1., 1., 5., 1.]))


def build():
    return QNetwork(), QNetwork()


@torch.no_grad()
def evaluate(q, n=50):
    env = CartPoleVec(n, 999)
    alive, length = np.ones(n, dtype=bool), np.zeros(n)
    for _ in range(MAX_LEN):
        a = q(torch.from_numpy(env.s)).argmax(1).numpy()
        _, _, fallen, _ = env.step(a)
        alive &= ~fallen
        length += alive
    return length.mean()


def train(models, fault=''):
    torch.manual_seed(16)
    np.random.seed(16)
    q_network, target_network = models
    target_network.load_state_dict(q_network.state_dict())
    optimizer = torch.optim.Adam(q_network.parameters(), lr=5e-4)
    envs, rb = CartPoleVec(16, 1), ReplayBuffer(150000)
    total, scores = 6000, []

    for step in range(total):
        epsilon = max(0.05, 1 - step / 1500)
        optimizer.param_groups[0]['lr'] = 5e-4 * max(0.02, 1 - step / total)
        obs = envs.s if fault == 'state_by_reference' else envs.s.copy()
        with torch.no_grad():
            actions = q_network(torch.from_numpy(obs)).argmax(1).numpy()
        explore = np.random.rand(16) < epsilon
        actions = np.where(explore, np.random.randint(2, size=16), actions)
        next_obs, rewards, fallen, timeout = envs.step(actions)
        rb.add(obs, actions, rewards, next_obs, fallen)
        envs.reset_some(fallen | timeout)

        if step > 100:
            s, a, r, s2, d = rb.sample(128)
            with torch.no_grad():
                best = q_network(s2).argmax(1, keepdim=True)
                next_q = target_network(s2).gather(1, best).squeeze(1)
                if fault == 'done_not_masked':
                    td_target = r + GAMMA * next_q
                else:
                    td_target = r + GAMMA * next_q * (1 - d)
            old = q_network(s).gather(1, a.unsqueeze(1))
            if fault != 'q_target_broadcast':
                old = old.squeeze(1)
            loss = F.smooth_l1_loss(old, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 200 == 0 and fault != 'target_never_synced':
                target_network.load_state_dict(q_network.state_dict())
        if step >= total - 1000 and step % 200 == 199:
            scores.append(evaluate(q_network))
    # mean of the last five checkpoints: share of the possible length that is missed
    return float(1 - np.mean(scores) / MAX_LEN)


if __name__ == '__main__':
    print(train(build()))
