"""The energy that leapfrog steps with friction balance to fourth order, where they balance the flow's to second.

With q = theta, c = 1-b, V = a c f and the kinetic energy T(p) of `conformal` or `relativistic`, one step is the time-dt
flow of another oscillator of the same friction,

    q' = dH~/dp,   p' = -dH~/dq - c p,   so that   H~' = -c p . dH~/dp

    H~ = T + V + (dt^2/12) [T_p.V_qq T_p - V_q.T_pp V_q / 2 + c (2 V_q.T_p - p.T_pp V_q)
                            + c^2 (V + T - p.T_p + p.T_pp p)]

up to O(dt^4), from the symmetric Baker-Campbell-Hausdorff formula: the commutator of p.d/dp with a Hamiltonian field
is Hamiltonian. Without friction it is the shadow energy of the Stormer-Verlet method. p is taken in the middle of the
kick, p = -a (m + (c dt/2) g): there the steps are symmetric.

Sources: Hairer, Lubich & Wanner, Geometric Numerical Integration, ch. IX; Franca, Sulam, Robinson & Vidal 2020. The
terms in c are derived here, and checked on iterates.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.core import check, tree
from inercia.core.method import Method, Params
from inercia.core.path import Path
from inercia.core.transition import abs_sq
from inercia.methods.conformal import ConformalState, RelativisticState, conformal, relativistic


class Balance(NamedTuple):
    """Energies along a path, per time; NumPy float64, in squared parameter units per squared iteration."""

    energy: np.ndarray  # (n,), H = T + V, that of the flow
    loss_rate: np.ndarray  # (n,), at which the flow loses it: c p . dH/dp, at least 0
    modified: np.ndarray  # (n,), H~
    modified_loss_rate: np.ndarray  # (n,), c p . dH~/dp


def modified_energy(method: Method, loss: Callable, path: Path) -> Balance:
    """Compute the energy of the flow, and the one that the iterates themselves lose by friction, along iterates.

    Args:
        method: `conformal` or `relativistic`, with constant hyperparameters.
        loss: params -> scalar, twice differentiable.
        path: of `iterate` with this method, with real params; along its flow, `energy` and `loss_rate` are exact.

    Returns:
        Balance. Over a time of the order of 1 energy + integral of loss_rate stays constant to O(dt^2), and modified +
        integral of modified_loss_rate to O(dt^4).

    Raises:
        TypeError: another method, a path of another one, a schedule.

    Example:
        >>> import inercia, numpy as np
        >>> method, loss = inercia.conformal(0.5, 0.9, dt=0.5), lambda x: x**2 / 2
        >>> kept = inercia.modified_energy(method, loss, inercia.iterate(method, loss, np.array(1.0), 40))
        >>> def drift(energy, rate):  # Simpson's rule over two updates
        ...     lost = (rate[:-2:2] + 4 * rate[1:-1:2] + rate[2::2]).cumsum() * 0.5 / 3
        ...     return abs(energy[2::2] + lost - energy[0]).max()
        >>> bool(drift(kept.modified, kept.modified_loss_rate) < 0.01 * drift(kept.energy, kept.loss_rate))
        True
    """
    a, c, delta, h = _numbers(method)
    check.real("params", path.params)
    path.check_axis()
    if not isinstance(path.state, RelativisticState if delta else ConformalState):
        raise TypeError(f"path must be one of {method.name}, but its state is {type(path.state).__name__}.")

    def at(point: tuple) -> tuple:
        count, q, m = point
        V_q = jax.grad(loss)(q)
        lacking = jnp.where((count > 0) & discrete, c * h / 2, 0.0)
        p = jax.tree.map(lambda m, g: -a * (m + lacking * g), m, V_q)
        return jax.tree.map(lambda E: (E(q, p), c * jax.jvp(partial(E, q), (p,), (p,))[1]), energies)

    energies, discrete = _energies(loss, a, c, delta, h), path.solve is None  # a flow's m lacks nothing
    with jax.enable_x64(True):
        points = jax.tree.map(jnp.asarray, (path.state.count, path.params, path.state[1]))
        (plain, rate), (modified, modified_rate) = tree.to_numpy(jax.jit(partial(jax.lax.map, at))(points))
    return Balance(plain, rate, modified, modified_rate)


def _numbers(method: Any) -> tuple[Any, Any, Any, Any]:
    """Return a, c, delta and dt."""
    if getattr(method, "factory", None) not in (conformal, relativistic):
        raise TypeError(f"method must be inercia's conformal or relativistic, but it is {method!r}.")
    given = method.hyper
    for name in ("learning_rate", "beta"):
        if callable(given[name]):
            raise TypeError(f"the energy falls for constant hyperparameters, but {name} is a schedule.")
    return given["learning_rate"], 1 - given["beta"], given.get("delta", 0.0), given["dt"]


def _energies(loss: Callable, a: Any, c: Any, delta: Any, h: Any) -> tuple[Callable, Callable]:
    """Return H and H~, functions of (q, p)."""

    def potential(q: Params) -> Any:
        return a * c * loss(q)

    def kinetic(p: Params) -> Any:
        square = sum(jnp.sum(abs_sq(leaf)) for leaf in jax.tree.leaves(p))
        return square / (1 + jnp.sqrt(1 + delta * square / a**2))

    def plain(q: Params, p: Params) -> Any:
        return kinetic(p) + potential(q)

    def modified(q: Params, p: Params) -> Any:
        dot = optax.tree.vdot
        V_q, T_p = jax.grad(potential)(q), jax.grad(kinetic)(p)
        bent_p = jax.jvp(jax.grad(kinetic), (p,), (p,))[1]  # T_pp p
        bent_V = jax.jvp(jax.grad(kinetic), (p,), (V_q,))[1]  # T_pp V_q
        curved = jax.jvp(jax.grad(potential), (q,), (T_p,))[1]  # V_qq T_p
        terms = dot(T_p, curved) - dot(V_q, bent_V) / 2
        terms += c * (2 * dot(V_q, T_p) - dot(p, bent_V)) + c**2 * (plain(q, p) - dot(p, T_p) + dot(p, bent_p))
        return plain(q, p) + h**2 / 12 * terms

    return plain, modified
