"""Many trainings at once by `jax.vmap`, against one after the other; and the phase diagram of momentum, simulated."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import inercia as ia
from timing import Goal, Section, interleaved, ratio, table

#: Trainings whose params, moments and batch (40 kB each) stay in a core's cache of 2 MiB.
CHUNK = 50


def run(fast: bool) -> Section:
    """Time 1, 10, 100, 1000 trainings of the tiny network, and a phase diagram."""
    network, loss, data = _tiny()
    epochs = 5 if fast else 25
    steps = epochs * 8
    opt_step = _optax_step(loss)
    rows = np.asarray(ia.sampler("shuffle", 256, 32).rows(jax.random.key(0), 0, steps, True))

    start, (host_x, host_y) = network.init(jax.random.key(0)), map(np.asarray, data)

    def loop():
        params, state = start, optax.adam(1e-3).init(start)
        for i in rows:
            params, state = opt_step(params, state, (host_x[i], host_y[i]))
        return params

    numbers = [1, 10, 100] if fast else [1, 10, 100, 1000]
    calls = {"loop, one": loop}
    for n in numbers:
        calls[f"{n} together"] = together(n, epochs)
    for n in numbers[-2:]:
        calls[f"{n} in chunks of {CHUNK}"] = together(n, epochs, CHUNK)
    seconds, _ = interleaved(calls, 3 if fast else 7)
    most = numbers[-1]
    lines = [
        [name, f"{np.median(t):.3f}", f"{np.median(t) / n * 1e3:.3f}", f"{steps * n / np.median(t):,.0f}"]
        for (name, t), n in zip(seconds.items(), [1, *numbers, *numbers[-2:]], strict=True)
    ]
    text = f"The tiny network, {steps} steps each; the loop is optax's compiled step called from Python.\n\n"
    text += table(["", "seconds", "ms per training", "steps/s"], lines)
    every, fewer = (f"{n} together" for n in (most, most // 10))
    speed, _ = ratio(seconds, "loop, one", every)
    linear = np.median(seconds[every] / seconds[fewer])
    goals = [
        Goal(f"{most} trainings together against the loop", "≥ 50×", f"{speed * most:.0f}×", speed * most >= 50),
        Goal("ten times as many trainings", "≤ 10× the time", f"{linear:.1f}×", bool(linear <= 10)),
    ]

    side, updates = (100, 100) if fast else (1000, 1000)
    diagram, _ = interleaved({"phase": _phase(side, updates)}, 3 if fast else 7)
    rate = side * side * updates / np.median(diagram["phase"])
    text += f"\nPhase diagram of momentum: {side**2:,} cells, {updates} updates each: {rate:.2e} updates/s.\n"
    goals.append(Goal("phase diagram of momentum", "≥ 1e9 updates/s", f"{rate:.2e}", rate >= 1e9))
    return Section("Many at once", text, goals)


def _tiny():
    """Return the tiny network, its risk and its data."""
    network, x = ia.mlp([1, 32, 32, 1]), jnp.linspace(-1, 1, 256)[:, None]
    return network, ia.risk(network), (x, jnp.sin(4 * x))


def together(n: int, epochs: int, chunk: int | None = None):
    """Return a call of n trainings of the tiny network by Adam, each with its key and its rate; in chunks, if given."""
    network, loss, data = _tiny()

    def one(key_and_rate):
        key, rate = key_and_rate
        return ia.train(ia.adam(rate), loss, network.init(key), data, epochs=epochs, batch_size=32, key=key).params

    every = jax.jit(jax.vmap(one) if chunk is None else lambda given: jax.lax.map(one, given, batch_size=chunk))
    given = jax.random.split(jax.random.key(1), n), jnp.geomspace(1e-4, 1e-2, n)
    return lambda: every(given)


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
