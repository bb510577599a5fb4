"""The times at which a schedule jumps or has a corner.

A schedule is piecewise smooth: smooth arithmetic between decisions, such as t < b, sign(b - t), max(t, b), floor(t/n).
Its program (jaxpr) shows the decisions, so that they are followed instead of its values:

    q(t) = (truths of comparisons, signs, floors, which argument a maximum takes, ...)     piecewise constant in t

Each change of q between two samples is bisected down to two neighbouring numbers, however small the jump. A decision
that changes and changes back within one cell is missed: cells are half an iteration long, longer where that would make
more than `_CELLS`. Decisions affine in t, as in all of optax's schedules, change once and are never missed. What a loop
(scan, while) decides inside shows in its integers only: such times must be named.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import jaxprs

#: Most cells that are sampled; times evaluated at once.
_CELLS, _BATCH = 2**16, 512
#: Most changes that can be followed.
_MOST = 200_000
#: Calls whose jaxpr takes the call's own arguments, in order.
_CALLS = {
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "remat",
    "remat2",
    "checkpoint",
    "custom_jvp_call",
    "custom_vjp_call",
}


def changes(function: Callable[..., Any], start: float, end: float, *fixed: Any) -> list[tuple[float, float]]:
    """Find the changes of the decisions that `function(t, *fixed)` makes on the time alone.

    Args:
        function: traceable; hashable, so that its program is kept.
        start: first time.
        end: last time.
        fixed: trees of arrays, of which only the shapes are used; decisions that depend on them are not the schedule's.

    Returns:
        Pairs of neighbouring float64 numbers (last before, first after), in order.

    Example:
        >>> with jax.enable_x64(True):
        ...     changes(lambda t: jnp.where(t < 3, 0.1, 0.2), 0.0, 9.0)
        [(2.9999999999999996, 3.0)]
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), fixed)
    leaves, structure = jax.tree.flatten(shapes)
    decide = partial(_decisions, function, structure, tuple((x.shape, jnp.dtype(x.dtype)) for x in leaves))
    if jax.eval_shape(decide, jax.ShapeDtypeStruct((_BATCH,), jnp.float64)).shape[1] == 0:
        return []
    low, high = sorted((start, end))
    t = np.linspace(low, high, int(np.clip(np.ceil(2 * (high - low)), 64, _CELLS)) + 1)
    q, found = _evaluate(decide, t), []
    left, right, q_left, q_right = t[:-1], t[1:], q[:-1], q[1:]
    while len(left):
        differ = (q_left != q_right).any(axis=1)
        left, right, q_left, q_right = left[differ], right[differ], q_left[differ], q_right[differ]
        middle = left + (right - left) / 2
        narrow = (middle <= left) | (middle >= right)
        found += list(zip(left[narrow].tolist(), right[narrow].tolist(), strict=True))
        if len(found) + len(left) > _MOST:
            raise ValueError(
                f"a schedule must not change more than {_MOST:,} times in one integration, but from {low:g} to "
                f"{high:g} it does: integrate a shorter time."
            )
        left, right, q_left, q_right, middle = (x[~narrow] for x in (left, right, q_left, q_right, middle))
        q_middle = _evaluate(decide, middle) if len(middle) else q_left
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
        q_left, q_right = np.concatenate([q_left, q_middle]), np.concatenate([q_middle, q_right])
    return sorted(found)


def _evaluate(decide: Callable, t: np.ndarray) -> np.ndarray:
    padded = np.resize(t, -(-len(t) // _BATCH) * _BATCH)  # one shape, one program
    return np.concatenate([np.asarray(decide(jnp.asarray(part))) for part in padded.reshape(-1, _BATCH)])[: len(t)]


@partial(jax.jit, static_argnums=(0, 1, 2))
def _decisions(function, structure, kinds, times):
    """Return the decisions (n, m) of function(t, *fixed) at `times` (n,)."""
    fixed = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*kind) for kind in kinds])
    closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((), jnp.float64), *fixed)

    def of(t):
        decided: list[jax.Array] = []
        _walk(closed.jaxpr, closed.consts, [t, *[None] * len(kinds)], decided)
        flat = [jnp.ravel(q).astype(jnp.float64) for q in decided]
        return jnp.nan_to_num(jnp.concatenate(flat)) if flat else jnp.zeros(0)

    return jax.vmap(of)(times)


def _walk(jaxpr: Any, constants: Sequence[Any], inputs: Sequence[Any], decided: list[Any]) -> list[Any]:
    """Compute what follows from the time, append the decisions made on the way; None stands for what does not."""
    value = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))

    def read(v: Any) -> Any:
        return v.val if isinstance(v, jaxprs.Literal) else value.get(v)

    for eqn in jaxpr.eqns:
        given = [read(v) for v in eqn.invars]
        name, out = eqn.primitive.name, [None] * len(eqn.outvars)
        if name in _CALLS:
            inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr", eqn.params.get("fun_jaxpr")))
            out = _walk(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), given, decided)
        elif all(x is not None for x in given):
            bound = eqn.primitive.bind(*given, **eqn.params)
            out = list(bound) if eqn.primitive.multiple_results else [bound]
            decided += _decision(name, given, out)
            for branch in eqn.params.get("branches", ()):
                _walk(branch.jaxpr, branch.consts, given[1:], decided)
        value |= zip(eqn.outvars, out, strict=True)
    return [read(v) for v in jaxpr.outvars]


def _decision(name: str, given: list[Any], out: list[Any]) -> list[Any]:
    """Return what an operation decides: values that are constant wherever it is smooth."""
    if name in ("sign", "floor", "ceil", "round"):
        return out
    if name == "abs":
        return [given[0] < 0]
    if name in ("max", "min"):
        return [given[0] < given[1]]
    if name == "clamp":
        return [given[1] < given[0], given[1] > given[2]]
    if name == "rem":
        return [jnp.round((given[0] - out[0]) / given[1])]
    if name in ("reduce_max", "reduce_min", "cummax", "cummin", "sort"):
        return [jnp.argsort(jnp.ravel(given[0]))]
    inexact = any(jnp.issubdtype(jnp.result_type(x), jnp.inexact) for x in given)
    return [q for q in out if inexact and not jnp.issubdtype(q.dtype, jnp.inexact)] if inexact else []
