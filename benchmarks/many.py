"""Many trainings at once by `jax.vmap`, against one after the other; and the phase diagram of momentum, simulated.

How many devices a CPU has is fixed when a process starts: `python benchmarks/many.py N EPOCHS CHUNK` is the process
that makes N trainings over two of them.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

import inercia as ia
from timing import Goal, Section, interleaved, ratio, table

#: Trainings whose params, moments and batch (40 kB each) take less than half of a core's cache of 2 MiB.
CHUNK = 20
#: Flops of a step of one: three products for each matrix, but two for the first one, of 32 rows.
FLOPS = 2 * 32 * (2 * 32 + 3 * 32 * 32 + 3 * 32)
LARGE = 4 * 2 * 1024**3


def run(fast: bool) -> Section:
    """Time 1, 10, 100, 1000 trainings of the tiny network, and a phase diagram."""
    epochs, numbers = (5, [1, 10, 100]) if fast else (25, [1, 10, 100, 1000])
    seconds = _seconds(numbers, epochs, 3 if fast else 7)
    most = numbers[-1]
    text, shares = _told(seconds, epochs * 8)
    best = f"{most} in chunks of {CHUNK}, two devices"
    every, fewer = (f"{n} together" for n in (most, most // 10))
    speed, _ = ratio(seconds, "loop, one", every)
    linear = np.median(seconds[every] / seconds[fewer])
    share = f"{np.median(shares[best]):.2f} ({shares[best].min():.2f}..{shares[best].max():.2f})"
    goals = [
        Goal(f"{most} trainings together against the loop", "≥ 50×", f"{speed * most:.0f}×", speed * most >= 50),
        Goal("ten times as many trainings", "≤ 10× the time", f"{linear:.1f}×", bool(linear <= 10)),
        Goal(f"{best}: share of large products", "≥ 0.2", share, bool(np.median(shares[best]) >= 0.2)),
    ]

    side, updates = (100, 100) if fast else (1000, 1000)
    diagram, _ = interleaved({"phase": _phase(side, updates)}, 3 if fast else 7)
    rate = side * side * updates / np.median(diagram["phase"])
    text += f"\nPhase diagram of momentum: {side**2:,} cells, {updates} updates each: {rate:.2e} updates/s.\n"
    goals.append(Goal("phase diagram of momentum", "≥ 1e9 updates/s", f"{rate:.2e}", rate >= 1e9))
    return Section("Many at once", text, goals)


def _seconds(numbers: list[int], epochs: int, rounds: int) -> dict[str, np.ndarray]:
    """Return the seconds of a loop of single steps, of large products and of so many trainings at once, by name."""
    calls = {"loop, one": _loop(epochs * 8), "large products": _large()}
    for n in numbers:
        calls[f"{n} together"] = together(n, epochs)
    for n in numbers[-2:]:
        calls[f"{n} in chunks of {CHUNK}"] = together(n, epochs, CHUNK)
    most = numbers[-1]
    with on_two_devices(most, epochs, None) as vmapped, on_two_devices(most, epochs, CHUNK) as chunked:
        calls[f"{most} together, two devices"] = vmapped
        calls[f"{most} in chunks of {CHUNK}, two devices"] = chunked
        return interleaved(calls, rounds)[0]


def _told(seconds: dict[str, np.ndarray], steps: int) -> tuple[str, dict[str, np.ndarray]]:
    """Return the table of the seconds, and the flops/s of the trainings as shares of those of large products."""
    made = {name: int(name.split()[0]) for name in seconds if name[0].isdigit()}
    large = LARGE / seconds["large products"]
    shares = {name: FLOPS * steps * n / seconds[name] / large for name, n in made.items()}
    lines = []
    for name, n in {"loop, one": 1, **made}.items():
        median = np.median(seconds[name])
        share = f"{np.median(shares[name]):.2f}" if name in shares else ""
        lines.append([name, f"{median:.3f}", f"{median / n * 1e3:.3f}", f"{steps * n / median:,.0f}", share])
    text = f"The tiny network, {steps} steps each; the loop is optax's compiled step called from Python. Shares are of "
    text += f"the flops/s of products of matrices of 1024 rows, {np.median(large):.2e}, on all cores.\n\n"
    return text + table(["", "seconds", "ms per training", "steps/s", "share"], lines), shares


def _loop(steps: int):
    """Return a call that makes the steps of one training by optax, one after the other, on batches drawn before."""
    network, loss, data = _tiny()
    opt_step = _optax_step(loss)
    rows = np.asarray(ia.sampler("shuffle", 256, 32).rows(jax.random.key(0), 0, steps, True))
    start, (host_x, host_y) = network.init(jax.random.key(0)), map(np.asarray, data)

    def loop():
        params, state = start, optax.adam(1e-3).init(start)
        for i in rows:
            params, state = opt_step(params, state, (host_x[i], host_y[i]))
        return params

    return loop


def _tiny():
    """Return the tiny network, its risk and its data."""
    network, x = ia.mlp([1, 32, 32, 1]), jnp.linspace(-1, 1, 256)[:, None]
    return network, ia.risk(network), (x, jnp.sin(4 * x))


def together(n: int, epochs: int, chunk: int | None = None, shared: bool = False):
    """Return a call of n trainings of the tiny network by Adam, each with its key and its rate.

    In chunks, if given; shared out over all devices, if asked for.
    """
    network, loss, data = _tiny()

    def one(key_and_rate):
        key, rate = key_and_rate
        return ia.train(ia.adam(rate), loss, network.init(key), data, epochs=epochs, batch_size=32, key=key).params

    every = jax.vmap(one) if chunk is None else lambda given: jax.lax.map(one, given, batch_size=chunk)
    if shared:
        seeds = PartitionSpec("seeds")
        every = jax.shard_map(every, mesh=Mesh(jax.devices(), ("seeds",)), in_specs=seeds, out_specs=seeds)
    every = jax.jit(every)
    given = jax.random.split(jax.random.key(1), n), jnp.geomspace(1e-4, 1e-2, n)
    return lambda: every(given)


@contextlib.contextmanager
def on_two_devices(n: int, epochs: int, chunk: int | None) -> Iterator[Callable[[], None]]:
    """Yield `together` as a call of a process whose CPU is two devices, each with half of the trainings."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    command = [sys.executable, __file__, *map(str, (n, epochs, chunk or 0))]
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:

        def call():
            process.stdin.write("\n")
            process.stdin.flush()
            if not process.stdout.readline():
                raise RuntimeError("the process with two devices has ended, and says above why.")

        yield call


def _serve(n: int, epochs: int, chunk: int) -> None:
    """Make n trainings over all devices for every line that is read, and write one when they are made."""
    call = together(n, epochs, chunk or None, shared=True)
    for _ in sys.stdin:
        jax.block_until_ready(call())
        print(flush=True)


def _large():
    """Return a call of products of large matrices, `LARGE` flops."""
    x = jnp.ones((1024, 1024))
    return partial(jax.jit(lambda x: x @ x @ x @ x @ x), x)


def _optax_step(loss):
    opt = optax.adam(1e-3)

    @jax.jit
    def step(params, state, batch):
        updates, state = opt.update(jax.grad(loss)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    return step


def _phase(side: int, updates: int):
    """Simulate momentum on f = l x^2 / 2 over a grid of (b, a l), in pieces that stay in the cache."""

    def cell(decay_and_rate):
        decay, rate = decay_and_rate
        method = ia.momentum(rate, decay)

        def step(_, carry):
            theta, state = carry
            update, state = method.update(theta, state, theta)  # the gradient of theta^2 / 2
            return theta + update, state

        theta = jnp.ones_like(rate)
        return jnp.abs(jax.lax.fori_loop(0, updates, step, (theta, method.init(theta)))[0]) < 1

    b, x = jnp.meshgrid(jnp.linspace(0, 0.98, side), jnp.geomspace(0.1, 100, side))
    pieces = (b.reshape(side, -1), x.reshape(side, -1))
    run = jax.jit(lambda pieces: jax.lax.map(cell, pieces))
    return lambda: run(pieces)


if __name__ == "__main__":
    _serve(*map(int, sys.argv[1:]))
