"""Training: iterations on batches, whole stretches of epochs compiled into one program.

    theta_{k+1}, s_{k+1} = theta_k + update(grad loss(theta_k, batch_k), s_k, theta_k)

The program runs on the device from record to record without a return to the host; params and state live in buffers
that each stretch hands to the next (donation). It computes in the params' own dtype, and it can be mapped: `jax.vmap`
over keys, over starts and over hyperparameters trains all of them at once.
"""

import contextlib
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.core import check
from inercia.core.method import Params, State
from inercia.core.progress import bar as progress_bar
from inercia.problems.data import Dataset, checked
from inercia.problems.mapped_files import Shards
from inercia.problems.sampling import Sampler
from inercia.problems.sampling import sampler as make_sampler
from inercia.training import hosts
from inercia.training.checkpoint import Checkpoints, digest_of, fingerprint
from inercia.training.placement import place
from inercia.training.signals import interrupted, stop_for
from inercia.training.stream import Source

#: Row numbers that are drawn at a time.
_BLOCK = 2**16
#: Chunks of batches from outside that the device has or that wait for it, while another one is read.
_AHEAD = 3
#: Least number of stretches into which a run with a progress bar is cut.
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
    key: Any = None,
    batch_size: int | None = None,
    sampler: str = "shuffle",
    evaluate: Callable[[Params], Any] | None = None,
    every: int | None = None,
    state: State | None = None,
    progress: bool = False,
    mesh: Any = None,
    shard_params: bool = False,
    checkpoint: Any = None,
    save_every: int | None = None,
    keep: int = 3,
) -> Result:
    """Train params on data.

    Args:
        method: an inercia method or any optax transformation.
        loss: (params, (x, y)) -> scalar, for example a `risk`.
        params: start; left untouched, the training works on a copy.
        data: (x, y), rows first; floats are cast to the params' dtype. For more rows than fit into memory: `shards` of
            files, which train as the same rows in memory would, or any iterable of batches (x, y), passed over once
            an epoch.
        epochs: passes over the data; an epoch is N // batch_size iterations of "shuffle", N_b of "partition", 1 of
            "full".
        key: `jax.random.key` that fixes all batches, or a seed; an iterable of batches needs none.
        batch_size: rows per iteration, in 1..N; may be left out for "full".
        sampler: "shuffle", "partition" or "full", see `inercia.sampler`.
        evaluate: params -> tree of arrays, traced, called at every record; for example the test accuracy.
        every: iterations between records; by default one epoch.
        state: the method's state to start from; by default `method.init(params)`.
        progress: whether to show a bar.
        mesh: a `jax.sharding.Mesh` of devices that share the work: each batch is cut over all of them. They may belong
            to several processes, which then make the same call (see `inercia.hosts`); all end, with exit code 75, when
            one of them is lost.
        shard_params: whether params and state are cut over the mesh too, instead of held whole by each device.
        checkpoint: folder to save to and to go on from (extra `checkpoint`). Where it holds checkpoints of this very
            run, the training goes on after the newest, bit for bit as if it had never stopped; `epochs` may grow.
            While it is given, Ctrl-C and SIGTERM end the run after the iterations at hand, saved.
        save_every: iterations between checkpoints, a multiple of `every`; by default `every`.
        keep: number of checkpoints kept, the newest.

    Returns:
        Result: final params and state, the history, and the iteration of divergence, also announced by an
        `InerciaWarning`. With checkpoints, a run that diverges stops there and is not saved.

    Raises:
        ValueError: data that are empty, of unequal lengths or not finite, labels out of range, a batch size outside
            1..N or not a multiple of the mesh's devices, an unknown sampler, epochs or every below 1, a loss that is
            not one real number, a checkpoint of another run, save_every that is not a multiple of every.
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
    epochs = check.integer("epochs", epochs)
    key = jax.random.key(key) if isinstance(key, int) else key
    data = checked(data) if _resident(data) else data
    batches = _sampler_of(data, sampler, batch_size, key)
    placed = None if mesh is None else place(mesh, shard_params, batches and batches.batch_size)
    stride, save_every = _records(every, save_every, batches)
    total: Any = epochs * batches.epoch if batches else epochs * len(data) if hasattr(data, "__len__") else None
    setting = _Setting(method, loss, evaluate, placed, epochs, stride, batches, key)
    if isinstance(data, Dataset):
        # Between saves and progress nothing needs the host: all records are one call.
        most = None if checkpoint is None else save_every // stride
        if progress and checkpoint is None:
            most = -(-total // stride // _STRETCHES)
        supply = _from_memory(setting, params, data, most)
    else:
        supply = _from_outside(setting, params, data)
    check.loss_of(loss, params, supply.batch)

    with contextlib.ExitStack() as around:
        if placed is not None and placed.mesh.is_multi_process:
            around.enter_context(hosts.watched())
        begun, start, pieces, book = _begin(method, placed, params, state), 0, [], None
        if checkpoint is not None:
            config = {
                "data": supply.digest(),
                "sampler": (sampler, batches.batch_size) if batches else "of the data",
                "every": stride,
                "key": None if key is None else jax.random.key_data(key).tolist(),
                "evaluate": None if evaluate is None else jax.eval_shape(evaluate, params),  # the form of the history
            }
            book = Checkpoints(checkpoint, keep, fingerprint(method, loss, params, supply.batch, **config), placed)
            start, begun, pieces = _resumed(book, begun, evaluate, total)
        carry, saved, done = begun, start, start
        signals = around.enter_context(_signals(book))
        quiet = not (progress and hosts.is_main_process())
        bar = around.enter_context(progress_bar(not quiet, total=total, initial=start, unit="it", desc="train"))
        for done, carry, recorded in supply.stretches(begun, start):
            pieces.append(recorded)
            if not quiet and check.is_concrete(recorded):
                bar.set_postfix(loss=f"{float(recorded.loss[-1]):.4g}", refresh=False)
                bar.update(done - bar.n)
            if (progress or book is not None) and check.is_concrete(recorded) and int(carry[2]) >= 0:
                break
            signal = 0 if book is None else book.agreed(signals[0] if signals else 0)
            if book is not None and done % (stride or 1) == 0 and (signal or done % (save_every or 1) == 0):
                book.save(done, carry, _joined(pieces))
                saved = done
            if signal:
                stop_for(signal)
        else:
            if book is not None and done % (stride or 1) == 0 and done != saved:
                book.save(done, carry, _joined(pieces))
        if book is not None:
            book.close()
        params, state, diverged = carry
        _tell(diverged, done)
        return Result(params, state, _joined(pieces), diverged)


class _Setting(NamedTuple):
    """What does not change during a training."""

    method: Any
    loss: Any
    evaluate: Any
    placed: Any
    epochs: int
    every: int | None  # iterations between records; None: a pass over data that give their own batches
    batches: Sampler | None
    key: Any


class _Supply(NamedTuple):
    """Data, and how the training goes through them."""

    batch: tuple[jax.ShapeDtypeStruct, ...]
    digest: Callable[[], str]
    stretches: Callable[..., Iterator[tuple[int, Any, History]]]  # (carry, start) -> (iterations done, carry, records)


def _from_memory(setting: _Setting, params: Params, data: Any, most: int | None) -> _Supply:
    """Hold all rows on the device; the program draws its batches itself, `most` records in a call."""
    method, loss, evaluate, placed, epochs, every, batches, key = setting
    assert batches is not None
    assert every is not None
    dtype = jnp.result_type(*jax.tree.leaves(params))
    x, y = (jnp.asarray(part, dtype if jnp.issubdtype(part.dtype, jnp.inexact) else None) for part in data)
    if hasattr(loss, "check"):
        loss.check(params, (x, y))
    total = epochs * batches.epoch
    batch = tuple(jax.ShapeDtypeStruct((batches.batch_size, *part.shape[1:]), part.dtype) for part in (x, y))
    digest = partial(digest_of, (x, y))
    if placed is not None:
        x, y, key = placed.put((x, y, key), placed.whole((x, y, key)))

    def stretches(carry, start):
        run = partial(_stretch, method, loss, evaluate, placed, batches.rows)
        for first, blocks, per_block, length in _plan(start, total, every, most or -(-total // every), batches):
            aligned = first % batches.epoch == 0 and (blocks * per_block == 1 or length % batches.epoch == 0)
            with warnings.catch_warnings():
                # Where only hyperparameters are mapped, the unmapped start cannot become the mapped result.
                warnings.filterwarnings("ignore", "Some donated buffers were not usable")
                carry, recorded = run(blocks, per_block, length, aligned, carry, x, y, key, jnp.int32(first))
            yield first + blocks * per_block * length, carry, recorded

    return _Supply(batch, digest, stretches)


def _from_outside(setting: _Setting, params: Params, data: Any) -> _Supply:
    """Read the batches ahead of their use; a stretch is one record."""
    method, loss, evaluate, placed, epochs, every, batches, key = setting
    dtype = jnp.result_type(*jax.tree.leaves(params))
    judge = partial(loss.check, params) if hasattr(loss, "check") else None
    source = Source(data, batches, key, dtype, placed, judge)

    def stretches(carry, start):
        losses: list[Any] = []
        sent: deque[Any] = deque(maxlen=_AHEAD)
        done = start
        for chunk in source.chunks(start, epochs, every):
            if chunk.batches is not None:
                if len(sent) == _AHEAD:
                    jax.block_until_ready(sent[0])
                carry, values = _fed(method, loss, placed, carry, *chunk.batches, jnp.int32(done))
                sent.append(values)
                losses.append(values)
                done = chunk.done
            if chunk.ends:
                measured = None if evaluate is None else _measured(evaluate, placed, carry[0])
                mean = jnp.concatenate(losses).mean()[None]
                yield done, carry, History(jnp.full(1, done, jnp.int32), mean, measured)
                losses = []

    return _Supply(source.batch, source.digest, stretches)


def _resident(data: Any) -> bool:
    """Whether data are a pair of arrays (or a wrong one, as a lone array is), and not batches to go through."""
    if isinstance(data, np.ndarray | jax.Array):
        return True
    batches = isinstance(data, list) and len(data) > 0 and all(isinstance(batch, tuple | list) for batch in data)
    return isinstance(data, tuple | list) and not batches


def _sampler_of(data: Any, name: str, batch_size: int | None, key: Any) -> Sampler | None:
    """Return the sampler over the rows of data, or None for data that give their own batches."""
    if isinstance(data, Dataset | Shards):
        if key is None:
            raise TypeError("train needs a key, for example key=0: it fixes all batches.")
        rows = len(data) if isinstance(data, Shards) else len(data[0])
        if isinstance(data, Shards) and name == "full":
            raise ValueError(
                "sampler 'full' holds all rows at once, which shards are there to avoid: choose 'shuffle'."
            )
        return make_sampler(name, rows, batch_size)
    if not isinstance(data, Iterable):
        raise TypeError(f"data must be a pair (x, y), shards or an iterable of batches, not {type(data).__name__}.")
    if batch_size is not None:
        raise ValueError("data that give their own batches also fix their size: leave batch_size out.")
    return None


def _records(every: int | None, save_every: int | None, batches: Sampler | None) -> tuple[Any, Any]:
    """Return the iterations between records and between saves."""
    if every is None and batches is None:
        if save_every is not None:
            raise ValueError("save_every counts iterations: where data give their own batches, pass every too.")
        return None, None
    every = batches.epoch if every is None and batches else check.integer("every", every)
    save_every = every if save_every is None else check.integer("save_every", save_every)
    if save_every % every:
        raise ValueError(f"save_every must be a multiple of every, but save_every = {save_every} and every = {every}.")
    return every, save_every


def _tell(diverged: Any, done: int) -> None:
    if check.is_concrete(diverged) and int(diverged) >= 0 and hosts.is_main_process():
        warnings.warn(
            f"training diverged: the loss of iteration {int(diverged)} of {done} is not finite; try a smaller "
            "learning rate.",
            check.InerciaWarning,
            stacklevel=3,
        )


def _resumed(book: Checkpoints, carry: Any, evaluate: Any, total: int | None) -> tuple[int, Any, list[History]]:
    """Return iterations done, carry and history of the newest checkpoint, or of the start."""
    nothing = jnp.zeros(0)  # only the structure counts
    found = book.restore(
        carry, History(nothing, nothing, None if evaluate is None else jax.eval_shape(evaluate, carry[0]))
    )
    if found is None:
        return 0, carry, []
    start, carry, history = found
    if total is not None and start > total:
        raise ValueError(f"the checkpoint stands at iteration {start}, beyond the {total} that are asked for.")
    return start, carry, [history]


def _signals(book: Checkpoints | None) -> Any:
    return interrupted() if book is not None else contextlib.nullcontext([])


def _joined(pieces: list[History]) -> History:
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *pieces) if len(pieces) > 1 else pieces[0]


def _plan(start: int, total: int, every: int, records: int, batches: Sampler) -> list[tuple[int, int, int, int]]:
    """Cut the iterations into calls of at most `records`: (start, blocks, records per block, iterations per record)."""
    whole, rest = divmod(total, every)
    most = max(1, _BLOCK // (every * batches.batch_size))
    calls, first = [], start // every
    while first < whole:
        size = min(records - first % records, whole - first)  # a run that goes on cuts where the first one did
        blocks, left = divmod(size, most)
        calls += [(first * every, blocks, most, every)] if blocks else []
        calls += [((first + blocks * most) * every, 1, left, every)] if left else []
        first += size
    return calls + ([(whole * every, 1, 1, rest)] if rest else [])


def _begin(method, placed, params, state):
    """Return the carry of the first stretch, in buffers of its own because the stretch consumes them."""
    if placed is not None:
        params, state = placed.put((params, state), placed.carried((params, state)))
    return _copied(method, placed, params, state)


@partial(jax.jit, static_argnums=(0, 1))
def _copied(method, placed, params, state):
    carry = jax.tree.map(jnp.copy, (params, method.init(params) if state is None else state, jnp.int32(-1)))
    return carry if placed is None else placed.keep(carry)


def _stepper(method, loss, placed):
    """Return one iteration: (params, state), batch -> (params, state), loss before the update."""
    gradient = jax.value_and_grad(loss)
    update = optax.with_extra_args_support(method).update

    def step(carry, batch):
        params, state = carry
        batch = batch if placed is None else placed.cut(batch)
        value, grads = gradient(params, batch)
        grads = jax.tree.map(jnp.conj, grads)  # the direction of ascent of complex params
        updates, state = update(grads, state, params, value=value, grad=grads, value_fn=lambda p: loss(p, batch))
        carry = (optax.apply_updates(params, updates), state)
        return carry if placed is None else placed.keep(carry), value

    return step


def _divergence(before, params, losses, start):
    """Return the first iteration whose loss was not finite; -1 if none."""
    bad = ~jnp.isfinite(losses.ravel())
    end = start + losses.size - 1  # where the params ended not finite, by an update that followed a finite loss
    broken = ~jnp.all(jnp.array([jnp.isfinite(p).all() for p in jax.tree.leaves(params)]))
    here = jnp.where(bad.any(), start + jnp.argmax(bad).astype(jnp.int32), jnp.where(broken, end, -1))
    return jnp.where(before < 0, here, before)


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def _fed(method, loss, placed, carry, x, y, start):
    """Make one iteration for each of the stacked batches."""
    *carry, diverged = carry
    (params, state), losses = jax.lax.scan(_stepper(method, loss, placed), tuple(carry), (x, y))
    if placed is not None:
        losses = jax.lax.with_sharding_constraint(losses, placed.whole(losses))
    return (params, state, _divergence(diverged, params, losses, start)), losses


@partial(jax.jit, static_argnums=(0, 1))
def _measured(evaluate, placed, params):
    measured = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], evaluate(params))
    return measured if placed is None else jax.lax.with_sharding_constraint(measured, placed.whole(measured))


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5, 6, 7, 8), donate_argnums=9)
def _stretch(method, loss, evaluate, placed, rows, blocks, records, length, aligned, carry, x, y, key, start):
    iteration = _stepper(method, loss, placed)

    def step(carry, selected):
        return iteration(carry, (x, y) if selected is None else (x[selected], y[selected]))

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

    steps = start + length * jnp.arange(1, 1 + blocks * records, dtype=jnp.int32)
    history = History(steps, losses.mean(axis=1), measured)
    if placed is not None:
        history = jax.lax.with_sharding_constraint(history, placed.whole(history))
    return (params, state, _divergence(diverged, params, losses, start)), history
