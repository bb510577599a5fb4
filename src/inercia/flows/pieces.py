"""The intervals of time on which a flow is smooth.

A schedule that jumps at b makes a flow with two values there. A solver that stops at b must read the one before, and
one that starts there the one after: on the piece [b_i, b_(i+1)) the schedule is read at min(max(t, b_i), b_(i+1)-),
where b- is the number before b.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check
from inercia.core.method import Method
from inercia.flows.breakpoints import changes
from inercia.flows.vector_field import Field, with_clock


class Piece(NamedTuple):
    """An interval of time on which a flow is smooth, and the first and last time at which it is read there."""

    start: float
    end: float
    first: float
    last: float


def pieces(start: float, end: float, changes: Sequence[tuple[float, float]]) -> list[Piece]:
    """Cut the time from start to end, whichever is larger, where a schedule changes.

    Args:
        start: first time.
        end: last time.
        changes: pairs (last time before, first time after).

    Example:
        >>> [p[:2] for p in pieces(4.0, 0.0, [(np.nextafter(1.0, 0), 1.0)])]
        [(4.0, 1.0), (1.0, 0.0)]
    """
    low, high = sorted((start, end))
    near = _rounding(low, high)
    cuts, first, last = [], -np.inf, np.inf
    for before, after in _clusters(changes, near):
        if _inside((before, after), low, high):
            cuts.append((before, after))
        elif low - near <= before <= low + near:
            first = after if low != 0 else first  # a fresh state's averages have their limits at 0: 0 is read there
        elif high - near <= after <= high + near:
            last = before
    bounds = [low, *(after for _, after in cuts), high]
    firsts = [first, *(after for _, after in cuts)]
    lasts = [*(before for before, _ in cuts), last]
    found = [Piece(*four) for four in zip(bounds[:-1], bounds[1:], firsts, lasts, strict=True)]
    return found if start < end else [Piece(p.end, p.start, p.first, p.last) for p in reversed(found)]


def _rounding(start: float, end: float) -> float:
    return 64 * float(np.spacing(max(abs(start), abs(end))))


def _inside(change: tuple[float, float], start: float, end: float) -> bool:
    low, high, near = min(start, end), max(start, end), _rounding(start, end)
    return low + near < change[0] and change[1] < high - near


def _clusters(changes: Sequence[tuple[float, float]], near: float) -> Iterator[tuple[float, float]]:
    """Join changes that lie within rounding: sign(b - t) is 1 before b, 0 at b and -1 after."""
    joined: list[tuple[float, float]] = []
    for before, after in sorted(changes):
        if joined and before - joined[-1][1] <= near:
            joined[-1] = (joined[-1][0], max(after, joined[-1][1]))
        else:
            joined.append((before, after))
    yield from joined


def pieces_of(field: Field, method: Any, start: float, end: float, breakpoints: Any) -> list[Piece]:
    """Cut the time from start to end where the method's schedules, or a bare flow, change, and at `breakpoints`.

    Raises:
        ValueError: breakpoints that are not finite, a schedule that cannot be read at a float time.
    """
    times = np.atleast_1d(check.reals("breakpoints", breakpoints if np.size(breakpoints) else np.zeros(0))).ravel()
    check.finite("breakpoints", times)
    found = [(float(np.nextafter(b, -np.inf)), float(b)) for b in times]
    flow, _, clocks = field.equation
    if isinstance(method, Method):
        for schedule in schedules(method).values():
            found += changes(schedule, start, end)
    elif any(clocks):
        looks_ahead = getattr(flow, "ahead", list)
        once = getattr(flow, "one_update", flow)
        seen = changes(_OfTime(once, clocks), start, end, field.params, field.params, field.state)
        found += looks_ahead([cut for cut in seen if _inside(cut, start, end)])
    return pieces(start, end, found)


def schedules(method: Any) -> dict[str, Callable]:
    """Return a method's hyperparameters that are schedules, by name.

    Raises:
        ValueError: one that cannot be read at a float time.
    """
    hyper = getattr(method, "hyper", {})
    found = {name: v for name, v in hyper.items() if callable(v) and not name.endswith(("mask", "labels"))}
    parts = [leaf for leaf in jax.tree.leaves(hyper, is_leaf=_is_method) if _is_method(leaf)]
    found |= {f"{part.name}[{i}].{name}": s for i, part in enumerate(parts) for name, s in schedules(part).items()}
    for name, schedule in found.items():
        try:
            jax.eval_shape(schedule, jax.ShapeDtypeStruct((), jnp.float64))
        except Exception as error:
            raise ValueError(
                f"in a flow a schedule is read at a float time, which {name} does not take ({type(error).__name__}): "
                "index a table with jnp.asarray(step, int), and compute with jax.numpy."
            ) from error
    return found


def _is_method(value: Any) -> bool:
    return isinstance(value, Method)


class _OfTime(tuple):
    """A flow and its clocks, as a function of the time that they show; equal for equal flows."""

    __slots__ = ()

    def __new__(cls, *parts: Any) -> "_OfTime":
        return super().__new__(cls, parts)

    def __call__(self, t: Any, grads: Any, params: Any, state: Any) -> Any:
        flow, clocks = self
        return flow(grads, with_clock(state, clocks, lambda _: t), params)
