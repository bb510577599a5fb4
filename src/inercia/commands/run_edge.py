"""`inercia edge`: a run up to the edge of stability, beside its stable and its central flow."""

import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tyro.conf import OmitArgPrefixes

from inercia.commands.options import ActivationName, EdgeMethodName, FailedError, Rows, Step
from inercia.comparison.edge_run import Edge
from inercia.comparison.edge_run import edge as run_beside_its_flows
from inercia.core import check
from inercia.edge_of_stability.eigenpairs import CurvatureError
from inercia.problems.digits_loss import edge_loss
from inercia.problems.labels import one_hot


def edge(
    method: EdgeMethodName = "sgd",
    step: OmitArgPrefixes[Step] = Step(),
    source: OmitArgPrefixes[Rows] = Rows(),
    rows: int = 500,
    hidden: tuple[int, ...] = (16, 16),
    activation: ActivationName = "swish",
    steps: int = 1000,
    k: int | None = None,
    substeps: int = 4,
    window: int = 50,
    flows: tuple[Literal["modified", "rod", "edge_flow"], ...] = (),
    seed: int = 0,
    out: Path = Path("figures/edge"),
) -> None:
    """Train on all rows at once up to the edge of stability, and see which flow the iterates follow there.

    Writes edge.png (loss, sharpness with its bound, distance: iterates, stable flow, central flow) and edge.npz.
    By default the learning rate reaches the edge on the digits, rmsprop corrects its bias, momentum's beta and adam's
    b1 are 0.5, and adam's b2 is 0.99; the activation must be smooth.

    Args:
        rows: How many rows of the data to train on.
        hidden: Widths of the hidden layers.
        steps: Number of updates.
        k: The most eigenvalues that may be critical at once; 32 by default.
        substeps: Of the central flow, per update.
        window: Updates over which the iterates are averaged.
        flows: Others to stand beside, in the figure too: modified (sgd, momentum), rod, edge_flow.
        seed: Fixes the choice of rows and the starting weights.
        out: Folder for the files.
    """
    from inercia import plot  # noqa: PLC0415  loads matplotlib, when used

    chosen = step.at_the_edge(method)
    parts = source.prepare(0.1, seed)
    x, y = parts.train
    if check.integer("rows", rows) > len(x):
        raise ValueError(f"rows must be at most {len(x)}, nine tenths of the data, but it is {rows}.")
    goal = one_hot(y, parts.encoding.target.outputs) if y.ndim == 1 else y
    loss, start = edge_loss(x[:rows], goal[:rows], hidden, activation, seed)
    try:
        run = run_beside_its_flows(
            chosen,
            loss,
            start,
            steps,
            k=k,
            substeps=substeps,
            window=window,
            flows=flows,
            progress=sys.stderr.isatty(),
        )
    except CurvatureError as error:
        raise FailedError(str(error)) from None
    if source.data is not None:
        print("\n".join(parts.notes))
    print(f"{method} on {rows} rows, {run.central.flat().shape[1]} parameters, squared error; all in float64")
    _say(run, steps)
    out.mkdir(parents=True, exist_ok=True)
    _write(run, out / "edge.npz")
    print(out / "edge.npz")
    print(plot.save(lambda axes: plot.edge(axes, run), out / "edge.png", (10.5, 3.2 + 0.15 * len(flows)), columns=3))


def _say(run: Edge, steps: int) -> None:
    print(f"\n{'update':>8}{'loss':>12}{'stable':>12}{'central':>12}{'sharpness':>12}{'stable':>10}{'central':>10}"
          f"{'to stable':>11}{'to central':>11}", *(f"{'to ' + name:>13}" for name in run.others), sep="")  # fmt: skip
    middle, stable = run.central.observed, run.stable.observed
    for i in np.unique(np.linspace(0, steps - run.window // 2, 11).astype(int)):
        displacement = max(run.displacement[i], 1e-300)
        print(f"{run.times[i]:>8g}{run.loss[i]:>12.5f}{run.stable.loss[i]:>12.5f}{middle['mean_loss'][i]:>12.5f}"
              f"{run.sharpness[i]:>12.3f}{stable['sharpness'][i, 0]:>10.3f}{middle['sharpness'][i, 0]:>10.3f}"
              f"{run.to_stable[i] / displacement:>11.2%}{run.to_central[i] / displacement:>11.2%}",
              *(f"{away[i] / displacement:>13.2%}" for away in run.to_others.values()), sep="")  # fmt: skip
    for name, path in run.others.items():
        if len(path) < len(run.times):
            print(f"\nThe flow {name} is given up at update {path.times[-1]:g}.")
    edge_at = f"\nThe edge (sharpness {run.bound:.4g}) is "
    if run.reached is None:
        print(f"{edge_at}not reached in {steps} updates: take a larger --learning-rate.")
    else:
        print(f"{edge_at}reached at update {run.reached:g}.")


def _write(run: Edge, file: Path) -> None:
    middle, stable = run.central.observed, run.stable.observed
    beside: dict[str, Any] = {f"to_{name}": away for name, away in run.to_others.items()}
    np.savez_compressed(
        file, times=run.times, bound=run.bound, loss=run.loss, sharpness=run.sharpness,
        displacement=run.displacement, to_central=run.to_central, to_stable=run.to_stable,
        central_loss=middle["mean_loss"], central_sharpness=middle["sharpness"], X=middle["X"],
        stable_loss=run.stable.loss, stable_sharpness=stable["sharpness"],
        iterates_loss=run.iterates.loss, iterates_sharpness=run.iterates.observed["sharpness"],
        **beside,
    )  # fmt: skip
