"""The empirical risk estimates the expected one, and wide networks approximate: the two errors, measured.

    sample     |R_N(theta) - R(theta)| of a fixed network falls as N^(-1/2), with the pointwise loss' deviation in front
    labels     a network that learns the digits learns them with shuffled labels, too: a small empirical risk alone says
               nothing of rows that were not seen (Zhang et al. 2017)
    width      the best fit of a smooth function by a network of n hidden units improves with every doubling of n

Run alone: `python analysis/risk.py --help`.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.flatten_util import ravel_pytree
from scipy.optimize import least_squares

import inercia as ia
from inercia import plot
from inercia.plot import save


def sample(out: Path, seed: int, fast: bool) -> None:
    """Measure the error of the empirical risk against the number of rows."""
    network = ia.mlp([8, 16, 1])
    of_teacher, of_student = jax.random.split(jax.random.key(seed))
    draws, most = (100, 2**12) if fast else (400, 2**14)
    data, _ = ia.teacher(network, draws * most, of_teacher, noise=0.1)
    student = network.init(of_student)
    with jax.enable_x64(True):
        each = jax.jit(jax.vmap(lambda x, y: ia.risk(network)(student, (x[None], y[None]))))
        losses = np.asarray(each(data.x, data.y), np.float64).reshape(draws, most)
    expected, deviation = losses.mean(), losses.std()
    rows = 2 ** np.arange(2, int(np.log2(most)) - 1)  # far fewer rows than the expectation is taken over
    errors = np.array([np.sqrt(np.mean((losses[:, :n].mean(axis=1) - expected) ** 2)) for n in rows])
    slope = np.polyfit(np.log(rows), np.log(errors), 1)[0]
    constant = errors * np.sqrt(rows) / deviation
    print(f"empirical risk: error ~ N^{slope:.3f}, {constant.min():.2f}..{constant.max():.2f} of deviation / sqrt(N)")
    assert abs(slope + 0.5) < 0.03
    assert np.all(abs(constant - 1) < 5 / np.sqrt(2 * draws))

    def draw(ax):
        ax.loglog(rows, deviation / np.sqrt(rows), color="0.7")
        ax.loglog(rows, errors, "o", ms=4, color=plot.COLOURS[0])
        ax.text(rows[4], 1.5 * errors[4], rf"measured: $N^{{{slope:.2f}}}$", color=plot.COLOURS[0])
        ax.text(rows[5], 0.6 * errors[5], r"std of the loss $/\sqrt{N}$", color="0.4", ha="right", va="top")
        ax.set(xlabel="rows $N$", ylabel="rms error of the empirical risk")

    print(save(draw, out / "risk_sample.png"))


def labels(out: Path, seed: int, fast: bool) -> None:
    """Fit the digits with their labels and with shuffled ones, and compare accuracy on rows seen and not seen."""
    data, unseen = ia.digits()
    data = jax.tree.map(lambda leaf: leaf[: 300 if fast else None], data)
    network = ia.mlp([64, 128, 10])
    loss, params = ia.risk(network, "cross-entropy"), network.init(jax.random.key(seed))
    y = jnp.stack([jnp.asarray(data.y), jnp.asarray(np.random.default_rng(seed).permutation(data.y))])

    def fit(y):
        return ia.train(ia.adam(3e-3), loss, params, (data.x, y), epochs=300, batch_size=100, key=seed).params

    fits, found, right = jax.vmap(fit)(y), {}, ia.accuracy(network)
    for k, name in enumerate(("true labels", "shuffled labels")):
        one = jax.tree.map(lambda leaf, k=k: leaf[k], fits)
        found[name] = [float(right(one, rows)) for rows in ((data.x, y[k]), unseen)]
        print(f"{name}: accuracy {found[name][0]:.1%} on the rows seen, {found[name][1]:.1%} on others")
    assert min(seen for seen, _ in found.values()) > 0.99
    assert found["true labels"][1] > 0.85
    assert found["shuffled labels"][1] < 0.2

    def draw(ax):
        for k, (name, values) in enumerate(found.items()):
            ax.bar(np.arange(2) + 0.36 * (k - 0.5), values, 0.34, color=plot.COLOURS[k], label=name)
        ax.set_xticks(range(2), ["rows seen", "other rows"])
        ax.set(ylabel="accuracy", ylim=(0, 1.05))
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, columnspacing=0.8, handlelength=1)

    print(save(draw, out / "risk_labels.png"))


def width(out: Path, seed: int, fast: bool) -> None:
    """Measure the best fit of one function against the width, optimisation made as exact as possible."""
    x = np.linspace(-1, 1, 201)[:, None]
    y = np.sin(2 * np.pi * x) + 0.5 * np.cos(5 * np.pi * x)
    widths = [1, 2, 4, 8] if fast else [1, 2, 4, 8, 16]
    starts = 6 if fast else 12
    errors = []
    with jax.enable_x64(True):
        for n in widths:
            network = ia.mlp([1, n, 1])
            keys = jax.random.split(jax.random.key(seed), starts)
            theta, rebuild = ravel_pytree(network.init(keys[0]))
            residual = jax.jit(lambda z, f=network, r=rebuild: (f.apply(r(z), x) - y)[:, 0])
            jacobian = jax.jit(jax.jacfwd(residual))
            best = np.inf
            for key in keys:
                spread = 2.0 + n * jax.random.uniform(key)  # corners at all the scales that the function has
                start = spread * jax.random.normal(key, theta.shape)
                fit = least_squares(residual, start, jacobian, method="trf", max_nfev=300)
                best = min(best, float(jnp.sqrt(np.mean(fit.fun**2))))
            errors.append(best)
            print(f"width {n}: best of {starts} fits has rms error {best:.1e}")
    errors = np.array(errors)
    assert np.all(errors[1:] < errors[:-1])
    assert errors[-1] < 0.05

    def draw(ax):
        ax.loglog(widths, errors, "o-", ms=4)
        ax.set(xlabel="hidden units", ylabel="rms error of the best fit")
        ax.set_xticks(widths, [str(n) for n in widths])
        ax.minorticks_off()

    print(save(draw, out / "risk_width.png"))


def main(out: Path = Path("figures"), seed: int = 0, fast: bool = False) -> None:
    """Draw the error of the empirical risk against its rows, what it leaves open, and what a network's width does.

    Args:
        out: Folder for the figures.
        seed: Of the data and of the networks.
        fast: Fewer rows, draws and widths.
    """
    out.mkdir(parents=True, exist_ok=True)
    sample(out, seed, fast)
    labels(out, seed, fast)
    width(out, seed, fast)


if __name__ == "__main__":
    tyro.cli(main)
