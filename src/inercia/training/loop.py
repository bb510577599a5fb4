"""Training: iterations on batches, recorded, saved and continued.

The iterations are compiled into long segments (`programs`) that go through the data (`supply`); between two segments
the host looks: it records and stops (`records`), shows the progress, saves (`checkpoint`) and heeds signals
(`signals`). A training computes in the params' own dtype, and it can be mapped: `jax.vmap` over keys, over starts and
over hyperparameters trains all of them at once.
"""

import contextlib
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import numpy as np
import optax

from inercia.core import check
from inercia.core.method import Params, State
from inercia.core.progress import bar as progress_bar
from inercia.training import hosts
from inercia.training.arguments import abstract, held_out_of, judge_watched, key_of, model_state_of, params_of
from inercia.training.batches import rows_in_memory
from inercia.training.checkpoint import Checkpoints
from inercia.training.fingerprint import described, digest_of, key_of_draws, traced, update_of
from inercia.training.objective import objective_of
from inercia.training.placement import automatic_axes, place
from inercia.training.programs import Begin, Carry, History, Setting
from inercia.training.records import Watch
from inercia.training.run import Run
from inercia.training.signals import interrupted
from inercia.training.supply import Plan, Supply, from_memory, from_outside, is_in_memory, plan_of

#: Least number of segments into which a run with a progress bar is cut.
_SHOWN = 50


class Result(NamedTuple):
    """A finished training."""

    params: Params  # with `patience` those of the best record, else the last
    state: State  # after the last iteration
    history: History
    diverged: int | jax.Array | None  # first iteration (from 0) whose loss was not, or would not be, finite; None if
    # there is none, as in a `Path`. Mapped by vmap it is an int32 array, -1 where there is none
    model_state: Any = None  # belongs to the params; None where the loss has none
    best: int | None = None  # with `patience`, the iterations after which the params were best


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
    has_aux: bool = False,
    model_state: Any = None,
    validation: Any = None,
    patience: int | None = None,
    on_record: Any = None,
    on_divergence: str = "report",
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
        loss: (params, batch) -> scalar, for example a `risk`; or (params, batch, key) -> scalar, with a key of each
            iteration (dropout, augmentation), where it has a parameter more or one named `key` or `rng`.
        params: start; left untouched, the training works on a copy.
        data: (x, y), or any tree of arrays that the loss takes (x alone, a dict, a triple), rows first; floats are cast
            to the params' dtype. For more rows than fit into memory: `shards` of files, which train as the same rows in
            memory would, or any iterable of batches, passed over once an epoch; a list of tuples or dicts is one.
        epochs: passes over the data; an epoch is N // batch_size iterations of "shuffle", N_b of "partition", 1 of
            "full".
        key: `jax.random.key` that fixes all batches and the keys of the loss, or a seed; an iterable of batches needs
            none.
        batch_size: rows per iteration, in 1..N; may be left out for "full".
        sampler: "shuffle", "partition" or "full", see `inercia.sampler`.
        evaluate: params -> tree of arrays, or (params, model_state) where there is one; traced, called at every record;
            for example the test accuracy.
        every: iterations between records; by default one epoch.
        state: the method's state to start from; by default `method.init(params)`.
        has_aux: whether the loss returns (scalar, aux), a tree of small arrays whose mean over the iterations of a
            record goes into the history.
        model_state: what the model keeps beside its params, such as the averages of a BatchNorm. The loss then is
            (params, model_state, batch[, key]) -> (scalar, model_state); with `has_aux`, (scalar, (aux, model_state)).
        validation: a held-out batch, whose loss is computed at every record; or a function of params, or of (params,
            model_state), that returns a number. The smaller the better.
        patience: stop after so many records without a smaller validation metric, and return the best params.
        on_record: called on the host with each `Record`, to log or to look; where it returns True the run stops. Where
            it raises, the run is saved, if it has a checkpoint folder, and the error comes through.
        on_divergence: "report" goes on to the end, "stop" ends the run at the next record, "raise" too, with a
            FloatingPointError.
        progress: whether to show a bar.
        mesh: a `jax.sharding.Mesh` of devices that share the work: each batch is sharded over all of them. They may
            belong to several processes, which then make the same call (see `inercia.hosts`); all end, with exit code
            75, when one of them is lost. Trainings that are mapped are shared out instead by `jax.shard_map` around
            the `jax.vmap`, where there is no mesh to pass.
        shard_params: whether params and state are sharded over the mesh too, instead of replicated. Params that come
            sharded over the mesh stay so.
        checkpoint: folder to save to and to go on from (extra `checkpoint`). Where it holds checkpoints of this very
            run, the training goes on after the newest, bit for bit as if it had never stopped; `epochs` may grow, and
            `params` and `state` count for nothing. All rows of shards are read once to know them again.
            While it is given, Ctrl-C and SIGTERM end the run after the iterations at hand, saved.
        save_every: iterations between checkpoints, a multiple of `every`; by default `every`.
        keep: number of checkpoints kept, the newest.

    Returns:
        Result: params and state, the history, and the iteration of divergence, also announced by an `InerciaWarning`.
        With checkpoints, a run whose params are no longer finite stops there and is not saved.

    Raises:
        ValueError: data that are empty, of unequal lengths or not finite, labels out of range, a batch size outside
            1..N or not a multiple of the mesh's devices, an unknown sampler, epochs or every below 1, a loss that is
            not one real number, a checkpoint of another run, save_every that is not a multiple of every, data beyond
            the range of the dtype they are cast to, patience without validation.
        TypeError: integer params, data that are not numbers, complex data for real params, a loss that takes or
            returns something else.
        FloatingPointError: divergence, with on_divergence="raise".

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
    check.optimizer(method)
    params, key, model_state = params_of(params), key_of(key), model_state_of(model_state)
    objective = objective_of(loss, has_aux, model_state is not None)
    resident = is_in_memory(data)
    data = rows_in_memory(data, hasattr(loss, "check")) if resident else data
    plan = plan_of(data, sampler, batch_size, key, check.integer("epochs", epochs), every, save_every)
    if objective.takes_key and key is None:
        raise TypeError("train needs a key, for example key=0: the loss takes one at each iteration.")
    placement = place(mesh, shard_params, plan.sampler and plan.sampler.batch_size, params)
    held_out = held_out_of(validation, objective, params)
    setting = Setting(method, objective, evaluate, validation if callable(validation) else None, placement)
    watch = Watch(on_record, patience, on_divergence, validation is not None)
    if resident:
        calls = _records_a_call(plan, watch, progress, checkpoint is not None)
        supply = from_memory(setting, plan, params, data, held_out, calls, checkpoint is not None, watch.at_each)
    else:
        supply = from_outside(setting, plan, params, data, held_out, checkpoint is not None)
    form = _judged(setting, supply, abstract(params), abstract(model_state))
    if checkpoint is not None and not check.is_concrete(params, state, model_state, key):
        raise ValueError("checkpoint needs a training of its own: inside jit or vmap nothing can be saved.")

    with contextlib.ExitStack() as stack:
        stack.enter_context(automatic_axes())
        if placement is not None and placement.mesh.is_multi_process:
            stack.enter_context(hosts.watched())
        run = Run(setting, plan, supply, watch, Begin(params, state, model_state, patience is not None))
        if checkpoint is not None:
            decides = _decides(setting, plan, supply, sampler, run.carry, form)
            run.checkpoints = stack.enter_context(Checkpoints(checkpoint, keep, decides, placement))
            run.resume(form)
            run.signals = stack.enter_context(interrupted())
        shown = progress and hosts.is_main_process()
        bar = stack.enter_context(progress_bar(shown, total=plan.total, initial=run.done, unit="it", desc="train"))
        run.go(bar)
    return _result(run)


def _result(run: Run) -> Result:
    """Return what was trained; tell of a divergence."""
    params, state, model_state, _, best = run.carry
    diverged: Any = run.diverged()
    if check.is_concrete(diverged):
        diverged = None if int(diverged) < 0 else int(diverged)
        _tell(diverged, run)
    if best is not None:
        params, model_state = best.params, best.model_state
    return Result(params, state, run.history(), diverged, model_state, run.watch.best)


def _tell(diverged: int | None, run: Run) -> None:
    if run.watch.is_blind and hosts.is_main_process():
        text = "the validation metric was never a number, so that patience kept the params of the first record."
        warnings.warn(text, check.InerciaWarning, stacklevel=4)
    if diverged is None:
        return
    what = f"the loss of iteration {diverged} of {run.done} is" if diverged < run.done else "the last params are"
    text = f"training diverged: {what} not finite; try a smaller learning rate."
    if run.watch.on_divergence == "raise":
        raise FloatingPointError(text)
    if hosts.is_main_process():
        warnings.warn(text, check.InerciaWarning, stacklevel=4)


def _records_a_call(plan: Plan, watch: Watch, progress: bool, saves: bool) -> int | None:
    """Return the most records of a call; None, one call for all, where nothing between them needs the host."""
    assert plan.every is not None
    if watch.at_each:
        return 1
    if saves:
        assert plan.save_every is not None
        return plan.save_every // plan.every
    if progress:
        assert plan.total is not None
        return -(-plan.total // plan.every // _SHOWN)
    return None


def _judged(setting: Setting, supply: Supply, params: Params, model_state: Any) -> History:
    """Return the form of the history, or raise unless loss, evaluate and validation give what they should."""
    objective, nothing = setting.objective, cast(Any, np.zeros(0))  # only the structure counts
    aux = objective.judge(params, model_state, supply.batch)
    arguments = (params, model_state) if objective.has_state else (params,)
    seen = None if setting.evaluate is None else judge_watched("evaluate", setting.evaluate, *arguments)
    metric = None if supply.source.held_out is None else nothing
    if setting.validation is not None:
        metric = judge_watched("validation", setting.validation, *arguments)
        check.scalar("validation", metric)
    return History(nothing, nothing, seen, aux, metric)


def _decides(setting: Setting, plan: Plan, supply: Supply, sampler: str, start: Carry, form: History) -> dict[str, str]:
    """Return what decides a run, described by name, in the order in which differences are told."""
    params, model_state, held_out = start.params, start.model_state, supply.source.held_out
    arguments = (params, model_state) if setting.objective.has_state else (params,)
    validation = setting.validation
    key = jax.eval_shape(lambda: jax.random.key(0)) if setting.objective.takes_key else None
    parts = {
        "method": described(setting.method),
        "sampler": (sampler, plan.sampler.batch_size) if plan.sampler else "of the data",
        "data": supply.digest(),
        "update": update_of(setting.method, params),
        "loss": traced(setting.objective, params, model_state, supply.batch, key),
        "every": plan.every,
        "key": key_of_draws(plan.key),
        "evaluate": form.evaluate,  # the form of the history
        "evaluate's program": None if setting.evaluate is None else traced(setting.evaluate, *arguments),
        "validation": None if held_out is None else digest_of(held_out),
        "patience": "given" if start.best is not None else "none",
    }
    if validation is not None:
        parts["validation"] = traced(validation, *arguments)
    return {name: str(value) for name, value in parts.items()} | {"jax": jax.__version__}
