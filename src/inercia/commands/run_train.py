"""`inercia train`: a fully connected network on the digits or on the user's own rows."""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
from tyro.conf import OmitArgPrefixes, arg

from inercia.commands.options import ActivationName, FailedError, MethodName, Rows, Step, writable
from inercia.commands.rate_finder import find_rate
from inercia.commands.scores import print_scores
from inercia.commands.several_seeds import best_seed, train_seeds
from inercia.commands.task import Task, task_of
from inercia.commands.watching import ScheduleName, Watch, measurement, scheduled
from inercia.core import check
from inercia.methods.table import METHODS
from inercia.problems.model_file import Model
from inercia.training import hosts
from inercia.training.loop import Result
from inercia.training.loop import train as run_training


@dataclass(frozen=True)
class Hosts:
    """Several hosts.

    Args:
        distributed: Share the work with the same command on other hosts, over all their devices; SLURM and mpirun tell
            who they are, else give the next three.
        shard_params: With distributed, cut weights and optimizer state over the devices too.
        coordinator: Address host:port of process 0.
        processes: How many processes there are.
        process: Number of this one, from 0.
    """

    distributed: bool = False
    shard_params: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None

    def join(self) -> None:
        """Join the other processes, where there are any."""
        if self.distributed:
            hosts.join(self.coordinator, self.processes, self.process)
        elif self.shard_params or (self.coordinator, self.processes, self.process) != (None, None, None):
            raise ValueError("--shard-params, --coordinator, --processes and --process belong to --distributed.")


@dataclass(frozen=True)
class Many:
    """Several trainings at once.

    Args:
        seeds: Train from so many seeds at once, from --seed on: mean and standard deviation of the test metric are
            printed, and the model kept is that of the least last loss (of the validation, if there is one).
        find_rate: Train shortly at 25 learning rates from 1e-5 to 10 at once, suggest one, and draw the losses into
            --curve, or else learning_rates.png; nothing else is trained.
    """

    seeds: int | None = None
    find_rate: bool = False

    def judge(self, **others: Any) -> None:
        """Raise where other options, given by name where they are not None or False, make no sense beside these."""
        alone = {"checkpoint", "save_every", "patience", "distributed"}
        if self.seeds is not None:
            check.integer("seeds", self.seeds, 2)
            _refuse(others, alone | {"find_rate"}, "--seeds trains several networks in one program")
        if self.find_rate:
            trained = {"save", "metrics", "report", "learning_rate", "schedule"}
            _refuse(others, alone | trained, "--find-rate makes short trainings alone")


def _refuse(given: dict[str, Any], names: set[str], why: str) -> None:
    wrong = [f"--{name.replace('_', '-')}" for name, value in given.items() if name in names and value]
    if wrong:
        raise ValueError(f"{why}: leave {' and '.join(wrong)} out.")


def train(
    method: MethodName = "adam",
    step: OmitArgPrefixes[Step] = Step(),
    source: OmitArgPrefixes[Rows] = Rows(),
    hidden: tuple[int, ...] = (128, 128),
    activation: ActivationName = "tanh",
    epochs: int = 40,
    batch_size: int | None = None,
    sampler: str = "shuffle",
    schedule: ScheduleName = "constant",
    test: float = 0.2,
    seed: int = 0,
    save_model: Annotated[Path | None, arg(name="save")] = None,
    report: bool = False,
    checkpoint: Path | None = None,
    save_every: int | None = None,
    watch: OmitArgPrefixes[Watch] = Watch(),
    many: OmitArgPrefixes[Many] = Many(),
    cluster: OmitArgPrefixes[Hosts] = Hosts(),
) -> None:
    """Train a fully connected network on the bundled digits or on your own table.

    Args:
        hidden: Widths of the hidden layers.
        epochs: Passes over the training rows.
        batch_size: Rows per iteration; by default an eighth of the training rows, between 16 and 128.
        sampler: shuffle (epochs without replacement), partition (the lecture's fixed batches) or full.
        schedule: Of the learning rate: constant, or falling to 0 (cosine; warmup-cosine rises first) or to a hundredth.
        test: Share of the rows held out to test on.
        seed: Fixes the split, the starting weights and all batches.
        save_model: Write the trained model to this .npz file, for `inercia predict`.
        report: Print recall, precision and F1 of every class, however many there are, and their means.
        checkpoint: Save to this folder, and go on from what it holds; Ctrl-C then ends the run saved.
        save_every: Iterations between checkpoints, a multiple of those of an epoch; one epoch by default.
    """
    many.judge(
        checkpoint=checkpoint, save_every=save_every, patience=watch.patience, distributed=cluster.distributed,
        find_rate=many.find_rate, save=save_model, metrics=watch.metrics, report=report,
        learning_rate=step.learning_rate, schedule=schedule != "constant",
    )  # fmt: skip
    cluster.join()
    if hosts.is_main_process():
        writable("--save", save_model)
        watch.judge()
    step.method(method)  # what is wrong with it is told before the rows are read
    parts = source.prepare(test, seed)
    if report and parts.encoding.target.classes is None:
        raise ValueError("--report tells of classes, but the target is a regression: leave it out.")
    task = task_of(parts, watch, hidden, activation, sampler, batch_size, seed)
    if hosts.is_main_process():
        task.announce(source.data is not None)
    if many.find_rate:
        file = watch.curve or Path("learning_rates.png")
        return find_rate(task, lambda rate: step.method(method, rate), method, seed, file)
    rate = METHODS[method].training_rate if step.learning_rate is None else step.learning_rate
    chosen = step.method(method, scheduled(schedule, rate, epochs * task.batches.epoch))
    evaluate = None if task.held is None else measurement(task.model, task.loss, task.held)

    def trained(params: Any, key: Any, evaluate: Any, **more: Any) -> Result:
        return run_training(
            chosen, task.loss, params, task.rows, epochs=epochs, batch_size=task.batches.batch_size, key=key,
            sampler=sampler, evaluate=evaluate, **more,
        )  # fmt: skip

    if many.seeds is not None:
        seeds = range(seed, seed + many.seeds)
        all_of_them = train_seeds(trained, task, seeds, evaluate, epochs)
        of = [jax.tree.map(lambda leaf, i=i: leaf[i], all_of_them) for i in range(len(seeds))]
        watch.write({k: result.history for k, result in zip(seeds, of, strict=True)})
        result = of[best_seed(all_of_them, task, seeds)]._replace(diverged=None)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", check.InerciaWarning)  # told below, as the failure that it is
            result = trained(
                task.model.params, seed, evaluate, **watch.stop(task.held), progress=sys.stderr.isatty(),
                checkpoint=checkpoint, save_every=save_every, shard_params=cluster.shard_params,
                mesh=jax.make_mesh((jax.device_count(),), ("devices",)) if cluster.distributed else None,
            )  # fmt: skip
    task = task._replace(model=task.model._replace(params=jax.tree.map(hosts.gathered, result.params)))
    if hosts.is_main_process():
        if many.seeds is None:
            watch.write({seed: result.history})
        _report(result, task, method, watch.patience is not None, report)
        _save(task.model, save_model)


def _report(result: Result, task: Task, method: str, stopped: bool, classwise: bool) -> None:
    if result.diverged is not None and int(result.diverged) >= 0:
        raise FailedError(f"training diverged at iteration {int(result.diverged)}: try a smaller --learning-rate.")
    history = jax.tree.map(lambda records: float(records[-1]), result.history)
    if stopped:
        print(f"the best weights are those after {result.best} iterations")
    print(f"{history.step:.0f} iterations of {method}; training loss {history.loss:.4g}")
    for name, value in (history.evaluate or {}).items():
        print(f"{name} {value:.2%}" if "accuracy" in name else f"{name} {value:.4g}")
    print_scores(task.model, task.parts, classwise)


def _save(model: Model, file: Path | None) -> None:
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        model.save(file)
        print(f"model: {file}")
