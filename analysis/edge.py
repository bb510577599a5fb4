"""Which flow the iterates follow at the edge of stability.

    flow       gradient descent on the digits up to its edge: the plain (stable) flow leaves the iterates, the central
               flow stays, and predicts their mean loss
    methods    the same for momentum in both orders, scalar RMSProp, RMSProp and Adam: sharpness over its bound,
               distance to both flows over the displacement
    many       the sharpness of GD, momentum and Adam on a larger set, by default all digits; `--data` for your own

Run alone: `python analysis/edge.py --help`.
"""

from pathlib import Path

import numpy as np
import tyro

import inercia as ia
from inercia import plot
from inercia.plot import save
from inercia.problems.digits_loss import edge_loss

#: name -> method, at a rate at which it reaches its edge on 500 digits within a few hundred updates.
METHODS = {
    "GD": ia.sgd(0.8),
    "momentum, b = 0.5": ia.momentum(2.0, 0.5),
    "the lecture's order": ia.momentum(0.4, 0.5, scheme="explicit"),
    "scalar RMSProp": ia.scalar_rmsprop(0.03, 0.99),
    "RMSProp": ia.rmsprop(1e-3, 0.99, bias_correction=True),
    "Adam, $b_1$ = 0.5": ia.adam(1e-3, b1=0.5, b2=0.99),
}
#: name -> method and updates; the sharpness is averaged over the second half.
TRACKED = {
    **{name: (METHODS[name], 800) for name in ("GD", "momentum, b = 0.5", "the lecture's order")},
    "Adam, $b_1$ = 0.5": (ia.adam(2e-3, b1=0.5), 1400),
}


def problem(rows: int, hidden: tuple[int, ...], seed: int, data: Path | None = None, labels: Path | None = None):
    """Return the squared error of a network on the first rows, a start, and how many rows there were."""
    parts = ia.digits(0.1, seed) if data is None else ia.split(ia.read(data, labels), 0.1, seed)
    x, y = (np.asarray(part[:rows]) for part in parts.train)
    return *edge_loss(x, y, hidden, seed=seed), len(x)


def told(name: str, run: ia.Edge, fast: bool) -> None:
    """Print and check what was measured after the edge was reached."""
    late = run.after(100)
    assert late.any(), f"{name} does not reach its edge"
    near, far = ((d / np.maximum(run.displacement, 1e-300))[late] for d in (run.to_central, run.to_stable))
    predicted = np.abs(run.central.observed["mean_loss"] / run.loss - 1)[late]
    sharp = run.sharpness[late].mean() / run.bound
    gone = "given up" if np.isnan(far[-1]) else f"{far[-1]:.1%}"
    print(
        f"{name:<22} edge at {run.reached:>4g}; sharpness {sharp:.3f} of its bound {run.bound:.3g}; over displacement "
        f"to the central flow {np.median(near):.1%}, at most {near.max():.1%}, to the stable flow {gone} at the end; "
        f"mean loss predicted to {np.median(predicted):.1%}"
    )
    assert near.max() < 0.05
    assert np.isnan(far[-1]) or far[-1] > (2 if fast else 3) * near[-1]
    assert np.median(predicted) < 0.05


def flow(out: Path, seed: int, fast: bool) -> None:
    """Follow gradient descent, and draw the three curves each."""
    loss, start, rows = problem(200 if fast else 500, (16, 16), seed)
    run = ia.edge(METHODS["GD"], loss, start, 400 if fast else 1000)
    print(f"{rows} digits, network 64-16-16-10:")
    told("GD", run, fast)
    print(save(lambda axes: plot.edge(axes, run), out / "edge_flow.png", (10.5, 3.2), columns=3))


def methods(out: Path, seed: int, fast: bool) -> None:
    """Do the same for the other methods, and draw the distances."""
    loss, start, _ = problem(200 if fast else 500, (16, 16), seed)
    runs = {}
    for name in ["momentum, b = 0.5"] if fast else list(METHODS)[1:]:
        runs[name] = ia.edge(METHODS[name], loss, start, 400 if fast else 1000)
        told(name, runs[name], fast)

    def draw(axes):
        for ax, (name, run) in zip(np.ravel(axes), runs.items(), strict=False):
            scale = np.maximum(run.displacement, 1e-3 * run.displacement.max())
            for values, label, style, colour in (
                (run.to_stable, "stable flow", "--", plot.COLOURS[1]),
                (run.to_central, "central flow", "-.", plot.COLOURS[2]),
            ):
                ax.semilogy(run.times[50:-25], (values / scale)[50:-25], style, color=colour, label=label)
            ax.axvline(run.reached, color="0.8", lw=0.8, zorder=0)
            ax.set(title=name, xlabel="updates", ylim=(3e-3, 2))
        np.ravel(axes)[0].set(ylabel="distance / displacement")
        np.ravel(axes)[0].legend(loc="upper left")

    columns = 2 if fast else 5
    print(save(draw, out / "edge_methods.png", (2.3 * columns, 2.6), columns=columns))


def many(out: Path, seed: int, fast: bool, data: Path | None, labels: Path | None, rows: int) -> None:
    """Track the sharpness on more rows, where no flow is needed."""
    loss, start, rows = problem(200 if fast else rows, (16, 16), seed, data, labels)
    lines = {}
    print(f"\n{rows} rows:")
    for name in ["GD"] if fast else list(TRACKED):
        method, steps = TRACKED[name]
        steps = 400 if fast else steps
        path = ia.iterate(method, loss, start, steps, every=5, observe={"S": ia.sharpness(method, loss)})
        bound = ia.threshold(method).bound
        lines[name] = path.times, path.observed["S"][:, 0] / bound
        late = lines[name][1][len(path) // 2 :].mean()
        print(f"{name:<22} sharpness over its bound of {bound:.3g}, second half of {steps} updates: {late:.3f}")
        assert abs(late - 1) < (0.1 if fast else 0.03), name

    def draw(ax):
        for (name, (t, s)), colour in zip(lines.items(), plot.COLOURS, strict=False):
            ax.plot(t, s, color=colour, lw=0.8, label=name)
        ax.axhline(1, color="k", lw=0.8, ls=":")
        ax.set(xlabel="updates", ylabel="sharpness / bound", ylim=(0, 1.6))
        ax.legend(loc="lower right", fontsize=6)

    print(save(draw, out / "edge_many.png"))


def main(
    out: Path = Path("figures"),
    seed: int = 0,
    fast: bool = False,
    data: Path | None = None,
    labels: Path | None = None,
    rows: int = 5000,
) -> None:
    """Draw which flow the iterates follow at the edge of stability.

    Args:
        out: Folder for the figures.
        seed: Of the choice of rows and the network's start.
        fast: Fewer rows, updates and methods.
        data: A .csv, .npz or IDX file of classes for the larger set; all digits when left out.
        labels: The IDX file of the labels, when data is IDX.
        rows: Of the larger set, at most nine tenths of it.
    """
    out.mkdir(parents=True, exist_ok=True)
    flow(out, seed, fast)
    methods(out, seed, fast)
    many(out, seed, fast, data, labels, rows)


if __name__ == "__main__":
    tyro.cli(main)
