"""`inercia compare`: a method's iterates beside its flow."""

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import OmitArgPrefixes, arg

from inercia.commands.options import FailedError, MethodName, ProblemName, SolverName, Step, problem
from inercia.comparison.gap_and_energy import gap
from inercia.core import check
from inercia.flows.integration import SOLVERS, integrate
from inercia.flows.iteration import iterate


def compare(
    method: MethodName = "momentum",
    on: Annotated[ProblemName, arg(name="problem")] = "wells",
    step: OmitArgPrefixes[Step] = Step(),
    steps: int = 60,
    dt: float = 1.0,
    solver: SolverName = "DOP853",
    animate: bool = False,
    out: Path = Path("figures/compare"),
) -> None:
    """Lay a method's iterates and its flow side by side; write both paths as NPZ and CSV, and a figure.

    Args:
        steps: Number of updates.
        dt: Flow time of one update; below 1 the iterates come closer to the flow.
        animate: Whether to write a film too, paths.gif; of a problem of two parameters.
        out: Folder for the files.
    """
    from inercia import plot  # noqa: PLC0415  loads matplotlib, when used

    check.one_of("solver", solver, SOLVERS)
    loss, params, usual = problem(on, method)
    if animate and on == "digits":
        raise ValueError("--animate must have a --problem of two parameters, but digits has more.")
    chosen = step.method(method, usual if step.learning_rate is None else step.learning_rate, dt)
    path = iterate(chosen, loss, params, steps)
    if path.diverged is not None:
        raise FailedError(f"the iterates diverged at time {path.diverged:g}: try a smaller --learning-rate or --dt.")
    flow = integrate(chosen, loss, params, path.times, solver=solver, progress=sys.stderr.isatty())
    apart = gap(path, flow)
    assert flow.solve is not None
    print(f"{method} on {on}: {steps} updates; {solver} took {flow.solve.steps} steps, {flow.solve.nfev} gradients\n")
    print(f"{'time':>8}{'distance':>12}{'relative':>12}{'loss iterates':>16}{'loss flow':>12}")
    for i in np.unique(np.linspace(0, steps, 9).astype(int)):
        print(f"{path.times[i]:>8.4g}{apart.distance[i]:>12.3e}{apart.relative[i]:>12.2%}"
              f"{path.loss[i]:>16.6g}{flow.loss[i]:>12.6g}")  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    print()
    for name, line in (("iterates", path), ("flow", flow)):
        line.save_npz(out / f"{name}.npz")
        line.save_csv(out / f"{name}.csv")
        print(f"{out / name}.npz, .csv")
    if path.flat().shape[1] == 2:
        lines = {"flow": flow, "iterates": path}
        print(plot.save(lambda ax: plot.paths(ax, loss, lines), out / "paths.png"))
        if animate:
            print(plot.save_animation(plot.animate(lines, loss), out / "paths.gif"))
    print(plot.save(lambda ax: plot.gaps(ax, {method: apart}), out / "gap.png"))
