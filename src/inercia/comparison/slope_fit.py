"""What a sequence of gaps says as the step shrinks: a power, a constant that stays, or a power with a logarithm.

gap = c h^p          the slope p of log(gap) against log(h), least squares, 95 % by Student's t
gap = c0 + c h^p     c0 is what no step removes
gap = h (c0 + c log(1/h))    order 1 but for a logarithm: an error of relative size 1/k in update k, summed
"""

from typing import NamedTuple

import numpy as np

#: Slope below which a halving closes nothing, and relative error at which a form fits the gaps.
FLAT, FITS = 0.1, 0.02


class Fit(NamedTuple):
    """A slope of log(gap) against log(step)."""

    slope: float
    half: float  # of the 95 % interval's width
    local: np.ndarray  # (n-1,), between neighbours

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        return self.slope - self.half, self.slope + self.half

    @property
    def nearest(self) -> float:
        """The nearest half-integer."""
        return round(2 * self.slope) / 2

    @property
    def settled(self) -> bool:
        """Whether the slope is near a positive half-integer, and the finest halvings agree with it."""
        near = abs(self.slope - self.nearest) <= 0.1 and abs(self.local[-1] - self.nearest) <= 0.15
        return bool(self.nearest > 0 and near and self.half <= 0.3)


def fit_slope(steps: np.ndarray, gaps: np.ndarray) -> Fit:
    """Fit a power to positive gaps, (n,) with n > 2; steps decrease."""
    from scipy.special import stdtrit  # noqa: PLC0415  loaded when used; scipy.stats takes a third of a second

    x, y = np.log(steps), np.log(gaps)
    local = np.diff(y) / np.diff(x)
    x, y = x - x.mean(), y - y.mean()
    slope, free = float(x @ y / (x @ x)), len(x) - 2
    left = np.sum((y - slope * x) ** 2)
    return Fit(slope, float(stdtrit(free, 0.975) * np.sqrt(left / free / (x @ x))), local)


def rest(steps: np.ndarray, gaps: np.ndarray) -> float:
    """Return what the gap tends to as the step -> 0, by the best fit of c0 + c h^p; 0 where none of them fits."""
    if (np.diff(np.log(gaps)) / np.diff(np.log(steps))).max() < FLAT:
        return float(gaps[-1])
    error, value = min(_fitted(steps, gaps, steps**0, steps**p) for p in (0.5, 1.0, 2.0, 3.0, 4.0))
    return value if error < FITS else 0.0


def logarithmic(steps: np.ndarray, gaps: np.ndarray) -> bool:
    """Whether the gaps are h (c0 + c log(1/h)), the second part of them not small."""
    error, value = _fitted(steps, gaps, steps * np.log(1 / steps), steps)
    return bool(error < FITS and value * np.log(1 / steps[-1]) * steps[-1] > 0.3 * gaps[-1])


def _fitted(steps: np.ndarray, gaps: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return the largest relative error of the best sum of both, and the factor of the first."""
    basis = np.stack([first, second], axis=1) / gaps[:, None]
    both = np.linalg.lstsq(basis, steps**0, rcond=None)[0]
    return float(np.abs(basis @ both - 1).max()), float(both[0])
