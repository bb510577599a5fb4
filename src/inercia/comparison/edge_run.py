"""The edge of stability, three curves each: the iterates, the plain flow that leaves them, the central flow that stays.

    iterates         theta_k, and their mean over a window of updates, in which the oscillation cancels
    stable flow      X = 0: what the method would follow if its steps were small
    central flow     see `central`
    others           those of `other_flows` that are asked for

The distance of a flow to the mean iterates, over the displacement of these from the start, says how well it describes
them.
"""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import jax
import numpy as np

from inercia.comparison.other_flows import checked, distance_to, other_flow
from inercia.core import check, snapshot, tree
from inercia.core.method import Params
from inercia.core.path import Path
from inercia.core.precision import in_float64
from inercia.core.progress import bar
from inercia.edge_of_stability.central_flow import central
from inercia.edge_of_stability.eigenpairs import CurvatureError
from inercia.edge_of_stability.sharpness_observer import sharpness
from inercia.flows.iteration import diverged_at, iterate

#: The method is at its edge where the sharpness over the bound is above this.
AT_EDGE = 0.95
#: Updates of one compiled call of the iterates, at most, and seconds between two saved files.
_PIECE, _SAVED = 250, 10.0


class Edge(NamedTuple):
    """A run at the edge of stability beside its flows; leading axis = updates made; NumPy float64."""

    times: np.ndarray  # (n,)
    bound: float  # on the sharpness, in units of the preconditioner: 2 for gradient descent
    window: int  # updates over which the iterates are averaged
    iterates: Path  # with observed["sharpness"] (n, 1)
    central: Path
    stable: Path  # `diverged` where it was stopped, nan from there
    loss: np.ndarray  # (n,), of the iterates, averaged
    sharpness: np.ndarray  # (n,), the largest, averaged
    displacement: np.ndarray  # (n,), distance of the mean iterates from their start
    to_central: np.ndarray  # (n,), distances to the mean iterates
    to_stable: np.ndarray  # (n,)
    reached: float | None  # first time at which the averaged sharpness is at the bound; None if it is not
    others: dict[str, Path]  # the flows that were asked for beside, by name; each up to where its solver gave up
    to_others: dict[str, np.ndarray]  # (n,) each, nan from there

    def after(self, updates: float = 0.0) -> np.ndarray:
        """Return a mask of the times later than `reached + updates`, without the half window at the end."""
        if self.reached is None:
            return np.zeros(len(self.times), bool)
        return (self.times >= self.reached + updates) & (self.times <= self.times[-1] - self.window / 2)


def edge(
    method: Any,
    loss: Any,
    params: Params,
    steps: int,
    *,
    k: int | None = None,
    substeps: int = 4,
    window: int = 50,
    flows: Sequence[str] = (),
    progress: bool = False,
    checkpoint: Any = None,
) -> Edge:
    """Run a method with its sharpness, its stable flow and its central flow, and measure them against each other.

    Args:
        method: as in `central`.
        loss: params -> scalar, three times differentiable.
        params: where to start; computed in float64 whatever its precision.
        steps: number of updates. All iterates are kept, 8 bytes a number.
        k: the most eigenvalues that may be critical at once, as in `central`.
        substeps: of the central flow, per update.
        window: updates over which the iterates are averaged.
        flows: others beside, of "modified", "rod" and "edge_flow", in `others` of the result; they keep no file.
        progress: show a bar for each of the three.
        checkpoint: folder in which each of the three keeps its file, and from which the same call goes on as if it had
            not stopped.

    Returns:
        Edge.

    Raises:
        ValueError: as in `central`; a checkpoint of another run; a flow that the method does not have.
        CurvatureError: as in `central`; iterates that diverge, with the time; `path` holds what was computed before.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> valley = lambda x: (1 + x[0] ** 2) * x[1] ** 2 / 2 + 0.002 * (x[0] - 3) ** 2
        >>> run = inercia.edge(inercia.sgd(0.5), valley, jnp.array([1.7, 0.1]), 400, k=2)
        >>> run.bound, bool(run.to_central[-60] < 0.1 * run.to_stable[-60])
        (2.0, True)
    """
    window, flows = check.integer("window", window), checked(flows)
    files = dict.fromkeys(("iterates", "central", "stable"))
    if checkpoint is not None:
        folder = FilePath(checkpoint)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"checkpoint must be a folder, but {folder} is a file.")
        files = {name: folder / f"{name}.npz" for name in files}
    steps = check.integer("steps", steps)
    others = {name: other_flow(name, method, loss, params, steps, progress) for name in flows}
    path = _iterates(method, loss, params, steps, progress, files["iterates"])
    central_ = partial(central, method, loss, params, steps, k=k, substeps=substeps, progress=progress)
    middle = central_(checkpoint=files["central"])
    stable = central_(checkpoint=files["stable"], stable=True)
    mean = averaged(path.flat(), window)
    top = averaged(path.observed["sharpness"][:, 0], window)
    bound = float(middle.observed["bound"][0])
    at = np.flatnonzero(top >= AT_EDGE * bound)
    return Edge(
        path.times, bound, window, path, middle, stable, averaged(path.loss, window), top,
        np.linalg.norm(mean - path.flat()[0], axis=1),
        np.linalg.norm(mean - middle.flat(), axis=1),
        np.linalg.norm(mean - stable.flat(), axis=1),
        float(path.times[at[0]]) if len(at) else None,
        others, {name: distance_to(mean, own) for name, own in others.items()},
    )  # fmt: skip


def _iterates(method: Any, loss: Any, params: Params, steps: int, progress: bool, file: Any) -> Path:
    """Iterate with the sharpness, in calls of equal length, so that the run can be watched and kept.

    The last call may go beyond the end, by fewer updates than there are calls: one program serves them all.
    """
    calls = -(-steps // _PIECE)
    length = -(-steps // calls)
    with jax.enable_x64(True):
        theta = tree.float64(params)
        loss = in_float64(loss, theta)
        check.loss_of(loss, theta)
        load, save = snapshot.of_run(file, method, loss, theta, iterates=steps) or (lambda: None, lambda arrays: None)
    watch = {"sharpness": sharpness(method, loss)}
    pieces, saved = _pieces(load(), method, params), time.monotonic()
    with bar(progress, total=steps, initial=min(len(pieces) * length, steps), unit="update") as shown:
        while len(pieces) < calls:
            start, state = (pieces[-1][-1].params, pieces[-1][-1].state) if pieces else (params, None)
            piece = iterate(method, loss, start, length, state=state, observe=watch)
            pieces.append(piece)
            if piece.diverged is not None:
                path = _joined(pieces, steps, float(getattr(method, "dt", 1.0)))
                when = diverged_at(path.times, path.params, path.state, path.loss)
                if when is not None:
                    raise CurvatureError(
                        f"the iterates diverge at time {when:g}: take a smaller learning rate.",
                        path=path[: int(np.searchsorted(path.times, when))],
                    )
            if len(pieces) == calls or time.monotonic() - saved > _SAVED:
                save({f"{n}.{m}": leaf for n, p in enumerate(pieces) for m, leaf in enumerate(_leaves(p))})
                saved = time.monotonic()
            shown.update(min(len(pieces) * length, steps) - shown.n)
    return _joined(pieces, steps, float(getattr(method, "dt", 1.0)))


def _leaves(piece: Path) -> list:
    return jax.tree.leaves((piece.params, piece.state, piece.loss, piece.observed["sharpness"]))


def _pieces(arrays: dict[str, np.ndarray] | None, method: Any, params: Params) -> list[Path]:
    """Return the pieces that a file holds."""
    if arrays is None:
        return []
    shape = jax.tree.structure((params, jax.eval_shape(method.init, params), 0, 0))
    pieces = []
    for n in range(len(arrays) // shape.num_leaves):
        leaves = [arrays[f"{n}.{m}"] for m in range(shape.num_leaves)]
        theta, state, losses, sharp = jax.tree.unflatten(shape, leaves)
        pieces.append(Path(np.arange(len(losses)), theta, state, losses, observed={"sharpness": sharp}))
    return pieces


def _joined(pieces: list[Path], steps: int, dt: float) -> Path:
    """Return the pieces, each of which starts where the one before ends, as one path."""
    parts = [(piece.params, piece.state, piece.loss, piece.observed) for piece in pieces]
    cut = [tree.row(part, slice(None, -1)) for part in parts[:-1]] + parts[-1:]
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves)[: steps + 1], *cut)
    theta, state, losses, observed = joined
    return Path(np.arange(len(losses)) * dt, theta, state, losses, None, observed=observed)


def averaged(values: np.ndarray, window: int) -> np.ndarray:
    """Return the mean over `window` entries around each, along the leading axis; fewer, and as many, at the ends."""
    # An even number of updates, the outer two with half weight each: an oscillation of period 2 cancels.
    length, at = len(values), np.arange(len(values))
    half = np.minimum(window // 2, np.minimum(at, at[::-1]))
    wide = _window_sums(values, 2 * min(window // 2, (length - 1) // 2) + 1, half)
    ends = (values[at + half] + values[at - half]) / 2
    count = np.maximum(2 * half, 1).reshape(-1, *[1] * (values.ndim - 1))
    return np.where(count > 1, (wide - ends) / count, values)


def _window_sums(values: np.ndarray, widest: int, half: np.ndarray) -> np.ndarray:
    """Return the sums over t - half[t] .. t + half[t], of entries of the window alone.

    Differences of sums from the start on would be as rough as the largest value before, as a loss that has decayed
    since. Each window is the end of a block of `widest` entries and the beginning of the next.
    """
    length, at = len(values), np.arange(len(values))
    blocks = -(-length // widest)
    padded = np.concatenate([values, np.zeros((blocks * widest - length, *values.shape[1:]))])
    padded = padded.reshape(blocks, widest, *values.shape[1:])
    from_begin = np.cumsum(padded, axis=1).reshape(-1, *values.shape[1:])
    to_end = np.cumsum(padded[:, ::-1], axis=1)[:, ::-1].reshape(-1, *values.shape[1:])
    first, last = at - half, at + half
    one_block = (first // widest == last // widest).reshape(-1, *[1] * (values.ndim - 1))
    # Within one block: the window is all of it, or at the start or at the end of the run and narrower.
    inside = np.where((first % widest == 0).reshape(one_block.shape), from_begin[last], to_end[first])
    return np.where(one_block, inside, to_end[first] + from_begin[last])
