import copy
import torch
import torch.nn as nn

torch.set_num_threads(1)

STYLE = 'survival, Cox partial likelihood in bare arithmetic over sorted mini-batches, early stopping on held-out likelihood'
FAULTS = {
    'risk_set_reversed': 'the times are sorted upwards before the cumulative sum, so the risk set holds those who left already',
    'worst_checkpoint_kept': 'the comparison of the validation loss is the wrong way round, so the worst weights are kept and restored',
    'validation_keeps_graph': 'validation runs with gradients and its loss tensors are kept in a list, so the graph of every epoch stays in memory; the number is the same, memory grows',
}


def build():
    return (nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1)),)


def patients(n):
    x = torch.randn(n, 12)
    risk = 1.2 * x[:, 0] - x[:, 1] + 1.2 * x[:, 2] * x[:, 3] + 0.8 * (x[:, 4].abs() - 0.8)
    t = -torch.log(torch.rand(n)) * torch.exp(-risk)
    censor = -torch.log(torch.rand(n)) * 2.5
    return x, torch.minimum(t, censor), (t <= censor).float()


def partial_likelihood(score, time, event, descending=True):
    order = time.argsort(descending=descending)
    score, event = score.squeeze(1)[order], event[order]
    return -((score - torch.logcumsumexp(score, 0)) * event).sum() / event.sum().clamp(min=1)


def one_minus_concordance(score, time, event):
    score = score.squeeze(1)
    earlier = (time[:, None] < time[None, :]) & (event[:, None] == 1)
    right = (score[:, None] > score[None, :]) & earlier
    return 1 - (right.sum() / earlier.sum()).item()


def train(models, fault=''):
    torch.manual_seed(57)
    net = models[0]
    x, time, event = patients(4500)
    fit, val, test = slice(0, 1500), slice(1500, 3900), slice(3900, 4500)
    optimizer = torch.optim.NAdam(net.parameters(), lr=1e-3, weight_decay=1e-4)
    down = fault != 'risk_set_reversed'

    best, best_state, waited = None, copy.deepcopy(net.state_dict()), 0
    history = []
    for epoch in range(40):
        net.train()
        for idx in torch.randperm(1500).split(50):
            loss = partial_likelihood(net(x[fit][idx]), time[fit][idx], event[fit][idx], down)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.set_grad_enabled(fault == 'validation_keeps_graph'):
            current = partial_likelihood(net(x[val]), time[val], event[val], down)
        if fault != 'validation_keeps_graph':
            current = current.item()
        history.append(current)
        if fault == 'worst_checkpoint_kept':
            better = best is None or current > best
        else:
            better = best is None or current < best
        if better:
            best, best_state, waited = current, copy.deepcopy(net.state_dict()), 0
        else:
            waited += 1
            if waited >= 8:
                break
    print('validation loss by epoch', [round(float(h), 3) for h in history[:5]], '...', round(float(best), 3))

    net.load_state_dict(best_state)
    net.eval()
    with torch.no_grad():
        return one_minus_concordance(net(x[test]), time[test], event[test])
