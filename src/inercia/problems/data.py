"""Data sets as pairs (x, y) of NumPy arrays: the bundled digits, a split, and synthetic teachers.

The digits are the 1797 images of 8 x 8 pixels, 0 to 16, of the test part of E. Alpaydin and C. Kaynak, "Optical
Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998 (CC BY 4.0).
"""

from importlib import resources
from typing import Any, NamedTuple

import jax
import numpy as np

from inercia.core import check
from inercia.problems.network import Network


class Dataset(NamedTuple):
    """Inputs and what to predict from them, row by row."""

    x: np.ndarray  # (N, inputs), floats
    y: np.ndarray  # (N,) integer labels, or (N, outputs) floats


class Split(NamedTuple):
    """Two disjoint parts of one data set."""

    train: Dataset
    test: Dataset


def digits(test: float = 0.2, seed: int = 0) -> Split:
    """Load the bundled handwritten digits, split and standardised.

    Args:
        test: share held out.
        seed: of the split.

    Returns:
        Split: x (N, 64) float32, y (N,) int32 in 0..9; 1438 rows to train on and 359 to test by default.

    Example:
        >>> train, test = digits()
        >>> train.x.shape, test.y.shape, abs(float(train.x.mean())) < 1e-6
        ((1438, 64), (359,), True)
    """
    with resources.files("inercia.problems").joinpath("digits.npz").open("rb") as file, np.load(file) as arrays:
        everything = Dataset(arrays["x"].astype(np.float32), arrays["y"].astype(np.int32))
    return standardise(split(everything, test, seed))


def split(data: Any, test: float = 0.2, seed: int = 0) -> Split:
    """Split rows at random into disjoint parts; the same seed gives the same parts on every machine.

    Raises:
        ValueError: a share outside (0, 1), or one that leaves a part empty.
    """
    data = checked(data)
    if not 0 < test < 1:
        raise ValueError(f"test must be a share in (0, 1), but it is {test}.")
    held_out = round(test * len(data.x))
    if held_out in (0, len(data.x)):
        raise ValueError(f"test = {test} of {len(data.x)} rows leaves one part empty.")
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(data.x))
    first, second = order[held_out:], order[:held_out]
    return Split(Dataset(data.x[first], data.y[first]), Dataset(data.x[second], data.y[second]))


def standardise(parts: Split) -> Split:
    """Shift and scale each input by its mean and deviation over the training part; constant inputs become 0."""
    mean, deviation = parts.train.x.mean(axis=0), parts.train.x.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1).astype(parts.train.x.dtype)
    return Split(*(Dataset((part.x - mean) / scale, part.y) for part in parts))


def teacher(network: Network, rows: int, key: Any, noise: float = 0.0) -> tuple[Dataset, Any]:
    """Draw x ~ N(0, 1) and y = network(x) + noise N(0, 1) from a network with random params, the teacher.

    Args:
        network: an `mlp`; its params, drawn from the key, give the width of x.
        rows: N.
        key: a `jax.random.key`.
        noise: standard deviation of the noise on y.

    Returns:
        The data, float32, and the teacher's params.

    Example:
        >>> from inercia.problems.network import mlp
        >>> data, params = teacher(mlp([3, 4, 1]), 10, jax.random.key(0))
        >>> data.x.shape, data.y.shape
        ((10, 3), (10, 1))
    """
    rows = check.integer("rows", rows)
    check.nonnegative("noise", noise)
    of_params, of_x, of_noise = jax.random.split(key, 3)
    params = network.init(of_params)
    x = jax.random.normal(of_x, (rows, params[0].w.shape[0]))
    y = network.apply(params, x)
    y = y + noise * jax.random.normal(of_noise, y.shape)
    return Dataset(np.asarray(x), np.asarray(y)), params


def checked(data: Any) -> Dataset:
    """Return `data` as a `Dataset`, or raise unless it is a non-empty finite pair of equal length."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise TypeError(f"data must be a pair (x, y), but it is {type(data).__name__}.")
    x, y = data
    rows = [np.shape(part)[:1] for part in data]
    if rows[0] == () or rows[0] != rows[1]:
        raise ValueError(
            f"x and y must have as many rows as each other, but their shapes are {np.shape(x)} and {np.shape(y)}."
        )
    if rows[0] == (0,):
        raise ValueError("data must not be empty, but x and y have 0 rows.")
    check.finite("x", x)
    check.finite("y", y)
    return Dataset(x, y)
