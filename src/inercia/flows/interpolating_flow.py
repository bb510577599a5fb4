"""The flow of any optimizer, found from its iterates alone.

Write one update as z+ = Phi(z), z = (params, state). The shift by one update is exp(F) of the vector field F that
passes through the iterates, so F is the logarithm of the shift; cut after N differences,

    F_N(z) = sum_{n=1..N} (-1)^(n+1)/n Delta^n z,     Delta^n z = sum_j (-1)^(n-j) C(n,j) Phi^j(z)

which needs N further iterates and no derivative. For a family that is refined by dt, the time-1 flow of F_N misses the
iterates by O(dt^N). The series converges while every multiplier mu of Phi has |mu - 1| < 1; it means nothing for an
update that is not smooth (sign, clip, max), so those are refused with the reason.

Source: Hairer, Lubich & Wanner, Geometric Numerical Integration, ch. IX (backward error analysis).
"""

from collections.abc import Callable
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.core import check, tree
from inercia.core.method import Params, State
from inercia.flows.smoothness import require_smooth

#: The differences Delta^n whose growth measures the convergence of the series.
_DIFFERENCES = (4, 10)
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

    def __call__(self, grads: Params, state: State, params: Params = None) -> tuple[Params, State]:
        """Return F_N at (params, state), per unit of time; the given gradient serves the first iterate."""
        points = [(params, self._counted(state, params))]
        for j in range(self.order):
            points.append(self._iterate(*points[-1], grads if j == 0 else None))
        field = jax.tree.map(lambda *z: sum(w * p for w, p in zip(self._weights, z, strict=True)) / self.dt, *points)
        return field[0], self._timed(field[1], params)

    def check(self, params: Params, state: State) -> None:
        """Raise ValueError unless the update is smooth and the multipliers lie in the disc of convergence here."""
        require_smooth(self.transformation, params, state)
        radius = self.radius(params, state)
        if not radius < 1:
            raise ValueError(
                f"the interpolated flow needs every multiplier mu of the update in |mu - 1| < 1, but the largest "
                f"|mu - 1| here is about {radius:.2f}: take a smaller learning rate."
            )

    def radius(self, params: Params, state: State) -> float:
        """Estimate the largest |mu - 1| that the iterates from here excite: how fast Delta^n z grows with n.

        Differences of the iterates themselves are used, not derivatives, which do not exist at the root of a zero
        second moment.
        """
        last = _DIFFERENCES[1]

        @jax.jit
        def iterates(params, state):
            def step(z, _):
                return self._iterate(*z), tree.ravel_real(z)[0]

            return jax.lax.scan(step, (params, self._counted(state, params)), length=last + 1)[1]

        z = np.asarray(iterates(params, state))
        low, high = (float(np.linalg.norm(np.diff(z, n, axis=0)[0])) for n in _DIFFERENCES)
        rounding = 8 * np.finfo(float).eps * 2.0**last * float(np.linalg.norm(z[0]))
        if high <= rounding:
            return 0.0
        return (high / low) ** (1 / (last - _DIFFERENCES[0])) if np.isfinite(high) and low > 0 else float("inf")

    def _iterate(self, params: Params, state: State, grads: Params = None) -> tuple[Params, State]:
        if grads is None:
            grads = jax.tree.map(jnp.conj, jax.grad(self.loss)(params))
        update = optax.with_extra_args_support(self.transformation).update
        updates, after = update(grads, state, params)
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
    check.integer("order", order)
    if order > _MOST:
        raise ValueError(
            f"order must be at most {_MOST}, because differences of more iterates lose more to rounding than they "
            f"gain, but it is {order}."
        )
    return Interpolated(transformation, loss, order)


def _log_of_shift(order: int) -> list[float]:
    """Return the weight of each Phi^j(z), j = 0..N, in F_N."""
    weights = [0.0] * (order + 1)
    for n in range(1, order + 1):
        for j in range(n + 1):
            weights[j] += (-1) ** (n + 1) / n * (-1) ** (n - j) * comb(n, j)
    return weights
