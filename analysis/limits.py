"""Every method approaches its flow: gap against the step, with slopes 1, 2 and 4.

Order 1 for the flow of each method; order 2 for the modified flow, which knows the step; order 4 for the flow
interpolated from four further iterates, here of optax's own Adam.

Run alone: `python analysis/limits.py --help`.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import inercia as ia
from inercia import plot
from inercia.plot import save
from inercia.problems.toy_losses import wells

START = np.array([0.8, 1.2])
FIRST_ORDER = {
    "SGD": lambda dt: ia.sgd(0.3, dt=dt),
    "momentum": lambda dt: ia.momentum(0.5, 0.7, dt=dt),
    "the lecture's order": lambda dt: ia.momentum(0.5, 0.7, scheme="explicit", dt=dt),
    "Nesterov": lambda dt: ia.nesterov(0.2, dt=dt),
    "RMSProp, warm": lambda dt: ia.rmsprop(0.1, initial_scale=1.0, dt=dt),
    "AdaGrad": lambda dt: ia.adagrad(0.5, 1.0, dt=dt),
    "Adam": lambda dt: ia.adam(0.1, dt=dt),
    "AdamW": lambda dt: ia.adamw(0.1, weight_decay=0.5, dt=dt),
}


def optax_adam(dt: float) -> optax.GradientTransformation:
    """Return optax's Adam refined by dt: rate and 1 - beta shrink with it."""
    return optax.adam(0.05 * dt, b1=1 - 0.1 * dt, b2=1 - 0.05 * dt)


def warm(dt: float) -> tuple:
    """Return optax's Adam state at time 10, its moments those of the starting gradient."""
    with jax.enable_x64(True):
        g = jax.grad(wells)(jnp.asarray(START))
        fresh, rest = optax_adam(dt).init(jnp.asarray(START))
        return fresh._replace(count=jnp.int32(round(10 / dt)), mu=g, nu=g**2), rest


def main(out: Path = Path("figures"), seed: int = 0, fast: bool = False) -> None:
    """Draw gap against step for every method.

    Args:
        out: Folder for the figure.
        seed: Unused: nothing here is random.
        fast: Fewer steps.
    """
    out.mkdir(parents=True, exist_ok=True)
    dts = [2.0**-k for k in range(2, 6 if fast else 8)]
    measured = {name: ia.order(family, wells, START, 8.0, dts) for name, family in FIRST_ORDER.items()}
    expected = dict.fromkeys(measured, 1)

    def second(dt):
        flow, begin = ia.modified(FIRST_ORDER["momentum"](dt), wells)
        return flow, *begin(START, FIRST_ORDER["momentum"](dt).init(START))

    measured["momentum, modified"] = ia.order(FIRST_ORDER["momentum"], wells, START, 8.0, dts, flows=second)
    measured["optax.adam, interpolated"] = ia.order(
        optax_adam, wells, START, 4.0, [2.0**-k for k in range(1, 5)], state=warm, rtol=1e-13, atol=1e-15,
        flows=lambda dt: (ia.interpolated(optax_adam(dt), wells, 4), START, warm(dt)),
    )  # fmt: skip
    expected |= {"momentum, modified": 2, "optax.adam, interpolated": 4}
    for name, result in measured.items():
        print(f"{name:<26} {result.verdict}")
        assert abs(result.slope - expected[name]) < 0.15, name

    def draw(ax):
        colours = {1: plot.COLOURS[0], 2: plot.COLOURS[1], 4: plot.COLOURS[2]}
        for name, result in measured.items():
            ax.loglog(result.dts, result.gaps, "o-", ms=3, lw=1, color=colours[expected[name]])
        ax.text(0.02, 0.98, f"{len(FIRST_ORDER)} methods, own flow: slope 1", color=colours[1], fontsize=8,
                transform=ax.transAxes, va="top")  # fmt: skip
        for p, text in ((2, "momentum, modified: slope 2"), (4, "optax.adam, interpolated: slope 4")):
            line = next(r for n, r in measured.items() if expected[n] == p)
            ax.annotate(text, (line.dts[-1], line.gaps[-1]), xytext=(0, -14), textcoords="offset points",
                        color=colours[p], fontsize=8, ha="left" if p == 2 else "center")  # fmt: skip
        ticks = [2.0**-k for k in (1, 3, 5, 7)]
        ax.set_xticks(ticks, [f"1/{round(1 / dt)}" for dt in ticks])
        ax.minorticks_off()
        ax.set(xlabel="dt (iterations per update)", ylabel="largest distance to the flow", ylim=(1e-12, 10))

    print(save(draw, out / "limits.png"))


if __name__ == "__main__":
    tyro.cli(main)
