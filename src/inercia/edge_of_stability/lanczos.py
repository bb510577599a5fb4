"""The largest eigenvalues of a symmetric operator and their vectors, from one product after the other.

    basis += r,   r = A u - theta u of the first pair (theta, u) that is not converged;   Rayleigh and Ritz on the basis

From one random vector these are Lanczos' steps, restarted from the leading Ritz vectors where the basis is full (thick
restart, Wu & Simon 2000). The residuals are those of images that were computed, not of a recurrence.

A Krylov space of one vector holds one vector of every eigenspace, so that eigenvalues that are equal would be found
once. A second random vector, which joins after a few steps, finds those that are double. Where two of the values found
are equal there may be a third, and vectors that were given to start from may all miss a direction: then steps from a
random vector in the complement must find nothing, or what they find is taken up.

The products are compiled; the algebra beside them is NumPy's on a CPU, where it needs no compiling, and stays on the
device elsewhere.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

#: Rows of the basis beside twice those asked for.
_MORE = 20
#: Residual of the last pair at which the second random vector joins: sooner costs more products, later is too late.
_JOINS = 0.1
#: Least number of steps in the complement, which are otherwise half as many as it took to converge.
_PROBE = 10
#: Length below which a projected unit vector counts as one of the basis' own.
_DEPENDENT = 1e-8
#: |A u| over the longest image, below which it is rounding.
ROUNDED = 1e-9


class Leading(NamedTuple):
    """Leading eigenpairs."""

    values: np.ndarray  # (k,), decreasing; nan where a product is not finite
    rows: Any  # (k, n), orthonormal, where the products are computed
    residual: np.ndarray  # (k,), |A u - theta u| / |A u|, weighted
    products: int


def leading(
    product: Callable,
    size: int,
    k: int,
    tol: float,
    most: int,
    *,
    start: Any = None,
    seed: int = 0,
    weight: Any = 1.0,
    rounded: float = ROUNDED,
) -> Leading:
    """Compute the k largest eigenvalues of a symmetric operator.

    Args:
        product: (n,) -> (n,), the operator.
        size: n, above 2 k + 20.
        k: how many.
        tol: residual at which to stop.
        most: products at most; at least k are made.
        start: (s, n), vectors to start from instead of a random one.
        seed: of the random vectors.
        weight: (n,), by which residuals and images are multiplied before their lengths are taken.
        rounded: images shorter than this, relative to the longest that was met, count as that long.
    """
    basis, generator = _Basis(2 * k + _MORE, size, weight, rounded), np.random.default_rng(seed)

    def fresh() -> Any:
        return generator.standard_normal(size)

    queue = [fresh()] if start is None else [*start[: k + _MORE]]
    complete = start is None and k == 1  # whether nothing can be missed
    left = None  # steps to come in the complement of what has converged
    for used in range(1, max(most, k) + 1):
        image = basis.add(queue.pop(0), product, fresh)
        if image is None:
            return Leading(np.full(k, np.nan), basis.rows[:k], np.full(k, np.nan), used)
        if queue:
            continue
        basis.solve()
        if basis.filled < k:
            queue = [image]
            continue
        apart = _first_unconverged(basis, k, tol)
        if apart is not None:
            second = start is None and not complete and basis.pair(k - 1).residual < _JOINS
            queue, left, complete = [fresh() if second else apart], None, complete or second
        elif left == 0 or (left is None and complete and not _may_hide_another(basis.values[:k], tol)):
            break
        elif left is None:
            queue, left = [fresh()], max(_PROBE, used // 2)
            basis.cut(k)  # room for the steps
        else:
            queue, left = [image], left - 1
        if basis.filled == basis.room:
            basis.cut(k + (basis.room - k) // 2)
    basis.solve()
    found = [basis.pair(n) for n in range(k)]
    values = basis.scale * basis.values[:k]
    return Leading(values, basis.stack(found, "row"), np.array([pair.residual for pair in found]), used)


def _first_unconverged(basis: "_Basis", k: int, tol: float) -> Any:
    """Return the residual of the first pair for which it is too long, or None."""
    for n in range(k):
        pair = basis.pair(n)
        if not pair.residual <= tol:
            return pair.apart
    return None


def _may_hide_another(values: np.ndarray, tol: float) -> bool:
    """Whether two of the values are equal, so that there may be more of them, and a smaller one would have to go."""
    near = tol * np.abs(values[0])
    return bool(((values[:-1] - values[1:] <= near) & (values[1:] - values[-1] > near)).any())


def _length(v: Any) -> float:
    return float((v @ v) ** 0.5)


class _Pair(NamedTuple):
    row: Any
    image: Any
    apart: Any  # A u - theta u
    residual: float


class _Basis:
    """Orthonormal rows, their images, and the operator between them; rows that are not filled yet are 0."""

    def __init__(self, room: int, size: int, weight: Any, rounded: float) -> None:
        self.room, self.filled, self.host = room, 0, jax.default_backend() == "cpu"
        zeros: Any = np.zeros if self.host else jnp.zeros
        self.rows, self.images = zeros((room, size)), zeros((room, size))
        self.between = np.zeros((room, room))
        self.weight, self.rounded, self.longest = weight, rounded, 0.0
        self.scale = 1.0  # of the operator, by which images are divided: squares of theirs may be beyond float64

    def add(self, vector: Any, product: Callable, fresh: Callable) -> Any:
        """Take up what a vector, or else a fresh one, adds to the basis; return its image, None if it is not finite."""
        row, length = self._projected(vector)
        if not length > _DEPENDENT:
            row, _ = self._projected(fresh())
        row, _ = self._projected(row)  # twice is enough (Kahan)
        image = product(row)
        image = np.asarray(image) if self.host else image
        if self.longest == 0.0:
            self.scale = float(abs(image).max()) or 1.0
        image = image / self.scale
        self._write(self.filled, row, image)
        line = np.asarray(self.rows @ image)
        self.between[self.filled], self.between[:, self.filled] = line, line
        self.filled += 1
        self.longest = max(self.longest, _length(self.weight * image))
        return image if np.isfinite(line).all() else None

    def solve(self) -> None:
        """Set the Ritz values, decreasing, and the coefficients of their vectors, one a row."""
        from scipy.linalg import eigh  # noqa: PLC0415  loaded when used; NumPy's waits for threads that XLA's hold up

        values, vectors = eigh(self.between[: self.filled, : self.filled], driver="evr", check_finite=False)
        self.values, self.mix = values[::-1], np.zeros((self.filled, self._seen))
        self.mix[:, : self.filled] = vectors[:, ::-1].T

    def pair(self, n: int) -> _Pair:
        """Return a Ritz vector, with |A u - theta u| / |A u|, where |A u| is no less than rounding."""
        row, image = self.mix[n] @ self.rows[: self._seen], self.mix[n] @ self.images[: self._seen]
        apart = image - self.values[n] * row
        size = max(_length(self.weight * image), self.rounded * self.longest)
        return _Pair(row, image, apart, _length(self.weight * apart) / (size or 1.0))

    def cut(self, keep: int) -> None:
        """Keep the leading Ritz vectors alone."""
        kept = [self.pair(n) for n in range(keep)]
        self._write(slice(keep), self.stack(kept, "row"), self.stack(kept, "image"))
        self._write(slice(keep, None), 0.0, 0.0)
        self.between = np.diag(np.where(np.arange(self.room) < keep, np.resize(self.values, self.room), 0.0))
        self.filled = keep

    def stack(self, pairs: list[_Pair], part: str) -> Any:
        return (np if self.host else jnp).stack([getattr(pair, part) for pair in pairs])

    @property
    def _seen(self) -> int:
        """Rows that a product takes: of arrays on a device all, since every number of them would be a program."""
        return self.filled if self.host else self.room

    def _projected(self, vector: Any) -> tuple[Any, float]:
        """Return the unit vector in the complement of the rows, and the vector's length there, relative to its own."""
        rows, size = self.rows[: self._seen], _length(vector)
        vector = vector / (size or 1.0)
        vector = vector - (rows @ vector) @ rows
        length = _length(vector)
        return vector / (length or 1.0), length

    def _write(self, n: Any, row: Any, image: Any) -> None:
        if self.host:
            self.rows[n], self.images[n] = row, image
        else:
            self.rows, self.images = self.rows.at[n].set(row), self.images.at[n].set(image)
