"""The memoryless limit of any smooth optax transformation, found by feeding it gradients.

As the learning rate goes to 0 with the betas fixed, an optimizer forgets faster than the params move, and they follow a
flow of their own. Let U(g0, gd) be the last update after the gradients g0 + j gd, j = -N..0: what the optimizer does
where the gradient drifts at the rate gd. With v = U(g, 0),

    Phi(theta) = U(g, H v),     theta' = Phi - (1/2) DPhi Phi      per update, second order in the learning rate
                                theta' = v                          first order

The transient at the start, sum_k (u_k - u_inf) with u_k the updates on the constant gradient g(theta_0) from the real
initial state, shifts the point from which the flow starts.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from inercia.core import check
from inercia.core.method import Params, State
from inercia.flows.smoothness import require_smooth


class Equation(NamedTuple):
    """A flow, and where it starts when the iterates start at (params, state)."""

    flow: Any  # (grads, state, params) -> (d params/dt, d state/dt)
    start: Callable[[Params, State], tuple[Params, State]]


class _LimitFlow:
    def __init__(self, transformation: optax.GradientTransformation, loss: Callable, order: int, memory: int) -> None:
        self.transformation, self.loss, self.order, self.memory = transformation, loss, order, memory
        self.dt = float(getattr(transformation, "dt", 1.0))

    def check(self, params: Params, state: State) -> None:
        require_smooth(self.transformation, params)

    def __call__(self, grads: Params, state: State, params: Params = None) -> tuple[Params, State]:
        if self.order == 1:
            field = self.last(params, grads, None, None)
        else:
            field, turn = jax.jvp(self.phi, (params,), (self.phi(params),))
            field = jax.tree.map(lambda p, d: p - 0.5 * d, field, turn)
        return jax.tree.map(lambda f: f / self.dt, field), state

    def gradient(self, params: Params) -> Params:
        return jax.tree.map(jnp.conj, jax.grad(self.loss)(params))  # the direction of ascent of complex params

    def phi(self, params: Params) -> Params:
        g = self.gradient(params)
        v = self.last(params, g, None, None)
        return self.last(params, g, jax.jvp(self.gradient, (params,), (v,))[1], v)

    def last(self, params: Params, g: Params, drift: Params, velocity: Params) -> Params:
        """Return the last of `memory` updates, gradients and params moving by drift and velocity per update."""
        update = optax.with_extra_args_support(self.transformation).update

        def step(state, j):
            def along(x, d):
                return x if d is None else jax.tree.map(lambda x, d: x + j * d, x, d)

            updates, state = update(along(g, drift), state, along(params, velocity))
            return state, updates

        ages = jnp.arange(-self.memory + 1, 1).astype(float)
        state, _ = jax.lax.scan(lambda s, j: (step(s, j)[0], None), self.transformation.init(params), ages[:-1])
        return step(state, ages[-1])[1]

    def start(self, params: Params, state: State) -> tuple[Params, State]:
        """Return theta_0 + sum_k (u_k - u_inf), and no state."""
        update = optax.with_extra_args_support(self.transformation).update
        with jax.enable_x64(True):
            g = self.gradient(params)

            def step(state, _):
                updates, state = update(g, state, params)
                return state, updates

            initial = self.transformation.init(params) if state is None else state
            _, u = jax.lax.scan(step, initial, length=self.memory)
            return jax.tree.map(lambda p, u: p + (u - u[-1]).sum(axis=0), params, u), ()


def limit(
    transformation: optax.GradientTransformation, loss: Callable, order: int = 2, *, memory: int = 400
) -> Equation:
    """Make the limit flow of any smooth optax transformation for small learning rates and fixed betas.

    Args:
        transformation: an inercia method or any optax transformation.
        loss: params -> scalar.
        order: 1 or 2, in the learning rate.
        memory: N, the updates after which the optimizer has forgotten; about 20 / (1 - b) for its largest beta b.

    Returns:
        Equation: `flow` for `integrate(flow, loss, start, times, state=())`, in updates' time, and
        `start(params, state)`, the point where it starts (state None for the initial one).

    Raises:
        ValueError: an order other than 1 or 2, memory below 2; from `integrate`, an update that is not smooth.

    Example:
        >>> import inercia, jax.numpy as jnp, optax
        >>> loss, x0, method = lambda x: x**2 / 2, jnp.array(1.0), optax.sgd(0.01, momentum=0.5)
        >>> flow, start = inercia.limit(method, loss, memory=60)
        >>> path = inercia.integrate(flow, loss, start(x0, None)[0], [0.0, 50.0], state=())
        >>> exact = inercia.iterate(method, loss, x0, 50)
        >>> abs(float(path.params[-1] - exact.params[-1])) < 1e-3
        True
    """
    check.optimizer(transformation)
    check.integer("memory", memory, 2)
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, but it is {order}.")
    flow = _LimitFlow(transformation, loss, order, memory)
    return Equation(flow, flow.start)
