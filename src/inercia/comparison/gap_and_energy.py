"""How far the iterates are from the flow, and how fast that gap closes as the step is refined.

gap(t)     |theta_discrete(t) - theta_flow(t)|
order      the slope p of log(gap) against log(dt):   gap = C dt^p
energy     E = |theta'|^2 / 2 + a (1-b) f   along a momentum path, theta' = -a m;   E' = -(1-b) |theta'|^2
lyapunov   H, of the methods whose flow has one: never growing along it
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check, tree
from inercia.core.method import Method, Params
from inercia.core.path import Path


class Gap(NamedTuple):
    """The difference of two paths, per time; NumPy float64."""

    times: np.ndarray  # (n,), in iterations
    distance: np.ndarray  # (n,), Euclidean over all params
    relative: np.ndarray  # (n,), distance over the displacement of the flow; 0 at the start
    loss: np.ndarray  # (n,), loss of the iterates minus loss of the flow


def gap(path: Path, flow: Path) -> Gap:
    """Measure how far apart two paths are at equal times.

    Args:
        path: usually of `iterate`.
        flow: usually of `integrate`, at the same times.

    Raises:
        ValueError: times or the forms of params that differ, a point instead of a path.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> loss, x0 = lambda x: x**2 / 2, jnp.array(1.0)
        >>> path = inercia.iterate(inercia.sgd(0.5), loss, x0, 2)
        >>> flow = inercia.integrate(inercia.sgd(0.5), loss, x0, path.times)
        >>> inercia.gap(path, flow).distance.round(3).tolist()
        [0.0, 0.107, 0.118]
    """
    for each in (path, flow):
        each.check_axis()
    if _form(path) != _form(flow):
        raise ValueError(
            f"both paths must have params of the same form, but they have {_form(path)} and {_form(flow)}."
        )
    if len(path) != len(flow) or not np.allclose(path.times, flow.times, rtol=0, atol=1e-9):
        raise ValueError(
            f"both paths must have the same times, but they have {_span(path)} and {_span(flow)}: "
            "integrate at path.times."
        )
    distance = tree.distance(path.params, flow.params)
    away = displacement(flow.params)
    relative = np.divide(distance, away, out=np.zeros_like(distance), where=away > 0)
    return Gap(path.times, distance, relative, path.loss - flow.loss)


def energy(path: Path, learning_rate: Any, beta: Any = 0.9) -> np.ndarray:
    """Compute E = |theta'|^2 / 2 + a (1-b) f along a path of `momentum`, discrete or continuous.

    Args:
        path: with a state that holds m.
        learning_rate: a, the constant that the path was made with.
        beta: b, likewise.

    Returns:
        (n,) float64, in squared parameter units per squared iteration; along the flow it never grows.

    Raises:
        TypeError: a path without m, or schedules: E falls along the flow for constant a and b only.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method = inercia.momentum(0.5, 0.75)
        >>> flow = inercia.integrate(method, lambda x: x**2 / 2, jnp.array(1.0), [0.0, 1.0, 2.0])
        >>> bool((jnp.diff(inercia.energy(flow, 0.5, 0.75)) < 0).all())
        True
    """
    for name, value in (("learning_rate", learning_rate), ("beta", beta)):
        if callable(value) or np.ndim(value):
            kind = "a schedule" if callable(value) else f"of shape {np.shape(value)}"
            raise TypeError(
                f"energy needs a number for {name}, because E falls for constant a and b only, but it is {kind}: "
                "give the value of a stretch on which it is constant, and the path of that stretch."
            )
    check.positive("learning_rate", learning_rate)
    check.in_unit_interval("beta", beta)
    path.check_axis()
    if not hasattr(path.state, "m"):
        raise TypeError(f"path must be one of momentum, with m in its state, but it has {type(path.state).__name__}.")
    speed = learning_rate * tree.distance(path.state.m, jax.tree.map(np.zeros_like, path.state.m))
    return 0.5 * speed**2 + learning_rate * (1 - beta) * path.loss


def lyapunov(method: Method, path: Path) -> np.ndarray:
    """Compute the Lyapunov function of a method's flow along a path of it, discrete or continuous.

        sgd          H = f
        momentum     H = f + a |m|^2 / (2 (1-b));   as a sum, f + a |v|^2 / 2
        conformal    momentum's;   relativistic   f + a / ((1-b) delta) (sqrt(1 + delta |m|^2) - 1)
        sign_sgd     H = f,   smoothed
        lion         H = f + K*(w theta)/w + a b1 / (1-b2 + a w (1-b1)) (K*(w theta) + K(m) + w m.theta),   smoothed
        muon         H = f + K*(W theta)/W + (A D/G) (K*(W theta) + K(m/D) + W <m/D, theta>),   smoothed, matrices
                     A = a sqrt(max(1, n_out/n_in)), W = a w/A, G = 1-b, D = 1 - e^{-G t}
                     K = tr sqrt(M M^T + c^2 I) - tr c I

    K(z) = sum sqrt(z^2 + c^2), K*(y) = -c sum sqrt(1 - y^2), the first up to -c n/w; needs |w theta_j| < 1, and
    of Muon |W theta|_2 < 1. Its Nesterov step has the same flow; Newton-Schulz's polynomial has no H.

    Args:
        method: constant hyperparameters.
        path: of this method, with real params.

    Returns:
        (n,) float64, in units of the loss; along the flow it never grows, along iterates it may.

    Raises:
        TypeError: a method whose flow has none that is derived here, a schedule.
        ValueError: params at which it does not exist, some |w theta_j| or |W theta|_2 >= 1.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method = inercia.lion(0.1, smooth=0.5)
        >>> flow = inercia.integrate(method, lambda x: x**2 / 2, jnp.array(1.0), [0.0, 5.0, 10.0])
        >>> bool((jnp.diff(inercia.lyapunov(method, flow)) < 0).all())
        True
    """
    function = getattr(getattr(method, "flow", None), "lyapunov", None)
    if function is None:
        raise TypeError(
            f"{method!r} has no Lyapunov function here: sgd, momentum, conformal, relativistic, and smoothed sign_sgd, "
            "lion and muon have one."
        )
    check.real("params", path.params)
    with jax.enable_x64(True):
        H = np.asarray(jax.vmap(function)(*jax.tree.map(jnp.asarray, (path.loss, path.params, path.state))))
    if np.isnan(H).any() and path.diverged is None:
        k = int(np.argmax(np.isnan(H)))
        needs = getattr(function, "needs", "|w theta_j| < 1")
        raise ValueError(f"H needs {needs}, but this fails at time {path.times[k]:g}: start nearer to 0.")
    return H


def displacement(params: Params) -> np.ndarray:
    """Return how far the params of a path are from their start, per time."""
    return tree.distance(params, jax.tree.map(lambda p: np.broadcast_to(p[:1], p.shape), params))


def _form(path: Path) -> Any:
    return jax.tree.map(lambda leaf: np.shape(leaf)[1:], path.params)


def _span(path: Path) -> str:
    return f"{len(path)} times from {path.times[0]:g} to {path.times[-1]:g}"
