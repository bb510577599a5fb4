"""How a training goes through its data: which batches, how many iterations a call, where records end.

in memory    all rows on the device; many records in a call, whose batches the program draws itself, or the host does
             (`drawing`). Where one call is all, it is a single program, start and all
outside      batches read ahead of their use (`stream`); the programs make the iterations of a chunk
"""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check
from inercia.core.method import Params
from inercia.problems.mapped_files import Shards
from inercia.problems.sampling import Sampler, sampler
from inercia.training import batches, drawing, programs, short_records
from inercia.training.arguments import abstract, struct
from inercia.training.fingerprint import digest_of
from inercia.training.programs import Begin, Segment, Setting, Source
from inercia.training.short_records import Length, Made
from inercia.training.stream import Stream

#: Row numbers that a program draws at a time.
DRAWN = 2**16
#: Chunks of batches from outside that the device has or that wait for it, while another one is read.
AHEAD = 3


class Plan(NamedTuple):
    """The iterations of a training."""

    sampler: Sampler | None  # None: data that give their own batches
    key: Any
    epochs: int
    every: int | None  # iterations between records; None: a pass over data that give their own batches
    save_every: int | None
    total: int | None  # iterations; None where the data do not tell

    def records_end(self, done: int) -> bool:
        """Whether a record of full length ends after `done` iterations."""
        return done % (self.every or 1) == 0

    def saves(self, done: int) -> bool:
        """Whether a checkpoint is due after `done` iterations."""
        return self.records_end(done) and done % (self.save_every or 1) == 0


class Supply(NamedTuple):
    """Data, and how the training goes through them."""

    batch: Any  # one, in the abstract
    source: Source
    digest: Callable[[], str]  # of all data that can be read now
    segments: Callable[..., Iterator[Made]]  # carry, start -> what has been made, segment by segment
    at_once: Callable[[Begin], Made] | None  # begin -> all of it; None where that is not one call
    passed: Callable[[], str]  # digest of the batches so far, of data that can be read only as the training goes
    expect: Callable[[int, str], None]  # what `passed` must be after so many iterations


def plan_of(
    data: Any, name: str, batch_size: int | None, key: Any, epochs: int, every: int | None, save_every: int | None
) -> Plan:
    """Return the plan, or raise on sizes that do not suit the data."""
    drawn = _sampler_of(data, name, batch_size, key)
    every, save_every = _records(every, save_every, drawn)
    lengths = drawn.epoch if drawn else len(data) if hasattr(data, "__len__") else None
    return Plan(drawn, key, epochs, every, save_every, None if lengths is None else epochs * lengths)


def is_in_memory(data: Any) -> bool:
    """Whether data are a tree of arrays, and not batches to go through: a list of tuples or dicts is batches."""
    if isinstance(data, list):
        return not (data and all(isinstance(batch, tuple | list | dict) for batch in data))
    return isinstance(data, np.ndarray | jax.Array | tuple | dict)


def from_memory(
    setting: Setting, plan: Plan, params: Params, data: Any, held_out: Any, records: int | None, saved: bool,
    told: bool = False,
) -> Supply:  # fmt: skip
    """Hold all rows on the device; at most `records` records a call, all of them where it is None.

    Where the host is told of each record, short ones share a call all the same.
    """
    drawn, total, every = plan.sampler, plan.total, plan.every
    assert drawn is not None
    assert total is not None
    assert every is not None
    by_host = setting.placement is None and drawing.suits_host(drawn, plan.key, params)
    cut = partial(_cut, total=total, every=every, records=records or -(-total // every), drawn=drawn, by_host=by_host)
    first = next(cut(0))[1]
    ahead = drawing.Ahead(drawn, plan.key, total, first.iterations) if by_host else None
    rows = None if by_host else drawn.rows
    is_one_call = first.iterations == total and setting.placement is None and not saved
    data = batches.cast(data, jnp.result_type(*jax.tree.leaves(params)))
    data = data if is_one_call else jax.tree.map(jnp.asarray, data)  # that call takes it there
    if hasattr(setting.objective.loss, "check"):
        setting.objective.loss.check(abstract(params), data)
    batch = jax.tree.map(lambda part: struct((drawn.batch_size, *part.shape[1:]), part.dtype), data)
    asked = setting.objective.takes_key or not by_host  # a key that no program reads is one more to hand over
    source = Source(data, plan.key if asked else None, held_out)
    if setting.placement is not None:
        source = setting.placement.put(source, setting.placement.replicated(source))

    def given(start, iterations):
        return None if ahead is None else ahead.rows(start, iterations)

    def at_once(begin):
        return Made(total, *programs.at_once(setting, rows, first, begin, source, given(0, first.iterations)))

    def segments(carry, start):
        if told and short_records.suits(setting, carry, every * drawn.batch_size):
            length = Length(min(short_records.MOST, max(1, total // every)), every, every % drawn.epoch == 0)
            due, end = plan.save_every if saved and plan.save_every else total, total - total % every
            for made in short_records.calls(setting, rows, given, length, due, source, carry, start, end):
                yield made
                carry, start = made.carry, made.done
        sent: deque[Any] = deque(maxlen=AHEAD)
        for now, segment in cut(start):
            selected = given(now, segment.iterations)
            if ahead is not None and len(sent) == AHEAD:
                jax.block_until_ready(sent[0])  # or the host would draw all of the training's batches first
            with warnings.catch_warnings():
                # Where only hyperparameters are mapped, the unmapped start cannot become the mapped result.
                warnings.filterwarnings("ignore", "Some donated buffers were not usable")
                made = programs.in_memory(setting, rows, segment, carry, source, np.int32(now), selected)
            carry, recorded, diverged = made
            sent.append(recorded.loss)
            yield Made(now + segment.iterations, carry, recorded, diverged)

    whole = at_once if is_one_call else None
    return Supply(batch, source, partial(digest_of, data), segments, whole, str, lambda start, passed: None)


def from_outside(setting: Setting, plan: Plan, params: Params, data: Any, held_out: Any, saved: bool) -> Supply:
    """Read the batches ahead of their use; a segment is one record. Where it is saved, what passes is digested."""
    dtype = jnp.result_type(*jax.tree.leaves(params))
    loss, placement = setting.objective.loss, setting.placement
    judge = partial(loss.check, abstract(params)) if hasattr(loss, "check") else None
    stream = Stream(data, plan.sampler, plan.key, dtype, placement, judge, saved)
    source = Source(None, plan.key, held_out)
    if placement is not None:
        source = placement.put(source, placement.replicated(source))

    def segments(carry, start):
        losses, aux = [], []
        sent: deque[Any] = deque(maxlen=AHEAD)
        done = start
        for chunk in stream.chunks(start, plan.epochs, plan.every):
            if chunk.batches is not None:
                if len(sent) == AHEAD:
                    jax.block_until_ready(sent[0])
                carry, values = programs.on_batches(setting, carry, source, chunk.batches, np.int32(done))
                sent.append(values[0])
                losses.append(values[0])
                aux.append(values[1])
                done = chunk.done
            if chunk.ends:
                best, recorded = programs.at_record(setting, carry, source, np.int32(done), losses, aux)
                carry = carry._replace(best=best)
                yield Made(done, carry, recorded, None)
                losses, aux = [], []

    return Supply(stream.batch, source, stream.digest, segments, None, stream.passed, stream.expect)


def _sampler_of(data: Any, name: str, batch_size: int | None, key: Any) -> Sampler | None:
    """Return the sampler over the rows of data, or None for data that give their own batches."""
    if is_in_memory(data) or isinstance(data, Shards):
        if key is None:
            raise TypeError("train needs a key, for example key=0: it fixes all batches.")
        if isinstance(data, Shards) and name == "full":
            raise ValueError(
                "sampler 'full' holds all rows at once, which shards are there to avoid: choose 'shuffle'."
            )
        return sampler(name, len(data) if isinstance(data, Shards) else batches.rows(data), batch_size)
    if not isinstance(data, Iterable) or isinstance(data, str):
        raise TypeError(f"data must be a pair (x, y), shards or an iterable of batches, not {type(data).__name__}.")
    if batch_size is not None:
        raise ValueError("data that give their own batches also fix their size: leave batch_size out.")
    return None


def _records(every: int | None, save_every: int | None, drawn: Sampler | None) -> tuple[int | None, int | None]:
    """Return the iterations between records and between saves."""
    if every is None and drawn is None:
        if save_every is not None:
            raise ValueError("save_every counts iterations: where data give their own batches, pass every too.")
        return None, None
    every = drawn.epoch if every is None and drawn else check.integer("every", every)
    save_every = every if save_every is None else check.integer("save_every", save_every)
    if save_every % every:
        raise ValueError(f"save_every must be a multiple of every, but save_every = {save_every} and every = {every}.")
    return every, save_every


def _cut(
    start: int, total: int, every: int, records: int, drawn: Sampler, by_host: bool
) -> Iterator[tuple[int, Segment]]:
    """Cut the iterations into segments of at most `records` records, each with the iteration it starts at."""
    complete, rest = divmod(total, every)
    most = max(1, (drawing.DRAWN if by_host else DRAWN) // (every * drawn.batch_size))
    most = most if drawn.rows else max(1, complete)  # where all rows are a batch nothing is drawn
    record = start // every
    while record < complete:
        end = min(record + records - record % records, complete)  # a run that goes on cuts where the first one did
        equal = _equal_parts(end - record, most) if by_host else most
        while record < end:
            size = min(equal, end - record)
            blocks = 1 if by_host else max(1, (end - record) // most)
            aligned = record * every % drawn.epoch == 0 and (blocks * size == 1 or every % drawn.epoch == 0)
            aligned = by_host or aligned  # which only a program that draws asks
            yield record * every, Segment(blocks, size, every, aligned)
            record += blocks * size
    if rest:
        yield complete * every, Segment(1, 1, rest, by_host or complete * every % drawn.epoch == 0)


def _equal_parts(count: int, most: int) -> int:
    """Return the size of the parts, at most `most`, that `count` is cut into; equal ones, if they need not be small."""
    largest = min(count, most)
    return next((size for size in range(largest, largest // 4, -1) if count % size == 0), largest)
