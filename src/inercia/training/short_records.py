"""Short records: many in a call of the device, told to the host one after the other.

A call, and the host's look at what it made, take as long as a tenth of an epoch of few rows. So a call makes as many
records as take about `AIM` seconds, and the next one is at work while the host is told of them. Where the host asks
for the params at one of them, or stops there, the call is made again up to that record, from the same start by the same
program; who asks for params is told each record then, and what was made ahead is dropped.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check
from inercia.core.convolutions import fast_convolutions
from inercia.training.programs import Carry, History, Setting, Source, divergence, first_bad, numbers, recorder

#: Most records of a call, and seconds that it should take.
MOST, AIM = 32, 0.1
#: Row numbers of a record from which on each has a call of its own.
LONG = 2**17
#: Bytes of params and state, which a call leaves as they are, up to which it makes several records.
SMALL = 2**26


class Made(NamedTuple):
    """What a training stands at after a call."""

    done: int  # iterations
    carry: Carry
    recorded: History  # of this call
    diverged: Any  # as `programs.divergence` gives it; None where it was not asked
    after: Callable[[int], Carry] | None = None  # the carry after so many of its records, where there are several


class Length(NamedTuple):
    """The size of the records: static, one program each."""

    most: int  # records of a call
    iterations: int  # of a record
    aligned: bool  # whether a record is whole epochs


def suits(setting: Setting, carry: Carry, row_numbers: int) -> bool:
    """Whether a call may make several records: they are short, and the params few, concrete and on one device."""
    if setting.placement is not None or row_numbers > LONG or not check.is_concrete(carry):
        return False
    return sum(leaf.nbytes for leaf in jax.tree.leaves(carry)) <= SMALL


def calls(
    setting: Setting, draw: Any, given: Any, length: Length, due: int, source: Source, carry: Carry, begin: int,
    end: int,
) -> Iterator[Made]:  # fmt: skip
    """Make the records from iteration `begin` to `end`.

    Args:
        setting: of the program.
        draw: draws a record's row numbers in the program; None where they are given.
        given: (first, iterations) -> row numbers that the host draws, or None.
        length: of the records.
        due: iterations after whose multiples a call ends.
        source: the data.
        carry: at iteration `begin`.
        begin: where the records begin.
        end: where the last one ends.
    """
    asked: list[int] = []

    def make(carry, begin, count):
        count = min(count, (min(end, begin - begin % due + due) - begin) // length.iterations)
        selected = _lengthened(given(begin, count * length.iterations), length.most * length.iterations)
        call = partial(_several, setting, draw, length, carry, source, np.int32(begin), selected)
        return _Call(call, count, begin + count * length.iterations, *call(np.int32(count)))

    now, ahead, count = make(carry, begin, 1) if begin < end else None, None, 1
    began = time.perf_counter()  # now that it is compiled
    while now is not None:
        carry, done = now.carry, now.done
        if count > 1 and done < end:
            ahead = make(carry, done, count)  # which the device is at while the host is told
        yield now.made(asked)
        elapsed, began = time.perf_counter() - began, time.perf_counter()
        count = 1 if asked else max(1, min(length.most, int(AIM * now.count / elapsed)))
        now, ahead = None if asked else ahead, None
        if now is None and done < end:
            now = make(carry, done, count)


class _Call(NamedTuple):
    """A call that the device was given."""

    call: Callable[[Any], tuple[Carry, History, jax.Array]]  # records -> what so many make from the same start
    count: int  # records
    done: int  # iterations, after it
    carry: Carry
    recorded: History
    diverged: jax.Array

    def made(self, asked: list[int]) -> Made:
        """Wait for it, and return what it made; `asked` collects the records whose carry is asked for."""
        recorded = self.recorded
        if check.is_concrete(self.carry):  # else `Run` tells that the host sees nothing
            recorded = jax.tree.map(lambda leaf: np.asarray(leaf)[: self.count], recorded)

        def after(records):
            asked.append(records)
            return self.carry if records == self.count else self.call(np.int32(records))[0]

        return Made(self.done, self.carry, recorded, self.diverged, after)


def _lengthened(selected: np.ndarray | None, length: int) -> np.ndarray | None:
    """Return row numbers of `length` iterations, zeros after those given."""
    if selected is None:
        return None
    return np.concatenate([selected, np.zeros((length - len(selected), *selected.shape[1:]), selected.dtype)])


@partial(jax.jit, static_argnums=(0, 1, 2))
@fast_convolutions
def _several(
    setting: Setting, draw: Callable | None, length: Length, carry: Carry, source: Source, start: Any, given: Any,
    count: Any,
) -> tuple[Carry, History, jax.Array]:  # fmt: skip
    """Make `count` records, as `in_memory` does; the history's arrays are as long as the most that a call makes."""
    _, record = recorder(setting, source, length.iterations)
    held = (carry.params, carry.state, carry.model_state, carry.best)
    firsts = start + length.iterations * jnp.arange(length.most, dtype=jnp.int32)

    def make(held, now):
        first, selected = now
        selected = selected if draw is None else draw(source.key, first, length.iterations, length.aligned)
        return record(held, (selected, numbers(setting, first, length.iterations)))

    def one(held, now):
        r, *now = now
        skip = lambda held, now: (held, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), form))  # noqa: E731
        return jax.lax.cond(r < count, make, skip, held, now)

    if given is not None:
        given = given.reshape(length.most, length.iterations, *given.shape[1:])
    form = jax.eval_shape(make, held, jax.tree.map(lambda leaf: leaf[0], (firsts, given)))[1]
    (*after, best), (losses, aux, seen) = jax.lax.scan(one, held, (jnp.arange(length.most), firsts, given))
    history = History(firsts + length.iterations, losses.mean(axis=1), seen[0], aux, seen[1])
    params, state, model_state = after
    carry = Carry(params, state, model_state, first_bad(carry, losses, start), best)
    return carry, history, divergence(carry, start + count * length.iterations)
