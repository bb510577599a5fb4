"""Labels: integers 0..K-1, one for each output of the network; -1 is no class, least of all the last one."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from inercia.core import check


def check_labels(y: Any, rows: tuple[int, ...], classes: int | None = None) -> None:
    """Raise unless `y` holds one label for each row; traced labels are judged by shape and dtype alone.

    Raises:
        TypeError: labels that are not integers.
        ValueError: another shape than `rows`, or a label outside 0..classes-1.

    Example:
        >>> check_labels(np.array([0, -1]), (2,), 3)
        Traceback (most recent call last):
        ValueError: labels must lie in 0..2, one per output, but y[1] is -1.
    """
    labels = np.asarray(y) if check.is_concrete(y) else y
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be integers for the cross-entropy, but their dtype is {labels.dtype}.")
    if labels.shape != rows:
        raise ValueError(f"labels must have shape {rows}, but their shape is {labels.shape}.")
    if isinstance(labels, np.ndarray):
        wrong = np.flatnonzero((labels < 0) | (labels >= (np.inf if classes is None else classes)))
        if wrong.size:
            n = int(wrong[0])
            allowed = "be at least 0" if classes is None else f"lie in 0..{classes - 1}, one per output"
            raise ValueError(f"labels must {allowed}, but y[{n}] is {labels.reshape(-1)[n]}.")


def check_shares(y: Any) -> None:
    """Raise unless each number of `y` lies in [0, 1], as labels that a row has or has not do; traced ones are passed.

    Example:
        >>> check_shares(np.array([[0, 1], [2, 0]]))
        Traceback (most recent call last):
        ValueError: labels must lie in [0, 1] for the binary cross-entropy, but y[1, 0] is 2.
    """
    if check.is_concrete(y):
        wrong = np.argwhere(~((np.asarray(y) >= 0) & (np.asarray(y) <= 1)))
        if len(wrong):
            place = tuple(wrong[0].tolist())
            where = ", ".join(map(str, place))
            raise ValueError(
                f"labels must lie in [0, 1] for the binary cross-entropy, but y[{where}] is {np.asarray(y)[place]}."
            )


def one_hot(y: np.ndarray, classes: int | None = None) -> np.ndarray:
    """Return a row of the identity for each label, (N, classes) float64.

    Example:
        >>> one_hot(np.array([1, 0])).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    check_labels(y, np.shape(y), classes)
    return np.eye(int(y.max()) + 1 if classes is None else classes)[y]
