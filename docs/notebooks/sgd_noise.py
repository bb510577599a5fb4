"""The noise of the batches: what a stochastic differential equation says of it, and what is measured.

Opens with `marimo edit docs/notebooks/sgd_noise.py`. As a script it runs too, and fails where a
claim does not hold.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App()


@app.cell
def _():
    import jax.numpy as jnp
    import marimo as mo
    import matplotlib.pyplot as plt
    import numpy as np

    import inercia as ia
    from inercia import plot

    return ia, jnp, mo, np, plot, plt


@app.cell
def _(mo):
    mo.md(r"""
    # The noise of the batches

    A batch's gradient is the mean gradient plus noise. Near a minimum with curvature $\lambda$, where the gradients
    of single rows scatter with variance $s^2$, SGD does not come to rest. Its stochastic differential equation

    $$d\theta = -a\,\lambda\,\theta\,dt + a\,s\,dW$$

    says that it ends up scattered with variance $a s^2/(2\lambda)$. The recursion itself can be solved too,
    $a s^2/(\lambda\,(2 - a\lambda))$: the equation is right to first order in $a\lambda$.
    """)
    return


@app.cell
def _(ia, jnp, np):
    rows = jnp.linspace(-1, 1, 8)
    a, variance = 0.1, float(jnp.mean(rows**2))  # the curvature is 1

    def loss(x, batch):
        return jnp.mean((x - batch) ** 2) / 2

    def measured(method):
        """Return the variance over 2000 seeds at each time, and its mean over late ones."""
        path = ia.iterate_batches(
            method, loss, 1.0, rows, 120, key=range(2000), batch_size=1, sampler="partition", every=5
        )
        return path.times, path.params.var(axis=1)

    equation, recursion = a * variance / 2, a * variance / (2 - a)
    times, sgd = measured(ia.sgd(a))
    sample = ia.diffuse(ia.sgd(a), loss, 1.0, rows, np.arange(0.0, 121, 5), key=1, paths=2000, substeps=4)
    sde = sample.params.var(axis=0)
    late = times >= 60
    print(f"SGD: {sgd[late].mean():.5f}, the recursion {recursion:.5f}")
    print(f"its equation: {sde[late].mean():.5f}, in closed form {equation:.5f}")
    assert abs(sgd[late].mean() / recursion - 1) < 0.05
    assert abs(sde[late].mean() / equation - 1) < 0.05
    return a, equation, late, measured, sde, sgd, times


@app.cell
def _(mo):
    mo.md(r"""
    ## Does momentum average the noise away?

    No. For $dm = (1-b)(g - m)\,dt + (1-b)\,s\,dW$, $d\theta = -a\,m\,dt$ the stationary variance is $a
    s^2/(2\lambda)$ again, for every $b$: the average is smoother, and the steps along it are correlated. At equal
    learning rate of the averaged form momentum buys stability, not less noise.
    """)
    return


@app.cell
def _(a, equation, ia, late, measured, plot, plt, sde, sgd, times):
    _, momentum = measured(ia.momentum(a, 0.9))
    print(f"momentum: {momentum[late].mean():.5f}, the equation {equation:.5f}")
    assert abs(momentum[late].mean() / equation - 1) < 0.08
    with plt.rc_context({**plot.STYLE, "figure.dpi": 110}):
        _figure, _ax = plt.subplots(figsize=(5, 3.2))
        for values, label in ((sgd, "SGD"), (sde, "its equation"), (momentum, "momentum, b = 0.9")):
            _ax.plot(times, values, label=label)
        _ax.axhline(equation, color="0.5", lw=0.8, ls=":", label=r"$a s^2 / (2\lambda)$")
        _ax.set(xlabel="time (iterations)", ylabel="variance over 2000 seeds", ylim=(0, None))
        _ax.legend(loc="lower right")
    _figure
    return


if __name__ == "__main__":
    app.run()
