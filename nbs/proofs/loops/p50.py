import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'actor-critic with a shared body and two heads, n-step rollouts in parallel corridors, entropy bonus, RMSprop'
FAULTS = {
    'advantage_not_detached': 'the advantage in the actor loss is not detached, so the policy term also drives the values',
    'returns_not_turned_back': 'the returns are computed from the end and appended, but never turned round, so they belong to the wrong steps',
    'done_ignored': 'the end of an episode is ignored in the bootstrapped return, so value flows in from the next episode',
}


class ActorCritic(nn.Module):
    def __init__(self, n_obs=10, n_act=3):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_obs, 48), nn.Tanh())
        self.pi = nn.Linear(48, n_act)
        self.v = nn.Linear(48, 1)

    def forward(self, obs):
        h = self.body(obs)
        return self.pi(h), self.v(h)


class Corridor:
    """Left end pays 0.3 at once, right end pays 1; action 2 stays. Every step costs a little."""

    def __init__(self, n, width=10):
        self.n, self.width = n, width
        self.pos = torch.full((n,), 2)

    def obs(self):
        return F.one_hot(self.pos, self.width).float()

    def step(self, action):
        move = torch.tensor([-1, 1, 0])[action]
        self.pos = (self.pos + move).clamp(0, self.width - 1)
        left, right = self.pos == 0, self.pos == self.width - 1
        reward = 0.3 * left.float() + 1.0 * right.float() - 0.005
        done = left | right
        self.pos = torch.where(done, torch.full_like(self.pos, 2), self.pos)
        return reward, done


def build():
    return (ActorCritic(),)


def train(models, fault=''):
    torch.manual_seed(50)
    net = models[0]
    env = Corridor(16)
    optimizer = torch.optim.RMSprop(net.parameters(), lr=3e-3, alpha=0.99)
    horizon, gamma, ent_coef = 16, 0.98, 0.03

    for update in range(190):
        log_probs, values, rewards, dones, entropies = [], [], [], [], []
        for _ in range(horizon):
            logits, value = net(env.obs())
            dist = torch.distributions.Categorical(logits=logits)
            action = dist.sample()
            reward, done = env.step(action)
            log_probs.append(dist.log_prob(action))
            values.append(value.squeeze(-1))
            rewards.append(reward)
            dones.append(done.float())
            entropies.append(dist.entropy())
        with torch.no_grad():
            R = net(env.obs())[1].squeeze(-1)
        returns = []
        for reward, done in zip(reversed(rewards), reversed(dones)):
            if fault == 'done_ignored':
                R = reward + gamma * R
            else:
                R = reward + gamma * R * (1 - done)
            if fault == 'returns_not_turned_back':
                returns.append(R)
            else:
                returns.insert(0, R)
        returns, values = torch.stack(returns), torch.stack(values)
        log_probs, entropy = torch.stack(log_probs), torch.stack(entropies).mean()
        advantage = returns - values
        weight = advantage if fault == 'advantage_not_detached' else advantage.detach()
        actor = -(log_probs * weight).mean()
        critic = advantage.pow(2).mean()
        bonus = -ent_coef * entropy
        loss = actor + 0.5 * critic + bonus
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()

    test, total, alive = Corridor(200), torch.zeros(200), torch.ones(200)
    with torch.no_grad():
        for _ in range(40):
            action = torch.distributions.Categorical(logits=net(test.obs())[0]).sample()
            reward, done = test.step(action)
            total += alive * reward
            alive = alive * (1 - done.float())
    return 1 - total.mean().item()
