"""`inercia train`: a fully connected network on the digits or on the user's own rows."""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
from tyro.conf import OmitArgPrefixes, arg

from inercia.commands.options import RATES, ActivationName, FailedError, MethodName, Step, Table
from inercia.core import check
from inercia.problems.data import digits, split, standardise
from inercia.problems.empirical_risk import accuracy, risk
from inercia.problems.files import read
from inercia.problems.network import mlp
from inercia.training import hosts
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
    table: OmitArgPrefixes[Table] = Table(),
    task: Literal["auto", "classification", "regression"] = "auto",
    hidden: tuple[int, ...] = (128, 128),
    activation: ActivationName = "tanh",
    epochs: int = 40,
    batch_size: int = 128,
    sampler: str = "shuffle",
    test: float = 0.2,
    seed: int = 0,
    save_params: Annotated[Path | None, arg(name="save")] = None,
    checkpoint: Path | None = None,
    save_every: int | None = None,
    cluster: OmitArgPrefixes[Hosts] = Hosts(),
) -> None:
    """Train a fully connected network on the bundled digits or on your own table.

    Args:
        task: Classification when the target is written in whole numbers, else regression, unless said here.
        hidden: Widths of the hidden layers.
        epochs: Passes over the training rows.
        batch_size: Rows per iteration.
        sampler: shuffle (epochs without replacement), partition (the lecture's fixed batches) or full.
        test: Share of the rows held out to test on.
        seed: Fixes the split, the starting weights and all batches.
        save_params: Write the trained weights to this .npz file.
        checkpoint: Save to this folder, and go on from what it holds; Ctrl-C then ends the run saved.
        save_every: Iterations between checkpoints, a multiple of those of an epoch; one epoch by default.
    """
    cluster.join()
    everything = None if table.data is None else read(table.data, table.labels, target=table.target)
    parts = digits(test, seed) if everything is None else standardise(split(everything, test, seed))
    classify = parts.train.y.dtype.kind == "i" if task == "auto" else task == "classification"
    (x, y), (x_test, y_test) = parts
    if classify:
        if y.dtype.kind != "i":
            raise ValueError("task 'classification' needs whole numbers as labels, but the target has fractions.")
        outputs = int(max(y.max(), y_test.max())) + 1
    else:
        y, y_test = (part.astype(np.float32).reshape(len(part), -1) for part in (y, y_test))
        outputs = y.shape[1]
    network = mlp([x.shape[1], *hidden, outputs], activation)
    loss = risk(network, "cross-entropy" if classify else "squared")
    score = accuracy(network) if classify else loss
    chosen = step.method(method, RATES.get(method, 1.0))
    full = sampler == "full"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", check.InerciaWarning)  # told below, as the failure that it is
        result = run_training(
            chosen, loss, network.init(jax.random.key(seed)), (x, y), epochs=epochs,
            batch_size=None if full else batch_size, key=seed, sampler=sampler, progress=sys.stderr.isatty(),
            checkpoint=checkpoint, save_every=save_every, shard_params=cluster.shard_params,
            mesh=jax.make_mesh((jax.device_count(),), ("devices",)) if cluster.distributed else None,
        )  # fmt: skip
    params = jax.tree.map(hosts.gathered, result.params)
    if not hosts.is_main_process():
        return
    if int(result.diverged) >= 0:
        raise FailedError(f"training diverged at iteration {int(result.diverged)}: try a smaller --learning-rate.")
    widths = "-".join(map(str, [x.shape[1], *hidden, outputs]))
    print(f"{len(x)} rows to train on, {len(x_test)} to test; network {widths}")
    print(f"{int(result.history.step[-1])} iterations of {method}; training loss {float(result.history.loss[-1]):.4g}")
    for name, part in (("train", (x, y)), ("test", (x_test, y_test))):
        value = float(score(params, part))
        print(f"{name} accuracy {value:.2%}" if classify else f"{name} squared error / 2: {value:.4g}")
    if save_params is not None:
        save_params.parent.mkdir(parents=True, exist_ok=True)
        named = jax.tree_util.tree_leaves_with_path(params)
        weights: dict[str, Any] = {"layer" + jax.tree_util.keystr(k): v for k, v in named}
        np.savez(save_params, **weights)
        print(f"weights: {save_params}")
