"""Whether a central flow is that of the iterates: certified at order 1/2 in the time scales' ratio, or doubted.

A central flow is no limit of small steps: at the edge of stability the steps stay large. What becomes small is the
drift against the oscillation. On a family of losses f_eps, whose curvature is driven up at a rate eps while the
oscillation moves at rate 1, the averaged iterates follow the central flow over times of order 1/eps with

    gap = C eps^{1/2}       from a start within about eps^{1/2} of the edge, where the oscillation lives already

since the curvature breathes about its bound by that much. The oracle of the idea is

    f_eps(x, y) = (y + zeta x) x^2 / 2 - eps (x + y),    a y = c at the edge,    x^2 = 2 eps on average

From far below the edge there is no such order. Iterates that never get there do not oscillate, and the central flow is
the stable flow. Those that do have lost their oscillation on the way: what rounding left of it has to grow again, and
the curvature overshoots by sqrt(2 eps log(amplitude / rounding)) or by all the distance that it started below.

**Methods that divide by second moments.** Squares of gradients are eps here, and the flow's P is to be of size 1 and to
move at the rate eps, as all that is slow. That is a family of methods, with nu = eps nu~ and

    a, e ~ eps^{1/2}       v(0), 1 - b2 ~ eps       edge:  y a / (sqrt nu + e) = c       nu~' = (1-b2)(y^2 x~^2 - nu~)

It has the order 1/2 as well: now P breathes too, damped at the rate (1-b2)/2. A memory b answers b/(1-b) updates late,
and makes the breathing grow at half of that times its squared frequency, c (1-b2) and more, so that together it grows
where c b/(1-b) > 1, for c = (2+2b)/(1-b) that is b > sqrt 5 - 2 = 0.236. Beyond, the oscillation comes in bursts, and
there is an order only over times that are short against 1/(1-b2), from a start of v at its mean. At Adam's cold start,
where v forgets at the rate 1/t, bursts come at once.

Sources: Berthier, arXiv 2609.01034 (the oracle and its rate); second moments: ours.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from inercia.comparison.slope_fit import FLAT, Fit, fit_slope, rest
from inercia.core import check, tree
from inercia.core.linear_form import linear_form
from inercia.core.method import Params
from inercia.core.path import Path
from inercia.edge_of_stability.central_flow import central
from inercia.edge_of_stability.preconditioning import preconditioner
from inercia.flows.iteration import iterate

#: Oscillation over the displacement of the flow, below which there is none; over its largest, below which it is lost.
_STILL, _LOST = 1e-2, 1e-4
#: Updates over which the size of an oscillation is taken.
_WINDOW = 8
#: Relative error of the predicted oscillation that the finest member may have.
_OFF = 1 / 3
#: Power of eps by which the preconditioner may change: corrections go as eps^{1/2}, a family without scale too.
_MOVED = 1 / 4
#: Memory beside second moments beyond which the breathing grows.
_LATE = 5**0.5 - 2


class CentralOrder(NamedTuple):
    """A measured order of agreement with a central flow."""

    epsilons: np.ndarray  # (n,), decreasing
    gaps: np.ndarray  # (n,), the largest distance between averaged iterates and flow
    slope: float  # of log(gap) against log(eps), least squares; nan where there is none
    interval: tuple[float, float]  # 95 % confidence, Student t
    excess: np.ndarray  # (n,), predicted excess of the mean loss over that of the flow, by the measured one; nan: none
    verdict: str  # one sentence
    doubt: str | None  # why there is no certificate: a key of CENTRAL_DOUBTS; None when there is one


#: Why the order of a central flow cannot be certified.
CENTRAL_DOUBTS = {
    "diverged": "no central order: the iterates diverge at eps = {:g}; start nearer to the edge, or take smaller eps",
    "given up": "no central order: the flow is not finite at eps = {:g}",
    "never oscillates": "no central order: at eps = {:g} the iterates never oscillate (their oscillation is {:.0e} of "
    "the displacement), being below the edge of stability, where the central flow is the stable flow; certify that "
    "with order, and modified for order 2, or start within about sqrt(eps) of the edge",
    "far start": "no central order: at eps = {:g} the oscillation falls to {:.0e} of its largest before the edge is "
    "met, so that rounding decides by how much the curvature overshoots; start within about sqrt(eps) of the edge, "
    "with an oscillation of that size",
    "another scale": "no central order: the preconditioner goes as eps^{:.2f}, but must stay; it is made of gradients "
    "of size sqrt(eps), so give eps -> method, learning rate and eps of it in proportion to sqrt(eps), 1 - b2 and "
    "initial_scale to eps",
    "late memory": "no central order: slope {:.2f}; with a memory of {:.2g} beside second moments, above sqrt 5 - 2 = "
    "0.24, the curvature swings about its bound by more and more, and the oscillation comes in bursts; take a smaller "
    "b1, or a smaller 1 - b2 and fewer updates",
    "another flow": "no central order: the gap tends to {:.2g}, not to 0, as eps shrinks; the flow leaves the effect "
    "of the oscillation out, or has another bound",
    "another oscillation": "no central order: the gap shrinks as eps^{:.2f}, but the flow predicts {:.2f} times the "
    "excess of the mean loss that the oscillation makes",
    "too few": "slope {:.2f} from {} values of eps proves nothing; take at least 4",
    "unclear": "no clear central order: slope {:.2f} (95 % within {:.2f}) in eps; take smaller ones",
}


def central_order(
    method: Any,
    losses: Callable[[float], Any],
    starts: Callable[[float], Params],
    lengths: Callable[[float], int],
    epsilons: Sequence[float],
    *,
    flow: Callable[..., Path] = central,
) -> CentralOrder:
    """Measure the order in eps at which averaged iterates approach their central flow; certify it, or say why not.

    Args:
        method: as in `central`, or eps -> method. One that divides by second moments, of gradients of size sqrt(eps),
            needs a learning rate and eps in proportion to sqrt(eps), 1 - b2 and initial_scale to eps.
        losses: eps -> loss, params -> scalar, whose curvature is driven up at a rate in proportion to eps.
        starts: eps -> params, within about sqrt(eps) of the edge, with an oscillation of that size.
        lengths: eps -> number of updates, in proportion to 1/eps.
        epsilons: at least three, positive and decreasing; four or more for a certificate.
        flow: (method, loss, params, steps) -> Path with a point for every update; another flow to be certified.

    Returns:
        CentralOrder: slope with its confidence interval, a verdict, and the doubt where there is no certificate.

    Raises:
        ValueError: fewer than three epsilons, or some that do not decrease or are not positive; fewer than 32 updates.
        CurvatureError: the central flow could not be followed.

    Example:
        >>> import inercia, numpy as np
        >>> from functools import partial
        >>> from inercia.problems.toy_losses import steepening
        >>> far = inercia.central_order(
        ...     inercia.sgd(0.3),
        ...     lambda eps: partial(steepening, eps=np.array(eps)),
        ...     lambda eps: np.array([0.1, 3.0]),  # the edge is at 2 / 0.3
        ...     lambda eps: int(1 / eps),
        ...     [0.02, 0.01, 0.005],
        ...     flow=inercia.iterate,
        ... )
        >>> far.doubt
        'never oscillates'
    """
    eps = _checked(epsilons)
    gaps, excess, scales = np.full(len(eps), np.nan), np.full(len(eps), np.nan), []
    for k, e in enumerate(map(float, eps)):
        steps = check.integer("lengths(eps)", lengths(e), 4 * _WINDOW)
        member, loss, start = _member(method, e), losses(e), starts(e)
        path = iterate(member, loss, start, steps)
        if path.diverged is not None:
            return _without_slope(eps, gaps, excess, "diverged", e)
        scales.append(_scale(member, path))
        if abs(power := _power(eps[: k + 1], scales)) > _MOVED:
            return _without_slope(eps, gaps, excess, "another scale", power)
        own = flow(member, loss, start, steps)
        if not np.isfinite(own.flat()).all():
            return _without_slope(eps, gaps, excess, "given up", e)
        centre, amplitude = _parted(path.flat())
        moved = np.linalg.norm(own.flat() - own.flat()[0], axis=1).max()
        if amplitude[len(amplitude) // 2 :].max() <= _STILL * moved:
            return _without_slope(eps, gaps, excess, "never oscillates", e, amplitude[-1] / moved)
        if amplitude.min() < _LOST * amplitude.max() and _late(member) is None:
            return _without_slope(eps, gaps, excess, "far start", e, amplitude.min() / amplitude.max())
        gaps[k] = np.linalg.norm(centre - own.flat()[1:-1], axis=1).max()
        excess[k] = _excess(path, own)
    found = _judge(eps, gaps, excess)
    if found.doubt not in (None, "too few") and (b := _late(member)) is not None:
        return CentralOrder(*found[:5], *_doubt("late memory", found.slope, b))
    return found


def _member(method: Any, eps: float) -> Any:
    """Return the method at an eps."""
    own = method if isinstance(method, optax.GradientTransformation) or not callable(method) else method(eps)
    check.optimizer(own)
    return own


def _scale(method: Any, path: Path) -> np.ndarray | None:
    """Return the preconditioners of the first and the last update; None where there is none, and the flow says why."""
    found = []
    with jax.enable_x64(True):
        for n in (1, -1):
            state, params = jax.tree.map(jax.numpy.asarray, tree.row((path.state, path.params), n))
            try:
                found.append(tree.vector(tree.float64(preconditioner(method, state, params))))
            except ValueError:
                return None
    return np.concatenate(found)


def _power(eps: np.ndarray, scales: list) -> float:
    """Return the power of eps by which the preconditioner goes, where it changes most."""
    if len(eps) < 2 or scales[0] is None or scales[-1] is None:
        return 0.0
    powers = np.log(scales[-1] / scales[0]) / np.log(eps[-1] / eps[0])
    return float(powers[np.argmax(np.abs(powers))])


def _late(method: Any) -> float | None:
    """Return the memory of a method beside second moments, where it answers so late that the breathing grows."""
    form = linear_form(method)
    if form is None or form.second_moment is None or callable(form.beta) or form.kind == "explicit":
        return None
    return float(form.beta) if form.beta > _LATE else None


def _checked(epsilons: Sequence[float]) -> np.ndarray:
    eps = check.reals("epsilons", epsilons)
    if eps.ndim != 1 or eps.size < 3 or not ((np.diff(eps) < 0).all() and eps[-1] > 0 and np.isfinite(eps[0])):
        raise ValueError(f"epsilons must be at least three positive numbers that decrease, but they are {epsilons}.")
    return eps


def _parted(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the iterates without what alternates, (n - 2, size), and the size of that, its largest in each window."""
    twice = (z[2:] + z[:-2]) / 2
    alternating = np.linalg.norm(twice - z[1:-1], axis=1) / 2
    return (twice + z[1:-1]) / 2, np.array([part.max() for part in np.array_split(alternating, len(z) // _WINDOW)])


def _excess(path: Path, own: Path) -> float:
    """Return the mean loss over the flow's that the oscillation makes, predicted by measured; nan for no prediction."""
    predicted = (own.observed or {}).get("mean_loss")
    if predicted is None:
        return float("nan")
    return float((predicted - own.loss).mean() / (path.loss - own.loss).mean())


def _without_slope(eps: np.ndarray, gaps: np.ndarray, excess: np.ndarray, kind: str, *values: Any) -> CentralOrder:
    nan = float("nan")
    return CentralOrder(eps, gaps, nan, (nan, nan), excess, *_doubt(kind, *values))


def _doubt(kind: str, *values: Any) -> tuple[str, str]:
    return CENTRAL_DOUBTS[kind].format(*values) + ".", kind


def _judge(eps: np.ndarray, gaps: np.ndarray, excess: np.ndarray) -> CentralOrder:
    fit: Fit = fit_slope(eps, gaps)
    found = (eps, gaps, fit.slope, fit.interval, excess)
    if len(eps) < 4:
        return CentralOrder(*found, *_doubt("too few", fit.slope, len(eps)))
    left = 0.0 if fit.settled else rest(eps, gaps)
    if left > 0.1 * gaps[-1] or (fit.local[-1] < FLAT and not fit.settled):
        return CentralOrder(*found, *_doubt("another flow", left or gaps[-1]))
    if not fit.settled:
        return CentralOrder(*found, *_doubt("unclear", fit.slope, fit.half))
    if np.isfinite(excess[-1]) and not abs(np.log(excess[-1])) <= np.log(1 + _OFF):
        return CentralOrder(*found, *_doubt("another oscillation", fit.slope, excess[-1]))
    half = {0.5: "1/2"}.get(fit.nearest, f"{fit.nearest:g}")
    told = f"central flow, order {half} in eps: the gap shrinks as eps^{fit.slope:.2f} (95 % within {fit.half:.2f})."
    return CentralOrder(*found, told, None)
