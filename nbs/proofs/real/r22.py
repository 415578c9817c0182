"""Physics-informed network for the viscous Burgers equation u_t + u u_x = nu u_xx on [-1, 1] x [0, 1], Adam and then L-BFGS."""
import numpy as np
import torch
import torch.nn as nn
from torch.autograd import grad

torch.set_num_threads(1)

STYLE = 'PINN tutorial: class with net_u / net_f, autograd derivatives with create_graph, Xavier tanh MLP, weighted sum of losses, Adam phase followed by an L-BFGS closure'
FAULTS = {
    'uxx_without_graph': 'The second derivative is taken without create_graph, so it enters the residual as a constant and the diffusion term gives no gradient.',
    'initial_target_broadcast': 'The initial values have shape (N,) and the prediction (N, 1), so the squared error is taken over an N x N table and the net learns the mean initial value everywhere.',
    'diffusion_sign': 'The residual has + nu u_xx instead of - nu u_xx, so the net is asked for the ill-posed backward equation, which sharpens instead of smoothing.',
    'swapped_inputs': 'The net is called as net(t, x) for the boundary and initial points but as net(x, t) for the residual, so the conditions are imposed on the wrong edges.',
}

NU = 0.05
X0, X1, T1 = -1.0, 1.0, 1.0


def reference(nx=257, nt=8000, keep=50):
    """Finite differences on a fine grid, the held-out solution."""
    x = np.linspace(X0, X1, nx)
    dx, dt = x[1] - x[0], T1 / nt
    u = -np.sin(np.pi * x)
    out, times = [u.copy()], [0.0]
    for k in range(1, nt + 1):
        flux = 0.5 * u ** 2
        du = -(flux[2:] - flux[:-2]) / (2 * dx) + NU * (u[2:] - 2 * u[1:-1] + u[:-2]) / dx ** 2
        u[1:-1] += dt * du
        if k % (nt // keep) == 0:
            out.append(u.copy())
            times.append(k * dt)
    return x[::4], np.array(times), np.array(out)[:, ::4]


class MLP(nn.Module):
    def __init__(self, layers=(2, 32, 32, 32, 1)):
        super().__init__()
        mods = []
        for i in range(len(layers) - 1):
            lin = nn.Linear(layers[i], layers[i + 1])
            nn.init.xavier_normal_(lin.weight)
            nn.init.zeros_(lin.bias)
            mods += [lin, nn.Tanh()]
        self.net = nn.Sequential(*mods[:-1])

    def forward(self, x, t):
        return self.net(torch.cat([x, 2 * t / T1 - 1], dim=1))


class PINN:
    def __init__(self, net, fault, n_f=2000, n_b=80, n_i=120):
        self.net, self.fault = net, fault
        # collocation points inside the domain
        self.x_f = (X0 + (X1 - X0) * torch.rand(n_f, 1)).requires_grad_(True)
        self.t_f = (T1 * torch.rand(n_f, 1)).requires_grad_(True)
        # boundary: u(-1, t) = u(1, t) = 0
        self.t_b = T1 * torch.rand(n_b, 1)
        self.x_b = torch.where(torch.rand(n_b, 1) < 0.5, X0, X1)
        self.u_b = torch.zeros(n_b, 1)
        # initial: u(x, 0) = -sin(pi x)
        self.x_i = torch.linspace(X0, X1, n_i)[:, None]
        self.t_i = torch.zeros(n_i, 1)
        self.u_i = -torch.sin(np.pi * self.x_i)
        if fault == 'initial_target_broadcast':
            self.u_i = self.u_i.squeeze(1)

    def net_u(self, x, t):
        if self.fault == 'swapped_inputs':
            return self.net(t, x)
        return self.net(x, t)

    def net_f(self, x, t):
        u = self.net(x, t)
        ones = torch.ones_like(u)
        u_t = grad(u, t, ones, create_graph=True)[0]
        u_x = grad(u, x, ones, create_graph=True)[0]
        if self.fault == 'uxx_without_graph':
            u_xx = grad(u_x, x, ones, retain_graph=True)[0]
        else:
            u_xx = grad(u_x, x, ones, create_graph=True)[0]
        if self.fault == 'diffusion_sign':
            return u_t + u * u_x + NU * u_xx
        return u_t + u * u_x - NU * u_xx

    def loss(self):
        loss_f = self.net_f(self.x_f, self.t_f).pow(2).mean()
        loss_b = (self.net_u(self.x_b, self.t_b) - self.u_b).pow(2).mean()
        loss_i = (self.net_u(self.x_i, self.t_i) - self.u_i).pow(2).mean()
        return loss_f + 5 * loss_b + 10 * loss_i

    def fit(self, adam_steps=2000, lbfgs_steps=250):
        opt = torch.optim.Adam(self.net.parameters(), lr=3e-3)
        sched = torch.optim.lr_scheduler.StepLR(opt, step_size=600, gamma=0.5)
        for _ in range(adam_steps):
            opt.zero_grad()
            loss = self.loss()
            loss.backward()
            opt.step()
            sched.step()

        lbfgs = torch.optim.LBFGS(self.net.parameters(), lr=1.0, max_iter=lbfgs_steps, max_eval=lbfgs_steps * 5 // 4,
                                  history_size=50, tolerance_grad=1e-7, tolerance_change=1e-10, line_search_fn='strong_wolfe')

        def closure():
            lbfgs.zero_grad()
            loss = self.loss()
            loss.backward()
            return loss

        lbfgs.step(closure)
        return self

    @torch.no_grad()
    def relative_l2(self):
        x, t, u = reference()
        tt, xx = np.meshgrid(t, x, indexing='ij')
        pred = self.net(torch.tensor(xx.reshape(-1, 1), dtype=torch.float), torch.tensor(tt.reshape(-1, 1), dtype=torch.float))
        err = pred.numpy().reshape(u.shape) - u
        return float(np.sqrt((err ** 2).sum() / (u ** 2).sum()))


def build():
    torch.manual_seed(1234)
    return (MLP(),)


def train(models, fault=''):
    torch.manual_seed(22)
    return PINN(models[0], fault).fit().relative_l2()


if __name__ == '__main__':
    print(train(build()))
