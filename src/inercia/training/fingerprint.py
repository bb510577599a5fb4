"""What decides a run, described by name: equal descriptions mean equal runs.

A function is described by the program it traces to, with all constants in it; data by a digest of their content; a
method by its hyperparameters and by the programs of its start and its update.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.core import check, jaxprs
from inercia.core.method import Method
from inercia.core.optimizer_state import updated

#: What the description of a traced program starts with.
TRACED = "program "


def digest_of(data: Any) -> str:
    """Describe data in memory by their content."""
    digest, leaves = hashlib.sha256(), plain(data)
    for part in leaves:
        digest.update(f"{part.shape}{part.dtype}".encode())
        digest.update(np.ascontiguousarray(part).view(np.uint8).data if part.size else b"")
    return f"{leaves[0].shape[0]} rows {digest.hexdigest()[:12]}"


def key_of_draws(key: Any) -> str:
    """Describe a key by its numbers, and by the generator that draws from them."""
    return "none" if key is None else f"{jax.random.key_impl(key)} {jax.random.key_data(key).tolist()}"


def described(method: Any) -> str:
    """Describe a method by its name and its hyperparameters; an optax transformation has none to show."""
    if not isinstance(method, Method):
        return "a transformation"
    hyper = {**method.hyper, "dt": method.dt}
    return f"{method.name or 'a method'}({', '.join(f'{name}={_value(value)}' for name, value in hyper.items())})"


def update_of(method: Any, params: Any) -> str:
    """Describe the programs of a method's start and update, on gradients like the params."""

    def first(p):
        loss = lambda q: jnp.real(optax.tree.vdot(q, q))  # noqa: E731  for line searches
        return updated(method, loss, p, method.init(p), loss(p), p)

    return traced(first, params)


def traced(function: Any, *arguments: Any) -> str:
    """Describe a function by the program that it traces to, and by the constants of it and of all programs inside."""
    abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), arguments)
    closed, given = jax.make_jaxpr(function, return_shape=True)(*abstract)
    program = f"{closed.jaxpr}{jax.tree.structure(given)}"
    digest = hashlib.sha256(re.sub("0x[0-9a-f]+", "", program).encode())  # no addresses of functions
    for constant in plain([*_constants(closed)]):
        if not check.is_concrete(constant):
            raise ValueError("checkpoint needs a training of its own: inside jit or vmap nothing can be saved.")
        digest.update(np.asarray(constant).tobytes())
    return TRACED + digest.hexdigest()[:12]


def plain(tree: Any) -> list:
    """Return the leaves, random keys as the numbers they hold."""
    return [jax.random.key_data(leaf) if is_key(leaf) else leaf for leaf in jax.tree.leaves(tree)]


def is_key(leaf: Any) -> bool:
    """Whether a leaf holds random keys."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _constants(inner: Any) -> Iterator[Any]:
    if isinstance(inner, jaxprs.ClosedJaxpr | jaxprs.Jaxpr):
        yield from getattr(inner, "consts", ())  # an open jaxpr has none before jax 0.12
        for equation in inner.eqns:
            yield from _constants(list(equation.params.values()))
    elif isinstance(inner, tuple | list):
        for item in inner:
            yield from _constants(item)


def _value(value: Any) -> str:
    if not check.is_concrete(value):
        return "a traced number"
    if isinstance(value, jax.Array | np.ndarray):
        return repr(np.asarray(value).tolist())
    if not callable(value):
        return repr(value)
    try:
        return traced(value, jnp.int32(0))
    except Exception:  # not a schedule, as a mask is not: the traced update holds what it does
        return getattr(value, "__name__", type(value).__name__)
