"""Your own optimizer: its flow, certified; its bound, computed and tried.

Opens with `marimo edit docs/notebooks/certify_your_optimizer.py`. As a script it runs too, and fails where a
claim does not hold.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App()


@app.cell
def _():
    from typing import NamedTuple

    import jax
    import jax.numpy as jnp
    import marimo as mo
    import matplotlib.pyplot as plt
    import numpy as np

    import inercia as ia
    from inercia import plot

    return NamedTuple, ia, jax, jnp, mo, np, plot, plt


@app.cell
def _(mo):
    mo.md(r"""
    # Certify your own optimizer

    The method here is momentum with a brake: beside the average it keeps $c$ times the newest gradient,

    $$m_{k+1} = b\,m_k + (1-b)\,g_k, \qquad \theta_{k+1} = \theta_k - a\,\big((1-c)\,m_{k+1} + c\,g_k\big)$$

    What is its flow? As the step shrinks, $(1-b) \to (1-b)\,\delta$ and $a \to a\,\delta$, the average becomes
    $m' = (1-b)(g - m)$, and the step $\theta' = -a\,((1-c)\,m + c\,g)$. That is a claim; `order` is its examiner.
    """)
    return


@app.cell
def _(NamedTuple, ia, jax, jnp):
    class State(NamedTuple):
        count: jax.Array  # int32, updates made; in a flow, the time
        m: jax.Array

    def braked(a, b=0.9, c=0.3, *, dt=1.0, claim=1.0):
        """Momentum with a brake; `claim` spoils the flow on purpose."""

        def init(params):
            return State(jnp.zeros([], jnp.int32), jnp.zeros_like(params))

        def update(grads, state, params=None, **extra):
            m = state.m + (1 - b) * dt * (grads - state.m)
            return -a * dt * ((1 - c) * m + c * grads), State(state.count + 1, m)

        def flow(grads, state, params=None):
            return -a * claim * ((1 - c) * state.m + c * grads), State(
                jnp.ones_like(state.count), (1 - b) * (grads - state.m)
            )

        return ia.Method(init, update, flow, dt)

    def loss(x):
        return 0.5 * x[0] ** 2 + 2 * x[1] ** 2 + 0.25 * x[0] ** 4

    start = jnp.array([1.5, -0.7])
    return braked, loss, start


@app.cell
def _(braked, ia, loss, np, plot, plt, start):
    dts = 2.0 ** -np.arange(1, 7)
    right = ia.order(lambda dt: braked(0.3, dt=dt), loss, start, 8.0, dts)
    wrong = ia.order(lambda dt: braked(0.3, dt=dt, claim=0.9), loss, start, 8.0, dts)
    print("right:", right.verdict)
    print("wrong:", wrong.verdict)
    assert right.doubt is None
    assert abs(right.slope - 1) < 0.1
    assert wrong.doubt == "another flow"
    with plt.rc_context({**plot.STYLE, "figure.dpi": 110}):
        _figure, _ax = plt.subplots(figsize=(4.4, 3.2))
        plot.orders(_ax, {"its flow": right, "a tenth too slow": wrong})
    _figure
    return


@app.cell
def _(mo):
    mo.md(r"""
    The flow is certified, and one that is a tenth too slow is found out: the gap does not close but tends to a
    constant.

    ## Where does it lose its stability?

    The flow stands every curvature, the update does not. `threshold` reads the largest stable one off the update: for
    $c = 0$ it is momentum's $(2+2b)/((1-b)\,a)$. By hand, on $f = \lambda\theta^2/2$ a multiplier passes $-1$ at

    $$a\lambda = \frac{2\,(1+b)}{(1-c)(1-b) + c\,(1+b)}.$$
    """)
    return


@app.cell
def _(braked, ia, jnp, np):
    a, b, c = 0.3, 0.9, 0.3
    edge = ia.threshold(braked(a, b, c))
    by_hand = 2 * (1 + b) / ((1 - c) * (1 - b) + c * (1 + b)) / a
    print(f"largest stable curvature {edge.curvature:.6f}, by hand {by_hand:.6f}")
    np.testing.assert_allclose(edge.curvature, by_hand, rtol=1e-6)

    # Tried: a curvature just below it and one just above.
    factors = jnp.array([0.98, 1.02])
    tried = ia.iterate(braked(a, b, c), lambda x: 0.5 * edge.curvature * jnp.sum(factors * x**2), jnp.ones(2), 400)
    sizes = np.abs(tried.params)
    assert sizes[-50:, 0].max() < 0.1
    assert sizes[-50:, 1].max() > 10
    return edge, tried


@app.cell
def _(edge, plot, plt, tried):
    with plt.rc_context({**plot.STYLE, "figure.dpi": 110}):
        _figure, _ax = plt.subplots(figsize=(4.4, 2.8))
        plot.series(_ax, {"curvature": tried[:120]}, [0, 1])
        _ax.set_title(f"0.98 and 1.02 of the bound {edge.curvature:.3g}")
    _figure
    return


if __name__ == "__main__":
    app.run()
