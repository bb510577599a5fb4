"""Momentum on a loss of two parameters: the flow, and the iterates of both orders of its update."""

from collections.abc import Callable

import numpy as np

from inercia.core.path import Path
from inercia.flows.integration import integrate
from inercia.flows.iteration import iterate
from inercia.methods.table import momentum
from inercia.problems.toy_losses import PROBLEMS


def two_dimensional(problem: str = "wells", steps: int = 60) -> tuple[Callable, dict[str, Path]]:
    """Return a 2-D loss, and the momentum flow with both schemes' iterates on it."""
    loss, start, a = PROBLEMS[problem]
    explicit, implicit = (momentum(a, 0.9, scheme=s) for s in ("explicit", "semi-implicit"))
    times = np.linspace(0, steps, 20 * steps + 1)
    return loss, {
        "flow": integrate(implicit, loss, start, times),
        "explicit (old m)": iterate(explicit, loss, start, steps),
        "semi-implicit (new m)": iterate(implicit, loss, start, steps),
    }
