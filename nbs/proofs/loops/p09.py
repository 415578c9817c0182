import torch
from torch import nn
from torch.utils.data import DataLoader

torch.set_num_threads(1)

STYLE = 'autoencoder of separate encoder and decoder modules, MSE reconstruction, AdamW'
FAULTS = {
    'decoder_not_in_optimizer': 'only encoder.parameters() is given to the optimizer, the decoder stays at its random start',
    'code_detached': 'the code is detached before the decoder, so the encoder gets no gradient',
    'lr_1000x_too_low': 'learning rate 3e-6, 1000 times too low',
}


def build():
    encoder = nn.Sequential(nn.Linear(32, 48), nn.GELU(), nn.Linear(48, 4))
    decoder = nn.Sequential(nn.Linear(4, 48), nn.GELU(), nn.Linear(48, 32))
    return encoder, decoder


def manifold(n, a, b):
    z = torch.randn(n, 4)
    x = torch.tanh(z @ a) @ b
    return (x + 0.05 * torch.randn_like(x)) / 1.5


def train(models, fault=''):
    torch.manual_seed(8)
    encoder, decoder = models
    a, b = torch.randn(4, 16) / 2, torch.randn(16, 32) / 2.2
    train_x = manifold(2000, a, b)
    test_x = manifold(400, a, b)
    loader = DataLoader(train_x, batch_size=64, shuffle=True)

    params = list(encoder.parameters())
    if fault != 'decoder_not_in_optimizer':
        params += list(decoder.parameters())
    lr = 3e-6 if fault == 'lr_1000x_too_low' else 3e-3
    optimizer = torch.optim.AdamW(params, lr=lr)
    mse = nn.MSELoss()

    for epoch in range(10):
        encoder.train(), decoder.train()
        running = 0.0
        for x in loader:
            code = encoder(x)
            if fault == 'code_detached':
                code = code.detach()
            recon = decoder(code)
            loss = mse(recon, x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            running += loss.item()

    encoder.eval(), decoder.eval()
    with torch.no_grad():
        return mse(decoder(encoder(test_x)), test_x).item()
