"""The compiled programs of a training: one iteration, and segments of many.

    theta_{k+1}, s_{k+1} = theta_k + update(grad loss(theta_k, batch_k), s_k, theta_k)

A segment runs on the device without a return to the host; params and state live in buffers that each segment hands to
the next (donation). Whatever changes an iteration changes `iteration` alone: both kinds of segment are scans of it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from inercia.core import check
from inercia.core.convolutions import fast_convolutions
from inercia.core.method import Params, State
from inercia.core.optimizer_state import keeps_form, updated
from inercia.training.objective import Objective, key_of_losses
from inercia.training.own_copies import carried, own
from inercia.training.placement import Placement


class Best(NamedTuple):
    """Where the validation metric was least so far."""

    metric: jax.Array  # scalar
    params: Params
    model_state: Any


class Carry(NamedTuple):
    """What one segment hands to the next."""

    params: Params
    state: State
    model_state: Any  # None where the loss has none
    diverged: jax.Array  # int32 scalar: first iteration whose loss was not finite; -1 if none
    best: Best | None  # None where nothing is kept


class Setting(NamedTuple):
    """What a program is compiled for: equal settings share one."""

    method: optax.GradientTransformation
    objective: Objective
    evaluate: Callable | None  # params[, model_state] -> tree
    validation: Callable | None  # params[, model_state] -> number; or of the held-out batch
    placement: Placement | None


class Begin(NamedTuple):
    """What a training begins with, in the caller's buffers."""

    params: Params
    state: Any  # None: `method.init(params)`
    model_state: Any
    keeps_best: bool


class Segment(NamedTuple):
    """The iterations of one call on data in memory."""

    blocks: int
    records: int  # of a block, whose row numbers are drawn together
    length: int  # iterations of a record
    aligned: bool  # whether each block starts with an epoch

    @property
    def iterations(self) -> int:
        """Return how many iterations the segment makes."""
        return self.blocks * self.records * self.length


class Source(NamedTuple):
    """What a program reads and does not change."""

    rows: Any  # all rows in memory; None where batches come from outside
    key: Any  # fixes the batches and the keys of the loss; None where neither needs one
    held_out: Any  # the batch of the validation; None where it is a function of the params


class History(NamedTuple):
    """What was recorded; leading axis = records."""

    step: jax.Array  # (records,) int32, iterations done
    loss: jax.Array  # (records,), mean loss of the batches since the record before, each before its update
    evaluate: Any  # tree of (records, ...): evaluate(params) at the record; None without evaluate
    aux: Any = None  # tree of (records, ...): mean of the loss's aux since the record before; None without has_aux
    validation: Any = None  # (records,): the validation metric at the record; None without validation


def initial(setting: Setting, source: Source, begin: Begin) -> Carry:
    """Return the carry of the first segment, in buffers of its own because the segment consumes them."""
    given = tuple(begin[:3])
    if setting.placement is not None:
        given = setting.placement.put(given, setting.placement.of_carry(given))
    return _copied(setting, begin.keeps_best, source, *given)


@partial(jax.jit, static_argnums=(0, 1))
def _copied(setting: Setting, keeps_best: bool, source: Source, params: Any, state: Any, model_state: Any) -> Carry:
    state = setting.method.init(params) if state is None else state
    best = None
    if keeps_best:
        metric: Any = jax.eval_shape(partial(_validated, setting), source, params, model_state)
        best = Best(jnp.full((), jnp.inf, metric.dtype), params, model_state)
    carry = Carry(params, state, model_state, jnp.int32(-1), best)
    return _constrained(setting, jax.tree.map(jnp.copy, carry))


def iteration(setting: Setting) -> Callable[[tuple, tuple], tuple[tuple, tuple]]:
    """Return one iteration: (params, state, model_state), (batch, key) -> the same, (loss before the update, aux)."""
    objective = setting.objective
    gradient = jax.value_and_grad(objective, has_aux=True)

    def step(carry, given):
        (params, state, before), (batch, key) = carry, given
        batch = batch if setting.placement is None else setting.placement.shard_batch(batch)
        params = own(params, lambda: objective(params, before, batch, key)[0])
        (value, (aux, after)), grads = gradient(params, before, batch, key)
        grads = jax.tree.map(jnp.conj, grads)  # the direction of ascent of complex params
        loss = lambda p: objective.value(p, before, batch, key)  # noqa: E731
        with check.compiled("the update", "in a schedule, compute with jax.numpy and choose with jnp.where"):
            updates, moved = updated(setting.method, loss, params, state, value, grads)
        keeps_form(state, moved)
        return _constrained(setting, (optax.apply_updates(params, updates), moved, after)), (value, aux)

    return step


def recorder(setting: Setting, source: Source, length: int) -> tuple[Callable, Callable]:
    """Return one iteration on data in memory, and a record of `length`, which sees at its end and keeps the best."""
    one = iteration(setting)

    def step(carry, now):
        selected, k = now
        batch = source.rows if selected is None else jax.tree.map(lambda part: part[selected], source.rows)
        return one(carry, (batch, _key(setting, source, k)))

    def record(carry, now):
        *carry, best = carry
        carry, (losses, aux) = jax.lax.scan(step, tuple(carry), now, length)
        best, seen = _seen(setting, source, carry, best)
        return (*carry, best), (losses, _mean(aux), seen)

    return step, record


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
@fast_convolutions
def in_memory(
    setting: Setting, rows: Callable | None, segment: Segment, carry: Carry, source: Source, start: Any, given: Any
) -> tuple[Carry, History, jax.Array]:
    """Make the iterations of a segment, from iteration `start` on; return its `divergence` too.

    Their batches are those rows of the source that `rows` draws; or that are given, (iterations, batch) of one block.
    """
    blocks, records, length, aligned = segment
    step, record = recorder(setting, source, length)

    def drawn(first, count):
        return given if rows is None else rows(source.key, first, count, aligned), numbers(setting, first, count)

    def block(carry, first):
        # Drawn for all of the block at once: many small draws would cost more than the steps.
        steps = drawn(first, records * length)
        if not _looks(setting, source):  # nothing happens between records: one loop is faster than a loop of loops
            after, (losses, _) = jax.lax.scan(step, carry[:3], steps, records * length)
            return (*after, carry[3]), (losses, None, (None, None))
        steps = jax.tree.map(lambda part: part.reshape(records, length, *part.shape[1:]), steps)
        return jax.lax.scan(record, carry, steps, records)

    firsts = start + records * length * jnp.arange(blocks, dtype=jnp.int32)
    held = carried(step, carry[:3], lambda: drawn(start, 1))
    (*after, best), (losses, aux, seen) = jax.lax.scan(block, (*held, carry.best), firsts)
    losses = losses.reshape(blocks * records, length)
    aux, seen = jax.tree.map(lambda leaf: leaf.reshape(blocks * records, *leaf.shape[2:]), (aux, seen))
    steps = start + length * jnp.arange(1, 1 + blocks * records, dtype=jnp.int32)
    history = _replicated(setting, History(steps, losses.mean(axis=1), seen[0], aux, seen[1]))
    params, state, model_state = after
    carry = Carry(params, state, model_state, first_bad(carry, losses, start), best)
    return carry, history, divergence(carry, start + segment.iterations)


def at_once(
    setting: Setting, rows: Callable | None, segment: Segment, begin: Begin, source: Source, given: Any
) -> tuple[Carry, History, jax.Array]:
    """Make the iterations of a training that is one segment: `in_memory` from `initial`, in one program."""
    return _at_once(setting, begin.keeps_best, rows, segment, *begin[:3], source, given)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _at_once(setting, keeps_best, rows, segment, params, state, model_state, source, given):
    carry = _copied(setting, keeps_best, source, params, state, model_state)
    return in_memory(setting, rows, segment, carry, source, jnp.int32(0), given)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
@fast_convolutions
def on_batches(
    setting: Setting, carry: Carry, source: Source, batches: Any, start: jax.Array
) -> tuple[Carry, tuple[jax.Array, Any]]:
    """Make one iteration for each of the stacked batches; return their losses and aux too."""

    one = iteration(setting)

    def step(carry, given):
        batch, k = given
        return one(carry, (batch, _key(setting, source, k)))

    given = (batches, numbers(setting, start, len(jax.tree.leaves(batches)[0])))
    held = carried(step, carry[:3], lambda: given)
    (params, state, model_state), (losses, aux) = jax.lax.scan(step, held, given)
    losses, aux = _replicated(setting, (losses, aux))
    return Carry(params, state, model_state, first_bad(carry, losses, start), carry.best), (losses, aux)


@partial(jax.jit, static_argnums=0)
@fast_convolutions
def at_record(
    setting: Setting, carry: Carry, source: Source, done: jax.Array, losses: list, aux: list
) -> tuple[Best | None, History]:
    """End a record after `done` iterations whose losses and aux came in pieces; return the best so far too."""
    best, seen = _seen(setting, source, carry[:3], carry.best)
    mean, aux = _mean(jnp.concatenate(losses)), _mean(jax.tree.map(lambda *parts: jnp.concatenate(parts), *aux))
    history = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], History(done, mean, seen[0], aux, seen[1]))
    return best, _replicated(setting, history)


@jax.jit
def are_finite(params: Params) -> jax.Array:
    """Whether all numbers of the params are."""
    return jnp.all(jnp.array([jnp.isfinite(p).all() for p in jax.tree.leaves(params)]))


@jax.jit
def divergence(carry: Carry, done: jax.Array) -> jax.Array:
    """Return the first iteration whose loss was not finite, or would not be where the params no longer are; else -1."""
    return jnp.where((carry.diverged < 0) & ~are_finite(carry.params), done, carry.diverged)


def _looks(setting: Setting, source: Source) -> bool:
    """Whether something is computed at each record."""
    watched = (setting.evaluate, setting.validation, source.held_out)
    return any(watcher is not None for watcher in watched) or setting.objective.has_aux


def numbers(setting: Setting, first: jax.Array, count: int) -> jax.Array | None:
    """Return the numbers of `count` iterations, where the loss takes a key."""
    return first + jnp.arange(count, dtype=jnp.int32) if setting.objective.takes_key else None


def _key(setting: Setting, source: Source, k: Any) -> Any:
    return jax.random.fold_in(key_of_losses(source.key), k) if setting.objective.takes_key else None


def _seen(setting: Setting, source: Source, carry: Any, best: Best | None) -> tuple[Best | None, tuple[Any, Any]]:
    """Return the best so far, and what evaluate and validation give at a record."""
    params, _, model_state = carry
    arguments = (params, model_state) if setting.objective.has_state else (params,)
    seen = None if setting.evaluate is None else setting.evaluate(*arguments)
    metric = _validated(setting, source, params, model_state)
    if best is not None:
        now, least = Best(metric, params, model_state), best.metric
        best = jax.tree.map(lambda a, b: jnp.where(metric < least, a, b), now, best)
    return best, (seen, metric)


def _validated(setting: Setting, source: Source, params: Params, model_state: Any) -> Any:
    """Return the validation metric; None without one."""
    if source.held_out is not None:
        return setting.objective.value(params, None, source.held_out, None)
    if setting.validation is None:
        return None
    arguments = (params, model_state) if setting.objective.has_state else (params,)
    return jnp.asarray(setting.validation(*arguments))


def _mean(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), tree)


def first_bad(carry: Carry, losses: jax.Array, start: jax.Array) -> jax.Array:
    """Return the first iteration whose loss was not finite, before or among these from `start` on; else -1."""
    bad = ~jnp.isfinite(losses.ravel())
    here = jnp.where(bad.any(), start + jnp.argmax(bad).astype(jnp.int32), -1)
    return jnp.where(carry.diverged < 0, here, carry.diverged)


def _constrained(setting: Setting, carry: Any) -> Any:
    return carry if setting.placement is None else setting.placement.constrain(carry)


def _replicated(setting: Setting, tree: Any) -> Any:
    placement = setting.placement
    return tree if placement is None else jax.lax.with_sharding_constraint(tree, placement.replicated(tree))
