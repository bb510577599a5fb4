"""A loss of some of its params, the others held: the layers of a network, one matrix, the biases."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from inercia.core import check
from inercia.core.method import Params


def restricted(
    loss: Callable, params: Params, where: str | Iterable[str] | Callable[[str], bool]
) -> tuple[Callable, Params]:
    """Return the loss of some of the params, and these, the others held at their values.

    Args:
        loss: (params, *rest) -> anything.
        params: tree of arrays.
        where: paths to take, as "0/w" or "encoder", which stands for all below; or path -> whether to take it.

    Returns:
        A loss of (chosen, *rest), in the precision of the chosen; and the chosen, a tree like params with None for the
        others. Whatever takes a loss and params takes them: `curvature`, `trace`, `density`, `iterate`, `central`.

    Raises:
        ValueError: a path that is not there, a choice of nothing; it names the paths that are there.
        TypeError: params that hold no arrays.

    Example:
        >>> import inercia
        >>> loss = lambda p: p["a"] ** 2 + 3 * p["b"] ** 2
        >>> of_b, b = restricted(loss, {"a": jnp.array(1.0), "b": jnp.array(2.0)}, "b")
        >>> float(of_b(b)), float(inercia.curvature(of_b, b).values[0])
        (13.0, 6.0)
    """
    check.some_params(params)
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(params)]
    if callable(where):
        taken = [bool(where(path)) for path in paths]
    else:
        wanted = [where] if isinstance(where, str) else list(where)
        for name in wanted:
            if not any(_below(name, path) for path in paths):
                raise ValueError(f"where must name paths of params, {_listed(paths)}, but {name!r} is none.")
        taken = [any(_below(name, path) for name in wanted) for path in paths]
    if not any(taken):
        raise ValueError(f"where must choose some of the params, {_listed(paths)}, but it chooses none.")
    leaves, structure = jax.tree.flatten(params)
    chosen = jax.tree.unflatten(structure, [leaf if take else None for leaf, take in zip(leaves, taken, strict=True)])
    held = [None if take else leaf for leaf, take in zip(leaves, taken, strict=True)]
    merged = partial(_merged, structure, tuple(held))
    if hasattr(loss, "before"):  # it brings a matrix in place of its Hessian
        return loss.before(merged), chosen
    return partial(_with_held, loss, structure, tuple(held)), chosen


def _below(name: str, path: str) -> bool:
    return path == name or path.startswith(name.rstrip("/") + "/")


def _listed(paths: list[str]) -> str:
    return ", ".join(map(repr, paths[:8])) + (", ..." if len(paths) > 8 else "")


def _with_held(loss: Callable, structure: Any, held: tuple, chosen: Params, *rest: Any) -> Any:
    return loss(_merged(structure, held, chosen), *rest)


def _merged(structure: Any, held: tuple, chosen: Params) -> Params:
    """Return all params, those that are held in the precision of the chosen."""
    given = jax.tree.leaves(chosen)
    precision = jnp.finfo(jnp.result_type(*given)).dtype
    leaves, of = iter(given), partial(_raised, precision=precision)
    return jax.tree.unflatten(structure, [next(leaves) if leaf is None else of(leaf) for leaf in held])


def _raised(leaf: Any, precision: Any) -> Any:
    leaf = jnp.asarray(leaf)
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return leaf
    return leaf.astype(jnp.promote_types(leaf.dtype, precision))
