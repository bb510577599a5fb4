"""The flow of any optimizer, found from its iterates alone.

Write one update as z+ = Phi(z), z = (params, state). The shift by one update is exp(F) of the vector field F that
passes through the iterates, so F is the logarithm of the shift; cut after N differences,

    F_N(z) = sum_{n=1..N} (-1)^(n+1)/n Delta^n z,     Delta^n z = sum_j (-1)^(n-j) C(n,j) Phi^j(z)

which needs N further iterates and no derivative. For a family that is refined by dt, the time-1 flow of F_N misses the
iterates by O(dt^N). The series converges while every multiplier mu of Phi has |mu - 1| < 1; it means nothing for an
update that is not smooth (sign, clip, max), so those are refused with the reason.

Source: Hairer, Lubich & Wanner, Geometric Numerical Integration, ch. IX (backward error analysis).
"""

import warnings
from collections.abc import Callable
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.core import check
from inercia.core.method import Params, State
from inercia.core.optimizer_state import keeps_form, update_of
from inercia.flows.smoothness import require_continuous

#: The differences Delta^n whose growth measures the convergence of the series.
_DIFFERENCES = (4, 10)
#: Delta^10 of a leaf over its largest first step, from which its start is out of line with the next iterates.
_STALL = 0.5
#: Highest order: Delta^n of float64 iterates carries 2^n roundings.
_MOST = 16


class Interpolated:
    """A flow (grads, state, params) -> (d params/dt, d state/dt), which `integrate` takes with a state.

    Attributes:
        order: N.
        dt: time that one update of the transformation advances.
    """

    def __init__(self, transformation: optax.GradientTransformation, loss: Callable, order: int) -> None:
        self.transformation, self.loss, self.order = transformation, loss, order
        self.dt = float(getattr(transformation, "dt", 1.0))
        self._weights = _log_of_shift(order)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Interpolated) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple:
        return self.transformation, self.loss, self.order

    def __call__(self, grads: Params, state: State, params: Params = None) -> tuple[Params, State]:
        """Return F_N at (params, state), per unit of time; the given gradient serves the first iterate."""
        points = [(params, self._counted(state, params))]
        for j in range(self.order):
            points.append(self._iterate(*points[-1], grads if j == 0 else None))
        field = jax.tree.map(lambda *z: sum(w * p for w, p in zip(self._weights, z, strict=True)) / self.dt, *points)
        return field[0], self._timed(field[1], params)

    def check(self, params: Params, state: State) -> None:
        """Raise ValueError unless the update is smooth, the first one like the next ones, and the series converges."""
        self._check_floats(params, state)
        require_continuous(self.transformation, params, self._counted(state, params))
        z = self._iterates(params, state)
        if (name := _special_start(z)) is not None:
            raise ValueError(
                f"the interpolated flow needs a first update like those after it, but from this state {name} starts "
                "unlike it goes on: start warm, with path = iterate(method, loss, params, 2)[-1], then integrate from "
                "path.params at times from path.times with state=path.state."
            )
        radius = _growth(z)
        if not radius < 1:
            raise ValueError(
                f"the interpolated flow needs every multiplier mu of the update in |mu - 1| < 1, but the largest "
                f"|mu - 1| here is about {radius:.2f}: take a smaller learning rate, or, if the update changes within "
                f"its next {_DIFFERENCES[1]} steps (a schedule's jump, a rule for the first updates), start after that."
            )

    def _check_floats(self, params: Params, state: State) -> None:
        given = self._counted(state, params)
        try:
            _, after = jax.eval_shape(self._iterate, params, given)
        except Exception as error:
            raise TypeError(
                "the interpolated flow moves every number of the state as a float, its counters too, which this update "
                f"does not take ({type(error).__name__}: {str(error).splitlines()[0]}): use a method with a flow of "
                "its own, or a transformation whose state is moments and counters."
            ) from error
        keeps_form(given, after)
        for (keys, new), old in zip(jax.tree_util.tree_leaves_with_path(after), jax.tree.leaves(given), strict=True):
            if jnp.issubdtype(new.dtype, jnp.integer) and jnp.issubdtype(jnp.result_type(old), jnp.floating):
                raise TypeError(
                    "the interpolated flow moves every number of the state as a float, its counters too, but this "
                    f"update sets state{jax.tree_util.keystr(keys)} to an integer: use a method with a flow of its "
                    "own, or a transformation whose state is moments and counters."
                )
            if jnp.issubdtype(new.dtype, jnp.floating) and new.dtype.itemsize < np.dtype(old.dtype).itemsize:
                raise TypeError(
                    f"the interpolated flow needs iterates that are not rounded, but state{jax.tree_util.keystr(keys)} "
                    f"is kept in {new.dtype}: keep it in the params' dtype, or use a method with a flow of its own."
                )

    def radius(self, params: Params, state: State) -> float:
        """Estimate the largest |mu - 1| that the iterates from here excite."""
        return _growth(self._iterates(params, state))

    def _iterates(self, params: Params, state: State) -> list[tuple[str, np.ndarray]]:
        """Return the leaves of params and state, by name, along the next iterates; leading axis = update.

        Iterates themselves are used, not derivatives, which do not exist at the root of a zero second moment.
        """

        @jax.jit
        def iterates(params, state):
            def step(z, _):
                return self._iterate(*z), {"params": z[0], "state": z[1]}

            return jax.lax.scan(step, (params, self._counted(state, params)), length=_DIFFERENCES[1] + 2)[1]

        leaves = jax.tree_util.tree_leaves_with_path(iterates(params, state))
        return [(f"{k[0].key}{jax.tree_util.keystr(k[1:])}", np.asarray(leaf)) for k, leaf in leaves]

    def ahead(self, changes: list[tuple[float, float]]) -> list[tuple[float, float]]:
        """Return the changes of F_N where a schedule changes: there, and up to N updates before, which it looks ahead.

        There F_N mixes iterates of both sides, which is said in a warning.
        """
        if changes:
            warnings.warn(
                f"the interpolated flow looks {self.order} updates ahead, across the change of a schedule at time "
                f"{changes[0][1]:g}, where it is not the flow of the iterates on either side: use a method with a flow "
                "of its own.",
                check.InerciaWarning,
                stacklevel=5,
            )
        return [(before - j * self.dt, after - j * self.dt) for before, after in changes for j in range(self.order + 1)]

    def one_update(self, grads: Params, state: State, params: Params) -> tuple[Params, State]:
        """Return (updates, state) after one update, counters in time: where a schedule's decisions show."""
        updates, after = self._update(grads, self._counted(state, params), params)
        return updates, self._timed(after, params)

    def _update(self, grads: Params, state: State, params: Params) -> tuple[Params, State]:
        return update_of(self.transformation, self.loss, params, state, grads)[:2]

    def _iterate(self, params: Params, state: State, grads: Params = None) -> tuple[Params, State]:
        if grads is None:
            grads = jax.tree.map(jnp.conj, jax.grad(self.loss)(params))
        updates, after = self._update(grads, state, params)
        return optax.apply_updates(params, updates), after

    def _counters(self, params: Params) -> State:
        """Return a state of bools: which leaves count updates."""
        fresh = jax.eval_shape(self.transformation.init, params)
        return jax.tree.map(lambda leaf: jnp.issubdtype(leaf.dtype, jnp.integer), fresh)

    def _counted(self, state: State, params: Params) -> State:
        counters = self._counters(params)
        return jax.tree.map(lambda c, x: jnp.asarray(x, float) / self.dt if c else x, counters, state)

    def _timed(self, state: State, params: Params) -> State:
        return jax.tree.map(lambda c, x: x * self.dt if c else x, self._counters(params), state)


def interpolated(transformation: optax.GradientTransformation, loss: Callable, order: int = 4) -> Interpolated:
    """Make the flow through the iterates of any optax transformation.

    Args:
        transformation: an inercia method or any optax transformation whose state is a tree of floats and counters.
        loss: params -> scalar.
        order: N >= 1, the number of further iterates, each one gradient.

    Returns:
        Interpolated: a flow for `integrate(flow, loss, params, times, state=...)`.

    Raises:
        ValueError: an order below 1 or above 16; from `integrate`, an update that is not smooth, or steps too large
            for the series to converge.

    Example:
        >>> import inercia, jax.numpy as jnp, optax
        >>> loss, x0 = lambda x: x**2 / 2, jnp.array(1.0)
        >>> adam = optax.sgd(0.1)
        >>> flow = inercia.interpolated(adam, loss, order=6)
        >>> path = inercia.integrate(flow, loss, x0, [0.0, 10.0], state=adam.init(x0))
        >>> abs(float(path.params[-1]) - 0.9**10) < 1e-6
        True
    """
    check.optimizer(transformation)
    check.integer("order", order)
    if order > _MOST:
        raise ValueError(
            f"order must be at most {_MOST}, because differences of more iterates lose more to rounding than they "
            f"gain, but it is {order}."
        )
    return Interpolated(transformation, loss, order)


def _growth(leaves: list[tuple[str, np.ndarray]]) -> float:
    """Return how fast Delta^n z grows with n at the start of the iterates: the largest |mu - 1| that they excite."""
    z = np.concatenate([leaf.reshape(len(leaf), -1) for _, leaf in leaves], axis=1)
    low, high = (float(np.linalg.norm(np.diff(z, n, axis=0)[0])) for n in _DIFFERENCES)
    rounding = 8 * np.finfo(float).eps * 2.0 ** _DIFFERENCES[1] * float(np.linalg.norm(z[0]))
    if high <= rounding:
        return 0.0
    return (high / low) ** (1 / (_DIFFERENCES[1] - _DIFFERENCES[0])) if np.isfinite(high) and low > 0 else float("inf")


def _special_start(leaves: list[tuple[str, np.ndarray]]) -> str | None:
    """Return the name of a leaf whose first update is of another kind than the next ones, or None.

    If z_0 is out of line by e, every Delta^n z_0 contains (-1)^n e, however smoothly the others follow one another.
    """
    for name, z in leaves:
        steps = [np.linalg.norm(d) for d in np.diff(z, axis=0)[: _DIFFERENCES[0]]]
        here, later = (np.linalg.norm(d) for d in np.diff(z, _DIFFERENCES[1], axis=0)[:2])
        # Against the step of the same iterate too: whatever decays as mu^k keeps that ratio.
        if here > _STALL * max(steps) and here * steps[1] > 5 * later * steps[0]:
            return name
    return None


def _log_of_shift(order: int) -> list[float]:
    """Return the weight of each Phi^j(z), j = 0..N, in F_N."""
    weights = [0.0] * (order + 1)
    for n in range(1, order + 1):
        for j in range(n + 1):
            weights[j] += (-1) ** (n + 1) / n * (-1) ** (n - j) * comb(n, j)
    return weights
