"""What `train` is called with, judged before anything is computed."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check, tree
from inercia.core.forms import form_of
from inercia.training import batches
from inercia.training.objective import Objective, accepts, signature_of

#: Keys that were made of seeds, and the most that are kept.
_KEYS: dict[Any, Any] = {}
_MOST_KEYS = 256


def params_of(params: Any) -> Any:
    """Return the params, or raise unless all leaves are arrays that can be differentiated."""
    leaves = jax.tree.leaves(params)
    if leaves and all(isinstance(leaf, jax.Array) and leaf.dtype == np.float32 for leaf in leaves):
        return params  # as they are in nearly every call
    check.some_params(params)
    return tree.native(params)


def key_of(key: Any) -> Any:
    """Return a key, or a seed's, as `check.key` does; a seed's is made once, by a program of its own."""
    if type(key) is not int:
        return check.key(key)
    config: Any = jax.config  # whose attributes are not declared
    known = key, config.jax_default_prng_impl, config.jax_default_device
    if known in _KEYS:
        return _KEYS[known]
    made = check.key(key)
    if check.is_concrete(made) and len(_KEYS) < _MOST_KEYS:
        _KEYS[known] = made
    return made


def abstract(tree: Any) -> Any:
    """Return the tree as shapes and dtypes, without where it lies."""
    return jax.tree.map(_abstract, tree)


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    if isinstance(leaf, jax.Array):
        return struct(leaf.shape, leaf.dtype)  # many of them, and nothing to find out
    return struct(jnp.shape(leaf), jnp.result_type(leaf))


@lru_cache(maxsize=1024)  # JAX judges shape and dtype of each one that is made
def struct(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """Return an array's form."""
    return jax.ShapeDtypeStruct(shape, dtype)


def model_state_of(model_state: Any) -> Any:
    """Return the model's state with arrays for leaves."""
    return jax.tree.map(
        lambda leaf: leaf if isinstance(leaf, jax.Array) else jnp.asarray(np.asarray(leaf)), model_state
    )


def held_out_of(validation: Any, objective: Objective, params: Any) -> Any:
    """Return the held-out batch as the loss takes it; None where validation is a function, or not there."""
    if validation is None or callable(validation):
        return None
    if objective.takes_key or objective.has_state:
        raise TypeError(
            "validation must be a function, params or (params, model_state) -> number, where the loss takes a key or a "
            f"model_state, but it is a {type(validation).__name__}."
        )
    pair = hasattr(objective.loss, "check")
    given = batches.cast(batches.rows_in_memory(validation, pair), jnp.result_type(*jax.tree.leaves(params)))
    if pair:
        objective.loss.check(abstract(params), given)
    return jax.tree.map(jnp.asarray, given)


def judge_watched(name: str, function: Any, *arguments: Any) -> Any:
    """Return the form of what a function that is computed at each record gives, or raise unless it can be traced."""
    try:
        hash(function)
    except TypeError:
        raise TypeError(f"{name} must be hashable, but {type(function).__name__} is not: pass a function.") from None
    takes = signature_of(function)
    if takes is not None and not accepts(takes, len(arguments)):
        form = ", ".join(("params", "model_state")[: len(arguments)])
        raise TypeError(f"{name} must take ({form}), but it takes {takes}.")
    try:
        return form_of(function, *arguments)
    except jax.errors.JAXTypeError as error:
        raise TypeError(
            f"{name} is compiled into the run, but it asks for numbers on the host ({type(error).__name__}): compute "
            "it in on_record, from record.params."
        ) from None
    except TypeError as error:
        if "cannot be traced" in str(error):  # a function of ours that checks numbers
            raise TypeError(
                f"{name} is compiled into the run, but {error.args[0]} Or compute it in on_record, from record.params."
            ) from None
        if "valid JAX type" not in str(error):
            raise
        raise TypeError(f"{name} must return arrays of numbers, or a tree of them, but: {error}.") from None
