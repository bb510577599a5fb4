"""Batches that come from outside the device, read ahead while it computes.

    Shards                  the very batches that the same rows would give in memory, read from their files
    any iterable of trees   its batches, in its order

Batches are read `CHUNK` bytes together and put on the device. JAX returns from a call before the device has computed,
so that the next chunk is read meanwhile, in the caller's own thread: another thread would be 3 % slower on two cores,
and not every source can be read by one.
"""

import itertools
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.problems.mapped_files import Shards, aligned
from inercia.problems.sampling import Sampler
from inercia.training.batches import cast, cast_array, one_batch, rows
from inercia.training.fingerprint import plain
from inercia.training.placement import Placement

#: Bytes of the batches that are read, sent and computed together; at least one batch.
CHUNK = 2**23


class Chunk(NamedTuple):
    """Some batches on the device, or the end of a record."""

    batches: Any  # a tree of (iterations, batch size, ...); None: only a record ends
    done: int  # iterations of the run after these
    ends: bool  # whether a record ends here


class Stream:
    """Where the batches of a training come from, and how they reach the device.

    Args:
        data: `Shards`, or an iterable of batches.
        sampler: of the shards; None for an iterable.
        key: the sampler's.
        dtype: of the params; batches of floats are cast to it.
        placement: the mesh's, if there is one.
        judge: batch -> None, raises on rows that do not suit the loss; None for losses that take any tree.
        digests: whether the batches that pass are digested.
    """

    def __init__(
        self, data: Any, sampler: Sampler | None, key: Any, dtype: Any, placement: Placement | None, judge: Any,
        digests: bool = False,
    ) -> None:  # fmt: skip
        self.data: Any = data
        self.sampler, self.key, self.placement, self.judge = sampler, key, placement, judge
        self.dtype, self.digests = dtype, digests
        self._crc, self._expected = 0, (0, "")
        if isinstance(data, Shards):
            self._first: Any = cast(tuple(data.take(which, np.zeros(1, np.int64)) for which in (0, 1)), dtype)
            return
        source = iter(data)
        given = next(source, None)
        if given is None:
            raise ValueError("data must not be empty, but it gives no batch.")
        if source is data:  # an iterator: what was taken is put back
            self.data = itertools.chain([given], source)
        self._first = self._batch(given)

    @property
    def batch(self) -> Any:
        """A batch in the abstract; of an iterable, the first."""
        size = (self.sampler.batch_size,) if self.sampler else None
        shape = lambda part: part.shape if size is None else (*size, *part.shape[1:])  # noqa: E731
        return jax.tree.map(lambda part: jax.ShapeDtypeStruct(shape(part), part.dtype), self._first)

    def digest(self) -> str:
        """Describe all rows of shards, read once for it (1 to 2 s a GB); of an iterable, the first batch."""
        if not isinstance(self.data, Shards):
            return f"batches {_crc(self._first, 0):08x}"
        count, sums = len(self.data), [0, 0]
        for which in (0, 1):
            size = int(np.prod(self.data.shape[which][1:])) * self.data.dtype[which].itemsize
            step = max(1, CHUNK // max(1, size))
            for first in range(0, count, step):
                taken = self.data.take(which, np.arange(first, min(first + step, count)))
                sums[which] = _crc(taken, sums[which])
        return f"{count} rows {sums[0]:08x}{sums[1]:08x}"

    def passed(self) -> str:
        """Describe the batches of an iterable that have been handed on."""
        return f"{self._crc:08x}"

    def expect(self, start: int, passed: str) -> None:
        """Have the first `start` batches compared with those that `passed` described."""
        self._expected = (start, passed)

    def chunks(self, start: int, epochs: int, every: int | None) -> Iterator[Chunk]:
        """Read the batches from iteration `start` on; records end after `every` iterations."""
        return (self._of_shards if isinstance(self.data, Shards) else self._of_batches)(start, epochs, every)

    def _of_shards(self, start: int, epochs: int, every: int | None) -> Iterator[Chunk]:
        sampler, data = self.sampler, self.data
        assert sampler is not None
        every = every or sampler.epoch
        bytes_of_row = sum(np.prod(s[1:]) * d.itemsize for s, d in zip(data.shape, data.dtype, strict=True))
        length = max(1, int(CHUNK // (sampler.batch_size * bytes_of_row)))
        for epoch in range(start // sampler.epoch, epochs):
            first = epoch * sampler.epoch
            drawn = np.asarray(_drawn(sampler.rows, sampler.epoch, self.key, first))
            done = max(start, first)
            while done < first + sampler.epoch:
                end = min(done + length, first + sampler.epoch, (done // every + 1) * every)
                chunk = drawn[done - first : end - first]
                x, y = (partial(self._take, which, chunk) for which in (0, 1))
                put = self._put(x, (*chunk.shape, *data.shape[0][1:])), self._put(y, (*chunk.shape, *data.shape[1][1:]))
                done = end
                yield Chunk(put, done, done % every == 0 or done == epochs * sampler.epoch)

    def _take(self, which: int, drawn: np.ndarray, index: tuple) -> np.ndarray:
        taken = cast_array("xy"[which], self.data.take(which, drawn[index[:2]]), self.dtype)
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
                    self._compare(done, given)
                    continue
                batch = self._batch(given)
                if held is not None and not held.suits(batch):
                    yield self._chunk(held, done - 1, False)
                    held = None
                held = _Held(batch) if held is None else held
                held.add(batch)
                self._note(batch)
                ends = every is not None and done % every == 0
                if ends or held.full:
                    yield self._chunk(held, done, ends)
                    held = None
            if done == before:
                raise ValueError(
                    "data gave no batch in a pass: an iterator can be passed over only once, a list often."
                )
            if held is not None:
                yield self._chunk(held, done, False)
                held = None
            if every is None and done > start:
                yield Chunk(None, done, True)
        if every is not None and done % every and done > start:
            yield Chunk(None, done, True)

    def _batch(self, given: Any) -> Any:
        batch = cast(one_batch(given, self.judge is not None), self.dtype)
        devices = 1 if self.placement is None else self.placement.mesh.size
        if devices > 1 and rows(batch) % devices:
            raise ValueError(
                f"the number of devices must divide each batch, but the mesh has {devices} devices and a batch has "
                f"{rows(batch)} rows."
            )
        if self.judge is not None:
            self.judge(batch)
        return batch

    def _note(self, batch: Any) -> None:
        if self.digests:
            self._crc = _crc(batch, self._crc)

    def _compare(self, done: int, given: Any) -> None:
        if self.digests:
            self._note(self._batch(given))
        last, passed = self._expected
        if done == last and passed and passed != self.passed():
            raise ValueError(
                f"the checkpoint belongs to another run: the {last} batches before it were others than those that data "
                "gives now. Restore what they were, or choose another folder."
            )

    def _chunk(self, held: "_Held", done: int, ends: bool) -> Chunk:
        put = jax.tree.map(lambda stack: self._put(lambda index: stack[index], stack.shape), held.stacked())
        return Chunk(put, done, ends)

    def _put(self, get: Callable, shape: tuple[int, ...]) -> jax.Array:
        if self.placement is None:
            return jax.device_put(get((slice(None), slice(None))))
        return jax.make_array_from_callback(shape, self.placement.batches(), get)


class _Held:
    """Batches of one form that wait for each other; NumPy's are copied at once, as their source may use them again."""

    def __init__(self, first: Any) -> None:
        self.form = _form(first)
        parts, self.structure = jax.tree.flatten(first)
        self.length = max(1, -(-CHUNK // max(1, sum(part.nbytes for part in parts))))
        self.columns: list[Any] = [
            [] if isinstance(part, jax.Array) else aligned((self.length, *part.shape), part.dtype) for part in parts
        ]
        self.count = 0

    @property
    def full(self) -> bool:
        return self.count == self.length

    def suits(self, batch: Any) -> bool:
        return _form(batch) == self.form

    def add(self, batch: Any) -> None:
        for column, part in zip(self.columns, jax.tree.leaves(batch), strict=True):
            if isinstance(column, list):
                column.append(part)  # it stays on its device
            else:
                column[self.count] = part
        self.count += 1

    def stacked(self) -> Any:
        stacks = [jnp.stack(c) if isinstance(c, list) else c[: self.count] for c in self.columns]
        return jax.tree.unflatten(self.structure, stacks)


def _form(batch: Any) -> tuple:
    parts, structure = jax.tree.flatten(batch)
    return structure, [(isinstance(part, jax.Array), part.shape, part.dtype) for part in parts]


def _crc(tree: Any, before: int) -> int:
    for leaf in plain(tree):
        before = zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).data if leaf.size else b"", before)
    return before


_drawn = partial(jax.jit, static_argnums=(0, 1))(lambda rows, steps, key, start: rows(key, start, steps, True))
