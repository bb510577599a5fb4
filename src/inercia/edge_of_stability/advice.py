"""The largest stable learning rate now, as numbers and as a sentence.

With P the preconditioner of the update made at a point and lambda the largest eigenvalue of P^{-1} H, the method is
stable while lambda is below its bound. P is inversely proportional to the learning rate a, so the largest stable one is

    a bound / lambda        and the margin   1 - lambda / bound   is how far it is from the edge of stability.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check, tree
from inercia.core.method import Params, State
from inercia.core.path import Path
from inercia.edge_of_stability.averaged_reading import bounds_of
from inercia.edge_of_stability.eigenpairs import CurvatureError
from inercia.edge_of_stability.preconditioning import preconditioner
from inercia.edge_of_stability.sharpness_observer import sharpness
from inercia.flows.iteration import iterate

#: Margin from which the sharpness is told as a multiple of the bound.
_MANY = 10


class Advice(NamedTuple):
    """What `advise` found; `str` says it."""

    sharpness: float  # lambda, the largest eigenvalue of P^{-1} H
    bound: float  # on it
    factor: float  # by which the learning rate may be multiplied; inf where nothing is curved upwards
    rate: float | None  # the learning rate at this update; None where the method does not tell
    largest: float | None  # the largest stable one

    @property
    def margin(self) -> float:
        """How far the method is from its edge: 1 far below it, 0 at it, negative beyond."""
        return 1 - self.sharpness / self.bound

    def __str__(self) -> str:
        apart = f"{abs(self.margin):.0%} {'below' if self.margin > 0 else 'beyond'}"
        if abs(self.margin) > _MANY:
            apart = f"{self.sharpness / self.bound:.3g} times"
        at = f"the sharpness {self.sharpness:.3g} is {apart} the bound {self.bound:.3g}"
        if not np.isfinite(self.factor):
            return f"{at}: the loss is not curved upwards here, and bounds no learning rate."
        told = "" if self.largest is None else f", up to {self.largest:.3g}"
        return f"{at}: the learning rate may be multiplied by {self.factor:.3g}{told}."


def advise(method: Any, loss: Any, params: Params, state: State | None = None) -> Advice:
    """Say how far a method is from its edge of stability at a point, and the largest stable learning rate there.

    Args:
        method: an inercia method, or an optax transformation that has a `preconditioner` and one bound.
        loss: params -> scalar, twice differentiable.
        params: where; computed in float64.
        state: the method's, of a path or a training; by default a fresh one. Second moments that are still filling make
            the preconditioner of the first updates: ask again after some, and raise the rate as it allows (warm-up).

    Returns:
        Advice. Curvature grows while training goes on until it stands at the bound: a margin now is none for later.

    Raises:
        ValueError: a method that has no preconditioner or no bound, with the reason; a learning rate of 0, as a warm-up
            may start with.
        CurvatureError: a loss or a curvature that is not finite.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> print(inercia.advise(inercia.sgd(0.5), lambda x: 1.5 * x**2, jnp.array(1.0)))
        the sharpness 1.5 is 25% below the bound 2: the learning rate may be multiplied by 1.33, up to 0.667.
    """
    check.optimizer(method)
    bound, free = bounds_of(method, params)
    path = iterate(method, loss, params, 1, state=state, observe={"sharpness": sharpness(method, loss)})
    if path.diverged == path.times[0]:
        raise CurvatureError("params, state and loss must be finite where advice is asked for, but one is not.")
    top = float(path.observed["sharpness"][0, 0])
    if top == 0 and _stands_still(method, path, params):
        raise ValueError("advice needs a learning rate above 0 at this update, but it is 0: ask with a later state.")
    # The rate scales weight decay too, whose share of the bound is free - bound.
    factor = free / (top + free - bound) if top + free - bound > 0 else np.inf
    rate: Any = getattr(method, "hyper", {}).get("learning_rate")
    if callable(rate):
        rate = rate(path.times[0])
    rate = None if rate is None else float(rate)
    return Advice(top, bound, factor, rate, None if rate is None else rate * factor)


def _stands_still(method: Any, path: Path, params: Params) -> bool:
    """Whether the first update of a path would move no params whatever the gradient."""
    with jax.enable_x64(True):
        after = jax.tree.map(jnp.asarray, path[1].state)
        scale = preconditioner(method, after, tree.float64(params))
    return all(np.isinf(leaf).all() for leaf in jax.tree.leaves(scale))
