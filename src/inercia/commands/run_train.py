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
from inercia.core import check
from inercia.problems.empirical_risk import risk
from inercia.problems.model_file import Model
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
    source: OmitArgPrefixes[Rows] = Rows(),
    hidden: tuple[int, ...] = (128, 128),
    activation: ActivationName = "tanh",
    epochs: int = 40,
    batch_size: int | None = None,
    sampler: str = "shuffle",
    test: float = 0.2,
    seed: int = 0,
    save_model: Annotated[Path | None, arg(name="save")] = None,
    checkpoint: Path | None = None,
    save_every: int | None = None,
    cluster: OmitArgPrefixes[Hosts] = Hosts(),
) -> None:
    """Train a fully connected network on the bundled digits or on your own table.

    Args:
        hidden: Widths of the hidden layers.
        epochs: Passes over the training rows.
        batch_size: Rows per iteration; by default an eighth of the training rows, between 16 and 128.
        sampler: shuffle (epochs without replacement), partition (the lecture's fixed batches) or full.
        test: Share of the rows held out to test on.
        seed: Fixes the split, the starting weights and all batches.
        save_model: Write the trained model to this .npz file, for `inercia predict`.
        checkpoint: Save to this folder, and go on from what it holds; Ctrl-C then ends the run saved.
        save_every: Iterations between checkpoints, a multiple of those of an epoch; one epoch by default.
    """
    cluster.join()
    chosen = step.method(method)
    parts = source.prepare(test, seed)
    x, target = parts.train.x, parts.encoding.target
    widths = (x.shape[1], *hidden, target.outputs)
    network = mlp(widths, activation)
    if batch_size is None and sampler != "full":
        batch_size = min(len(x), 128, max(16, len(x) // 8))
    if hosts.is_main_process():
        print(*parts.notes if source.data is not None else (), sep="\n", end="\n" if source.data is not None else "")
        print(f"{len(x)} rows to train on, {len(parts.test.x)} to test; network {'-'.join(map(str, widths))}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", check.InerciaWarning)  # told below, as the failure that it is
        result = run_training(
            chosen, risk(network, "squared" if target.classes is None else "cross-entropy"),
            network.init(jax.random.key(seed)), parts.train, epochs=epochs,
            batch_size=None if sampler == "full" else batch_size, key=seed, sampler=sampler,
            progress=sys.stderr.isatty(), checkpoint=checkpoint, save_every=save_every,
            shard_params=cluster.shard_params,
            mesh=jax.make_mesh((jax.device_count(),), ("devices",)) if cluster.distributed else None,
        )  # fmt: skip
    params = jax.tree.map(hosts.gathered, result.params)
    if not hosts.is_main_process():
        return
    if int(result.diverged) >= 0:
        raise FailedError(f"training diverged at iteration {int(result.diverged)}: try a smaller --learning-rate.")
    print(f"{int(result.history.step[-1])} iterations of {method}; training loss {float(result.history.loss[-1]):.4g}")
    model = Model(params, widths, activation, parts.encoding, version("inercia"))
    print_scores(model, parts)
    if save_model is not None:
        save_model.parent.mkdir(parents=True, exist_ok=True)
        model.save(save_model)
        print(f"model: {save_model}")
