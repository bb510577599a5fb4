"""The flows that may stand beside the stable and the central one in a run at the edge of stability.

modified     the plain flow with its first correction in dt
rod          the mean of two successive iterates, and half their difference
edge_flow    iterates that oscillate, z_k = c + (-1)^k e
"""

from typing import Any

import jax
import numpy as np

from inercia.core import check
from inercia.core.method import Params
from inercia.core.path import Path
from inercia.flows.integration import IntegrationError, integrate
from inercia.flows.modified_equation import modified
from inercia.flows.oscillation import edge_flow, rod

FLOWS = ("modified", "rod", "edge_flow")


def checked(names: Any) -> tuple[str, ...]:
    """Return the names, once each, or raise unless they are of `FLOWS`."""
    given = (names,) if isinstance(names, str) else tuple(names)
    for name in given:
        check.one_of("flows", name, FLOWS)
    return tuple(dict.fromkeys(given))


def other_flow(name: str, method: Any, loss: Any, params: Params, steps: int, progress: bool) -> Path:
    """Return one of `FLOWS` at every update; up to where the solver gives up.

    Raises:
        ValueError: a method that has no such flow, with the reason.
    """
    try:
        if name != "modified":
            return (rod if name == "rod" else edge_flow)(method, loss, params, steps, progress=progress)
        equation, times = modified(method, loss), np.arange(steps + 1) * float(getattr(method, "dt", 1.0))
        with jax.enable_x64(True):
            theta, state = equation.start(params, method.init(params))
        return integrate(equation.flow, loss, theta, times, state=state, rtol=1e-6, atol=1e-9, progress=progress)
    except IntegrationError as error:
        return error.path


def distance_to(mean: np.ndarray, path: Path) -> np.ndarray:
    """Return the distances (n,) of the mean iterates (n, size) to a flow; nan from where it ended."""
    away = np.full(len(mean), np.nan)
    flat = path.flat()
    away[: len(flat)] = np.linalg.norm(mean[: len(flat)] - flat, axis=1)
    return away
