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
    return standardise(split(all_digits(), test, seed))


def all_digits() -> Dataset:
    """Return the digits as they are, pixels 0 to 16: x (1797, 64) float32, y (1797,) int32."""
    with resources.files("inercia.problems").joinpath("digits.npz").open("rb") as file, np.load(file) as arrays:
        return Dataset(arrays["x"].astype(np.float32), arrays["y"].astype(np.int32))


def split(data: Any, test: float = 0.2, seed: int = 0) -> Split:
    """Split rows at random into disjoint parts; the same seed gives the same parts on every machine.

    Raises:
        ValueError: a share outside (0, 1), or one that leaves a part empty.
    """
    data = checked(data)
    first, second = split_rows(len(data.x), test, seed)
    return Split(Dataset(data.x[first], data.y[first]), Dataset(data.x[second], data.y[second]))


def split_rows(rows: int, test: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the rows to train on and of those to test on, as `split` takes them."""
    if not 0 < check.number("test", test) < 1:
        raise ValueError(f"test must be a share in (0, 1), but it is {test}.")
    seed = check.integer("seed", seed, 0)
    held_out = round(test * rows)
    if held_out in (0, rows):
        raise ValueError(f"test = {test} of {rows} rows leaves one part empty.")
    order = np.random.Generator(np.random.PCG64(seed)).permutation(rows)
    return order[held_out:], order[:held_out]


def standardise(parts: Split) -> Split:
    """Shift and scale each input by its mean and deviation over the training part; constant inputs become 0.

    Computed in float64 from the numbers as they are, and cast to float32 then; integers are taken too. The values are
    those of scikit-learn's `StandardScaler`.

    Raises:
        ValueError: inputs that are not finite, no rows, parts with other inputs.
        TypeError: inputs that are not real numbers, or masked.

    Example:
        >>> years = np.array([[2000], [2020], [2030]])
        >>> train, test = standardise(Split(Dataset(years[:2], None), Dataset(years[2:], None)))
        >>> train.x.ravel().tolist(), test.x.ravel().tolist()
        ([-1.0, 1.0], [2.0])
    """
    train, test = (_columns(name, part.x) for name, part in zip(("train.x", "test.x"), parts, strict=True))
    if test.shape[1:] != train.shape[1:]:
        raise ValueError(f"both parts must have the same inputs, but rows are {train.shape[1:]} and {test.shape[1:]}.")
    mean, scale = scaling(train)
    return Split(*(Dataset(standardised(x, mean, scale), p.y) for x, p in zip((train, test), parts, strict=True)))


def _columns(name: str, x: Any) -> np.ndarray:
    """Return inputs as NumPy's, or raise unless they are rows of finite real numbers."""
    check.unmasked(name, x)
    x = np.asarray(x)  # float32 of JAX would stay that, and its statistics too
    if not check.is_numeric(x.dtype) or x.dtype.kind == "c":
        raise TypeError(f"{name} must hold real numbers, but its dtype is {x.dtype}.")
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"{name} must be rows of inputs, (N, inputs), but its shape is {x.shape}.")
    check.finite(name, x)
    return x


def scaling(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of each column, (inputs,) float64; the deviation of a constant column is 1.

    A column is constant where its variance is within the rounding of its mean and of itself (Chan, Golub and LeVeque,
    "Algorithms for computing the sample variance", 1983): var <= N eps var + (N eps mean)^2.
    """
    mean, deviation = np.empty(x.shape[1:]), np.empty(x.shape[1:])
    for block in _blocks(x):
        part = x[..., block].astype(np.float64)
        size = np.ldexp(1.0, np.frexp(np.abs(part).max(axis=0))[1] - 1)
        part /= size  # squares stay finite; by a power of two, so that nothing is rounded
        mean[..., block] = part.mean(axis=0)
        part -= mean[..., block]
        mean[..., block] += part.mean(axis=0)  # what rounding had left of the mean
        variance = (part**2).mean(axis=0) - part.mean(axis=0) ** 2
        rounding = len(x) * np.finfo(np.float64).eps
        constant = variance <= rounding * variance + (rounding * mean[..., block]) ** 2
        deviation[..., block] = np.where(constant, 1, size * np.sqrt(variance))
        mean[..., block] *= size
    return mean, deviation


def scaled(x: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return (x - mean) / scale, computed in float64."""
    return (x.astype(np.float64) - mean) / scale


def standardised(x: np.ndarray, mean: np.ndarray, scale: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
    """Return `scaled` in float32, or another dtype, without a float64 copy of all rows at once."""
    result = np.empty(x.shape, dtype)
    rows = max(1, 2**23 // max(1, x[:1].size))
    for first in range(0, len(x), rows):
        result[first : first + rows] = scaled(x[first : first + rows], mean, scale)
    return result


def _blocks(x: np.ndarray) -> list[slice]:
    """Cut the last axis, so that a float64 copy of a block takes at most about 64 MB."""
    width = max(1, 2**23 // max(1, x.size // x.shape[-1]))
    return [slice(first, first + width) for first in range(0, x.shape[-1], width)]


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
    of_params, of_x, of_noise = jax.random.split(check.key(key), 3)
    params = network.init(of_params)
    x = jax.random.normal(of_x, (rows, params[0].w.shape[0]))
    y = network.apply(params, x)
    y = y + noise * jax.random.normal(of_noise, y.shape)
    return Dataset(np.asarray(x), np.asarray(y)), params


def checked(data: Any) -> Dataset:
    """Return `data` as a `Dataset`, or raise unless it is a non-empty pair of finite numbers, of equal length.

    Lists become NumPy arrays; arrays stay where they are.

    Raises:
        TypeError: no pair, or something that holds no numbers.
        ValueError: lengths that differ, no rows, numbers that are not finite.
    """
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise TypeError(f"data must be a pair (x, y), but it is {type(data).__name__}.")
    for name, part in zip("xy", data, strict=True):
        check.unmasked(name, part)
    x, y = (_array(part) for part in data)
    for name, part in (("x", x), ("y", y)):
        if not check.is_numeric(part.dtype):
            raise TypeError(f"{name} must hold numbers, but its dtype is {part.dtype}: number the classes 0..K-1.")
    rows = [np.shape(part)[:1] for part in (x, y)]
    if rows[0] == () or rows[0] != rows[1]:
        raise ValueError(
            f"x and y must have as many rows as each other, but their shapes are {np.shape(x)} and {np.shape(y)}."
        )
    if rows[0] == (0,):
        raise ValueError("data must not be empty, but x and y have 0 rows.")
    check.finite("x", x)
    check.finite("y", y)
    return Dataset(x, y)


def _array(part: Any) -> Any:
    return part if isinstance(part, jax.Array) else np.asarray(part)
