"""scipy's explicit Runge-Kutta solvers, each step one compiled program.

    k_1 = f(y),    k_s = f(y + h sum_{r<s} a_sr k_r),    y+ = y + h sum_s b_s k_s,    k_last = f(y+)
    error          the scaled root mean square of h sum_s e_s k_s; accepted below 1
    stiffness      h |k_last - k_(last-1)| / |y+ - y_(last-1)|, h times the largest slope of f that the step has met:
                   near the stability bound of the method on the real axis where stability limits the step

Steps, order, tableau and dense output are scipy's: the classes made here are an `OdeSolver`. What moves to the device
is the arithmetic between two decisions, which in NumPy costs as much as the gradients of a network and their dispatch
together. The equation is autonomous: a flow keeps its clock in the state.

Sources: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, sections II.4 and II.5; Hairer & Wanner,
Solving Ordinary Differential Equations II, section IV.2 (stiffness).
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

#: Solvers that can be compiled, each with its stability bound on the negative real axis.
EXPLICIT = {"DOP853": 6.1, "RK45": 3.3, "RK23": 2.5}
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


def compiled(name: str, step: Callable[..., tuple]) -> type:
    """Return scipy's solver `name`; `step(slopes, y, f, h, rtol, atol, n_stages)` is `stages` compiled."""
    base = scipy_solver(name)

    class Compiled(base):
        slopes = None
        stiffness = 0.0

        def _step_impl(self):
            t, smallest = self.t, 10 * abs(np.nextafter(self.t, self.direction * np.inf) - self.t)
            size, most = float(np.clip(self.h_abs, smallest, self.max_step)), 10.0
            while size >= smallest:
                end = t + size * self.direction
                end = self.t_bound if self.direction * (end - self.t_bound) > 0 else end
                h = end - t
                if self.slopes is None:
                    self.slopes = np.zeros((self.n_stages + 1, self.n))
                self.slopes, y, f, error, stiffness = step(
                    self.slopes, self.y, self.f, h, self.rtol, self.atol, self.n_stages
                )
                self.nfev += self.n_stages
                error = float(error)
                wanted = 0.9 * error**self.error_exponent if error != 0 else most
                if error < 1:
                    self.h_previous, self.y_old, self.stiffness = h, self.y, stiffness
                    self.t, self.y, self.f, self.h_abs = end, np.asarray(y), f, abs(h) * min(most, wanted)
                    return True, None
                size, most = abs(h) * max(0.2, wanted), 1.0  # no growth right after a rejection; nan shrinks too
            return False, TOO_SMALL

        def _dense_output_impl(self):
            self.K[:], self.f = self.slopes, np.asarray(self.f)
            return super()._dense_output_impl()

    return Compiled


def stiffness(solver: Any) -> float:
    """Return h times the largest slope of the field that an explicit solver's last step has met."""
    if hasattr(solver, "stiffness"):
        return float(solver.stiffness)
    difference = solver.K.T @ _last_difference(solver)  # of the last two points, over h
    apart = float(np.linalg.norm(difference))
    return float(np.linalg.norm(solver.K[-1] - solver.K[-2])) / apart if apart > 0 else 0.0


def _last_difference(tableau: Any) -> np.ndarray:
    """Return the weights of the slopes in (y+ - y_(last-1)) / h."""
    weights = np.zeros(tableau.n_stages + 1)
    weights[:-1] = tableau.B
    row = tableau.A[tableau.n_stages - 1]
    weights[: len(row)] -= row
    return weights


def stages(
    name: str, rate: Callable, slopes: Any, y: Any, f: Any, h: Any, rtol: Any, atol: Any, count: Any = None
) -> tuple:
    """Make one step from y, where f = rate(y); or only the first `count` of its stages, for h = 0 and 1 rate(y) itself.

    Returns:
        The slopes (stages + 1, n), written over those given; y+; f+; the scaled error; the stiffness.
    """
    tableau = scipy_solver(name)
    weights = np.zeros((tableau.n_stages, tableau.n_stages + 1))  # row s leads to slope s + 1; the last row is b
    weights[:-1, : tableau.A.shape[1]] = tableau.A[1:]
    weights[-1, :-1] = tableau.B
    weights = jnp.asarray(weights)

    def stage(s, carry):
        slopes, _ = carry
        point = y + h * (weights[s] @ slopes)
        return jax.lax.dynamic_update_index_in_dim(slopes, rate(point), s + 1, 0), point

    # One loop over the stages keeps one copy of the gradient in the program. The old slopes are cleared, for 0 * nan.
    slopes = jnp.zeros_like(slopes).at[0].set(f)
    count = tableau.n_stages if count is None else count
    slopes, after = jax.lax.fori_loop(0, count, stage, (slopes, y))
    scale = atol + rtol * jnp.maximum(abs(y), abs(after))
    if name == "DOP853":
        fifth, third = (jnp.sum(((E @ slopes) / scale) ** 2) for E in (tableau.E5, tableau.E3))
        both = fifth + 0.01 * third
        error = jnp.where(both == 0, 0.0, abs(h) * fifth / jnp.sqrt(jnp.where(both == 0, 1.0, both) * y.size))
    else:
        error = jnp.sqrt(jnp.mean((h * (tableau.E @ slopes) / scale) ** 2))
    apart = jnp.linalg.norm(jnp.asarray(_last_difference(tableau)) @ slopes)
    stiff = jnp.linalg.norm(slopes[-1] - slopes[-2]) / jnp.where(apart > 0, apart, jnp.inf)
    return slopes, after, slopes[count], error, stiff
