"""Adam's moments: what the bias correction corrects, what eps does, how long a step can get.

    moments    E[m_k] = (1 - b1^k) E[g] and E[v_k] = (1 - b2^k) E[g^2] for independent gradients, by Monte Carlo
    unbiased   the corrected moments are unbiased only while E[g] stands still: where it moves by r an update, mh misses
               it by r b1/(1-b1). Their quotient is biased even then: E[mh/sqrt(vh)] is E[sign g] at the first update,
               and nears E[g]/sqrt(E[g^2]) only as vh settles
    start      without correction the first steps are too long, by up to 6 times at the usual b1, b2
    order      RMSProp, which does not correct, meets its flow from a cold start at order 1/2 only; Adam at order 1
    eps        a constant gradient g moves a parameter by a |g| / (|g| + eps): eps is the gradient of half a step
    bound      Kingma and Ba's (1 - b1) / sqrt(1 - b2) = 3.16 learning rates is the step of one gradient after zeros; it
               bounds nothing. Growing gradients reach (1 - b1) / sqrt((1 - b2)(1 - b1^2/b2)) = 7.27, by Cauchy and
               Schwarz the longest

Run alone: `python analysis/adam.py --help`.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from scipy.special import erf

import inercia as ia
from inercia import plot
from inercia.plot import save
from inercia.problems.toy_losses import wells

B1, B2 = 0.9, 0.999


def moments(out: Path, seed: int, fast: bool) -> None:
    """Compare the averages of m_k and v_k with the expectation's share."""
    n, steps, mean = (20_000 if fast else 200_000), 60, 1.0
    method = ia.adam(1e-3, B1, B2)

    def step(carry, key):
        params, state = carry
        g = mean + jax.random.normal(key, (n,))
        _, state = method.update(g, state, params)
        return (params, state), [(x.mean(), x.std() / jnp.sqrt(n)) for x in (state.mu / mean, state.nu / (mean**2 + 1))]

    params = jnp.zeros(n)
    keys = jax.random.split(jax.random.key(seed), steps)
    _, found = jax.jit(lambda keys: jax.lax.scan(step, (params, method.init(params)), keys))(keys)
    k = np.arange(1, steps + 1)
    lines = {}
    for name, b, statistics in zip(("m", "v"), (B1, B2), found, strict=True):
        (value, error), expected = map(np.asarray, statistics), 1 - b**k
        lines[name] = (value, expected)
        worst = (abs(value - expected) / error).max()
        print(f"E[{name}_k] / limit: {value[0]:.4f} at k = 1, {value[-1]:.4f} at k = {steps} (formula "
              f"{expected[-1]:.4f}); largest deviation {worst:.1f} standard errors")  # fmt: skip
        assert worst < 4.5  # correlated steps, about a dozen independent ones

    def draw(ax):
        for (name, (value, expected)), b, colour in zip(lines.items(), (B1, B2), plot.COLOURS, strict=False):
            ax.plot(k, expected, color=colour)
            ax.plot(k[::3], value[::3], "o", ms=3.5, color=colour)
            g = "g" if name == "m" else "g^2"
            ax.text(30, expected[29] - 0.1 if name == "m" else expected[29] + 0.06,
                    rf"$E[{name}_k]\,/\,E[{g}]$ and $1-{b}^k$", color=colour)  # fmt: skip
        ax.axhline(1, color="0.7", lw=0.8)
        ax.text(2, 1.02, "corrected", color="0.4", va="bottom", fontsize=8)
        ax.set(xlabel="updates $k$", ylabel="share of the limit", ylim=(0, 1.12))

    print(save(draw, out / "adam_moments.png"))


def biases(mean: np.ndarray, seed: int, n: int) -> list[list[np.ndarray]]:
    """Return mh - E[g] and mh / sqrt(vh), averaged over n gradients N(mean, 1) an update, and their standard errors."""
    method = ia.adam(1.0, B1, B2, eps=0.0)

    def step(state, inputs):
        key, mean, k = inputs
        updates, state = method.update(mean + jax.random.normal(key, (n,)), state)
        found = state.mu / (1 - B1**k) - mean, -updates
        return state, [(x.mean(), x.std() / jnp.sqrt(n)) for x in found]

    @jax.jit
    def run(mean):
        keys = jax.random.split(jax.random.key(seed), len(mean))
        return jax.lax.scan(step, method.init(jnp.zeros(n)), (keys, mean, jnp.arange(1.0, len(mean) + 1)))[1]

    return [[np.asarray(x, np.float64) for x in pair] for pair in run(jnp.asarray(mean, float))]


def unbiased(out: Path, seed: int, fast: bool) -> None:
    """Measure the bias of mh where the mean gradient moves, and that of mh / sqrt(vh) where it stands still."""
    n, steps, drift, ratio = (20_000 if fast else 200_000), 60, 0.02, 0.5
    k = np.arange(1, steps + 1)
    (still, quotient), (moving, _) = (biases(mean, seed, n) for mean in (np.full(steps, ratio), drift * k))
    age = np.array([np.average(np.arange(j), weights=B1 ** np.arange(j)) for j in k])
    deviations = abs(still[0] / still[1]).max(), abs((moving[0] + drift * age) / moving[1]).max()
    first, limit = erf(ratio / np.sqrt(2)), ratio / np.sqrt(1 + ratio**2)
    print(f"E[mh] - E[g]: {still[0][-1]:+.4f} where E[g] stands still, {moving[0][-1]:+.4f} where it moves by {drift} "
          f"an update (formula {-drift * age[-1]:+.4f}); largest deviations {deviations[0]:.1f} and "
          f"{deviations[1]:.1f} standard errors")  # fmt: skip
    print(f"E[mh / sqrt(vh)]: {quotient[0][0]:.4f} at the first update (E[sign g] = {first:.4f}), "
          f"{quotient[0][-1]:.4f} at k = {steps}; E[g] / sqrt(E[g^2]) = {limit:.4f}")  # fmt: skip
    assert max(deviations) < 4.5
    assert abs(quotient[0][0] - first) < 4.5 * quotient[1][0]
    assert limit - quotient[0][0] > 8 * quotient[1][0]

    def draw(axes):
        left, right = axes
        left.plot(k, -drift * age, color=plot.COLOURS[1])
        left.plot(k[::3], moving[0][::3], "o", ms=3.5, color=plot.COLOURS[1])
        left.plot(k[::3], still[0][::3], "o", ms=3.5, color=plot.COLOURS[0])
        left.text(58, 0.012, "$E[g]$ stands still", color=plot.COLOURS[0], ha="right", fontsize=8)
        left.text(59, -0.09, f"$E[g]$ moves by {drift} an update", color=plot.COLOURS[1], ha="right", fontsize=8)
        left.set(xlabel="updates $k$", ylabel=r"bias of $\hat m$", ylim=(-0.2, 0.04))
        right.plot(k, quotient[0], "o", ms=3, color=plot.COLOURS[2])
        right.axhline(limit, color="0.6", ls=":")
        right.text(58, limit + 0.003, r"$E[g]\,/\,\sqrt{E[g^2]}$", color="0.4", ha="right", va="bottom", fontsize=8)
        right.annotate("$E[\\mathrm{sign}\\,g]$", (1, first), (6, first), color="0.4", fontsize=8, va="center",
                       arrowprops={"arrowstyle": "-", "color": "0.4", "lw": 0.8})  # fmt: skip
        right.set(xlabel="updates $k$", ylabel=r"mean of $\hat m/\sqrt{\hat v}$")
        right.margins(y=0.15)

    print(save(draw, out / "adam_unbiased.png", (6.8, 2.7), 2))


def start(out: Path) -> None:
    """Draw the first steps on a constant gradient with and without correction."""
    steps, method, g = 3000, ia.adam(1.0, B1, B2), jnp.ones(1)

    def step(state, _):
        update, state = method.update(g, state)
        return state, (-update[0], (state.mu / (jnp.sqrt(state.nu) + 1e-8))[0])

    _, (corrected, raw) = jax.jit(lambda s: jax.lax.scan(step, s, length=steps))(method.init(g))
    corrected, raw, k = np.asarray(corrected), np.asarray(raw), np.arange(1, steps + 1)
    formula = (1 - B1**k) / np.sqrt(1 - B2**k)
    print(f"without correction: first step {raw[0]:.2f} a, longest {raw.max():.2f} a at k = {raw.argmax() + 1}; "
          f"corrected: {corrected.min():.4f}..{corrected.max():.4f} a")  # fmt: skip
    assert abs(raw / formula - 1).max() < 1e-3
    assert abs(corrected - 1).max() < 1e-3
    assert raw.max() > 6

    def draw(ax):
        ax.semilogx(k, raw, color=plot.COLOURS[1])
        ax.semilogx(k, corrected, color=plot.COLOURS[0])
        ax.text(raw.argmax() + 6, raw.max(), f"without correction: up to {raw.max():.1f} $a$", color=plot.COLOURS[1])
        ax.text(1.1, 0.4, "with correction: $a$ from the first step", color=plot.COLOURS[0])
        ax.set(xlabel="updates $k$", ylabel="step / learning rate", ylim=(0, 7.2))

    print(save(draw, out / "adam_start.png"))


def orders(out: Path, fast: bool) -> None:
    """Measure the orders from a cold start."""
    dts = [2.0**-k for k in range(3, 7 if fast else 9)]
    families = {
        "RMSProp": lambda dt: ia.rmsprop(0.02, eps=1e-12, dt=dt),
        "Adam": lambda dt: ia.adam(0.02, dt=dt),
    }
    lines = {name: ia.order(family, wells, np.array([0.8, 1.2]), 8.0, dts) for name, family in families.items()}
    for name, line in lines.items():
        print(f"{name}, cold: {line.verdict}")
    assert abs(lines["RMSProp"].slope - 0.5) < 0.1
    assert lines["RMSProp"].doubt == "cold start"
    assert abs(lines["Adam"].slope - 1) < 0.1
    print(save(lambda ax: plot.orders(ax, lines), out / "adam_order.png"))


def epsilon(out: Path) -> None:
    """Draw the length of a step against the size of a constant gradient, for several eps."""
    sizes = np.geomspace(1e-12, 1e2, 57)
    lines = {}
    with jax.enable_x64(True):
        for eps in (1e-8, 1e-4, 1e-1):
            method = ia.adam(1.0, eps=eps)
            updates, _ = method.update(jnp.asarray(sizes), method.init(jnp.zeros(len(sizes))))
            lines[eps] = -np.asarray(updates)
            assert abs(lines[eps] - sizes / (sizes + eps)).max() < 1e-12
    print("eps: the step is a |g| / (|g| + eps), to 1e-12")

    def draw(ax):
        for (eps, values), colour in zip(lines.items(), plot.COLOURS, strict=False):
            ax.loglog(sizes, values, color=colour)
            ax.plot(eps, 0.5, "o", ms=4, color=colour)
            ax.annotate(f"{eps:.0e}", (eps * 1e-3, 1e-3), xytext=(4, -6), textcoords="offset points", color=colour)
        ax.text(3e-12, 1.4, r"$\epsilon$ is the gradient of half a step", fontsize=8)
        ax.set(xlabel="size of a constant gradient", ylabel="step / learning rate", ylim=(1e-5, 3))

    print(save(draw, out / "adam_eps.png"))


def bound(out: Path) -> None:
    """Feed three histories of gradients and compare the last step with the two bounds."""
    n = 20_000
    age = np.arange(n)[::-1]
    histories = {
        "constant": np.ones(n),
        "one after zeros": (age == 0) * 1.0,
        "growing by $b_2/b_1$": (B1 / B2) ** age,
    }
    method = ia.adam(1.0, B1, B2, eps=1e-300)
    with jax.enable_x64(True):
        g = jnp.asarray(np.stack(list(histories.values()), axis=1))

        def step(state, g):
            updates, state = method.update(g, state)
            return state, updates

        # A long past: the corrections are over before the histories begin.
        late = method.init(jnp.zeros(3))._replace(count=jnp.int32(100_000))
        reached = abs(np.asarray(jax.jit(lambda s, g: jax.lax.scan(step, s, g)[1][-1])(late, g)))
    kingma, sharp = (1 - B1) / np.sqrt(1 - B2), (1 - B1) / np.sqrt((1 - B2) * (1 - B1**2 / B2))
    for name, value in zip(histories, reached, strict=True):
        print(f"last step, gradients {name}: {value:.3f} a  (Kingma and Ba {kingma:.3f}, Cauchy-Schwarz {sharp:.3f})")
    assert abs(reached[0] - 1) < 1e-6
    assert abs(reached[1] / kingma - 1) < 1e-6
    assert reached[2] > 2 * kingma
    assert abs(reached[2] / sharp - 1) < 1e-6

    def draw(ax):
        ax.barh(list(histories), reached, color=plot.COLOURS[:3], height=0.6)
        for value, text in ((kingma, "Kingma & Ba"), (sharp, "Cauchy-Schwarz")):
            ax.axvline(value, color="k", lw=0.8, ls=":")
            ax.text(value, 2.45, text, ha="center", fontsize=8)
        ax.set(xlabel="last step / learning rate", ylabel="gradients", xlim=(0, 8.2))

    print(save(draw, out / "adam_bound.png"))


def main(out: Path = Path("figures"), seed: int = 0, fast: bool = False) -> None:
    """Draw what Adam's moments do.

    Args:
        out: Folder for the figures.
        seed: Of the Monte Carlo gradients.
        fast: Fewer samples and steps.
    """
    out.mkdir(parents=True, exist_ok=True)
    moments(out, seed, fast)
    unbiased(out, seed, fast)
    start(out)
    orders(out, fast)
    epsilon(out)
    bound(out)


if __name__ == "__main__":
    tyro.cli(main)
