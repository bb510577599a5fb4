"""scipy's explicit Runge-Kutta solvers, each step one compiled program.

    k_1 = f(y),    k_s = f(y + h sum_{r<s} a_sr k_r),    y+ = y + h sum_s b_s k_s,    k_last = f(y+)
    error          the scaled root mean square of h sum_s e_s k_s; accepted below 1

Steps, order, tableau, dense output and events are scipy's: the classes made here are handed to `solve_ivp`. What
moves to the device is the arithmetic between two decisions, which in NumPy costs as much as the gradients of a
network and their dispatch together. The equation is autonomous: a flow keeps its clock in the state.

Source: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, sections II.4 and II.5.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

#: Solvers that can be compiled.
EXPLICIT = ("DOP853", "RK45", "RK23")


def compiled(name: str, step: Callable[..., tuple]) -> type:
    """Return scipy's solver `name`; `step(slopes, y, f, h, rtol, atol)` is `stages` compiled, the slopes donated."""
    from scipy import integrate  # noqa: PLC0415  loaded when used

    base = getattr(integrate, name)

    class Compiled(base):
        slopes = None

        def _step_impl(self):
            t, smallest = self.t, 10 * abs(np.nextafter(self.t, self.direction * np.inf) - self.t)
            size, most = float(np.clip(self.h_abs, smallest, self.max_step)), 10.0
            while size >= smallest:
                end = t + size * self.direction
                end = self.t_bound if self.direction * (end - self.t_bound) > 0 else end
                h = end - t
                if self.slopes is None:
                    self.slopes = jnp.zeros((self.n_stages + 1, self.n))
                self.slopes, y, f, error = step(self.slopes, self.y, self.f, h, self.rtol, self.atol)
                self.nfev += self.n_stages
                error = float(error)
                wanted = 0.9 * error**self.error_exponent if error != 0 else most
                if error < 1:
                    self.h_previous, self.y_old = h, self.y
                    self.t, self.y, self.f, self.h_abs = end, np.asarray(y), f, abs(h) * min(most, wanted)
                    return True, None
                size, most = abs(h) * max(0.2, wanted), 1.0  # no growth right after a rejection; nan shrinks too
            return False, self.TOO_SMALL_STEP

        def _dense_output_impl(self):
            ends = {self.t_old: self.y_old, self.t: self.y}

            def values(times):
                if all(time in ends for time in times):  # the polynomial costs gradients, and is not needed there
                    return np.stack([ends[time] for time in times], axis=1)
                self.K[:], self.f = self.slopes, np.asarray(self.f)
                return super(Compiled, self)._dense_output_impl()(times)

            return values

    return Compiled


def stages(name: str, rate: Callable, slopes: Any, y: Any, f: Any, h: Any, rtol: Any, atol: Any) -> tuple:
    """Make one step from y, where f = rate(y).

    Returns:
        The slopes (stages + 1, n), written over those given; y+; f+; the scaled error.
    """
    from scipy import integrate  # noqa: PLC0415

    tableau = getattr(integrate, name)
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
    slopes, after = jax.lax.fori_loop(0, tableau.n_stages, stage, (slopes, y))
    scale = atol + rtol * jnp.maximum(abs(y), abs(after))
    if name == "DOP853":
        fifth, third = (jnp.sum(((E @ slopes) / scale) ** 2) for E in (tableau.E5, tableau.E3))
        both = fifth + 0.01 * third
        error = jnp.where(both == 0, 0.0, abs(h) * fifth / jnp.sqrt(jnp.where(both == 0, 1.0, both) * y.size))
    else:
        error = jnp.sqrt(jnp.mean((h * (tableau.E @ slopes) / scale) ** 2))
    return slopes, after, slopes[-1], error
