"""A loss in another precision: in float64 although the arrays that it closes over are float32, or in float32.

Dynamics give a loss its params in float64. Where they meet float32 data, JAX promotes sums and products, but not
convolutions: they ask for equal dtypes, and the loss cannot even be traced. `in_float64` traces it then with params in
float32, and computes the program that it finds with every float32 in it, constants and conversions included, in
float64. A number that the tracing has rounded to float32 is read as its shortest decimal: 0.1 is 0.1 again, pi is
3.1415927.

`in_float32` is the other way: the loss is computed in float32, and so are gradients and Hessian products, while what
is made of them, eigenvectors, sums over updates, stays in float64.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import jaxprs
from inercia.core.forms import form_of
from inercia.core.partial_loss import one_of_equals

#: How a dtype is widened.
_WIDE = {np.dtype(np.float32): np.dtype(np.float64), np.dtype(np.complex64): np.dtype(np.complex128)}
_NARROW = {wide: narrow for narrow, wide in _WIDE.items()}
#: What is computed in its own precision, and widened after: it looks at bits, or is a function outside of the program.
_OWN_PRECISION = (
    "bitcast_convert_type",
    "random_bits",
    "random_gamma",
    "reduce_precision",
    "nextafter",
    "callback",
    "ffi",
    "pallas",
)


def in_float64(loss: Any, params: Any) -> Any:
    """Return `loss`, or where float32 arrays keep it from being traced at float64 `params`, the same loss in float64.

    Args:
        loss: params -> scalar, hashable.
        params: float64, in an x64 context.

    Returns:
        `loss`, or a function of params in float64: the same one for the same loss, so that it compiles once.

    Example:
        >>> x, w = jnp.ones((1, 1, 3)), jnp.ones((1, 1, 2))
        >>> loss = lambda w: jax.lax.conv(x, w, (1,), "VALID").sum()
        >>> with jax.enable_x64(True):
        ...     print(in_float64(loss, w.astype("float64"))(w.astype("float64")).dtype)
        float64
    """
    loss = one_of_equals(loss)
    try:
        form_of(loss, params)
    except TypeError as error:
        if not callable(loss) or "dtype" not in str(error):
            return loss  # whoever uses it will say what is wrong
        wide = loss.widened(_widened) if hasattr(loss, "widened") else _widened(loss)
        try:
            form_of(wide, params)
        except TypeError:
            return loss
        return wide
    return loss


def in_float32(loss: Any) -> Any:
    """Return the same loss, computed in float32 whatever the precision of its params: faster, above all on a GPU.

    `curvature`, `central`, `edge`, `iterate` and `integrate` compute in float64. With this loss their gradients and
    products with the Hessian, nearly all of the work, are float32's, each wrong by about 1e-7 of its size; what they
    make of them, states, eigenvectors and projections, stays in float64.

    Args:
        loss: (params, ...) -> scalar; the arrays that it reads are float32 too, or integer.

    Returns:
        (params, ...) -> scalar in the precision of params; two of equal losses compile once.

    Raises:
        TypeError: when called, where the loss is computed in float64 all the same, because of data in float64.

    Example:
        >>> import inercia
        >>> x = np.linspace(0, 1, 5, dtype=np.float32)
        >>> loss = lambda w: jnp.mean(jnp.tanh(w[0] * x) ** 2) + w[1] ** 2
        >>> inercia.curvature(in_float32(loss), jnp.ones(2)).values.round(5).tolist()
        [2.0]
    """
    if hasattr(loss, "widened"):  # it brings a matrix in place of its Hessian
        return loss.widened(in_float32)
    return partial(_computed_in_float32, one_of_equals(loss))


def _computed_in_float32(loss: Any, params: Any, *rest: Any) -> Any:
    value = jnp.asarray(loss(jax.tree.map(_narrowed, params), *rest))
    if value.dtype in _NARROW:
        raise TypeError(
            f"a loss in float32 must read data in float32, but it gives {value.dtype}: cast its arrays before."
        )
    return value.astype(jnp.result_type(*jax.tree.leaves(params)))


def _narrowed(leaf: Any) -> Any:
    leaf = jnp.asarray(leaf)
    return leaf.astype(_NARROW.get(leaf.dtype, leaf.dtype))


@lru_cache(maxsize=64)
def _widened(loss: Callable) -> Callable:
    def wide(params):
        return _in_wide(loss, (jax.tree.map(_narrow, params),), params)

    return wide


def _narrow(leaf: Any) -> jax.ShapeDtypeStruct:
    dtype = jnp.asarray(leaf).dtype
    return jax.ShapeDtypeStruct(jnp.shape(leaf), _NARROW.get(dtype, dtype))


def _widen(value: Any) -> Any:
    dtype = _WIDE.get(getattr(value, "dtype", None))
    return value if dtype is None else jnp.asarray(value, dtype)


def _literal(value: Any) -> Any:
    """Return a number of the program's text: 0.1 in float32 stands for 0.1, its shortest decimal."""
    number = np.asarray(value)
    if number.ndim == 0 and number.dtype == np.float32:
        return jnp.asarray(float(str(number[()])), jnp.float64)
    return _widen(value)


def _in_wide(function: Callable, narrow: Any, wide: Any) -> Any:
    """Trace a function at `narrow` arguments and compute what was found at `wide` ones."""
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*narrow)
    out = _computed(closed.jaxpr, closed.consts, *jax.tree.leaves(wide))
    return jax.tree.unflatten(jax.tree.structure(shape), out)


def _computed(jaxpr: Any, constants: Any, *arguments: Any) -> list[Any]:
    """Compute a program in float64 where it says float32."""
    values = {id(v): _widen(c) for v, c in zip(jaxpr.constvars, constants, strict=True)}
    values |= {id(v): _widen(a) for v, a in zip(jaxpr.invars, arguments, strict=True)}

    def of(variable):
        return _literal(variable.val) if isinstance(variable, jaxprs.Literal) else values[id(variable)]

    for eqn in jaxpr.eqns:
        results = _equation(eqn, [of(v) for v in eqn.invars])
        values |= {id(v): _widen(result) for v, result in zip(eqn.outvars, results, strict=True)}
    return [of(v) for v in jaxpr.outvars]


def _equation(eqn: Any, given: list[Any]) -> list[Any]:
    name, params = eqn.primitive.name, eqn.params
    if any(part in name for part in _OWN_PRECISION):
        own = [
            jnp.asarray(value, v.aval.dtype) if value.dtype in _NARROW else value
            for value, v in zip(given, eqn.invars, strict=True)
        ]
        return _bound(eqn, params, own)
    if name.startswith("custom_jvp"):
        return _with_own_derivative(eqn, given, "jvp")
    if name.startswith("custom_vjp"):
        return _with_own_derivative(eqn, given, "vjp")
    if name in ("jit", "pjit", "closed_call"):
        inner = params["jaxpr" if "jaxpr" in params else "call_jaxpr"]
        return _computed(inner.jaxpr, inner.consts, *given)
    if name in ("checkpoint", "remat", "remat2"):
        again = jax.checkpoint(
            partial(_computed, params["jaxpr"], ()), prevent_cse=params["prevent_cse"], policy=params["policy"]
        )
        return again(*given)
    return _bound(eqn, jax.tree.map(_wide_parameter, params, is_leaf=_is_leaf), given)


def _bound(eqn: Any, params: dict[str, Any], given: list[Any]) -> list[Any]:
    results = eqn.primitive.bind(*given, **eqn.primitive.get_bind_params(params))
    return list(results) if eqn.primitive.multiple_results else [results]


def _is_leaf(value: Any) -> bool:
    return value is None or isinstance(value, jaxprs.ClosedJaxpr | jaxprs.Jaxpr)


def _wide_parameter(value: Any) -> Any:
    """Return a parameter of an equation: dtypes and inner programs are widened."""
    if isinstance(value, jaxprs.ClosedJaxpr):
        avals = [jax.ShapeDtypeStruct(aval.shape, _WIDE.get(aval.dtype, aval.dtype)) for aval in value.in_avals]
        return jax.make_jaxpr(partial(_computed, value.jaxpr, value.consts))(*avals)
    return _WIDE.get(value, value) if isinstance(value, np.dtype) else value


def _with_own_derivative(eqn: Any, given: list[Any], kind: str) -> list[Any]:
    """Compute a function that brings its own derivative, and keep the derivative, widened too."""
    program = eqn.params["call_jaxpr"]
    places = [n for n, v in enumerate(eqn.invars) if jnp.issubdtype(v.aval.dtype, jnp.inexact)]
    narrow = tuple(jax.ShapeDtypeStruct(eqn.invars[n].aval.shape, eqn.invars[n].aval.dtype) for n in places)

    def filled(arrays, others=given):
        arrays = dict(zip(places, arrays, strict=True))
        return [arrays.get(n, other) for n, other in enumerate(others)]

    def own(*arrays):
        return _bound(eqn, eqn.params, filled(arrays))

    def primal(*arrays):
        return _computed(program.jaxpr, program.consts, *filled(arrays))

    if kind == "jvp":
        function = jax.custom_jvp(primal)
        function.defjvp(lambda p, t: _in_wide(lambda p, t: jax.jvp(own, p, t), (narrow, narrow), (p, t)))
    else:
        function = jax.custom_vjp(primal)
        function.defvjp(
            lambda *p: _in_wide(partial(jax.vjp, own), narrow, p),
            lambda pull, ct: _in_wide(lambda pull, ct: pull(ct), jax.tree.map(_narrow, (pull, ct)), (pull, ct)),
        )
    return function(*(given[n] for n in places))
