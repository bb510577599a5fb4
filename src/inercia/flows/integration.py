"""The continuous path: a method's flow, solved by `scipy.integrate`.

    d params/dt, d state/dt = flow(grad loss(params), state, params),    t counted in iterations

Params and state travel as one real vector; the flow is compiled once per (method, loss). Counters of the state are
its clock: an int32 count of updates becomes the float time count * dt.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.core import check, tree
from inercia.core.method import Method, NoFlow, Params, State
from inercia.core.path import Path, Solve
from inercia.core.progress import bar as progress_bar
from inercia.flows import scipy_rk
from inercia.flows.interpolating_flow import interpolated
from inercia.flows.iteration import diverged_at

#: Bytes that a solver keeps per squared unknown: the Jacobian and its factorisations; 0 where it keeps none.
SOLVERS = {"DOP853": 0, "RK45": 0, "RK23": 0, "Radau": 48, "BDF": 32, "LSODA": 16}
#: Unknowns from which whole steps are compiled; below, compiling takes longer than NumPy does.
COMPILED = 512
#: Most bytes that an implicit solver may ask for.
MEMORY_BOUND = 4 * 2**30


class IntegrationError(RuntimeError):
    """The solver gave up before the last time; `path` holds the part that it reached."""

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
    progress: bool = False,
) -> Path:
    """Solve a method's differential equation.

    Args:
        method: a method; any optax transformation, whose flow is then interpolated from its iterates at order 4; or a
            bare flow (grads, state, params) -> (d params/dt, d state/dt) together with a state.
        loss: params -> scalar.
        params: where to start; computed in float64 whatever its precision.
        times: increasing, in iterations; the first is where params and state stand, 0 for a fresh state.
        solver: "DOP853", "RK45", "RK23" (explicit), "Radau", "BDF", "LSODA" (stiff; exact Jacobian of the flow, n^2
            memory).
        rtol: relative tolerance.
        atol: absolute tolerance.
        state: by default `method.init(params)`.
        progress: whether to show a bar.

    Returns:
        Path: at `times`, with `solve` telling nfev, accepted steps and why the solver stopped.

    Raises:
        ValueError: an update that is not smooth; an unknown solver, one that would need more than `MEMORY_BOUND`;
            times that do not increase or do not start at the state's clock; tolerances that are not positive; a loss
            that is not one real number.
        TypeError: integer params, a method that has no smooth flow.
        IntegrationError: the solver gave up.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> flow = inercia.integrate(inercia.sgd(0.5), lambda x: x**2 / 2, jnp.array(1.0), [0.0, 2.0])
        >>> flow.params.round(6).tolist()  # e^{-1}
        [1.0, 0.367879]
    """
    check.one_of("solver", solver, SOLVERS)
    times = check.increasing("times", times)
    check.positive("rtol", rtol)
    check.positive("atol", atol)
    check.differentiable("params", params)
    flow = _flow_of(method, loss, state)
    with jax.enable_x64(True):
        theta = tree.float64(params)
        check.loss_of(loss, theta)
        start = _continuous(method.init(theta) if state is None else state, getattr(method, "dt", 1.0), times[0])
        z0, _ = tree.ravel_real((theta, start))
        _check_memory(solver, z0.size)
        if hasattr(flow, "check"):
            flow.check(theta, start)
        first = _field(flow, loss, theta, start, z0)
        if first.shape != z0.shape:
            raise ValueError(
                f"the flow must return trees like params and state, {z0.size} numbers, but it returns {first.size}: "
                "is the state another method's?"
            )
        if not np.isfinite(first).all():
            raise ValueError("the flow must be finite at the start, but it is not: check params, state and loss there.")

        def rate(t, z):
            return np.asarray(_field(flow, loss, theta, start, z))

        def jacobian(t, z):
            return np.asarray(_jacobian(flow, loss, theta, start, z))

        with progress_bar(progress, total=times[-1] - times[0], unit="it", desc=solver) as bar:
            options = {"rtol": rtol, "atol": atol} | ({"jac": jacobian} if SOLVERS[solver] else {})
            kind = solver
            if solver in scipy_rk.EXPLICIT and z0.size >= COMPILED:
                kind = scipy_rk.compiled(solver, partial(_step, flow, loss, solver, theta, start))
            reached, z, solve, stopped = _solve(rate, np.asarray(z0), times, solver, kind, options, bar)
        params_at, state_at, losses = tree.to_numpy(_unpack(loss, theta, start, z))
    path = Path(reached, params_at, state_at, losses, diverged_at(reached, params_at, state_at, losses), solve)
    if stopped is not None or path.diverged is not None:
        at = reached[-1] if stopped is None else stopped
        raise IntegrationError(
            f"{solver} gave up at time {at:.6g} of {times[-1]:.6g} ({solve.reason}): the flow may blow up or be stiff; "
            "try solver='Radau', a smaller learning rate or a shorter time.",
            path,
        )
    return path


def _flow_of(method: Any, loss: Any, state: State | None) -> Any:
    flow = getattr(method, "flow", method)
    if isinstance(flow, NoFlow):
        raise TypeError(flow.reason)
    if isinstance(flow, optax.GradientTransformation):
        return interpolated(flow, loss)
    if not callable(flow):
        raise TypeError(f"method must be an optimizer or a flow, but it is {type(method).__name__}.")
    if state is None and not isinstance(method, optax.GradientTransformation):
        raise ValueError("a bare flow needs the state it starts from: pass state=...")
    return flow


def _solve(rate: Any, z0: Any, times: np.ndarray, solver: str, kind: Any, options: dict, bar: Any) -> tuple:
    """Call the solver; return the times reached, the points there, the report, and where it gave up (or None)."""
    from scipy.integrate import solve_ivp  # noqa: PLC0415  loaded when used

    accepted: list[Any] = [-1, times[0], z0]  # steps, and the last accepted point

    def count(t, z):  # called by the solver once at the start and once per accepted step; never an event
        accepted[:] = accepted[0] + 1, t, z
        bar.update(t - times[0] - bar.n)
        return 1.0

    try:
        result = solve_ivp(rate, (times[0], times[-1]), z0, method=kind, t_eval=times, events=count, **options)
    except (ValueError, np.linalg.LinAlgError) as error:  # implicit solvers meet a Jacobian that is not finite
        report = Solve(solver, 0, 0, max(accepted[0], 0), str(error))
        return np.array([accepted[1]]), np.asarray(accepted[2])[None], report, accepted[1]
    report = Solve(solver, result.nfev, result.njev or 0, max(accepted[0], 0), result.message)
    return result.t, result.y.T, report, None if result.success else accepted[1]


def _rate(flow, loss, theta, start, z):
    _, rebuild = tree.ravel_real((theta, start))
    params, state = rebuild(z)
    grads = jax.tree.map(jnp.conj, jax.grad(loss)(params))
    return tree.ravel_real(flow(grads, state, params))[0]


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=5)
def _step(flow, loss, solver, theta, start, slopes, y, f, h, rtol, atol):
    return scipy_rk.stages(solver, partial(_rate, flow, loss, theta, start), slopes, y, f, h, rtol, atol)


_field = partial(jax.jit, static_argnums=(0, 1))(_rate)


@partial(jax.jit, static_argnums=(0, 1))
def _jacobian(flow, loss, theta, start, z):
    return jax.jacfwd(partial(_rate, flow, loss, theta, start))(z)


@partial(jax.jit, static_argnums=0)
def _unpack(loss, theta, start, z):
    _, rebuild = tree.ravel_real((theta, start))
    params, state = jax.vmap(rebuild)(z)
    return params, state, jax.lax.map(loss, params)


def _continuous(state: State, dt: Any, time: float) -> State:
    """Return the state as a point of the flow: floats, counters turned into the clock, which must show `time`."""

    def as_time(leaf):
        leaf = jnp.asarray(leaf)
        if not jnp.issubdtype(leaf.dtype, jnp.integer):
            return leaf
        shown = float(leaf) * float(dt)
        if abs(shown - time) > 1e-9 * max(1.0, abs(time)):
            raise ValueError(
                f"times must start where the state's clock stands, but times[0] = {time:g} and the clock shows "
                f"{shown:g}: start there, or pass another state."
            )
        return jnp.asarray(shown)

    return tree.float64(jax.tree.map(as_time, state))


def _check_memory(solver: str, unknowns: int) -> None:
    need = SOLVERS[solver] * unknowns**2
    if need > MEMORY_BOUND:
        raise ValueError(
            f"solver {solver!r} on {unknowns} unknowns would ask for {need / 2**30:.0f} GiB, above the bound of "
            f"{MEMORY_BOUND / 2**30:.0f} GiB: use an explicit one, 'DOP853', 'RK45' or 'RK23'."
        )
