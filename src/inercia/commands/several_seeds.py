"""The same training from several seeds, mapped into one program: what is the method's, and what is the draw's.

A seed fixes the starting weights and the batches; the rows that are held out are the same for all.
"""

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inercia.commands.options import FailedError
from inercia.commands.scores import metric
from inercia.commands.task import Task
from inercia.commands.watching import counted
from inercia.core.progress import bar as progress_bar
from inercia.training.loop import Result


def train_seeds(train: Callable[..., Result], task: Task, seeds: range, evaluate: Any, records: int) -> Result:
    """Train from every seed at once; return the result with an axis of seeds in front.

    Args:
        train: (params, key, evaluate) -> result.
        task: what is trained.
        seeds: of starts and batches.
        evaluate: params -> what is watched; or None.
        records: that each training makes, for the bar.
    """
    starts = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(task.start(seed) for seed in seeds))
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    with progress_bar(sys.stderr.isatty(), desc=f"{len(seeds)} seeds", unit="record") as bar:
        watch = counted(bar, len(seeds) * records, evaluate)
        return jax.block_until_ready(jax.vmap(lambda params, key: train(params, key, watch))(starts, keys))


def best_seed(result: Result, task: Task, seeds: range) -> int:
    """Print mean and spread of the test metric, and which seed's model is kept; return its place.

    Raises:
        FailedError: a training diverged.
    """
    first = np.asarray(result.diverged)
    if (first >= 0).any():
        failed = [f"{seed} (iteration {k})" for seed, k in zip(seeds, first.tolist(), strict=True) if k >= 0]
        raise FailedError(f"training diverged with seed {', '.join(failed)}: try a smaller --learning-rate.")
    models = [
        task.model._replace(params=jax.tree.map(lambda leaf, i=i: leaf[i], result.params)) for i in range(len(seeds))
    ]
    name, values = metric(models[0], task.parts.test)[0], [metric(model, task.parts.test)[1] for model in models]
    shown = "{:.2%}" if name == "accuracy" else "{:.4f}"
    low, mean, high, spread = (shown.format(f(values)) for f in (np.min, np.mean, np.max, lambda v: np.std(v, ddof=1)))
    print(
        f"test {name} of {len(seeds)} seeds: mean {mean}, standard deviation {spread}, from {low} to {high} "
        f"(seeds {seeds[0]} to {seeds[-1]})"
    )
    history = result.history
    if task.held is None:
        what, last = "training", np.asarray(history.loss)[:, -1]
    else:
        what, last = "validation", np.asarray(history.evaluate["validation loss"])[:, -1]
    best = int(np.argmin(last))
    print(f"the model kept is that of seed {seeds[best]}, whose last {what} loss is least, {last[best]:.4g}")
    return best
