"""Which rows each iteration sees.

    full        all rows, every time: gradient descent
    partition   the lecture's: the rows are cut once into N_b fixed batches, and each iteration draws one of them
                uniformly at random
    shuffle     epochs without replacement: every epoch is a new permutation, cut into batches

A sampler is a pure function of (key, first iteration): any stretch of a run can be reproduced on its own.
When the batch size does not divide the number of rows, all batches keep their size, so that shapes are static:
`partition` fills its last batch with rows of its first one, so that every row is used; `shuffle` leaves the
remainder out of that epoch, and each epoch leaves out other rows.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from inercia.core import check

SAMPLERS = ("shuffle", "partition", "full")
#: Rows from which the epochs are drawn one after the other.
_LONG = 512
#: Most rows whose number shares a word with random bits.
_SHARED = 2**22
#: Random words that are drawn together for the host.
_TOGETHER = 2**17


class Sampler(NamedTuple):
    """A rule that gives each iteration its rows."""

    epoch: int  # iterations that make one pass over the data
    batch_size: int
    rows: Callable[..., Int[Array, "steps batch"]] | None  # (key, start, steps, aligned=False); None for all rows
    on_host: Callable[..., Callable] | None = None  # (key, start, steps, most): asks for the same numbers, most the
    # largest `steps` that will be asked for; called, it gives them. None where the host cannot draw them


def sampler(name: str, rows: int, batch_size: int | None = None) -> Sampler:
    """Make a sampler over `rows` rows.

    Args:
        name: "shuffle", "partition" or "full".
        rows: N.
        batch_size: in 1..N; for "full" it may be left out and is N.

    Returns:
        Sampler: `rows(key, start, steps)` gives the row numbers (steps, batch_size), int32, of iterations
        start..start+steps-1. `start` may be traced, `steps` is a Python number; `aligned=True` promises that start
        is a multiple of `epoch`, which saves drawing one epoch more.

    Raises:
        ValueError: an unknown name, a batch size outside 1..N, or for "full" another than N.

    Example:
        >>> import jax
        >>> s = sampler("shuffle", 10, 5)
        >>> sorted(s.rows(jax.random.key(0), 0, 2).ravel().tolist())
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    check.one_of("sampler", name, SAMPLERS)
    rows = check.integer("rows", rows)
    batch_size = rows if batch_size is None and name == "full" else check.integer("batch_size", batch_size)
    if batch_size > rows:
        raise ValueError(f"batch_size must be at most the number of rows {rows}, but it is {batch_size}.")
    if name == "full":
        if batch_size != rows:
            raise ValueError(
                f"sampler 'full' takes all {rows} rows, but batch_size is {batch_size}: leave it out, or choose "
                "'shuffle' or 'partition'."
            )
        return Sampler(1, rows, None)
    return _made(name, rows, batch_size)


@lru_cache(maxsize=64)  # equal samplers are the same object, so that a training compiled once stays compiled
def _made(name: str, rows: int, batch_size: int) -> Sampler:
    return (_partition if name == "partition" else _shuffle)(rows, batch_size)


def permutation(key: Any, n: int) -> Int[Array, " n"]:
    """Draw a random order of 0..n-1, int32.

    As `jax.random.permutation`, by rounds of sorting random numbers, but random bits and row share one word: sorting
    single words is about six times faster on a CPU than sorting pairs. A round leaves rows with equal bits in their
    order; as many rounds are made as keep the chance that any two were never parted below 1/n.
    """
    if n > _SHARED:
        return jax.random.permutation(key, n).astype(jnp.int32)
    rounds, mask = _rounds(n)
    order = row = jnp.arange(n, dtype=jnp.uint32)
    for bits in jax.random.bits(key, (rounds, n)):
        order = order[jax.lax.sort((bits & ~mask) | row, is_stable=False) & mask]
    return order.astype(jnp.int32)


def permutations_on_host(
    key: Any, first: int, count: int, n: int, most: int
) -> Callable[[], Int[np.ndarray, "count n"]]:
    """Ask for `permutation(fold_in(key, k), n)` of k = first..first+count-1, 1 < n <= 2^22; called, it gives them.

    NumPy sorts words with the processor's vectors, ten to thirty times as fast as XLA does on a CPU. The random bits
    come from a program, which runs meanwhile; there is one for all calls of equal n and `most`, the largest count.
    """
    rounds, mask = _rounds(n)
    together = min(most, max(1, _TOGETHER // (rounds * n)))
    firsts = range(first, first + count, together)
    asked = [_words(key, np.arange(k, k + together, dtype=np.int32), rounds, n) for k in firsts]

    def orders() -> np.ndarray:
        words = np.concatenate(asked)[:count] if asked[1:] else np.array(asked[0])[:count]
        words.sort(axis=-1)
        words &= mask
        order = words[:, 0]
        order = order.view(np.int32) if order.dtype == np.uint32 else order.astype(np.int32)  # 64 bits with x64
        for r in range(1, rounds):
            order = np.take_along_axis(order, words[:, r].astype(np.int32), axis=-1)
        return order

    return orders


@partial(jax.jit, static_argnums=(2, 3))
def _words(key: Any, epochs: Any, rounds: int, n: int) -> jax.Array:
    """Return random bits above the number of a row, (epochs, rounds, n)."""
    _, mask = _rounds(n)
    bits = jax.vmap(lambda epoch: jax.random.bits(jax.random.fold_in(key, epoch), (rounds, n)))(epochs)
    return (bits & ~mask) | jnp.arange(n, dtype=jnp.uint32)


def _rounds(n: int) -> tuple[int, np.uint32]:
    """Return the rounds of sorting, and the mask of the bits that hold the row."""
    low = (n - 1).bit_length()
    return -(-3 * low // (32 - low)), np.uint32(2**low - 1)


def _partition(rows: int, batch_size: int) -> Sampler:
    batches = -(-rows // batch_size)

    def select(key, start, steps, aligned=False):
        cut, draws = jax.random.split(key)
        order = permutation(cut, rows)
        fixed = jnp.resize(order, (batches, batch_size))  # wraps around: the last batch is filled from the first
        draw = jax.vmap(lambda k: jax.random.randint(jax.random.fold_in(draws, k), (), 0, batches))
        return fixed[draw(start + jnp.arange(steps))]

    return Sampler(batches, batch_size, select)


def _shuffle(rows: int, batch_size: int) -> Sampler:
    batches = rows // batch_size

    def one_epoch(key, epoch):
        order = permutation(jax.random.fold_in(key, epoch), rows)
        return order[: batches * batch_size].reshape(batches, batch_size)

    def select(key, start, steps, aligned=False):
        first = start // batches
        spanned = -(-steps // batches) if aligned or batches == 1 else (steps - 2) // batches + 2
        draw, epochs = partial(one_epoch, key), first + jnp.arange(spanned)
        # One after the other, where an epoch is long enough for a loop: drawn together they take three times as long
        # to compile.
        order = jax.lax.map(draw, epochs) if rows >= _LONG else jax.vmap(draw)(epochs)
        order = order.reshape(spanned * batches, batch_size)
        return jax.lax.dynamic_slice_in_dim(order, start - first * batches, steps)

    def on_host(key, start, steps, most):
        first, end = start // batches, -(-(start + steps) // batches)
        orders = permutations_on_host(key, first, end - first, rows, -(-most // batches))

        def drawn():
            order = orders()[:, : batches * batch_size].reshape(-1, batch_size)
            return order[start - first * batches :][:steps]

        return drawn

    return Sampler(batches, batch_size, select, on_host if 1 < rows <= _SHARED else None)
