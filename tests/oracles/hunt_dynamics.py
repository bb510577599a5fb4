"""Cases of `iterate`, `train` and `integrate`, each beside its loop in NumPy."""

from functools import cache, partial
from typing import Any

import jax
import numpy as np

import inercia as ia
from oracles import losses
from oracles.flow_rules import solve
from oracles.methods import NUMBERS, Kind, carried, drawn, state_of
from oracles.update_rules import Rule

POINTS = 10
#: Kinds of programs that are drawn from; a case draws numbers of its own.
PROGRAMS = {"iterate": 120, "train": 30, "integrate": 30}
#: One case in so many is called as people do, with Python numbers, and compiles a program of its own.
PLAIN = 40
SMOOTH = [name for name in NUMBERS if name not in {"lion", "sign_sgd", "adamax"}]


@cache
def program(task: str, number: int) -> tuple[Kind, str]:
    """Return a kind of method and the loss that it is compiled with."""
    rng = np.random.default_rng([number, *task.encode()])
    names = SMOOTH if task == "integrate" else list(NUMBERS)
    names = [names[number % len(names)]]
    tree = "net" if task == "train" else str(rng.choice(["nested", "nested", "vector", "scalar", "net"]))
    return drawn(rng, names, tree), "net" if tree == "net" else str(rng.choice(["quadratic", "rational"]))


def agree(ours: Any, theirs: Any, doubt: Any, relative: float, what: str) -> None:
    """Raise unless two arrays differ by less than `relative` of their size, or by what rounding may have grown to."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    bound = relative * (np.max(abs(theirs)) + 1e-3) + 100 * np.asarray(doubt)
    off = np.max(abs(ours - theirs) - bound, initial=-1.0)
    if not (np.isfinite(ours).all() and off <= 0):
        raise AssertionError(
            f"{what}: ours {ours.ravel()[-4:]}, theirs {theirs.ravel()[-4:]}, off by {off:.2e} too much"
        )


def looped(kind: Kind, h: Any, z: np.ndarray, grads: Any, noise: float = 0.0) -> np.ndarray:
    """Return the rows (steps + 1, n) of the NumPy loop; `noise` is relative, of each gradient."""
    masked = dict(kind.options).get("masked", False) or kind.factory not in {"adamw", "lion", "adadelta"}
    rule = Rule(kind.factory, h, dict(kind.options), kind.schedule, kind.dt, losses.decaying(kind.tree, masked))
    rng, path = np.random.default_rng(0), [z]
    for k, grad in enumerate(grads):

        def disturbed(z, grad=grad):
            g = grad(z)
            return g + noise * np.max(abs(g)) * rng.choice([-1, 1], len(g)) if noise else g

        path.append(rule.step(k, path[-1], disturbed))
    return np.array(path)


def doubted(kind: Kind, h: Any, z: np.ndarray, grads: Any, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the loop's rows, and how far rounding of relative size `noise` moves each."""
    exact = looped(kind, h, z, grads)
    moved = abs(looped(kind, h, z, grads, noise) - exact).max(axis=1, keepdims=True)
    return exact, np.maximum.accumulate(moved)


def start(rng: np.random.Generator, n: int, dtype: Any) -> np.ndarray:
    return rng.normal(size=n).astype(dtype).astype(np.float64)


def iterate(rng: np.random.Generator) -> str:
    """Iterates of a random method."""
    kind, loss = program("iterate", int(rng.integers(PROGRAMS["iterate"])))
    n, h = losses.size(kind.tree), kind.numbers(rng)
    data, dtype = losses.drawn(loss, rng, n), rng.choice([np.float32, np.float64])
    z, every = start(rng, n, dtype), int(rng.choice([1, 2, 4]))
    grad = lambda z: losses.by_hand(loss, z, *data)[1]  # noqa: E731
    theirs, doubt = doubted(kind, h, z, [grad] * (POINTS * every), 1e-15)
    params = jax.tree.map(lambda x: np.asarray(x, dtype), losses.filled(kind.tree, z))
    names = ("x", "y") if loss == "net" else ("A", "c")
    bound = partial(losses.LOSSES[loss], **dict(zip(names, data, strict=True)))
    if rng.integers(PLAIN) == 0:
        path = ia.iterate(kind.made(h), bound, params, POINTS * every, every=every)
    else:
        with jax.enable_x64(True):
            state = state_of(kind, h, losses.filled(kind.tree, z))
        cut = int(rng.integers(POINTS + 1)) if rng.integers(3) == 0 else None
        path = ia.iterate(carried(kind), bound, params, POINTS * every, every=every, state=state, start=0.0)
        if cut:
            again = ia.iterate(
                carried(kind), bound, path[cut].params, POINTS * every, every=every, state=path[cut].state
            )
            whole = losses.rows(path.params, len(path))[cut:]
            agree(losses.rows(again.params, len(again))[: len(whole)], whole, 0, 0, f"{kind} {h} from {cut} on")
    told = f"{kind} {h} {loss} {dtype.__name__} every {every}"
    agree(path.times, kind.dt * every * np.arange(POINTS + 1), 0, 1e-15, f"{told} times")
    agree(losses.rows(path.params, len(path)), theirs[::every], doubt[::every], 1e-9, f"{told} params")
    values = [losses.by_hand(loss, z, *data)[0] for z in theirs[::every]]
    agree(path.loss, values, 10 * doubt[::every, 0], 1e-9, f"{told} loss")
    return told


def train(rng: np.random.Generator) -> str:
    """A training on batches, in float32."""
    kind, loss = program("train", int(rng.integers(PROGRAMS["train"])))
    h, z, key = kind.numbers(rng), start(rng, losses.size("net"), np.float32), int(rng.integers(1000))
    x, y = (part.astype(np.float32) for part in losses.drawn(loss, rng, 0))
    sampler, batch, epochs = [("full", None, 6), ("shuffle", 5, 3), ("shuffle", 4, 2), ("partition", 5, 2)][
        rng.integers(4)
    ]
    cut = ia.sampler(sampler, len(x), batch)
    steps = epochs * cut.epoch
    rows = [slice(None)] * steps if cut.rows is None else np.asarray(cut.rows(jax.random.key(key), 0, steps))
    x64, y64 = x.astype(np.float64), y.astype(np.float64)
    batches = [(x64[r], y64[r]) for r in rows]
    grads = [lambda z, b=b: losses.by_hand(loss, z, *b)[1] for b in batches]
    theirs, doubt = doubted(kind, h, z, grads, 1e-7)
    params = jax.tree.map(lambda a: a.astype(np.float32), losses.filled("net", z))
    state = state_of(kind, h, params)
    result = ia.train(
        carried(kind),
        losses.net_on,
        params,
        (x, y),
        epochs=epochs,
        key=key,
        sampler=sampler,
        batch_size=batch,
        state=state,
    )
    told = f"{kind} {h} {sampler} {batch} key {key}"
    agree(losses.rows(result.params, 1)[0], theirs[-1], doubt[-1], 2e-5, f"{told} params")
    values = [losses.by_hand(loss, z, *b)[0] for z, b in zip(theirs, batches, strict=False)]
    means = np.reshape(values, (epochs, -1)).mean(axis=1)
    agree(result.history.loss, means, 10 * doubt[-1], 2e-5, f"{told} loss")
    return told


@cache
def fixed_data(number: int, loss: str, n: int) -> tuple:
    return losses.drawn(loss, np.random.default_rng(number), n)


@cache
def fixed_loss(number: int, loss: str, n: int) -> Any:
    data = fixed_data(number, loss, n)
    return lambda params: losses.LOSSES[loss](params, *data)


def integrate(rng: np.random.Generator) -> str:
    """The flow of a random method."""
    number = int(rng.integers(PROGRAMS["integrate"]))
    kind, loss = program("integrate", number)
    n, h = losses.size(kind.tree), kind.numbers(rng)
    h |= {name: max(h[name], 1e-3) for name in ("eps", "eps_root") if name in h}  # a layer of width eps is stiff
    data, z = fixed_data(number, loss, n), start(rng, n, np.float64)
    times = np.concatenate([[0.0], np.sort(rng.uniform(0.1, 20, 4))])
    masked = dict(kind.options).get("masked", False) or kind.factory not in {"adamw", "lion", "adadelta"}
    o = {**dict(kind.options), "decays": losses.decaying(kind.tree, masked)}
    grad = lambda z: losses.by_hand(loss, z, *data)[1]  # noqa: E731
    theirs = solve(kind.factory, h, o, kind.schedule, grad, z, times)
    params, f = losses.filled(kind.tree, z), fixed_loss(number, loss, n)
    if rng.integers(PLAIN // 4) == 0:
        flow = ia.integrate(kind.made(h), f, params, times)
    else:
        with jax.enable_x64(True):
            state = state_of(kind, h, params)
        breaks = [h["until"]] if kind.schedule == "piecewise" else ()
        flow = ia.integrate(carried(kind), f, params, times, state=state, breakpoints=breaks)
    told = f"{kind} {h} {loss} times {times.tolist()}"
    agree(losses.rows(flow.params, len(flow)), theirs, 0, 1e-6, f"{told} params")
    agree(flow.loss, [losses.by_hand(loss, z, *data)[0] for z in theirs], 0, 1e-6, f"{told} loss")
    return told
