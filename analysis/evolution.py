"""Gradients against evolutionary search: what a dimension costs, and what only a global search finds.

    cost       evaluations until f falls to a thousandth of its start, f a quadratic of condition number 10 in d = 2..64
               dimensions: gradient descent and momentum do not see d; differential evolution and annealing do.
               The lecture says exponentially: that is the cost of a blind, uniform search, known exactly here. Searches
               that adapt pay a power of d, near 2 and near 1
    success    on the multimodal Rastrigin function: the share of seeds that end in the global minimum, for descent
               from one start, for descent restarted until it has spent what evolution spent, and for the searches

One evaluation is one value of f; a gradient counts as four (a forward pass and a reverse pass of about three).

Run alone: `python analysis/evolution.py --help`.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from scipy.optimize import Bounds, differential_evolution, dual_annealing
from scipy.special import gammaln
from scipy.stats import binomtest

import inercia as ia
from inercia import plot
from inercia.plot import save

GRADIENT = 4  # evaluations
BOX = 5.12


class Counted:
    """A function of (d,) or (d, many) that counts its values and remembers when it first fell to the target."""

    def __init__(self, f, target: float) -> None:
        self.f, self.target, self.spent, self.reached = f, target, 0, np.inf

    def __call__(self, x):
        """Return f(x), counting one value per column."""
        value = self.f(x)
        self.spent += np.size(value)
        if np.min(value) <= self.target and self.reached == np.inf:
            self.reached = self.spent
        return value

    def done(self, *_, **__) -> bool:
        """Tell scipy to stop."""
        return self.reached < np.inf


def evolve(f: Counted, d: int, seed: int, generations: int) -> None:
    """Run differential evolution until the target or the last generation."""
    differential_evolution(
        f, Bounds([-BOX] * d, [BOX] * d), maxiter=generations, tol=0, polish=False, rng=seed, vectorized=True,
        updating="deferred", callback=lambda intermediate_result: f.done(),
    )  # fmt: skip


def anneal(f: Counted, d: int, seed: int, iterations: int) -> None:
    """Run dual annealing, its gradient-based local search switched off, until the target or the last iteration."""
    dual_annealing(f, [(-BOX, BOX)] * d, maxiter=iterations, no_local_search=True, rng=seed,
                   callback=lambda *_: f.done())  # fmt: skip


def cost(out: Path, seed: int, fast: bool) -> None:
    """Count evaluations to the target against the dimension."""
    dimensions, repeats = ([2, 4, 8], 2) if fast else ([2, 4, 8, 16, 32, 64], 3)
    spent = {name: [] for name in ("differential evolution", "dual annealing", "gradient descent", "momentum")}
    for d in dimensions:
        curvature = np.geomspace(1, 10, d)

        def f(x, c=curvature):
            return 0.5 * np.tensordot(c, x**2, axes=(0, 0))

        starts = np.random.default_rng(seed).uniform(-BOX, BOX, (repeats, d))
        for name, search, most in (("differential evolution", evolve, 20_000), ("dual annealing", anneal, 20_000)):
            counts = []
            for i, start in enumerate(starts):
                counted = Counted(f, 1e-3 * f(start))
                search(counted, d, seed + i, most)
                counts.append(counted.reached)
            spent[name].append(np.median(counts))
        loss = ia.quadratic(np.diag(curvature))
        for name, method in (("gradient descent", ia.sgd(2 / 11)), ("momentum", ia.sgd(*best(10.0)))):
            counts = []
            for start in starts:
                path = ia.iterate(method, loss, start, 200)
                counts.append(GRADIENT * np.flatnonzero(path.loss <= 1e-3 * path.loss[0])[0])
            spent[name].append(np.median(counts))
        print(f"d = {d}: " + ", ".join(f"{name} {values[-1]:.0f}" for name, values in spent.items()))
    blind = [10.0 ** uniform(d) for d in dimensions]
    print("a blind search: " + ", ".join(f"{b:.0e}" for b in blind))
    exponents = {n: np.polyfit(np.log(dimensions), np.log(values), 1)[0] for n, values in spent.items()}
    print("exponents of d: " + ", ".join(f"{name} {p:.2f}" for name, p in exponents.items()))
    for name in ("differential evolution", "dual annealing"):
        power, exponential = misfits(name, dimensions, spent[name])
        assert fast or power < exponential / 2
    assert exponents["gradient descent"] < 0.1
    assert exponents["momentum"] < 0.1
    assert exponents["differential evolution"] > 1
    assert exponents["dual annealing"] > 0.7

    def draw(ax):
        for (name, values), colour in zip(spent.items(), plot.COLOURS, strict=False):
            ax.loglog(dimensions, values, "o-", ms=4, color=colour, label=f"{name}: $d^{{{exponents[name]:.1f}}}$")
        ax.loglog(dimensions, blind, ":", color="0.4", label="blind search")
        ax.set(xlabel="dimension $d$", ylabel="evaluations to $f_0/1000$", ylim=(10, 1e7))
        ax.set_xticks(dimensions, [str(d) for d in dimensions])
        ax.minorticks_off()
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, columnspacing=0.8, handlelength=1)

    print(save(draw, out / "evolution_cost.png"))


def uniform(d: int) -> float:
    """Return log10 of the evaluations that a uniform search of the box needs on average: box over ellipsoid."""
    curvature = np.geomspace(1, 10, d)
    level = 1e-3 * 0.5 * curvature.sum() * BOX**2 / 3  # a thousandth of the mean start
    ball = d / 2 * np.log(np.pi) - gammaln(d / 2 + 1)
    ellipsoid = ball + d / 2 * np.log(2 * level) - np.log(curvature).sum() / 2
    return (d * np.log(2 * BOX) - ellipsoid) / np.log(10)


def misfits(name: str, dimensions: list[int], counts: list) -> list[float]:
    """Return what the best power of d and the best exponential in d leave of the logarithm of the counts, rms."""
    y = np.log(counts)
    left = [float(np.std(y - np.polyval(np.polyfit(x, y, 1), x))) for x in (np.log(dimensions), np.array(dimensions))]
    print(f"{name}: a power of d misses the counts by a factor of {np.exp(left[0]):.2f}, an exponential in d by "
          f"{np.exp(left[1]):.2f}")  # fmt: skip
    return left


def best(condition: float) -> tuple[float, float]:
    """Return the best learning rate and beta of heavy ball on curvatures 1..condition."""
    found = ia.best_heavy_ball(1.0, condition)
    return found[0], found[1]


def rastrigin(x):
    """Return sum x^2 + 10 (1 - cos 2 pi x) over the first axis; global minimum 0 at 0, about 11^d local ones."""
    cos = jnp.cos if isinstance(x, jax.Array) else np.cos
    return (x**2 + 10 * (1 - cos(2 * np.pi * x))).sum(axis=0)


def success(out: Path, seed: int, fast: bool) -> None:
    """Count how often each search ends in the global minimum."""
    dimensions, seeds, generations = ([2], 20, 200) if fast else ([2, 4, 8], 50, 400)
    names = ("one descent", "descent, restarted", "differential evolution", "dual annealing")
    found = {name: [] for name in names}
    for d in dimensions:
        target = 0.5  # below every local minimum but the global one
        counts = dict.fromkeys(names, 0)
        budget = 0
        for i in range(seeds):
            evolution, annealing = Counted(rastrigin, target), Counted(rastrigin, target)
            evolve(evolution, d, seed + i, generations)
            anneal(annealing, d, seed + i, 1000)
            counts["differential evolution"] += evolution.done()
            counts["dual annealing"] += annealing.done()
            budget = max(budget, evolution.reached if evolution.done() else evolution.spent)
        steps = 20  # a l = 0.8 at the minima: 20 are enough
        restarts = int(budget) // (GRADIENT * steps)
        ends = descend(d, seeds, restarts, steps, seed)
        counts["one descent"] = int((ends[:, 0] <= target).sum())
        counts["descent, restarted"] = int((ends.min(axis=1) <= target).sum())
        for name, n in counts.items():
            interval = binomtest(int(n), seeds).proportion_ci(method="wilson")
            found[name].append((n / seeds, interval.low, interval.high))
        print(f"Rastrigin d = {d}, {seeds} seeds, up to {budget:.0f} evaluations, {restarts} restarts: "
              + ", ".join(f"{name} {values[-1][0]:.0%}" for name, values in found.items()))  # fmt: skip
    found = {name: np.array(values) for name, values in found.items()}
    assert (found["one descent"][:, 2] < found["differential evolution"][:, 1]).all()  # the intervals are apart

    def draw(ax):
        for i, ((name, values), colour) in enumerate(zip(found.items(), plot.COLOURS, strict=False)):
            x = np.arange(len(dimensions)) + 0.2 * (i - 1.5)
            ax.bar(x, values[:, 0], 0.18, color=colour, label=name)
            ax.errorbar(x, values[:, 0], abs(values[:, 1:] - values[:, :1]).T, fmt="none", ecolor="0.3", lw=0.8)
        ax.set_xticks(range(len(dimensions)), [f"$d$ = {d}" for d in dimensions])
        ax.set(ylabel=f"share of {seeds} seeds that find\nthe global minimum", ylim=(0, 1.05))
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, columnspacing=0.8, handlelength=1)

    print(save(draw, out / "evolution_success.png"))


def descend(d: int, seeds: int, restarts: int, steps: int, seed: int) -> np.ndarray:
    """Return Rastrigin's values (seeds, restarts) where gradient descent ends."""
    starts = jax.random.uniform(jax.random.key(seed), (seeds, restarts, d), minval=-BOX, maxval=BOX)
    method, gradient = ia.sgd(2e-3), jax.grad(rastrigin)

    def end(x):
        def step(carry, _):
            x, state = carry
            updates, state = method.update(gradient(x), state)
            return (x + updates, state), None

        (x, _), _ = jax.lax.scan(step, (x, method.init(x)), length=steps)
        return rastrigin(x)

    return np.asarray(jax.jit(lambda starts: jax.lax.map(jax.vmap(end), starts))(starts))


def main(out: Path = Path("figures"), seed: int = 0, fast: bool = False) -> None:
    """Compare gradients with evolutionary search.

    Args:
        out: Folder for the figures.
        seed: Of the starts and of the searches.
        fast: Fewer dimensions and seeds.
    """
    out.mkdir(parents=True, exist_ok=True)
    cost(out, seed, fast)
    success(out, seed, fast)


if __name__ == "__main__":
    tyro.cli(main)
