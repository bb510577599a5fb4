"""Batches that come from outside the device, read ahead while it computes.

    Shards                  the very batches that the same rows would give in memory, read from their files
    any iterable of (x, y)  its batches, in its order

A thread reads the next batches, `CHUNK` bytes together, and puts them on the device, so that at most `AHEAD` + 3 chunks
are held at a time (one that the device works on, one that waits for it), however large the data are.
"""

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia import check
from inercia.mesh import Placement
from inercia.sampler import Sampler
from inercia.shards import Shards

#: Bytes of the batches that are read, sent and computed together; at least one batch.
CHUNK = 2**23
#: Chunks that are read before they are asked for.
AHEAD = 2
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
        """Read the batches from iteration `start` on, ahead of their use; records end after `every` iterations."""
        if isinstance(self.data, Shards):
            return _ahead(self._of_shards(start, epochs, every))
        return _ahead(self._of_batches(start, epochs, every))

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
        done, held = 0, []
        for _ in range(epochs):
            before = done
            for given in self.data:
                done += 1
                if done <= start:  # a run that goes on: these are done
                    continue
                batch = self._batch(given)
                if held and [part.shape for part in batch] != [part.shape for part in held[0]]:
                    yield Chunk(self._stacked(held), done - 1, False)
                    held = []
                held.append(batch)
                ends = every is not None and done % every == 0
                if ends or len(held) * sum(part.nbytes for part in batch) >= CHUNK:
                    yield Chunk(self._stacked(held), done, ends)
                    held = []
            if done == before:
                raise ValueError(
                    "data gave no batch in a pass: an iterator can be passed over only once, a list often."
                )
            if held:
                yield Chunk(self._stacked(held), done, False)
                held = []
            if every is None and done > start:
                yield Chunk(None, done, True)
        if every is not None and done % every and done > start:
            yield Chunk(None, done, True)

    def _batch(self, given: Any) -> tuple[Any, Any]:
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise TypeError(f"data must give batches (x, y), but it gives {type(given).__name__}.")
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

    def _stacked(self, held: list) -> tuple[jax.Array, jax.Array]:
        # Batches that are on a device stay there.
        stacks = [jnp.stack(p) if isinstance(p[0], jax.Array) else np.stack(p) for p in zip(*held, strict=True)]
        x, y = (self._put(lambda index, stack=stack: stack[index], stack.shape) for stack in stacks)
        return x, y

    def _cast(self, part: Any) -> Any:
        return part.astype(self.dtype, copy=False) if jnp.issubdtype(part.dtype, jnp.inexact) else part

    def _put(self, get: Callable, shape: tuple[int, ...]) -> jax.Array:
        if self.placed is None:
            return jax.device_put(get((slice(None), slice(None))))
        return jax.make_array_from_callback(shape, self.placed.batches(), get)


_rows = partial(jax.jit, static_argnums=(0, 1))(lambda rows, steps, key, start: rows(key, start, steps, True))


def _ahead(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield the chunks, the next `AHEAD` of them being read by a thread meanwhile."""
    source, end = iter(chunks), object()
    config: Any = jax.config
    x64, device = config.jax_enable_x64, config.jax_default_device  # these belong to a thread

    def following():
        with jax.enable_x64(x64), jax.default_device(device):
            return next(source, end)

    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(following) for _ in range(AHEAD))
        while (chunk := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(following))
            yield chunk  # pyright: ignore[reportReturnType]
