"""scipy's explicit Runge-Kutta solvers, many steps in one compiled program.

    k_1 = f(y),    k_s = f(y + h sum_{r<s} a_sr k_r),    y+ = y + h sum_s b_s k_s,    k_last = f(y+)
    error          the scaled root mean square of h sum_s e_s k_s; accepted below 1
    next h         h min(10, max(1/5, 0.9 error^(-1/(q+1)))), q the order of the estimate; no growth after a rejection
    stiffness      h |k_last - k_(last-1)| / |y+ - y_(last-1)|, h times the largest slope of f that the step has met:
                   near the stability bound of the method on the real axis where stability limits the step

Steps, order, tableau, control and dense output are scipy's: the classes made here are an `OdeSolver`. What moves to the
device is what lies between two gradients, which in NumPy costs as much as those of a network and their dispatch
together; and, where nobody looks at single steps, all of them up to the next output. The equation is autonomous: a flow
keeps its clock in the state.

Sources: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, sections II.4 and II.5; Hairer & Wanner,
Solving Ordinary Differential Equations II, section IV.2 (stiffness).
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

#: Solvers that can be compiled, each with its stability bound on the negative real axis.
EXPLICIT = {"DOP853": 6.1, "RK45": 3.3, "RK23": 2.5}
#: Most steps of a call.
MOST = 64
TOO_SMALL = "Required step size is less than spacing between numbers."  # in SciPy's words
#: What SciPy's classes must have, beside what SciPy documents: tableaus on the class, the step's memory on the object.
_TABLEAU = ("A", "B", "C", "n_stages", "_step_impl", "_dense_output_impl")
_MEMORY = ("K", "f", "h_abs", "h_previous", "y_old", "error_exponent", "max_step", "rtol", "atol", "direction")


def missing_in_scipy() -> list[str]:
    """List the attributes that this module needs of SciPy's explicit solvers and does not find."""
    from scipy import integrate  # noqa: PLC0415  loaded when used

    missing: list[str] = []
    for name in EXPLICIT:
        kind = getattr(integrate, name)
        made = kind(lambda t, y: -y, 0.0, np.ones(1), 1.0)
        tableau = _TABLEAU + (("E3", "E5") if name == "DOP853" else ("E",))
        missing += [f"{name}.{a}" for a in tableau if getattr(kind, a, NotImplemented) is NotImplemented]
        missing += [f"{name}().{a}" for a in _MEMORY if not hasattr(made, a)]
    return missing


@cache
def scipy_solver(name: str) -> Any:
    """Return scipy's class `name`, after a look at what this module needs of it.

    Raises:
        ImportError: this SciPy's Runge-Kutta classes are built otherwise.
    """
    import scipy  # noqa: PLC0415  loaded when used
    from scipy import integrate  # noqa: PLC0415

    if missing := missing_in_scipy():
        raise ImportError(
            f"flows need attributes of SciPy's Runge-Kutta classes that SciPy {scipy.__version__} does not have "
            f"({', '.join(missing)}): install another SciPy, for example 1.17."
        )
    return getattr(integrate, name)


class Numbers(NamedTuple):
    """What a call is told beside its vectors; one array of float64, for one transfer."""

    t: Any = 0.0
    size: Any = 0.0  # of the step to try, positive
    bound: Any = 0.0  # the solver's last time
    until: Any = 0.0  # the step that reaches it is the call's last
    max_step: Any = 0.0
    rtol: Any = 0.0
    atol: Any = 1.0
    most: Any = 0.0  # accepted steps, up to `MOST`; 0 for f(y) alone
    limit: Any = np.inf  # a step whose stiffness is above it is the call's last


class Made(NamedTuple):
    """An accepted step."""

    t: float  # its end
    stiffness: float
    nfev: int  # the solver's evaluations up to there


def compiled(name: str, march: Callable[..., tuple]) -> type:
    """Return scipy's solver `name`; `march(slopes, y, f, numbers)` is this module's, compiled.

    A call of `step` makes up to `most` steps, those in `made`; `t_old`, `t` and `dense_output` tell of the last.
    """
    base = scipy_solver(name)

    class Compiled(base):
        slopes = until = None
        most, limit, is_stuck = 1, np.inf, False
        made: Sequence[Made] = ()

        def step(self):
            message = super().step()
            if len(self.made) > 1:
                self.t_old = self.made[-2].t
            return message

        def _step_impl(self):
            if self.is_stuck:
                self.made = ()
                return False, TOO_SMALL
            if self.slopes is None:
                self.slopes = np.zeros((self.n_stages + 1, self.n))
            until = self.t_bound if self.until is None else self.until
            told = self.t, self.h_abs, self.t_bound, until, self.max_step, self.rtol, self.atol, self.most, self.limit
            told = np.array(Numbers(*told), np.float64)
            self.slopes, y_old, y, self.f, last, made = march(self.slopes, self.y, self.f, told)
            self.h_abs, self.h_previous, accepted, tried, stuck = np.asarray(last).tolist()
            made = np.asarray(made)[: int(accepted)].tolist()
            self.made = [Made(t, stiff, self.nfev + int(n) * self.n_stages) for t, stiff, n in made]
            self.nfev, self.is_stuck = self.nfev + int(tried) * self.n_stages, bool(stuck)
            if not made:
                return False, TOO_SMALL
            self.t, self.y_old, self.y = self.made[-1].t, np.asarray(y_old), np.asarray(y)
            return True, None

        def _dense_output_impl(self):
            self.K[:], self.f = self.slopes, np.asarray(self.f)
            return super()._dense_output_impl()

    return Compiled


def made(solver: Any) -> Sequence[Made]:
    """Return the steps of a solver's last call; the stiffness is nan for one that is not explicit."""
    if getattr(solver, "made", ()):
        return solver.made
    stiffness = np.nan
    if hasattr(solver, "K"):
        difference = solver.K.T @ _last_difference(solver)  # of the last two points, over h
        apart = float(np.linalg.norm(difference))
        stiffness = float(np.linalg.norm(solver.K[-1] - solver.K[-2])) / apart if apart > 0 else 0.0
    return [Made(solver.t, stiffness, solver.nfev)]


def _last_difference(tableau: Any) -> np.ndarray:
    """Return the weights of the slopes in (y+ - y_(last-1)) / h."""
    weights = np.zeros(tableau.n_stages + 1)
    weights[:-1] = tableau.B
    row = tableau.A[tableau.n_stages - 1]
    weights[: len(row)] -= row
    return weights


class _Now(NamedTuple):
    """Where a call stands: the last accepted step, and the one to try."""

    slopes: Any  # (stages + 1, n)
    y_old: Any
    y: Any
    f: Any
    t: Any
    h: Any  # of the last accepted step, signed
    size: Any  # of the step to try
    accepted: Any
    tried: Any
    rejected: Any  # whether the last one tried was
    goes_on: Any
    made: Any  # (MOST, 3): `Made`, with the steps tried for nfev


def march(name: str, rate: Callable, slopes: Any, y: Any, f: Any, numbers: Any) -> tuple:
    """Make steps from y, where f = rate(y), controlled as scipy controls them.

    Returns:
        The slopes of the last step tried (stages + 1, n), written over those given; y before the last step; y; f; next
        size, last step, steps accepted, steps tried, whether the next would be too small; for each `Made`.
    """
    tableau, told = scipy_solver(name), Numbers(*numbers)
    exponent, sign = -1 / (tableau.error_estimator_order + 1), jnp.sign(told.bound - told.t)
    is_rate = told.most == 0

    def smallest(t):
        return 10 * abs(jnp.nextafter(t, sign * jnp.inf) - t)

    def attempt(now):
        size = jnp.where(now.rejected, now.size, jnp.clip(now.size, smallest(now.t), told.max_step))
        end = now.t + sign * size
        end = jnp.where(sign * (end - told.bound) > 0, told.bound, end)
        h = jnp.where(is_rate, 0.0, end - now.t)
        count = jnp.where(is_rate, 1, tableau.n_stages)  # one loop for both keeps one copy of the gradient
        slopes, after = _stages(tableau, rate, now.slopes, now.y, now.f, h, count)
        error, stiff = _measures(name, tableau, slopes, now.y, after, h, told)
        good = error < 1
        wanted = jnp.where(error == 0, 10.0, 0.9 * error**exponent)
        larger = jnp.minimum(jnp.where(now.rejected, 1.0, 10.0), wanted)
        size = abs(h) * jnp.where(good, larger, jnp.where(wanted > 0.2, wanted, 0.2))  # nan shrinks too
        accepted, tried = now.accepted + good, now.tried + 1
        made = now.made.at[now.accepted].set(jnp.array([end, stiff, tried]))
        near = abs(h) <= 2 * smallest(now.t)  # told step by step, for who counts those that advance by rounding only
        is_last = (sign * (end - told.until) >= 0) | (accepted >= told.most) | (stiff > told.limit) | near
        return _Now(
            slopes, jnp.where(good, now.y, now.y_old), jnp.where(good, after, now.y),
            jnp.where(is_rate, slopes[1], jnp.where(good, slopes[-1], now.f)),
            jnp.where(good, end, now.t), jnp.where(good, h, now.h), size, accepted, tried, ~good,
            ~is_rate & jnp.where(good, ~is_last, size >= smallest(now.t)), made,
        )  # fmt: skip

    zero, none = jnp.zeros((), y.dtype), jnp.int32(0)
    now = _Now(slopes, y, y, f, told.t, zero, told.size, none, none, False, True, jnp.zeros((MOST, 3), y.dtype))
    now = jax.lax.while_loop(lambda now: now.goes_on, attempt, jax.tree.map(jnp.asarray, now))
    stuck = now.rejected & ~is_rate
    return now.slopes, now.y_old, now.y, now.f, jnp.array([now.size, now.h, now.accepted, now.tried, stuck]), now.made


def _stages(tableau: Any, rate: Callable, slopes: Any, y: Any, f: Any, h: Any, count: Any) -> tuple:
    """Return the slopes, written over those given, and y+; or f(y) as the second slope, for h = 0 and one stage."""
    rows = [*tableau.A[1:], tableau.B]

    def stage(s, carry):
        slopes, _ = carry
        # Half of a tableau lies above its diagonal, and of DOP853's rest a quarter is 0: sums of what is there.
        point = y + h * jax.lax.switch(s, [partial(_sum, row) for row in rows], slopes)
        return jax.lax.dynamic_update_index_in_dim(slopes, rate(point), s + 1, 0), point

    return jax.lax.fori_loop(0, count, stage, (slopes.at[0].set(f), y))


def _sum(weights: Any, slopes: Any) -> Any:
    return sum(float(weight) * slopes[r] for r, weight in enumerate(weights) if weight)


def _measures(name: str, tableau: Any, slopes: Any, y: Any, after: Any, h: Any, told: Numbers) -> tuple:
    """Return the scaled error and the stiffness of a step."""
    scale = told.atol + told.rtol * jnp.maximum(abs(y), abs(after))
    if name == "DOP853":
        fifth, third = (jnp.sum((_sum(E, slopes) / scale) ** 2) for E in (tableau.E5, tableau.E3))
        both = fifth + 0.01 * third
        error = jnp.where(both == 0, 0.0, abs(h) * fifth / jnp.sqrt(jnp.where(both == 0, 1.0, both) * y.size))
    else:
        error = jnp.sqrt(jnp.mean((h * _sum(tableau.E, slopes) / scale) ** 2))
    apart = jnp.sqrt(jnp.sum(_sum(_last_difference(tableau), slopes) ** 2))
    last = jnp.sqrt(jnp.sum((slopes[-1] - slopes[-2]) ** 2))
    return error, last / jnp.where(apart > 0, apart, jnp.inf)
