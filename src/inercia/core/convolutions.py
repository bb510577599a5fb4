"""Convolutions at full speed inside compiled loops on CPU.

XLA's CPU backend has a fast convolution for one layout, N x spatial x C with a kernel of spatial x I x O, and brings
others to it in the entry computation alone. The gradients of a convolution have other layouts, so inside scan, while,
map or cond they are computed by a loop of scalars, up to a hundred times as slow. `fast_convolutions` rewrites the
program:

    conv(x, w)  ->  T_out barrier( conv_canonical( barrier(T_x x, T_w w) ) )          T: transposes

where the barriers keep XLA from folding the transposes back. Where each group of features has a single input there is
no fast convolution at all; with few taps k it is the sum of products

    y[n, s, o] = sum_k x[n, stride s + dilation k, o] w[k, o]

that is fast. The choice is made when a program is lowered for a platform: on others it is the plain one.

A gradient's convolutions appear when it is taken, so that the rewriting goes on the outside: of the step, the gradient
or the Hessian product that a loop repeats, or of the function that holds the loop.
"""

import itertools
import math
from collections.abc import Callable
from functools import partial, wraps
from typing import Any
from weakref import WeakKeyDictionary

import jax
import numpy as np
from jax import lax

from inercia.core import jaxprs

#: Most products that a convolution is written as.
_TAPS = 64
#: Rewritten programs by the original: the same program gives the same object, which compiled functions go by.
_REWRITTEN: WeakKeyDictionary = WeakKeyDictionary()


def fast_convolutions(f: Callable) -> Callable:
    """Return `f` with its convolutions, also those in loops and branches, as a CPU computes them fast.

    Give it what a compiled loop repeats, the training step, the gradient, the Hessian product, or a function with such
    loops. Outside of `jax.grad`, not inside, because the convolutions of the gradient are the slow ones. It costs a
    trace, and nothing at run time; results are equal to rounding. Without convolutions, and on other platforms, the
    program is `f`'s own.

    Args:
        f: any function that can be traced; its arguments and results may also hold leaves that are no arrays, which
            stay as they are.

    Returns:
        A function of the same arguments.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.ones((4, 1, 8, 8))
        >>> loss = lambda w: jnp.mean(lax.conv(x, w, (1, 1), "SAME"))
        >>> def step(w, _):
        ...     return w - 0.1 * jax.grad(loss)(w), loss(w)
        >>> w, losses = lax.scan(fast_convolutions(step), jnp.zeros((2, 1, 3, 3)), length=10)
        >>> bool(losses[-1] < losses[0])
        True
    """

    @wraps(f)
    def fast(*args, **kwargs):
        leaves, structure = jax.tree.flatten((args, kwargs), is_leaf=_is_opaque)
        places = [n for n, leaf in enumerate(leaves) if _is_array(leaf)]
        returned: list[Any] = []

        def on_arrays(*arrays):
            given = dict(enumerate(leaves)) | dict(zip(places, arrays, strict=True))
            positional, named = jax.tree.unflatten(structure, given.values())
            results, after = jax.tree.flatten(f(*positional, **named))
            # What is no array goes past the trace; None, which is no leaf, holds the place of an array.
            returned[:] = after, [None if _is_array(leaf) else leaf for leaf in results]
            return [leaf for leaf in results if _is_array(leaf)]

        arrays = [leaves[n] for n in places]
        program = _rewritten(jax.make_jaxpr(on_arrays)(*arrays))
        computed = iter(jaxprs.jaxpr_as_fun(program)(*arrays))
        after, results = returned
        return jax.tree.unflatten(after, [next(computed) if leaf is None else leaf for leaf in results])

    return fast


def _is_opaque(value: Any) -> bool:
    """Whether a tree holds no arrays, so that it is passed on as the object it is: a method, a loss, settings."""
    return not any(map(_is_array, jax.tree.leaves(value)))


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _rewritten(program: Any) -> Any:
    """Return a (closed) jaxpr with its convolutions rewritten; the same object where it has none."""
    if program in _REWRITTEN:
        return _REWRITTEN[program] or program
    opened = getattr(program, "jaxpr", program)
    if opened is not program:  # a closed one around it; from JAX 0.11 on there is one kind
        inner = _rewritten(opened)
        result = program if inner is opened else program.replace(jaxpr=inner)
    else:
        eqns = [new for eqn in program.eqns for new in _equations(eqn)]
        same = all(new is old for new, old in zip(eqns, program.eqns, strict=False))
        result = program if same else program.replace(eqns=eqns)
    _REWRITTEN[program] = None if result is program else result
    return result


def _equations(eqn: Any) -> list[Any]:
    """Return what stands in place of an equation."""
    if eqn.primitive is lax.conv_general_dilated_p:
        return _convolution(eqn)
    if eqn.params.get("branches_platforms") is not None:  # rewritten before
        return [eqn]
    inner = {name: value for name, value in eqn.params.items() if any(map(_is_program, _parts(value)))}
    new = {name: jax.tree.map(_inside, value, is_leaf=_is_program) for name, value in inner.items()}
    same = all(a is b for name in inner for a, b in zip(_parts(inner[name]), _parts(new[name]), strict=True))
    return [eqn] if same else [eqn.replace(params=eqn.params | new)]


def _is_program(value: Any) -> bool:
    return isinstance(value, jaxprs.ClosedJaxpr | jaxprs.Jaxpr)


def _parts(value: Any) -> list[Any]:
    return jax.tree.leaves(value, is_leaf=_is_program)


def _inside(value: Any) -> Any:
    return _rewritten(value) if _is_program(value) else value


def _convolution(eqn: Any) -> list[Any]:
    """Return the equations of a convolution in the canonical layout, with the variables of `eqn` at their ends."""
    params = eqn.params
    if params.get("out_sharding") is not None:  # explicit meshes name the axes of the layout as it is
        return [eqn]
    plain = partial(lax.conv_general_dilated_p.bind, **params)
    canonical = partial(_canonical, params)
    with eqn.ctx.manager:  # in the precision that it was traced in
        program = jax.make_jaxpr(lambda lhs, rhs: lax.platform_dependent(lhs, rhs, cpu=canonical, default=plain))(
            *(variable.aval for variable in eqn.invars)
        )
    inner = program.jaxpr
    if program.consts:
        return [eqn]
    ends = {id(own): given for own, given in zip(inner.invars, eqn.invars, strict=True)}
    ends |= {id(own): given for own, given in zip(inner.outvars, eqn.outvars, strict=True)}

    def renamed(variables):
        return [ends.get(id(variable), variable) for variable in variables]

    return [
        new.replace(invars=renamed(new.invars), outvars=renamed(new.outvars), source_info=eqn.source_info)
        for new in inner.eqns
    ]


def _canonical(params: dict[str, Any], lhs: jax.Array, rhs: jax.Array) -> jax.Array:
    """Convolve by way of N x spatial x C, spatial x I x O -> N x spatial x C."""
    layout, last = params["dimension_numbers"], lhs.ndim - 1
    (batch, feature, *spatial), (outputs, inputs, *taps) = layout.lhs_spec, layout.rhs_spec
    # One barrier each: neither waits for the other.
    lhs = lax.optimization_barrier(lax.transpose(lhs, (batch, *spatial, feature)))
    rhs = lax.optimization_barrier(lax.transpose(rhs, (*taps, inputs, outputs)))
    data, kernel = (0, last, *range(1, last)), (last, last - 1, *range(last - 1))
    params = params | {"dimension_numbers": lax.ConvDimensionNumbers(data, kernel, data)}
    convolve = _products if _has_fast_products(params, lhs, rhs) else lax.conv_general_dilated_p.bind
    result = lax.optimization_barrier(convolve(lhs, rhs, **params))
    return lax.transpose(result, np.argsort([layout.out_spec[0], *layout.out_spec[2:], layout.out_spec[1]]))


def _has_fast_products(params: dict[str, Any], lhs: jax.Array, rhs: jax.Array) -> bool:
    """Whether the sum of products is faster: measured, see the opening."""
    *taps, inputs, _ = rhs.shape
    one_each = params["feature_group_count"] > 1 and inputs == 1
    return (
        rhs.dtype in (np.float32, np.float64, np.complex64, np.complex128)
        and one_each
        and params["batch_group_count"] == 1
        and math.prod(taps) <= min(_TAPS, math.prod(lhs.shape[1:-1]))
        and set(params["lhs_dilation"]) <= {1}
    )


def _products(lhs: jax.Array, rhs: jax.Array, **params: Any) -> jax.Array:
    """Convolve by a sum over the taps of products, one input a group, layout canonical, without dilation of lhs."""
    *taps, _, outputs = rhs.shape
    groups, strides, dilation = params["feature_group_count"], params["window_strides"], params["rhs_dilation"]
    lhs = lax.pad(lhs, np.zeros((), lhs.dtype), [(0, 0, 0), *((*pad, 0) for pad in params["padding"]), (0, 0, 0)])
    size = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(lhs.shape[1:-1], taps, dilation, strides, strict=True)]
    total: Any = None
    for tap in itertools.product(*map(range, taps)):
        first = [k * d for k, d in zip(tap, dilation, strict=True)]
        end = [f + (n - 1) * s + 1 for f, n, s in zip(first, size, strides, strict=True)]
        seen = lax.slice(lhs, (0, *first, 0), (lhs.shape[0], *end, lhs.shape[-1]), (1, *strides, 1))
        kernel = lax.reshape(rhs[tap], (groups, outputs // groups))
        term = lax.reshape(seen[..., None] * kernel, (*seen.shape[:-1], outputs))
        total = term if total is None else total + term
    return total
