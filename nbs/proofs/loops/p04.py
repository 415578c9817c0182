import torch
import torch.nn as nn

torch.set_num_threads(1)

STYLE = 'full-batch LBFGS with a closure, curve fitting'
FAULTS = {
    'zero_grad_forgotten': 'the closure does not zero the gradients, so LBFGS sees sums of old gradients',
    'target_shape_broadcasts': 'targets have shape (n,) and predictions (n,1), so MSE compares every pair',
    'backward_missing_in_closure': 'the closure returns the loss without calling backward, so there are no gradients',
}


def build():
    model = nn.Sequential(nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1))
    return (model,)


def target_fn(x):
    return torch.sin(2.5 * x) + 0.4 * x


def train(models, fault=''):
    import warnings
    warnings.filterwarnings('ignore', message='Using a target size')
    torch.manual_seed(3)
    model, = models
    x = torch.rand(200, 1) * 4 - 2
    y = target_fn(x) + 0.05 * torch.randn_like(x)
    x_test = torch.linspace(-1.9, 1.9, 100).unsqueeze(1)
    y_test = target_fn(x_test)
    if fault == 'target_shape_broadcasts':
        y = y.squeeze(1)

    criterion = nn.MSELoss()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=10, history_size=10,
                                  line_search_fn='strong_wolfe')

    def closure():
        if fault != 'zero_grad_forgotten':
            optimizer.zero_grad()
        loss = criterion(model(x), y)
        if fault != 'backward_missing_in_closure':
            loss.backward()
        return loss

    for i in range(15):
        loss = optimizer.step(closure)
        print('step', i, 'loss', loss.item())

    with torch.no_grad():
        return criterion(model(x_test), y_test).item()
