"""Noise and the batch size: the stochastic equation of adaptive methods, and the rules that keep it.

    svag       methods scaled by 1/l on gradients of l times the covariance: their moments converge to those of the
               stochastic equation at order 1 in 1/l, Adam's from a cold start too
    rules      on the digits, batches of 1, 2, 4, 8 rows: with the rate times sqrt(kappa) (RMSProp, Adam) or kappa
               (SGD), and all memories shorter, loss, displacement and scatter over seeds stay the same
    breaks     where they do not: where kappa g^2 is not small beside the noise of one batch

Run alone: `python analysis/scaling_rule.py --help`.
"""

import importlib.util
import warnings
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.ticker import NullLocator
from scipy.integrate import solve_ivp

import inercia as ia
from inercia import plot
from inercia.plot import save

RATE, SIGMA, START, TIME, B1, B2 = 0.2, 2.0, 1.5, 4, 0.6, 0.8
BATCHES = SIGMA * np.array([-1.0, 1.0])

#: Those whose rules are tried on the digits.
METHODS = {
    "sgd": ia.sgd(0.01),
    "momentum": ia.momentum(0.01, 0.9),
    "rmsprop": ia.rmsprop(5e-4, 0.99, bias_correction=True),
    "adam": ia.adam(5e-4, 0.9, 0.99),
    "adamw": ia.adamw(5e-4, 0.9, 0.99, weight_decay=0.3),
}


def bowl(x: jax.Array, centre: jax.Array) -> jax.Array:
    """Return (x - c)^2 / 2."""
    return (x - centre) ** 2 / 2


def limits() -> dict[str, np.ndarray]:
    """Return E theta and E theta^2 of the equations on the bowl in the limit of large noise, where v = sigma^2.

    RMSProp is d theta = -r (theta dt + sigma dW), r = a / sigma; Adam d m = c (theta dt - m dt + sigma dW) and
    theta' = -r m / (1 - e^{-ct}), c = 1 - b1.
    """
    r, c = RATE / SIGMA, 1 - B1
    decay = np.exp(-2 * r * TIME)
    rmsprop = np.array([START * np.sqrt(decay), START**2 * decay + r * SIGMA**2 * (1 - decay) / 2])

    def slope(t, y):
        theta, m, tt, tm, mm = y
        w = r / -np.expm1(-c * t)
        return [-w * m, c * (theta - m), -2 * w * tm, -w * mm + c * (tt - tm), 2 * c * (tm - mm) + (c * SIGMA) ** 2]

    t0 = 1e-10
    begin = [START, c * START * t0, START**2, c * START**2 * t0, (c * SIGMA) ** 2 * t0]
    adam = solve_ivp(slope, (t0, TIME), begin, "Radau", rtol=1e-9, atol=1e-12).y[[0, 2], -1]
    return {"RMSProp, warm": rmsprop, "Adam, cold": adam}


@partial(jax.jit, static_argnums=(0, 1, 2))
def ensemble(method: ia.Method, l: int, n: int, key: jax.Array) -> jax.Array:
    """Return n independent ends of the method on gradients of l times the covariance: its updates are elementwise."""
    s = jnp.sqrt(2.0 * l - 1)

    def step(k, carry):
        x, state = carry
        one, two = jnp.asarray(BATCHES)[jax.random.randint(jax.random.fold_in(key, k), (2, n), 0, 2)]
        updates, state = method.update((1 + s) / 2 * (x - one) + (1 - s) / 2 * (x - two), state, x)
        return x + updates, state

    x = jnp.full(n, START)
    return jax.lax.fori_loop(0, TIME * l, step, (x, method.init(x)))[0]


def measured(method: ia.Method, l: int, n: int, seed: int) -> tuple[float, float]:
    """Return E theta and E theta^2 of the method scaled by 1/l."""
    with jax.enable_x64(True):
        x = np.asarray(ensemble(ia.scale(method, 1 / l), l, n, jax.random.key(seed)))
    return x.mean(), (x**2).mean()


def svag(out: Path, seed: int, fast: bool) -> None:
    """Compare moments at l = 1, 2, 4, ... with those of the equation."""
    n, sizes = (200_000, [2, 4, 8]) if fast else (2_000_000, [1, 2, 4, 8, 16])
    methods = {
        "RMSProp, warm": ia.rmsprop(RATE, B2, eps=0.0, initial_scale=SIGMA**2),
        "Adam, cold": ia.adam(RATE, B1, B2, eps=0.0),
    }
    exact, errors = limits(), {}
    for name, method in methods.items():
        errors[name] = np.array([measured(method, l, n, seed) for l in sizes]) - exact[name]
        late = [k for k, l in enumerate(sizes) if l >= 2]
        slopes = -np.polyfit(np.log2(np.array(sizes)[late]), np.log2(np.abs(errors[name][late])), 1)[0]
        first, square = errors[name].round(4).T
        print(f"{name}: errors of E theta {first}, of E theta^2 {square}, orders {slopes.round(2)}")
        assert (abs(slopes - 1) < (0.25 if fast else 0.2)).all()
    if importlib.util.find_spec("diffrax"):
        compare(methods["RMSProp, warm"], exact["RMSProp, warm"][0], 4000 if fast else 40_000, n, seed)
    else:
        print("diffuse is not compared: it needs diffrax, pip install 'inercia[diffrax]'")

    def draw(ax):
        for (name, found), colour in zip(errors.items(), plot.COLOURS, strict=False):
            for moment, style in enumerate(("o-", "s--")):
                label = f"{name}, E θ{'²' if moment else ''}"
                ax.loglog(sizes, abs(found[:, moment]), style, color=colour, ms=4, label=label)
        ax.loglog(sizes, 0.5 / np.array(sizes), color="0.7", lw=0.8, label="order 1")
        ax.set_xticks(sizes, [str(l) for l in sizes], minor=False)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set(xlabel="$l$", ylabel="error of the moment", ylim=(min(abs(e).min() for e in errors.values()) / 8, None))
        ax.legend(fontsize=7, loc="lower left", ncols=2)

    print(save(draw, out / "scaling_rule_svag.png"))


def compare(method: ia.Method, limit: float, paths: int, n: int, seed: int) -> None:
    """Compare E theta of the method itself with its equation, and with the limit, whose v has no |g|^2."""
    once = measured(method, 1, n, seed)[0]
    equation = ia.diffuse(method, bowl, START, BATCHES, [0, TIME], seed, paths).params[:, 1].mean()
    print(f"RMSProp, warm, l = 1: E theta {once:.3f}; of `diffuse` {equation:.3f}; without |g|^2 in v {limit:.3f}")
    assert abs(once - equation) < 0.7 * abs(once - limit)


class Moments(NamedTuple):
    """Of a method over seeds, at eleven times."""

    loss: np.ndarray
    displacement: np.ndarray  # of the mean
    scatter: np.ndarray  # trace of the covariance


class Digits:
    """The digits' risk on a small network, and a start some passes into a training."""

    def __init__(self, seed: int, epochs: int) -> None:
        self.data, _ = ia.digits()
        network = ia.mlp([64, 16, 10])
        self.loss = ia.risk(network, "cross-entropy")
        self.start = network.init(jax.random.key(seed))
        if epochs:
            trained = ia.train(ia.adam(3e-3), self.loss, self.start, self.data, epochs=epochs, key=seed, batch_size=32)
            self.start = trained.params

    def moments(self, method: ia.Method, kappa: int, batch: int, steps: int, seeds: int) -> Moments:
        """Return the moments of a method for batches of kappa * batch rows, in steps of one batch."""
        path = ia.iterate_batches(
            method, self.loss, self.start, self.data, steps // kappa, key=range(seeds), batch_size=kappa * batch,
            sampler="partition", every=steps // kappa // 10,
        )  # fmt: skip
        theta = np.concatenate([p.reshape(*p.shape[:2], -1) for p in jax.tree.leaves(path.params)], axis=-1)
        moved = theta.mean(axis=1) - theta[0, 0]
        return Moments(path.loss.mean(axis=1), np.linalg.norm(moved, axis=1), theta.var(axis=1, ddof=1).sum(axis=1))

    def gradients(self, batch: int) -> list[np.ndarray]:
        """Return the gradients of fixed batches at the start."""
        rows = len(self.data.x) // batch * batch
        parts = [np.asarray(part[:rows]).reshape(-1, batch, *part.shape[1:]) for part in self.data]
        return jax.tree.leaves(jax.vmap(jax.grad(self.loss), (None, 0))(self.start, tuple(parts)))


def with_rate(method: ia.Method, kappa: float, power: float, of: ia.Method) -> ia.Method:
    """Return the method with the rate of another times kappa to a power."""
    return method.factory(**method.hyper | {"learning_rate": of.hyper["learning_rate"] * kappa**power})


def rules(out: Path, seed: int, fast: bool) -> None:
    """Compare kappa = 1, 2, 4, 8 under the rule, and the largest under the other rule."""
    kappas, steps, seeds = ([1, 4], 400, 12) if fast else ([1, 2, 4, 8], 1600, 48)
    problem = Digits(seed, 2)
    shown: tuple = ()
    for name, method in METHODS.items():
        if fast and name not in ("momentum", "adam"):
            continue
        adaptive = name not in ("sgd", "momentum")
        under = {kappa: problem.moments(ia.scale(method, kappa), kappa, 1, steps, seeds) for kappa in kappas}
        last = kappas[-1]
        wrong = with_rate(ia.scale(method, last), last, 1.0 if adaptive else 0.5, method)
        other = problem.moments(wrong, last, 1, steps, seeds)
        ratios = {kappa: [part[-1] / first[-1] for part, first in zip(of, under[1], strict=True)]
                  for kappa, of in [*under.items(), ("other rule", other)]}  # fmt: skip
        print(f"{name}: loss {under[1].loss[-1]:.4f}, displacement {under[1].displacement[-1]:.3f}, scatter "
              f"{under[1].scatter[-1]:.3f}; times " + "; ".join(f"{kappa}: " + ", ".join(f"{r:.3f}" for r in of)
                                                              for kappa, of in ratios.items()))  # fmt: skip
        most = ratios[last]
        assert abs(np.log(most[:2])).max() < (0.1 if adaptive else 0.03), name  # loss and displacement
        assert abs(np.log(most[2])) < (0.3 if fast else 0.1), name
        assert abs(np.log(ratios["other rule"][2])) > 0.9, name
        if name == "adam":
            shown = under, other

    def draw(ax):
        time = np.linspace(0, steps, 11)
        for (kappa, of), colour in zip(shown[0].items(), plot.COLOURS, strict=False):
            ax.plot(time, of.loss, color=colour, label=rf"$\kappa$ = {kappa}")
        ax.plot(time, shown[1].loss, "--", color="0.6", label=rf"$\kappa$ = {kappas[-1]}, rate times $\kappa$")
        ax.set(xlabel="updates of the smallest batch", ylabel="training loss, mean over seeds")
        ax.legend()

    print(save(draw, out / "scaling_rule_digits.png"))


class Case(NamedTuple):
    """A start, the smallest batch, and whether `scale` warns of it."""

    name: str
    epochs: int
    batch: int
    warns: bool


def breaks(out: Path, seed: int, fast: bool) -> None:
    """Compare what `scale` says of the signal with the displacement that is measured, for Adam at kappa = 8."""
    cases = [
        Case("after 2 passes, batches of 1 row", 2, 1, False),
        Case("after 2 passes, batches of 4 rows", 2, 4, True),
        Case("from the start, batches of 1 row", 0, 1, True),
        Case("from the start, batches of 4 rows", 0, 4, True),
        Case("from the start, batches of 16 rows", 0, 16, True),
    ]
    method, kappa, found = METHODS["adam"], 8, []
    for case in cases[2:4] if fast else cases:
        problem = Digits(seed, case.epochs)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", ia.InerciaWarning)
            scaled = ia.scale(method, kappa, signal=problem.gradients(case.batch))
        steps, seeds = 160, 8 if fast else 24
        before, after = (problem.moments(m, k, case.batch, steps, seeds) for m, k in ((method, 1), (scaled, kappa)))
        measured = after.displacement[-1] / before.displacement[-1]
        assert bool(said) == case.warns, case
        foreseen = float(str(said[0].message).split(" times those")[0].split()[-1]) if said else 1.0
        found.append((foreseen, measured))
        print(f"{case.name}: " + (f"mean steps foreseen {foreseen:.2f} of the rule's" if said else "no warning")
              + f", displacement measured {measured:.3f}")  # fmt: skip
        assert foreseen - 0.12 < measured < foreseen + 0.12, case

    def draw(ax):
        ax.plot([0.4, 1.05], [0.4, 1.05], color="0.8", lw=0.8)
        tried = cases[2:4] if fast else cases
        for point, case, colour, shape in zip(found, tried, plot.COLOURS, "osD^v", strict=False):
            ax.plot(*point, shape, ms=5, color=colour, label=case.name)
        ax.set(xlabel="foreseen from the gradients", ylabel=r"displacement at $\kappa$ = 8 over 1", ylim=(0.4, 1.25))
        ax.legend(fontsize=7, loc="upper left")

    print(save(draw, out / "scaling_rule_breaks.png"))


def main(out: Path = Path("figures"), seed: int = 0, fast: bool = False) -> None:
    """Show that moments converge to the equation's, and where scaling rules keep them.

    Args:
        out: Folder for the figures.
        seed: Of the network's start, the batches and the noise.
        fast: Fewer sizes, methods and seeds.
    """
    out.mkdir(parents=True, exist_ok=True)
    svag(out, seed, fast)
    rules(out, seed, fast)
    breaks(out, seed, fast)


if __name__ == "__main__":
    tyro.cli(main)
