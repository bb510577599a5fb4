"""A flow as one real vector, compiled once per (method, loss).

    z = (params, state),    z' = flow(grad loss(params), state, params)

The equation is autonomous: the counters of the state are its clock, with derivative 1. Where a schedule jumps at b,
the flow has two values at t = b, and a solver that stops there must read the one before. So the flow is solved piece by
piece, and in the piece [b_i, b_(i+1)) it sees the clock min(max(t, b_i), b_(i+1)-), the last number before b_(i+1).
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.core import tree
from inercia.core.convolutions import fast_convolutions
from inercia.core.forms import form_of
from inercia.core.method import Params, State
from inercia.flows import scipy_rk

#: The first and the last time that a flow may see when it has no breakpoints.
EVERYWHERE = np.array([-np.inf, np.inf])
#: Evaluations of a flow that a solver makes by the program of its steps: at its start, and in the test of that.
_FEW = 4
#: Told to `march` for a rate.
_NO_STEP = scipy_rk.Numbers()


class Field(NamedTuple):
    """A flow, and what is needed to read a vector as its params and state."""

    equation: tuple[Any, Any, tuple[bool, ...]]  # method or bare flow, loss, which leaves of the state are clocks
    params: Params  # a point, whose numbers do not matter
    state: State

    def rate(self, seen: Any, z: Any) -> jax.Array:
        """Return z' where the clock lies in `seen` = (first, last)."""
        return _compiled_rate(self.equation, self.params, self.state, seen, z)

    def jacobian(self, seen: Any, z: Any) -> jax.Array:
        """Return the matrix of derivatives of z' in z."""
        return _jacobian(self.equation, self.params, self.state, seen, z)

    def rate_size(self, z: Any) -> int:
        """Return the number of entries of z', not computed."""
        leaves, structure = jax.tree.flatten((self.params, self.state, EVERYWHERE, z))
        return _rate_size(self.equation, structure, tuple(map(jax.typeof, leaves)))

    def march(self, solver: str, seen: Any, slopes: Any, y: Any, f: Any, numbers: Any) -> tuple:
        """Make steps of an explicit solver, as `scipy_rk.march`; the slopes are donated."""
        return _march(self.equation, solver, self.params, self.state, seen, slopes, y, f, numbers)

    def rate_by_march(self, solver: str) -> Callable[[Any, Any], jax.Array]:
        """Return `rate`, at first by the program of `march`: one of its own would hold another gradient to compile.

        That program costs more a call, so a run that asks often, for points inside its steps, gets one of its own.
        """
        asked, slopes = 0, None

        def rate(seen, z):
            nonlocal asked, slopes
            asked += 1
            if asked > _FEW:
                return self.rate(seen, z)
            if slopes is None:
                slopes = np.zeros((scipy_rk.scipy_solver(solver).n_stages + 1, z.size))
            slopes, _, _, found, _, _ = self.march(solver, seen, slopes, z, np.zeros_like(z), np.array(_NO_STEP))
            return found

        return rate

    def event(self, event: Any, t: Any, z: Any) -> float:
        """Return event(t, params, state)."""
        return float(_event(event, self.params, self.state, t, z))

    def event_shape(self, event: Any, t: Any, z: Any) -> Any:
        """Return the abstract value of event(t, params, state)."""
        return _event.eval_shape(event, self.params, self.state, t, z)

    def path(self, z: Any) -> tuple[Params, State, jax.Array]:
        """Return params, state and loss at the rows of z."""
        return _path(self.equation[1], self.params, self.state, z)


def flow_of(method: Any) -> Any:
    """Return the flow (grads, state, params) -> (d params/dt, d state/dt) of a method, or the bare flow itself."""
    return getattr(method, "flow", method)


def clocks(method: Any, params: Params, state: State) -> tuple[bool, ...]:
    """Say for each leaf of the state whether it counts updates: an integer now or at the start, or named `count`."""
    named = [
        getattr(keys[-1], "name", None) == "count" for keys, _ in jax.tree_util.tree_leaves_with_path(state) if keys
    ]
    leaves, structure = jax.tree.flatten(state)
    fresh = leaves
    if isinstance(method, optax.GradientTransformation):
        abstract = form_of(method.init, params)
        if jax.tree.structure(abstract) == structure:
            fresh = jax.tree.leaves(abstract)
    named = named if len(named) == len(leaves) else [False] * len(leaves)
    kinds = zip(leaves, fresh, named, strict=True)
    return tuple(name or any(jnp.issubdtype(_dtype(x), jnp.integer) for x in (now, then)) for now, then, name in kinds)


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype


def with_clock(state: State, mask: tuple[bool, ...], change: Any) -> State:
    """Return the state with `change` applied to its clocks."""
    leaves, structure = jax.tree.flatten(state)
    return jax.tree.unflatten(structure, [change(x) if c else x for x, c in zip(leaves, mask, strict=True)])


def _rate(equation, params, state, seen, z):
    method, loss, mask = equation
    _, rebuild = tree.ravel_real((params, state))
    params, state = rebuild(z)
    first, last = seen[0], seen[1]
    # Not jnp.clip, whose derivative at the ends of the interval is a half.
    state = with_clock(state, mask, lambda t: jnp.where(t < first, first, jnp.where(t > last, last, t)))
    flow = flow_of(method)

    def gradient(params):
        return jax.tree.map(jnp.conj, jax.grad(loss)(params))

    if getattr(flow, "takes_along", False):  # a flow that needs the rate of the gradient along it
        grads, along = jax.linearize(gradient, params)
        return tree.ravel_real(flow(grads, state, params, along=along))[0]
    return tree.ravel_real(flow(gradient(params), state, params))[0]


_compiled_rate = partial(jax.jit, static_argnums=0)(_rate)


@lru_cache(maxsize=64)  # looked up at each call: JAX's own look takes half a millisecond
def _rate_size(equation: Any, structure: Any, forms: tuple) -> int:
    leaves = [jax.ShapeDtypeStruct(form.shape, form.dtype) for form in forms]
    return _compiled_rate.eval_shape(equation, *jax.tree.unflatten(structure, leaves)).size


@partial(jax.jit, static_argnums=0)
@fast_convolutions
def _jacobian(equation, params, state, seen, z):
    return jax.jacfwd(partial(_rate, equation, params, state, seen))(z)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=5)
@fast_convolutions
def _march(equation, solver, params, state, seen, slopes, y, f, numbers):
    return scipy_rk.march(solver, partial(_rate, equation, params, state, seen), slopes, y, f, numbers)


@partial(jax.jit, static_argnums=0)
def _event(event, params, state, t, z):
    _, rebuild = tree.ravel_real((params, state))
    return jax.tree.map(jnp.asarray, event(t, *rebuild(z)))


@partial(jax.jit, static_argnums=0)
@fast_convolutions
def _path(loss, params, state, z):
    _, rebuild = tree.ravel_real((params, state))
    params, state = jax.vmap(rebuild)(z)
    return params, state, jax.lax.map(loss, params)
