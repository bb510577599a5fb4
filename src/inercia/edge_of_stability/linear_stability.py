"""Stability on quadratics, exactly: what a step size allows, and how the modes ring.

On a mode of curvature l the update of (theta, memory) is linear; its two multipliers are the roots of mu^2 - t mu + d,
and the mode is stable while both lie in the unit disc.

    method                             t                       d                     stable iff             at the edge
    GD                                 1 - a l                 0                     a l < 2                -1
    momentum, semi-implicit (EMA a)    1 + b - (1-b) a l       b                     a l < (2+2b)/(1-b)     -1
    momentum, explicit (the lecture)   1 + b                   b + (1-b) a l         a l < 1, for every b   complex
    heavy ball (sum a)                 1 + b - a l             b                     a l < 2 + 2b           -1
    Nesterov, constant b (sum a)       (1+b)(1 - a l)          b (1 - a l)           a l < (2+2b)/(1+2b)    -1

At its edge the explicit order turns by the angle arccos((1+b)/2) per iteration.

RMSProp, AdaGrad and Adam with a frozen preconditioner are GD, GD and semi-implicit momentum on the preconditioned
curvature l / (sqrt(v) + eps). The flow is stable on every l > 0; for momentum it is over-, critically or underdamped as
(1-b) is above, at or below 4 a l (a of the averaged form).

The best constant heavy ball on curvatures in [l1, ln], with K = ln/l1: a = (2 / (sqrt l1 + sqrt ln))^2,
b = ((sqrt K - 1)/(sqrt K + 1))^2, rate (sqrt K - 1)/(sqrt K + 1).

Sources: Polyak 1964; Goh 2017.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check
from inercia.core.linear_form import LinearForm, linear_form
from inercia.core.method import Method, Number

#: kind -> (a l, b) -> (t, d), with a of the averaged form for the first three and of the sum form for the others.
_QUADRATICS = {
    "GD": lambda x, b: (1 - x, 0 * x),
    "semi-implicit": lambda x, b: (1 + b - (1 - b) * x, b + 0 * x),
    "explicit": lambda x, b: (1 + b + 0 * x, b + (1 - b) * x),
    "heavy ball": lambda x, b: (1 + b - x, b + 0 * x),
    "nesterov": lambda x, b: ((1 + b) * (1 - x), b * (1 - x)),
}
#: kind -> b -> the largest stable a l.
THRESHOLDS = {
    "GD": lambda b: 2 + 0 * b,
    "semi-implicit": lambda b: (2 + 2 * b) / (1 - b),
    "explicit": lambda b: 1 + 0 * b,
    "heavy ball": lambda b: 2 + 2 * b,
    "nesterov": lambda b: (2 + 2 * b) / (1 + 2 * b),
}


class Stability(NamedTuple):
    """How a method acts on modes of given curvatures; NumPy float64."""

    eigenvalues: np.ndarray  # (n,), curvatures
    multipliers: np.ndarray  # (n, 2), complex, largest modulus first
    rate: np.ndarray  # (n,), the larger modulus: the factor per iteration; stable where < 1
    threshold: float  # the largest stable curvature
    regime: list[str]  # of the flow: "overdamped", "critical", "underdamped"; "first order" without memory


def stability(method: Method, eigenvalues: Any) -> Stability:
    """Compute a method's multipliers on a quadratic, its threshold and the damping of its flow.

    Args:
        method: `sgd`, `momentum`, or, for preconditioned curvatures, `rmsprop`, `adagrad`, `adam`, `adamw`; with
            constant hyperparameters.
        eigenvalues: curvatures, (n,), each above 0.

    Raises:
        ValueError: curvatures that are not above 0, a method that is not linear here (lion, sign descent), one whose
            memory changes with time (`nesterov`), schedules.

    Example:
        >>> import inercia
        >>> result = inercia.stability(inercia.momentum(0.1, 0.9, scheme="explicit"), [1.0, 20.0])
        >>> result.threshold, (result.rate < 1).tolist(), result.regime
        (10.0, [True, False], ['underdamped', 'underdamped'])
    """
    curvatures = np.atleast_1d(check.reals("eigenvalues", eigenvalues))
    if curvatures.ndim != 1 or not (np.isfinite(curvatures) & (curvatures > 0)).all():
        raise ValueError(f"eigenvalues must be a vector of finite numbers above 0, but they are {curvatures.tolist()}.")
    form = _constant_form(method)
    kind, a, b = form.kind, form.learning_rate, form.beta
    with jax.enable_x64(True):
        t, d = _QUADRATICS[kind](a * curvatures, b)
    root = np.sqrt(np.asarray(t**2 - 4 * d, dtype=complex))
    multipliers = np.stack([(t + root) / 2, (t - root) / 2], axis=1)
    order = np.argsort(-np.abs(multipliers), axis=1, kind="stable")
    multipliers = np.take_along_axis(multipliers, order, axis=1)
    regimes = ["first order" if kind == "GD" else _damping(1 - b, 4 * form.averaged_rate * x) for x in curvatures]
    return Stability(curvatures, multipliers, np.abs(multipliers[:, 0]), float(THRESHOLDS[kind](b)) / a, regimes)


def growth(kind: str, a_lambda: Number, beta: Number) -> jax.Array:
    """Compute the larger modulus of the multipliers, for phase diagrams: pure, broadcasting, mappable.

    Args:
        kind: "GD", "semi-implicit", "explicit" (a of the averaged form), "heavy ball", "nesterov" (a of the sum form).
        a_lambda: learning rate times curvature, any shape.
        beta: b in [0, 1), any shape that broadcasts with it.

    Raises:
        TypeError: what is not a real number.
        ValueError: another kind, numbers that are not finite, b outside [0, 1), shapes that do not broadcast.

    Example:
        >>> growth("explicit", jnp.array([0.5, 1.0, 1.5]), 0.9).round(3).tolist() == jnp.sqrt(
        ...     jnp.array([0.95, 1.0, 1.05])).round(3).tolist()
        True
    """
    check.one_of("kind", kind, _QUADRATICS)
    for name, value in (("a_lambda", a_lambda), ("beta", beta)):
        if check.is_concrete(value):
            check.finite(name, check.reals(name, value))
    a_lambda, beta = jnp.asarray(a_lambda), jnp.asarray(beta)
    check.in_unit_interval("beta", beta)
    try:
        a_lambda, beta = jnp.broadcast_arrays(a_lambda, beta)
    except ValueError:
        raise ValueError(
            f"beta must broadcast with a_lambda's shape {a_lambda.shape}, but it has {beta.shape}."
        ) from None
    t, d = _QUADRATICS[kind](a_lambda, beta)
    discriminant = t**2 - 4 * d
    real = (jnp.abs(t) + jnp.sqrt(jnp.maximum(discriminant, 0))) / 2
    return jnp.where(discriminant >= 0, real, jnp.sqrt(jnp.maximum(d, 0)))


def best_heavy_ball(smallest: float, largest: float) -> tuple[float, float, float]:
    """Return Polyak's constants for curvatures in [smallest, largest]: learning rate (sum form), beta, and the rate.

    Raises:
        ValueError: curvatures that are not above 0, or smallest above largest.

    Example:
        >>> best_heavy_ball(1.0, 9.0)
        (0.25, 0.25, 0.5)
    """
    check.positive("smallest", check.number("smallest", smallest))
    check.positive("largest", check.number("largest", largest))
    if smallest > largest:
        raise ValueError(f"smallest must not exceed largest, but they are {smallest:g} and {largest:g}.")
    low, high = np.sqrt(smallest), np.sqrt(largest)
    rate = float((high - low) / (high + low))
    return float((2 / (low + high)) ** 2), rate**2, rate


def _damping(rate: float, pull: float) -> str:
    if np.isclose(rate, pull, rtol=1e-9):
        return "critical"
    return "overdamped" if rate > pull else "underdamped"


def _constant_form(method: Any) -> LinearForm:
    form = linear_form(method)
    if form is None:
        name = getattr(method, "name", "") or type(method).__name__
        raise ValueError(
            "stability needs a method that is linear once its second moments stand still, as sgd, momentum, rmsprop, "
            f"adagrad, adam and adamw are, but the method is {name}."
        )
    if not form.constant:
        raise ValueError("stability needs constant hyperparameters, but one is a schedule.")
    return form
