"""PPO on a vectorised cart-pole written in numpy: clipped objective, GAE, value loss and entropy bonus, after CleanRL's ppo.py."""
from dataclasses import dataclass
import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from torch.distributions.categorical import Categorical

torch.set_num_threads(1)

STYLE = 'CleanRL single file: Args dataclass, orthogonal layer_init, rollout storage of shape (step, env), Adam(eps=1e-5) with annealed lr, minibatches by shuffled indices'
FAULTS = {
    'gae_ignores_done': 'The GAE recursion is not cut where an episode ends, so the value of the freshly reset episode is credited to the failing action and falling over costs nothing.',
    'obs_buffer_aliased': 'The vector environment returns its own observation buffer (copy=False) and the rollout keeps torch.from_numpy views of it, so every stored observation is the last one and the update sees one state per environment.',
    'advantage_not_flattened_alike': 'The advantages are transposed to (env, step) before they are flattened while everything else is flattened as (step, env), so each action is reinforced with the advantage of another one.',
    'policy_loss_sign': 'The minus sign before the surrogate is lost while the outer max is kept, so the optimizer makes good actions less likely.',
}


@dataclass
class Args:
    num_envs: int = 16
    num_steps: int = 128
    total_timesteps: int = 245_760
    learning_rate: float = 1e-3
    anneal_lr: bool = True
    gamma: float = 0.99
    gae_lambda: float = 0.95
    num_minibatches: int = 4
    update_epochs: int = 4
    clip_coef: float = 0.2
    ent_coef: float = 0.01
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5


class VecCartPole:
    """The classic cart-pole, all environments stepped at once, with auto-reset; reward 1 for each step."""
    gravity, mass_cart, mass_pole, length, force, dt = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02

    def __init__(self, n, seed, max_steps=300, copy=True):
        self.n, self.max_steps, self.copy = n, max_steps, copy
        self.buffer = np.zeros((n, 4), dtype=np.float32)
        self.rng = np.random.default_rng(seed)

    def _sample(self, k):
        return self.rng.uniform(-0.15, 0.15, (k, 4))

    def _observe(self):
        self.buffer[:] = self.state
        return self.buffer.copy() if self.copy else self.buffer

    def reset(self):
        self.state = self._sample(self.n)
        self.t = np.zeros(self.n, dtype=int)
        return self._observe()

    def step(self, action):
        x, v, th, w = self.state.T
        f = np.where(action == 1, self.force, -self.force)
        total, pml = self.mass_cart + self.mass_pole, self.mass_pole * self.length
        cos, sin = np.cos(th), np.sin(th)
        tmp = (f + pml * w ** 2 * sin) / total
        th_acc = (self.gravity * sin - cos * tmp) / (self.length * (4 / 3 - self.mass_pole * cos ** 2 / total))
        x_acc = tmp - pml * th_acc * cos / total
        self.state = np.stack([x + self.dt * v, v + self.dt * x_acc, th + self.dt * w, w + self.dt * th_acc], 1)
        self.t += 1
        fell = (np.abs(self.state[:, 0]) > 2.4) | (np.abs(self.state[:, 2]) > 0.2095)
        done = fell | (self.t >= self.max_steps)
        if done.any():
            self.state[done] = self._sample(done.sum())
            self.t[done] = 0
        return self._observe(), np.ones(self.n, dtype=np.float32), done


def layer_init(layer, std=np.sqrt(2), bias_const=0.0):
    nn.init.orthogonal_(layer.weight, std)
    nn.init.constant_(layer.bias, bias_const)
    return layer


class Agent(nn.Module):
    def __init__(self, obs_dim=4, n_actions=2, hidden=64):
        super().__init__()
        self.critic = nn.Sequential(
            layer_init(nn.Linear(obs_dim, hidden)), nn.Tanh(),
            layer_init(nn.Linear(hidden, hidden)), nn.Tanh(),
            layer_init(nn.Linear(hidden, 1), std=1.0),
        )
        self.actor = nn.Sequential(
            layer_init(nn.Linear(obs_dim, hidden)), nn.Tanh(),
            layer_init(nn.Linear(hidden, hidden)), nn.Tanh(),
            layer_init(nn.Linear(hidden, n_actions), std=0.01),
        )

    def get_value(self, x):
        return self.critic(x)

    def get_action_and_value(self, x, action=None):
        probs = Categorical(logits=self.actor(x))
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.critic(x)


@torch.no_grad()
def evaluate(agent, n=64, max_steps=300):
    """Mean share of an episode that is missed, over n fresh episodes with the greedy policy."""
    envs = VecCartPole(n, seed=9999, max_steps=max_steps)
    obs = envs.reset()
    alive, length = np.ones(n, dtype=bool), np.zeros(n)
    for _ in range(max_steps):
        action = agent.actor(torch.from_numpy(obs)).argmax(-1).numpy()
        obs, _, done = envs.step(action)
        length += alive
        alive &= ~done
    return float(1 - length.mean() / max_steps)


def build():
    torch.manual_seed(1)
    return (Agent(),)


def train(models, fault=''):
    args = Args()
    agent = models[0]
    torch.manual_seed(21)
    np.random.seed(21)
    batch_size = args.num_envs * args.num_steps
    minibatch_size = batch_size // args.num_minibatches
    num_iterations = args.total_timesteps // batch_size

    envs = VecCartPole(args.num_envs, seed=21, copy=fault != 'obs_buffer_aliased')
    optimizer = optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)

    # storage
    actions = torch.zeros((args.num_steps, args.num_envs), dtype=torch.long)
    logprobs = torch.zeros((args.num_steps, args.num_envs))
    rewards = torch.zeros((args.num_steps, args.num_envs))
    dones = torch.zeros((args.num_steps, args.num_envs))
    values = torch.zeros((args.num_steps, args.num_envs))

    next_obs = torch.from_numpy(envs.reset())
    next_done = torch.zeros(args.num_envs)

    for iteration in range(1, num_iterations + 1):
        if args.anneal_lr:
            frac = 1.0 - (iteration - 1.0) / num_iterations
            optimizer.param_groups[0]['lr'] = frac * args.learning_rate

        # rollout
        obs = []
        for step in range(args.num_steps):
            obs.append(next_obs)
            dones[step] = next_done
            with torch.no_grad():
                action, logprob, _, value = agent.get_action_and_value(next_obs)
                values[step] = value.flatten()
            actions[step] = action
            logprobs[step] = logprob

            next_obs, reward, next_done = envs.step(action.numpy())
            rewards[step] = torch.from_numpy(reward)
            next_obs, next_done = torch.from_numpy(next_obs), torch.from_numpy(next_done).float()

        # bootstrap value and GAE
        with torch.no_grad():
            next_value = agent.get_value(next_obs).reshape(-1)
            advantages = torch.zeros_like(rewards)
            lastgaelam = 0
            for t in reversed(range(args.num_steps)):
                if t == args.num_steps - 1:
                    nextnonterminal = 1.0 - next_done
                    nextvalues = next_value
                else:
                    nextnonterminal = 1.0 - dones[t + 1]
                    nextvalues = values[t + 1]
                if fault == 'gae_ignores_done':
                    nextnonterminal = 1.0
                delta = rewards[t] + args.gamma * nextvalues * nextnonterminal - values[t]
                advantages[t] = lastgaelam = delta + args.gamma * args.gae_lambda * nextnonterminal * lastgaelam
            returns = advantages + values

        # flatten the batch
        b_obs = torch.stack(obs).reshape((-1, 4))
        b_logprobs = logprobs.reshape(-1)
        b_actions = actions.reshape(-1)
        b_advantages = advantages.reshape(-1)
        if fault == 'advantage_not_flattened_alike':
            b_advantages = advantages.transpose(0, 1).reshape(-1)
        b_returns = returns.reshape(-1)
        b_values = values.reshape(-1)

        # update
        b_inds = np.arange(batch_size)
        for epoch in range(args.update_epochs):
            np.random.shuffle(b_inds)
            for start in range(0, batch_size, minibatch_size):
                mb_inds = b_inds[start:start + minibatch_size]
                _, newlogprob, entropy, newvalue = agent.get_action_and_value(b_obs[mb_inds], b_actions[mb_inds])
                logratio = newlogprob - b_logprobs[mb_inds]
                ratio = logratio.exp()

                mb_advantages = b_advantages[mb_inds]
                mb_advantages = (mb_advantages - mb_advantages.mean()) / (mb_advantages.std() + 1e-8)

                # policy loss
                pg_loss1 = -mb_advantages * ratio
                pg_loss2 = -mb_advantages * torch.clamp(ratio, 1 - args.clip_coef, 1 + args.clip_coef)
                if fault == 'policy_loss_sign':
                    pg_loss1, pg_loss2 = -pg_loss1, -pg_loss2
                pg_loss = torch.max(pg_loss1, pg_loss2).mean()

                # value loss, clipped
                newvalue = newvalue.view(-1)
                v_loss_unclipped = (newvalue - b_returns[mb_inds]) ** 2
                v_clipped = b_values[mb_inds] + torch.clamp(newvalue - b_values[mb_inds], -10.0, 10.0)
                v_loss_clipped = (v_clipped - b_returns[mb_inds]) ** 2
                v_loss = 0.5 * torch.max(v_loss_unclipped, v_loss_clipped).mean()

                entropy_loss = entropy.mean()
                loss = pg_loss - args.ent_coef * entropy_loss + args.vf_coef * v_loss

                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
                optimizer.step()

    return evaluate(agent)


if __name__ == '__main__':
    print(train(build()))
