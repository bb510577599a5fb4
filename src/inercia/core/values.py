"""Functions and their arguments as values: when two of them are equal without being the same object.

A schedule that is made twice, as `optax.cosine_decay_schedule(0.1, 100)`, is two functions with one code and equal
closures. They do the same, and what was compiled for the first serves the second. Arrays are compared by identity:
reading their numbers would wait for the device.
"""

import functools
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

#: What is compared by value.
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type)


def key_of(value: Any) -> Any:
    """Return a hashable key, equal for equal values; None where the value can be compared by identity alone.

    Example:
        >>> import optax
        >>> one, two = (optax.exponential_decay(0.1, 10, 0.9) for _ in range(2))
        >>> one == two, key_of(one) == key_of(two)
        (False, True)
    """
    try:
        key = _key(value, 0)
        hash(key)
    except (TypeError, ValueError, RecursionError):  # unhashable, an empty cell, a function within itself
        return None
    return key


def as_number(value: Any) -> Any:
    """Return a single number that an array of NumPy or JAX holds as Python's; anything else as it is.

    In float16 or float32, 1 - (1 - b) dt and b^k would be rounded to that; a Python number takes the dtype of what it
    meets.
    """
    if not (isinstance(value, np.generic | np.ndarray | jax.Array) and value.ndim == 0) or isinstance(value, Tracer):
        return value
    return value.item() if value.dtype == bool or jnp.issubdtype(value.dtype, jnp.number) else value


def _key(value: Any, depth: int) -> Any:
    if depth > 16:
        raise RecursionError
    inner = functools.partial(_key, depth=depth + 1)
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, dict):
        return dict, tuple((inner(name), inner(part)) for name, part in value.items())
    if type(value) in (tuple, list):
        return type(value), tuple(inner(part) for part in value)
    if isinstance(value, functools.partial):
        return functools.partial, inner(value.func), inner(value.args), inner(value.keywords)
    if isinstance(value, types.FunctionType) and value.__closure__:
        cells = tuple(inner(cell.cell_contents) for cell in value.__closure__)
        return value.__code__, cells, inner(value.__defaults__), inner(value.__kwdefaults__), id(value.__globals__)
    return type(value), value
