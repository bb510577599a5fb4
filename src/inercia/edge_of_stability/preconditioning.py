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
number, the mean square of all of the gradient. nu+ = b2 nu + (1-b2) g^2; nu-hat divides it by 1 - b2^n.

Of any other transformation P is read off the update. The bounds are those of `threshold`, in closed form; sources there
and in `stability`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check
from inercia.core.linear_form import linear_form
from inercia.core.method import Params, State
from inercia.edge_of_stability.linear_stability import THRESHOLDS
from inercia.edge_of_stability.state_reading import read_preconditioner


class Rule(NamedTuple):
    """How a method scales its steps."""

    bound: float  # the largest stable eigenvalue of P^{-1} H
    decay: float | None  # b2 of nu; None for methods that scale all steps alike
    scale: Callable[[Any, Any], Any]  # (nu, n updates made) -> P, elementwise; without nu a number
    scalar: bool = False  # whether nu is one number for all parameters


def rule(method: Any) -> Rule:
    """Return how a method scales its steps and where it loses its stability.

    Raises:
        ValueError: a method that is not in the table above; a decay that is a schedule.

    Example:
        >>> import inercia
        >>> rule(inercia.momentum(0.1, 0.5)).bound
        6.0
    """
    form = linear_form(method)
    second = None if form is None else form.second_moment
    if form is None or _is_open(second):
        name = getattr(method, "name", "") or type(method).__name__
        raise ValueError(
            f"no preconditioner is given for {name} in closed form, as no linear recursion on g / (root of averages) "
            "is declared for it."
        )
    if callable(form.beta) or (second is not None and callable(second.decay)):
        raise ValueError("the preconditioner needs constant decays, but one is a schedule.")
    summed = form.kind in ("heavy ball", "nesterov")
    bound = float(THRESHOLDS[form.kind](form.beta)) / ((1 - form.beta) if summed else 1)

    def rate(n):  # of the last update
        a: Any = form.learning_rate
        now: Any = a(jnp.maximum(n - 1, 0)) if callable(a) else a
        return now / ((1 - form.beta) if summed else 1)

    if second is None:
        return Rule(bound, None, lambda _, n: 1 / rate(n))

    def scale(nu, n):
        nu = jnp.asarray(nu / (1 - second.decay**n) if second.corrected else nu)
        # A parameter that no row reaches has nu = 0, where the root has no slope.
        return (jnp.sqrt(jnp.maximum(nu + second.inside, jnp.finfo(nu.dtype).tiny)) + second.outside) / rate(n)

    return Rule(bound, second.decay, scale, second.scalar)


def _is_open(second: Any) -> bool:
    """Whether a second moment has no closed preconditioner."""
    return second is not None and (second.decay is None or second.centered)


def has_rule(method: Any) -> bool:
    """Whether `rule` gives a method's preconditioner in closed form."""
    form = linear_form(method)
    if form is None or _is_open(form.second_moment) or callable(form.beta):
        return False
    return form.second_moment is None or not callable(form.second_moment.decay)


def preconditioner(method: Any, state: State, params: Params) -> Params:
    """Return the P of a method's last update, a tree like params; pure.

    Where the table above has no row it is read off the update, which is tried once on random gradients for that: see
    `frozen_update`. A clip counts as idle. Transformations that step once in k updates are read per step.

    Args:
        method: an inercia method, or any optax transformation that acts on each parameter on its own, and linearly in
            gradient and memory once its second moments are frozen.
        state: the method's, after at least one update.
        params: what P is for; infinite where nothing is updated.

    Raises:
        ValueError: a state that has seen no update; a method that has no preconditioner, with the reason: sign methods,
            scaling by norms, memories that never fade (schedule_free), updates that need the loss (line searches),
            pieces without a learning rate.

    Example:
        >>> import inercia, optax
        >>> x = jnp.ones(2)
        >>> method = inercia.sgd(0.25)
        >>> preconditioner(method, method.update(x, method.init(x))[1], x).tolist()
        [4.0, 4.0]
        >>> method = optax.chain(optax.clip(9.0), optax.sgd(0.25, momentum=0.5))
        >>> preconditioner(method, method.update(x, method.init(x))[1], x).tolist()
        [2.0, 2.0]
    """
    found = _preconditioner(method, state, params)
    if check.is_concrete(found) and any(np.isnan(np.asarray(leaf)).any() for leaf in jax.tree.leaves(found)):
        raise ValueError("a preconditioner is that of an update made, but this state has seen none, or is not finite.")
    return found


def _preconditioner(method: Any, state: State, params: Params) -> Params:
    if not has_rule(method):
        return read_preconditioner(method, state, params)
    own = rule(method)
    if own.decay is None:
        return jax.tree.map(lambda p: jnp.full_like(p, own.scale(None, state.count)), params)
    if own.scalar:
        return jax.tree.map(lambda p: jnp.full_like(p, own.scale(state.nu, state.count)), params)
    return jax.tree.map(lambda v: own.scale(v, state.count), state.nu)
