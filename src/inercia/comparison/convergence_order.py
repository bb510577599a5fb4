"""How fast the gap closes as the step is refined: the order of agreement, certified or doubted.

    gap = C dt^p:   the order p is the slope of log(gap) against log(dt)

A slope alone proves nothing. `order` looks for what would spoil it, one reason after the other, and certifies only
what is left: the update must be smooth, every step stable, the gap above rounding and above the solver's own error,
the start without a layer, the steps enough, and the slope settled at a positive half-integer.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import numpy as np
import optax

from inercia.comparison.common_times import Grid, grid_of
from inercia.comparison.gap_and_energy import displacement
from inercia.comparison.slope_fit import FLAT, fit_slope, logarithmic, rest
from inercia.core import check, tree
from inercia.core.method import Family, Method, Params
from inercia.core.path import Path
from inercia.core.values import ByValue
from inercia.edge_of_stability.eigenpairs import CurvatureError
from inercia.edge_of_stability.preconditioning import rule
from inercia.edge_of_stability.sharpness_observer import sharpness
from inercia.flows.integration import integrate, integrate_params
from inercia.flows.iteration import iterate, iterate_refined
from inercia.flows.sliding_modes import DIRECTION, sliding
from inercia.flows.smoothness import jumps, nonsmooth_operations

#: Speed of the flow at its start over its speed later, above which it begins with a layer.
_LAYER = 20.0
#: Sharpness over its bound above which iterates that do not diverge are at the edge of stability.
_EDGE = 0.98

#: What is added where a family of optax transformations is compared with the flow through its own first iterates.
_BARE = (
    "optax's transformations bring neither flow nor dt: make methods of them, "
    "inercia.Method(init, update, flow, dt), or give flows="
)


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
    "crossings": "no clear order: slope {:.2f}, spoilt where the iterates cross a corner of the update ({}); refine dt "
    "further, or compare before or after it",
    "unstable": "no order: the iterates diverge at dt = {:g}; take smaller steps",
    "exact": "no order: iterates and flow agree to rounding",
    "rounding": "no order: at dt = {:g} the gap is at the floor of rounding; take larger steps",
    "solver": "no order: the flow is accurate to {:.0e}, too little for the gap at dt = {:g}; tighten rtol and atol",
    "edge of stability": "no order: edge of stability at dt = {:g}, where the sharpness stands at {:.2f} of its bound "
    "and no plain flow follows the iterates; take smaller steps, or the central flow",
    "coarse": "no order: at dt = {:g} the iterates have left the flow; take smaller steps",
    "cold start": "slope {:.2f}, spoilt by a cold start: the flow begins with a layer that no step resolves",
    "another flow": "no order: the gap tends to {:.2g}, not to 0, as dt shrinks; the flow is another family's, or the "
    "family does not refine by dt",
    "logarithm": "slope {:.2f}: the gap closes as dt log(1/dt), as where a sum that starts at zero reaches what "
    "divides by its size, so that update k is off by a part of order 1/k; correct the sum for its start (parts.ema), "
    "or start it warm (state=)",
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
            depend on dt, such as `modified` or `limit` give; or a flow alone, such as `interpolated`.
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
    if isinstance(family, optax.GradientTransformation) or not callable(family):
        raise TypeError("family must be a function dt -> method, for example lambda dt: inercia.sgd(0.1, dt=dt).")
    check.some_params(params)
    grid = grid_of(time, dts)
    check.in_unit_interval("after", after)
    members = [family(float(dt)) for dt in grid.dts]
    rough = jumps(members[0], tree.at_least_float(params))
    if rough:
        return _without_slope(grid.dts, np.full(len(grid.dts), np.nan), "not smooth", ", ".join(rough))

    def begins(dt: float) -> Any:
        return state(float(dt)) if callable(state) else state

    def solve(dt: float, times: np.ndarray, begin: Any, rtol: float, atol: float) -> Params:
        given: Any = flow if flows is None else flows(float(dt))
        triple = isinstance(given, tuple) and not isinstance(given, optax.GradientTransformation)
        own, theta, s = cast(tuple, given) if triple else (given, params, begin)
        own = family(float(dt)) if own is None else own
        if state is None and own is flow and isinstance(own, optax.GradientTransformation):
            s = None  # another method starts from a state of its own
        return integrate_params(own, loss, theta, times, solver=solver, rtol=rtol, atol=atol, state=s)

    paths = _iterates(family, members, loss, params, grid, begins)
    measured, reference = _Measured([], [], [], []), None
    for dt, count, path in zip(grid.dts, grid.counts, paths, strict=True):
        if path.diverged is not None:
            return _without_slope(grid.dts, np.array(measured.gaps), "unstable", dt)
        if reference is None or flows is not None:
            begin = tree.row(path.state, 0)
            reference = solve(dt, path.times, begin, rtol, atol)
            loose = solve(dt, path.times, begin, 10 * rtol, 10 * atol)
            error = tree.distance(reference, loose).max() / 3
        measured.gaps.append(tree.distance(path.params, reference)[round(after * grid.points) :].max())
        measured.displacements.append(displacement(reference).max())
        measured.errors.append(error)
        size = max(np.abs(leaf).max(initial=0) for leaf in jax.tree.leaves(path.params))
        measured.floors.append(8 * np.finfo(float).eps * size * np.sqrt(count))
    own = members[-1] if flow is None and flows is None else None
    layer = partial(_layer, own, loss, params, time, begins)
    reached = partial(_sharpness, members[0], loss, params, grid, begins(grid.dts[0]))
    crossed = partial(_crossed, family, loss, params, time, grid.dts[0], state)
    judged = _judge(grid.dts, _Measured(*map(np.array, measured)), layer, reached, crossed)
    if own is None or isinstance(own, Method) or judged.doubt != "another flow":
        return judged
    return judged._replace(verdict=f"{judged.verdict[:-1]}; {_BARE}.")


class _Measured(NamedTuple):
    """What was measured of each member; (n,) each."""

    gaps: Any
    floors: Any  # what rounding makes of a gap
    errors: Any  # of the flow's solution
    displacements: Any  # of the flow


def _iterates(
    family: Family, members: list, loss: Any, params: Params, grid: Grid, begins: Callable[[float], Any]
) -> Iterator[Path]:
    """Yield the iterates of each member; in one program for all of them, where the family can be traced in dt."""
    together: Any = ByValue(family)  # equal to a family that is made again: it compiles nothing
    for method, dt, count in zip(members, grid.dts, grid.counts, strict=True):
        every, begin = count // grid.points, begins(dt)
        if together is not None:
            try:
                yield iterate_refined(together, float(dt), loss, params, count, every=every, state=begin)
                continue
            except (TypeError, ValueError):  # a family that wants dt as a number
                together = None
        yield iterate(method, loss, params, count, every=every, state=begin)


def _without_slope(dts: np.ndarray, gaps: np.ndarray, kind: str, *values: Any) -> Order:
    nan = float("nan")
    return Order(dts, gaps, nan, (nan, nan), *_doubt(kind, *values))


def _doubt(kind: str, *values: Any) -> tuple[str, str]:
    return DOUBTS[kind].format(*values) + ".", kind


def _judge(dts: np.ndarray, measured: _Measured, layer: Callable, reached: Callable, crossed: Callable) -> Order:
    gaps, floors, errors, displacements = measured
    if (gaps <= floors).all():
        return _without_slope(dts, gaps, "exact")
    if (gaps <= floors).any():
        return _without_slope(dts, gaps, "rounding", dts[np.argmax(gaps <= floors)])
    fit = fit_slope(dts, gaps)
    slope, half, local, settled = fit.slope, fit.half, fit.local, fit.settled
    found = (dts, gaps, slope, fit.interval)
    unsure = errors > 0.05 * gaps
    if unsure.any():
        k = int(np.argmax(unsure))
        return Order(*found, *_doubt("solver", errors[k], dts[k]))
    if not settled and (ratio := reached()) > _EDGE:
        return Order(dts, gaps, float("nan"), (float("nan"), float("nan")), *_doubt("edge of stability", dts[0], ratio))
    if slope < 0.9 and layer() > _LAYER:
        return Order(*found, *_doubt("cold start", slope))
    if len(dts) < 4:
        return Order(*found, *_doubt("too few", slope, len(dts)))
    if not settled and logarithmic(dts, gaps):
        return Order(*found, *_doubt("logarithm", slope))
    left = 0.0 if settled else rest(dts, gaps)
    if local[-1] < FLAT and left > 0.9 * gaps[-1]:  # smaller steps would close nothing
        return Order(*found, *_doubt("another flow", left))
    if not settled and gaps[0] > 0.5 * displacements[0]:
        return Order(*found, *_doubt("coarse", dts[0]))
    if left > 0.1 * gaps[-1]:
        return Order(*found, *_doubt("another flow", left))
    if not settled and (corners := crossed()):
        return Order(*found, *_doubt("crossings", slope, corners))
    if not settled:
        return Order(*found, *_doubt("unclear", slope, half))
    return Order(*found, f"order {fit.nearest:g}: the gap shrinks as dt^{slope:.2f} (95 % within {half:.2f}).", None)


def _layer(method: Any, loss: Any, params: Params, time: float, begins: Callable[[float], Any]) -> float:
    """Return the speed of the method's flow at its start over that after a tenth of an iteration of it."""
    if not isinstance(method, Method):
        return 1.0
    first = iterate(method, loss, params, 1, state=begins(method.dt))
    near = max(min(0.1, time / 10), 1e-6)
    times = [first.times[0], first.times[0] + near * 1e-4, first.times[0] + near]
    x = integrate(method, loss, params, times, state=tree.row(first.state, 0), rtol=1e-8, atol=1e-12)
    early, late = (
        float(tree.distance(x[i : i + 1].params, x[i + 1 : i + 2].params)[0]) / (times[i + 1] - times[i])
        for i in (0, 1)
    )
    return early / late if late > 0 else 1.0


def _sharpness(method: Any, loss: Any, params: Params, grid: Grid, begin: Any) -> float:
    """Return the largest eigenvalue of the preconditioned Hessian along the coarsest member, over its bound."""
    try:
        bound = rule(method).bound
        watch = {"sharpness": sharpness(method, loss)}
        every = grid.counts[0] // grid.points
        seen = iterate(method, loss, params, grid.counts[0], every=every, state=begin, observe=watch)
    except (ValueError, TypeError, CurvatureError):  # no preconditioner, or a Hessian that does not exist
        return 0.0
    return float(seen.observed["sharpness"].max() / bound)


def _crossed(family: Family, loss: Any, params: Params, time: float, dt: float, state: Any) -> str:
    """Return the operations of the update at whose corners the iterates change their branch."""
    if not nonsmooth_operations(family(float(dt)), tree.at_least_float(params)):
        return ""
    counted = sliding(family, loss, params, time, float(dt), state=state).changes
    return ", ".join(name for name, changes in counted.items() if name != DIRECTION and changes.max() > 0)
