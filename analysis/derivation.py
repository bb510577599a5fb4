"""Gradient descent, momentum and Adam, each derived in three lines next to the code that runs.

The three functions below are drawn as they stand here. Each is checked: its iterates equal the library's, and what its
derivation says holds in numbers.

Run alone: `python analysis/derivation.py --help`.
"""

import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import inercia as ia
from inercia import plot
from inercia.plot import save
from inercia.problems.toy_losses import wells

START = np.array([0.8, 1.2])
grad = jax.grad(wells)


def gradient_descent(theta, a):
    g = grad(theta)
    return theta - a * g


def momentum(theta, m, a, b):
    g = grad(theta)
    m = b * m + (1 - b) * g
    return theta - a * m, m


def adam(theta, m, v, k, a, b1, b2, eps):
    g = grad(theta)
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    mh, vh = m / (1 - b1 ** (k + 1)), v / (1 - b2 ** (k + 1))
    return theta - a * mh / (jnp.sqrt(vh) + eps), m, v


DERIVATIONS = {
    gradient_descent: (
        r"Steepest descent: $\theta' = -a\,g,\;\; g = \nabla f(\theta)$, so that $f' = -a\,|g|^2 \leq 0$",
        r"One unit of time by Euler: $\theta(t+1) \approx \theta(t) + \theta'(t)$",
        r"$\theta_{k+1} = \theta_k - a\,g_k$",
    ),
    momentum: (
        r"Follow the average of $g$ over a time $1/(1-b)$: $m' = (1-b)(g - m),\;\; \theta' = -a\,m$",
        r"One unit of time by Euler: $m_{k+1} = m_k + (1-b)(g_k - m_k) = b\,m_k + (1-b)\,g_k$",
        r"$\theta_{k+1} = \theta_k - a\,m_{k+1}$ (the new $m$; the lecture takes $m_k$)",
    ),
    adam: (
        r"Average $g$ and $g^2$ as above, from zero: $E[m_k] = (1-b_1^k)\,E[g],\;\; E[v_k] = (1-b_2^k)\,E[g^2]$",
        r"Undo the start: $\hat m_k = m_k/(1-b_1^k),\;\; \hat v_k = v_k/(1-b_2^k)$",
        r"Step by signal over size: $\theta_{k+1} = \theta_k - a\,\hat m_{k+1}/(\sqrt{\hat v_{k+1}} + \epsilon)$",
    ),
}


def check(steps: int) -> None:
    """Run the three functions beside the library, and hold each derivation to its word."""
    a, b, b2, eps = 0.1, 0.9, 0.999, 1e-8
    with jax.enable_x64(True):
        theta = jnp.asarray(START)
        zero = jnp.zeros(2)
        gd, mom, ada = [theta], [(theta, zero)], [(theta, zero, zero)]
        for k in range(steps):
            gd.append(gradient_descent(gd[-1], a))
            mom.append(momentum(*mom[-1], a, b))
            ada.append(adam(*ada[-1], k, a, b, b2, eps))
        ours = {
            "gradient descent": (ia.sgd(a), gd),
            "momentum": (ia.momentum(a, b), [s[0] for s in mom]),
            "Adam": (ia.adam(a, b, b2, eps), [s[0] for s in ada]),
        }
        for name, (method, points) in ours.items():
            apart = abs(ia.iterate(method, wells, START, steps).params - np.array(points)).max()
            print(f"{name}: {steps} iterations, {apart:.0e} from the library's")
            assert apart < 1e-12
        g = grad(theta)
        # f' = -a |g|^2 along the flow.
        flow = ia.integrate(ia.sgd(a), wells, START, [0.0, 1e-4])
        assert abs((flow.loss[1] - flow.loss[0]) / 1e-4 / -(a * float(g @ g)) - 1) < 1e-3
        # One Euler step of each flow is one update.
        slope, _ = ia.sgd(a).flow(g, ia.sgd(a).init(theta))
        assert abs(theta + slope - gd[1]).max() < 1e-15
        method = ia.momentum(a, b)
        _, moved = method.flow(g, method.init(theta))
        assert abs(zero + moved.m - mom[1][1]).max() < 1e-15
    print("the flows fall as they should, and one Euler step of each is one update")


def main(out: Path = Path("figures"), seed: int = 0, fast: bool = False) -> None:
    """Draw the derivations beside the code.

    Args:
        out: Folder for the figures.
        seed: Unused: nothing here is random.
        fast: Fewer iterations.
    """
    out.mkdir(parents=True, exist_ok=True)
    check(20 if fast else 200)
    for function, lines in DERIVATIONS.items():
        source = inspect.getsource(function).rstrip()

        def draw(ax, lines=lines, source=source):
            ax.axis("off")
            for i, line in enumerate(lines):
                ax.text(0, 0.98 - 0.13 * i, f"{i + 1}.  {line}", transform=ax.transAxes, va="top", fontsize=10)
            ax.text(0, 0.5, source, transform=ax.transAxes, va="top", family="monospace", fontsize=9,
                    color=plot.COLOURS[0], linespacing=1.4)  # fmt: skip

        print(save(draw, out / f"derivation_{function.__name__}.png", (6.4, 2.9)))


if __name__ == "__main__":
    tyro.cli(main)
