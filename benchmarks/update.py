"""Adam's update alone on 20 million parameters, beside additions over the same arrays and the memory's bandwidth."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import inercia as ia
from timing import Goal, Section, interleaved, ratio, table

#: What reads and writes as much as Adam does, and computes next to nothing.
FLOOR = "the same seven streams, additions only"
#: Words per parameter: g, m, v, theta are read, m, v, theta written.
TRAFFIC = 7


def run(fast: bool) -> Section:
    """Time the update in 1, 50 and 500 leaves."""
    size = 2_000_000 if fast else 20_000_000
    rows, goals = [], []
    for leaves in (1, 50, 500):
        calls = {}
        for name, method, donate in (
            ("inercia, donated", ia.adam(1e-3), True),
            ("optax, donated", optax.adam(1e-3), True),
            ("optax, not donated", optax.adam(1e-3), False),
        ):
            calls[name] = repeat(method, leaves, size, donate)
        calls[FLOOR] = repeat(_additions(), leaves, size, donate=True)
        calls["triad a = a + s b"] = _triad(leaves, size)
        seconds, _ = interleaved(calls, 3 if fast else 21)
        triad = 3 * 4 * size / seconds["triad a = a + s b"] / 1e9
        for name, times in seconds.items():
            rate = (3 if name.startswith("triad") else TRAFFIC) * 4 * size / times / 1e9
            share = rate / triad
            shown = f"{np.median(share):.2f} ({share.min():.2f}..{share.max():.2f})"
            rows.append([str(leaves), name, f"{np.median(times) * 1e3:.2f}", f"{np.median(rate):.1f}", shown])
        value, shown = ratio(seconds, FLOOR, "inercia, donated")
        name = f"Adam update, {leaves} leaves: share of the speed of additions"
        goals.append(Goal(name, "≥ 0.95", shown, value >= 0.95))
        value, shown = ratio(seconds, "optax, donated", "inercia, donated")
        goals.append(Goal(f"Adam update, {leaves} leaves: against optax, donated", "≥ 0.95×", shown, value >= 0.95))
    head = ["leaves", "", "ms", "GB/s", "share of triad (range)"]
    text = f"{size:,} float32 parameters; {TRAFFIC} words of traffic each, 3 for the triad.\n\n" + table(head, rows)
    return Section("Adam's update", text, goals)


def repeat(method, leaves: int, size: int, donate: bool, updates: int = 1):
    """Return a call that makes some updates, the results of one call being the arguments of the next."""
    params = [jnp.full(size // leaves, 0.1) for _ in range(leaves)]
    grads = [jnp.full(size // leaves, 0.01) for _ in range(leaves)]
    kept = [params, method.init(params)]

    def step(params, state, grads):
        updates, state = method.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    def steps(params, state, grads):
        # In a loop, so that the call is paid once for all of them.
        return jax.lax.fori_loop(0, updates, lambda _, carry: step(*carry, grads), (params, state))

    compiled = jax.jit(step if updates == 1 else steps, donate_argnums=(0, 1) if donate else ())

    def call():
        kept[:] = compiled(*kept, grads)
        return kept[0][0]

    return call


def _additions() -> optax.GradientTransformation:
    """Return an update that reads and writes what Adam does and computes next to nothing."""

    def update(g, state, params=None):
        add = lambda old: jax.tree.map(lambda g, s: s + 1e-6 * g, g, old)  # noqa: E731
        return jax.tree.map(lambda g: 1e-6 * g, g), state._replace(mu=add(state.mu), nu=add(state.nu))

    return optax.GradientTransformation(ia.adam(1e-3).init, update)


def _triad(leaves: int, size: int):
    triad = jax.jit(lambda a, b: [x + 1e-6 * y for x, y in zip(a, b, strict=True)], donate_argnums=0)
    kept, b = ([[jnp.ones(size // leaves) for _ in range(leaves)]] for _ in range(2))

    def call():
        kept[0] = triad(kept[0], b[0])
        return kept[0][0]

    return call
