"""What a training on the command line does over time: its learning rate, its validation, its files."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.commands.options import writable
from inercia.core import check
from inercia.problems.data import Dataset, split_rows
from inercia.problems.model_file import Model

ScheduleName = Literal["constant", "cosine", "warmup-cosine", "exponential"]
_WARM_UP = 0.05  # share of the iterations in which the rate rises
_LAST = 0.01  # share of the rate that an exponential decay ends at


def scheduled(name: ScheduleName, rate: float, steps: int) -> Any:
    """Return the learning rate of each iteration: a number, or an optax schedule that ends with the training."""
    check.positive("learning_rate", rate)
    if name == "cosine":
        return optax.cosine_decay_schedule(rate, steps)
    if name == "warmup-cosine":
        return optax.warmup_cosine_decay_schedule(0.0, rate, max(1, round(_WARM_UP * steps)), steps)
    if name == "exponential":
        return optax.exponential_decay(rate, steps, _LAST)
    return rate


@dataclass(frozen=True)
class Watch:
    """What is watched.

    Args:
        validation: Share of the training rows held out, to see its loss after each epoch.
        patience: Stop after so many epochs without a smaller loss of the validation, and keep the best weights.
        metrics: Write iterations, losses and the validation's accuracy or R^2 after each epoch to this .csv file.
        curve: Draw the losses into this .png file.
    """

    validation: float | None = None
    patience: int | None = None
    metrics: Path | None = None
    curve: Path | None = None

    def judge(self) -> None:
        """Raise, before the training, where a file that was asked for could not be written after it."""
        writable("--metrics", self.metrics)
        writable("--curve", self.curve)
        if self.curve is not None and self.curve.suffix:
            from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  loaded when used

            check.one_of("the ending of --curve", self.curve.suffix[1:], FigureCanvasAgg.get_supported_filetypes())

    def held_out(self, rows: Dataset, seed: int) -> tuple[Dataset, Dataset | None]:
        """Return the rows to train on and those to validate on."""
        if self.validation is None:
            if self.patience is not None:
                raise ValueError("--patience needs rows to judge by: say --validation too, for example 0.1.")
            return rows, None
        check.in_unit_interval("validation", self.validation)
        train, held = split_rows(len(rows.x), self.validation, seed)
        return Dataset(rows.x[train], rows.y[train]), Dataset(rows.x[held], rows.y[held])

    def stop(self, held: Dataset | None) -> dict[str, Any]:
        """Return the arguments of `train` that stop early."""
        return {} if self.patience is None else {"validation": held, "patience": self.patience}

    def write(self, histories: dict[int, Any]) -> None:
        """Write the files that were asked for, of one training or of several, by seed."""
        from inercia import plot  # noqa: PLC0415  loads matplotlib, when used

        several = len(histories) > 1
        if self.metrics is not None:
            self.metrics.parent.mkdir(parents=True, exist_ok=True)
            with open(self.metrics, "w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream)
                titles = [*(["seed"] if several else []), "iterations", "training loss"]
                writer.writerow([*titles, *(next(iter(histories.values())).evaluate or {})])
                for seed, history in histories.items():
                    columns = (history.step, history.loss, *(history.evaluate or {}).values())
                    rows = zip(*(np.asarray(column).tolist() for column in columns), strict=True)
                    writer.writerows([seed, *row] if several else row for row in rows)
            print(f"metrics: {self.metrics}")
        if self.curve is not None:
            self.curve.parent.mkdir(parents=True, exist_ok=True)
            lines = {}
            for seed, history in histories.items():
                of = f", seed {seed}" if several else ""
                lines[f"training{of}"] = history
                if history.evaluate:
                    lines[f"validation{of}"] = history._replace(loss=history.evaluate["validation loss"])
            print(f"curve: {plot.save(lambda ax: plot.training(ax, lines), self.curve)}")


def counted(bar: Any, records: int, evaluate: Callable[[Any], Any] | None = None) -> Callable[[Any], Any] | None:
    """Return `evaluate` so that it moves a bar of so many records, also where a training is mapped; hidden, itself."""
    if bar.disable:
        return evaluate
    bar.reset(records)

    def watched(params: Any) -> Any:
        one = jax.tree.leaves(params)[0].ravel()[0]  # so that it moves when they are computed
        jax.debug.callback(lambda _: bar.update(), one)
        return evaluate(params) if evaluate else {}

    return watched


def measurement(model: Model, loss: Any, held: Dataset) -> Callable[[Any], dict[str, jax.Array]]:
    """Return params -> the validation's loss, and its accuracy or R^2."""
    x, y = jnp.asarray(held.x), jnp.asarray(held.y)
    apply = model.network.apply

    def measured(params: Any) -> dict[str, jax.Array]:
        outputs = apply(params, x)
        if model.encoding.target.classes is None:
            share = {"validation R^2": 1 - jnp.sum((outputs - y) ** 2) / jnp.sum((y - y.mean(axis=0)) ** 2)}
        else:
            share = {"validation accuracy": jnp.mean(model.encoding.target.is_right(outputs, y))}
        return {"validation loss": loss(params, (x, y)), **share}

    return measured
