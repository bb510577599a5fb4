"""Checkpoints of a training, from which it goes on as if it had never stopped.

A checkpoint holds params, state and history after some iteration, and a fingerprint of everything else that decides
the run: method, loss, data, key, batches. Key and iteration fix all later batches, so that nothing else is needed.

Orbax writes it, into a temporary folder that is renamed when it is complete: in a thread, while the run goes on; a save
waits for the one before, and the end of a run for the last. A checksum of the numbers is kept beside
them: a checkpoint that does not read, or reads as other numbers, is passed over for the one before.
"""

import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check
from inercia.training import hosts
from inercia.training.fingerprint import TRACED, is_key, plain
from inercia.training.placement import Placement


class Checkpoints:
    """The checkpoints of one training, in one folder."""

    def __init__(self, folder: Any, keep: int, fingerprint: dict[str, str], placement: Placement | None = None) -> None:
        try:
            import orbax.checkpoint as ocp  # noqa: PLC0415  an extra, and slow to load
        except ImportError:
            raise ImportError("checkpoints need orbax: pip install 'inercia[checkpoint]'.") from None
        self.ocp, self.folder, self.fingerprint = ocp, Path(folder).absolute(), fingerprint
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"checkpoint must be a folder, but {self.folder} is a file.")
        self.placement, self.several = placement, placement is not None and placement.mesh.is_multi_process
        writes = hosts.is_main_process() or not self.several
        if writes:
            self.folder.mkdir(parents=True, exist_ok=True)
        self.agreed(0)  # the folder is there
        own = jax.process_index()  # each process reads on its own, and process 0 alone writes
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=writes,
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(own, {own}, f"process{own}"),
        )
        self.manager = ocp.CheckpointManager(self.folder, options=options)
        self.saved: int | None = None
        self.thread = ThreadPoolExecutor(1, "checkpoint")
        self.written: Future | None = None  # what the thread is at

    def restore(self, carry: Any, history: Any) -> tuple[int, Any, Any, str] | None:
        """Return the newest sound checkpoint, or None where there is none.

        It is (iterations done, carry, history, digest of the batches so far).

        Args:
            carry: params and state, for structure, shapes, dtypes and shardings.
            history: its structure; the lengths are the checkpoint's.

        Raises:
            ValueError: the checkpoint is another run's; or there are some, and none of them can be read.
        """
        steps = sorted(self.manager.all_steps(), reverse=True)
        if self.several and self.agreed(sum(steps)) != -self.agreed(-sum(steps)):
            raise ValueError(
                f"all processes must see the same checkpoints, on a file system they share: {self.folder}."
            )
        for step in steps:
            meta = self._sound(step, partial(self._read, step, "meta", self.ocp.args.JsonRestore()))
            if meta is None:
                continue
            self._compare(meta["fingerprint"])
            found = self._sound(step, partial(self._numbers, step, meta, carry))
            if found is None:
                continue
            leaves, kept = found
            for damaged in steps[: steps.index(step)]:  # only now: where none is sound, nothing is removed
                if hosts.is_main_process() or not self.several:
                    self.manager.delete(damaged)
            carry = jax.tree.unflatten(jax.tree.structure(carry), _typed(leaves, carry))
            self.saved = step
            return step, carry, jax.tree.unflatten(jax.tree.structure(history), kept), meta["passed"]
        if steps:
            raise ValueError(
                f"none of the {len(steps)} checkpoints in {self.folder} can be read: move the folder away to start "
                "from the beginning."
            )
        return None

    def save(self, step: int, carry: Any, records: list, passed: str) -> None:
        """Save after `step` iterations, once; where that fails the run goes on and the checkpoints before stay.

        One process alone copies the numbers, and a thread writes the copy while the run goes on; `wait` waits for it.

        Args:
            step: iterations done.
            carry: params and state.
            records: the parts of the history.
            passed: digest of the batches so far.
        """
        if step == self.saved:
            return
        self.saved = step
        leaves = _stored(carry)
        if not self.several:
            self.wait()  # one at a time: on a slow disk the run waits, and nothing piles up
            self.written = self.thread.submit(self.write, step, _copied(leaves), list(records), passed)
            return
        checksum = _sums(leaves)
        leaves = [hosts.gathered(leaf) for leaf in leaves]
        if hosts.is_main_process():
            self._tell(self.write(step, leaves, records, passed, checksum))

    def wait(self) -> None:
        """Wait until what is to be saved is on the disk, and tell of a failure."""
        written, self.written = self.written, None
        if written is not None:
            self._tell(written.result())

    def write(self, step: int, leaves: list, records: list, passed: str, sums: Any = None) -> str | None:
        """Write a checkpoint; return what is to be told where that fails."""
        try:
            parts = zip(*([np.asarray(leaf) for leaf in jax.tree.leaves(record)] for record in records), strict=True)
            rows = [np.concatenate(part) for part in parts]
            empty = {str(i): (list(row.shape), str(row.dtype)) for i, row in enumerate(rows) if not row.size}
            meta = {
                "fingerprint": self.fingerprint, "checksum": _checksum(sums or _sums(leaves), rows), "passed": passed,
                "empty": empty,
            }  # fmt: skip
            items = self.ocp.args.Composite(
                arrays=self.ocp.args.StandardSave({"carry": leaves}),
                rows=self.ocp.args.StandardSave({str(i): leaf for i, leaf in enumerate(rows) if leaf.size}),
                meta=self.ocp.args.JsonSave(meta),
            )
            self.manager.save(step, args=items, force=True)
        except Exception as error:  # a full disk shows itself as many kinds of error
            last = self.manager.latest_step()
            held = "there is none before it" if last is None else f"the one of iteration {last} stays"
            return (
                f"the checkpoint of iteration {step} could not be saved in {self.folder}: {_short(error)}; {held}, and "
                "the training goes on."
            )
        return None

    def _tell(self, failure: str | None) -> None:
        if failure is not None:
            warnings.warn(failure, check.InerciaWarning, stacklevel=4)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait()
        finally:
            self.thread.shutdown()
            self.manager.close()

    def agreed(self, value: int) -> int:
        """Return the largest value that a process of this run gives."""
        return hosts.largest(value) if self.several else value

    def _sound(self, step: int, read: Callable[[], Any]) -> Any:
        """Return what `read` returns, or None, having said so, where it raises in this or another process."""
        try:
            found, error = read(), None
        except Exception as raised:  # whatever a damaged file makes the reader raise
            found, error = None, raised
        if self.agreed(int(error is not None)):
            self._damaged(step, error or ValueError("another process cannot read it"))
            return None
        return found

    def _numbers(self, step: int, meta: Any, carry: Any) -> tuple[list, list]:
        model = _stored(carry)
        shardings = [leaf.sharding for leaf in model]
        where = [None] * len(model) if self.several else shardings
        abstract = [jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=s) for p, s in zip(model, where, strict=True)]
        leaves = self._read(step, "arrays", self.ocp.args.StandardRestore({"carry": abstract}))["carry"]
        if self.several:
            assert self.placement is not None
            leaves = self.placement.put([np.asarray(leaf) for leaf in leaves], shardings)
        rows = self._read(step, "rows", self.ocp.args.StandardRestore())
        empty = {name: np.zeros(shape, dtype) for name, (shape, dtype) in meta["empty"].items()}
        kept = [np.asarray((rows | empty)[str(i)]) for i in range(len(rows) + len(empty))]
        if _checksum(_sums(leaves), kept) != meta["checksum"]:
            raise ValueError("its checksum does not match")
        return leaves, kept

    def _read(self, step: int, item: str, how: Any) -> Any:
        return self.manager.restore(step, args=self.ocp.args.Composite(**{item: how}))[item]

    def _damaged(self, step: int, error: Exception) -> None:
        warnings.warn(
            f"the checkpoint of iteration {step} in {self.folder} is damaged ({_short(error)}): the one before is used "
            "and this one removed, if that one is sound.",
            check.InerciaWarning,
            stacklevel=4,
        )

    def _compare(self, saved: dict[str, str]) -> None:
        for name, now in self.fingerprint.items():
            before = saved.get(name, "unknown")
            traced = before.startswith(TRACED) and now.startswith(TRACED) and saved["jax"] != self.fingerprint["jax"]
            if before != now and name != "jax" and not traced:  # another JAX traces the same function otherwise
                raise ValueError(
                    f"the checkpoint in {self.folder} belongs to another run: its {name} was {before}, and now it is "
                    f"{now}. Restore what it was, or choose another folder."
                )


def _stored(tree: Any) -> list:
    """Return the leaves that are stored: those with numbers in them, which is all that Orbax can write."""
    return [leaf for leaf in plain(tree) if leaf.size]


def _typed(stored: list, like: Any) -> list:
    """Return all leaves, as `like` has them, of those that were stored."""
    numbers = iter(stored)
    return [
        model if not model.size else jax.random.wrap_key_data(next(numbers)) if is_key(model) else next(numbers)
        for model in jax.tree.leaves(like)
    ]


@jax.jit
def _sums(leaves: list) -> list:
    """Return two sums of each leaf's words, weighted by place: the same however the leaf is cut over devices."""

    def sums(leaf):
        leaf = jnp.stack([leaf.real, leaf.imag]) if jnp.iscomplexobj(leaf) else leaf
        leaf = leaf.astype(jnp.uint8) if leaf.dtype == bool else leaf
        words = jax.lax.bitcast_convert_type(leaf, {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32))
        words = words.astype(jnp.uint32).ravel()
        place = jnp.arange(words.size, dtype=jnp.uint32)
        mixed = (words ^ (words >> 15)) * (place * jnp.uint32(2654435761) | 1)
        return jnp.stack([jnp.sum(words * (2 * place + 1)), jnp.sum(mixed ^ (mixed >> 13))])

    return [sums(leaf) for leaf in leaves]


@jax.jit
def _copied(leaves: list) -> list:
    """Return copies: the run goes on in the buffers of the leaves."""
    return [jnp.copy(leaf) for leaf in leaves]


def _checksum(sums: list, rows: list[np.ndarray]) -> list:
    return [*(np.asarray(pair).tolist() for pair in sums), *(zlib.crc32(row.tobytes()) for row in rows)]


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
