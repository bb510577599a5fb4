"""What a function gives for arguments of some form, without computing it, and remembered.

    form_of(f, *arguments) = jax.eval_shape(f, *arguments)

A training or a flow judges its loss at every call, and most calls repeat one of before. JAX remembers a trace by the
function as long as it lives; looking it up costs a fifth of a millisecond, and here a few microseconds.
"""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import jax

#: By function, for as long as it lives: what it gave, by the form of the arguments.
_FORMS: WeakKeyDictionary[Any, dict[Any, Any]] = WeakKeyDictionary()
#: Most forms of arguments that are remembered of one function.
_MOST = 64


def form_of(function: Callable, *arguments: Any) -> Any:
    """Return the abstract value of `function(*arguments)`; the function is traced once for each form of arguments.

    Example:
        >>> import jax.numpy as jnp
        >>> form_of(jnp.sum, jnp.ones(3))
        ShapeDtypeStruct(shape=(), dtype=float32)
    """
    leaves, structure = jax.tree.flatten(arguments)
    try:
        kept = _FORMS.setdefault(function, {})
        given = (structure, jax.config.read("jax_enable_x64"), *map(_form, leaves))
        if given in kept:
            return kept[given]
    except TypeError:  # a function that cannot be kept so, a leaf that is no array: JAX's own look judges them
        return _traced(function, arguments)
    found = _traced(function, arguments)
    if len(kept) < _MOST:
        kept[given] = found
    return found


def _form(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)


def _traced(function: Callable, arguments: tuple) -> Any:
    return jax.jit(function).eval_shape(*arguments)  # jit remembers what it traced, eval_shape alone does not
