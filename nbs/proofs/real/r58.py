"""Domain-adversarial training (DANN) with a gradient reversal layer: labelled plain digits to unlabelled faint digits on coloured backgrounds."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import TensorDataset, DataLoader

torch.set_num_threads(1)

STYLE = 'fungtion/DANN and its many copies (MNIST to MNIST-M): ReverseLayerF, feature, class_classifier and domain_classifier, alpha = 2 / (1 + exp(-10 p)) - 1, min(len(source), len(target)) steps per epoch, Adam with the annealed learning rate of the paper, class loss plus theta times the two domain losses'
FAULTS = {
    'gradient_not_reversed': 'The backward pass of the reversal layer returns grad * alpha without the minus, so the features are trained to make the domains easy to tell apart.',
    'alpha_by_integer_division': 'The progress p is computed with // and stays 0, so alpha is 0 for the whole training and no gradient of the domain classifier reaches the features.',
    'domain_classifier_not_in_optimizer': 'The optimizer gets the parameters of the feature extractor and of the class classifier only, so the domain classifier stays random and its reversed gradient means nothing.',
    'target_features_detached': 'The features of the target batch are computed without gradient, so only the source features can move towards the target and the features of target pictures are never adapted.',
    'target_normalised_otherwise': 'The transform of the training target pictures lacks the normalisation to [-1, 1], so the features are aligned with brighter pictures of half the contrast that the target really has.',
}

SEED = 58
SIZE = 20
STROKES = {                         # polylines of the digits in a box of -1 to 1
    0: [(-.6, -.6), (0, -1), (.6, -.6), (.6, .6), (0, 1), (-.6, .6), (-.6, -.6)],
    1: [(-.4, -.6), (.1, -1), (.1, 1)],
    2: [(-.6, -.6), (0, -1), (.6, -.5), (-.6, 1), (.6, 1)],
    3: [(-.6, -.9), (.5, -.9), (0, -.1), (.6, .5), (0, 1), (-.6, .8)],
    4: [(.3, 1), (.3, -1), (-.7, .4), (.7, .4)],
    5: [(.6, -1), (-.5, -1), (-.5, -.1), (.5, 0), (.5, .8), (-.6, 1)],
    6: [(.4, -1), (-.5, 0), (-.5, .8), (.3, 1), (.6, .4), (-.5, .2)],
    7: [(-.6, -1), (.6, -1), (-.2, 1)],
    8: [(0, -.1), (-.5, -.6), (0, -1), (.5, -.6), (0, -.1), (-.6, .5), (0, 1), (.6, .5), (0, -.1)],
    9: [(.5, -.2), (-.4, -.1), (-.5, -.7), (.1, -1), (.5, -.7), (.4, 1)],
}


def draw_digits(labels, rng):
    """White digits on black with random slant, size, place, thickness and wobble; (N, SIZE, SIZE) in [0, 1]."""
    gy, gx = np.mgrid[0:SIZE, 0:SIZE] / (SIZE / 2) - 1 + 1 / SIZE
    out = np.zeros((len(labels), SIZE, SIZE), dtype=np.float32)
    for i, k in enumerate(labels):
        a, s = rng.normal(0, 0.15), rng.uniform(0.6, 0.8, 2)
        m = np.array([[np.cos(a), -np.sin(a) + rng.normal(0, 0.15)], [np.sin(a), np.cos(a)]]) * s
        points = (np.array(STROKES[int(k)]) + rng.normal(0, 0.08, (len(STROKES[int(k)]), 2))) @ m.T + rng.normal(0, 0.08, 2)
        best = np.full((SIZE, SIZE), 9.0)
        for p, q in zip(points[:-1], points[1:]):
            d = q - p
            t = np.clip(((gx - p[0]) * d[0] + (gy - p[1]) * d[1]) / ((d ** 2).sum() + 1e-6), 0, 1)
            best = np.minimum(best, (gx - p[0] - t * d[0]) ** 2 + (gy - p[1] - t * d[1]) ** 2)
        out[i] = np.clip(np.exp(-best / rng.uniform(0.008, 0.02)) * 1.3, 0, 1)
    return out


def blend(digits, rng):
    """Faint digits over smooth coloured backgrounds, (N, 3, SIZE, SIZE)."""
    gy, gx = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    images = np.zeros((len(digits), 3, SIZE, SIZE), dtype=np.float32)
    for i, digit in enumerate(digits):
        base, contrast = rng.uniform(0.2, 0.6, 3), rng.uniform(0.13, 0.22, 3)
        for c in range(3):
            f = rng.uniform(-9, 9, 2)
            background = base[c] + 0.12 * np.sin(f[0] * gx + f[1] * gy + rng.uniform(0, 6.3))
            images[i, c] = background + digit * contrast[c]
    return np.clip(images + rng.normal(0, 0.05, images.shape), 0, 1).astype(np.float32)


def normalize(images):
    return (images - 0.5) / 0.5


class ReverseLayerF(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, alpha):
        ctx.alpha = alpha
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output.neg() * ctx.alpha, None


class ForwardLayerF(ReverseLayerF):
    @staticmethod
    def backward(ctx, grad_output):
        return grad_output * ctx.alpha, None


class DANN(nn.Module):
    def __init__(self):
        super().__init__()
        self.feature = nn.Sequential(nn.Conv2d(3, 16, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.MaxPool2d(2), nn.ReLU())
        self.class_classifier = nn.Sequential(nn.Linear(32 * 9, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10), nn.LogSoftmax(dim=1))
        self.domain_classifier = nn.Sequential(nn.Linear(32 * 9, 64), nn.ReLU(), nn.Linear(64, 2), nn.LogSoftmax(dim=1))
        self.reverse = ReverseLayerF

    def forward(self, input_data, alpha):
        feature = self.feature(input_data).flatten(1)
        return self.class_classifier(feature), self.domain_classifier(self.reverse.apply(feature, alpha))


@torch.no_grad()
def test(model, images, labels):
    """Share of unseen target pictures that are classified rightly."""
    model.eval()
    pred = torch.cat([model(x, 0.0)[0].argmax(1) for x in images.split(200)])
    return (pred == labels).float().mean().item()


def build():
    torch.manual_seed(SEED)
    return (DANN(),)


def train(models, fault=''):
    model = models[0]
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    n = 2400
    s_label, t_label, test_label = rng.integers(0, 10, n), rng.integers(0, 10, n), rng.integers(0, 10, 1000)
    s_img = np.repeat(draw_digits(s_label, rng)[:, None], 3, axis=1)
    t_img, test_img = blend(draw_digits(t_label, rng), rng), blend(draw_digits(test_label, rng), rng)
    s_img, test_img = normalize(s_img), normalize(test_img)
    if fault != 'target_normalised_otherwise':
        t_img = normalize(t_img)
    batch_size, n_epoch, lr, theta = 48, 26, 1.5e-3, 0.3
    dataloader_source = DataLoader(TensorDataset(torch.from_numpy(s_img), torch.from_numpy(s_label)), batch_size=batch_size, shuffle=True)
    dataloader_target = DataLoader(TensorDataset(torch.from_numpy(t_img)), batch_size=batch_size, shuffle=True)

    if fault == 'gradient_not_reversed':
        model.reverse = ForwardLayerF
    params = list(model.parameters())
    if fault == 'domain_classifier_not_in_optimizer':
        params = list(model.feature.parameters()) + list(model.class_classifier.parameters())
    optimizer = torch.optim.Adam(params, lr=lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: (1 + 10 * epoch / n_epoch) ** -0.75)
    loss_class, loss_domain = nn.NLLLoss(), nn.NLLLoss()

    for epoch in range(n_epoch):
        model.train()
        len_dataloader = min(len(dataloader_source), len(dataloader_target))
        for i, ((s_x, s_y), (t_x,)) in enumerate(zip(dataloader_source, dataloader_target)):
            done, total = i + epoch * len_dataloader, n_epoch * len_dataloader
            p = float(done // total) if fault == 'alpha_by_integer_division' else float(done) / total
            alpha = 2.0 / (1.0 + np.exp(-10 * p)) - 1

            optimizer.zero_grad()
            class_output, domain_output = model(s_x, alpha)
            err_s_label = loss_class(class_output, s_y)
            err_s_domain = loss_domain(domain_output, torch.zeros(len(s_x), dtype=torch.long))
            if fault == 'target_features_detached':
                with torch.no_grad():
                    feature = model.feature(t_x).flatten(1)
                domain_output = model.domain_classifier(model.reverse.apply(feature, alpha))
            else:
                _, domain_output = model(t_x, alpha)
            err_t_domain = loss_domain(domain_output, torch.ones(len(t_x), dtype=torch.long))
            err = err_s_label + theta * (err_s_domain + err_t_domain)
            err.backward()
            optimizer.step()
        scheduler.step()

    return test(model, torch.from_numpy(test_img), torch.from_numpy(test_label))


if __name__ == '__main__':
    print(train(build()))
