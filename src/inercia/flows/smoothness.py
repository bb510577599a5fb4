"""Whether an update is a smooth function of the gradient: what a flow of it can mean.

The update is traced, and each operation that depends on the gradient is looked at. A sign, a clip, a maximum, a
rounding or a branch on the gradient's size makes the update jump or bend.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.core.method import Params, State

_JUMPS = {"sign", "max", "min", "clamp", "floor", "ceil", "round", "abs", "argmax", "argmin", "sort", "top_k", "rem"}
#: What a value is: free of the gradient, a function of it, or the truth of a comparison with it.
_FREE, _SMOOTH, _THRESHOLD = 0, 1, 2
_COMPARISONS = {"gt", "ge", "lt", "le", "eq", "ne"}


def nonsmooth_operations(
    transformation: optax.GradientTransformation, params: Params, state: State | None = None
) -> list[str]:
    """List the operations that make the update not smooth in the gradient.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> nonsmooth_operations(optax.adam(0.1), jnp.ones(2)), nonsmooth_operations(optax.lion(0.1), jnp.ones(2))
        ([], ['sign'])
    """
    fixed: Any = transformation.init(params) if state is None else state
    update = optax.with_extra_args_support(transformation).update

    def of_grads(grads: Params) -> Params:
        return update(grads, fixed, params)[0]

    closed = jax.make_jaxpr(of_grads)(jax.tree.map(jnp.ones_like, params))
    found: set[str] = set()
    _walk(closed.jaxpr, [_SMOOTH] * len(closed.jaxpr.invars), found)
    return sorted(found)


def nonsmooth_in_loss(loss: Any, params: Params) -> list[str]:
    """List the operations that make a loss not smooth in the params, as relu's maximum does.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> [nonsmooth_in_loss(lambda x, f=f: jnp.sum(f(x)), jnp.ones(2)) for f in (jax.nn.relu, jax.nn.swish)]
        [['max'], []]
    """
    closed = jax.make_jaxpr(loss)(params)
    found: set[str] = set()
    _walk(closed.jaxpr, [_SMOOTH] * len(closed.jaxpr.invars), found, loss=True)
    return sorted(found)


def require_smooth(transformation: optax.GradientTransformation, params: Params, state: State | None = None) -> None:
    """Raise ValueError, naming the operations, unless the update is smooth in the gradient."""
    found = nonsmooth_operations(transformation, params, state)
    if found:
        raise ValueError(
            f"the update must be smooth in the gradient to have a flow, but it uses {', '.join(found)}: "
            "its limit is a differential inclusion."
        )


def _walk(jaxpr: Any, inputs: list[int], found: set[str], loss: bool = False) -> list[int]:
    """Follow the gradient (or params, through a loss) through a jaxpr; collect what is not smooth.

    A loss may take the largest of its values, as a stable softmax does without bending: there only what is compared
    with a number counts.
    """
    kind = {id(v): k for v, k in zip(jaxpr.invars, inputs, strict=True)}

    def of(v: Any) -> int:
        return _FREE if hasattr(v, "val") else kind.get(id(v), _FREE)

    for eqn in jaxpr.eqns:
        name, given = eqn.primitive.name, [of(v) for v in eqn.invars]
        result = [_SMOOTH if any(given) else _FREE] * len(eqn.outvars)
        if any(given):
            number = any(np.isfinite(getattr(v, "val", np.inf)).all() for v in eqn.invars)
            if name in _JUMPS and (not loss or (name in ("max", "min", "clamp") and number)):
                found.add(name)
            if name in _COMPARISONS:
                # Against zero it only guards a division: v > 0 ? 1/sqrt(v) : 0.
                guard = any(getattr(v, "val", 1) == 0 for v in eqn.invars)
                itself = eqn.invars[0] is eqn.invars[-1]  # a look for nan
                result = [_FREE if itself else _SMOOTH if guard and not loss else _THRESHOLD]
            elif name in ("select_n", "cond") and given[0] == _THRESHOLD:
                found.add("a branch on a value" if loss else "a branch on the gradient's size")
            elif _THRESHOLD in given and eqn.outvars[0].aval.dtype == bool:
                result = [_THRESHOLD]
            for inner in _inner(eqn):
                # Calls pass their arguments in order; what else they take (branch index, constants) comes first.
                count = len(inner.invars)
                through = _walk(inner, given[-count:] if count <= len(given) else [_SMOOTH] * count, found, loss)
                if len(through) == len(result):
                    result = [max(a, b) for a, b in zip(result, through, strict=True)]
        kind |= {id(v): k for v, k in zip(eqn.outvars, result, strict=True)}
    return [of(v) for v in jaxpr.outvars]


def _inner(eqn: Any) -> list[Any]:
    """Return the jaxprs that an equation calls (jit, cond, scan, custom derivatives)."""
    leaves = jax.tree.leaves(eqn.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr"))
    return [getattr(x, "jaxpr", x) for x in leaves if hasattr(x, "eqns") or hasattr(x, "jaxpr")]
