"""SimCLR on coloured 24x24 shapes with random backgrounds, judged by a linear probe on few labels."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'SimCLR repository style: class SimCLR with encoder and projector, nt_xent function over the concatenated views, SGD with momentum, warm-up + cosine set by hand on param_groups'
FAULTS = {
    'one_view_twice': 'The augmentation is called once and its result is used as both views, so the positive pair is identical and the net need not become invariant to anything.',
    'wrong_positive_index': 'The views are concatenated as [all first, all second] but the positives are taken as neighbours (0,1), (2,3), …, which are pictures that do not belong together.',
    'times_temperature': 'The similarities are multiplied by the temperature instead of divided by it, so the softmax is almost flat and the negatives hardly count.',
    'encoder_not_optimized': 'Only the parameters of the projector are handed to the optimizer, so the encoder that the probe uses stays random.',
}

N_CLASSES, TAU = 5, 0.2


class ConvEncoder(nn.Module):
    def __init__(self, w=24, out=64):
        super().__init__()
        def block(i, o, s):
            return nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))
        self.net = nn.Sequential(block(3, w, 2), block(w, w, 1), block(w, 2 * w, 2), block(2 * w, out, 2))

    def forward(self, x):
        return self.net(x).mean((2, 3))


class SimCLR(nn.Module):
    def __init__(self, dim=64, proj=32):
        super().__init__()
        self.encoder = ConvEncoder(out=dim)
        self.projector = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(inplace=True), nn.Linear(dim, proj))

    def forward(self, x):
        return F.normalize(self.projector(self.encoder(x)), dim=1)


def build():
    return (SimCLR(),)


def make_shapes(n):
    """A shape (5 kinds) of random place, size and colour before a random colour gradient."""
    y = torch.randint(N_CLASSES, (n,))
    g = torch.arange(24.)
    cx, cy = (torch.rand(2, n, 1, 1) * 6 + 9).unbind(0)
    r = torch.rand(n, 1, 1) * 2.5 + 5
    dx, dy = (g[None, None, :] - cx) / r, (g[None, :, None] - cy) / r
    dx, dy = dx.expand(n, 24, 24), dy.expand(n, 24, 24)
    rad = (dx ** 2 + dy ** 2).sqrt()
    masks = torch.stack([
        rad < 1.0,                                                    # disc
        (rad < 1.1) & (rad > 0.65),                                   # ring
        (dx.abs() < 0.3) & (dy.abs() < 1.1) | (dy.abs() < 0.3) & (dx.abs() < 1.1),   # cross
        (dx.abs() < 1.0) & (dy.abs() < 1.0) & ((dy * 2.5).floor() % 2 == 0),         # stripes
        (dx.abs() + dy.abs() < 1.1) & ((dx + dy).abs() > 0.25) & ((dx - dy).abs() > 0.25),   # cut diamond
    ], 1).float()
    m = masks[torch.arange(n), y].unsqueeze(1)
    fg, b0, b1 = torch.rand(3, n, 3, 1, 1).unbind(0)
    ramp = torch.where(torch.rand(n, 1, 1, 1) < 0.5, g[:, None] / 23, g[None, :] / 23)
    bg = 0.6 * (b0 + (b1 - b0) * ramp).expand(n, 3, 24, 24)
    fg = 0.4 + 0.6 * fg
    return (m * fg + (1 - m) * bg + 0.03 * torch.randn(n, 3, 24, 24)).clamp(0, 1), y


def augment(x):
    """Random crop and resize, flip, channel-wise colour jitter, channel shuffle, noise; per picture."""
    n = len(x)
    scale = torch.empty(n).uniform_(0.75, 1.1)
    flip = torch.where(torch.rand(n) < 0.5, -1., 1.)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = scale * flip, scale
    theta[:, :, 2] = torch.empty(n, 2).uniform_(-0.25, 0.25)
    x = F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=False), padding_mode='border', align_corners=False)
    perm = torch.rand(n, 3).argsort(1)
    x = x.gather(1, perm[:, :, None, None].expand_as(x))
    gain, shift = torch.empty(n, 3, 1, 1).uniform_(0.5, 1.5), torch.empty(n, 3, 1, 1).uniform_(-0.25, 0.25)
    return x * gain + shift + 0.03 * torch.randn_like(x)


def nt_xent(z1, z2, fault):
    n = len(z1)
    z = torch.cat([z1, z2])
    if fault == 'times_temperature':
        sim = z @ z.t() * TAU
    else:
        sim = z @ z.t() / TAU
    sim.fill_diagonal_(float('-inf'))
    target = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    if fault == 'wrong_positive_index':
        target = torch.arange(2 * n) ^ 1
    return F.cross_entropy(sim, target)


def linear_probe(encoder, train_set, test_set):
    encoder.eval()
    with torch.no_grad():
        f, ft = (torch.cat([encoder(b) for b in s[0].split(256)]) for s in (train_set, test_set))
    mean, std = f.mean(0), f.std(0) + 1e-6
    f, ft = (f - mean) / std, (ft - mean) / std
    probe = nn.Linear(f.shape[1], N_CLASSES)
    opt = torch.optim.Adam(probe.parameters(), lr=0.02, weight_decay=1e-4)
    for _ in range(300):
        opt.zero_grad()
        F.cross_entropy(probe(f), train_set[1]).backward()
        opt.step()
    return (probe(ft).argmax(1) != test_set[1]).float().mean().item()


def train(models, fault=''):
    torch.manual_seed(14)
    model, = models
    unlabelled, _ = make_shapes(3000)
    labelled, test_set = make_shapes(250), make_shapes(1000)

    params = model.projector.parameters() if fault == 'encoder_not_optimized' else model.parameters()
    optimizer = torch.optim.SGD(params, lr=0.3, momentum=0.9, weight_decay=1e-4)
    epochs, bs, step = 12, 128, 0
    total = epochs * (len(unlabelled) // bs)
    for epoch in range(epochs):
        model.train()
        for idx in torch.randperm(len(unlabelled))[:len(unlabelled) // bs * bs].split(bs):
            lr = 0.3 * min(1, (step + 1) / 15) * 0.5 * (1 + torch.cos(torch.tensor(step / total * 3.14159)).item())
            for g in optimizer.param_groups:
                g['lr'] = lr
            x1 = augment(unlabelled[idx])
            x2 = x1 if fault == 'one_view_twice' else augment(unlabelled[idx])
            loss = nt_xent(model(x1), model(x2), fault)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    return linear_probe(model.encoder, labelled, test_set)


if __name__ == '__main__':
    print(train(build()))
