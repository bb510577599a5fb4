"""The continuous path: a method's flow, solved by `scipy.integrate`.

    d params/dt, d state/dt = flow(grad loss(params), state, params),    t counted in iterations

Params and state travel as one real vector (`vector_field`). Where a schedule jumps or has a corner (`breakpoints`) the
flow is restarted (`pieces`); in between it is smooth, and a solver (`stepping`) is as exact as its tolerances say.
Counters of the state are its clock: an int32 count of updates becomes the float time count * dt.

Source: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, section II.6.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.core import check, tree
from inercia.core.method import Method, NoFlow, Params, State
from inercia.core.optimizer_state import fresh_state, updates_made
from inercia.core.path import Path, Solve
from inercia.core.precision import in_float64
from inercia.core.progress import bar as progress_bar
from inercia.flows import scipy_rk, stepping
from inercia.flows.dense_output import Dense
from inercia.flows.flow_start import check_start, continuous, numbers
from inercia.flows.interpolating_flow import Interpolated, interpolated
from inercia.flows.iteration import diverged_at
from inercia.flows.pieces import Piece, pieces_of
from inercia.flows.vector_field import EVERYWHERE, Field, clocks, flow_of

#: Bytes that a solver keeps per squared unknown: the Jacobian and its factorisations; 0 where it keeps none.
SOLVERS = {"DOP853": 0, "RK45": 0, "RK23": 0, "Radau": 48, "BDF": 32, "LSODA": 16, "auto": 0}
#: What "auto" starts with, what it hands over to, and the most unknowns for which it does.
AUTO, AUTO_STIFF, AUTO_UNKNOWNS = "DOP853", "Radau", 2000
#: Unknowns from which a step is one compiled program; below, compiling takes longer than NumPy does.
COMPILED = 512
#: Most bytes that an implicit solver may ask for.
MEMORY_BOUND = 4 * 2**30


class IntegrationError(RuntimeError):
    """The solver gave up before the last time; `path` holds the part that it reached, to its last accepted step."""

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


def integrate(
    method: Method | Any,
    loss: Any,
    params: Params,
    times: Any,
    *,
    solver: str = "DOP853",
    rtol: float = 1e-9,
    atol: float = 1e-12,
    state: State | None = None,
    breakpoints: Any = (),
    max_step: float = np.inf,
    events: Any = (),
    dense: bool = False,
    max_nfev: int | None = 1_000_000,
    progress: bool = False,
) -> Path:
    """Solve a method's differential equation.

    Args:
        method: a method; any optax transformation, whose flow is then interpolated from its iterates at order 4; or a
            bare flow (grads, state, params) -> (d params/dt, d state/dt) together with a state.
        loss: params -> scalar.
        params: where to start; computed in float64 whatever its precision.
        times: increasing or decreasing, in iterations; the first is where params and state stand, 0 for a fresh state.
        solver: "DOP853", "RK45", "RK23" (explicit), "Radau", "BDF", "LSODA" (stiff; exact Jacobian of the flow, n^2
            memory), or "auto": DOP853, and Radau from where the flow turns out stiff, up to 2,000 unknowns.
        rtol: relative tolerance.
        atol: absolute tolerance.
        state: by default `method.init(params)`.
        breakpoints: times at which the flow changes abruptly, beside those that are found in the method's schedules;
            the solver is restarted there.
        max_step: longest step, in iterations.
        events: a function (t, params, state) -> float, or several, written with jax.numpy; their zeros are found as
            `scipy.integrate.solve_ivp` does, and its attributes `terminal` and `direction` are read.
        dense: whether to keep the solution between the times too, as `path.dense`; keeps every step in memory.
        max_nfev: evaluations after which a stiff flow is given up with an explicit solver, foreseen; None for any.
        progress: whether to show a bar.

    Returns:
        Path: at `times`, up to the first terminal event, with `solve` telling nfev, accepted steps and why the solver
        stopped, `events` and `dense`.

    Raises:
        ValueError: an update that is not smooth, or whose first one is of another kind; an unknown solver, one that
            would need more than `MEMORY_BOUND`; times that do not go one way or do not start at the state's clock;
            tolerances that are not positive; a loss that is not one real number.
        TypeError: integer params, a method that has no smooth flow, a call under jit, vmap or grad.
        IntegrationError: the solver gave up, or a stiff flow would take more than `max_nfev` evaluations.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> flow = inercia.integrate(inercia.sgd(0.5), lambda x: x**2 / 2, jnp.array(1.0), [0.0, 2.0])
        >>> flow.params.round(6).tolist()  # e^{-1}
        [1.0, 0.367879]
    """
    options = {"solver": solver, "rtol": rtol, "atol": atol, "max_step": max_step, "dense": dense, "progress": progress}
    with jax.enable_x64(True):
        field, done, end = _solve(method, loss, params, times, state, breakpoints, events, max_nfev, **options)
        path = _path(field, done, dense)
    if done.failed or path.diverged is not None:
        raise IntegrationError(_explanation(done, end, path), path)
    return path


def integrate_params(
    method: Any, loss: Any, params: Params, times: Any, *, solver: str, rtol: float, atol: float, state: State | None
) -> Params:
    """Return the params of `integrate`'s path alone: without the losses, whose program takes long to compile."""
    options = {"solver": solver, "rtol": rtol, "atol": atol, "max_step": np.inf, "dense": False, "progress": False}
    with jax.enable_x64(True):
        field, done, end = _solve(method, loss, params, times, state, (), (), 1_000_000, **options)
        points = np.asarray(done.points)
        if done.failed or not np.isfinite(points).all():
            path = _path(field, done, False)
            raise IntegrationError(_explanation(done, end, path), path)
        return tree.of_vectors(points, field.params)


def _solve(
    method: Any, loss: Any, params: Params, times: Any, state: Any, breakpoints: Any, events: Any, max_nfev: Any,
    *, solver: str, rtol: float, atol: float, max_step: float, dense: bool, progress: bool,
) -> tuple[Field, stepping.Run, float]:  # fmt: skip
    """Return the field, what was solved of it, and the last time."""
    check.one_of("solver", solver, SOLVERS)
    _check_concrete(method, params, state, times)
    times = _one_way(times)
    for name, value in (("rtol", rtol), ("atol", atol)) + ((("max_step", max_step),) if max_step != np.inf else ()):
        check.positive(name, value)
    watched, most = _events(events), None if max_nfev is None else check.integer("max_nfev", max_nfev)
    check.some_params(params)
    theta = tree.float64(params)
    loss = in_float64(loss, theta)
    check.loss_of(loss, theta)
    solved = _with_flow(method, loss, state)
    start = numbers(fresh_state(method, theta) if state is None else state)
    mask = clocks(getattr(solved, "transformation", solved), theta, start)
    made = updates_made(solved.transformation, theta, start) if isinstance(solved, Interpolated) else None
    start = continuous(start, mask, getattr(method, "dt", 1.0), times[0], made)
    if hasattr(solved, "check"):
        solved.check(theta, start)
    if hasattr(flow_of(solved), "project"):
        start = flow_of(solved).project(jax.tree.map(jnp.conj, jax.grad(loss)(theta)), start)
    field = Field((_key(solved), loss, mask), theta, start)
    z0 = tree.vector((theta, start))
    _check_memory(solver, z0.size)
    cut = pieces_of(field, solved, float(times[0]), float(times[-1]), breakpoints)
    first = AUTO if solver == "auto" else solver
    begins = z0, check_start(field, _rate(field, first, z0.size), times, z0)
    with progress_bar(progress, total=abs(times[-1] - times[0]), unit="it", desc=solver) as bar:
        plan = stepping.Plan(
            make=partial(_solver, field, {"rtol": rtol, "atol": atol, "max_step": max_step}, begins),
            times=times,
            events=[_Event(field, event, times[0], z0) for event in watched],
            dense=dense,
            solver=first,
            stiff=AUTO_STIFF if solver == "auto" and z0.size <= AUTO_UNKNOWNS else None,
            max_nfev=most,
            moved=lambda t: bar.update(abs(t - times[0]) - bar.n),
        )
        done = stepping.run(plan, z0, cut)
    return field, done, float(times[-1])


def _check_concrete(method: Any, *values: Any) -> None:
    hyper = [value for value in getattr(method, "hyper", {}).values() if not callable(value)]
    if not check.is_concrete(hyper, *values):
        raise TypeError(
            "integrate runs SciPy's solvers, which jit, vmap and grad cannot trace: call it on numbers, in a Python "
            "loop over what would be mapped; for derivatives or batches of flows hand `method.flow` to diffrax."
        )


def _one_way(values: Any) -> np.ndarray:
    times = check.reals("times", values)
    if times.ndim == 1 and times.size >= 2 and times[-1] < times[0]:
        check.finite("times", times)
        if not (np.diff(times) < 0).all():
            k = int(np.argmax(np.diff(times) >= 0))
            raise ValueError(
                f"times must increase or decrease, but times[{k}] = {times[k]:g} is followed by {times[k + 1]:g} and "
                f"the last is {times[-1]:g}."
            )
        return times
    return check.increasing("times", times)


def _events(events: Any) -> Sequence[Callable]:
    events = (events,) if callable(events) else tuple(events or ())
    for event in events:
        if not callable(event):
            raise TypeError(f"events must be functions (t, params, state) -> float, but one is {event!r}.")
    return events


def _with_flow(method: Any, loss: Any, state: State | None) -> Any:
    """Return the method or bare flow itself; of a transformation without a flow, the interpolated one."""
    flow = flow_of(method)
    if isinstance(flow, NoFlow):
        raise TypeError(flow.reason)
    if isinstance(flow, optax.GradientTransformation):
        return interpolated(flow, loss)
    if not callable(flow):
        raise TypeError(f"method must be an optimizer or a flow, but it is {type(method).__name__}.")
    if state is None and not isinstance(method, optax.GradientTransformation):
        raise ValueError("a bare flow needs the state it starts from: pass state=...")
    return method


def _key(method: Any) -> Any:
    """Return what a compiled flow is remembered by: the method where equality sees its flow, else the flow."""
    return method if type(method).__hash__ is not tuple.__hash__ else flow_of(method)


def _solver(field: Field, options: dict, begins: tuple, name: str, piece: Piece, t: float, z: np.ndarray) -> Any:
    """Return a SciPy solver of the field on the rest of a piece; `begins` is the first point, and the rate there."""
    seen = np.array([piece.first, piece.last])
    kind, rate = scipy_rk.scipy_solver(name), _rate(field, name, z.size)
    if _is_compiled(name, z.size):
        kind = scipy_rk.compiled(name, partial(field.march, name, seen))
    if SOLVERS[name]:
        options = options | {"jac": lambda t, z: np.asarray(field.jacobian(seen, z))}

    def right_side(t, z):
        return begins[1] if z is begins[0] and np.array_equal(seen, EVERYWHERE) else np.asarray(rate(seen, z))

    return kind(right_side, t, z, piece.end, **options)


def _is_compiled(name: str, unknowns: int) -> bool:
    return name in scipy_rk.EXPLICIT and unknowns >= COMPILED


def _rate(field: Field, name: str, unknowns: int) -> Callable:
    """Return the function (seen, z) -> z' that goes with a solver."""
    return field.rate_by_march(name) if _is_compiled(name, unknowns) else field.rate


class _Event:
    """An event as a function of the flow's vector, with SciPy's attributes."""

    def __init__(self, field: Field, event: Any, t: float, z: np.ndarray) -> None:
        check.scalar("an event", field.event_shape(event, t, z))
        self.field, self.event = field, event
        self.terminal, self.direction = getattr(event, "terminal", False), getattr(event, "direction", 0)

    def __call__(self, t: float, z: Any) -> float:
        return self.field.event(self.event, t, z)


def _path(field: Field, done: stepping.Run, dense: bool) -> Path:
    def of(times: Any, points: Any) -> tuple:
        z = np.asarray(points).reshape(len(times), done.z.size)
        return np.asarray(times), *tree.to_numpy(field.path(z))

    times, params, state, losses = of(done.times, done.points)
    events = tuple(Path(*of([t for t, _ in hits], [z for _, z in hits])) for hits in done.hits)
    report = Solve(", then ".join(done.solvers), done.nfev, int(done.njev), done.steps, done.reason)
    polynomials = Dense(field, done.ends, done.interpolants) if dense else None
    diverged = diverged_at(times, params, state, losses)
    return Path(times, params, state, losses, diverged, report, events=events, dense=polynomials)


def _explanation(done: stepping.Run, end: float, path: Path) -> str:
    if not done.failed:
        return (
            f"params, state or loss are not finite at time {path.diverged:g}: take another start, a shorter time, or a "
            "smaller learning rate."
        )
    where = f"{done.solvers[-1]} gave up at time {done.t:.6g} of {end:.6g} ({done.reason})"
    if done.stiff:
        implicit = "solver='auto' or 'Radau', " if done.z.size <= AUTO_UNKNOWNS else ""
        return f"{where}: use {implicit}a shorter time, or max_nfev=None to go on all the same."
    return f"{where}: the flow may blow up or be stiff; try solver='Radau', a smaller learning rate or a shorter time."


def _check_memory(solver: str, unknowns: int) -> None:
    need = SOLVERS[solver] * unknowns**2
    if need > MEMORY_BOUND:
        raise ValueError(
            f"solver {solver!r} on {unknowns} unknowns would ask for {need / 2**30:.0f} GiB, above the bound of "
            f"{MEMORY_BOUND / 2**30:.0f} GiB: use an explicit one, 'DOP853', 'RK45' or 'RK23'."
        )
