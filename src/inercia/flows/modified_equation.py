"""What the discrete method really follows: flows that agree with the iterates to second order and more.

Three regimes, each with a clock of iterations; H = Hessian, T = third derivative, s = a dt, e = g - m, c = 1-b:

refined      1-b and a shrink with dt.
    GD           theta' = -a [g + (s/2) H g + s^2 (H^2 g / 3 + T[g,g] / 12)]      orders 2 and 3
    momentum     m' = c e + (dt/2) c (a H m + c e),   theta' = -a m -+ (dt/2) a c e
                 (- for the semi-implicit scheme, + for the explicit one)
    Nesterov     the high-resolution equation, on (t, theta'): see `high_resolution`
memoryless   a shrinks, b stays: gradient flow of f + C |g|^2 from a shifted start, a the averaged form's rate.
    semi-implicit    C = a (1+b) / (4 (1-b))               theta_0 + a b/(1-b) g
    explicit         C = a (3-b) / (4 (1-b))               theta_0 + a/(1-b) g
    Nesterov         C = a (1-b+2b^2) / (4 (1-b))          theta_0 + a b^2/(1-b) g
    GD               C = a/4, no shift
    Adam             theta_j' = -a (g_j + B_j) / sqrt(g_j^2 + eps), eps inside the root, from a warm start,
                     B_j = (a/2) {p1 - p2 + p2 eps/(g_j^2+eps)} d_j sum_i sqrt(g_i^2+eps),   p = (1+b)/(1-b)
staggered    semi-implicit momentum again: with the rate -ln(b)/dt in place of (1-b)/dt, and m placed at half steps, the
             flow needs no correction.

Sources: Barrett & Dherin 2021 (GD); Ghosh et al. 2023 (momentum); Cattaneo, Klusowski & Shigida 2024 (Adam); Hairer,
Lubich & Wanner, Geometric Numerical Integration, ch. IX.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from inercia.core import check
from inercia.core.linear_form import LinearForm, linear_form
from inercia.core.method import Method, Params, State
from inercia.core.transition import abs_sq
from inercia.flows.high_resolution_equation import high_resolution
from inercia.flows.memoryless_flow import Equation
from inercia.methods.momentum import MomentumState
from inercia.methods.nesterov import nesterov
from inercia.methods.sgd import SgdState

REGIMES = ("refined", "memoryless", "staggered")


def modified(method: Method, loss: Callable, regime: str = "refined", order: int = 2) -> Equation:
    """Make the flow that a method follows to higher order.

    Args:
        method: `sgd` or `momentum` in any regime that the module lists for it, `nesterov` in the refined, `adam` in the
            memoryless one; with constant hyperparameters.
        loss: params -> scalar, smooth.
        regime: "refined", "memoryless" or "staggered".
        order: 2; for refined gradient descent also 3.

    Returns:
        Equation: `flow` for `integrate`, and `start(params, state)`, what to integrate it from. The memoryless flows
        live on the params alone, with state ().

    Raises:
        ValueError: an unknown regime, or one without an equation for this method; hyperparameters that are schedules.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method, loss, x0 = inercia.sgd(0.2), lambda x: x**2 / 2, jnp.array(1.0)
        >>> flow, start = inercia.modified(method, loss, order=3)
        >>> params, state = start(x0, method.init(x0))
        >>> path = inercia.integrate(flow, loss, params, [0.0, 5.0], state=state)
        >>> abs(float(path.params[-1]) - 0.8**5) < 2e-3
        True
    """
    check.one_of("regime", regime, REGIMES)
    if regime == "refined" and order == 2 and getattr(method, "factory", None) is nesterov:
        return high_resolution(method, loss)
    form, dt = _constant_form(method), method.dt
    kind, a, b = form.kind, form.averaged_rate, form.beta
    makers: dict[tuple[str, str], Callable[[], Equation]] = {
        ("GD", "refined"): lambda: _gradient_descent(a, dt, loss, order),
        ("semi-implicit", "refined"): lambda: _near_identity(a, b, dt, loss, -1.0),
        ("explicit", "refined"): lambda: _near_identity(a, b, dt, loss, 1.0),
        ("heavy ball", "refined"): lambda: _summed(_near_identity(a, b, dt, loss, -1.0), b, dt),
        ("semi-implicit", "staggered"): lambda: _staggered(a, b, dt, loss),
        ("nesterov", "refined"): lambda: high_resolution(method, loss),
        ("heavy ball", "staggered"): lambda: _summed(_staggered(a, b, dt, loss), b, dt),
        ("adam", "memoryless"): lambda: _adam(form, dt, loss),
    } | {(k, "memoryless"): lambda: _memoryless(kind, a, b, dt, loss) for k in _CONSTANTS}  # fmt: skip
    named = kind if form.second_moment is None else "adam"
    if (named, regime) not in makers:
        listed = ", ".join(f"{k} {r}" for k, r in makers)
        raise ValueError(f"no modified flow is given for {named} in the regime {regime!r}; there are: {listed}.")
    if order != 2 and not (order == 3 and (named, regime) == ("GD", "refined")):
        raise ValueError(f"order must be 2 (or 3, for refined gradient descent), but it is {order}.")
    return _of_real_params(makers[named, regime]())


def _of_real_params(equation: Equation) -> Equation:
    def flow(grads: Params, state: State, params: Params) -> tuple[Params, State]:
        check.real("params", params)
        return equation.flow(grads, state, params)

    def start(params: Params, state: State) -> tuple[Params, State]:
        check.real("params", params)
        return equation.start(params, state)

    return Equation(flow, start)


def modified_loss(method: Method, loss: Callable) -> Callable[[Params], jax.Array]:
    """Make f + C |g|^2, the loss whose gradient flow the method follows to second order at fixed betas.

    Args:
        method: `sgd` with any momentum, or `momentum`; constant hyperparameters.
        loss: params -> scalar.

    Raises:
        ValueError: a method that has no modified loss (Adam's flow is no gradient flow), or schedules.

    Example:
        >>> import inercia
        >>> float(inercia.modified_loss(inercia.sgd(0.4), lambda x: x**2 / 2)(3.0)).__round__(6)  # 4.5 + 0.1 9
        5.4
    """
    form = _constant_form(method)
    if form.second_moment is not None:
        raise ValueError("adam has no modified loss: its memoryless flow is not the gradient flow of any loss.")
    C = form.averaged_rate * _CONSTANTS[form.kind](form.beta)

    def with_gradient(params: Params) -> jax.Array:
        value, g = jax.value_and_grad(loss)(params)
        return value + C * sum(jnp.sum(abs_sq(x)) for x in jax.tree.leaves(g))

    return with_gradient


#: C / a, by b, and the shift of the start over a g; a is the rate of the averaged form.
_CONSTANTS = {
    "GD": lambda b: 0.25,
    "semi-implicit": lambda b: (1 + b) / (4 * (1 - b)),
    "explicit": lambda b: (3 - b) / (4 * (1 - b)),
    "heavy ball": lambda b: (1 + b) / (4 * (1 - b)),
    "nesterov": lambda b: (1 - b + 2 * b**2) / (4 * (1 - b)),
}
_SHIFTS = {
    "GD": lambda b: 0.0,
    "semi-implicit": lambda b: b / (1 - b),
    "explicit": lambda b: 1 / (1 - b),
    "heavy ball": lambda b: b / (1 - b),
    "nesterov": lambda b: b**2 / (1 - b),
}


def _constant_form(method: Any) -> LinearForm:
    """Return the recursion of sgd, momentum or Adam, or raise."""
    form = linear_form(method)
    if form is None or (form.second_moment is not None and form.kind != "semi-implicit"):
        name = getattr(method, "name", "") or type(method).__name__
        raise ValueError(f"method must be an inercia sgd, momentum or adam, but it is {name}.")
    if not form.constant:
        raise ValueError("modified flows need constant hyperparameters, but one is a schedule.")
    return form


def _same(params: Params, state: State) -> tuple[Params, State]:
    return params, state


def _hessian_times(loss: Callable, params: Params, v: Params) -> Params:
    return jax.jvp(jax.grad(loss), (params,), (v,))[1]


def _gradient_descent(s: float, dt: float, loss: Callable, order: int) -> Equation:
    def flow(grads, state, params):
        def h_times_g(p):  # theta -> H(theta) g, with g held
            return _hessian_times(loss, p, grads)

        if order == 2:
            field = jax.tree.map(lambda g, h: g + s / 2 * h, grads, h_times_g(params))
        else:
            h, third = jax.jvp(h_times_g, (params,), (grads,))  # H g and T[g,g]
            second = _hessian_times(loss, params, h)
            field = jax.tree.map(lambda g, h, hh, t: g + s / 2 * h + s**2 * (hh / 3 + t / 12), grads, h, second, third)
        return jax.tree.map(lambda x: -s / dt * x, field), SgdState(jnp.ones_like(state.count), None)

    return Equation(flow, _same)


def _near_identity(a: float, b: float, dt: float, loss: Callable, sign: float) -> Equation:
    a, c = a / dt, (1 - b) / dt

    def flow(grads, state, params):
        e = jax.tree.map(lambda g, m: c * (g - m), grads, state.m)
        hm = _hessian_times(loss, params, state.m)
        m_dot = jax.tree.map(lambda e, h: e + dt / 2 * c * (a * h + e), e, hm)
        theta_dot = jax.tree.map(lambda m, e: -a * m + sign * dt / 2 * a * e, state.m, e)
        return theta_dot, MomentumState(jnp.ones_like(state.count), m_dot)

    return Equation(flow, _same)


def _staggered(a: float, b: float, dt: float, loss: Callable) -> Equation:
    a, rate = a / dt, -math.log(b) / dt

    def flow(grads, state, params):
        m_dot = jax.tree.map(lambda g, m: rate * (g - m), grads, state.m)
        return jax.tree.map(lambda m: -a * m, state.m), MomentumState(jnp.ones_like(state.count), m_dot)

    def start(params, state):
        # The iterates' m stands half a step before theta; the flow's m starts with theta.
        with jax.enable_x64(True):
            keep = math.exp(-rate * dt / 2)
            g = jax.grad(loss)(jax.tree.map(lambda p: jnp.asarray(p, float), params))
            return params, state._replace(m=jax.tree.map(lambda m, g: keep * m + (1 - keep) * g, state.m, g))

    return Equation(flow, start)


def _summed(equation: Equation, b: float, dt: float) -> Equation:
    """Write an equation of the average m in the decayed sum v = dt m / (1-b)."""

    def scaled(moment, factor):
        return jax.tree.map(lambda x: factor * x, moment)

    def averaged(state):
        return MomentumState(state.count, scaled(state.trace, (1 - b) / dt))

    def flow(grads, state, params):
        theta_dot, state_dot = equation.flow(grads, averaged(state), params)
        return theta_dot, SgdState(state_dot.count, scaled(state_dot.m, dt / (1 - b)))

    def start(params, state):
        with jax.enable_x64(True):
            params, begins = equation.start(params, averaged(state))
            return params, SgdState(begins.count, scaled(begins.m, dt / (1 - b)))

    return Equation(flow, start)


def _memoryless(kind: str, a: float, b: float, dt: float, loss: Callable) -> Equation:
    C = a * _CONSTANTS[kind](b)

    def flow(grads, state, params):
        hg = _hessian_times(loss, params, grads)
        return jax.tree.map(lambda g, h: -a / dt * (g + 2 * C * h), grads, hg), state

    def start(params, state):
        with jax.enable_x64(True):
            theta = jax.tree.map(lambda p: jnp.asarray(p, float), params)
            return jax.tree.map(lambda p, g: p + a * _SHIFTS[kind](b) * g, theta, jax.grad(loss)(theta)), ()

    return Equation(flow, start)


def _adam(form: LinearForm, dt: float, loss: Callable) -> Equation:
    a: Any = form.learning_rate
    second = form.second_moment
    assert second is not None
    if second.outside != 0 or second.inside <= 0:
        raise ValueError(
            "Adam's modified flow is given for eps inside the root: use adam(..., eps=0.0, eps_root=...), but eps = "
            f"{second.outside:g}, eps_root = {second.inside:g}."
        )
    b1, b2, eps = form.beta, second.decay, second.inside
    fast, slow = (1 + b1) / (1 - b1), (1 + b2) / (1 - b2)

    def flow(grads: Params, state: Any, params: Params):
        def size(p):  # sum_i sqrt(g_i^2 + eps)
            return sum(jnp.sum(jnp.sqrt(g**2 + eps)) for g in jax.tree.leaves(jax.grad(loss)(p)))

        def rate(g, slope):
            bias = a / 2 * (fast - slow + slow * eps / (g**2 + eps)) * slope
            return -a / dt * (g + bias) / jnp.sqrt(g**2 + eps)

        return jax.tree.map(rate, grads, jax.grad(size)(params)), state

    return Equation(flow, lambda params, state: (params, ()))
