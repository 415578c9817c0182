import itertools
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)

STYLE = 'denoising autoencoder as encoder and decoder modules, optimizer.step(closure), one chained parameter list'
FAULTS = {
    'decoder_not_in_optimizer': 'the optimizer gets the parameters of the encoder only, the decoder keeps its random weights',
    'no_activation': 'there is no activation between the linear layers, so encoder and decoder are linear maps',
    'sigmoid_on_standardised_targets': 'the decoder ends in a sigmoid although the targets are standardised and often negative',
}


def build():
    encoder = nn.Sequential(nn.Linear(40, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 3))
    decoder = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 40))
    return encoder, decoder


def curves(n):
    u = torch.rand(n, 1)
    v = torch.rand(n, 1)
    t = torch.linspace(0, 1, 40)
    return torch.sin(6.28 * (t * (0.7 + 1.3 * u) + v)) + u * t


def train(models, fault=''):
    torch.manual_seed(35)
    encoder, decoder = models
    if fault == 'no_activation':
        for part in (encoder, decoder):
            part[1] = nn.Identity()
            part[3] = nn.Identity()
    if fault == 'sigmoid_on_standardised_targets':
        decoder.append(nn.Sigmoid())

    clean = curves(2600)
    mean, std = clean[:2000].mean(0), clean[:2000].std(0)
    clean = (clean - mean) / std
    train_set, test_set = clean[:2000], clean[2000:]

    params = itertools.chain(encoder.parameters(), decoder.parameters())
    if fault == 'decoder_not_in_optimizer':
        params = encoder.parameters()
    optimizer = torch.optim.Adam(params, lr=2e-3)

    for epoch in range(45):
        encoder.train()
        decoder.train()
        for target in train_set[torch.randperm(len(train_set))].split(64):
            noisy = target + 0.3 * torch.randn_like(target)

            def closure():
                optimizer.zero_grad()
                loss = F.mse_loss(decoder(encoder(noisy)), target)
                loss.backward()
                return loss

            optimizer.step(closure)

    encoder.eval()
    decoder.eval()
    with torch.no_grad():
        noisy = test_set + 0.3 * torch.randn_like(test_set)
        return F.mse_loss(decoder(encoder(noisy)), test_set).item()
