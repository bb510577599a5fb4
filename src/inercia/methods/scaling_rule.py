"""The method for batches kappa times as large: the rule under which the stochastic equation stays the same.

The covariance of the gradient falls to Sigma / kappa, and one update stands for kappa of the old ones. All decays
forget as fast as before per row, b -> 1 - kappa (1-b), and

    linear       sgd, momentum        a -> kappa a
    square root  rmsprop, adam, ...   a -> sqrt(kappa) a,   eps -> eps / sqrt(kappa),   w -> sqrt(kappa) w

because the second moment, taken for noise, falls as Sigma does: a g kappa = (sqrt(kappa) a) g / sqrt(1/kappa). What
stands inside the root, and its start, falls by kappa. A memory that is a sum of gradients, not an average, is shorter
by kappa, which its rate makes up for by one power more.

The square-root rule needs kappa g^2 << Sigma in every entry: with r = g^2 / Sigma the second moment falls to
(1/kappa + r) / (1 + r) of itself, so that mean steps are those of the rule times sqrt((1 + r) / (1 + kappa r)), and
over all entries, in norm, times the root of sum r / (1 + kappa r) over sum r / (1 + r).

Source: Malladi, Lyu, Panigrahi & Arora 2022; for SGD Goyal et al. 2017. Momentum's decay, weight decay and sums: ours.
"""

import math
import warnings
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from inercia.core import check
from inercia.core.linear_form import LinearForm, linear_form
from inercia.core.method import Method, Params, Schedule

_DECAYS = ("beta", "momentum", "b1", "b2", "decay")
#: The power of kappa by which other arguments go, the learning rate apart; eps where it is outside the root.
_EXPONENTS = {"eps": -0.5, "eps_root": -1.0, "initial_scale": -1.0, "weight_decay": 0.5}
#: Arguments that no batch size changes.
_NEUTRAL = {"nesterov", "accumulator_dtype", "mu_dtype", "scheme", "eps_in_sqrt", "centered", "bias_correction"}
_NEUTRAL |= {"mask", "dt"}
#: By how much steps may differ from the rule's before it is said.
_TOLERANCE = 0.1
#: Of how many gradients at least a mean is told from noise.
_BATCHES = 16


def scale(method: optax.GradientTransformation, kappa: float, *, signal: Params = None) -> Method:
    """Return the method for batches kappa times as large, by the linear or the square-root rule.

        every decay     b -> 1 - kappa (1-b)
        sgd, momentum   a -> kappa a
        rmsprop, adam   a -> sqrt(kappa) a,   eps -> eps / sqrt(kappa)   (inside the root eps / kappa)
        adamw           and w -> sqrt(kappa) w, since w acts through a w

    One update of it stands for kappa of the old ones: `kappa * path.times` is the old time, and schedules are read
    there. `scale(method, 1 / l)` with `svag(loss, l)` goes the other way, to the stochastic equation.

    Args:
        method: of a factory whose update is a linear recursion, its second moments decaying averages, if any: `sgd`,
            `momentum`, `rmsprop`, `scalar_rmsprop`, `adam`, `adamw`, `nadam`.
        kappa: new batch size over the old, above 0.
        signal: gradients of 16 batches of the old size or more (better hundreds) at one point, a tree like params with
            one axis more in front; where they show too much signal for the square-root rule, it warns.

    Raises:
        TypeError: a method without a rule; a decay that is a schedule.
        ValueError: kappa (1-b) > 1, so that no decay has the memory; kappa not above 0.

    Warns:
        InerciaWarning: mean steps would be more than 10 % off the rule.

    Example:
        >>> import inercia
        >>> inercia.scale(inercia.adam(1e-3), 4)
        adam(learning_rate=0.002, b1=0.6, b2=0.996, eps=5e-09)
        >>> inercia.scale(inercia.sgd(0.1), 4)
        sgd(learning_rate=0.4)
    """
    kappa = check.number("kappa", kappa)
    check.positive("kappa", kappa)
    form = _form(method)
    known: Any = method
    hyper = {name: _scaled(name, value, kappa, known) for name, value in known.hyper.items()}
    if signal is not None and form.second_moment is not None:
        _judge(kappa, signal)
    return known.factory(**hyper)


def _form(method: Any) -> LinearForm:
    form = linear_form(method)
    if form is not None and form.second_moment is not None and form.second_moment.decay is None:
        raise TypeError(f"scale needs second moments that forget, but {method.name} sums them.")
    if form is None or not method.hyper.keys() <= {"learning_rate", *_DECAYS, *_EXPONENTS, *_NEUTRAL}:
        name = getattr(method, "name", "") or type(method).__name__
        raise TypeError(f"scale takes sgd, momentum, rmsprop, adam and adamw, whose rules are known, but not {name}.")
    return form


def _scaled(name: str, value: Any, kappa: float, method: Method) -> Any:
    if name in _DECAYS and value is not None:
        return _decay(name, value, kappa)
    power = _EXPONENTS.get(name)
    if name == "eps" and method.hyper.get("eps_in_sqrt"):
        power = -1.0
    if name == "learning_rate":
        form = _form(method)
        power = (1.0 if form.second_moment is None else 0.5) + (form.kind in ("heavy ball", "nesterov"))
    if power is None:
        return value
    factor = kappa**power
    return partial(_stretched, value, kappa, factor) if callable(value) else value * factor


def _decay(name: str, value: Any, kappa: float) -> Any:
    if callable(value):
        raise TypeError(f"{name} must be a number, so that kappa (1 - {name}) <= 1 can be seen, but it is a schedule.")
    if not check.is_concrete(value):
        return 1 - kappa * (1 - value)
    if kappa * (1 - value) > 1 + 1e-12:
        raise ValueError(
            f"kappa (1 - {name}) must be at most 1, but kappa = {kappa:g} and {name} = {value:g} make it "
            f"{kappa * (1 - value):g}: the memory is shorter than one update. Take kappa <= {1 / (1 - value):g}."
        )
    return max(0.0, round(1 - kappa * (1 - value), 15))  # 15 digits: 1 - 4 (1 - 0.9) is meant to be 0.6


def _stretched(schedule: Schedule, kappa: float, factor: float, step: Any) -> Any:
    """Return the schedule in steps that are kappa old ones each, times a factor."""
    whole = int(kappa) if kappa == int(kappa) else kappa  # an integer leaves counts integers
    return factor * schedule(whole * step)


def _judge(kappa: float, signal: Params) -> None:
    """Warn where |g|^2 is no small part of the second moment that the rule takes for noise."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(signal)]
    counts = {leaf.shape[0] if leaf.ndim else 0 for leaf in leaves}
    if len(counts) != 1 or min(counts) < _BATCHES:
        raise ValueError(
            f"signal must hold the gradients of at least {_BATCHES} batches, so that their mean is seen beside their "
            f"noise, but its leading axes are {sorted(counts)}."
        )
    for leaf in leaves:
        check.finite("signal", leaf)
    ratios = np.concatenate([_ratios(leaf) for leaf in leaves])
    if ratios.size == 0:
        raise ValueError("signal must hold gradients of different batches, but they are all equal.")
    positive = np.maximum(ratios, 0)
    if ratios.sum() <= 0:
        return
    positive *= ratios.sum() / positive.sum()  # what noise alone leaves above 0 is no signal
    steps = math.sqrt((positive / (1 + kappa * positive)).sum() / (positive / (1 + positive)).sum())
    if abs(math.log(steps)) > _TOLERANCE:
        warnings.warn(
            "the square-root rule takes the second moment for noise, but here it is signal too: at kappa = "
            f"{kappa:g} mean steps are {steps:.2f} times those that it assumes.",
            check.InerciaWarning,
            stacklevel=3,
        )


def _ratios(grads: np.ndarray) -> np.ndarray:
    """Return |g|^2 / sigma^2 of every entry that has noise, unbiased for normal noise, from several batches."""
    n, square, noise = len(grads), np.abs(grads.mean(axis=0)) ** 2, grads.var(axis=0, ddof=1)
    seen = noise > 0
    return (n - 3) / (n - 1) * square[seen] / noise[seen] - 1 / n
