"""The Hessian of a loss as an operator: products with vectors, without the matrix, also over data in chunks.

    H v = d/de grad f(theta + e v)                       forward over reverse

Every Hessian product of this package is made here: one at a time by `hvp` and `hessian_on_vectors`, or on the rows of a
matrix by `hessian_on_rows`, preconditioned as P^{-1/2} H P^{-1/2} where P^{1/2} is given; and the derivatives of the
Hessian that the central flow needs, by `turnings`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from inercia.core import check, tree
from inercia.core.convolutions import fast_convolutions
from inercia.core.method import Params
from inercia.core.precision import in_float64
from inercia.edge_of_stability.output_curvature import GaussNewton


def hvp(loss: Any, params: Params, vector: Params) -> Params:
    """Return the product of the Hessian of `loss` at `params` with `vector`, a tree like params; pure, mappable.

    Args:
        loss: params -> real scalar, twice differentiable.
        params: tree of floating arrays.
        vector: tree of numbers with the structure and shapes of params; cast to their dtypes.

    Raises:
        TypeError: params that are not floating arrays, a vector that holds no numbers.
        ValueError: a vector of another structure or shape; a loss that is not one real number.

    Example:
        >>> hvp(lambda x: x @ jnp.diag(jnp.array([1.0, 3.0])) @ x / 2, jnp.zeros(2), jnp.ones(2)).tolist()
        [1.0, 3.0]
    """
    check.some_params(params)
    params = tree.native(params)
    check.loss_of(loss, params)
    if isinstance(loss, GaussNewton):
        return loss.product(params)(_like(params, vector))
    return jax.jvp(jax.grad(loss), (params,), (_like(params, vector),))[1]


def _like(params: Params, vector: Params) -> Params:
    """Return the vector in the dtypes of params, or raise unless it has their structure and shapes."""
    if jax.tree.structure(vector) != jax.tree.structure(params):
        raise ValueError(
            f"vector must have the structure of params, {jax.tree.structure(params)}, but it has "
            f"{jax.tree.structure(vector)}."
        )

    def cast(path, p, v):
        name, p, v = "vector" + jax.tree_util.keystr(path), jnp.asarray(p), check.array("vector", v)
        if jnp.shape(v) != p.shape:
            raise ValueError(f"{name} must have its param's shape {p.shape}, but it has {jnp.shape(v)}.")
        if jnp.iscomplexobj(v) and not jnp.iscomplexobj(p):
            raise TypeError(f"{name} must be real as its param is, but it is {v.dtype}.")
        return jnp.asarray(v, p.dtype)

    return jax.tree_util.tree_map_with_path(cast, params, vector)


def judged(loss: Any, params: Params) -> tuple[Any, Params]:
    """Return a loss and its params in float64, or raise unless it is one real number of real and finite params.

    A Hessian may be finite where the params are not, as that of a quadratic, which is constant, and then says nothing.
    """
    if not check.is_concrete(params):
        raise TypeError(
            "what is computed of a Hessian here cannot be traced by jit, vmap or grad, because it checks its numbers: "
            "call it with numbers, once for each point, or compute with hvp."
        )
    check.some_params(params)
    check.real("params", params)
    theta = tree.float64(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(theta):
        check.finite("params" + jax.tree_util.keystr(path), np.asarray(leaf) if leaf.is_fully_addressable else leaf)
    loss = in_float64(loss, theta)
    check.loss_of(loss, theta)
    return loss, theta


def hessian_on_rows(loss, theta, root=None):
    """Return the operator P^{-1/2} H P^{-1/2} on rows (k, n)."""
    linear = jax.vmap(_linear(loss, theta))
    return linear if root is None else lambda rows: linear(rows / root) / root


def hessian_on_vectors(loss: Any, theta: Params, root: Any) -> Callable[[Any], jax.Array]:
    """Return the operator P^{-1/2} H P^{-1/2} on vectors (n,), compiled, to be called from the host."""
    return partial(_product, _linearised(loss, theta), root)


@partial(jax.jit, static_argnums=0)
@fast_convolutions
def _linearised(loss, theta):
    """Return the Hessian product as a tree of what it needs of the params: other params are no other program."""
    return _linear(loss, theta)


def _linear(loss, theta):
    """Return v -> H v on vectors (n,), or what the loss brings in place of H."""
    z, rebuild = ravel_pytree(theta)
    if isinstance(loss, GaussNewton):
        return loss.before(rebuild).product(z)
    return jax.linearize(jax.grad(lambda z: loss(rebuild(z))), z)[1]


@jax.jit
@fast_convolutions
def _product(linear, root, vector):
    return linear(vector / root) / root


#: Pairs of one pass: more would compute more that are not asked for.
_TOGETHER = 2


def turnings(f: Callable, w: jax.Array, U: jax.Array, count: Any) -> jax.Array:
    """Return grad <u_i, H u_j> of a function of one vector, by which curvature changes along a path.

    Args:
        f: of a vector (n,).
        w: the vector.
        U: (k, n).
        count: how many of the u take part.

    Returns:
        (k (k + 1) / 2, n), i <= j, column after column; 0 for pairs that do not take part.
    """
    gradient, k = jax.grad(f), len(U)
    U = jnp.pad(U, ((0, _TOGETHER), (0, 0)))  # of 0, which gives rows of 0
    U = jnp.where((jnp.arange(len(U)) < count)[:, None], U, 0.0)

    def column(j, T):
        # What depends on w and u_j alone is computed once for all i.
        along = jax.vmap(jax.linearize(lambda w: jax.jvp(gradient, (w,), (U[j],))[1], w)[1])

        def pairs(m, T):
            i = m * _TOGETHER
            rows = along(jax.lax.dynamic_slice_in_dim(U, i, _TOGETHER))
            return jax.lax.dynamic_update_slice_in_dim(T, rows, j * (j + 1) // 2 + i, 0)

        return jax.lax.fori_loop(0, j // _TOGETHER + 1, pairs, T)  # what is written too far, the next column overwrites

    size = k * (k + 1) // 2
    return jax.lax.fori_loop(0, count, column, jnp.zeros((size + _TOGETHER, w.size)))[:size]


def in_chunks(loss: Any, batch: Any, rows: int) -> Callable[[Params], jax.Array]:
    """Return params -> mean loss over the batch, computed and differentiated `rows` rows at a time, in bounded memory.

    Args:
        loss: (params, batch) -> mean over the batch's rows.
        batch: tree of arrays, rows first.
        rows: must divide their number.

    Example:
        >>> mean = in_chunks(lambda p, x: jnp.mean(p * x), jnp.arange(6.0), 2)
        >>> float(mean(2.0)), round(float(jax.grad(mean)(2.0)), 4)
        (5.0, 2.5)
    """
    total = len(jax.tree.leaves(batch)[0])
    if total % check.integer("rows", rows):
        raise ValueError(f"rows must divide the number of rows of the batch, but it is {rows} and they are {total}.")
    chunks = jax.tree.map(lambda leaf: jnp.reshape(leaf, (total // rows, rows, *leaf.shape[1:])), batch)

    part = jax.checkpoint(loss)

    def mean(params):
        return jax.lax.map(partial(part, params), chunks).mean()

    return mean
