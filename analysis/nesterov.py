"""Nesterov's method in high resolution: what the equation with friction 3/t leaves out.

    time        iterates, the flow theta'' + (3/t) theta' + s g = 0 and the high-resolution equation on one axis of
                time, on a quadratic with s = 1/(2L): in the steep direction the iterates do not swing as the flow does,
                because the term dt s H theta', which it drops, damps them
    order       the plain flow misses the iterates by O(dt), the high-resolution equation by O(dt^2). With constant
                friction that takes a start half a step earlier than the paper's, from which it is O(dt) again
    portrait    Nesterov's step and the heavy ball have one plain flow, and the iterates are not alike: per update areas
                shrink by b (1 - a l) and by b, steep directions die faster
    energy      leapfrog with friction has order 2 where the heavy ball has order 1, and balances an energy of its own
                to O(dt^4)

Run alone: `python analysis/nesterov.py --help`.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from scipy.interpolate import make_interp_spline

import inercia as ia
from inercia import plot
from inercia.plot import save
from inercia.problems.toy_losses import wells

START = np.array([0.8, 1.2])


def high_resolution(method, loss, start, times, **options) -> ia.Path:
    """Return the path of the high-resolution equation from where the method starts."""
    flow, begin = ia.high_resolution(method, loss)
    params, state = begin(start, method.init(start))
    return ia.integrate(flow, loss, params, times, state=state, **options)


def on_one_axis(out: Path) -> None:
    """Lay iterates, the plain and the high-resolution flow side by side, at half of the theory's largest rate, 1/L."""
    curvatures, steps = np.array([0.02, 1.0]), 80
    loss, start, method = ia.quadratic(np.diag(curvatures)), np.ones(2), ia.nesterov(0.5)
    path = ia.iterate(method, loss, start, steps)
    fine = np.linspace(0, steps, 10 * steps + 1)
    flows = {
        "flow, friction $3/t$": ia.integrate(method, loss, start, fine),
        "high resolution": high_resolution(method, loss, start, fine),
    }
    missed = [ia.gap(path, flow[::10]).distance[1:].max() for flow in flows.values()]
    steep = [abs(p.params[p.times >= 10, 1]).max() for p in (path, *flows.values())]
    print(f"quadratic, s = 1/(2L): largest distance to the iterates {missed[0]:.3f} plain, {missed[1]:.3f} high "
          f"resolution; from t = 10 on the steep direction swings by {steep[0]:.3f} (iterates), {steep[1]:.3f}, "
          f"{steep[2]:.3f}")  # fmt: skip
    assert missed[1] < missed[0] / 4
    assert steep[1] > 10 * max(steep[0], steep[2])

    def draw(ax):
        for (name, flow), colour in zip(flows.items(), plot.COLOURS, strict=False):
            ax.semilogy(flow.times, flow.loss, color=colour, lw=1.2, label=name)
        ax.semilogy(path.times, path.loss, "k.", ms=4, label="iterates")
        ax.set(xlabel="time (iterations)", ylabel="loss", ylim=(1e-6, 2))
        ax.legend(loc="upper right")

    print(save(draw, out / "nesterov_time.png"))


def orders(out: Path, fast: bool) -> None:
    """Measure the orders of both equations, and that from the published start."""
    dts = [2.0**-k for k in range(3, 7 if fast else 8)]
    tight = {"rtol": 1e-11, "atol": 1e-13}

    def vanishing(dt):
        return ia.nesterov(0.2, dt=dt)

    def constant(dt):
        return ia.sgd(0.2, 0.7, nesterov=True, dt=dt)

    def fine(family, published=False):
        def flows(dt):
            flow, begin = ia.high_resolution(family(dt), wells)
            params, state = begin(START, family(dt).init(START))
            if published:
                with jax.enable_x64(True):
                    g = np.asarray(jax.grad(wells)(jnp.asarray(START)))
                state = state._replace(velocity=-(2 - 0.3 * dt) * dt * 0.2 * g)  # -2 h a g / (1 + q)
            return flow, params, state

        return flows

    cases = {
        "friction $3/t$, plain": (vanishing, None, 1),
        "$3/t$, high resolution": (vanishing, fine(vanishing), 2),
        "constant, plain": (constant, None, 1),
        "constant, high resolution": (constant, fine(constant), 2),
        "the same, published start": (constant, fine(constant, published=True), 1),
    }
    lines = {}
    for name, (family, flows, expected) in cases.items():
        lines[name] = ia.order(family, wells, START, 8.0, dts, flows=flows, **tight)
        gaps = lines[name].gaps
        last = float(np.log2(gaps[-2] / gaps[-1]))
        print(f"{name:<26} slope {lines[name].slope:.2f}, of the last halving {last:.2f}")
        assert abs(last - expected) < 0.1, name

    def draw(ax):
        for (name, line), colour in zip(lines.items(), plot.COLOURS, strict=False):
            ax.loglog(line.dts, line.gaps, "o-", ms=3, lw=1, color=colour, label=name)
        ticks = dts[::2]
        ax.set_xticks(ticks, [f"1/{round(1 / dt)}" for dt in ticks])
        ax.minorticks_off()
        ax.set(xlabel="dt (iterations per update)", ylabel="largest distance to the flow")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=7, ncols=2, columnspacing=0.8, handlelength=1)

    print(save(draw, out / "nesterov_order.png"))


def portrait(out: Path) -> None:
    """Draw the field of both high-resolution equations, and the iterates, on one steep direction."""
    a, b, curvature = 0.4, 0.8, 1.0
    loss, start = ia.quadratic([[curvature]]), np.ones(1)
    methods = {"heavy ball": ia.sgd(a, b), "Nesterov": ia.sgd(a, b, nesterov=True)}
    fields, paths, shrunk = {}, {}, {}
    theta, velocity = np.linspace(-1.1, 1.1, 25), np.linspace(-0.9, 0.9, 21)
    for name, method in methods.items():
        flow = ia.high_resolution(method, lambda x: curvature * x**2 / 2).flow
        fields[name] = ia.portrait(flow, lambda x: curvature * x**2 / 2, theta, velocity,
                                   state=ia.OscillatorState(0.0, 0.0))  # fmt: skip
        path = ia.iterate(method, loss, start, 40)
        later = [ia.high_resolution(method, loss).start(x, ia.SgdState(k, v))[1].velocity
                 for k, (x, v) in enumerate(zip(path.params, path.state.trace, strict=True))]  # fmt: skip
        paths[name] = np.stack([path.params[:, 0], np.array(later)[:, 0]])
        z = np.stack([path.params[:, 0], path.state.trace[:, 0]])  # linear from step to step: their areas say it all
        areas = abs(z[0, :-1] * z[1, 1:] - z[1, :-1] * z[0, 1:])
        shrunk[name] = float((areas[1:] / areas[:-1]).mean())
    print("areas shrink per update by " + ", ".join(f"{v:.4f} ({n})" for n, v in shrunk.items())
          + f"; b = {b}, b (1 - a l) = {b * (1 - a * curvature):.2f}")  # fmt: skip
    assert abs(shrunk["heavy ball"] - b) < 1e-9
    assert abs(shrunk["Nesterov"] - b * (1 - a * curvature)) < 1e-9

    def draw(axes):
        for ax, (name, field), colour in zip(axes, fields.items(), plot.COLOURS, strict=False):
            ax.streamplot(*field, color="0.8", linewidth=0.6, arrowsize=0.6, density=0.9)
            ax.plot(*paths[name], "o-", ms=2.5, lw=0.8, color=colour, zorder=3)
            ax.plot(*paths[name][:, 0], "k*", ms=8, zorder=4)
            ax.set(title=name, xlabel=r"$\theta$", xlim=theta[[0, -1]], ylim=velocity[[0, -1]])
        axes[0].set_ylabel(r"$\theta'$")

    print(save(draw, out / "nesterov_portrait.png", (6.5, 2.9), 2))


def energy(out: Path, fast: bool) -> None:
    """Measure the orders of leapfrog and of the heavy ball, and how well energies are balanced."""
    dts = np.array([2.0**-k for k in range(2, 5 if fast else 7)])
    families = {
        "momentum": lambda dt: ia.momentum(0.5, 0.7, dt=dt),
        "leapfrog": lambda dt: ia.conformal(0.5, 0.7, dt=dt),
    }
    gaps = {}
    for (name, family), expected in zip(families.items(), (1, 2), strict=True):
        gaps[name] = ia.order(family, wells, START, 8.0, list(dts), rtol=1e-11, atol=1e-13).gaps
        last = np.log2(gaps[name][-2] / gaps[name][-1])
        print(f"{name}: distance to the flow, slope of the last halving {last:.2f}")
        assert abs(last - expected) < 0.1
    drifts = []
    for dt in dts:
        method = families["leapfrog"](dt)
        path = ia.iterate(method, wells, START, round(8 / dt))
        kept = ia.modified_energy(method, wells, path)
        drifts.append([
            drift(path.times, kept.energy, kept.loss_rate),
            drift(path.times, kept.modified, kept.modified_loss_rate),
        ])  # fmt: skip
    drifts = np.array(drifts).T
    slopes = np.log2(drifts[:, -2] / drifts[:, -1])
    print(f"leapfrog, energy lost but by friction: slope {slopes[0]:.2f}, of the modified energy {slopes[1]:.2f}")
    assert abs(slopes - [2, 4]).max() < 0.1

    def draw(ax):
        lines = {**{f"{name}: distance to the flow": g for name, g in gaps.items()},
                 "leapfrog: drift of the energy": drifts[0], "of the modified energy": drifts[1]}  # fmt: skip
        for (name, values), colour in zip(lines.items(), plot.COLOURS, strict=False):
            ax.loglog(dts, values, "o-", ms=3, lw=1, color=colour, label=name)
        ax.set_xticks(dts[::2], [f"1/{round(1 / dt)}" for dt in dts[::2]])
        ax.minorticks_off()
        ax.set(xlabel="dt (iterations per update)", ylabel="distance, drift")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=7, ncols=2, columnspacing=0.8, handlelength=1)

    print(save(draw, out / "nesterov_energy.png"))


def drift(times, energy, rate) -> float:
    """Return how far the energy moves but by friction, its integral by a spline of degree 7."""
    lost = make_interp_spline(times, rate, k=7).antiderivative()
    return float(abs(energy + lost(times) - lost(0) - energy[0]).max())


def main(out: Path = Path("figures"), seed: int = 0, fast: bool = False) -> None:
    """Compare Nesterov's method with its equations.

    Args:
        out: Folder for the figures.
        seed: Unused: nothing here is random.
        fast: Fewer steps.
    """
    out.mkdir(parents=True, exist_ok=True)
    on_one_axis(out)
    orders(out, fast)
    portrait(out)
    energy(out, fast)


if __name__ == "__main__":
    tyro.cli(main)
