"""High-resolution equations: what tells Nesterov's method from the heavy ball, which have the same plain flow.

With h = dt, u = theta', H the Hessian, in iterations; s and a the rates, of the sum form, and q = (1-b')/(1+b') with
the decay b' = 1 - (1-b) h of one update:

    Nesterov, (k-1)/(k+2)   u' = -(3/tau) u - h s H u - (1 + 3h/(2 tau)) s g,   tau = t + 3h/2
    Nesterov, constant b    u' = -(2q/h) u - h a H u - (1 + q) a g
    heavy ball              u' = -(2q/h) u           - (1 + q) a g

H u, the rate of the gradient along the path, is the gradient correction. They are the equations of the paper, there in
the time k sqrt(s) with q = sqrt(mu s), and miss the iterates by O(h^2), where the plain flow misses them by O(h).

That takes a start of the same order, which has to be the iterates': with u the plain flow's velocity and A its
acceleration at the start,

    u(0) = u + (3/2) h A for Nesterov,   u + (1/2) h A for the heavy ball;   at rest A = -a g

The paper starts at u(0) = -2 h a g / (1 + q), the first update over h, which is the velocity half a step later: from
there the gap is O(h) again. With friction 3/tau any u(0) of O(h) is forgotten at once, and the paper's -h s g serves.

Source: Shi, Du, Jordan & Su 2018, Understanding the acceleration phenomenon via high-resolution differential equations.
The starts are derived here.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inercia.core import check
from inercia.core.linear_form import linear_form
from inercia.core.method import Method, Params, State
from inercia.flows.memoryless_flow import Equation
from inercia.methods.momentum import OscillatorState
from inercia.methods.nesterov import nesterov

#: Field of the state that the plain flow's velocity is proportional to, by kind of recursion.
_MEMORY = {"heavy ball": "trace", "nesterov": "trace", "semi-implicit": "m"}


class _Terms(NamedTuple):
    """Of u' = -friction(t) u - correction H u - push(t) g."""

    friction: Callable[[Any], Any]
    correction: float
    push: Callable[[Any], Any]
    start: Callable[[Params, State, Any], Params]  # (g, state, t) -> u(t)


def high_resolution(method: Method, loss: Callable) -> Equation:
    """Make the high-resolution equation of Nesterov's method, or of the heavy ball.

    Args:
        method: `nesterov`, `sgd` with momentum, by Nesterov's step or not, or `momentum` in the semi-implicit scheme;
            constant hyperparameters, real params.
        loss: params -> scalar, twice differentiable.

    Returns:
        Equation: `flow` for `integrate`, on the state `OscillatorState` (time, theta'), and `start(params, state)`,
        what to integrate it from; it agrees with the iterates to second order in dt, on their axis of time.

    Raises:
        ValueError: another method, or schedules.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method, loss, x0 = inercia.nesterov(0.04), lambda x: x**2 / 2, jnp.array(1.0)
        >>> flow, start = inercia.high_resolution(method, loss)
        >>> params, state = start(x0, method.init(x0))
        >>> path = inercia.iterate(method, loss, x0, 40)
        >>> fine = inercia.integrate(flow, loss, params, path.times, state=state)
        >>> plain = inercia.integrate(method, loss, x0, path.times)
        >>> bool(inercia.gap(path, fine).distance.max() < 0.1 * inercia.gap(path, plain).distance.max())
        True
    """
    terms = _terms(method)

    def flow(grads: Params, state: OscillatorState, params: Params) -> tuple[Params, OscillatorState]:
        check.real("params", params)
        t, u = state.count, state.velocity
        friction, push = terms.friction(t), terms.push(t)
        along = jax.jvp(jax.grad(loss), (params,), (u,))[1] if terms.correction else jax.tree.map(jnp.zeros_like, u)
        u_dot = jax.tree.map(lambda g, u, hu: -friction * u - terms.correction * hu - push * g, grads, u, along)
        return u, OscillatorState(jnp.ones_like(t), u_dot)

    def start(params: Params, state: State) -> tuple[Params, OscillatorState]:
        check.real("params", params)
        with jax.enable_x64(True):
            g = jax.grad(loss)(jax.tree.map(lambda p: jnp.asarray(p, float), params))
            counts = jnp.issubdtype(jnp.result_type(state.count), jnp.integer)  # updates; else it is the time
            t = jnp.asarray(state.count, float) * (method.dt if counts else 1.0)
            return params, OscillatorState(t, terms.start(g, state, t))

    return Equation(flow, start)


def _terms(method: Any) -> _Terms:
    form = linear_form(method)
    if getattr(method, "factory", None) is nesterov:
        return _vanishing_friction(method.hyper["learning_rate"], method.dt)
    if form is None or form.second_moment is not None or form.kind not in _MEMORY:
        raise ValueError(
            "method must be inercia's nesterov, sgd with momentum, or momentum in the semi-implicit scheme, but it is "
            f"{method!r}."
        )
    if not form.constant:
        raise ValueError("high-resolution equations need constant hyperparameters, but one is a schedule.")
    return _constant_friction(form, method.dt)


def _vanishing_friction(s: Any, h: Any) -> _Terms:
    def tau(t):
        return t + 1.5 * h

    def start(g, state, t):
        def velocity(g, w):
            later = w - 1.5 * h * (3 / tau(t) * w + s * g)
            return jnp.where(t > 0, later, -h * s * g)

        return jax.tree.map(velocity, g, state.velocity)

    return _Terms(lambda t: 3 / tau(t), h * s, lambda t: (1 + 1.5 * h / tau(t)) * s, start)


def _constant_friction(form: Any, h: Any) -> _Terms:
    b, ahead = form.beta, form.kind == "nesterov"
    c, q = (1 - b) / h, (1 - b) / (1 + b)
    of_memory = form.learning_rate / h  # u = -of_memory times the memory
    a = of_memory * c if form.kind == "semi-implicit" else of_memory / h

    def start(g, state, t):
        def velocity(g, m):
            u = -(of_memory if form.kind == "semi-implicit" else a) * m
            return u - (1.5 if ahead else 0.5) * h * (c * u + a * g)

        return jax.tree.map(velocity, g, getattr(state, _MEMORY[form.kind]))

    return _Terms(lambda t: 2 * q / h, h * a if ahead else 0.0, lambda t: (1 + q) * a, start)
