"""Functions and their arguments as values: when two of them are equal without being the same object.

A schedule that is made twice, as `optax.cosine_decay_schedule(0.1, 100)`, is two functions with one code and equal
closures. They do the same, and what was compiled for the first serves the second. So are a network and a family that
are made again. Arrays are compared by identity: reading their numbers would wait for the device.

A function reads globals too: what its names stand for there is part of its value.
"""

import functools
import sys
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

#: What is compared by value.
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type)


def key_of(value: Any, strict: bool = False) -> Any:
    """Return a hashable key, equal for equal values; None where the value can be compared by identity alone.

    Args:
        value: anything.
        strict: whether an object that is compared by identity, and might change in place, has no key either.

    Example:
        >>> import optax
        >>> one, two = (optax.exponential_decay(0.1, 10, 0.9) for _ in range(2))
        >>> one == two, key_of(one) == key_of(two)
        (False, True)
    """
    try:
        key = _key(value, 0, strict)
        hash(key)
    except (TypeError, ValueError, RecursionError):  # unhashable, an empty cell, a function within itself
        return None
    return key


class ByValue:
    """A function, equal to every other that does the same; to itself alone where that cannot be told.

    Args:
        function: any.
        decided_by: what decides what it does, beside its name; by default its code and all that this reads.

    Example:
        >>> def scaled(a):
        ...     return ByValue(lambda x: a * x)
        >>> scaled(2.0) == scaled(2.0), scaled(2.0) == scaled(3.0), scaled(2.0)(4.0)
        (True, False, 8.0)
    """

    def __init__(self, function: Callable, decided_by: Any = None) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        found = key_of(function if decided_by is None else decided_by, strict=True)
        self._key = function if found is None else (function.__qualname__, found)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._function(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, ByValue) and self._key == other._key)

    def __hash__(self) -> int:
        return hash(self._key)


def as_number(value: Any) -> Any:
    """Return a single number that an array of NumPy or JAX holds as Python's; anything else as it is.

    In float16 or float32, 1 - (1 - b) dt and b^k would be rounded to that; a Python number takes the dtype of what it
    meets.
    """
    if not (isinstance(value, np.generic | np.ndarray | jax.Array) and value.ndim == 0) or isinstance(value, Tracer):
        return value
    return value.item() if value.dtype == bool or jnp.issubdtype(value.dtype, jnp.number) else value


def _key(value: Any, depth: int, strict: bool) -> Any:
    if depth > 16:
        raise RecursionError
    inner = functools.partial(_key, depth=depth + 1, strict=strict)
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, dict):
        return dict, tuple((inner(name), inner(part)) for name, part in value.items())
    if type(value) in (tuple, list):
        return type(value), tuple(inner(part) for part in value)
    if isinstance(value, functools.partial):
        return functools.partial, inner(value.func), inner(value.args), inner(value.keywords)
    if isinstance(value, types.FunctionType) and not _stands_in_its_module(value):
        cells = tuple(inner(cell.cell_contents) for cell in value.__closure__ or ())
        names = _names(value.__code__, value.__globals__)
        read = tuple((name, _key(value.__globals__[name], depth + 1, True)) for name in names)
        return value.__code__, cells, read, inner(value.__defaults__), inner(value.__kwdefaults__)
    if _is_fixed_array(value):
        return _Same(value)
    if strict and type(value).__hash__ is object.__hash__ and not _is_lasting(value):
        raise TypeError("it may change in place, and would be equal to what it was.")
    return type(value), value


def _names(code: types.CodeType, known: dict[str, Any]) -> list[str]:
    """Return the names of globals that a function, or one within it, may read."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return sorted({name for name in code.co_names if name in known}.union(*(_names(part, known) for part in inner)))


class _Same:
    """An object as a key, equal to itself alone; it is kept, so that no other takes its place in memory."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)


def _is_fixed_array(value: Any) -> bool:
    """Whether an array keeps its numbers."""
    if isinstance(value, np.ndarray):
        return value.base is None and not value.flags.writeable
    return isinstance(value, jax.Array) and not isinstance(value, Tracer)


def _stands_in_its_module(function: types.FunctionType) -> bool:
    """Whether a function is the one that its module has under its name, decorated or not: there is no second."""
    return getattr(sys.modules.get(function.__module__), function.__qualname__, None) is function


def _is_lasting(value: Any) -> bool:
    """Whether an object that is compared by identity stays what it is: a function, a module, a class, one of JAX's."""
    lasting = types.FunctionType | types.BuiltinFunctionType | types.ModuleType | Tracer
    return isinstance(value, lasting) or type(value).__module__.split(".")[0] in ("jax", "jaxlib", "numpy", "inercia")
