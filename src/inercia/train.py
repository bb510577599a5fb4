"""Training: iterations on batches, whole stretches of epochs compiled into one program.

    theta_{k+1}, s_{k+1} = theta_k + update(grad loss(theta_k, batch_k), s_k, theta_k)

The program runs on the device from record to record without a return to the host; params and state live in buffers
that each stretch hands to the next (donation). It computes in the params' own dtype, and it can be mapped: `jax.vmap`
over keys, over starts and over hyperparameters trains all of them at once.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from tqdm import tqdm

from inercia import check
from inercia.data import checked
from inercia.method import Params, State
from inercia.sampler import Sampler
from inercia.sampler import sampler as make_sampler

#: Row numbers that are drawn at a time.
_BLOCK = 2**16
#: Stretches into which a run with a progress bar is cut.
_STRETCHES = 50


class History(NamedTuple):
    """What was recorded; leading axis = records."""

    step: jax.Array  # (records,) int32, iterations done
    loss: jax.Array  # (records,), mean loss of the batches since the record before, each before its update
    evaluate: Any  # tree of (records, ...): evaluate(params) at the record; None without evaluate


class Result(NamedTuple):
    """A finished training."""

    params: Params
    state: State
    history: History
    diverged: jax.Array  # int32 scalar: first iteration (from 0) whose loss was not finite; -1 if none


def train(
    method: optax.GradientTransformation,
    loss: Any,
    params: Params,
    data: Any,
    *,
    epochs: int,
    key: Any,
    batch_size: int | None = None,
    sampler: str = "shuffle",
    evaluate: Callable[[Params], Any] | None = None,
    every: int | None = None,
    state: State | None = None,
    progress: bool = False,
) -> Result:
    """Train params on data.

    Args:
        method: an inercia method or any optax transformation.
        loss: (params, (x, y)) -> scalar, for example a `risk`.
        params: start; left untouched, the training works on a copy.
        data: (x, y), rows first; floats are cast to the params' dtype.
        epochs: passes over the data; an epoch is N // batch_size iterations of "shuffle", N_b of "partition", 1 of
            "full".
        key: `jax.random.key` that fixes all batches, or a seed.
        batch_size: rows per iteration, in 1..N; may be left out for "full".
        sampler: "shuffle", "partition" or "full", see `inercia.sampler`.
        evaluate: params -> tree of arrays, traced, called at every record; for example the test accuracy.
        every: iterations between records; by default one epoch.
        state: the method's state to start from; by default `method.init(params)`.
        progress: whether to show a bar.

    Returns:
        Result: final params and state, the history, and the iteration of divergence, also announced by an
        `InerciaWarning`.

    Raises:
        ValueError: data that are empty, of unequal lengths or not finite, labels out of range, a batch size outside
            1..N, an unknown sampler, epochs or every below 1, a loss that is not one real number.
        TypeError: integer params.

    Example:
        >>> import inercia, jax
        >>> train, test = inercia.digits()
        >>> network = inercia.mlp([64, 32, 10])
        >>> params = network.init(jax.random.key(0))
        >>> loss = inercia.risk(network, "cross-entropy")
        >>> result = inercia.train(inercia.adam(1e-2), loss, params, train, epochs=5, batch_size=64, key=1)
        >>> float(inercia.accuracy(network)(result.params, test)) > 0.9
        True
    """
    check.differentiable("params", params)
    x, y = checked(data)
    epochs = check.whole("epochs", epochs)
    batches = make_sampler(sampler, len(x), batch_size)
    every = batches.epoch if every is None else check.whole("every", every)
    dtype = jnp.result_type(*jax.tree.leaves(params))
    x, y = (jnp.asarray(part, dtype if jnp.issubdtype(part.dtype, jnp.inexact) else None) for part in (x, y))
    if hasattr(loss, "check"):
        loss.check(params, (x, y))
    batch = [jax.ShapeDtypeStruct((batches.batch_size, *part.shape[1:]), part.dtype) for part in (x, y)]
    check.loss_of(loss, params, tuple(batch))

    total = epochs * batches.epoch
    key = jax.random.key(key) if isinstance(key, int) else key
    carry = _begin(method, params, state)
    run = partial(_stretch, method, loss, evaluate, batches.rows)
    pieces = []
    with tqdm(total=total, disable=not progress, unit="it", desc="train") as bar:
        for start, blocks, records, length in _plan(total, every, _STRETCHES if progress else 1, batches):
            aligned = start % batches.epoch == 0 and (blocks * records == 1 or length % batches.epoch == 0)
            with warnings.catch_warnings():
                # Where only hyperparameters are mapped, the unmapped start cannot become the mapped result.
                warnings.filterwarnings("ignore", "Some donated buffers were not usable")
                carry, recorded = run(blocks, records, length, aligned, carry, x, y, key, jnp.int32(start))
            pieces.append(recorded)
            if progress and check.known(recorded):
                bar.set_postfix(loss=f"{float(recorded.loss[-1]):.4g}", refresh=False)
                bar.update(blocks * records * length)
                if int(carry[2]) >= 0:
                    break
    params, state, diverged = carry
    history = jax.tree.map(lambda *parts: jnp.concatenate(parts), *pieces) if len(pieces) > 1 else pieces[0]
    if check.known(diverged) and int(diverged) >= 0:
        warnings.warn(
            f"training diverged: the loss of iteration {int(diverged)} of {total} is not finite; try a smaller "
            "learning rate.",
            check.InerciaWarning,
            stacklevel=2,
        )
    return Result(params, state, history, diverged)


def _plan(total: int, every: int, stretches: int, batches: Sampler) -> list[tuple[int, int, int, int]]:
    """Cut `total` iterations into calls (start, blocks, records per block, iterations per record)."""
    whole, rest = divmod(total, every)
    size = -(-whole // stretches) if whole else 1
    most = max(1, _BLOCK // (every * batches.batch_size))
    calls = []
    for first in range(0, whole, size):
        blocks, left = divmod(min(size, whole - first), most)
        calls += [(first * every, blocks, most, every)] if blocks else []
        calls += [((first + blocks * most) * every, 1, left, every)] if left else []
    return calls + ([(whole * every, 1, 1, rest)] if rest else [])


@partial(jax.jit, static_argnums=0)
def _begin(method, params, state):
    """Return the carry of the first stretch, in buffers of its own because the stretch consumes them."""
    return jax.tree.map(jnp.copy, (params, method.init(params) if state is None else state, jnp.int32(-1)))


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5, 6, 7), donate_argnums=8)
def _stretch(method, loss, evaluate, rows, blocks, records, length, aligned, carry, x, y, key, start):
    gradient = jax.value_and_grad(loss)
    update = optax.with_extra_args_support(method).update

    def step(carry, selected):
        params, state = carry
        batch = (x, y) if selected is None else (x[selected], y[selected])
        value, grads = gradient(params, batch)
        grads = jax.tree.map(jnp.conj, grads)  # the direction of ascent of complex params
        updates, state = update(grads, state, params, value=value, grad=grads, value_fn=lambda p: loss(p, batch))
        return (optax.apply_updates(params, updates), state), value

    def record(carry, selected):
        carry, losses = jax.lax.scan(step, carry, selected, length)
        return carry, (losses, evaluate(carry[0]))

    def block(carry, first):
        selected = None
        if rows is not None:  # drawn for the whole block at once: many small draws would cost more than the steps
            selected = rows(key, first, records * length, aligned)
        if evaluate is None:  # nothing happens between records: one loop is faster than a loop of loops
            carry, losses = jax.lax.scan(step, carry, selected, records * length)
            return carry, (losses, None)
        if selected is not None:
            selected = selected.reshape(records, length, -1)
        return jax.lax.scan(record, carry, selected, records)

    *carry, diverged = carry
    firsts = start + records * length * jnp.arange(blocks, dtype=jnp.int32)
    (params, state), (losses, measured) = jax.lax.scan(block, tuple(carry), firsts)
    losses = losses.reshape(blocks * records, length)
    measured = jax.tree.map(lambda leaf: leaf.reshape(blocks * records, *leaf.shape[2:]), measured)

    bad = ~jnp.isfinite(losses.ravel())
    end = start + losses.size - 1  # where the params ended not finite, by an update that followed a finite loss
    broken = ~jnp.all(jnp.array([jnp.isfinite(p).all() for p in jax.tree.leaves(params)]))
    here = jnp.where(bad.any(), start + jnp.argmax(bad).astype(jnp.int32), jnp.where(broken, end, -1))
    steps = start + length * jnp.arange(1, 1 + blocks * records, dtype=jnp.int32)
    history = History(steps, losses.mean(axis=1), measured)
    return (params, state, jnp.where(diverged < 0, here, diverged)), history
