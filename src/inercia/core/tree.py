"""Trees of arrays seen as one real vector, and moved between precisions.

`jax.tree` and `optax.tree` do the arithmetic; here is only what they lack: a flat real view that also takes
complex leaves, float64 in, NumPy out, and a map over gradients in which `None` marks "no gradient".
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from inercia.core import check


def map_grads(function: Callable, grads: Any, *rest: Any) -> Any:
    """Map `function(grad, *others)` over the leaves; where the gradient is None the result is None."""
    return jax.tree.map(
        lambda g, *r: None if g is None else function(g, *r), grads, *rest, is_leaf=lambda leaf: leaf is None
    )


def native(tree: Any) -> Any:
    """Return `tree` with NumPy leaves as JAX reads them: in this machine's byte order, and of at most 64 bits a number.

    Compiled functions read the bytes of any other array as if they were these.
    """

    def known(leaf):
        check.unmasked("an array", leaf)
        if not isinstance(leaf, np.ndarray | np.generic) or leaf.dtype.kind not in "iufc":
            return leaf
        return leaf.astype(check.native_dtype(leaf.dtype), copy=False)

    return jax.tree.map(known, tree)


def float64(tree: Any) -> Any:
    """Return `tree` with float leaves in float64 and complex ones in complex128; needs an x64 context."""
    tree = native(tree)
    leaves = jax.tree.leaves(tree)
    if all(map(_is_on_host, leaves)):  # without a program, which would have to be compiled for these shapes
        return jax.device_put(jax.tree.map(lambda leaf: _wide(np.asarray(leaf)), tree))  # in one call, twice as fast
    return _float64(tree)


def _is_on_host(leaf: Any) -> bool:
    """Whether an array's numbers can be read where they are."""
    if isinstance(leaf, jax.Array):
        numeric = jnp.issubdtype(leaf.dtype, jnp.inexact)
        return numeric and check.is_concrete(leaf) and leaf.is_fully_addressable and _on_one_cpu(leaf)
    return isinstance(leaf, np.ndarray | np.generic) and np.asarray(leaf).dtype.kind in "fc"


def _on_one_cpu(leaf: jax.Array) -> bool:
    return [device.platform for device in leaf.devices()] == ["cpu"] and jax.default_backend() == "cpu"


def _wide(leaf: np.ndarray) -> np.ndarray:
    return leaf.astype(np.complex128 if leaf.dtype.kind == "c" else np.float64)


@jax.jit
def _float64(tree: Any) -> Any:
    def cast(leaf):
        leaf = jnp.asarray(leaf)
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            return leaf.astype(jnp.complex128)
        return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, tree)


def at_least_float(tree: Any) -> Any:
    """Return `tree` with arrays for leaves, so that plain numbers have a dtype too."""
    kept = (jax.Array, np.ndarray)
    return jax.tree.map(
        lambda leaf: leaf if isinstance(leaf, kept) and leaf.dtype.kind in "fc" else jnp.asarray(leaf) * 1.0,
        native(tree),
    )


def to_numpy(tree: Any) -> Any:
    """Return `tree` with NumPy leaves; of a key of random numbers, its numbers."""

    def numbers(leaf):
        key = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if key else leaf)

    return jax.tree.map(numbers, tree)


def row(tree: Any, index: Any) -> Any:
    """Return entry (or slice) `index` of the leading axis of every leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def to_real(tree: Any) -> Any:
    """Split each complex leaf into a pair (real, imaginary); real leaves stay."""
    return jax.tree.map(lambda z: (z.real, z.imag) if jnp.iscomplexobj(z) else z, tree)


def ravel_real(tree: Any) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
    """Return `tree` as one real vector and the function that rebuilds the tree from it.

    Example:
        >>> flat, rebuild = ravel_real({"z": jnp.array([1 + 2j])})
        >>> flat.tolist(), rebuild(flat)["z"].tolist()
        ([1.0, 2.0], [(1+2j)])
    """
    leaves, treedef = jax.tree.flatten(tree)
    flat, unravel = ravel_pytree([to_real(leaf) for leaf in leaves])

    def rebuild(vector: jax.Array) -> Any:
        parts = [p[0] + 1j * p[1] if isinstance(p, tuple) else p for p in unravel(vector)]
        return jax.tree.unflatten(treedef, parts)

    return flat, rebuild


def vector(tree: Any) -> np.ndarray:
    """Return `tree`, of numbers in float64 or complex128, as the vector that `ravel_real` makes of it, on the host.

    Example:
        >>> vector({"z": np.array([1 + 2j]), "x": np.ones(2)}).tolist()
        [1.0, 1.0, 1.0, 2.0]
    """
    leaves: list[Any] = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    parts = [part for x in leaves for part in ((x.real, x.imag) if np.iscomplexobj(x) else (x,))]
    return np.concatenate([np.ravel(part) for part in parts]) if parts else np.zeros(0)


def of_vectors(rows: np.ndarray, like: Any) -> Any:
    """Return the tree whose leaves lie first in the vectors, one a row, as `vector` puts them: (n, ...) each.

    Example:
        >>> of_vectors(np.arange(6.0).reshape(2, 3), {"z": np.array([1j])})["z"].tolist()
        [[1j], [(3+4j)]]
    """
    leaves, structure = jax.tree.flatten(like)
    found, at = [], 0
    for leaf in leaves:
        parts = [rows[:, at + i * leaf.size : at + (i + 1) * leaf.size] for i in range(1 + np.iscomplexobj(leaf))]
        at += len(parts) * leaf.size
        found.append((parts[0] + 1j * parts[1] if parts[1:] else parts[0]).reshape(len(rows), *leaf.shape))
    return jax.tree.unflatten(structure, found)


def distance(a: Any, b: Any) -> np.ndarray:
    """Return the Euclidean distance, over all leaves, between two trees of equal leading axis (time)."""
    with np.errstate(over="ignore", invalid="ignore"):  # of paths that diverge the distance is inf or nan
        squares = [
            (np.abs(np.asarray(x) - np.asarray(y)).reshape(len(x), -1) ** 2).sum(axis=1)
            for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        ]
        return np.sqrt(np.sum(squares, axis=0))
