"""The preconditioner of a method: the metric in which its stability is judged.

For slowly varying gradients every method here is  theta' = -P^{-1} g  with a diagonal P(nu, n), n updates made:

    GD                          P = 1/a                                  stable iff lambda < 2
    momentum, semi-implicit     P = 1/a                                  (2+2b)/(1-b)
    momentum, explicit          P = 1/a                                  1
    heavy ball (sum a)          P = (1-b)/a                              (2+2b)/(1-b)
    Nesterov, constant b        P = (1-b)/a                              (2+2b)/((1-b)(1+2b))
    RMSProp                     P = (sqrt(nu) + eps)/a                   2
    Adam                        P = (sqrt(nu-hat) + eps)/a               (2+2 b1)/(1-b1)

where lambda is the largest eigenvalue of the preconditioned Hessian, H u = lambda P u. In the scalar RMSProp nu is one
number, the mean square of the whole gradient. nu+ = b2 nu + (1-b2) g^2; nu-hat divides it by 1 - b2^n.

The bounds are those of `threshold`, in closed form; sources there and in `stability`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inercia.core.method import Method, Params, State, refine
from inercia.edge_of_stability.linear_stability import THRESHOLDS


class Rule(NamedTuple):
    """How a method scales its steps."""

    bound: float  # the largest stable eigenvalue of P^{-1} H
    decay: float | None  # b2 of nu; None for methods that scale all steps alike
    scale: Callable[[Any, Any], Any]  # (nu, n updates made) -> P, elementwise; without nu a number
    whole: bool = False  # whether nu is one number for all parameters


def rule(method: Any) -> Rule:
    """Return how a method scales its steps and where it loses its stability.

    Raises:
        ValueError: a method that is not in the table above; a decay that is a schedule.

    Example:
        >>> import inercia
        >>> rule(inercia.momentum(0.1, 0.5)).bound
        6.0
    """
    hyper: dict[str, Any] = getattr(method, "hyper", {})
    name = getattr(method, "name", type(method).__name__)
    known = ("sgd", "momentum", "rmsprop", "scalar_rmsprop", "adam")
    plain = isinstance(method, Method) and name in known
    if not plain or (name == "adam" and hyper["nesterov"]) or (name == "rmsprop" and _decorated(hyper)):
        named = {"adam": "nadam", "rmsprop": "rmsprop with centering or momentum"}.get(name, name)
        raise ValueError(
            f"the preconditioner is known for {', '.join(known)} (plain ones, of inercia), not for {named}."
        )
    if any(callable(hyper.get(decay)) for decay in ("beta", "momentum", "decay", "b1", "b2")):
        raise ValueError("the preconditioner needs constant decays, but one is a schedule.")
    dt = method.dt

    def step(n):
        rate = hyper["learning_rate"]
        return (rate(jnp.maximum(n - 1, 0) * dt) if callable(rate) else rate) * dt  # of the last update

    if name == "momentum":
        return Rule(float(THRESHOLDS[hyper["scheme"]](refine(hyper["beta"], dt))), None, lambda _, n: 1 / step(n))
    if name == "sgd" and hyper["momentum"] is None:
        return Rule(2.0, None, lambda _, n: 1 / step(n))
    if name == "sgd":
        b = refine(hyper["momentum"], dt)
        kind = "nesterov" if hyper["nesterov"] else "heavy ball"
        return Rule(float(THRESHOLDS[kind](b) / (1 - b)), None, lambda _, n: (1 - b) / (step(n) * dt))
    decay, corrected, inside, eps = _second_moment(name, hyper)
    b2 = refine(decay, dt)

    def scale(nu, n):
        nu = jnp.asarray(nu / (1 - b2**n) if corrected else nu)
        # A parameter that no row reaches has nu = 0, where the root has no slope.
        return (jnp.sqrt(jnp.maximum(nu + inside, jnp.finfo(nu.dtype).tiny)) + eps) / step(n)

    bound = THRESHOLDS["semi-implicit"](refine(hyper["b1"], dt)) if name == "adam" else 2.0
    return Rule(float(bound), b2, scale, name == "scalar_rmsprop")


def _decorated(hyper: dict[str, Any]) -> bool:
    return hyper["centered"] or hyper["momentum"] is not None


def _second_moment(name: str, hyper: dict[str, Any]) -> tuple[float, bool, Any, Any]:
    """Return b2, whether nu is corrected, eps inside the root and eps outside."""
    if name == "adam":
        return hyper["b2"], True, hyper["eps_root"], hyper["eps"]
    if name == "scalar_rmsprop":
        return hyper["decay"], False, 0.0, hyper["eps"]
    within = hyper["eps_in_sqrt"]
    return hyper["decay"], hyper["bias_correction"], hyper["eps"] if within else 0.0, 0.0 if within else hyper["eps"]


def preconditioner(method: Any, state: State, params: Params) -> Params:
    """Return the P of a method's last update, a tree like params; pure.

    Args:
        method: sgd, momentum, rmsprop, scalar_rmsprop or adam.
        state: the method's, after at least one update.
        params: what P is for.

    Raises:
        ValueError: a method whose preconditioner is not known.

    Example:
        >>> import inercia
        >>> method, x = inercia.sgd(0.25), jnp.ones(2)
        >>> preconditioner(method, method.update(x, method.init(x))[1], x).tolist()
        [4.0, 4.0]
    """
    own = rule(method)
    if own.decay is None:
        return jax.tree.map(lambda p: jnp.full_like(p, own.scale(None, state.count)), params)
    if own.whole:
        return jax.tree.map(lambda p: jnp.full_like(p, own.scale(state.nu, state.count)), params)
    return jax.tree.map(lambda v: own.scale(v, state.count), state.nu)
