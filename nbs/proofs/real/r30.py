"""VQ-VAE (van den Oord et al.) on small synthetic colour images of one shape on a shaded ground."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import TensorDataset, DataLoader

torch.set_num_threads(1)

STYLE = 'after the well-known VQ-VAE notebooks: Residual / Encoder / Decoder / VectorQuantizerEMA classes, reconstruction error divided by the data variance plus vq_loss, Adam with amsgrad, iteration loop over a DataLoader'
FAULTS = {
    'permute_back_missing': 'The quantised vectors (BHW)C are put into the shape BCHW by view alone, without the permute, so the decoder, the commitment loss and the straight-through gradient see channels and places mixed up.',
    'straight_through_reversed': 'The straight-through line reads quantized + (inputs - quantized).detach(), so the decoder is trained on the unquantised latents and the encoder gets no reconstruction gradient at all.',
    'ema_sum_not_divided': 'The moving sum of assigned latents is copied into the codebook without dividing by the cluster size, so the codes have the wrong length and match no latent.',
    'sigmoid_on_centred_images': 'The decoder ends in a sigmoid although the images are shifted to [-0.5, 0.5], so no dark pixel can be reproduced.',
}


def make_images(n, size=16):
    yy, xx = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing='ij')
    cx, cy = torch.rand(2, n, 1, 1) * (size - 7) + 3
    r = torch.rand(n, 1, 1) * 2 + 2.5
    kind = torch.randint(3, (n, 1, 1))
    dx, dy = (xx - cx).abs(), (yy - cy).abs()
    circle = (dx ** 2 + dy ** 2).sqrt() < r
    square = torch.maximum(dx, dy) < r * 0.85
    cross = (torch.minimum(dx, dy) < 1.1) & (torch.maximum(dx, dy) < r + 0.5)
    shape = torch.where(kind == 0, circle, torch.where(kind == 1, square, cross)).float()[:, None]
    colours = torch.tensor([[.9, .1, .1], [.1, .8, .2], [.2, .3, .95], [.95, .9, .1], [.9, .2, .9], [.95, .95, .95]])
    fg = colours[torch.randint(6, (n,))][:, :, None, None]
    ground = torch.rand(n, 1, 1, 1) * 0.4 + 0.25 * (xx / size)[None, None] * torch.randint(2, (n, 1, 1, 1))
    img = shape * fg + (1 - shape) * ground
    return (img + 0.01 * torch.randn(n, 3, size, size)).clamp(0, 1) - 0.5


class VectorQuantizerEMA(nn.Module):
    """Codebook kept as a moving average of the latents assigned to each code; unused codes are drawn anew from the batch."""

    def __init__(self, num_embeddings, embedding_dim, commitment_cost, decay=0.95, eps=1e-5, threshold=0.5):
        super().__init__()
        self.D, self.K, self.commitment_cost = embedding_dim, num_embeddings, commitment_cost
        self.decay, self.eps, self.threshold = decay, eps, threshold
        self.register_buffer('embedding', torch.randn(num_embeddings, embedding_dim))
        self.register_buffer('cluster_size', torch.zeros(num_embeddings))
        self.register_buffer('ema_w', self.embedding.clone())
        self.fault = ''

    @torch.no_grad()
    def update_codebook(self, flat, indices):
        one_hot = F.one_hot(indices, self.K).type_as(flat)
        self.cluster_size.mul_(self.decay).add_(one_hot.sum(0), alpha=1 - self.decay)
        self.ema_w.mul_(self.decay).add_(one_hot.t() @ flat, alpha=1 - self.decay)
        n = self.cluster_size.sum()
        size = (self.cluster_size + self.eps) / (n + self.K * self.eps) * n        # Laplace smoothing
        if self.fault == 'ema_sum_not_divided':
            self.embedding.copy_(self.ema_w)
        else:
            self.embedding.copy_(self.ema_w / size[:, None])
        dead = self.cluster_size < self.threshold
        fresh = flat[torch.randint(len(flat), (int(dead.sum()),))]
        self.embedding[dead] = fresh
        self.ema_w[dead] = fresh
        self.cluster_size[dead] = 1.

    def forward(self, inputs):
        flat = inputs.permute(0, 2, 3, 1).reshape(-1, self.D)                       # BCHW -> (BHW)C
        b, c, h, w = inputs.shape
        distances = flat.pow(2).sum(1, keepdim=True) + self.embedding.pow(2).sum(1) - 2 * flat @ self.embedding.t()
        indices = distances.argmin(1)
        quantized = self.embedding[indices]
        if self.fault == 'permute_back_missing':
            quantized = quantized.view(b, c, h, w)
        else:
            quantized = quantized.view(b, h, w, c).permute(0, 3, 1, 2).contiguous()
        if self.training:
            self.update_codebook(flat.detach(), indices)

        loss = self.commitment_cost * F.mse_loss(inputs, quantized.detach())
        if self.fault == 'straight_through_reversed':
            out = quantized + (inputs - quantized).detach()
        else:
            out = inputs + (quantized - inputs).detach()
        return loss, out, quantized


class Residual(nn.Module):
    def __init__(self, ch, mid):
        super().__init__()
        self.block = nn.Sequential(nn.ReLU(), nn.Conv2d(ch, mid, 3, padding=1, bias=False),
                                   nn.ReLU(), nn.Conv2d(mid, ch, 1, bias=False))

    def forward(self, x):
        return x + self.block(x)


class Encoder(nn.Module):
    def __init__(self, ch, mid, dim):
        super().__init__()
        self.conv1 = nn.Conv2d(3, ch // 2, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(ch // 2, ch, 4, stride=2, padding=1)
        self.conv3 = nn.Conv2d(ch, ch, 3, padding=1)
        self.res = nn.Sequential(Residual(ch, mid), Residual(ch, mid), nn.ReLU())
        self.pre_vq = nn.Conv2d(ch, dim, 1)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        return self.pre_vq(self.res(self.conv3(x)))


class Decoder(nn.Module):
    def __init__(self, ch, mid, dim):
        super().__init__()
        self.conv = nn.Conv2d(dim, ch, 3, padding=1)
        self.res = nn.Sequential(Residual(ch, mid), Residual(ch, mid), nn.ReLU())
        self.up1 = nn.ConvTranspose2d(ch, ch // 2, 4, stride=2, padding=1)
        self.up2 = nn.ConvTranspose2d(ch // 2, 3, 4, stride=2, padding=1)
        self.squash = False

    def forward(self, z):
        x = self.res(self.conv(z))
        x = self.up2(F.relu(self.up1(x)))
        return torch.sigmoid(x) if self.squash else x


class VQVAE(nn.Module):
    def __init__(self, ch=64, mid=16, dim=16, codes=64, commitment_cost=0.25):
        super().__init__()
        self.encoder = Encoder(ch, mid, dim)
        self.vq = VectorQuantizerEMA(codes, dim, commitment_cost)
        self.decoder = Decoder(ch, mid, dim)

    def forward(self, x):
        loss, z, _ = self.vq(self.encoder(x))
        return loss, self.decoder(z)

    @torch.no_grad()
    def reconstruct(self, x):
        """From pixels to code indices and back: what a stored or sampled code would look like."""
        _, _, quantized = self.vq(self.encoder(x))
        return self.decoder(quantized)


def build():
    torch.manual_seed(1)
    return (VQVAE(),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(30)
    data, held_out = make_images(6000), make_images(1000)
    variance = data.var()
    loader = DataLoader(TensorDataset(data), batch_size=64, shuffle=True, drop_last=True)
    model.vq.fault = fault

    model.decoder.squash = fault == 'sigmoid_on_centred_images'
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, amsgrad=True)

    model.train()
    step, num_steps = 0, 700
    while step < num_steps:
        for (x,) in loader:
            optimizer.zero_grad()
            vq_loss, recon = model(x)
            recon_error = F.mse_loss(recon, x) / variance
            loss = recon_error + vq_loss
            loss.backward()
            optimizer.step()
            step += 1
            if step == num_steps:
                break

    model.eval()
    recon = torch.cat([model.reconstruct(x) for x in held_out.split(200)])
    return (F.mse_loss(recon, held_out) / held_out.var()).item()


if __name__ == '__main__':
    print(train(build()))
