"""Double DQN on a small dodging game: walls with a gap come down and the agent at the bottom has to be in the gap."""
import random
from collections import deque, namedtuple
import numpy as np
import torch
import torch.nn as nn

torch.set_num_threads(1)

STYLE = 'PyTorch DQN tutorial / CleanRL / dqn-zoo-like repositories: environment with reset and step, replay memory of transitions, epsilon-greedy acting, double DQN target, periodic copy to the target network, Huber loss, greedy evaluation'
FAULTS = {
    'done_not_used': 'The target bootstraps through the end of the episode because the done flag is not used, so being hit costs nothing and all actions have the same value.',
    'frame_stored_by_reference': 'The memory keeps the array that the environment draws into instead of a copy, so the stored state becomes the later frames and all transitions of an episode show the same picture.',
    'copy_in_the_wrong_direction': 'At each synchronisation the weights of the target network are loaded into the online network, so training is thrown back to the initial weights every time.',
    'q_column_against_row': 'The chosen Q values keep the shape (n, 1) of gather while the targets are (n,), so the loss broadcasts to n by n and each Q value is drawn to the mean of all targets.',
    'action_from_the_greedy_net_stored': 'With epsilon-greedy acting the random action is done in the environment but the greedy action is what goes into the memory, so exploring steps are credited to actions that were not taken.',
}
BETTER = 'higher'

SEED = 68
WIDTH, HEIGHT, LIMIT = 7, 6, 80
Transition = namedtuple('Transition', 'state action reward next_state done')


class DodgeEnv:
    """Every third row is a wall with a gap of one or two cells; moves: left, stay, right. One point for each step alive."""
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.frame = np.zeros((2, HEIGHT, WIDTH), np.float32)

    def reset(self):
        self.frame[:] = 0
        self.x, self.t = WIDTH // 2, 0
        self.gap = self.x
        self.frame[1, -1, self.x] = 1
        return self.frame

    def new_row(self):
        row = np.zeros(WIDTH, np.float32)
        if self.t % 3 == 0:
            self.gap = int(np.clip(self.gap + self.rng.integers(-3, 4), 0, WIDTH - 1))
            row[:] = 1
            row[self.gap] = 0
            if self.rng.random() < 0.4:
                row[min(self.gap + 1, WIDTH - 1)] = 0
        return row

    def step(self, action):
        self.t += 1
        self.x = int(np.clip(self.x + action - 1, 0, WIDTH - 1))
        self.frame[0, 1:] = self.frame[0, :-1].copy()
        self.frame[0, 0] = self.new_row()
        self.frame[1, -1] = 0
        self.frame[1, -1, self.x] = 1
        terminated = bool(self.frame[0, -1, self.x])
        truncated = self.t >= LIMIT
        return self.frame, 1.0, terminated, truncated


class QNet(nn.Module):
    def __init__(self, hidden=96):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(2 * HEIGHT * WIDTH, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.head = nn.Linear(hidden, 3)

    def forward(self, x):
        return self.head(self.body(x))


class ReplayMemory:
    def __init__(self, capacity):
        self.memory = deque([], maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, n):
        batch = Transition(*zip(*random.sample(self.memory, n)))
        return (torch.from_numpy(np.stack(batch.state)), torch.tensor(batch.action), torch.tensor(batch.reward),
                torch.from_numpy(np.stack(batch.next_state)), torch.tensor(batch.done, dtype=torch.float32))

    def __len__(self):
        return len(self.memory)


@torch.no_grad()
def evaluate(q_net, seed, episodes=40):
    """Mean number of steps alive of the greedy policy (at most LIMIT), all games played side by side."""
    q_net.eval()
    envs = [DodgeEnv(seed + i) for i in range(episodes)]
    states = [env.reset() for env in envs]
    alive, total = list(range(episodes)), 0
    while alive:
        actions = q_net(torch.from_numpy(np.stack([states[i] for i in alive]))).argmax(1).tolist()
        left = []
        for i, a in zip(alive, actions):
            states[i], reward, terminated, truncated = envs[i].step(a)
            total += reward
            if not (terminated or truncated):
                left.append(i)
        alive = left
    q_net.train()
    return total / episodes


def optimize(q_net, target_net, memory, optimizer, batch_size, gamma, fault=''):
    state, action, reward, next_state, done = memory.sample(batch_size)
    with torch.no_grad():
        best = q_net(next_state).argmax(1, keepdim=True)
        next_q = target_net(next_state).gather(1, best).squeeze(1)
        if fault == 'done_not_used':
            target = reward + gamma * next_q
        else:
            target = reward + gamma * next_q * (1 - done)
    q = q_net(state).gather(1, action.unsqueeze(1))
    if fault != 'q_column_against_row':
        q = q.squeeze(1)
    td = (q - target).abs()
    loss = torch.where(td < 1, 0.5 * td ** 2, td - 0.5).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_value_(q_net.parameters(), 100)
    optimizer.step()
    return loss.item()


def build(seed=SEED):
    torch.manual_seed(seed)
    q_net, target_net = QNet(), QNet()
    target_net.load_state_dict(q_net.state_dict())
    return q_net, target_net


def train(models, fault='', seed=SEED):
    q_net, target_net = models
    torch.manual_seed(seed)
    random.seed(seed)
    env, memory = DodgeEnv(seed), ReplayMemory(8000)
    optimizer = torch.optim.AdamW(q_net.parameters(), lr=1e-3, weight_decay=1e-5)
    epochs, steps_per_epoch, batch_size, gamma = 8, 1500, 64, 0.95
    eps_start, eps_end, eps_steps, sync_every, learn_start = 1.0, 0.05, 6000, 200, 500
    keep = (lambda frame: frame) if fault == 'frame_stored_by_reference' else np.copy

    state, step = keep(env.reset()), 0
    for epoch in range(epochs):
        for _ in range(steps_per_epoch):
            epsilon = max(eps_end, eps_start + (eps_end - eps_start) * step / eps_steps)
            with torch.no_grad():
                greedy = q_net(torch.from_numpy(state)[None]).argmax(1).item()
            action = random.randrange(3) if random.random() < epsilon else greedy
            frame, reward, terminated, truncated = env.step(action)
            next_state = keep(frame)
            stored = greedy if fault == 'action_from_the_greedy_net_stored' else action
            memory.push(state, stored, reward, next_state, terminated)
            state = keep(env.reset()) if terminated or truncated else next_state
            step += 1
            if len(memory) >= learn_start and step % 2 == 0:
                optimize(q_net, target_net, memory, optimizer, batch_size, gamma, fault)
            if step % sync_every == 0:
                if fault == 'copy_in_the_wrong_direction':
                    q_net.load_state_dict(target_net.state_dict())
                else:
                    target_net.load_state_dict(q_net.state_dict())
        score = evaluate(q_net, 1000 * seed)
    return score


if __name__ == '__main__':
    for name in ('', *FAULTS):
        print(f'{name or "healthy":36s} {train(build(), name):.4f}')
