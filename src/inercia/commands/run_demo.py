"""The story told on real handwritten digits: train, check against optax, solve the ODE, measure the gap."""

import os
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from functools import partial
from importlib import import_module
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.comparison.both_schemes import two_dimensional
from inercia.comparison.convergence_order import Order, order
from inercia.comparison.gap_and_energy import gap
from inercia.core.method import Params
from inercia.flows.integration import integrate
from inercia.flows.iteration import iterate
from inercia.methods import table as methods
from inercia.problems.data import digits
from inercia.problems.digits_loss import digits_loss
from inercia.problems.empirical_risk import accuracy, risk
from inercia.problems.network import Network, mlp
from inercia.training.loop import Result, train

Print = Callable[[str], None]


class Contestant(NamedTuple):
    """A method of the demo, how it is fed, and the optax transformation that it must equal."""

    method: optax.GradientTransformation
    reference: optax.GradientTransformation
    sampler: str
    epochs: int


def contestants() -> dict[str, Contestant]:
    """Return the lecture's methods in the lecture's order; GD gets as many iterations as the others."""
    a, b = 0.1, 0.9
    average = optax.ema(b, debias=False)
    return {
        "gradient descent": Contestant(methods.sgd(a), optax.sgd(a), "full", 440),
        "SGD": Contestant(methods.sgd(a), optax.sgd(a), "shuffle", 40),
        "momentum, explicit": Contestant(
            methods.momentum(0.02, b, scheme="explicit"),
            optax.chain(average, _one_step_late(), optax.scale(-0.02)),
            "shuffle",
            40,
        ),
        "momentum, semi-implicit": Contestant(
            methods.momentum(a, b), optax.chain(average, optax.scale(-a)), "shuffle", 40
        ),
        "Adam": Contestant(methods.adam(2e-3), optax.adam(2e-3), "shuffle", 40),
    }


def demo(out: FilePath, say: Print = print, seed: int = 0) -> dict[str, float]:
    """Run the demo, writing figures into `out`; return the test accuracies."""
    out.mkdir(parents=True, exist_ok=True)
    network = mlp([64, 128, 128, 10])
    schemes = methods.SCHEMES
    families = {scheme: partial(methods.momentum, 0.1, 0.9, scheme=scheme) for scheme in schemes}
    # Most of the time is the compiler's, which leaves other threads the interpreter.
    with ThreadPoolExecutor(max(2, (os.cpu_count() or 2) // 2)) as pool:
        problem = pool.submit(digits_loss, seed=seed)
        plot = pool.submit(import_module, "inercia.plot")  # which loads matplotlib
        results, scores = _train_all(network, pool, say, seed)
        loss, params = problem.result()
        started = _order_of(partial(methods.adam, 2e-3), None, loss, params, pool)
        drawn = pool.submit(two_dimensional)
        gaps = _gaps(families, loss, params, say)
        flow = families["semi-implicit"](dt=1.0)  # both schemes', compiled for the gaps
        orders = {name: _order_of(family, flow, loss, params, pool) for name, family in families.items()}
        figures = _Figures(out, plot.result())
        figures.of_paths(results, gaps, drawn.result())  # while the orders are compiled
        measured = _orders(orders | {"Adam": started}, say)
        figures.of_orders(measured)
    say("\nFigures:")
    for file in figures.files:
        say(f"  {file}")
    return scores


def _train_all(network: Network, pool: Executor, say: Print, seed: int) -> tuple[dict[str, Result], dict[str, float]]:
    data, test = digits()
    params = network.init(jax.random.key(seed))
    loss, score = risk(network, "cross-entropy"), accuracy(network)
    x, y = jnp.asarray(test.x), jnp.asarray(test.y)

    def evaluate(params):
        return score(params, (x, y))

    def run(method, contestant, watched=evaluate, state=None):
        return train(
            method, loss, params, data, epochs=contestant.epochs, key=seed, sampler=contestant.sampler,
            batch_size=None if contestant.sampler == "full" else 128, evaluate=watched, state=state,
        )  # fmt: skip

    say(f"Digits: {len(data.x)} images to train on, {len(test.x)} to test; network 64-128-128-10, batches of 128.\n")
    say(f"{'method':<26}{'iterations':>12}{'test accuracy':>15}{'steps/s':>10}{'deviation from optax':>22}")
    results, scores, every = {}, {}, contestants()
    ours = [pool.submit(run, each.method, each) for each in every.values()]
    one = _any_of([each.reference for each in every.values()])
    begin = jax.jit(one.init)
    theirs = {}
    for number, (name, each) in enumerate(every.items()):
        alone = each.sampler == "full"  # whose program is its own anyway
        given = (each.reference, each, None) if alone else (one, each, None, begin(params, number))
        theirs[name] = pool.submit(run, *given)
    references = {name: future.result() for name, future in theirs.items()}
    wait(ours)
    for name, contestant in every.items():  # again, with the machine to itself and nothing to compile
        began = time.perf_counter()
        result = jax.block_until_ready(run(contestant.method, contestant))
        seconds = time.perf_counter() - began
        steps = int(np.asarray(result.history.step)[-1])  # on the host: a device compiles what takes a part
        results[name], scores[name] = result, float(np.asarray(result.history.evaluate)[-1])
        apart = _relative(result.params, references[name].params)
        say(f"{name:<26}{steps:>12}{scores[name]:>15.2%}{steps / seconds:>10.0f}{apart:>22.1e}")
    say("\n(deviation: |theta - theta_optax| / |theta| after all iterations, float32, same batches)")
    return results, scores


def _gaps(families: dict, loss: Callable, params: Params, say: Print) -> dict:
    say("\nThe momentum ODE of a 64-32-10 network on all training images, a = 0.1, b = 0.9:")
    gaps, flow = {}, None
    for name, family in families.items():
        path = iterate(family(dt=1.0), loss, params, 100)
        flow = flow or integrate(family(dt=1.0), loss, params, path.times)
        gaps[name] = gap(path, flow)
    assert flow is not None
    assert flow.solve is not None
    say(f"  {flow.solve.solver}: {flow.solve.steps} steps, {flow.solve.nfev} gradients; the loss falls from "
        f"{flow.loss[0]:.3f} to {flow.loss[-1]:.3f} in {flow.times[-1]:.0f} iterations' time.")  # fmt: skip
    for name, measured in gaps.items():
        at = np.searchsorted(measured.times, [10, 30, 100])
        figures = ", ".join(f"{measured.relative[i]:.1%} at {measured.times[i]:.0f}" for i in at)
        say(f"  gap, {name:<14} (over the displacement): {figures}")
    return gaps


def _order_of(family: Callable, flow: Any, loss: Callable, params: Params, pool: Executor) -> Future:
    dts = [2.0**-k for k in range(6)]
    return pool.submit(order, lambda dt: family(dt=dt), loss, params, 8.0, dts, flow=flow)


def _orders(started: dict[str, Future], say: Print) -> dict[str, Order]:
    say("\nRefining the step (8 iterations' time): measured order in dt")
    measured = {name: result.result() for name, result in started.items()}
    for name, result in measured.items():
        say(f"  {name:<14} {result.verdict}")
    return measured


class _Figures:
    """The figures of the demo, drawn as what they show is there."""

    def __init__(self, out: FilePath, plot: Any) -> None:
        self.out, self.plot, self.files = out, plot, []

    def of_paths(self, results: dict[str, Result], gaps: dict, flat: tuple[Callable, dict]) -> None:
        """Draw the iterates and flows, the trainings and the gaps."""
        plot, (loss, lines) = self.plot, flat
        histories = {name: result.history for name, result in results.items()}
        self._save("momentum", lambda ax: plot.paths(ax, loss, lines))
        self._save("training", lambda ax: plot.training(ax, histories))

        def accuracies(ax):
            plot.training(ax, histories, evaluate=True, label="test accuracy")
            ax.set_ylim(0.6, 1)

        self._save("accuracy", accuracies)
        self._save("gap", lambda ax: plot.gaps(ax, gaps, relative=True))
        self._save("damping", lambda ax: plot.damping(ax, 0.1))

    def of_orders(self, measured: dict[str, Order]) -> None:
        """Draw the gaps over the step."""
        self._save("order", lambda ax: self.plot.orders(ax, measured))

    def _save(self, name: str, draw: Callable) -> None:
        self.files.append(self.plot.save(draw, self.out / f"{name}.png"))


def _relative(a: Params, b: Params) -> float:
    def norm(*leaves):  # on the host: a device would compile each of its operations for each shape
        return np.sqrt(sum(np.sum(np.square(leaf)) for leaf in leaves))

    ours, theirs = ([np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(params)] for params in (a, b))
    return float(norm(*(p - q for p, q in zip(ours, theirs, strict=True))) / norm(*theirs))


def _any_of(transformations: list[optax.GradientTransformation]) -> optax.GradientTransformation:
    """Return a transformation that is the one whose number its state holds: one program, compiled once, runs each."""

    def init(params, number=0):
        return jnp.int32(number), tuple(each.init(params) for each in transformations)

    def update(updates, state, params=None):
        def of(number):
            def step(updates, states):
                updates, own = transformations[number].update(updates, states[number], params)
                return updates, (*states[:number], own, *states[number + 1 :])

            return step

        number, states = state
        updates, states = jax.lax.switch(number, [of(n) for n in range(len(transformations))], updates, states)
        return updates, (number, states)

    return optax.GradientTransformation(init, update)


def _one_step_late() -> optax.GradientTransformation:
    """Return the updates of the step before, zeros at first: optax's way to the lecture's old m."""

    def init(params):
        return optax.tree.zeros_like(params)

    def update(updates, state, params=None):
        return state, updates

    return optax.GradientTransformation(init, update)
