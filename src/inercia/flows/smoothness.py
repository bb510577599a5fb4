"""Whether an update has a flow where it is not smooth.

The limit dt -> 0 of an update u(g, s) is the flow of u, as long as u is continuous in the gradient. Where only its
**slope jumps** (max, abs, clipping, amsgrad, adamax) the point is crossed: the flow exists, is smooth between the
crossings, and the iterates follow it at order 1. At a **jump** (sign, round, a choice between different values) the two
sides may point at each other; then the iterates go to and fro in every step and their limit slides along the jump, a
differential inclusion and no flow.

`nonsmooth_operations` reads the operations that are not smooth off the trace of the update; `jumps` keeps those that
jump, and of a choice finds out by looking at both its sides where it changes. Whether iterates slide is measured by
`sliding`.
"""

from collections.abc import Callable
from functools import partial
from itertools import islice, pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.core import check, tree
from inercia.core.method import Params, State
from inercia.core.optimizer_state import bowl, start_state, update_of
from inercia.flows.nonsmooth_trace import Operation, operations

#: Sizes of the gradients between which an update's choices are looked for.
_SIZES = np.logspace(-6, 6, 49)
#: Halvings of a cell: what is continuous differs by 2^-48 of its slope between the ends of what is left. Fewer for a
#: loss, whose params may cross together and are rounded.
_HALVINGS, _SHORT = 48, 36
#: What is left of a difference, over the size of the values, from which it is a jump: of an update; of a loss's
#: gradient or curvature, to which one row among many contributes.
_JUMP, _FELT = 1e-6, 1e-9
#: Below this a value is zero.
_TINY = 1e-200
#: Numbers that are held at a time while cells are halved.
_ROOM = 2**21
#: Points of a line through the params at which a loss's branches are looked at, and half its length in their size.
_POINTS, _REACH = 33, 4.0
#: Changes of an operation's branch at which a loss is looked at.
_CROSSINGS = 6


def nonsmooth_operations(
    transformation: optax.GradientTransformation, params: Params, state: State | None = None
) -> list[str]:
    """List the operations that make the update not smooth in the gradient: its value or its slope jumps.

    Args:
        transformation: an inercia method or any optax transformation.
        params: tree of arrays, of which only shapes and kinds matter.
        state: by default `transformation.init(params)`.

    Returns:
        Names of operations of JAX, "a branch on the gradient's size" for a choice; a choice that only guards a division
        against zero is none.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> [nonsmooth_operations(t(0.1), jnp.ones(2)) for t in (optax.adam, optax.lion, optax.amsgrad)]
        [[], ['sign'], ['max']]
    """
    check.optimizer(transformation)
    found = _of_update(transformation, params, state)
    jumping = _choice_jumps(transformation, params, state, found)
    return sorted({_name(o) for o in found if o.kind in ("jump", "slope", "branch") or jumping})


def jumps(transformation: optax.GradientTransformation, params: Params, state: State | None = None) -> list[str]:
    """List the operations at which the update jumps, so that iterates may slide and no flow follows them.

    Args:
        transformation: an inercia method or any optax transformation.
        params: tree of arrays.
        state: by default `transformation.init(params)`.

    Returns:
        Names as of `nonsmooth_operations`. A choice is listed where the update was found to jump: along lines of
        gradients of size 1e-6 to 1e6, from this state and from warm ones.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> [jumps(t, jnp.ones(2)) for t in (optax.sign_sgd(0.1), optax.clip_by_global_norm(1.0), optax.adamax(0.1))]
        [['sign'], [], []]
    """
    found = _of_update(transformation, params, state)
    jumping = _choice_jumps(transformation, params, state, found)
    return sorted({_name(o) for o in found if o.kind == "jump" or (jumping and o.kind in ("branch", "guard"))})


def require_continuous(
    transformation: optax.GradientTransformation, params: Params, state: State | None = None
) -> None:
    """Raise ValueError, naming the operations, unless the update is continuous in the gradient, so that it has a flow.

    Args:
        transformation: an inercia method or any optax transformation.
        params: tree of arrays.
        state: by default `transformation.init(params)`.
    """
    found = jumps(transformation, params, state)
    if found:
        raise ValueError(
            f"the update must be continuous in the gradient to have a flow, but it jumps ({', '.join(found)}): "
            "its limit is a differential inclusion."
        )


def require_smooth(transformation: optax.GradientTransformation, params: Params, state: State | None = None) -> None:
    """Raise ValueError, naming the operations, unless the update is smooth in the gradient; arguments as above."""
    require_continuous(transformation, params, state)
    found = nonsmooth_operations(transformation, params, state)
    if found:
        raise ValueError(f"the update must be smooth in the gradient here, but its slope jumps ({', '.join(found)}).")


def nonsmooth_in_loss(loss: Any, params: Params) -> list[str]:
    """List the operations that make a loss not smooth near the params, as relu's maximum does.

    Args:
        loss: params -> scalar.
        params: tree of arrays.

    Returns:
        Names of operations of JAX, "a branch on a value" for a choice: those whose branch changes along a random line
        through the params, eight times as long as their size, and where gradient or curvature jump as it changes. The
        max(0, variance) of layer norm always takes the same branch, and softplus has none that is felt.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> [nonsmooth_in_loss(lambda x, f=f: jnp.sum(f(x)), jnp.ones(2)) for f in (jax.nn.relu, jax.nn.softplus)]
        [['max'], []]
    """
    with jax.enable_x64(True):
        theta = tree.float64(params)
        names: list[str] = []

        def look(params):
            found = operations(loss, params, derivative=True)
            names[:] = ["a branch on a value" if o.name == "branch" else o.name for o in found]
            return [o.branch for o in found]

        abstract = jax.eval_shape(look, theta)
        if not names:
            return []
        met = {name for name, branch in zip(names, abstract, strict=True) if branch is None}  # inside a loop: unseen
        line, direction = _line(theta, 0), jax.tree.map(np.subtract, _line(theta, 0)(1.0), tree.to_numpy(theta))

        def seen(s, name):
            branches = _branches(loss, line(s))
            return np.concatenate([np.ravel(b) for b, n in zip(branches, names, strict=True) if n == name])

        for name in set(names) - met:
            if _felt(partial(seen, name=name), lambda s: _slopes(loss, line(s), direction)):
                met.add(name)
    return sorted(met)


def _felt(branch: Callable, slopes: Callable) -> bool:
    """Whether a loss's slopes jump at one of the first changes of branch along a line; both functions of s."""
    changing = (c for c in pairwise(np.linspace(-_REACH, _REACH, _POINTS)) if (branch(c[0]) != branch(c[1])).any())
    for low, high in islice(changing, _CROSSINGS):
        ends = _crossing(lambda s: branch(float(s[0]))[None], [low], [high], _SHORT)
        if _apart(*(slopes(float(end[0])) for end in ends)).max() > _FELT:
            return True
    return False


@partial(jax.jit, static_argnums=0)
def _branches(loss, params):
    return [o.branch for o in operations(loss, params, derivative=True)]


@partial(jax.jit, static_argnums=0)
def _slopes(loss, params, direction):
    """Return gradient and curvature along a direction, as rows of one point."""
    both = jax.jvp(jax.grad(loss), (params,), (direction,))
    return [jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(part)])[None] for part in both]


def _line(params: Params, seed: int) -> Any:
    """Return the function s -> params + s d, d random, of either sign and 1/2 to 3/2 of each leaf's size."""
    rng = np.random.default_rng(seed)

    def random(p):
        size = np.sqrt(np.mean(np.abs(p) ** 2))
        return rng.uniform(0.5, 1.5, p.shape) * rng.choice([-1, 1], p.shape) * (size if size > 0 else 1.0)

    params = tree.to_numpy(params)
    direction = jax.tree.map(random, params)
    return lambda s: jax.tree.map(lambda p, d: p + s * d, params, direction)


def _name(operation: Operation) -> str:
    return "a branch on the gradient's size" if operation.name == "branch" else operation.name


def _of_update(transformation: Any, params: Params, state: State | None) -> list[Operation]:
    """Return the operations of the update on the gradient; their branches are abstract."""
    with jax.enable_x64(True):
        theta = tree.float64(params)
        fixed = start_state(transformation, theta) if state is None else jax.tree.map(jnp.asarray, state)
        kept: list[Operation] = []

        def look(grads):
            kept[:] = operations(lambda g: update_of(transformation, bowl, theta, fixed, g)[:2], grads)

        jax.eval_shape(look, theta)
    return kept


def _choice_jumps(transformation: Any, params: Params, state: State | None, found: list[Operation]) -> bool:
    """Whether one of the update's choices jumps where it changes; of one inside a loop that is taken for granted.

    Choices change along lines of gradients, which miss zero by the least of the sizes: gradients that vanish together
    are met by no path.
    """
    choices = [i for i, o in enumerate(found) if o.kind in ("branch", "guard")]
    if not choices or any(found[i].branch is None for i in choices):
        return bool(choices)
    with jax.enable_x64(True):
        theta = tree.float64(params)
        fixed = start_state(transformation, theta) if state is None else jax.tree.map(jnp.asarray, state)
        zero = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), theta)
        room = max(1, _ROOM // sum(leaf.size for leaf in jax.tree.leaves(theta)))
        ends = np.concatenate([-_SIZES[::-1], _SIZES])
        for seed in range(2):
            offset, direction = (_line(zero, 2 * seed + i)(size) for i, size in enumerate((_SIZES[0], 1.0)))
            at = partial(_updates, transformation, theta, fixed, offset, direction)
            for part in np.array_split(np.arange(len(ends) - 1), -(-len(ends) // room)):
                low, high = ends[part], ends[part + 1]
                for i in choices:
                    cell = _crossing(lambda s, at=at, i=i: at(s)[1][i], low, high)
                    if _apart(*(at(end)[0] for end in cell)).max() > _JUMP:
                        return True
            fixed = update_of(transformation, bowl, theta, fixed, jax.device_put(direction))[1]
    return False


@partial(jax.jit, static_argnums=0)
def _updates(transformation, params, state, offset, direction, sizes):
    """Return update and state after gradients offset + s direction, and the branches, one row for each size s."""

    def after(grads):
        return update_of(transformation, bowl, params, state, grads)[:2]

    def look(s):
        grads = jax.tree.map(lambda o, d: o + s * d, offset, direction)
        values = [jnp.nan_to_num(x) for x in jax.tree.leaves(after(grads)) if jnp.issubdtype(x.dtype, jnp.inexact)]
        return values, [jnp.asarray(0 if o.branch is None else o.branch) for o in operations(after, grads)]

    return jax.vmap(look)(sizes)


def _crossing(branch: Callable, low: Any, high: Any, halvings: int = _HALVINGS) -> tuple[np.ndarray, np.ndarray]:
    """Halve cells towards the first change of branch and return the ends of what is left; branch: (n,) -> (n, ...)."""
    low, high = np.array(low, float), np.array(high, float)
    before = np.asarray(branch(low))
    for _ in range(halvings):
        middle = 0.5 * (low + high)
        between = np.asarray(branch(middle))
        first = (before != between).reshape(len(low), -1).any(axis=1)
        low, high = np.where(first, low, middle), np.where(first, middle, high)
        before = np.where(first.reshape(-1, *[1] * (before.ndim - 1)), before, between)
    return low, high


def _apart(a: Any, b: Any) -> np.ndarray:
    """Return how far apart two lists of arrays are, row by row, over the size of each array."""

    def size(x):
        return np.linalg.norm(np.asarray(x).reshape(len(x), -1), axis=1)

    return np.max([size(x - y) / np.maximum(np.maximum(size(x), size(y)), _TINY) for x, y in zip(a, b, strict=True)], 0)
