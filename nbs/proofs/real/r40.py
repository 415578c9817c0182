"""Tiny NeRF: a coordinate network with positional encoding, volume-rendered from posed views of an analytic scene."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'yenchenlin/nerf-pytorch and tiny_nerf: get_rays, Embedder with log-sampled frequency bands, raw2outputs with white_bkgd, stratified samples, Adam with exponential decay per step, PSNR on held-out views'
FAULTS = {
    'rotated_by_transpose': 'The ray directions are multiplied with the transpose of the camera rotation in training, so the rays of each view point in wrong directions.',
    'pixel_axes_swapped': 'The pixel grid of get_rays is in ij order while the images are stored row by row, so each training view is paired with the rays of its transposed image.',
    'white_background_missing': 'The images are over white, but the training render composites over black, so the network must paint the background as fog that is wrong from other views.',
    'transmittance_from_alpha': 'The training render takes the cumulative product of alpha instead of 1 - alpha as transmittance, so light passes only through opaque samples and the learned densities do not describe the scene.',
}

H = W = 28
FOCAL = 32.0
NEAR, FAR = 2.0, 6.0
OBJECTS = [  # centre, radius, colour of the upper and of the lower side
    ((0.0, 0.0, 0.0), 0.55, (0.9, 0.2, 0.1), (0.2, 0.2, 0.8)),
    ((0.8, 0.5, 0.3), 0.35, (0.1, 0.7, 0.2), (0.9, 0.8, 0.1)),
    ((-0.7, 0.6, -0.3), 0.4, (0.1, 0.6, 0.8), (0.7, 0.1, 0.6)),
    ((-0.3, -0.8, 0.35), 0.35, (0.8, 0.5, 0.1), (0.1, 0.3, 0.3)),
    ((0.6, -0.6, -0.5), 0.3, (0.3, 0.3, 0.3), (0.9, 0.4, 0.5)),
]


def pose_spherical(theta, phi, radius=4.0):
    """Camera-to-world matrix looking at the origin, z up, camera looks along its -z."""
    pos = radius * np.array([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)])
    back = pos / np.linalg.norm(pos)
    right = np.cross([0, 0, 1.0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    c2w = np.eye(4)
    c2w[:3, 0], c2w[:3, 1], c2w[:3, 2], c2w[:3, 3] = right, up, back, pos
    return torch.from_numpy(c2w.astype(np.float32))


def get_rays(c2w, transpose=False, indexing='xy'):
    i, j = torch.meshgrid(torch.arange(W) + 0.5, torch.arange(H) + 0.5, indexing=indexing)
    dirs = torch.stack([(i - W * 0.5) / FOCAL, -(j - H * 0.5) / FOCAL, -torch.ones_like(i)], -1)
    rot = c2w[:3, :3].t() if transpose else c2w[:3, :3]
    rays_d = (dirs[..., None, :] * rot).sum(-1)
    return c2w[:3, 3].expand(rays_d.shape), rays_d


def photograph(c2w):
    """Exact picture of the scene over white, 3 x 3 rays averaged per pixel."""
    o, d = get_rays(c2w)
    image = torch.zeros(H, W, 3)
    step = c2w[:3, :3] / (3 * FOCAL)
    for a in (-1, 0, 1):
        for b in (-1, 0, 1):
            dd = F.normalize(d + a * step[:, 0] + b * step[:, 1], dim=-1)
            color, depth = torch.ones(H, W, 3), torch.full((H, W), 1e9)
            for centre, radius, upper, lower in OBJECTS:
                oc = o - torch.tensor(centre)
                bq = (oc * dd).sum(-1)
                disc = bq ** 2 - (oc * oc).sum(-1) + radius ** 2
                t = -bq - disc.clamp(min=0).sqrt()
                hit = (disc > 0) & (t < depth)
                n = (oc + t[..., None] * dd) / radius
                base = torch.where(n[..., 2:] > 0, torch.tensor(upper), torch.tensor(lower))
                shade = 0.65 + 0.35 * (n * torch.tensor([0.5, 0.3, 0.81])).sum(-1, keepdim=True)
                color = torch.where(hit[..., None], base * shade, color)
                depth = torch.where(hit, t, depth)
            image += color / 9
    return image


class Embedder(nn.Module):
    def __init__(self, num_freqs):
        super().__init__()
        self.register_buffer('freq_bands', 2.0 ** torch.linspace(0, num_freqs - 1, num_freqs))
        self.out_dim = 3 + 6 * num_freqs

    def forward(self, x):
        xf = (x[..., None, :] * self.freq_bands[:, None]).flatten(-2)
        return torch.cat([x, torch.sin(xf), torch.cos(xf)], -1)


class NeRF(nn.Module):
    def __init__(self, width=64, num_freqs=5):
        super().__init__()
        self.embed = Embedder(num_freqs)
        d = self.embed.out_dim
        self.layers1 = nn.Sequential(nn.Linear(d, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.layers2 = nn.Sequential(nn.Linear(width + d, width), nn.ReLU(), nn.Linear(width, 4))

    def forward(self, pts):
        e = self.embed(pts)
        return self.layers2(torch.cat([self.layers1(e), e], -1))


def raw2outputs(raw, z_vals, rays_d, white_bkgd=True, fault=''):
    dists = torch.cat([z_vals[:, 1:] - z_vals[:, :-1], torch.full_like(z_vals[:, :1], 0.1)], -1) * rays_d.norm(dim=-1, keepdim=True)
    rgb = torch.sigmoid(raw[..., :3])
    sigma = F.softplus(raw[..., 3] - 1)
    alpha = 1 - torch.exp(-sigma * dists)
    keep = 1 - alpha + 1e-10
    if fault == 'transmittance_from_alpha':
        keep = alpha + 1e-10
    trans = torch.cat([torch.ones_like(keep[:, :1]), keep], 1).cumprod(1)[:, :-1]
    weights = alpha * trans
    rgb_map = (weights[..., None] * rgb).sum(1)
    if white_bkgd:
        rgb_map = rgb_map + (1 - weights.sum(1, keepdim=True))
    return rgb_map, weights


def render_rays(model, rays_o, rays_d, n_samples=32, perturb=True, white_bkgd=True, fault=''):
    t = torch.linspace(0, 1, n_samples + 1)[:-1].expand(len(rays_o), n_samples)
    t = t + (torch.rand(t.shape) if perturb else 0.5) / n_samples
    z_vals = NEAR + (FAR - NEAR) * t
    pts = rays_o[:, None] + rays_d[:, None] * z_vals[..., None]
    return raw2outputs(model(pts), z_vals, rays_d, white_bkgd, fault)[0]


@torch.no_grad()
def evaluate(model, poses, images):
    """Mean error on held-out views as minus PSNR in dB."""
    model.eval()
    psnr = []
    for c2w, image in zip(poses, images):
        o, d = get_rays(c2w)
        rgb = render_rays(model, o.reshape(-1, 3), d.reshape(-1, 3), perturb=False).view(H, W, 3)
        psnr.append(-10 * torch.log10((rgb - image).pow(2).mean()).item())
    return -float(np.mean(psnr))


def build():
    torch.manual_seed(40)
    return (NeRF(),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(40)
    rng = np.random.default_rng(1)
    poses = [pose_spherical(rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 1.0)) for _ in range(24)]
    test_poses = [pose_spherical(rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 1.0)) for _ in range(5)]
    images = [photograph(p) for p in poses]
    test_images = [photograph(p) for p in test_poses]

    rays = [get_rays(p, fault == 'rotated_by_transpose', 'ij' if fault == 'pixel_axes_swapped' else 'xy') for p in poses]
    rays_o = torch.cat([o.reshape(-1, 3) for o, _ in rays])
    rays_d = torch.cat([d.reshape(-1, 3) for _, d in rays])
    rgbs = torch.cat([im.reshape(-1, 3) for im in images])

    n_iters, n_rand, lrate, decay_rate = 1500, 256, 5e-3, 0.1
    optimizer = torch.optim.Adam(model.parameters(), lr=lrate, betas=(0.9, 0.999))
    i_batch, perm = 0, torch.randperm(len(rgbs))
    for step in range(n_iters):
        batch = perm[i_batch:i_batch + n_rand]
        i_batch += n_rand
        if i_batch >= len(perm):
            i_batch, perm = 0, torch.randperm(len(rgbs))
        rgb = render_rays(model, rays_o[batch], rays_d[batch], white_bkgd=fault != 'white_background_missing', fault=fault)
        loss = F.mse_loss(rgb, rgbs[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for group in optimizer.param_groups:
            group['lr'] = lrate * decay_rate ** (step / n_iters)

    return evaluate(model, test_poses, test_images)


if __name__ == '__main__':
    print(train(build()))
