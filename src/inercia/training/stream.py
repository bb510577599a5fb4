"""Batches that come from outside the device, read ahead while it computes.

    Shards                  the very batches that the same rows would give in memory, read from their files
    any iterable of (x, y)  its batches, in its order

Batches are read `CHUNK` bytes together and put on the device. JAX returns from a call before the device has computed,
so that the next chunk is read meanwhile, in the caller's own thread: another thread would be 3 % slower on two cores,
and not every source can be read by one.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check
from inercia.problems.mapped_files import Shards, aligned
from inercia.problems.sampling import Sampler
from inercia.training.placement import Placement

#: Bytes of the batches that are read, sent and computed together; at least one batch.
CHUNK = 2**23
#: Rows that stand for all others in a fingerprint.
_SAMPLED = 256


class Chunk(NamedTuple):
    """Some batches on the device, or the end of a record."""

    batches: tuple[jax.Array, jax.Array] | None  # x, y: (iterations, batch size, ...); None: only a record ends
    done: int  # iterations of the run after these
    ends: bool  # whether a record ends here


class Source:
    """Where the batches of a training come from, and how they reach the device.

    Args:
        data: `Shards`, or an iterable of batches (x, y).
        batches: the sampler of the shards; None for an iterable.
        key: the sampler's.
        dtype: of the params; batches of floats are cast to it.
        placed: the mesh's placement, if there is one.
        judge: (x, y) -> None, raises on rows that do not suit the loss; None judges nothing.
    """

    def __init__(
        self, data: Any, batches: Sampler | None, key: Any, dtype: Any, placed: Placement | None, judge: Any
    ) -> None:
        self.data: Any = data
        self.batches, self.key, self.placed, self.judge = batches, key, placed, judge
        self.dtype = dtype
        if isinstance(data, Shards):
            rows = np.linspace(0, len(data) - 1, _SAMPLED).astype(np.int64)
            self._first: Any = tuple(self._cast(data.take(which, rows)) for which in (0, 1))
            return
        source = iter(data)
        given = next(source, None)
        if given is None:
            raise ValueError("data must not be empty, but it gives no batch.")
        if source is data:  # an iterator: what was taken is put back
            self.data = itertools.chain([given], source)
        self._first = self._batch(given)

    @property
    def batch(self) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
        """A batch in the abstract; of an iterable, the first."""
        rows = self.batches.batch_size if self.batches else len(self._first[0])
        x, y = (jax.ShapeDtypeStruct((rows, *part.shape[1:]), part.dtype) for part in self._first)
        return x, y

    def digest(self) -> str:
        """Describe the data: their size, and the content of rows here and there, or of the first batch."""
        digest = hashlib.sha256()
        for part in self._first:
            digest.update(np.ascontiguousarray(part).tobytes())
        rows = f"{len(self.data)} rows " if isinstance(self.data, Shards) else "batches "
        return rows + digest.hexdigest()[:12]

    def chunks(self, start: int, epochs: int, every: int | None) -> Iterator[Chunk]:
        """Read the batches from iteration `start` on; records end after `every` iterations."""
        return (self._of_shards if isinstance(self.data, Shards) else self._of_batches)(start, epochs, every)

    def _of_shards(self, start: int, epochs: int, every: int | None) -> Iterator[Chunk]:
        batches, data = self.batches, self.data
        assert batches is not None
        every = every or batches.epoch
        bytes_of_row = sum(np.prod(s[1:]) * d.itemsize for s, d in zip(data.shape, data.dtype, strict=True))
        length = max(1, int(CHUNK // (batches.batch_size * bytes_of_row)))
        for epoch in range(start // batches.epoch, epochs):
            begin = epoch * batches.epoch
            rows = np.asarray(_rows(batches.rows, batches.epoch, self.key, begin))
            done = max(start, begin)
            while done < begin + batches.epoch:
                end = min(done + length, begin + batches.epoch, (done // every + 1) * every)
                chunk = rows[done - begin : end - begin]
                x, y = (partial(self._take, which, chunk) for which in (0, 1))
                put = self._put(x, (*chunk.shape, *data.shape[0][1:])), self._put(y, (*chunk.shape, *data.shape[1][1:]))
                done = end
                yield Chunk(put, done, done % every == 0 or done == epochs * batches.epoch)

    def _take(self, which: int, rows: np.ndarray, index: tuple) -> np.ndarray:
        taken = self._cast(self.data.take(which, rows[index[:2]]))
        if which == 1 and self.judge is not None:
            flat = taken.reshape(-1, *taken.shape[2:])
            self.judge((jax.ShapeDtypeStruct((len(flat), *self._first[0].shape[1:]), self._first[0].dtype), flat))
        return taken

    def _of_batches(self, start: int, epochs: int, every: int | None) -> Iterator[Chunk]:
        done, held = 0, None
        for _ in range(epochs):
            before = done
            for given in self.data:
                done += 1
                if done <= start:  # a run that goes on: these are done
                    continue
                batch = self._batch(given)
                if held is not None and not held.suits(batch):
                    yield Chunk(self._put_all(held), done - 1, False)
                    held = None
                held = _Held(batch) if held is None else held
                held.add(batch)
                ends = every is not None and done % every == 0
                if ends or held.full:
                    yield Chunk(self._put_all(held), done, ends)
                    held = None
            if done == before:
                raise ValueError(
                    "data gave no batch in a pass: an iterator can be passed over only once, a list often."
                )
            if held is not None:
                yield Chunk(self._put_all(held), done, False)
                held = None
            if every is None and done > start:
                yield Chunk(None, done, True)
        if every is not None and done % every and done > start:
            yield Chunk(None, done, True)

    def _batch(self, given: Any) -> tuple[Any, Any]:
        if not isinstance(given, tuple | list) or len(given) != 2:
            found = f"a {type(given).__name__}" + (f" of {len(given)}" if isinstance(given, tuple | list) else "")
            raise TypeError(f"data must give batches (x, y), but it gives {found}.")
        x, y = (self._cast(part if isinstance(part, jax.Array) else np.asarray(part)) for part in given)
        check.finite("x of a batch", x)
        check.finite("y of a batch", y)
        if self.placed is not None and len(x) % self.placed.mesh.size:
            raise ValueError(
                f"the number of devices must divide each batch, but the mesh has {self.placed.mesh.size} devices and a "
                f"batch has {len(x)} rows."
            )
        if self.judge is not None:
            self.judge((x, y))
        return x, y

    def _put_all(self, held: "_Held") -> tuple[jax.Array, jax.Array]:
        x, y = (self._put(lambda index, stack=stack: stack[index], stack.shape) for stack in held.stacked())
        return x, y

    def _cast(self, part: Any) -> Any:
        return part.astype(self.dtype, copy=False) if jnp.issubdtype(part.dtype, jnp.inexact) else part

    def _put(self, get: Callable, shape: tuple[int, ...]) -> jax.Array:
        if self.placed is None:
            return jax.device_put(get((slice(None), slice(None))))
        return jax.make_array_from_callback(shape, self.placed.batches(), get)


class _Held:
    """Batches of one form that wait for each other; NumPy's are copied at once, as their source may use them again."""

    def __init__(self, first: tuple) -> None:
        self.form = _form(first)
        self.length = max(1, -(-CHUNK // max(1, sum(part.nbytes for part in first))))
        self.columns: list[Any] = [
            [] if isinstance(part, jax.Array) else aligned((self.length, *part.shape), part.dtype) for part in first
        ]
        self.count = 0

    @property
    def full(self) -> bool:
        return self.count == self.length

    def suits(self, batch: tuple) -> bool:
        return _form(batch) == self.form

    def add(self, batch: tuple) -> None:
        for column, part in zip(self.columns, batch, strict=True):
            if isinstance(column, list):
                column.append(part)  # it stays on its device
            else:
                column[self.count] = part
        self.count += 1

    def stacked(self) -> list:
        return [jnp.stack(c) if isinstance(c, list) else c[: self.count] for c in self.columns]


def _form(batch: tuple) -> list:
    return [(isinstance(part, jax.Array), part.shape, part.dtype) for part in batch]


_rows = partial(jax.jit, static_argnums=(0, 1))(lambda rows, steps, key, start: rows(key, start, steps, True))
