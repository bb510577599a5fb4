"""Whether an update is a smooth function of the gradient: what a flow of it can mean.

The update is traced, and each operation that depends on the gradient is looked at. A sign, a clip, a maximum, a rounding
or a branch on the gradient's size makes the update jump or bend.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import Literal

from inercia.method import Params, State

_JUMPS = {"sign", "max", "min", "clamp", "floor", "ceil", "round", "abs", "argmax", "argmin", "sort", "top_k", "rem"}
_COMPARISONS = {"gt", "ge", "lt", "le", "eq", "ne"}


def kinks(transformation: optax.GradientTransformation, params: Params, state: State | None = None) -> list[str]:
    """List the operations that make the update not smooth in the gradient.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> kinks(optax.adam(0.1), jnp.ones(2)), kinks(optax.lion(0.1), jnp.ones(2))
        ([], ['sign'])
    """
    state = transformation.init(params) if state is None else state
    update = optax.with_extra_args_support(transformation).update

    def of_grads(grads: Params) -> Params:
        return update(grads, state, params)[0]

    closed = jax.make_jaxpr(of_grads)(jax.tree.map(jnp.ones_like, params))
    found: set[str] = set()
    _walk(closed.jaxpr, [True] * len(closed.jaxpr.invars), found)
    return sorted(found)


def require_smooth(transformation: optax.GradientTransformation, params: Params, state: State | None = None) -> None:
    """Raise ValueError, naming the operations, unless the update is smooth in the gradient."""
    found = kinks(transformation, params, state)
    if found:
        raise ValueError(
            f"the update must be smooth in the gradient to have a flow, but it uses {', '.join(found)}: "
            "its limit is a differential inclusion."
        )


def _walk(jaxpr: Any, depends: list[bool], found: set[str]) -> list[bool]:
    """Follow the dependence on the gradient through a jaxpr; collect the kinks; return that of the outputs."""
    known = {id(v): d for v, d in zip(jaxpr.invars, depends, strict=True)}
    thresholds: set[int] = set()  # truth values of comparisons of the gradient with something other than zero

    def of(v: Any) -> bool:
        return not isinstance(v, Literal) and known.get(id(v), False)

    for eqn in jaxpr.eqns:
        name, inputs = eqn.primitive.name, [of(v) for v in eqn.invars]
        if any(inputs):
            if name in _JUMPS:
                found.add(name)
            if name in _COMPARISONS and not any(isinstance(v, Literal) and v.val == 0 for v in eqn.invars):
                thresholds |= {id(v) for v in eqn.outvars}
            if name == "select_n" and id(eqn.invars[0]) in thresholds:
                found.add("a branch on the gradient's size")
            if name in ("and", "or", "not", "broadcast_in_dim", "reshape", "convert_element_type"):
                thresholds |= {id(v) for v in eqn.outvars if any(id(i) in thresholds for i in eqn.invars)}
            if name == "cond" and inputs[0]:
                found.add("a branch on the gradient")
        outputs = [any(inputs)] * len(eqn.outvars)
        for inner in _inner(eqn):
            arguments = inputs[-len(inner.invars) :] if len(inner.invars) <= len(inputs) else None
            if any(inputs):
                _walk(inner, arguments or [True] * len(inner.invars), found)
        known |= {id(v): d for v, d in zip(eqn.outvars, outputs, strict=True)}
    return [of(v) for v in jaxpr.outvars]


def _inner(eqn: Any) -> list[Any]:
    """Return the jaxprs that an equation calls (jit, cond, scan, custom derivatives)."""
    leaves = jax.tree.leaves(eqn.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr"))
    return [getattr(x, "jaxpr", x) for x in leaves if hasattr(x, "eqns") or hasattr(x, "jaxpr")]
