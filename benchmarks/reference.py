"""The central flow of the paper's authors, in PyTorch, beside inercia's: one network, one start, in one process.

    python benchmarks/reference.py FOLDER                               gradient descent, its defaults
    python benchmarks/reference.py FOLDER --precision float64 --refresh substep --tol 1e-13
    python benchmarks/reference.py FOLDER --method scalar_rmsprop

FOLDER holds the sources of "Understanding optimization in deep learning with central flows" (the folder with its
`src`), which are on no package index; torch, cvxpy and cvxopt must be installed. Model, data, loss and first weights
are its own, see `reference_network`. On a busy machine one thread each is faster for both: OMP_NUM_THREADS=1 NPROC=1
XLA_FLAGS=--xla_cpu_multi_thread_eigen=false.

Both start after a warm-up by gradient descent, and from the same second moment, ours: half of the first change,
where theirs begins with all of it. The rate puts the bound `above` times over the sharpness there. Its settings are its
own: 4 substeps an update, eigenvectors once an update and in between as they were, critical from 1.95 on, float32.
Ours: 4 substeps, eigenvectors where the predicted eigenvalues are 1 % off, at least every fourth update, float64.

Its updates are timed one by one, without its loggers; ours is called as a whole before every `chunk` of them, for one
update, up to the edge and to the end. Differences of these are the time of an update before the edge and at it, without
the first, in which either computes eigenvectors from nothing; the whole run is with it, and with checks in ours, but
without compiling. Rows are appended to RESULTS_REFERENCE.md.
"""

import datetime
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import tyro

import inercia as ia
from reference_network import Problem, Tree, compared, load, ours_of, problem, row_of, size_of
from timing import table

FILE = Path(__file__).parent / "RESULTS_REFERENCE.md"
TITLE = """# Against the authors' PyTorch code

Written by `benchmarks/reference.py`. Distances are over the displacement; times are medians, in brackets the
range over the rounds of ours. """
#: The bound over the sharpness during the warm-up; the decay of second moments.
SLOWER, DECAY = 3, 0.99


class Start(NamedTuple):
    """Where both begin."""

    weights: Tree
    method: Any  # ours
    rate: float
    scale: float  # second moment before the first update; 0 for none


def begin(loss: Callable, first: Tree, method: str, warm: int, above: float) -> Start:
    """Warm up by gradient descent far below the edge, and take the rate that puts the bound a little over it."""
    slow = 2 / (SLOWER * float(ia.curvature(loss, first, tol=1e-2).values[0]))
    weights = row_of(ia.iterate(ia.sgd(slow), loss, first, warm, every=warm).params, -1)
    with jax.enable_x64(True):
        square = size_of(jax.grad(loss)({name: jnp.asarray(leaf, float) for name, leaf in weights.items()})) ** 2
    each = sum(leaf.size for leaf in weights.values())
    scale = {"gd": 0.0, "scalar_rmsprop": square, "rmsprop": square / each}[method]
    sharp = float(ia.curvature(loss, weights, tol=1e-3).values[0])
    rate = 2 / (above * sharp) * (np.sqrt(scale) if scale else 1.0)
    if method == "gd":
        return Start(weights, ia.sgd(rate), rate, scale)
    return Start(weights, getattr(ia, method)(rate, DECAY, eps=0.0, initial_scale=scale), rate, scale)


class Settings(NamedTuple):
    """Of the reference's flow."""

    precision: str
    refresh: str  # when eigenvectors are computed: each step or substep
    tol: float
    substeps: int


def their_runs(theirs: Any, given: Problem, start: Start, nu: np.ndarray, method: str, own: Settings) -> tuple:
    """Return the reference's central flow and its iterates, at their start; nu is empty for gradient descent."""
    rules = {"gd": theirs.GradientDescent, "scalar_rmsprop": theirs.ScalarRMSProp, "rmsprop": theirs.RMSProp}
    rule = rules[method](lr=start.rate, **({"beta2": DECAY} if len(nu) else {}))
    w = given.flat(start.weights)
    shared = {"opt": rule, "loss_fn": given.loss, "w": w, "state": rule.initialize_state(w)}
    often = theirs.CentralFlowConfig(nsubsteps=own.substeps, frequency_in_substeps=own.refresh == "substep")
    flow = theirs.CentralFlow(**shared, eig_config=theirs.EigConfig(frequency=1, tol=own.tol), config=often)
    never = theirs.EigConfig(frequency=-1, raw_eigenvalues=False)
    iterates = theirs.DiscreteProcess(**shared, eig_config=never, config=theirs.DiscreteProcessConfig())
    if len(nu):
        flow.state[1:], iterates.state[1:] = torch.as_tensor(nu), start.scale
    return flow, iterates


class Followed(NamedTuple):
    """A run of the reference with ours beside."""

    points: list[Tree]
    seconds: np.ndarray  # (steps,), of its updates
    critical: np.ndarray  # (steps,), eigenvalues in its complementarity problem
    mine: dict[tuple, np.ndarray]  # seconds of ours, one for each chunk


def follow(flow: Any, given: Problem, steps: int, chunk: int, ours: dict[tuple, Callable]) -> Followed:
    """Let the reference go, and before each chunk time ours."""
    points, seconds, critical = [given.tree(flow.w)], [], []
    mine = {name: [] for name in ours}
    for n in range(steps):
        for name, call in ours.items() if n % chunk == 0 else ():
            mine[name].append(_timed(call))
        seconds.append(_timed(lambda: (flow.prepare(), flow.step())))
        points.append(given.tree(flow.w))
        critical.append(len(flow.X))
        print(f"{n:4d} {seconds[-1]:7.2f} s", *(f"{float(e):.4f}" for e in flow.eff_eigs), flush=True)
    arrays = {name: np.array(each) for name, each in mine.items()}
    return Followed(points, np.array(seconds), np.array(critical), arrays)


def _timed(call):
    time.sleep(0.05)  # threads of the contestant before go to sleep
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def distances(done: Followed, iterates: Any, given: Problem, path: Any) -> list[str]:
    """Return how far its flow is from ours, at the most and in the end, and its iterates from either."""
    steps = len(done.points) - 1
    size = size_of(row_of(path.params, -1), row_of(path.params, 0))
    apart = [size_of(point, row_of(path.params, n)) / size for n, point in enumerate(done.points)]
    for _ in range(steps):
        iterates.prepare()
        iterates.step()
    last = given.tree(iterates.w)
    both = (size_of(last, done.points[-1]) / size, size_of(last, row_of(path.params, -1)) / size)
    return [f"{size:.3g}", f"{max(apart):.1e}", f"{apart[-1]:.1e}", " / ".join(f"{100 * d:.2f} %" for d in both)]


def speeds(done: Followed, edge: int) -> list[str]:
    """Return seconds of theirs and of ours in either precision, and how many times as long: a phase after the other.

    An update before the edge and at it, without the first; then the whole run, with all that comes before.
    """
    steps, cells = len(done.seconds), []
    phases = ((1, edge, np.median), (max(edge, 1), steps, np.median), (0, steps, np.sum))
    for first, last, of_theirs in phases:
        if last - first < 1 or not done.mine:
            cells += ["", "", ""]
            continue
        theirs, each, times = of_theirs(done.seconds[first:last]), [], []
        for kind in ("float64", "float32"):
            ours = done.mine[kind, last] - (done.mine[kind, first] if first else 0.0)
            ours = ours / (last - first if first else 1)
            each.append(f"{np.median(ours):.3g}")
            times.append(f"{theirs / np.median(ours):.1f} ({theirs / ours.max():.1f}..{theirs / ours.min():.1f})")
        cells += [f"{theirs:.3g}", " / ".join(each), " / ".join(times)]
    return cells


HEAD = [
    "method", "layers, rows, parameters", "reference", "updates", "at the edge from", "critical", "displacement",
    "flows apart, at the most", "in the end", "its iterates to its flow / ours", "before the edge: its s",
    "ours, float64 / float32", "times", "at the edge: its s", "ours, float64 / float32", "times",
    "whole run: its s", "ours, float64 / float32", "times", "date, load, threads",
]  # fmt: skip


def write(out: Path, row: list[str]) -> None:
    """Append a row to the report's table."""
    if not out.exists():
        names = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
        versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "cvxpy", "cvxopt", "jax", "numpy"))
        stamp = f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}), Python"
        head = f"{TITLE}{stamp} {platform.python_version()}, {versions}.\n\n"
        out.write_text(head + table(HEAD, []), encoding="utf-8")
    lines = out.read_text(encoding="utf-8").split("\n")
    last = max(n for n, line in enumerate(lines) if line.startswith("|"))
    lines.insert(last + 1, "| " + " | ".join(row) + " |")
    out.write_text("\n".join(lines), encoding="utf-8")


def _lines(path):
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []


def contestants(loss: Callable, start: Start, lengths: set[int], substeps: int) -> dict[tuple, Callable]:
    """Return ours in both precisions and of these lengths, compiled."""
    calls = {
        (kind, n): partial(ia.central, start.method, f, start.weights, n, substeps=substeps)
        for kind, f in (("float64", loss), ("float32", ia.in_float32(loss)))
        for n in lengths
    }
    for call in calls.values():
        call()
    return calls


def first_moment(path: Any, method: str, given: Problem) -> np.ndarray:
    """Return our second moment at time 0, flat; empty for gradient descent."""
    if method == "gd":
        return np.zeros(0)
    if method == "scalar_rmsprop":
        return path.state.nu[:1]
    return given.flat(row_of(path.state.nu, 0)).numpy()


def main(
    folder: tyro.conf.Positional[Path],
    method: Literal["gd", "scalar_rmsprop", "rmsprop"] = "gd",
    rows: int = 50,
    layers: int = 2,
    steps: int = 40,
    warm: int = 200,
    above: float = 1.02,
    precision: Literal["float32", "float64"] = "float32",
    refresh: Literal["step", "substep"] = "step",
    tol: float = 1e-10,
    substeps: int = 4,
    chunk: int = 10,
    out: Path = FILE,
) -> None:
    """Run both and append a row.

    Args:
        folder: With the reference's src.
        method: Whose central flow.
        rows: Sequences to sort.
        layers: Of the transformer.
        steps: Updates of the flows.
        warm: Updates of gradient descent before.
        above: The bound over the sharpness at the start.
        precision: Of the reference.
        refresh: When the reference computes eigenvectors.
        tol: Of its eigenvectors, times 20 and the number of parameters.
        substeps: Of both.
        chunk: Updates of the reference between two timings of ours; 0 to time nothing.
        out: The report.
    """
    theirs = load(folder)
    exact, first = (problem(theirs, rows, layers, name) for name in ("float64", "float32"))
    torch.set_default_dtype(getattr(torch, precision))
    given, loss = exact if precision == "float64" else first, ours_of(exact)
    start = begin(loss, first.tree(first.weights), method, warm, above)
    print(f"{len(first.weights)} parameters, rate {start.rate:.4g}, {compared(exact, loss, start.weights)}", flush=True)
    path = ia.central(start.method, loss, start.weights, steps, substeps=substeps)
    swings = np.trace(path.observed["X"], axis1=1, axis2=2) > 0
    edge = int(np.argmax(swings)) if swings.any() else steps
    print(f"at the edge from update {edge} on", flush=True)
    ours = contestants(loss, start, {1, edge or steps, steps}, substeps) if chunk else {}
    load_before = os.getloadavg()[0]
    own, nu = Settings(precision, refresh, tol, substeps), first_moment(path, method, exact)
    flow, iterates = their_runs(theirs, given, start, nu, method, own)
    done = follow(flow, given, steps, chunk or steps, ours)
    settings = f"{precision}, eigenvectors each {refresh}, tol {tol:g}, {substeps} substeps"
    row = [method, f"{layers}, {rows}, {len(first.weights):,}", settings, str(steps), str(edge)]
    row += [str(done.critical.max()), *distances(done, iterates, given, path), *speeds(done, edge)]
    row += [f"{datetime.date.today()}, {load_before:.1f}, {torch.get_num_threads()}"]
    write(out, row)
    print(*(f"{name}: {cell}" for name, cell in zip(HEAD, row, strict=True)), sep="\n")


if __name__ == "__main__":
    tyro.cli(main)
