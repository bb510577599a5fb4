"""Steps of SciPy's solvers through the pieces of a flow: outputs, events, and an early word on stiffness.

`solve_ivp` runs one solver over one smooth interval. Here a solver is stepped by hand, as SciPy's documentation of
`OdeSolver` describes, so that a flow is restarted where a schedule jumps, an explicit solver that meets stiffness can
hand over to an implicit one, and whatever was computed before a failure is kept. Where nothing happens between two
outputs, a compiled solver (`scipy_rk`) makes many steps a call: the same ones.

Stiffness: h times the largest slope of the flow stays near the stability bound, so that stability and not accuracy
chooses the steps. That alone is harmless; it is reported when the rest of the time, at the present pace, costs more
evaluations than are allowed.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from inercia.flows import scipy_rk
from inercia.flows.interpolation_error import MOST, defect
from inercia.flows.pieces import Piece

#: Accepted steps that are judged together, the share of them that stability must limit, and what counts as that.
_WINDOW, _MOST_OF_THEM, _NEAR_BOUND = 50, 0.8, 0.7
#: Growth of the steps over half a window, from which the present pace says nothing of the rest.
_GROWTH = 1.2
#: Steps in a row that advance the time by rounding only, after which the flow has a singularity there.
_STALLED = 10
#: Seconds that a call of many steps may take: between calls the bar moves, and Ctrl-C is heard.
_BRIEF = 0.2
#: Evaluations per unknown, and at least, that an explicit solver must have ahead of it to be worth an implicit one.
_PER_UNKNOWN, _AT_LEAST = 20, 10_000


class Stiff(Exception):  # noqa: N818  a signal, turned into a report by the caller
    """An explicit solver is limited by stability; the message says what the rest would cost."""


class Rough(Exception):  # noqa: N818  a signal: the last step is too long for its polynomial
    """Holds the end of the step, and the length that the steps up to there may have."""


@dataclass
class Run:
    """What was computed, kept up to date step by step.

    Attributes:
        t, z: the last accepted point.
        times, points: the outputs so far.
        hits: for each event, the pairs (time, point) at which it occurred.
        ends, interpolants: ends of the steps and SciPy's polynomials between them, where they are wanted.
        nfev, njev, steps: evaluations, Jacobians, accepted steps.
        reason: why it stopped, in the solver's words.
        failed: whether it stopped before the last time and before a terminal event.
        stiff: whether it stopped because a stiff flow would cost too much.
        recent: of the last steps: whether stability limited them, the time, the evaluations so far.
    """

    t: float
    z: np.ndarray
    times: list[float] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)
    hits: list[list[tuple[float, np.ndarray]]] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    interpolants: list[Callable] = field(default_factory=list)
    solvers: list[str] = field(default_factory=list)
    nfev: int = 0
    njev: int = 0
    steps: int = 0
    reason: str = "The solver successfully reached the end of the integration interval."
    failed: bool = False
    stiff: bool = False
    recent: deque = field(default_factory=lambda: deque(maxlen=_WINDOW))


@dataclass(frozen=True)
class Plan:
    """What to compute.

    Attributes:
        make: (solver's name, piece, t, z) -> a SciPy solver that stands there and goes to the piece's end.
        times: outputs, the first is the start; they increase or decrease.
        events: functions (t, z) -> float with SciPy's `terminal` and `direction`.
        dense: whether to keep the polynomials.
        solver: the first solver's name.
        stiff: the implicit solver to hand over to, or None.
        max_nfev: evaluations that a stiff flow may be foreseen to take, or None.
        moved: called with the time after every accepted step.
    """

    make: Callable[[str, Piece, float, np.ndarray], Any]
    times: np.ndarray
    events: Sequence[Any]
    dense: bool
    solver: str
    stiff: str | None
    max_nfev: int | None
    moved: Callable[[float], Any]


def run(plan: Plan, z0: np.ndarray, pieces: Sequence[Piece]) -> Run:
    """Solve piece after piece; a failure is reported in the result, which then ends at the last accepted point."""
    done = Run(plan.times[0], z0, [plan.times[0]], [z0], [[] for _ in plan.events], [plan.times[0]], [], [plan.solver])
    _solve(plan, done, pieces)
    if done.failed and done.times[-1] != done.t:
        done.times.append(done.t)
        done.points.append(done.z)
    return done


def _solve(plan: Plan, done: Run, pieces: Sequence[Piece]) -> None:
    gauges = [event(done.t, done.z) for event in plan.events]
    for piece in pieces:
        rough = None
        while done.t != piece.end:
            solver = plan.make(done.solvers[-1], piece, done.t, done.z)
            before = done.nfev, done.njev
            try:
                gauges, terminal = _through(plan, done, solver, gauges, before, rough)
            except Rough as signal:
                rough = signal.args
                continue
            except Stiff as signal:
                if plan.stiff is None or done.solvers[-1] == plan.stiff:
                    done.reason, done.failed, done.stiff = str(signal), True, True
                    return
                done.solvers.append(plan.stiff)
                continue
            except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:  # a Jacobian that is not finite
                done.reason, done.failed = str(error), True
                return
            if terminal or done.failed:
                return


def _through(
    plan: Plan, done: Run, solver: Any, gauges: list[float], before: tuple[int, int], rough: tuple[float, float] | None
) -> tuple[list, bool]:
    """Step `solver` to the end of its piece; return the events' last values and whether a terminal one occurred.

    Up to the time rough[0] steps have at most the length rough[1].

    Raises:
        Rough: a step that is to be made again, in shorter ones; nothing of it is recorded.
    """
    stalled, free, most = 0, getattr(solver, "max_step", np.inf), 1
    while solver.status == "running":
        if rough is not None:
            ahead = solver.direction * (rough[0] - solver.t)
            solver.max_step = min(free, rough[1]) if ahead > 0 else free
        is_alone = bool(plan.dense or plan.events or rough or stalled or any(limited for limited, *_ in done.recent))
        message, most = _advance(plan, done, solver, before, 1 if is_alone else most)
        if solver.status == "failed":
            done.reason, done.failed = str(message), True
            break
        values = [event(solver.t, solver.y) for event in plan.events]
        crossed = [i for i, event in enumerate(plan.events) if _crosses(event, gauges[i], values[i])]
        wanted = plan.dense or crossed or _inside(plan, done, solver)
        polynomial = solver.dense_output() if wanted else None
        if polynomial is not None and done.solvers[-1] in scipy_rk.EXPLICIT:
            _require_faithful(solver, polynomial, rough)
            done.nfev = before[0] + solver.nfev
        if plan.dense:
            done.ends.append(solver.t)
            done.interpolants.append(cast(Any, polynomial))
        stop = None
        if crossed:
            stop = _record(plan.events, crossed, done.hits, polynomial, solver)
        gauges = values
        _output(plan.times, done, solver, polynomial, stop)
        done.nfev, done.njev = before[0] + solver.nfev, before[1] + int(solver.njev)
        done.t, done.z, done.steps = (solver.t, solver.y, done.steps + 1) if stop is None else (*stop, done.steps + 1)
        plan.moved(done.t)
        if stop is not None:
            done.reason = "A termination event occurred."
            return gauges, True
        stalled = stalled + 1 if abs(solver.t - solver.t_old) <= 10 * np.spacing(abs(solver.t)) else 0
        if stalled == _STALLED and solver.status == "running":
            done.reason, done.failed = scipy_rk.TOO_SMALL, True
            break
        _look_for_stiffness(plan, done, scipy_rk.made(solver)[-1], before[0])
    if solver.status == "finished":
        done.t = solver.t_bound
    return gauges, False


def _advance(plan: Plan, done: Run, solver: Any, before: tuple[int, int], most: int) -> tuple[str | None, int]:
    """Make a step, or up to `most`, of which all but the last are recorded; return a failure, and the next call's most.

    None of them but the last meets an output, or is one of which stiffness or a standstill is told.
    """
    if hasattr(solver, "most"):
        ahead = plan.times[len(done.times) :]
        is_before = len(ahead) and solver.direction * (solver.t_bound - ahead[0]) > 0
        solver.most, solver.until = most, ahead[0] if is_before else solver.t_bound
        solver.limit = _NEAR_BOUND * scipy_rk.EXPLICIT[done.solvers[-1]]
    began = time.perf_counter()
    message = solver.step()
    pace = (time.perf_counter() - began) / len(scipy_rk.made(solver))
    done.nfev, done.njev = before[0] + solver.nfev, before[1] + int(solver.njev)
    earlier = () if solver.status == "failed" else scipy_rk.made(solver)[:-1]
    for step in earlier:
        done.t, done.z, done.steps = solver.t_old, solver.y_old, done.steps + 1
        _look_for_stiffness(plan, done, step, before[0])
    return message, max(1, min(scipy_rk.MOST, int(_BRIEF / max(pace, 1e-9))))


def _inside(plan: Plan, done: Run, solver: Any) -> bool:
    """Whether an output lies inside the last step; the polynomial of DOP853 costs three evaluations."""
    ahead = plan.times[len(done.times) :]
    return bool(len(ahead) and solver.direction * (solver.t - ahead[0]) > 0)


def _require_faithful(solver: Any, polynomial: Any, rough: tuple[float, float] | None) -> None:
    """Raise Rough unless the polynomial of the last step is near the flow, or the step cannot well be shorter."""
    h = abs(solver.t - solver.t_old)
    shortest = 1e3 * np.spacing(abs(solver.t))
    if h > shortest and defect(solver, polynomial) > MOST:
        raise Rough(solver.t if rough is None else max(rough[0], solver.t, key=lambda t: solver.direction * t), h / 3)


def _output(times: np.ndarray, done: Run, solver: Any, polynomial: Any, stop: Any) -> None:
    """Append the outputs that the last step has passed; up to the point `stop` where an event ends the run."""
    t, direction = solver.t if stop is None else stop[0], solver.direction
    ahead = times[len(done.times) :]
    due = ahead[: np.searchsorted(direction * ahead, direction * t, side="right")]
    inner = due[due != solver.t]
    if len(inner):
        done.points += list(np.asarray(polynomial(inner)).T)
    if len(due) > len(inner):
        done.points.append(solver.y)
    done.times += due.tolist()


def _crosses(event: Any, before: float, after: float) -> bool:
    direction = getattr(event, "direction", 0)
    up, down = before <= 0 <= after, before >= 0 >= after
    return (up and direction >= 0 and before < after) or (down and direction <= 0 and after < before)


def _record(events: Sequence[Any], crossed: list[int], hits: list, polynomial: Any, solver: Any) -> Any:
    """Find the zeros of the events in the last step, record them in order; return (t, z) of a terminal one, or None."""
    from scipy.optimize import brentq  # noqa: PLC0415  loaded when used

    tight = 4 * np.finfo(float).eps
    zeros = []
    for i in crossed:
        ends = (solver.t_old, solver.t)
        signs = [np.sign(events[i](t, polynomial(t))) for t in ends]
        if signs[0] == signs[1]:  # a zero at one end, which the polynomial meets up to rounding
            t = ends[int(abs(events[i](ends[1], polynomial(ends[1]))) <= abs(events[i](ends[0], polynomial(ends[0]))))]
        else:
            t = brentq(lambda t, i=i: events[i](t, polynomial(t)), *ends, xtol=tight, rtol=tight)
        zeros.append((float(t), i))  # pyright: ignore[reportArgumentType]
    for t, i in sorted(zeros, key=lambda zero: solver.direction * zero[0]):
        if hits[i] and abs(hits[i][-1][0] - t) <= 8 * np.spacing(abs(t)):
            continue  # met at the end of a step, and again at the start of the next
        hits[i].append((t, np.asarray(polynomial(t))))
        terminal = int(getattr(events[i], "terminal", False) or 0)
        if terminal and len(hits[i]) >= terminal:
            return hits[i][-1]
    return None


def _look_for_stiffness(plan: Plan, done: Run, step: scipy_rk.Made, before: int) -> None:
    """Raise Stiff when stability limits most of the last steps, they do not grow, and the rest would cost too much.

    Steps that grow leave a layer behind them, as at the cold start of RMSProp: it costs little, and says nothing of the
    rest. So does a short time, wherefore a hundredth of the allowed evaluations is spent first.
    """
    bound = scipy_rk.EXPLICIT.get(done.solvers[-1])
    enough = plan.max_nfev if plan.stiff is None else max(_AT_LEAST, _PER_UNKNOWN * len(done.z))
    if bound is None or enough is None:
        return
    recent = done.recent
    recent.append((step.stiffness > _NEAR_BOUND * bound, step.t, before + step.nfev))
    if len(recent) < _WINDOW or recent[-1][2] < enough / 100:
        return
    limited, times, nfev = zip(*recent, strict=True)
    early, late = abs(times[_WINDOW // 2] - times[0]), abs(times[-1] - times[_WINDOW // 2])
    if sum(limited) < _MOST_OF_THEM * _WINDOW or late > _GROWTH * early:
        return
    foreseen = (nfev[-1] - nfev[0]) * abs(plan.times[-1] - times[-1]) / (early + late)
    if foreseen > enough:
        raise Stiff(
            f"the flow is stiff: stability, not accuracy, keeps the steps near {(early + late) / _WINDOW:.2g}, so that "
            f"the rest of the time would take about {foreseen:.2g} evaluations, more than {enough:,}"
        )
