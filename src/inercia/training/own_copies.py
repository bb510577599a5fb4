"""Trainings of their own on several devices: over which axes of `jax.shard_map` the numbers of a training vary.

Inside of shard_map a number is the same on all devices of an axis or varies over it, and JAX keeps count. The
derivative by params that are the same everywhere is the *sum* of those of all devices: right where devices share a loss
(a `psum` or `pmean` of theirs), another training where each has a loss of its own. So, before the gradient,

    params vary over the axes that the loss varies over,

and a loop carries from its start on what varies over the axes that it varies over after an iteration. Elsewhere, and
with `check_vma=False`, nothing varies, and nothing is done.

Source: "How shard_map works", on `check_vma`, https://docs.jax.dev/en/latest/notebooks/shard_map.html.
"""

from collections.abc import Callable
from typing import Any

import jax

from inercia.core.method import Params


def axes() -> tuple[str, ...]:
    """Return the axes of the devices that a program around this one is shared out over; () outside of shard_map."""
    return tuple(jax.sharding.get_abstract_mesh().manual_axes)


def own(params: Params, loss: Callable[[], Any]) -> Params:
    """Return params that vary over the axes that the loss varies over."""
    if not axes():
        return params
    over = _after(loss)
    return jax.tree.map(lambda leaf: _varying(leaf, over), params)


def carried(step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, given: Callable[[], Any]) -> Any:
    """Return the carry of a scan of `step` over `given()`, varying from the start as it does in the end."""
    while axes():
        over = _after(lambda carry: step(carry, jax.tree.map(lambda part: part[0], given()))[0], carry)
        after = jax.tree.map(_varying, carry, over)
        if jax.tree.map(_axes_of, after) == jax.tree.map(_axes_of, carry):
            break
        carry = after
    return carry


def _after(function: Callable, *arguments: Any) -> Any:
    """Return the axes that each leaf of what a function returns varies over; the function is traced, not computed."""
    found = []
    jax.eval_shape(lambda *given: found.append(jax.tree.map(_axes_of, function(*given))), *arguments)
    return found[0]


def _varying(leaf: Any, over: frozenset[str]) -> Any:
    """Return the leaf as one that varies over these axes too."""
    return jax.lax.pcast(leaf, tuple(sorted(over - _axes_of(leaf))), to="varying")


def _axes_of(leaf: Any) -> frozenset[str]:
    """Return the axes that a leaf varies over."""
    return frozenset(axis for axis in axes() if _varies(leaf, axis))


def _varies(leaf: Any, axis: str) -> bool:
    try:
        jax.lax.pcast(leaf, axis, to="varying")
    except ValueError:  # it is made varying once
        return True
    return False
