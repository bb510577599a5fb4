"""What a batch is: a tree of arrays whose leading axis counts rows, such as (x, y), x alone, a dict or a triple.

Floats are cast to the params' dtype, integers to those that JAX computes with; a number that would not survive the
cast is refused. Lists are read as arrays; tuples, dicts and NamedTuples are structure.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check
from inercia.problems.data import checked
from inercia.training.fingerprint import is_key


def rows_in_memory(data: Any, pair: bool) -> Any:
    """Return data as a tree of arrays with as many rows each, or raise.

    Args:
        data: a tree, or a list [x, y].
        pair: whether the loss takes (x, y) alone.
    """
    data = tuple(data) if isinstance(data, list) else data
    if pair:
        if not isinstance(data, tuple) or len(data) != 2:
            checked(data)  # raises
        return checked(tuple(arrays(data)))
    data = arrays(data)
    leaves = jax.tree.leaves(data)
    shapes = [leaf.shape for leaf in leaves]
    if not leaves or () in shapes or len({shape[0] for shape in shapes}) != 1:
        raise ValueError(f"the arrays of data must have as many rows as each other, but their shapes are {shapes}.")
    if shapes[0][0] == 0:
        raise ValueError("data must not be empty, but they have 0 rows.")
    finite(data)
    return data


def one_batch(given: Any, pair: bool) -> Any:
    """Return a batch that an iterable gave as a tree of arrays, or raise unless it is finite."""
    given = tuple(given) if isinstance(given, list) else given
    if pair and not (isinstance(given, tuple) and len(given) == 2):
        found = f"a {type(given).__name__}" + (f" of {len(given)}" if isinstance(given, tuple) else "")
        raise TypeError(f"data must give batches (x, y), but it gives {found}.")
    batch = arrays(given)
    finite(batch, " of a batch")
    return batch


def arrays(tree: Any) -> Any:
    """Return the tree with arrays for leaves, or raise unless all hold numbers."""

    def array(path, leaf):
        check.unmasked(_name(tree, path), leaf)
        if not isinstance(leaf, jax.Array):
            try:
                leaf = np.asarray(leaf)
            except ValueError:
                raise ValueError(f"{_name(tree, path)} must be one array, but its rows differ in shape.") from None
        if not (is_key(leaf) or check.is_numeric(leaf.dtype)):
            raise TypeError(
                f"{_name(tree, path)} must hold numbers, but its dtype is {leaf.dtype}: give labels as integers, for "
                "example np.unique(labels, return_inverse=True)[1]."
            )
        return leaf

    return jax.tree_util.tree_map_with_path(array, tree, is_leaf=lambda node: isinstance(node, list))


def finite(tree: Any, of: str = "") -> None:
    """Raise unless all numbers of the tree are finite."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        check.finite(_name(tree, path) + of, leaf)


def cast(tree: Any, dtype: Any) -> Any:
    """Return the tree in the dtypes that a training computes with, or raise where a number would not survive.

    Args:
        tree: arrays of finite numbers.
        dtype: of the params.
    """
    if all(leaf.dtype == dtype for leaf in jax.tree.leaves(tree)):
        return tree
    return jax.tree_util.tree_map_with_path(lambda path, leaf: cast_array(_name(tree, path), leaf, dtype), tree)


def cast_array(name: str, array: Any, dtype: Any) -> Any:
    """Cast one array of finite numbers, or raise with its name."""
    if is_key(array):
        return array
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        target = jax.dtypes.canonicalize_dtype(array.dtype)
        if array.dtype != target and array.size:
            least, most = int(array.min()), int(array.max())
            bounds = jnp.iinfo(target)
            if least < bounds.min or most > bounds.max:
                extreme = most if most > bounds.max else least
                raise ValueError(
                    f"{name} must fit into {target}, but it holds {extreme}: scale it, as floats, before it is cast."
                )
        return array.astype(target, copy=False) if isinstance(array, np.ndarray) else array
    if jnp.issubdtype(array.dtype, jnp.complexfloating) and not jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(
            f"{name} must be real where the params are, but it is {array.dtype} and they are {jnp.dtype(dtype)}: give "
            "its real and imaginary parts as columns."
        )
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):  # judged below
        out = array.astype(dtype)
    if check.is_concrete(out) and float(jnp.finfo(array.dtype).max) > float(jnp.finfo(dtype).max):
        try:
            check.finite(name, out)
        except ValueError:
            most = float(abs(np.asarray(array)).max())
            raise ValueError(
                f"{name} must fit into the params' dtype {jnp.dtype(dtype)}, but it holds numbers of size {most:.6g}: "
                "scale it."
            ) from None
    return out


def rows(tree: Any) -> int:
    """Return the number of rows."""
    return len(jax.tree.leaves(tree)[0])


def _name(tree: Any, path: tuple) -> str:
    if isinstance(tree, tuple) and len(tree) == 2 and len(path) == 1:
        return "xy"[path[0].idx] if hasattr(path[0], "idx") else path[0].name
    return "data" + jax.tree_util.keystr(path)
