"""CycleGAN in small: plain bright shapes on dark ground and striped shapes on grey ground, learned without pairs."""
import itertools
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'PyTorch-CycleGAN / pytorch-CycleGAN-and-pix2pix repositories: two ResNet generators and two patch discriminators, LSGAN, cycle and identity loss, replay buffers, LambdaLR with linear decay; the synthetic domains allow a check against the true counterpart'
FAULTS = {
    'identity_fed_with_the_other_domain': 'The identity loss feeds G_A2B with pictures of A and asks for the same picture back (and G_B2A with B), so it pays the generators for translating nothing.',
    'cycle_against_the_other_domain': 'The cycle loss compares the recovered A with the real B of the batch and the recovered B with the real A, so an unrelated picture is the target.',
    'only_one_generator_in_the_optimizer': 'The generator optimizer is built over the parameters of G_B2A only, without the chain with those of G_A2B, so the direction A to B is never trained.',
    'decay_past_the_end': 'The decay length of the LambdaLR schedule is too short for the number of epochs, so in the last third the learning rate is negative and both nets climb their losses.',
    'discriminators_swapped': 'In the generator step the fake B is judged by netD_A and the fake A by netD_B, so each generator is asked to make its own input domain.',
}
BETTER = 'lower'

SEED = 65
SIZE = 20


def make_shapes(n, rng, domain):
    """Content (one or two shapes) drawn in the style of a domain; returns that picture and its counterpart in the other domain."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    a, b = np.zeros((n, 1, SIZE, SIZE), np.float32), np.zeros((n, 1, SIZE, SIZE), np.float32)
    stripes = 0.35 * np.sign(np.sin((x + y) * np.pi / 2 + 0.3))
    for i in range(n):
        inside = np.zeros((SIZE, SIZE), bool)
        for _ in range(rng.integers(1, 3)):
            cx, cy = rng.uniform(5, SIZE - 6, 2)
            r = rng.uniform(3, 5)
            kind = rng.integers(3)
            if kind == 0:
                inside |= np.hypot(x - cx, y - cy) < r
            elif kind == 1:
                inside |= np.maximum(np.abs(x - cx), np.abs(y - cy)) < r * 0.85
            else:
                inside |= (np.abs(x - cx) + np.abs(y - cy)) < r * 1.2
        a[i, 0] = np.where(inside, 0.8, -0.6)
        b[i, 0] = np.where(inside, 0.55 + stripes, 0.0)
    a += rng.normal(0, 0.04, a.shape).astype(np.float32)
    b += rng.normal(0, 0.04, b.shape).astype(np.float32)
    return (a, b) if domain == 'A' else (b, a)


class UnpairedDataset(Dataset):
    def __init__(self, a, b):
        self.a, self.b = torch.from_numpy(a), torch.from_numpy(b)

    def __len__(self):
        return max(len(self.a), len(self.b))

    def __getitem__(self, index):
        item_a = self.a[index % len(self.a)]
        item_b = self.b[np.random.randint(0, len(self.b))]
        if np.random.rand() < 0.5:
            item_a = item_a.flip(-2).transpose(-1, -2)
        return {'A': item_a, 'B': item_b}


class ResidualBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv_block = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3), nn.InstanceNorm2d(c), nn.ReLU(inplace=True),
                                        nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3), nn.InstanceNorm2d(c))

    def forward(self, x):
        return x + self.conv_block(x)


class Generator(nn.Module):
    def __init__(self, c=16):
        super().__init__()
        self.model = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(1, c, 3), nn.ReLU(inplace=True),
            nn.Conv2d(c, 2 * c, 3, 2, 1), nn.InstanceNorm2d(2 * c), nn.ReLU(inplace=True),
            ResidualBlock(2 * c), ResidualBlock(2 * c),
            nn.ConvTranspose2d(2 * c, c, 4, 2, 1), nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1), nn.Conv2d(c, 1, 3), nn.Tanh())

    def forward(self, x):
        return self.model(x)


class Discriminator(nn.Module):
    def __init__(self, c=16):
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(1, c, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(c, 2 * c, 4, 2, 1), nn.InstanceNorm2d(2 * c), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * c, 1, 3, 1, 1))

    def forward(self, x):
        return self.model(x)


class ReplayBuffer:
    def __init__(self, max_size=50):
        self.max_size, self.data = max_size, []

    def push_and_pop(self, data):
        out = []
        for element in data.detach():
            element = element[None]
            if len(self.data) < self.max_size:
                self.data.append(element)
                out.append(element)
            elif np.random.rand() > 0.5:
                i = np.random.randint(0, self.max_size)
                out.append(self.data[i].clone())
                self.data[i] = element
            else:
                out.append(element)
        return torch.cat(out)


class LambdaLR:
    def __init__(self, n_epochs, decay_start_epoch):
        self.n_epochs, self.decay_start_epoch = n_epochs, decay_start_epoch

    def step(self, epoch):
        return 1.0 - max(0, epoch - self.decay_start_epoch) / (self.n_epochs - self.decay_start_epoch)


def weights_init_normal(m):
    if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(m.weight, 0.0, 0.05)


@torch.no_grad()
def validate(netG_A2B, netG_B2A, val_a, val_b):
    """Mean L1 distance to the true counterpart, both directions."""
    netG_A2B.eval()
    netG_B2A.eval()
    (xa, ta), (xb, tb) = [[torch.from_numpy(t) for t in pair] for pair in (val_a, val_b)]
    return 0.5 * ((netG_A2B(xa) - ta).abs().mean() + (netG_B2A(xb) - tb).abs().mean()).item()


def build(seed=SEED):
    torch.manual_seed(seed)
    nets = Generator(), Generator(), Discriminator(), Discriminator()
    for net in nets:
        net.apply(weights_init_normal)
    return nets


def train(models, fault='', seed=SEED):
    netG_A2B, netG_B2A, netD_A, netD_B = models
    torch.manual_seed(seed)
    np.random.seed(seed)
    rng = np.random.default_rng(seed)
    dataset = UnpairedDataset(make_shapes(320, rng, 'A')[0], make_shapes(280, rng, 'B')[0])
    val_a, val_b = make_shapes(100, rng, 'A'), make_shapes(100, rng, 'B')
    loader = DataLoader(dataset, batch_size=4, shuffle=True, drop_last=True)

    n_epochs, lr = 6, 1e-3
    if fault == 'only_one_generator_in_the_optimizer':
        optimizer_G = torch.optim.Adam(netG_B2A.parameters(), lr=lr, betas=(0.5, 0.999))
    else:
        optimizer_G = torch.optim.Adam(itertools.chain(netG_A2B.parameters(), netG_B2A.parameters()), lr=lr, betas=(0.5, 0.999))
    optimizer_D_A = torch.optim.Adam(netD_A.parameters(), lr=lr / 2, betas=(0.5, 0.999))
    optimizer_D_B = torch.optim.Adam(netD_B.parameters(), lr=lr / 2, betas=(0.5, 0.999))
    decay = LambdaLR(3, 1) if fault == 'decay_past_the_end' else LambdaLR(n_epochs, n_epochs // 2)
    schedulers = [torch.optim.lr_scheduler.LambdaLR(o, decay.step) for o in (optimizer_G, optimizer_D_A, optimizer_D_B)]
    fake_A_buffer, fake_B_buffer = ReplayBuffer(), ReplayBuffer()

    for epoch in range(n_epochs):
        netG_A2B.train()
        netG_B2A.train()
        for batch in loader:
            real_A, real_B = batch['A'], batch['B']

            # generators
            if fault == 'identity_fed_with_the_other_domain':
                loss_identity = F.l1_loss(netG_A2B(real_A), real_A) + F.l1_loss(netG_B2A(real_B), real_B)
            else:
                loss_identity = F.l1_loss(netG_A2B(real_B), real_B) + F.l1_loss(netG_B2A(real_A), real_A)
            fake_B, fake_A = netG_A2B(real_A), netG_B2A(real_B)
            judge_A, judge_B = (netD_B, netD_A) if fault == 'discriminators_swapped' else (netD_A, netD_B)
            pred_A, pred_B = judge_A(fake_A), judge_B(fake_B)
            loss_GAN = F.mse_loss(pred_A, torch.ones_like(pred_A)) + F.mse_loss(pred_B, torch.ones_like(pred_B))
            recovered_A, recovered_B = netG_B2A(fake_B), netG_A2B(fake_A)
            if fault == 'cycle_against_the_other_domain':
                loss_cycle = F.l1_loss(recovered_A, real_B) + F.l1_loss(recovered_B, real_A)
            else:
                loss_cycle = F.l1_loss(recovered_A, real_A) + F.l1_loss(recovered_B, real_B)
            loss_G = loss_GAN + 10.0 * loss_cycle + 5.0 * loss_identity
            optimizer_G.zero_grad()
            loss_G.backward()
            optimizer_G.step()

            # discriminators
            for netD, optimizer_D, real, fake, buffer in ((netD_A, optimizer_D_A, real_A, fake_A, fake_A_buffer),
                                                          (netD_B, optimizer_D_B, real_B, fake_B, fake_B_buffer)):
                pred_real, pred_fake = netD(real), netD(buffer.push_and_pop(fake))
                loss_D = 0.5 * (F.mse_loss(pred_real, torch.ones_like(pred_real)) + F.mse_loss(pred_fake, torch.zeros_like(pred_fake)))
                optimizer_D.zero_grad()
                loss_D.backward()
                optimizer_D.step()
        for scheduler in schedulers:
            scheduler.step()
        distance = validate(netG_A2B, netG_B2A, val_a, val_b)
    return distance


if __name__ == '__main__':
    for name in ('', *FAULTS):
        print(f'{name or "healthy":36s} {train(build(), name):.4f}')
