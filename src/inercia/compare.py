"""How far the iterates are from the flow, and how fast that gap closes as the step is refined.

gap(t)     |theta_discrete(t) - theta_flow(t)|
order      the slope p of log(gap) against log(dt):   gap = C dt^p
energy     E = |theta'|^2 / 2 + a (1-b) f   along a momentum path, theta' = -a m;   E' = -(1-b) |theta'|^2
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from inercia import check, tree
from inercia.integrate import integrate
from inercia.iterate import iterate
from inercia.method import Family, Params, State
from inercia.path import Path

#: Points of the time axis at which a family's members are compared.
_POINTS = 16


class Gap(NamedTuple):
    """The difference of two paths, per time; NumPy float64."""

    times: np.ndarray  # (n,), in iterations
    distance: np.ndarray  # (n,), Euclidean over all params
    relative: np.ndarray  # (n,), distance over the way that the flow is from its start; 0 at the start
    loss: np.ndarray  # (n,), loss of the iterates minus loss of the flow


def gap(path: Path, flow: Path) -> Gap:
    """Measure how far apart two paths are at equal times.

    Args:
        path: usually of `iterate`.
        flow: usually of `integrate`, at the same times.

    Raises:
        ValueError: times that differ.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> loss, x0 = lambda x: x**2 / 2, jnp.array(1.0)
        >>> path = inercia.iterate(inercia.sgd(0.5), loss, x0, 2)
        >>> flow = inercia.integrate(inercia.sgd(0.5), loss, x0, path.times)
        >>> inercia.gap(path, flow).distance.round(3).tolist()
        [0.0, 0.107, 0.118]
    """
    if len(path) != len(flow) or not np.allclose(path.times, flow.times, rtol=0, atol=1e-9):
        raise ValueError(
            f"both paths must have the same times, but they have {_span(path)} and {_span(flow)}: "
            "integrate at path.times."
        )
    distance = tree.distance(path.params, flow.params)
    travelled = tree.distance(flow.params, jax.tree.map(lambda p: np.broadcast_to(p[:1], p.shape), flow.params))
    relative = np.divide(distance, travelled, out=np.zeros_like(distance), where=travelled > 0)
    return Gap(path.times, distance, relative, path.loss - flow.loss)


class Order(NamedTuple):
    """A measured order of agreement."""

    dts: np.ndarray  # (n,), decreasing
    gaps: np.ndarray  # (n,), the largest distance over common times
    slope: float  # of log(gap) against log(dt), least squares
    interval: tuple[float, float]  # 95 % confidence, Student t
    verdict: str  # one sentence


def order(
    family: Family,
    loss: Any,
    params: Params,
    time: float,
    dts: Sequence[float],
    *,
    flow: Any = None,
    state: State | None = None,
    solver: str = "DOP853",
    rtol: float = 1e-11,
    atol: float = 1e-13,
) -> Order:
    """Measure the order at which a family of methods approaches its flow.

    Args:
        family: dt -> method, for example `lambda dt: momentum(0.1, dt=dt)`.
        loss: params -> scalar.
        params: common start.
        time: length of the comparison, in iterations; a multiple of every dt.
        dts: at least three steps, the largest a multiple of the others.
        flow: what to compare with: a method or bare flow; by default `family(dts[0])`.
        state: of the flow, where it is bare.
        solver: as in `integrate`.
        rtol: as in `integrate`.
        atol: as in `integrate`.

    Returns:
        Order: slope with its confidence interval and a verdict.

    Raises:
        ValueError: too few dts, or dts that do not divide the time or each other.
        IntegrationError: the flow could not be solved.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> family = lambda dt: inercia.sgd(0.5, dt=dt)
        >>> result = inercia.order(family, lambda x: x**2 / 2, jnp.array(1.0), 4.0, [1 / 8, 1 / 16, 1 / 32])
        >>> round(result.slope, 1)
        1.0
    """
    steps_of = np.sort(check.increasing("dts", np.sort(np.asarray(dts, dtype=np.float64))))[::-1]
    check.positive("dts", steps_of)
    check.positive("time", time)
    if len(steps_of) < 3:
        raise ValueError(
            f"dts must be at least three, to give a slope with an interval, but there are {len(steps_of)}."
        )
    coarse = _quotient("time", time, "dt", steps_of[0])
    points = max(n for n in range(1, min(_POINTS, coarse) + 1) if coarse % n == 0)
    times = np.linspace(0.0, time, points + 1)

    reference = integrate(
        family(float(steps_of[0])) if flow is None else flow,
        loss, params, times, solver=solver, rtol=rtol, atol=atol, state=state,
    )  # fmt: skip
    gaps, unstable = [], []
    for dt in steps_of:
        steps = coarse * _quotient("the largest dt", steps_of[0], "dt", dt)
        path = iterate(family(float(dt)), loss, params, steps, every=steps // points)
        gaps.append(tree.distance(path.params, reference.params).max())
        if path.diverged is not None:
            unstable.append(float(dt))
    return _judge(steps_of, np.array(gaps), unstable)


def _judge(dts: np.ndarray, gaps: np.ndarray, unstable: list[float]) -> Order:
    nothing = (float("nan"), float("nan"))
    if unstable:
        return Order(dts, gaps, float("nan"), nothing, f"no order: the iterates diverge at dt = {unstable[0]:g}.")
    if not (gaps > 0).all():
        return Order(dts, gaps, float("nan"), nothing, "no order: the gap is exactly zero.")
    from scipy.stats import linregress, t  # noqa: PLC0415  loaded when used

    fit: Any = linregress(np.log(dts), np.log(gaps))
    half = float(t.ppf(0.975, len(dts) - 2) * fit.stderr)
    slope = float(fit.slope)
    nearest = round(2 * slope) / 2
    if abs(slope - nearest) <= 0.1 and half <= 0.25:
        verdict = f"order {nearest:g}: the gap shrinks as dt^{slope:.2f} (95 % within {half:.2f})."
    else:
        verdict = f"no clear order: slope {slope:.2f} (95 % within {half:.2f}); refine dt further."
    return Order(dts, gaps, slope, (slope - half, slope + half), verdict)


def energy(path: Path, learning_rate: Any, beta: Any = 0.9) -> np.ndarray:
    """Compute E = |theta'|^2 / 2 + a (1-b) f along a path of `momentum`, discrete or continuous.

    Args:
        path: with a state that holds m.
        learning_rate: a, the constant that the path was made with.
        beta: b, likewise.

    Returns:
        (n,) float64, in squared parameter units per squared iteration; along the flow it never grows.

    Raises:
        TypeError: a path without m.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method = inercia.momentum(0.5, 0.75)
        >>> flow = inercia.integrate(method, lambda x: x**2 / 2, jnp.array(1.0), [0.0, 1.0, 2.0])
        >>> bool((jnp.diff(inercia.energy(flow, 0.5, 0.75)) < 0).all())
        True
    """
    check.positive("learning_rate", learning_rate)
    check.fraction("beta", beta)
    if not hasattr(path.state, "m"):
        raise TypeError(f"path must be one of momentum, with m in its state, but it has {type(path.state).__name__}.")
    speed = learning_rate * tree.distance(path.state.m, jax.tree.map(np.zeros_like, path.state.m))
    return 0.5 * speed**2 + learning_rate * (1 - beta) * path.loss


def _quotient(name: str, value: float, by: str, divisor: float) -> int:
    n = round(value / divisor)
    if n < 1 or abs(n * divisor - value) > 1e-9 * value:
        raise ValueError(f"{name} must be a multiple of {by}, but {name} = {value:g} and {by} = {divisor:g}.")
    return n


def _span(path: Path) -> str:
    return f"{len(path)} times from {path.times[0]:g} to {path.times[-1]:g}"
