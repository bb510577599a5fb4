"""Rows as scikit-learn's users give them: dense or sparse, weighted or not.

    R(theta) = (1/N) sum_n w_n l(apply(theta, x_n), y_n),    weights scaled to the mean 1

In one batch of all rows a whole weight is as many equal rows; in smaller ones it is so in the mean over batches. Rows
of weight 0 are left out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from inercia.core import check
from inercia.problems.empirical_risk import Risk

#: Bytes that sparse rows may take when they are made dense, to train on and at a time to predict.
MOST_DENSE, AT_A_TIME = 2**31, 2**27


@dataclass(frozen=True)
class WeightedRisk:
    """A loss `(params, (x, y, weights)) -> scalar`; equal ones share one compilation."""

    risk: Risk

    def __call__(self, params: Any, batch: tuple[Any, Any, Any]) -> Array:
        """Return the weighted mean of the pointwise loss."""
        x, y, weights = batch
        return jnp.mean(weights * self.risk.pointwise(self.risk.network.apply(params, x), y))


def judge_numbers(name: str, values: Any) -> None:
    """Raise where `values` are an array of text or dates, which would be read as numbers, or one with a mask.

    Raises:
        ValueError: text, dates or time spans.
        TypeError: a masked array.
    """
    check.unmasked(name, values)
    dtype = getattr(values, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind in "USMm":
        raise ValueError(f"{name} must hold numbers, but its dtype is {dtype}: convert it to numbers first.")


def dense(x: Any) -> np.ndarray:
    """Return the rows as an array, or raise where sparse ones would take too much memory."""
    if not hasattr(x, "toarray"):
        return x
    bytes_of = x.shape[0] * x.shape[1] * x.dtype.itemsize
    if bytes_of > MOST_DENSE:
        raise ValueError(
            f"sparse X is made dense to train on and may then take {MOST_DENSE / 2**30:g} GiB, but {x.shape} of "
            f"{x.dtype} take {bytes_of / 2**30:.3g}: give it in parts to partial_fit, or take fewer columns, for "
            "example by TruncatedSVD."
        )
    return x.toarray()


def in_parts(x: Any, outputs: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the outputs for all rows; of sparse ones, some at a time."""
    if not hasattr(x, "toarray"):
        return outputs(x)
    size = max(1, AT_A_TIME // (8 * x.shape[1]))
    parts: Iterator = (x[first : first + size].toarray() for first in range(0, x.shape[0], size))
    return np.concatenate([outputs(part) for part in parts])


def weights_of(sample_weight: Any, by_class: np.ndarray | None, rows: int) -> np.ndarray | None:
    """Return a weight for each row, (rows,) float64, or None where all count the same.

    Args:
        sample_weight: (rows,), at least 0; or None.
        by_class: (rows,), a factor of it; or None.
        rows: their number.

    Raises:
        ValueError: another shape, weights that are negative, not finite or all zero.
    """
    if sample_weight is None:
        return by_class
    weights = np.asarray(sample_weight, np.float64)
    if weights.shape != (rows,):
        raise ValueError(f"sample_weight must have shape {(rows,)}, but its shape is {weights.shape}.")
    check.finite("sample_weight", weights)
    if weights.min() < 0:
        n = int(weights.argmin())
        raise ValueError(f"sample_weight must be at least 0, but sample_weight[{n}] is {weights[n]:g}.")
    weights = weights if by_class is None else weights * by_class
    if not weights.any():
        raise ValueError("sample_weight must weigh some row, but all of its weights are zero.")
    return weights


def weighted(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """Return the data of a training: (x, y), or (x, y, weights) of the mean 1, without the rows of weight 0."""
    if weights is None:
        return x, y
    counts = weights > 0
    kept = weights[counts]
    return x[counts], y[counts], (kept / kept.mean()).astype(x.dtype)
