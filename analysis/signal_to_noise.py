"""Adam's direction as a signal-to-noise ratio: the distribution of mh / sqrt(vh).

For independent gradients of mean mu and deviation s, with r = mu / s, late in a run:

    mean  r / sqrt(1 + r^2),     variance  (1-b1)/(1+b1) / (1 + r^2)

Under pure noise (r = 0) the variance is (1-b1)/(1+b1), 0.053 at b1 = 0.9, and not the 1 that "divided by its standard
deviation" suggests: m averages over some (1+b1)/(1-b1) gradients, sqrt(v) is the size of a single one. Pure noise thus
moves a parameter by less than a quarter of a learning rate, a clear signal by a full one. Both formulas take v at its
mean, which b2 near 1 makes true.

Run alone: `python analysis/signal_to_noise.py --help`.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import inercia as ia
from inercia import plot
from inercia.plot import save


def directions(ratio: float, b1: float, seed: int, n: int, steps: int) -> np.ndarray:
    """Return mh / sqrt(vh) of n independent parameters after `steps` gradients N(ratio, 1)."""
    method = ia.adam(1.0, b1, 0.999, eps=0.0)

    def step(state, key):
        return method.update(ratio + jax.random.normal(key, (n,)), state)[1], None

    def last(key):
        before, final = jax.random.split(key)
        state, _ = jax.lax.scan(step, method.init(jnp.zeros(n)), jax.random.split(before, steps))
        return method.update(ratio + jax.random.normal(final, (n,)), state)[0]

    return -np.asarray(jax.jit(last)(jax.random.key(seed)), np.float64)


def main(out: Path = Path("figures"), seed: int = 0, fast: bool = False) -> None:
    """Draw the distribution of Adam's direction.

    Args:
        out: Folder for the figures.
        seed: Of the gradients.
        fast: Fewer samples.
    """
    out.mkdir(parents=True, exist_ok=True)
    n, steps = (20_000, 2000) if fast else (50_000, 2500)
    ratios = np.array([0.0, 0.3, 1.0, 3.0] if fast else [0.0, 0.1, 0.3, 1.0, 3.0, 10.0])
    samples = [directions(r, 0.9, seed, n, steps) for r in ratios]
    for r, d in zip(ratios, samples, strict=True):
        mean, variance = r / np.sqrt(1 + r**2), (0.1 / 1.9) / (1 + r**2)
        print(f"mean/deviation of g {r:>4}: mean {d.mean():+.4f} (formula {mean:+.4f}), "
              f"variance {d.var():.5f} (formula {variance:.5f})")  # fmt: skip
        assert abs(d.mean() - mean) < 0.003
        # A strong signal shares its noise with v: there the formula is an upper bound, checked for r <= 1.
        assert r > 1 or abs(d.var() / variance - 1) < 0.06
    decays = [0.0, 0.5, 0.9] if fast else [0.0, 0.5, 0.8, 0.9, 0.95, 0.98]
    noise = np.array([directions(0.0, b, seed, n, steps).var() for b in decays])
    expected = np.array([(1 - b) / (1 + b) for b in decays])
    print("pure noise, variance / ((1-b1)/(1+b1)): " + ", ".join(f"{r:.3f}" for r in noise / expected))
    assert abs(noise / expected - 1).max() < 0.03

    def histogram(ax):
        x = np.linspace(-1.2, 1.6, 300)
        for r, colour in zip((0.0, 1.0, 3.0), plot.COLOURS, strict=False):
            d = samples[list(ratios).index(r)]
            ax.hist(d, 80, density=True, color=colour, alpha=0.4)
            mean, variance = r / np.sqrt(1 + r**2), (0.1 / 1.9) / (1 + r**2)
            ax.plot(x, np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance), color=colour, lw=1)
            name, left = {0: ("noise alone", 0), 1: (r"$\mu/s$ = 1", -12), 3: (r"$\mu/s$ = 3", 0)}[int(r)]
            ax.annotate(name, (d.mean(), 0.4 / np.sqrt(variance)), (left, 6), textcoords="offset points",
                        color=colour, ha="center")  # fmt: skip
        ax.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color="0.6", ls=":")
        ax.text(-1.2, 0.5, "unit variance", color="0.4", fontsize=8)
        ax.set(xlabel=r"$\hat m/\sqrt{\hat v}$: step / learning rate", ylabel="density")
        ax.margins(y=0.12)

    def variance(ax):
        b = np.linspace(0, 0.99, 200)
        ax.semilogy(b, (1 - b) / (1 + b), color="0.7")
        ax.semilogy(decays, noise, "o", ms=4, color=plot.COLOURS[0])
        ax.axhline(1, color="0.6", ls=":")
        ax.text(0.35, 1.05, "unit variance", color="0.4", fontsize=8, va="bottom")
        ax.text(0.05, 0.2, r"$(1-b_1)/(1+b_1)$", color="0.4")
        ax.text(0.05, 0.13, "measured", color=plot.COLOURS[0])
        ax.set(xlabel="$b_1$", ylabel="variance under pure noise", ylim=(5e-3, 2))

    print(save(histogram, out / "signal_to_noise.png"))
    print(save(variance, out / "signal_to_noise_variance.png"))


if __name__ == "__main__":
    tyro.cli(main)
