"""The momentum equation of a network: scipy through inercia against the bare gradients that it asks for, and peers."""

from functools import partial

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp
from torchdiffeq import odeint

import inercia as ia
from timing import Goal, Section, interleaved, ratio, table

RATE, DECAY, RTOL, ATOL = 0.1, 0.9, 1e-6, 1e-9


def run(fast: bool) -> Section:
    """Time the three sizes."""
    text, goals = f"m' = (1-b)(g - m), theta' = -a m to t = 30, DOP853, rtol {RTOL:g}, float64.\n\n", []
    for hidden in (10, 80) if fast else (10, 80, 278):
        network = ia.mlp([64, hidden, hidden, 10])
        train, _ = ia.digits()
        x, y = jnp.asarray(train.x[:1024]), jnp.asarray(train.y[:1024])
        risk = ia.risk(network, "cross-entropy")
        params = network.init(jax.random.key(0))
        flat, rebuild = ravel_pytree(params)

        def loss(p, risk=risk, x=x, y=y):
            return risk(p, (x, y))

        method, times = ia.momentum(RATE, DECAY), np.array([0.0, 30.0])

        def ours(method=method, loss=loss, params=params, times=times):
            return ia.integrate(method, loss, params, times, rtol=RTOL, atol=ATOL)

        nfev = ours().solve.nfev
        calls = {
            "inercia (scipy DOP853)": ours,
            "scipy by hand": partial(_by_hand, loss, params),
            "its gradients alone": _gradients(loss, flat, rebuild, nfev),
            "diffrax, our flow": _diffrax(loss, params, method),
            "diffrax by hand": _diffrax(loss, params, None),
            "torchdiffeq dopri8": _torchdiffeq(params, x, y),
        }
        seconds, results = interleaved(calls, 3 if fast else 7)
        end = ravel_pytree(jax.tree.map(lambda leaf: leaf[-1], results["inercia (scipy DOP853)"].params))[0]
        rows = []
        for name, t in seconds.items():
            away = ""
            if name not in {"its gradients alone", "inercia (scipy DOP853)"}:
                away = f"{np.abs(np.asarray(results[name]) - np.asarray(end)).max():.1e}"
            shown = ratio(seconds, name, "its gradients alone")[1]
            rows.append([name, f"{np.median(t) * 1e3:.1f}", shown, away])
        head = ["", "ms", "in units of the gradients alone (range)", "largest difference at the end"]
        text += f"### P = {flat.size:,}, {nfev} gradients\n\n" + table(head, rows) + "\n"
        value, shown = ratio(seconds, "inercia (scipy DOP853)", "its gradients alone")
        most = 1.15 if flat.size < 10**4 else 1.08
        goals.append(Goal(f"momentum ODE, P = {flat.size:,}: nfev × gradient", f"≤ {most}×", shown, value <= most))
        value, shown = ratio(seconds, "diffrax, our flow", "diffrax by hand")
        goals.append(Goal(f"diffrax with our flow, P = {flat.size:,}", "≤ 1.0× by hand", shown, value <= 1.0))
    return Section("The momentum equation", text, goals)


def _by_hand(loss, params):
    """Solve as a notebook would: a compiled gradient, and NumPy around it."""
    with jax.enable_x64(True):
        flat, rebuild = ravel_pytree(jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), params))
        gradient = _compiled(loss, rebuild)
        n = flat.size

        def rate(t, z):
            return np.concatenate([-RATE * z[n:], (1 - DECAY) * (np.asarray(gradient(z[:n])) - z[n:])])

        start = np.concatenate([np.asarray(flat), np.zeros(n)])
        return solve_ivp(rate, (0, 30), start, method="DOP853", rtol=RTOL, atol=ATOL).y[:n, -1]


_kept: dict = {}


def _compiled(loss, rebuild):
    if loss not in _kept:
        _kept[loss] = jax.jit(jax.grad(lambda z: loss(rebuild(z))))
    return _kept[loss]


def _gradients(loss, flat, rebuild, nfev: int):
    """Compute `nfev` gradients one after the other inside one program: what no solver can go below."""
    with jax.enable_x64(True):
        start = jnp.asarray(flat, jnp.float64)
        _, rebuild = ravel_pytree(jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), rebuild(flat)))
        many = jax.jit(
            lambda z: jax.lax.fori_loop(0, nfev, lambda _, z: z - 1e-9 * jax.grad(lambda z: loss(rebuild(z)))(z), z)
        )
        compiled = many.lower(start).compile()
    return lambda: compiled(start)


def _diffrax(loss, params, method):
    """Solve on the device; with `method` its flow is the vector field, without it is written out."""
    with jax.enable_x64(True):
        theta = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), params)
        zeros = jax.tree.map(jnp.zeros_like, theta)

        if method is None:
            start = (theta, zeros)

            def field(t, z, _):
                theta, m = z
                g = jax.grad(loss)(theta)
                m_dot = jax.tree.map(lambda g, m: (1 - DECAY) * (g - m), g, m)
                return jax.tree.map(lambda m: -RATE * m, m), m_dot
        else:
            start = (theta, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), method.init(theta)))

            def field(t, z, _):
                return method.flow(jax.grad(loss)(z[0]), z[1], z[0])

        @jax.jit
        def solve(start):
            solution = diffrax.diffeqsolve(
                diffrax.ODETerm(field), diffrax.Dopri8(), 0.0, 30.0, None, start,
                stepsize_controller=diffrax.PIDController(RTOL, ATOL), max_steps=10_000,
            )  # fmt: skip
            return ravel_pytree(jax.tree.map(lambda leaf: leaf[-1], solution.ys[0]))[0]

        compiled = solve.lower(start).compile()
    return lambda: compiled(start)


def _torchdiffeq(params, x, y):
    """Solve in PyTorch."""
    shapes = [np.shape(part) for layer in params for part in layer]
    flat = torch.from_numpy(np.concatenate([np.ravel(part) for layer in params for part in layer]).astype(np.float64))
    tx, ty = torch.from_numpy(np.array(x, np.float64)), torch.from_numpy(np.array(y, np.int64))
    n = flat.numel()

    def field(t, z):
        theta = z[:n].detach().requires_grad_(True)
        parts = [p.view(s) for p, s in zip(torch.split(theta, [int(np.prod(s)) for s in shapes]), shapes, strict=True)]
        a = tx
        with torch.enable_grad():
            for k in range(0, len(parts), 2):
                a = a @ parts[k] + parts[k + 1]
                a = torch.tanh(a) if k + 2 < len(parts) else a
            (g,) = torch.autograd.grad(torch.nn.functional.cross_entropy(a, ty), theta)
        return torch.cat([-RATE * z[n:], (1 - DECAY) * (g - z[n:])])

    def call():
        start = torch.cat([flat, torch.zeros(n, dtype=torch.float64)])
        return odeint(field, start, torch.tensor([0.0, 30.0]), rtol=RTOL, atol=ATOL, method="dopri8")[-1, :n].numpy()

    return call
