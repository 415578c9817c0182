import random
from collections import deque
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'DQN with a replay deque and a target network on a grid, one environment, epsilon decay, while loop over episodes'
FAULTS = {
    'replay_stores_reference': 'the state tensor of the environment changes in place and is stored without a copy, so all states in the replay are the same object',
    'target_never_updated': 'the target network is never synchronised, so the values cannot travel back from the goal',
    'max_without_dim': 'max is taken over the whole batch instead of over the actions of each next state',
}


class Grid:
    def __init__(self, size=5):
        self.size = size
        self.state = torch.zeros(2 * size)

    def _show(self):
        self.state.zero_()
        self.state[self.r] = 1
        self.state[self.size + self.c] = 1
        return self.state

    def reset(self):
        self.r, self.c, self.t = random.randrange(self.size), random.randrange(self.size - 1), 0
        return self._show()

    def step(self, action):
        dr, dc = [(-1, 0), (1, 0), (0, -1), (0, 1)][action]
        r, c = self.r + dr, self.c + dc
        wall = c == 2 and r not in (0,)
        if 0 <= r < self.size and 0 <= c < self.size and not wall:
            self.r, self.c = r, c
        self.t += 1
        goal = (self.r, self.c) == (self.size - 1, self.size - 1)
        return self._show(), 1.0 if goal else -0.02, goal, self.t >= 40


def build():
    def net():
        return nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    return net(), net()


def train(models, fault=''):
    random.seed(51)
    torch.manual_seed(51)
    online, target = models
    target.load_state_dict(online.state_dict())
    optimizer = torch.optim.Adam(online.parameters(), lr=2e-3)
    memory = deque(maxlen=3000)
    env = Grid()
    gamma, batch, steps, max_steps = 0.95, 64, 0, 2600

    def keep(state):
        return state if fault == 'replay_stores_reference' else state.clone()

    def learn():
        sample = random.sample(memory, batch)
        s, a, r, s2, d = zip(*sample)
        s, s2 = torch.stack(s), torch.stack(s2)
        a, r, d = torch.tensor(a), torch.tensor(r), torch.tensor(d, dtype=torch.float32)
        q = online(s).gather(1, a[:, None]).squeeze(1)
        with torch.no_grad():
            q2 = target(s2)
            best = q2.max() if fault == 'max_without_dim' else q2.max(dim=1).values
            goal = r + gamma * best * (1 - d)
        loss = F.smooth_l1_loss(q, goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    while steps < max_steps:
        state = env.reset()
        over = False
        while not over:
            epsilon = max(0.1, 1.0 - steps / 1500)
            if random.random() < epsilon:
                action = random.randrange(4)
            else:
                with torch.no_grad():
                    action = online(state).argmax().item()
            before = keep(state)
            state, reward, done, timeout = env.step(action)
            memory.append((before, action, reward, keep(state), done))
            over = done or timeout
            steps += 1
            if len(memory) >= 200 and steps % 2 == 0:
                learn()
            if steps % 50 == 0 and fault != 'target_never_updated':
                target.load_state_dict(online.state_dict())

    lengths = []
    with torch.no_grad():
        for _ in range(60):
            state, over = env.reset(), False
            while not over:
                state, _, done, timeout = env.step(online(state).argmax().item())
                over = done or timeout
            lengths.append(env.t)
    return sum(lengths) / len(lengths)
