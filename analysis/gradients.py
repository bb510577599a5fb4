"""Gradients by differences against gradients by differentiation.

    error      forward, central and complex-step differences of a network's risk against h: the V-curve, whose lowest
               points lie near eps^(1/2) and eps^(1/3); the complex step has no rounding branch
    cost       a gradient of P = 10..10^5 parameters in forward passes: P + 1 and 2P by differences, a constant by
               reverse mode, hand-written or automatic
    dimension  at the best h the relative error of a gradient by differences grows with the number d of parameters of a
               sum, because f, and with it the rounding of f, grows; that by reverse mode stays
    graph      the derivation graph of a small network, read from its jaxpr

Run alone: `python analysis/gradients.py --help`.
"""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.flatten_util import ravel_pytree

import inercia as ia
from inercia import plot
from inercia.plot import save
from inercia.plot.equations import equations


def error(out: Path, seed: int) -> None:
    """Draw the error of a directional derivative against h."""
    with jax.enable_x64(True):
        network = ia.mlp([64, 16, 10])
        data, _ = ia.digits()
        batch = (jnp.asarray(data.x[:256], float), jax.nn.one_hot(data.y[:256], 10, dtype=float))
        of_params, of_direction = jax.random.split(jax.random.key(seed))
        theta, rebuild = ravel_pytree(network.init(of_params))
        u = jax.random.normal(of_direction, theta.shape)
        u /= jnp.linalg.norm(u)

        def f(z):
            return ia.risk(network, lambda p, y: ((p - y) ** 2).sum(axis=-1) / 2)(rebuild_like(rebuild, z), batch)

        exact = float(jax.jit(jax.jvp, static_argnums=0)(f, (theta,), (u,))[1])
        hs = 10.0 ** np.arange(-20, 0.01, 0.5)
        values = {
            "forward": lambda h: (f(theta + h * u) - f(theta)) / h,
            "central": lambda h: (f(theta + h * u) - f(theta - h * u)) / (2 * h),
            "complex step": lambda h: f(theta + 1j * h * u).imag / h,
        }
        errors = {
            name: abs(np.asarray(jax.jit(lambda hs, d=difference: jax.lax.map(d, hs))(hs)) - exact) / abs(exact)
            for name, difference in values.items()
        }
    orders = {"forward": 1, "central": 2, "complex step": 2}
    lowest = {name: (hs[e.argmin()], e.min()) for name, e in errors.items()}
    for name, e in errors.items():
        window = (hs >= (1e-5 if name == "forward" else 1e-3)) & (hs <= (1e-3 if name == "forward" else 1e-1))
        slope = np.polyfit(np.log(hs[window]), np.log(e[window]), 1)[0]
        print(f"{name}: truncation slope {slope:.2f}, lowest error {lowest[name][1]:.0e} at h = {lowest[name][0]:.0e}")
        assert abs(slope - orders[name]) < 0.1
    eps = np.finfo(float).eps
    assert abs(np.log10(lowest["forward"][0] / eps ** (1 / 2))) < 1.5
    assert abs(np.log10(lowest["central"][0] / eps ** (1 / 3))) < 1.5
    assert errors["complex step"][hs < 1e-8].max() < 1e-13

    def draw(ax):
        for e, colour in zip(errors.values(), plot.COLOURS, strict=False):
            ax.loglog(hs, np.maximum(e, 1e-17), "o-", ms=2.5, lw=1, color=colour)
        ax.text(1e-6, 2e-3, "forward", color=plot.COLOURS[0], ha="right")
        ax.text(2e-10, 1e-7, "central", color=plot.COLOURS[1], ha="right")
        ax.text(1e-19, 3e-13, "complex step", color=plot.COLOURS[2])
        ax.set(xlabel="$h$", ylabel="relative error", ylim=(1e-17, 10))

    print(save(draw, out / "gradients_error.png"))


def rebuild_like(rebuild, z):
    """Unravel real or complex z into the network's layers."""
    if not jnp.iscomplexobj(z):
        return rebuild(z)
    return jax.tree.map(lambda re, im: re + 1j * im, rebuild(z.real), rebuild(z.imag))


NAMES = ("forward differences", "central differences", "jax.grad", "backprop by hand")


def cost(out: Path, seed: int, fast: bool) -> None:
    """Time a full gradient, in forward passes, against the number of parameters, and check it."""
    widths = [[8, 1, 1], [64, 8, 10], [64, 64, 10], [64, 256, 10], [64, 1400, 10]][: 3 if fast else None]
    counts, ratios = [], {name: [] for name in NAMES}
    for layers in widths:
        P, one, taken, errors = gradient_of(ia.mlp(layers), layers[0], seed, 3 if fast else 20)
        counts.append(P)
        for name, t in taken.items():
            ratios[name].append(t / one)
        print(f"P = {P}: forward pass {1e6 * one:.0f} us; a gradient, in forward passes: "
              + ", ".join(f"{name} {values[-1]:.1f}" for name, values in ratios.items()) + "; errors: "
              + ", ".join(f"{name} {e:.0e}" for name, e in errors.items()))  # fmt: skip
        assert errors["forward differences"] < 1e-4
        assert errors["central differences"] < 1e-7
        assert errors["backprop by hand"] < 1e-12
    for name in () if fast else NAMES[2:]:  # the few rounds of a fast run are at the mercy of what else runs
        assert max(ratios[name]) < 12  # a constant, whatever P

    def draw(ax):
        for (name, values), colour in zip(ratios.items(), plot.COLOURS, strict=False):
            ax.loglog(counts, values, "o-", ms=3.5, color=colour, label=name)
        ax.set(xlabel="parameters $P$", ylabel="cost of a gradient\n(forward passes)")
        ax.legend(loc="upper left")

    print(save(draw, out / "gradients_cost.png"))


def gradient_of(network: ia.Network, inputs: int, seed: int, many: int) -> tuple[int, float, dict, dict]:
    """Return P, the seconds of a forward pass and of each gradient, and the errors of three of them."""
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(seed + 1), (256, inputs))
        params = network.init(jax.random.key(seed))
        y = jnp.sin(network.apply(params, x) + 1)
        theta, rebuild = ravel_pytree(params)
        # All coordinates cost the same, so at most 64 of them are differenced, in one compiled loop.
        some = jnp.asarray(np.random.default_rng(seed).permutation(theta.size)[:64])

        def f(z):
            return ia.risk(network)(rebuild(z), (x, y))

        def by_hand(z):
            return ravel_pytree(ia.backprop(rebuild(z), x, lambda p: (p - y) / len(x)))[0]

        def forward(z, h=1e-8):
            base = f(z)
            return jax.lax.map(lambda i: (f(z.at[i].add(h)) - base) / h, some)

        def central(z, h=6e-6):
            return jax.lax.map(lambda i: (f(z.at[i].add(h)) - f(z.at[i].add(-h))) / (2 * h), some)

        exact = jax.jit(jax.grad(f))(theta)
        found = [jax.jit(forward)(theta) - exact[some], jax.jit(central)(theta) - exact[some], by_hand(theta) - exact]
        errors = [float(abs(e).max() / abs(exact).max()) for e in found]
        taken = [
            seconds(forward, theta, many) * (theta.size + 1) / (len(some) + 1),
            seconds(central, theta, many) * theta.size / len(some),
            seconds(jax.grad(f), theta, many),
            seconds(by_hand, theta, many),
        ]
        one = seconds(f, theta, many)
    named = dict(zip((*NAMES[:2], NAMES[3]), errors, strict=True))
    return theta.size, one, dict(zip(NAMES, taken, strict=True)), named


def seconds(f, z, many: int) -> float:
    """Return the median time of one call of f, many of them in one compiled loop."""

    @jax.jit
    def loop(z):
        # Each call depends on the one before, so that none is left out.
        def again(z, _):
            value = f(z)
            return z + 1e-30 * jnp.sum(value), None

        return jax.lax.scan(again, z, length=many)[0]

    jax.block_until_ready(loop(z))
    times = []
    for _ in range(5):
        began = time.perf_counter()
        jax.block_until_ready(loop(z))
        times.append((time.perf_counter() - began) / many)
    return float(np.median(times))


def dimension(out: Path, seed: int, fast: bool) -> None:
    """Draw the relative error of whole gradients of Rosenbrock's sum against its dimension."""
    sizes = 2 ** np.arange(3, 9 if fast else 13)
    steps = {"forward": 2e-8, "central": 1e-5}  # about eps^(1/2) and eps^(1/3)

    def f(x):
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    def exact(x):
        inner = np.zeros_like(x)
        inner[:-1] = -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
        inner[1:] += 200 * (x[1:] - x[:-1] ** 2)
        return inner

    def differences(x, name):
        h, places = steps[name], jnp.arange(x.size)
        ahead = jax.lax.map(lambda i: f(x.at[i].add(h)), places)
        if name == "forward":
            return (ahead - f(x)) / h
        return (ahead - jax.lax.map(lambda i: f(x.at[i].add(-h)), places)) / (2 * h)

    errors = {name: [] for name in (*steps, "jax.grad")}
    with jax.enable_x64(True):
        for d in sizes:
            x = np.random.default_rng(seed).uniform(-1.5, 1.5, int(d))
            g = exact(x)
            found = {name: jax.jit(differences, static_argnums=1)(x, name) for name in steps}
            found["jax.grad"] = jax.jit(jax.grad(f))(x)
            for name, value in found.items():
                errors[name].append(max(np.linalg.norm(value - g) / np.linalg.norm(g), 2.0**-54))
    slopes = {name: np.polyfit(np.log(sizes[-4:]), np.log(e[-4:]), 1)[0] for name, e in errors.items()}
    print(f"relative error of a gradient, d = {sizes[0]} and {sizes[-1]}: "
          + ", ".join(f"{n} {e[0]:.0e} and {e[-1]:.0e} (at the end d^{slopes[n]:.2f})" for n, e in errors.items())
          + f"; evaluations of f: {sizes[-1] + 1}, {2 * sizes[-1]}, about 3")  # fmt: skip
    assert errors["jax.grad"][-1] < 1e-14
    assert fast or min(slopes[name] for name in steps) > 0.4

    def draw(ax):
        for (name, values), colour in zip(errors.items(), plot.COLOURS, strict=False):
            ax.loglog(sizes, values, "o-", ms=3, lw=1, color=colour)
            ax.annotate(name, (sizes[0], values[0]), xytext=(0, 7), textcoords="offset points", color=colour)
        ax.set(xlabel="parameters $d$", ylabel="relative error of the gradient", ylim=(1e-17, 1e-4))

    print(save(draw, out / "gradients_dimension.png"))


def graph(out: Path) -> None:
    """Draw the operations of a loss and of its gradient, by JAX: a neuron of one weight each way."""

    def loss(w, x, y):
        return 0.5 * (w["w2"] * jnp.tanh(w["w1"] * x) - y) ** 2

    weights, names = {"w1": 0.3, "w2": 0.7}, {"w1": "$w_1$", "w2": "$w_2$", "x": "$x$", "y": "$y$"}
    found = equations(loss, (weights, 1.1, 0.2), True, names)
    counted = found.kinds.count("forward"), found.kinds.count("reverse")
    print(f"graph: {counted[0]} equations forward, {counted[1]} in reverse, read from the jaxpr")
    assert min(counted) > 2

    def draw(ax):
        plot.graph(ax, loss, weights, 1.1, 0.2, names=names)
        ax.set_title("$(w_2\\,\\tanh(w_1 x) - y)^2/2$ and its gradient")

    print(save(draw, out / "gradients_graph.png", (5.5, 2.6)))


def main(out: Path = Path("figures"), seed: int = 0, fast: bool = False) -> None:
    """Compare differences with differentiation.

    Args:
        out: Folder for the figures.
        seed: Of the networks, the direction and the coordinates.
        fast: Smaller networks.
    """
    out.mkdir(parents=True, exist_ok=True)
    error(out, seed)
    cost(out, seed, fast)
    dimension(out, seed, fast)
    graph(out)


if __name__ == "__main__":
    tyro.cli(main)
