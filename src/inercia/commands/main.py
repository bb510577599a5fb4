"""The `inercia` command: demo, train, compare, order, edge.

Exit codes: 0 done; 1 the computation failed (it diverged, or the solver gave up); 2 wrong input; 75 another process of
a distributed training was lost (134 where JAX itself ends the process for it): start it again; 130 interrupted.
"""

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro

from inercia.commands.run_demo import demo as run_demo
from inercia.commands.run_demo import digits_loss, edge_loss, save
from inercia.comparison.convergence_order import order
from inercia.comparison.edge_run import edge as run_edge
from inercia.comparison.gap_and_energy import gap
from inercia.core import check
from inercia.core.method import Method
from inercia.edge_of_stability.hessian import CurvatureError
from inercia.flows.integration import SOLVERS, IntegrationError, integrate
from inercia.flows.iteration import iterate
from inercia.methods.table import METHODS
from inercia.plot import edge as plot_edge
from inercia.plot import gaps as plot_gaps
from inercia.plot import orders as plot_orders
from inercia.plot import paths as plot_paths
from inercia.problems.data import digits, split, standardise
from inercia.problems.empirical_risk import accuracy, risk
from inercia.problems.files import read
from inercia.problems.network import mlp
from inercia.problems.toy_losses import PROBLEMS
from inercia.training import hosts
from inercia.training.loop import train as run_train

_RATES = {  # for training; the 2-D problems bring their own
    "sgd": 0.1, "momentum": 0.1, "nesterov": 0.02, "rmsprop": 1e-3, "adagrad": 0.05, "adam": 2e-3, "adamw": 2e-3,
    "nadam": 2e-3, "lion": 3e-4, "sign_sgd": 3e-4, "scalar_rmsprop": 0.02,
}  # fmt: skip
#: For `edge`: rates at which the method reaches its edge on the digits within a thousand updates.
_EDGE_RATES = {"sgd": 0.8, "momentum": 2.0, "rmsprop": 1e-3, "scalar_rmsprop": 0.03, "adam": 1e-3}


class FailedError(Exception):
    """The computation ran and failed; its message is for the reader."""


def demo(out: Path = Path("figures/demo"), seed: int = 0) -> None:
    """Train on the bundled digits, check against optax, solve the momentum ODE, draw the figures.

    Args:
        out: Folder for the figures.
        seed: Fixes the starting weights and all batches.
    """
    run_demo(out, seed=seed)


def train(
    method: str = "adam",
    data: Path | None = None,
    labels: Path | None = None,
    target: str = "-1",
    task: Literal["auto", "classification", "regression"] = "auto",
    hidden: tuple[int, ...] = (128, 128),
    activation: str = "tanh",
    learning_rate: float | None = None,
    beta: float | None = None,
    scheme: str | None = None,
    epochs: int = 40,
    batch_size: int = 128,
    sampler: str = "shuffle",
    test: float = 0.2,
    seed: int = 0,
    save_params: Annotated[Path | None, tyro.conf.arg(name="save")] = None,
    checkpoint: Path | None = None,
    save_every: int | None = None,
    distributed: bool = False,
    shard_params: bool = False,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> None:
    """Train a fully connected network on the bundled digits or on your own table.

    Args:
        method: sgd, momentum, nesterov, rmsprop, scalar_rmsprop, adagrad, adam, adamw, nadam, lion or sign_sgd.
        data: A .csv, .npz (arrays x and y) or IDX file; the bundled digits when left out.
        labels: The IDX file of the labels, when data is IDX.
        target: CSV column to predict, by name or number; the last by default.
        task: Classification when the target is written in whole numbers, else regression, unless said here.
        hidden: Widths of the hidden layers.
        activation: tanh, relu, sigmoid, gelu, swish, softplus, sin or identity.
        learning_rate: Step size; by default one that suits the method on the digits.
        beta: Decay of momentum's average, 0.9 by default.
        scheme: Momentum's order: semi-implicit (new average) or explicit (the lecture's old one).
        epochs: Passes over the training rows.
        batch_size: Rows per iteration.
        sampler: shuffle (epochs without replacement), partition (the lecture's fixed batches) or full.
        test: Share of the rows held out to test on.
        seed: Fixes the split, the starting weights and all batches.
        save_params: Write the trained weights to this .npz file.
        checkpoint: Save to this folder, and go on from what it holds; Ctrl-C then ends the run saved.
        save_every: Iterations between checkpoints, a multiple of those of an epoch; one epoch by default.
        distributed: Share the work with the same command on other hosts, over all their devices; SLURM and mpirun tell
            who they are, else give the next three.
        shard_params: With distributed, cut weights and optimizer state over the devices too.
        coordinator: Address host:port of process 0.
        processes: How many processes there are.
        process: Number of this one, from 0.
    """
    if distributed:
        hosts.join(coordinator, processes, process)
    elif shard_params or (coordinator, processes, process) != (None, None, None):
        raise ValueError("--shard-params, --coordinator, --processes and --process belong to --distributed.")
    everything = None if data is None else read(data, labels, target=target)
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
    chosen = _method(method, _RATES.get(method, 1.0) if learning_rate is None else learning_rate, beta, scheme)
    full = sampler == "full"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", check.InerciaWarning)  # told below, as the failure that it is
        result = run_train(
            chosen, loss, network.init(jax.random.key(seed)), (x, y), epochs=epochs,
            batch_size=None if full else batch_size, key=seed, sampler=sampler, progress=sys.stderr.isatty(),
            checkpoint=checkpoint, save_every=save_every, shard_params=shard_params,
            mesh=jax.make_mesh((jax.device_count(),), ("devices",)) if distributed else None,
        )  # fmt: skip
    params = jax.tree.map(hosts.gathered, result.params)
    if not hosts.is_main_process():
        return
    if result.diverged is not None:
        raise FailedError(f"training diverged at iteration {result.diverged}: try a smaller --learning-rate.")
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


def compare(
    method: str = "momentum",
    problem: str = "wells",
    steps: int = 60,
    learning_rate: float | None = None,
    beta: float | None = None,
    scheme: str | None = None,
    dt: float = 1.0,
    solver: str = "DOP853",
    out: Path = Path("figures/compare"),
) -> None:
    """Lay a method's iterates and its flow side by side; write both paths as NPZ and CSV, and a figure.

    Args:
        method: sgd, momentum, nesterov, rmsprop, scalar_rmsprop, adagrad, adam, adamw, nadam, lion or sign_sgd.
        problem: ravine, wells or valley (two parameters), or digits (a 64-32-10 network).
        steps: Number of updates.
        learning_rate: Step size; the problem's own by default.
        beta: Decay of momentum's average, 0.9 by default.
        scheme: Momentum's order: semi-implicit (new average) or explicit (the lecture's old one).
        dt: Flow time of one update; below 1 the iterates come closer to the flow.
        solver: Of the differential equation: DOP853, RK45, RK23, Radau, BDF or LSODA.
        out: Folder for the files.
    """
    check.one_of("solver", solver, SOLVERS)
    loss, params, rate = _problem(problem, method)
    chosen = _method(method, rate if learning_rate is None else learning_rate, beta, scheme, dt)
    path = iterate(chosen, loss, params, steps)
    if path.diverged is not None:
        raise FailedError(f"the iterates diverged at time {path.diverged:g}: try a smaller --learning-rate or --dt.")
    flow = integrate(chosen, loss, params, path.times, solver=solver, progress=sys.stderr.isatty())
    apart = gap(path, flow)
    assert flow.solve is not None
    print(
        f"{method} on {problem}: {steps} updates; {solver} took {flow.solve.steps} steps, {flow.solve.nfev} gradients\n"
    )
    print(f"{'time':>8}{'distance':>12}{'relative':>12}{'loss iterates':>16}{'loss flow':>12}")
    for i in np.unique(np.linspace(0, steps, 9).astype(int)):
        print(f"{path.times[i]:>8.4g}{apart.distance[i]:>12.3e}{apart.relative[i]:>12.2%}"
              f"{path.loss[i]:>16.6g}{flow.loss[i]:>12.6g}")  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    print()
    for name, line in (("iterates", path), ("flow", flow)):
        line.save_npz(out / f"{name}.npz")
        line.save_csv(out / f"{name}.csv")
        print(f"{out / name}.npz, .csv")
    if path.flat().shape[1] == 2:
        print(save(lambda ax: plot_paths(ax, loss, {"flow": flow, "iterates": path}), out / "paths.png"))
    print(save(lambda ax: plot_gaps(ax, {method: apart}), out / "gap.png"))


def order_(
    method: str = "momentum",
    problem: str = "wells",
    time: float = 16.0,
    dts: tuple[float, ...] = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32),
    learning_rate: float | None = None,
    beta: float | None = None,
    scheme: str | None = None,
    out: Path | None = None,
) -> None:
    """Measure how fast a method's iterates approach its flow as the step is refined.

    Args:
        method: sgd, momentum, nesterov, rmsprop, scalar_rmsprop, adagrad, adam, adamw, nadam, lion or sign_sgd.
        problem: ravine, wells or valley (two parameters), or digits (a 64-32-10 network).
        time: Length of the comparison, in iterations.
        dts: At least three steps, the largest a multiple of the others.
        learning_rate: Step size; the problem's own by default.
        beta: Decay of momentum's average, 0.9 by default.
        scheme: Momentum's order: semi-implicit (new average) or explicit (the lecture's old one).
        out: Write a figure into this folder.
    """
    loss, params, rate = _problem(problem, method)

    def family(dt: float) -> Method:
        return _method(method, rate if learning_rate is None else learning_rate, beta, scheme, dt)

    result = order(family, loss, params, time, dts)
    print(f"{'dt':>12}{'gap':>14}")
    for dt, apart in zip(result.dts, result.gaps, strict=True):
        print(f"{dt:>12.6g}{apart:>14.4e}")
    print(f"\n{result.verdict}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        print(save(lambda ax: plot_orders(ax, {method: result}), out / "order.png"))


def edge(
    method: str = "sgd",
    data: Path | None = None,
    labels: Path | None = None,
    target: str = "-1",
    rows: int = 500,
    hidden: tuple[int, ...] = (16, 16),
    activation: str = "swish",
    steps: int = 1000,
    learning_rate: float | None = None,
    beta: float | None = None,
    scheme: str | None = None,
    k: int = 6,
    substeps: int = 4,
    window: int = 50,
    seed: int = 0,
    out: Path = Path("figures/edge"),
) -> None:
    """Train on all rows at once up to the edge of stability, and see which flow the iterates follow there.

    Writes edge.png (loss, sharpness with its bound, distance: iterates, stable flow, central flow) and edge.npz.

    Args:
        method: sgd, momentum, rmsprop (with bias correction), scalar_rmsprop or adam (with b2 = 0.99).
        data: A .csv, .npz (arrays x and y) or IDX file; the bundled digits when left out.
        labels: The IDX file of the labels, when data is IDX.
        target: CSV column to predict, by name or number; the last by default.
        rows: How many rows of the data to train on.
        hidden: Widths of the hidden layers.
        activation: Smooth: tanh, sigmoid, gelu, swish, softplus or sin.
        steps: Number of updates.
        learning_rate: Step size; by default one that reaches the edge on the digits.
        beta: Decay of momentum's average (0.5 by default), or b1 of adam (0.5).
        scheme: Momentum's order: semi-implicit (new average) or explicit (the lecture's old one).
        k: Eigenvalues that are followed, more than are critical at once.
        substeps: Of the central flow, per update.
        window: Updates over which the iterates are averaged.
        seed: Fixes the choice of rows and the starting weights.
        out: Folder for the files.
    """
    check.one_of("method", method, _EDGE_RATES)
    everything = None if data is None else read(data, labels, target=target)
    x, y = (digits(0.1, seed) if everything is None else split(everything, 0.1, seed)).train
    if check.integer("rows", rows) > len(x):
        raise ValueError(f"rows must be at most {len(x)}, nine tenths of the data, but it is {rows}.")
    loss, start = edge_loss(x[:rows], y[:rows], hidden, activation, seed)
    chosen = _at_the_edge(method, learning_rate, beta, scheme)
    try:
        run = run_edge(chosen, loss, start, steps, k=k, substeps=substeps, window=window)
    except CurvatureError as error:
        raise FailedError(str(error)) from None
    size = run.central.flat().shape[1]
    print(f"{method} on {rows} rows, {size} parameters, squared error; all in float64")
    print(f"\n{'update':>8}{'loss':>12}{'stable':>12}{'central':>12}{'sharpness':>12}{'stable':>10}{'central':>10}"
          f"{'to stable':>11}{'to central':>11}")  # fmt: skip
    middle, stable = run.central.observed, run.stable.observed
    for i in np.unique(np.linspace(0, steps - window // 2, 11).astype(int)):
        way = max(run.displacement[i], 1e-300)
        print(f"{run.times[i]:>8g}{run.loss[i]:>12.5f}{run.stable.loss[i]:>12.5f}{middle['mean_loss'][i]:>12.5f}"
              f"{run.sharpness[i]:>12.3f}{stable['sharpness'][i, 0]:>10.3f}{middle['sharpness'][i, 0]:>10.3f}"
              f"{run.to_stable[i] / way:>11.2%}{run.to_central[i] / way:>11.2%}")  # fmt: skip
    if run.reached is None:
        print(
            f"\nThe edge (sharpness {run.bound:.4g}) is not reached in {steps} updates: take a larger --learning-rate."
        )
    else:
        print(f"\nThe edge (sharpness {run.bound:.4g}) is reached at update {run.reached:g}.")
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        out / "edge.npz", times=run.times, bound=run.bound, loss=run.loss, sharpness=run.sharpness,
        displacement=run.displacement, to_central=run.to_central, to_stable=run.to_stable,
        central_loss=middle["mean_loss"], central_sharpness=middle["sharpness"], X=middle["X"],
        stable_loss=run.stable.loss, stable_sharpness=stable["sharpness"],
        iterates_loss=run.iterates.loss, iterates_sharpness=run.iterates.observed["sharpness"],
    )  # fmt: skip
    print(out / "edge.npz")
    print(save(lambda axes: plot_edge(axes, run), out / "edge.png", (10.5, 3.2), columns=3))


def _at_the_edge(name: str, learning_rate: float | None, beta: float | None, scheme: str | None) -> Method:
    usual = 0.4 if scheme == "explicit" else _EDGE_RATES[name]
    rate, b = usual if learning_rate is None else learning_rate, 0.5 if beta is None else beta
    if (beta is not None and name not in ("momentum", "adam")) or (scheme is not None and name != "momentum"):
        raise ValueError(f"--beta belongs to momentum and adam, --scheme to momentum, but the method is {name}.")
    if name == "momentum":
        return METHODS[name](rate, b, scheme=scheme or "semi-implicit")
    options: dict[str, Any] = {"rmsprop": {"decay": 0.99, "bias_correction": True}, "adam": {"b1": b, "b2": 0.99}}
    return METHODS[name](rate, **options.get(name, {}))


def _method(name: str, learning_rate: float, beta: float | None, scheme: str | None, dt: float = 1.0) -> Method:
    check.one_of("method", name, METHODS)
    options: dict[str, Any] = {k: v for k, v in (("beta", beta), ("scheme", scheme)) if v is not None}
    if options and name != "momentum":
        raise ValueError(f"--{next(iter(options))} belongs to the method momentum, but the method is {name}.")
    return METHODS[name](learning_rate, **options, dt=dt)


def _problem(name: str, method: str) -> tuple[Any, Any, float]:
    check.one_of("problem", name, [*PROBLEMS, "digits"])
    if name == "digits":
        return *digits_loss(), _RATES.get(method, 1.0)
    problem = PROBLEMS[name]
    return problem.loss, problem.start, problem.learning_rate


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; leaves by `SystemExit`."""
    commands = {"demo": demo, "train": train, "compare": compare, "order": order_, "edge": edge}
    try:
        tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="inercia",
            description="Optimizers that know their own continuous-time limit: train networks, and see how far "
            "the iterates are from the differential equation they follow.",
            args=arguments,
        )
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"inercia: {error}", file=sys.stderr)
        sys.exit(2)
    except (FailedError, IntegrationError) as error:
        print(f"inercia: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("inercia: interrupted", file=sys.stderr)
        sys.exit(130)
