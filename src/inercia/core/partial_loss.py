"""A loss and the data that it reads: the first is compiled, the second may change.

A compiled program is kept by the function that it was made from. Arrays that a closure captures are part of that
program: they are read once, and a later change of them is not seen. What a `functools.partial` binds is not: here its
arrays are taken out of the loss and handed to the program as arguments, so that other data of the same shapes neither
compile again nor go unseen.

    loss(params, batch)   ->   partial(loss, batch=batch)   =   Loss(function, the form of batch)  +  arrays of batch

Where a program reads the arrays as constants all the same, `one_of_equals` gives for each partial the first one of
equal function and equal numbers, so that a partial that is made again compiles nothing, and one whose array was changed
in place is another.
"""

import hashlib
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import jax
import numpy as np
from jax.core import Tracer

#: Bytes up to which the arrays of a partial are compared by their numbers.
_COMPARED = 2**26
#: Partials by function, form and numbers; each for as long as a compiled program, or its maker, holds it.
_EQUALS: WeakValueDictionary = WeakValueDictionary()


class Loss(NamedTuple):
    """A loss without its data: hashable, equal where function and form of the data are equal."""

    function: Any
    form: Any  # the tree that the partial bound; None for a plain function
    fixed: tuple  # its leaves, None where the array is handed over

    def bind(self, data: tuple) -> Any:
        """Return the function of the params alone."""
        if self.form is None:
            return self.function
        given = iter(data)
        leaves = [next(given) if leaf is None else leaf.value for leaf in self.fixed]
        args, keywords = jax.tree.unflatten(self.form, leaves)
        return partial(self.function, *args, **keywords)


class _Fixed(NamedTuple):
    """A leaf that is no array: part of the program, 1 and True and 1.0 told apart."""

    kind: type
    value: Any


def separated(loss: Any) -> tuple[Loss, tuple]:
    """Take the arrays out of a `functools.partial` or `jax.tree_util.Partial`; any other loss is its own program.

    Args:
        loss: params -> scalar.

    Returns:
        The `Loss`, for a static argument of `jax.jit`, and the tuple of its arrays, for a traced one;
        `Loss.bind(arrays)` is the loss again.

    Example:
        >>> import jax.numpy as jnp
        >>> def loss(params, batch, power=2):
        ...     return jnp.sum((params - batch) ** power)
        >>> (first, one), (second, other) = (separated(partial(loss, batch=jnp.full(2, b))) for b in (1.0, 2.0))
        >>> first == second, float(second.bind(other)(jnp.zeros(2)))
        (True, 8.0)
    """
    if not isinstance(loss, partial):
        return Loss(loss, None, ()), ()
    leaves, form = jax.tree.flatten((loss.args, loss.keywords))
    arrays = [isinstance(leaf, (np.ndarray, jax.Array)) for leaf in leaves]
    fixed = tuple(None if array else _Fixed(type(x), x) for x, array in zip(leaves, arrays, strict=True))
    try:
        hash((loss.func, form, fixed))
    except TypeError:  # something bound cannot be compared: the partial as it stands is the program
        return Loss(loss, None, ()), ()
    return Loss(loss.func, form, fixed), tuple(leaf for leaf, array in zip(leaves, arrays, strict=True) if array)


def one_of_equals(loss: Any) -> Any:
    """Return the first partial that was made of equal parts, with arrays that nobody changes; any other loss itself.

    Example:
        >>> one, two = (partial(pow, np.arange(3.0)) for _ in range(2))
        >>> one == two, one_of_equals(one) == one_of_equals(two)
        (False, True)
    """
    program, data = separated(loss)
    if program.form is None or not all(map(_is_comparable, data)) or sum(x.nbytes for x in data) > _COMPARED:
        return loss
    key = (program, tuple(map(_numbers, data)))
    found = _EQUALS.get(key)
    if found is None:
        own = program.bind(tuple(x if isinstance(x, jax.Array) else _fixed(x) for x in data))
        found = _EQUALS[key] = own
    return found


def _is_comparable(array: Any) -> bool:
    kinds = "biufc" + "V" * isinstance(array, jax.Array)  # bfloat16, and others of JAX, are V
    return not isinstance(array, (Tracer, np.ma.MaskedArray)) and array.dtype.kind in kinds


def _numbers(array: Any) -> tuple:
    numbers = np.ascontiguousarray(array)
    return type(array), numbers.shape, numbers.dtype.str, hashlib.sha1(numbers.tobytes()).digest()


def _fixed(array: np.ndarray) -> np.ndarray:
    own = array.copy()
    own.flags.writeable = False
    return own
