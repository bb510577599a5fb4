"""`inercia train`: a fully connected network on the digits or on the user's own rows."""

import sys
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import jax
from tyro.conf import OmitArgPrefixes, arg

from inercia.commands.options import ActivationName, FailedError, MethodName, Rows, Step
from inercia.commands.scores import print_scores
from inercia.commands.watching import ScheduleName, Watch, measurement, scheduled
from inercia.core import check
from inercia.methods.table import METHODS
from inercia.problems.empirical_risk import risk
from inercia.problems.model_file import Model
from inercia.problems.network import mlp
from inercia.problems.prepared import Prepared
from inercia.problems.sampling import sampler as sampler_of
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
    checkpoint: Path | None = None,
    save_every: int | None = None,
    watch: OmitArgPrefixes[Watch] = Watch(),
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
        checkpoint: Save to this folder, and go on from what it holds; Ctrl-C then ends the run saved.
        save_every: Iterations between checkpoints, a multiple of those of an epoch; one epoch by default.
    """
    cluster.join()
    step.method(method)  # what is wrong with it is told before the rows are read
    parts = source.prepare(test, seed)
    rows, held = watch.held_out(parts.train, seed)
    widths = (rows.x.shape[1], *hidden, parts.encoding.target.outputs)
    model = Model(
        mlp(widths, activation).init(jax.random.key(seed)), widths, activation, parts.encoding, version("inercia")
    )
    if batch_size is None and sampler != "full":
        batch_size = min(len(rows.x), 128, max(16, len(rows.x) // 8))
    batches = sampler_of(sampler, len(rows.x), batch_size)
    rate = METHODS[method].training_rate if step.learning_rate is None else step.learning_rate
    chosen = step.method(method, scheduled(schedule, rate, epochs * batches.epoch))
    if hosts.is_main_process():
        if source.data is not None:
            print("\n".join(parts.notes))
        print(f"{len(rows.x)} rows to train on, {len(parts.test.x)} to test; network {'-'.join(map(str, widths))}")
    loss = risk(model.network, "squared" if parts.encoding.target.classes is None else "cross-entropy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", check.InerciaWarning)  # told below, as the failure that it is
        result = run_training(
            chosen, loss, model.params, rows, epochs=epochs, batch_size=batches.batch_size, key=seed, sampler=sampler,
            evaluate=None if held is None else measurement(model, loss, held), **watch.stop(held),
            progress=sys.stderr.isatty(), checkpoint=checkpoint, save_every=save_every,
            shard_params=cluster.shard_params,
            mesh=jax.make_mesh((jax.device_count(),), ("devices",)) if cluster.distributed else None,
        )  # fmt: skip
    model = model._replace(params=jax.tree.map(hosts.gathered, result.params))
    if hosts.is_main_process():
        _report(result, model, parts, method, watch, save_model)


def _report(result: Result, model: Model, parts: Prepared, method: str, watch: Watch, file: Path | None) -> None:
    watch.write(result.history)
    if result.diverged is not None and int(result.diverged) >= 0:
        raise FailedError(f"training diverged at iteration {int(result.diverged)}: try a smaller --learning-rate.")
    history = jax.tree.map(lambda records: float(records[-1]), result.history)
    if watch.patience is not None:
        print(f"the best weights are those after {result.best} iterations")
    print(f"{history.step:.0f} iterations of {method}; training loss {history.loss:.4g}")
    for name, value in (history.evaluate or {}).items():
        print(f"{name} {value:.2%}" if "accuracy" in name else f"{name} {value:.4g}")
    print_scores(model, parts)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        model.save(file)
        print(f"model: {file}")
