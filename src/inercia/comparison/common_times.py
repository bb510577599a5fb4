"""The steps that an order is measured with, and the times that all members of a family have in common."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from inercia.core import check

#: Points of the time axis at which a family's members are compared.
_POINTS = 16


class Grid(NamedTuple):
    """The steps that are compared, and the common times."""

    dts: np.ndarray  # (n,), decreasing
    counts: list[int]  # (n,), updates of each member
    points: int  # common times after the start


def grid_of(time: float, dts: Sequence[float]) -> Grid:
    """Return the grid of at least three steps, each of which divides the time and the largest of them."""
    steps = check.increasing("dts", np.sort(np.atleast_1d(check.reals("dts", dts))))[::-1]
    check.positive("dts", steps)
    check.positive("time", check.number("time", time))
    if len(steps) < 3:
        raise ValueError(f"dts must be at least three, to give a slope, but there are {len(steps)}.")
    coarse = _quotient("time", time, "dt", steps[0])
    points = max(n for n in range(1, min(_POINTS, coarse) + 1) if coarse % n == 0)
    return Grid(steps, [coarse * _quotient("the largest dt", steps[0], "dt", dt) for dt in steps], points)


def _quotient(name: str, value: float, by: str, divisor: float) -> int:
    n = round(value / divisor)
    if n < 1 or abs(n * divisor - value) > 1e-9 * value:
        raise ValueError(f"{name} must be a multiple of {by}, but {name} = {value:g} and {by} = {divisor:g}.")
    return n
