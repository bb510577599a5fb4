"""Exact solutions on quadratics, to measure everything else against.

f(theta) = theta^T A theta / 2, with z = (theta, m):

    flow       GD        theta' = -a A theta                                   z(t) = expm(t M) z(0)
               momentum  theta' = -a m,   m' = (1-b)(A theta - m)
    iterates   GD        theta+ = (I - a A) theta                              z_k = Phi^k z_0
               explicit  theta+ = theta - a m,   m+ = b m + (1-b) A theta
               semi-implicit                     theta+ = theta - a m+

The matrices are written out by hand from these lines, so that they share no code with the methods.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from inercia.core import check
from inercia.core.path import Path, Solve


def quadratic(A: Any) -> Any:
    """Make the loss theta -> theta^T A theta / 2 for a symmetric matrix A (n, n).

    Example:
        >>> float(quadratic([[2.0]])(jnp.array([3.0])))
        9.0
    """
    A = _symmetric(A)

    def loss(theta):
        theta = jnp.asarray(theta)
        matrix = jnp.asarray(A, theta.dtype if jnp.issubdtype(theta.dtype, jnp.inexact) else float)
        return 0.5 * theta @ matrix @ theta

    return loss


def exact_flow(A: Any, theta: Any, times: Any, learning_rate: float, beta: float | None = None) -> Path:
    """Solve gradient flow (beta None) or the momentum flow from m = 0, by the matrix exponential.

    Args:
        A: symmetric (n, n).
        theta: start (n,).
        times: increasing, in iterations, from the start at times[0].
        learning_rate: a.
        beta: b of the averaged form; None for gradient flow.

    Returns:
        Path: params (len(times), n); state is m, or () for gradient flow; no evaluations in its `solve`.

    Example:
        >>> exact_flow([[1.0]], [1.0], [0.0, 1.0], 0.5).params.round(6).tolist()
        [[1.0], [0.606531]]
    """
    from scipy.linalg import expm  # noqa: PLC0415  loaded when used

    A, times = _symmetric(A), check.increasing("times", times)
    z = _start(A, theta, learning_rate, beta)
    eye, zero = np.eye(len(A)), np.zeros_like(A)
    if beta is None:
        M = -learning_rate * A
    else:
        M = np.block([[zero, -learning_rate * eye], [(1 - beta) * A, -(1 - beta) * eye]])
    z = np.array([expm((t - times[0]) * M) @ z for t in times])
    return _path(A, times, z, Solve("matrix exponential", 0, 0, 0, "the solution is a formula"))


def exact_iterates(
    A: Any,
    theta: Any,
    steps: int,
    learning_rate: float,
    beta: float | None = None,
    *,
    scheme: str = "semi-implicit",
    dt: float = 1.0,
) -> Path:
    """Compute the iterates of gradient descent (beta None) or momentum from m = 0, by matrix powers.

    Args:
        A: symmetric (n, n).
        theta: start (n,).
        steps: number of updates.
        learning_rate: a.
        beta: b of the averaged form; None for gradient descent.
        scheme: as in `momentum`.
        dt: flow time of one update.

    Returns:
        Path: params (steps + 1, n) at times k dt.

    Example:
        >>> exact_iterates([[1.0]], [1.0], 2, 0.5).params.tolist()
        [[1.0], [0.5], [0.25]]
    """
    A, steps = _symmetric(A), check.integer("steps", steps)
    z = _start(A, theta, learning_rate, beta)
    check.positive("dt", dt)
    check.one_of("scheme", scheme, ("semi-implicit", "explicit"))
    a, eye = learning_rate * dt, np.eye(len(A))
    if beta is None:
        phi = eye - a * A
    else:
        b = 1 - (1 - beta) * dt
        if scheme == "explicit":
            phi = np.block([[eye, -a * eye], [(1 - b) * A, b * eye]])
        else:
            phi = np.block([[eye - a * (1 - b) * A, -a * b * eye], [(1 - b) * A, b * eye]])
    powers = np.array([np.linalg.matrix_power(phi, k) @ z for k in range(steps + 1)])
    return _path(A, dt * np.arange(steps + 1), powers)


def _symmetric(A: Any) -> np.ndarray:
    A = check.reals("A", A)
    check.finite("A", A)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or not np.allclose(A, A.T):
        raise ValueError(f"A must be a symmetric matrix, but it is {A.tolist() if A.size < 10 else A.shape}.")
    return A


def _start(A: np.ndarray, theta: Any, learning_rate: Any, beta: Any) -> np.ndarray:
    check.positive("learning_rate", learning_rate)
    if beta is not None:
        check.in_unit_interval("beta", beta)
    theta = check.reals("theta", theta)
    check.finite("theta", theta)
    if theta.shape != A.shape[:1]:
        raise ValueError(f"theta must have the shape {A.shape[:1]} of a row of A, but it has {theta.shape}.")
    return theta if beta is None else np.concatenate([theta, np.zeros_like(theta)])


def _path(A: np.ndarray, times: np.ndarray, z: np.ndarray, solve: Solve | None = None) -> Path:
    theta, m = z[:, : len(A)], z[:, len(A) :]
    loss = 0.5 * np.einsum("ki,ij,kj->k", theta, A, theta)
    return Path(times, theta, m if m.size else (), loss, solve=solve)
