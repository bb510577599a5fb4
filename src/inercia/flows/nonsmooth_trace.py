"""Where a traced function is not smooth: the operations, and which of their branches is taken.

A function is followed through its jaxpr, and with each value whether it depends on the arguments in question. An
operation on such a value may jump (sign, round, an index), have a slope that jumps (max, abs, clamp), or choose between
values by a comparison. Each of them is smooth as long as the same branch is taken; its **branch** is an array of bools
or integers, as x > 0 for sign and abs, a > b for max, the index of the largest for a maximum over an axis. What is not
smooth is met where a branch changes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import jaxprs

#: What a value is: free of the arguments, a function of them, the truth of a comparison of them with 0 or with another.
_FREE, _DEPENDS, _SIGN, _TRUTH = range(4)
_COMPARISONS = {"gt", "ge", "lt", "le", "eq", "ne"}
#: What calls its jaxpr in another way than once, with the arguments given.
_LOOPS = {"scan", "while", "cond", "shard_map"}


class Operation(NamedTuple):
    """An operation that is not smooth."""

    name: str
    kind: str  # "jump", "slope" (jumps), "branch" (a choice by a comparison) or "guard" (by one with zero)
    branch: Any  # the branch that is taken, an array of bools or integers; None inside a loop


def _along(function: Callable) -> Callable:
    """Make the branch of a reduction: the index that `function` picks among the entries of the axes."""

    def index(x, *, axes, **_):
        x = jnp.moveaxis(x, axes, range(-len(axes), 0))
        return function(x.reshape(*x.shape[: x.ndim - len(axes)], -1), axis=-1)

    return index


_JUMPS = {
    "sign": lambda x, **_: x > 0,
    "floor": lambda x, **_: jnp.floor(x),
    "ceil": lambda x, **_: jnp.ceil(x),
    "round": lambda x, **_: jnp.round(x),
    "rem": lambda x, y, **_: jnp.floor(x / y),
    "argmax": lambda x, *, axes, **_: jnp.argmax(x, axes[0]),
    "argmin": lambda x, *, axes, **_: jnp.argmin(x, axes[0]),
    "top_k": lambda x, *, k, **_: jax.lax.top_k(x, k)[1],
}
_SLOPES = {
    "max": lambda a, b, **_: a > b,
    "min": lambda a, b, **_: a < b,
    "clamp": lambda low, x, high, **_: (x > low).astype(int) + (x > high),
    "abs": lambda x, **_: x > 0,
    "reduce_max": _along(jnp.argmax),
    "reduce_min": _along(jnp.argmin),
    "cummax": lambda x, *, axis, reverse, **_: x == jax.lax.cummax(x, axis, reverse),
    "cummin": lambda x, *, axis, reverse, **_: x == jax.lax.cummin(x, axis, reverse),
    "sort": lambda x, *_, dimension, **__: jnp.argsort(x, dimension),
}


def operations(function: Callable, *args: Any, derivative: bool = False) -> list[Operation]:
    """List the operations of `function` on its first argument that are not smooth, with their branches.

    Under a trace the branches are traced arrays, so that this can be called inside `jax.jit`.

    Args:
        function: traced.
        args: trees of arrays; `function` is looked at as a function of the first.
        derivative: whether its derivative matters, to which stopped gradients are constants, as the maximum that a
            stable softmax takes off.
    """
    closed = jax.make_jaxpr(function)(*args)
    flat = jax.tree.leaves(args)
    count = len(jax.tree.leaves(args[0]))
    found: list[Operation] = []
    kinds = [_DEPENDS if i < count and jnp.issubdtype(x.dtype, jnp.inexact) else _FREE for i, x in enumerate(flat)]
    _walk(closed, list(zip(flat, kinds, strict=True)), found, derivative)
    return found


def _walk(closed: Any, inputs: list, found: list[Operation], derivative: bool) -> list:
    """Go through the equations with pairs (value, kind); inside loops, where a value is not one, it is None."""
    jaxpr = closed.jaxpr
    env: dict[Any, tuple] = dict(zip(jaxpr.invars, inputs, strict=True))
    env |= {v: (value, _FREE) for v, value in zip(jaxpr.constvars, closed.consts, strict=True)}
    evaluated = _live(jaxpr, False)
    counted = _live(jaxpr, derivative)
    for i, eqn in enumerate(jaxpr.eqns):
        if i not in evaluated:
            continue
        given = [(v.val, _FREE) if isinstance(v, jaxprs.Literal) else env[v] for v in eqn.invars]
        noted = found if i in counted else []
        inner = _inner(eqn)
        if eqn.primitive.name not in _LOOPS and len(inner) == 1 and len(inner[0].jaxpr.invars) == len(given):
            result = _walk(inner[0], given, noted, derivative)
        else:
            values, kinds = [value for value, _ in given], [kind for _, kind in given]
            kind = (
                _FREE if derivative and eqn.primitive.name == "stop_gradient" else _kind_of(eqn, values, kinds, noted)
            )
            if any(kinds):
                for body in inner:
                    floats = [jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in body.jaxpr.invars]
                    _walk(body, [(None, _DEPENDS if f else _FREE) for f in floats], noted, derivative)
            out = [None] * len(eqn.outvars)
            if not any(value is None for value in values):
                out = eqn.primitive.bind(*values, **eqn.params)
                out = out if eqn.primitive.multiple_results else [out]
            result = [(value, kind) for value in out]
        env |= dict(zip(eqn.outvars, result, strict=True))
    return [(v.val, _FREE) if isinstance(v, jaxprs.Literal) else env[v] for v in jaxpr.outvars]


def _inner(eqn: Any) -> list:
    """Return the jaxprs that an equation calls: jit, custom derivatives, loops."""
    closed, opened = jaxprs.ClosedJaxpr, jaxprs.Jaxpr
    parts = [j for p in eqn.params.values() for j in (p if isinstance(p, (tuple, list)) else (p,))]
    found = [j for j in parts if isinstance(j, (opened, closed))]
    return [j if isinstance(j, closed) else closed(j, ()) for j in found]


def _live(jaxpr: Any, derivative: bool) -> set[int]:
    """Return the numbers of the equations on which the outputs, or their derivatives, depend."""
    needed = {v for v in jaxpr.outvars if not isinstance(v, jaxprs.Literal)}
    live = set()
    for i, eqn in reversed(list(enumerate(jaxpr.eqns))):
        if needed.intersection(eqn.outvars):
            live.add(i)
            if not (derivative and eqn.primitive.name == "stop_gradient"):
                needed.update(v for v in eqn.invars if not isinstance(v, jaxprs.Literal))
    return live


def _kind_of(eqn: Any, values: list, kinds: list[int], found: list[Operation]) -> int:
    """Return the kind of an operation's results, and note it where it is not smooth."""
    name, strongest = eqn.primitive.name, max(kinds, default=_FREE)
    if strongest == _FREE or name == "is_finite":
        return _FREE

    def note(kind, branch, name=name):
        inside = any(value is None for value in values)
        found.append(Operation(name, kind, None if inside else branch(*values, **eqn.params)))

    first = eqn.invars[0].aval.dtype
    infinite = any(isinstance(v, jaxprs.Literal) and not np.all(np.isfinite(v.val)) for v in eqn.invars)
    if name in _COMPARISONS:
        if eqn.invars[0] is eqn.invars[1] or infinite:
            return _FREE  # a look for nan or infinity
        return _SIGN if any(isinstance(v, jaxprs.Literal) and np.all(v.val == 0) for v in eqn.invars) else _TRUTH
    if (name in ("select_n", "cond") and kinds[0] >= _SIGN) or name == "while":
        note("guard" if kinds[0] == _SIGN else "branch", lambda which, *_, **__: which, "branch")
    elif name == "select_n":
        strongest = max(kinds[1:])
    if name == "convert_element_type":
        to = eqn.outvars[0].aval.dtype
        if strongest >= _SIGN and to != np.bool_:
            note("branch", lambda x, **_: x, "branch")
            return _DEPENDS
        if strongest == _DEPENDS and jnp.issubdtype(first, jnp.floating) and not jnp.issubdtype(to, jnp.inexact):
            note("jump", lambda x, **_: jnp.floor(x), "conversion to integers")
        return _TRUTH if to == np.bool_ else _DEPENDS
    if name in _JUMPS or (name == "sort" and len(eqn.invars) > 1):
        note("jump", (_JUMPS | _SLOPES)[name])
    elif name in _SLOPES and not infinite and jnp.issubdtype(first, jnp.floating):
        note("slope", _SLOPES[name])
    return strongest if eqn.outvars[0].aval.dtype == np.bool_ else _DEPENDS
