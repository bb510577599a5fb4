"""The numbers by which any optax transformation answers to oscillating gradients, read off its update.

With the state split as in `frozen_update`, u = u_g g + u_m m, m+ = B m + C g, elementwise,

    direction   u = u_m B^{-1} m+ + ..., so that each memory has the share u_m B^{-1} (1-B)^{-1} C of the answer to a
                constant gradient, and forgets at -log B; the rest of the answer is the gradient's own
    bound       the least l at which a multiplier of  (d, m) -> ((1-w) d + u_g l d + u_m m,  B m + C l d)  leaves the
                unit disc, over P; w the weight decay of an update. At -1:  l = (2-w)/(u_m (1+B)^{-1} C - u_g)

What these do not describe is refused: memories that feed each other, weight decay inside the gradient (which is part of
the loss), second moments that are not laid out like the params, bounds that differ from parameter to parameter.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core.method import Params
from inercia.edge_of_stability.averaged_update import KEPT, Read, Slot, second_moments_of, state_of, zeros_like_params
from inercia.edge_of_stability.frozen_update import Reading, frozen, is_float, step_of
from inercia.edge_of_stability.preconditioning import has_rule, rule
from inercia.edge_of_stability.state_reading import fresh_state, reading, slots_of
from inercia.flows.smoothness import require_continuous

#: Steps made at which corrections for a start at zero have faded; the first at which the method still moves is taken.
_LATE = (10**6, 10**4, 1000, 100, 30, 10, 3)
#: Steps made at which decays must be as they are late.
_EARLY = (3, 50)
#: Largest relative difference of the bounds of two parameters, and largest of decays, within a leaf and in time.
_ALIKE, _SAME = 5e-3, 1e-3
#: Second moments at which the update is linearised.
_TRIED = 1e-4
#: Modulus of a multiplier beyond which it is outside, curvatures times gain where it is looked for, and their number.
_OUTSIDE, _FROM, _TO, _POINTS = 1e-9, 1e-3, 1e4, 80
#: Elements of a leaf at which multipliers are looked at.
_ELEMENTS = 5


class Linear(NamedTuple):
    """The linear update, for every leaf of the params: u = u_g g + u_m m - decay theta, m+ = B m + C g."""

    u_g: list  # (...)
    u_m: list  # (..., s)
    B: list  # (..., s, s)
    C: list  # (..., s)
    decay: list  # (...)


def read_update(method: Any, params: Params) -> Read:
    """Read what the central flow needs off a transformation's update; of the params only the shapes matter.

    Raises:
        ValueError: what has no preconditioner, as `preconditioner` says; what the module's opening names.
    """
    own = reading(method, params)
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        leaves, structure = jax.tree.flatten(params)
        shapes = tuple(jnp.shape(p) for p in leaves)
        zero = jax.tree.unflatten(structure, [jnp.zeros(shape) for shape in shapes])
        require_continuous(method, zero)
        read = Read(method, own, structure, shapes, (), _second_moments(method, own, zero), 0.0, False)
        _refuse_decay_in_the_gradient(read)
        linear = _late(read)
        slots = tuple(_slots(j, held, linear) for j, held in enumerate(own.memory))
        bounds = _finite_bounds(linear)
        if np.ptp(bounds) > _ALIKE * bounds.max():
            raise ValueError(
                "a central flow needs one bound for all parameters, but those of this update go from "
                f"{bounds.min():.4g} to {bounds.max():.4g}: the parameters have different memories."
            )
        decays = any(np.any(part) for part in linear.decay)
        bound = free = float(np.mean(bounds))
        if decays:
            free = float(np.mean(_finite_bounds(linear._replace(decay=[0 * part for part in linear.decay]))))
        read = read._replace(slots=slots, bound=bound, decays=decays, free=free)
        _refuse_maxima(read)
    return read


def bounds_of(method: Any, params: Params) -> tuple[float, float]:
    """Return the largest stable eigenvalue of P^{-1} H, and what it would be without the update's weight decay.

    Raises:
        ValueError: what has no bound, as `read_update` says.
    """
    if has_rule(method) and not getattr(method, "hyper", {}).get("weight_decay"):
        return rule(method).bound, rule(method).bound
    read = read_update(method, params)
    return read.bound, read.free


def _second_moments(method: Any, own: Reading, zero: Params) -> tuple[tuple[int, ...], ...]:
    """Return for every leaf of the params the second moments that gradients change."""
    state = fresh_state(method, zero)
    one = jax.tree.map(lambda p: jnp.full(p.shape, 1e-2), zero)
    states = [step_of(method, own.period, g, state, zero)[1] for g in (one, jax.tree.map(jnp.zeros_like, one))]
    memory = {i for slots in own.memory for i in slots}
    changed = [
        i
        for i, (a, b) in enumerate(zip(*map(jax.tree.leaves, states), strict=True))
        if i not in memory and is_float(a) and (np.asarray(a) != np.asarray(b)).any()
    ]
    return slots_of(state, changed, zero, "a second moment")


def _late(read: Read) -> Linear:
    """Return the linear update where corrections for the start have faded; refuse decays that change in time."""
    for steps in _LATE:
        late = _linear(read, steps)
        if any(np.any(np.asarray(u)) for u in (*late.u_g, *late.u_m)):
            break
    for early in (_linear(read, steps).B for steps in _EARLY):
        for then, now in zip(early, late.B, strict=True):
            if np.abs(np.asarray(then) - np.asarray(now)).max(initial=0) > _SAME:
                raise ValueError("a central flow needs memories whose decay does not change in time, but one's does.")
    return late


def _linear(read: Read, steps: int) -> Linear:
    count = read.size
    nu = jnp.full(max(map(len, read.averaged), default=0) * count, _TRIED)
    state = state_of(read, nu, [], float(steps))
    zero = zeros_like_params(read)
    linear, still, _ = frozen(read.method, read.own, state, zero)
    rest = jax.tree.leaves(zero)
    leaves = jax.tree.leaves(state)
    nothing = [[jnp.zeros_like(leaves[i]) for i in slots] for slots in read.own.memory]
    u_g, C = linear([jnp.ones_like(p) for p in rest], nothing)
    u_m, B = [[] for _ in rest], [[] for _ in rest]
    for k in range(max(map(len, read.own.memory), default=0)):
        one = [[jnp.ones_like(m) if i == k else m for i, m in enumerate(held)] for held in nothing]
        u, after = linear(rest, one)
        for j in (j for j, held in enumerate(nothing) if k < len(held)):
            u_m[j].append(u[j])
            B[j].append(jnp.stack(after[j], -1))
    ones = jax.tree.map(jnp.ones_like, zero)
    moved = frozen(read.method, read.own, state, ones).still
    decay = [a - b for a, b in zip(still, moved, strict=True)]

    def stacked(parts, *empty):
        return [jnp.stack(x, -1) if x else jnp.zeros((*p.shape, *empty)) for x, p in zip(parts, rest, strict=True)]

    return Linear(u_g, stacked(u_m, 0), stacked(B, 0, 0), stacked(C, 0), decay)


def _slots(j: int, held: tuple[int, ...], linear: Linear) -> tuple[Slot, ...]:
    """Return the memories of a leaf, alike for its elements."""
    if not held or not linear.u_g[j].size:
        return ()
    u_g, u_m, B, C, _ = _by_element(*(part[j] for part in linear))
    if max(np.ptp(B, axis=0).max(), np.ptp(C / (np.abs(C).max() or 1.0), axis=0).max()) > _SAME:
        raise ValueError("a central flow needs memories that are alike within a leaf, but the elements differ.")
    B, C, u_g, u_m = B[0], C[0], u_g[0], u_m[0]
    keeps = np.abs(B).max(axis=1) > KEPT
    apart = B[np.ix_(keeps, keeps)] - np.diag(np.diag(B)[keeps])
    decays = np.where(keeps, np.diag(B), 0.0)
    if np.abs(apart).max(initial=0) > KEPT or not ((decays >= 0) & (decays < 1)).all():
        raise ValueError("a central flow needs memories that fade each on its own, but those here feed each other.")
    answer = np.linalg.solve(np.eye(len(C)) - B, C)
    alternating = -np.linalg.solve(np.eye(len(C)) + B, C)
    of_all = u_g + u_m @ answer
    shares = np.where(keeps, u_m * answer / np.where(keeps, decays, 1), 0.0) / (of_all or 1.0)
    return tuple(Slot(*map(float, part)) for part in zip(decays, shares, answer, alternating, strict=True))


def _by_element(u_g: Any, *others: Any) -> list[np.ndarray]:
    """Return the parts of a leaf with one leading axis, its elements."""
    count = int(np.prod(np.shape(u_g)))
    return [np.asarray(x).reshape(count, *np.shape(x)[np.ndim(u_g) :]) for x in (u_g, *others)]


def _finite_bounds(linear: Linear) -> np.ndarray:
    """Return the bounds at elements of every leaf that move."""
    leaves = range(len(linear.u_g))
    bounds = np.concatenate([_bounds(*(np.asarray(part[j]) for part in linear)) for j in leaves])
    return bounds[np.isfinite(bounds)]


def _bounds(u_g: Any, u_m: Any, B: Any, C: Any, decay: Any) -> np.ndarray:
    """Return the bound on P^{-1} H at elements of a leaf; infinite where nothing moves."""
    from scipy.optimize import brentq  # noqa: PLC0415  loaded when used

    s, found = B.shape[-1], []
    flat = _by_element(u_g, u_m, B, C, decay)
    at = np.unique(np.linspace(0, max(len(flat[0]) - 1, 0), _ELEMENTS).astype(int))
    for direct, by_memory, keep, drive, w in (tuple(part[i] for part in flat) for i in at if len(flat[0])):
        gain = -(direct + by_memory @ np.linalg.solve(np.eye(s) - keep, drive))
        alternating = by_memory @ np.linalg.solve(np.eye(s) + keep, drive) - direct
        if not gain > 0:
            found.append(np.inf)
            continue

        def radius(x, direct=direct, by_memory=by_memory, keep=keep, drive=drive, w=w):
            top = np.concatenate([[1 - w + direct * x], by_memory])
            return np.abs(np.linalg.eigvals(np.vstack([top, np.column_stack([drive * x, keep])]))).max() - 1

        edge = (2 - w) / alternating if alternating > 0 else np.inf
        grid = np.geomspace(_FROM / gain, min(edge * (1 - _OUTSIDE), _TO / gain), _POINTS)
        outside = np.flatnonzero([radius(x) > _OUTSIDE for x in grid])
        if len(outside) and outside[0] > 0:
            edge: Any = brentq(radius, grid[outside[0] - 1], grid[outside[0]])
        found.append(edge * gain)
    return np.asarray(found)


def _refuse_decay_in_the_gradient(read: Read) -> None:
    """Raise where moments feel the params themselves."""
    own, zero = read.own, zeros_like_params(read)
    state, one = fresh_state(read.method, zero), jax.tree.map(lambda p: jnp.full(p.shape, 1e-2), zero)
    after = [jax.tree.leaves(step_of(read.method, own.period, one, state, p)[1]) for p in (zero, one)]
    for i in sorted({i for slots in (*own.memory, *read.averaged) for i in slots}):
        if (np.asarray(after[0][i]) != np.asarray(after[1][i])).any():
            raise ValueError(
                "a central flow needs moments of gradients alone, but those of this update feel the params too: add "
                "the weight decay to the loss, or take the decoupled one of adamw."
            )


def decays_of(read: Read) -> list[float]:
    """Return what a step keeps of each memory and of each second moment."""
    found = [slot.decay for slots in read.slots for slot in slots]
    if any(read.averaged):
        with jax.ensure_compile_time_eval(), jax.enable_x64(True):
            kept = np.asarray(_kept(read, 1e-3 * _TRIED**0.5)).reshape(-1, read.size)
        ends = np.cumsum([int(np.prod(shape)) for shape in read.shapes])[:-1]
        pieces = zip(np.split(kept, ends, axis=1), read.averaged, strict=True)
        found += [float(piece[k].max()) for piece, at in pieces for k in range(len(at)) if piece.size]
    return found


def _kept(read: Read, size: float) -> jax.Array:
    """Return what a step with gradients of a size keeps of each second moment."""
    nu = jnp.full(max(map(len, read.averaged), default=0) * read.size, _TRIED)
    g = jax.tree.map(lambda p: jnp.full(p.shape, size), zeros_like_params(read))

    def after(nu):
        moved = step_of(read.method, read.own.period, g, state_of(read, nu, [], 100.0), g)[1]
        return second_moments_of(read, jax.tree.leaves(moved), nu)

    return jax.jvp(after, (nu,), (jnp.ones_like(nu),))[1]


def _refuse_maxima(read: Read) -> None:
    """Raise where a second moment forgets all of itself at a large gradient, as a running maximum does."""
    if not any(read.averaged):
        return
    for size in (1e-3, 1e3):
        kept = _kept(read, size * _TRIED**0.5)
        if not ((kept > KEPT) & (kept <= 1 + _SAME)).all():
            raise ValueError(
                "a central flow needs second moments that are averages, each keeping a fixed part of itself, but one "
                "here is not: a running maximum (amsgrad, adamax), or an average of the steps (adadelta)?"
            )
