"""The state of any optimizer: the dtypes in which it stays, its clock, and what its update asks for.

A state holds more than moments: counters, flags, keys of random numbers, moments kept in bfloat16 on purpose. So its
dtypes are not decided here but asked of the method: `init` and `update` are traced with float64 params, and a leaf has
the dtype in which the update gives it back,

    dtype(s) = dtype of update(g, s, theta)[1],    repeated until it gives back what it was given.

The clock is found the same way. Every integer scalar is set to several values, and the update is asked what it makes of
them: the leaves that it raises by exactly one, each time, count the updates. (`mini_step` of optax's MultiSteps wraps,
`notfinite_count` stands still: neither is a clock.) The time is how far they are above their start.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.core import check
from inercia.core.method import Params, State

#: Values at which a counter is probed: below, at and beyond the periods that wrap.
_PROBES = (0, 1, 6, 1009)
#: Updates after which the dtypes of a state must have settled.
_SETTLED = 4


def extra_arguments(loss: Callable[[Params], Any], value: Any, grads: Params) -> dict[str, Any]:
    """Return what transformations may ask for besides the gradient; the others ignore it.

    Args:
        loss: params -> scalar.
        value: the loss at the params.
        grads: its gradient there, as given to the update.

    Returns:
        `value`, `grad` and `value_fn` (line searches, Polyak steps, momo, reduce_on_plateau), `obj_fn` (sophia) and
        `grad_fn` (sam in opaque mode), for `update(grads, state, params, **extra)`.
    """

    def value_fn(params, obj_fn=None, grad_fn=None):  # line searches hand every other argument on to it
        return loss(params)

    def grad_fn(params, *_):
        return jax.tree.map(jnp.conj, jax.grad(loss)(params))

    return {"value": value, "grad": grads, "value_fn": value_fn, "obj_fn": value_fn, "grad_fn": grad_fn}


def update_of(
    method: optax.GradientTransformation,
    loss: Callable[[Params], Any],
    params: Params,
    state: State,
    grads: Params = None,
) -> tuple[Params, State, Any]:
    """Call the method's update with all that it asks for.

    Args:
        method: any optax transformation.
        loss: params -> scalar.
        params: where the gradient is taken.
        state: the method's state.
        grads: the gradient that the update is to see; by default the loss's own.

    Returns:
        The update, to be added to the params; the state after it; the loss before it.
    """
    if grads is not None:
        value = loss(params)
    else:
        value, grads = jax.value_and_grad(loss)(params)
        grads = jax.tree.map(jnp.conj, grads)  # the direction of ascent of complex params
    return *updated(method, loss, params, state, value, grads), value


def updated(
    method: optax.GradientTransformation,
    loss: Callable[[Params], Any],
    params: Params,
    state: State,
    value: Any,
    grads: Params,
) -> tuple[Params, State]:
    """Call the method's update with all that it asks for, value and gradient being there; return update and state."""
    update = optax.with_extra_args_support(method).update
    return update(grads, state, params, **_accepted(update, extra_arguments(loss, value, grads)))


def keeps_form(before: State, after: State) -> None:
    """Raise TypeError unless an update gave back a state of the form that it was given."""
    if jax.tree.structure(after) != jax.tree.structure(before):
        raise TypeError(
            "the update must give back a state of the form that init gave, but it adds or drops entries: let init "
            "make every entry."
        )


def advance(
    method: optax.GradientTransformation, loss: Callable[[Params], Any], params: Params, state: State
) -> tuple[Params, State, Any]:
    """Make one update: return params and state after it, and the loss before it."""
    updates, state, value = update_of(method, loss, params, state)
    return optax.apply_updates(params, updates), state, value


def _accepted(update: Callable, extra: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that `update` takes: by optax's convention all, but sam takes `grad_fn` alone."""
    parameters = inspect.signature(update).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return extra
    return {name: value for name, value in extra.items() if name in parameters}


def start_state(
    method: optax.GradientTransformation,
    params: Params,
    state: State | None = None,
    dtype: Any = np.float64,
    member: tuple[Any, float] | None = None,
) -> State:
    """Return the state from which a run in float64 starts, in the dtypes that the method's own update keeps.

    Args:
        method: any optax transformation.
        params: float64 or complex128; the call needs an x64 context.
        state: the state to go on from, of any path or training, NumPy or not; None for `method.init(params)`.
        dtype: of the loss, which states of line searches keep.
        member: as of `fresh_state`.

    Raises:
        ValueError: a state of another form than the method's own, or a counter that is no integer number of updates.
        TypeError: an update that never gives back the dtypes that it was given.
    """
    fresh = fresh_state(method, params, member)
    kept = _settled(method, params, fresh, np.dtype(dtype))
    if state is None:
        state = fresh
    if jax.tree.structure(state) != jax.tree.structure(fresh):
        raise ValueError(
            f"state must have the form that method.init(params) has, {jax.tree.structure(fresh)}, but it is "
            f"{jax.tree.structure(state)}: pass the state of a path or a training of this very method."
        )
    start = jax.tree.map(partial(_cast, dt=getattr(method, "dt", 1.0)), state, fresh, kept)
    for (keys, leaf), to in zip(jax.tree_util.tree_leaves_with_path(start), jax.tree.leaves(kept), strict=True):
        if leaf.shape != to.shape:
            name = f"state{jax.tree_util.keystr(keys)}"
            raise ValueError(f"{name} must have the shape {to.shape} for these params, but it has {leaf.shape}.")
    return start


def require_own(method: Any, params: Params, state: State) -> None:
    """Raise unless a state has the form of the method's own, where one method is observed along another's run."""
    own = fresh_state(method, params)
    if jax.tree.structure(own) != jax.tree.structure(state):
        raise ValueError(
            "an observer must be made of the method that is iterated, but the state is that of another: it should have "
            f"the form {jax.tree.structure(own)}, but it has {jax.tree.structure(state)}."
        )


class Alone(NamedTuple):
    """The family that consists of one method."""

    method: Any

    def __call__(self, dt: Any) -> Any:
        """Return the method."""
        return self.method


def fresh_state(method: Any, params: Params, member: tuple[Any, float] | None = None) -> State:
    """Return `method.init(params)`, of one program: of many small ones, each would be compiled on its own.

    Args:
        method: any optax transformation.
        params: float64 or complex128.
        member: a family, and the dt at which it is the method: one program for all of the family.
    """
    family, dt = member or (Alone(method), 1.0)
    try:
        return _init(family, dt, params)
    except (TypeError, ValueError):  # an init that looks at numbers, or that refuses the params
        return method.init(params)


@partial(jax.jit, static_argnums=0)
def _init(family, dt, params):
    return family(dt).init(params)


def _settled(method: Any, params: Params, state: State, dtype: np.dtype) -> State:
    """Return the abstract state of the dtypes that an update gives back as it was given them."""
    given = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.asarray(leaf).dtype), state)
    for _ in range(_SETTLED):
        with check.compiled("the update", "in a schedule, compute with jax.numpy and choose with jnp.where"):
            after = _probe.eval_shape(method, dtype, params, given)
        keeps_form(given, after)
        after = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), after)
        if jax.tree.leaves(after) == jax.tree.leaves(given):
            return given
        given = after
    raise TypeError(
        "the update must settle on the dtypes of its state, but after "
        f"{_SETTLED} updates it still changes them: cast the new state to the dtypes of the old."
    )


def bowl(params: Params) -> jax.Array:
    """Return the sum of squares: a loss that stands in where an update is looked at and the loss does not matter."""
    return jnp.asarray(sum(jnp.sum((p.conj() * p).real) for p in jax.tree.leaves(params)))


@partial(jax.jit, static_argnums=(0, 1))
def _probe(method, dtype, params, state):
    """Return the state after an update on the sum of squares."""
    return advance(method, bowl if dtype is None else lambda p: bowl(p).astype(dtype), params, state)[1]


def _cast(leaf: Any, fresh: Any, kept: Any, dt: Any) -> jax.Array:
    leaf = jnp.asarray(leaf)
    if jnp.issubdtype(kept.dtype, jax.dtypes.prng_key):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        return jax.random.wrap_key_data(leaf, impl=jax.random.key_impl(fresh))  # a path holds the numbers of a key
    if jnp.issubdtype(kept.dtype, jnp.integer) and jnp.issubdtype(leaf.dtype, jnp.floating):
        # In the path of a flow a counter is the time that it shows.
        count = np.asarray(leaf, np.float64) / float(dt)
        if not (np.abs(count - np.rint(count)) <= 1e-6 * np.maximum(1, np.abs(count))).all():
            raise ValueError(
                "iterates can go on from the state of a flow only where its time is a multiple of dt, but the time is "
                f"{np.asarray(leaf)} and dt = {float(dt):g}: take the flow's path at such a time."
            )
        leaf = jnp.asarray(np.rint(count))
    return leaf.astype(kept.dtype)


def updates_made(method: optax.GradientTransformation, params: Params, state: State) -> int | None:
    """Return the number of updates that a state has seen, by its own counters; None where it has no counter.

    Args:
        method: any optax transformation.
        params: of which only shapes and dtypes matter.
        state: concrete, of the form that `method.init(params)` has.

    Raises:
        ValueError: counters that disagree.

    Example:
        >>> import optax
        >>> method, x = optax.apply_if_finite(optax.adam(0.1), 3), jnp.ones(2)
        >>> _, after, _ = advance(method, jnp.sum, x, method.init(x))
        >>> updates_made(method, x, after), updates_made(optax.sgd(0.1), x, optax.sgd(0.1).init(x))
        (1, None)
    """
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(state)]
    scalars = [i for i, leaf in enumerate(leaves) if leaf.ndim == 0 and jnp.issubdtype(leaf.dtype, jnp.integer)]
    if not scalars:
        return None
    ones = jax.tree.map(jnp.ones_like, params)  # params that are not finite would hold some counters up
    fresh = method.init(ones)
    raised = np.ones(len(scalars), bool)
    for probe in _PROBES:
        raised &= np.asarray(_counted(method, tuple(scalars), ones, fresh, probe)) == probe + 1
    initial = jax.tree.leaves(fresh)
    counts = {int(leaves[i]) - int(initial[i]) for i, counts in zip(scalars, raised, strict=True) if counts}
    if len(counts) > 1:
        raise ValueError(
            f"the counters of the state must agree on the updates made, but they show {sorted(counts)}: say at which "
            "time the run starts with start=..."
        )
    return counts.pop() if counts else None


@partial(jax.jit, static_argnums=(0, 1))
def _counted(method, scalars, params, state, value):
    """Return what an update makes of the scalars numbered, each set to `value`; what else it computes is dropped."""
    leaves, structure = jax.tree.flatten(state)
    for i in scalars:
        leaves[i] = jnp.asarray(value, jnp.asarray(leaves[i]).dtype)
    after = jax.tree.leaves(_probe(method, None, params, jax.tree.unflatten(structure, leaves)))
    return [after[i] for i in scalars]
