"""How far the iterates are from the flow, and how fast that gap closes as the step is refined.

gap(t)     |theta_discrete(t) - theta_flow(t)|
order      the slope p of log(gap) against log(dt):   gap = C dt^p
energy     E = |theta'|^2 / 2 + a (1-b) f   along a momentum path, theta' = -a m;   E' = -(1-b) |theta'|^2
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from inercia import check, tree
from inercia.integrate import integrate
from inercia.iterate import iterate
from inercia.method import Family, Method, Params
from inercia.path import Path
from inercia.smooth import kinks

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
    travelled = _travelled(flow)
    relative = np.divide(distance, travelled, out=np.zeros_like(distance), where=travelled > 0)
    return Gap(path.times, distance, relative, path.loss - flow.loss)


class Order(NamedTuple):
    """A measured order of agreement."""

    dts: np.ndarray  # (n,), decreasing
    gaps: np.ndarray  # (n,), the largest distance over common times
    slope: float  # of log(gap) against log(dt), least squares; nan where there is none
    interval: tuple[float, float]  # 95 % confidence, Student t
    verdict: str  # one sentence
    doubt: str | None  # why there is no certificate: a key of DOUBTS; None when there is one


#: Why an order cannot be certified.
DOUBTS = {
    "not smooth": "no order: the update is not smooth ({}), so that it has no flow",
    "unstable": "no order: the iterates diverge at dt = {:g}; take smaller steps",
    "exact": "no order: iterates and flow agree to rounding",
    "rounding": "no order: at dt = {:g} the gap is at the floor of rounding; take larger steps",
    "solver": "no order: the flow is known only to {:.0e}, too little for the gap at dt = {:g}; tighten rtol and atol",
    "coarse": "no order: at dt = {:g} the iterates have left the flow; take smaller steps",
    "cold start": "slope {:.2f}, spoilt by a cold start: the flow begins with a layer that no step resolves",
    "too few": "slope {:.2f} from {} steps proves nothing; take at least 4",
    "unclear": "no clear order: slope {:.2f} (95 % within {:.2f}); refine dt further",
}


def order(
    family: Family,
    loss: Any,
    params: Params,
    time: float,
    dts: Sequence[float],
    *,
    flow: Any = None,
    flows: Any = None,
    state: Any = None,
    after: float = 0.0,
    solver: str = "DOP853",
    rtol: float = 1e-11,
    atol: float = 1e-13,
) -> Order:
    """Measure the order at which a family of methods approaches its flow, and certify it or say why not.

    Args:
        family: dt -> method, for example `lambda dt: momentum(0.1, dt=dt)`. Every member makes time/dt updates.
        loss: params -> scalar.
        params: common start of the iterates.
        time: length of the comparison, in iterations; a multiple of every dt.
        dts: at least three steps, the largest a multiple of the others; four or more for a certificate.
        flow: a method or bare flow to compare all members with; by default the flow of the family's own first.
        flows: dt -> (flow, params, state): a flow and start for each member, in the member's own time; for flows that
            depend on dt, such as `modified`, `interpolated` or `limit` give.
        state: the iterates' initial state, or dt -> state; by default that of the member's `init`.
        after: share of the time, in [0, 1), left out at the start; for flows that hold after a transient only, such as
            `limit` and the memoryless `modified` ones, which start elsewhere than the iterates.
        solver: as in `integrate`.
        rtol: as in `integrate`.
        atol: as in `integrate`.

    Returns:
        Order: slope with its confidence interval, a verdict, and the doubt where there is no certificate.

    Raises:
        ValueError: too few dts, or dts that do not divide the time or each other.
        IntegrationError: the flow could not be solved.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> family = lambda dt: inercia.sgd(0.5, dt=dt)
        >>> result = inercia.order(family, lambda x: x**2 / 2, jnp.array(1.0), 4.0, [1 / 8, 1 / 16, 1 / 32, 1 / 64])
        >>> round(result.slope, 1), result.doubt
        (1.0, None)
    """
    steps_of = np.sort(check.increasing("dts", np.sort(np.asarray(dts, dtype=np.float64))))[::-1]
    check.positive("dts", steps_of)
    check.positive("time", time)
    check.fraction("after", after)
    if len(steps_of) < 3:
        raise ValueError(f"dts must be at least three, to give a slope, but there are {len(steps_of)}.")
    coarse = _quotient("time", time, "dt", steps_of[0])
    points = max(n for n in range(1, min(_POINTS, coarse) + 1) if coarse % n == 0)
    counts = [coarse * _quotient("the largest dt", steps_of[0], "dt", dt) for dt in steps_of]

    rough = kinks(family(float(steps_of[0])), tree.at_least_float(params))
    if rough:
        return _without_slope(steps_of, np.full(len(steps_of), np.nan), "not smooth", ", ".join(rough))

    def solve(dt: float, begun: Path, rtol: float, atol: float) -> Path:
        own, theta, s = (flow, params, begun.state) if flows is None else flows(dt)
        own = family(dt) if own is None else own
        if state is None and own is flow and isinstance(own, optax.GradientTransformation):
            s = None  # another method starts from a state of its own
        return integrate(own, loss, theta, begun.times, solver=solver, rtol=rtol, atol=atol, state=s)

    gaps, floors, errors, away, reference = [], [], [], [], None
    for dt, count in zip(steps_of, counts, strict=True):
        begun = state(float(dt)) if callable(state) else state
        path = iterate(family(float(dt)), loss, params, count, every=count // points, state=begun)
        if path.diverged is not None:
            return _without_slope(steps_of, np.array(gaps), "unstable", dt)
        if reference is None or flows is not None:
            start = Path(path.times, params, tree.row(path.state, 0), path.loss)
            reference = solve(float(dt), start, rtol, atol)
            loose = solve(float(dt), start, 10 * rtol, 10 * atol)
            error = tree.distance(reference.params, loose.params).max() / 3
        gaps.append(tree.distance(path.params, reference.params)[round(after * points) :].max())
        away.append(_travelled(reference).max())
        errors.append(error)
        size = max(np.abs(leaf).max(initial=0) for leaf in jax.tree.leaves(path.params))
        floors.append(8 * np.finfo(float).eps * size * np.sqrt(count))
    own = family(float(steps_of[-1])) if flow is None and flows is None else None
    layer = partial(_layer, own, loss, params, time, state)
    return _judge(steps_of, *(np.array(x) for x in (gaps, floors, errors, away)), layer)


def _without_slope(dts: np.ndarray, gaps: np.ndarray, kind: str, *values: Any) -> Order:
    nan = float("nan")
    return Order(dts, gaps, nan, (nan, nan), *_doubt(kind, *values))


def _doubt(kind: str, *values: Any) -> tuple[str, str]:
    return DOUBTS[kind].format(*values) + ".", kind


def _judge(
    dts: np.ndarray, gaps: np.ndarray, floors: np.ndarray, errors: np.ndarray, away: np.ndarray, layer: Any
) -> Order:
    if (gaps <= floors).all():
        return _without_slope(dts, gaps, "exact")
    if (gaps <= floors).any():
        return _without_slope(dts, gaps, "rounding", dts[np.argmax(gaps <= floors)])
    from scipy.stats import linregress, t  # noqa: PLC0415  loaded when used

    fit: Any = linregress(np.log(dts), np.log(gaps))
    slope, half = float(fit.slope), float(t.ppf(0.975, len(dts) - 2) * fit.stderr)
    measured = (dts, gaps, slope, (slope - half, slope + half))
    unsure = errors > 0.05 * gaps
    if unsure.any():
        k = int(np.argmax(unsure))
        return Order(*measured, *_doubt("solver", errors[k], dts[k]))
    local = np.diff(np.log(gaps)) / np.diff(np.log(dts))
    nearest = round(2 * slope) / 2
    # Certain: the slope is near a half-integer, the finest halvings agree with it, and it is not zero.
    settled = nearest > 0 and abs(slope - nearest) <= 0.1 and abs(local[-1] - nearest) <= 0.15 and half <= 0.3
    if slope < 0.9 and layer() > _LAYER:
        return Order(*measured, *_doubt("cold start", slope))
    if len(dts) < 4:
        return Order(*measured, *_doubt("too few", slope, len(dts)))
    if not settled and gaps[0] > 0.5 * away[0]:
        return Order(*measured, *_doubt("coarse", dts[0]))
    if not settled:
        return Order(*measured, *_doubt("unclear", slope, half))
    return Order(*measured, f"order {nearest:g}: the gap shrinks as dt^{slope:.2f} (95 % within {half:.2f}).", None)


#: Speed of the flow at its start over its speed later, above which it begins with a layer.
_LAYER = 20.0


def _layer(method: Any, loss: Any, params: Params, time: float, state: Any) -> float:
    """Return the speed of the method's flow at its start over that after a tenth of an iteration of it."""
    if not isinstance(method, Method):
        return 1.0
    begun = state(method.dt) if callable(state) else state
    first = iterate(method, loss, params, 1, state=begun)
    near = max(min(0.1, time / 10), 1e-6)
    begun = tree.row(first.state, 0)
    times = [first.times[0], first.times[0] + near * 1e-4, first.times[0] + near]
    x = integrate(method, loss, params, times, state=begun, rtol=1e-8, atol=1e-12)
    early, late = (
        float(tree.distance(x[i : i + 1].params, x[i + 1 : i + 2].params)[0]) / (times[i + 1] - times[i])
        for i in (0, 1)
    )
    return early / late if late > 0 else 1.0


def _travelled(path: Path) -> np.ndarray:
    """Return how far the params are from their start, per time."""
    return tree.distance(path.params, jax.tree.map(lambda p: np.broadcast_to(p[:1], p.shape), path.params))


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
