"""`inercia order`: the order at which a method's iterates approach its flow."""

from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, arg

from inercia.commands.options import MethodName, ProblemName, Step, problem
from inercia.comparison.convergence_order import order as measured
from inercia.core.method import Method


def order(
    method: MethodName = "momentum",
    on: Annotated[ProblemName, arg(name="problem")] = "wells",
    step: OmitArgPrefixes[Step] = Step(),
    time: float = 16.0,
    dts: tuple[float, ...] = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32),
    out: Path | None = None,
) -> None:
    """Measure how fast a method's iterates approach its flow as the step is refined.

    Args:
        time: Length of the comparison, in iterations.
        dts: At least three steps, the largest a multiple of the others.
        out: Write a figure into this folder.
    """
    loss, params, usual = problem(on, method)

    def family(dt: float) -> Method:
        return step.method(method, usual if step.learning_rate is None else step.learning_rate, dt)

    result = measured(family, loss, params, time, dts)
    print(f"{'dt':>12}{'gap':>14}")
    for dt, apart in zip(result.dts, result.gaps, strict=True):
        print(f"{dt:>12.6g}{apart:>14.4e}")
    print(f"\n{result.verdict}")
    if out is not None:
        from inercia import plot  # noqa: PLC0415  loads matplotlib

        out.mkdir(parents=True, exist_ok=True)
        print(plot.save(lambda ax: plot.orders(ax, {method: result}), out / "order.png"))
