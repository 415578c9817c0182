"""pix2pix: conditional GAN that turns small label maps into textured facades, trained with a PatchGAN and an L1 term."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.set_num_threads(1)

STYLE = 'pytorch-CycleGAN-and-pix2pix repository: aligned dataset of A/B pairs, UnetGenerator, NLayerDiscriminator, GANLoss with label buffers, backward_D / backward_G, linear learning-rate decay per epoch'
FAULTS = {
    'pair_flipped_apart': 'The random horizontal flip is drawn separately for the label map and for the photo, so in half of the training pairs the two images do not belong together and the generator paints a blur of both.',
    'l1_with_the_input': 'The L1 term compares the generated image with real_A (the input label map) instead of real_B, so the generator learns to copy its input.',
    'generator_wants_fake': 'The adversarial term of the generator uses the target "fake" instead of "real", so the generator is pushed towards images that the discriminator recognises as generated.',
    'generator_step_detached': 'The pair given to the discriminator in backward_G is detached as in backward_D, so no gradient of the adversarial term reaches the generator, which is trained by L1 alone and paints flat averages without texture.',
}

SEED = 41
SIZE = 32


def make_facades(n, rng):
    """A: piecewise constant label map in three channels; B: the same layout, shaded and with a fine random texture."""
    A = np.zeros((n, 3, SIZE, SIZE), dtype=np.float32)
    B = np.zeros((n, 3, SIZE, SIZE), dtype=np.float32)
    codes = np.array([[-1, -1, 1], [1, -1, -1], [-1, 1, -1], [1, 1, -1]], dtype=np.float32)
    tints = np.array([[0.5, 0.3, -0.4], [-0.4, 0.1, 0.5], [0.3, -0.5, 0.2], [-0.2, 0.5, -0.3]], dtype=np.float32)
    amp = np.array([0.45, 0.1, 0.3, 0.2])
    ys, xs = np.mgrid[0:SIZE, 0:SIZE]
    for i in range(n):
        label = np.zeros((SIZE, SIZE), dtype=np.int64)
        for _ in range(rng.integers(3, 6)):
            k = rng.integers(1, 4)
            h, w = rng.integers(6, 15, 2)
            y, x = rng.integers(0, SIZE - 6, 2)
            label[y:y + h, x:x + w] = k
        A[i] = codes[label].transpose(2, 0, 1)
        shade = 0.25 * (ys / SIZE - 0.5)
        checks = np.sign(np.sin(np.pi * (xs + rng.integers(0, 4)) / 2 + 0.1) * np.sin(np.pi * (ys + rng.integers(0, 4)) / 2 + 0.1))
        texture = amp[label] * checks
        B[i] = np.clip(tints[label].transpose(2, 0, 1) + shade + texture + rng.normal(0, 0.02, (3, SIZE, SIZE)), -1, 1)
    return torch.from_numpy(A), torch.from_numpy(B)


class AlignedDataset(Dataset):
    def __init__(self, A, B, flip=True, fault=''):
        self.A, self.B, self.flip, self.fault = A, B, flip, fault

    def __len__(self):
        return len(self.A)

    def __getitem__(self, index):
        A, B = self.A[index], self.B[index]
        if self.flip:
            flip_A = flip_B = bool(torch.rand(()) < 0.5)
            if self.fault == 'pair_flipped_apart':
                flip_B = bool(torch.rand(()) < 0.5)
            A = A.flip(-1) if flip_A else A
            B = B.flip(-1) if flip_B else B
        return {'A': A, 'B': B}


class UnetSkipConnectionBlock(nn.Module):
    def __init__(self, outer_nc, inner_nc, input_nc=None, submodule=None, outermost=False, innermost=False):
        super().__init__()
        self.outermost = outermost
        input_nc = outer_nc if input_nc is None else input_nc
        downconv = nn.Conv2d(input_nc, inner_nc, 4, 2, 1, bias=False)
        if outermost:
            layers = [downconv, submodule, nn.ReLU(), nn.ConvTranspose2d(inner_nc * 2, outer_nc, 4, 2, 1), nn.Tanh()]
        elif innermost:
            layers = [nn.LeakyReLU(0.2), downconv, nn.ReLU(), nn.ConvTranspose2d(inner_nc, outer_nc, 4, 2, 1, bias=False), nn.BatchNorm2d(outer_nc)]
        else:
            layers = [nn.LeakyReLU(0.2), downconv, nn.BatchNorm2d(inner_nc), submodule, nn.ReLU(),
                      nn.ConvTranspose2d(inner_nc * 2, outer_nc, 4, 2, 1, bias=False), nn.BatchNorm2d(outer_nc)]
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        if self.outermost:
            return self.model(x)
        return torch.cat([x, self.model(x)], 1)


class UnetGenerator(nn.Module):
    def __init__(self, input_nc=3, output_nc=3, ngf=16):
        super().__init__()
        block = UnetSkipConnectionBlock(ngf * 4, ngf * 4, innermost=True)
        block = UnetSkipConnectionBlock(ngf * 2, ngf * 4, submodule=block)
        block = UnetSkipConnectionBlock(ngf, ngf * 2, submodule=block)
        self.model = UnetSkipConnectionBlock(output_nc, ngf, input_nc=input_nc, submodule=block, outermost=True)

    def forward(self, x):
        return self.model(x)


class NLayerDiscriminator(nn.Module):
    def __init__(self, input_nc=6, ndf=16):
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(input_nc, ndf, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 2), nn.LeakyReLU(0.2),
            nn.Conv2d(ndf * 2, 1, 3, 1, 1))

    def forward(self, x):
        return self.model(x)


class GANLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer('real_label', torch.tensor(1.0))
        self.register_buffer('fake_label', torch.tensor(0.0))

    def forward(self, prediction, target_is_real):
        target = self.real_label if target_is_real else self.fake_label
        return F.binary_cross_entropy_with_logits(prediction, target.expand_as(prediction))


def init_weights(net):
    for m in net.modules():
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(m.weight, 0.0, 0.02)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight, 1.0, 0.02)
            nn.init.zeros_(m.bias)
    return net


def set_requires_grad(net, flag):
    for p in net.parameters():
        p.requires_grad = flag


def local_contrast(x):
    """Mean absolute difference of neighbouring pixels in windows of 8 by 8."""
    dx = F.pad((x[..., 1:] - x[..., :-1]).abs(), (0, 1))
    dy = F.pad((x[..., 1:, :] - x[..., :-1, :]).abs(), (0, 0, 0, 1))
    return F.avg_pool2d(dx + dy, 8)


@torch.no_grad()
def evaluate(netG, A, B):
    """Error of the low-frequency colours plus error of the local contrast, on unseen pairs."""
    netG.eval()
    fake = netG(A)
    colour = (F.avg_pool2d(fake, 4) - F.avg_pool2d(B, 4)).abs().mean()
    contrast = (local_contrast(fake) - local_contrast(B)).abs().mean()
    netG.train()
    return (colour + contrast).item()


def build():
    torch.manual_seed(SEED)
    return init_weights(UnetGenerator()), init_weights(NLayerDiscriminator())


def train(models, fault=''):
    netG, netD = models
    torch.manual_seed(SEED)
    n_epochs, n_epochs_decay, lambda_L1 = 22, 22, 10.0
    A, B = make_facades(400, np.random.default_rng(SEED))
    test_A, test_B = make_facades(100, np.random.default_rng(SEED + 1))
    loader = DataLoader(AlignedDataset(A, B, fault=fault), batch_size=10, shuffle=True, drop_last=True)

    criterionGAN, criterionL1 = GANLoss(), nn.L1Loss()
    optimizer_G = torch.optim.Adam(netG.parameters(), lr=5e-4, betas=(0.5, 0.999))
    optimizer_D = torch.optim.Adam(netD.parameters(), lr=2e-4, betas=(0.5, 0.999))

    def lambda_rule(epoch):
        return 1.0 - max(0, epoch + 1 - n_epochs) / float(n_epochs_decay + 1)
    schedulers = [torch.optim.lr_scheduler.LambdaLR(o, lambda_rule) for o in (optimizer_G, optimizer_D)]

    for epoch in range(n_epochs + n_epochs_decay):
        for data in loader:
            real_A, real_B = data['A'], data['B']
            fake_B = netG(real_A)

            set_requires_grad(netD, True)
            optimizer_D.zero_grad()
            pred_fake = netD(torch.cat((real_A, fake_B), 1).detach())
            pred_real = netD(torch.cat((real_A, real_B), 1))
            loss_D = (criterionGAN(pred_fake, False) + criterionGAN(pred_real, True)) * 0.5
            loss_D.backward()
            optimizer_D.step()

            set_requires_grad(netD, False)
            optimizer_G.zero_grad()
            fake_AB = torch.cat((real_A, fake_B), 1)
            if fault == 'generator_step_detached':
                fake_AB = fake_AB.detach()
            pred_fake = netD(fake_AB)
            loss_G_GAN = criterionGAN(pred_fake, fault != 'generator_wants_fake')
            target = real_A if fault == 'l1_with_the_input' else real_B
            loss_G_L1 = criterionL1(fake_B, target) * lambda_L1
            loss_G = loss_G_GAN + loss_G_L1
            loss_G.backward()
            optimizer_G.step()
        for scheduler in schedulers:
            scheduler.step()

    return evaluate(netG, test_A, test_B)


if __name__ == '__main__':
    print(train(build()))
