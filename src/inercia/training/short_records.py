"""Short records: many in a call of the device, told to the host one after the other.

A call, and the host's look at what it made, take as long as a tenth of an epoch of few rows. So a call makes as many
records as take about `AIM` seconds. Where the host asks for the params at one of them, or stops there, the call is made
again up to that record, from the same start by the same program; who asks for params is told each record then.
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
    program, done, count, asked = partial(_several, setting, draw, length), begin, 1, []
    while done < end:
        began = time.perf_counter()
        count = min(count, (min(end, done - done % due + due) - done) // length.iterations)
        selected = given(done, count * length.iterations)
        if selected is not None:
            rest = (length.most - count) * length.iterations
            selected = np.concatenate([selected, np.zeros((rest, *selected.shape[1:]), selected.dtype)])
        call = partial(program, carry, source, np.int32(done), selected)
        carry, recorded, diverged = call(np.int32(count))
        done += count * length.iterations
        if check.is_concrete(carry):  # else `Run` tells that the host sees nothing
            recorded = jax.tree.map(lambda leaf, n=count: np.asarray(leaf)[:n], recorded)

        def after(records, call=call, last=count, made=carry):
            asked.append(records)
            return made if records == last else call(np.int32(records))[0]

        yield Made(done, carry, recorded, diverged, after)
        count = 1 if asked else max(1, min(length.most, int(AIM * count / (time.perf_counter() - began))))


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
