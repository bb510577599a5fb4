"""What a training on the command line is given: rows, network, loss, batches."""

from importlib.metadata import version
from typing import Any, NamedTuple

import jax

from inercia.commands.watching import Watch
from inercia.problems.data import Dataset
from inercia.problems.empirical_risk import Risk, risk
from inercia.problems.model_file import Model
from inercia.problems.network import mlp
from inercia.problems.prepared import Prepared
from inercia.problems.sampling import Sampler
from inercia.problems.sampling import sampler as sampler_of


class Task(NamedTuple):
    """A network to be trained, and what on."""

    parts: Prepared
    rows: Dataset  # to train on
    held: Dataset | None  # to validate on
    model: Model  # at its start
    loss: Risk
    sampler: str
    batches: Sampler

    def start(self, seed: int) -> Any:
        """Return the starting weights of a seed."""
        return self.model.network.init(jax.random.key(seed))

    def announce(self, noted: bool) -> None:
        """Print what was decided about the rows, if it is to be noted, and the sizes."""
        if noted:
            print("\n".join(self.parts.notes))
        widths = "-".join(map(str, self.model.widths))
        print(f"{len(self.rows.x)} rows to train on, {len(self.parts.test.x)} to test; network {widths}")


def task_of(
    parts: Prepared,
    watch: Watch,
    hidden: tuple[int, ...],
    activation: str,
    sampler: str,
    batch_size: int | None,
    seed: int,
) -> Task:
    """Return the task: a network that suits the rows, and by default an eighth of them a batch, from 16 to 128."""
    rows, held = watch.held_out(parts.train, seed)
    widths = (rows.x.shape[1], *hidden, parts.encoding.target.outputs)
    network = mlp(widths, activation)
    model = Model(network.init(jax.random.key(seed)), widths, activation, parts.encoding, version("inercia"))
    if batch_size is None and sampler != "full":
        batch_size = min(len(rows.x), 128, max(16, len(rows.x) // 8))
    loss = risk(model.network, parts.encoding.target.loss)
    return Task(parts, rows, held, model, loss, sampler, sampler_of(sampler, len(rows.x), batch_size))
