"""Momentum beside the differential equation that it discretises.

Opens with `marimo edit docs/notebooks/momentum_and_its_flow.py`. As a script it runs too, and fails where a
claim does not hold.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App()


@app.cell
def _():
    import marimo as mo
    import matplotlib.pyplot as plt
    import numpy as np

    import inercia as ia
    from inercia import plot

    return ia, mo, np, plot, plt


@app.cell
def _(mo):
    mo.md(r"""
    # Momentum and its flow

    Momentum averages the gradients and steps along the average:

    $$m_{k+1} = b\,m_k + (1-b)\,g_k, \qquad \theta_{k+1} = \theta_k - a\,m_{k+1}$$

    Both lines are Euler steps, of one unit of time, of the equations of a damped oscillator:

    $$m' = (1-b)(g - m), \qquad \theta' = -a\,m$$

    The lecture's order steps along the *old* average, $\theta_{k+1} = \theta_k - a\,m_k$. It has the same flow.
    """)
    return


@app.cell
def _(mo):
    rate = mo.ui.slider(0.05, 0.6, step=0.05, value=0.4, label="learning rate a", show_value=True)
    decay = mo.ui.slider(0.5, 0.95, step=0.05, value=0.9, label="decay b", show_value=True)
    mo.vstack([rate, decay])
    return decay, rate


@app.cell
def _(decay, ia, np, rate):
    def loss(x):
        return 0.25 * (x[0] ** 2 - 1) ** 2 + 0.5 * (x[1] - 0.5 * x[0]) ** 2

    a, b, start = rate.value, decay.value, np.array([-0.2, 1.5])
    new, old = ia.momentum(a, b), ia.momentum(a, b, scheme="explicit")
    iterates = {"new m": ia.iterate(new, loss, start, 60), "old m": ia.iterate(old, loss, start, 60)}
    flow = ia.integrate(new, loss, start, np.linspace(0, 60, 601))
    lines = {"flow": flow, **iterates}
    return a, b, flow, iterates, lines, loss, start


@app.cell
def _(lines, loss, plot, plt):
    with plt.rc_context({**plot.STYLE, "figure.dpi": 110}):
        _figure, (_left, _right) = plt.subplots(1, 2, figsize=(8, 3.6))
        plot.paths(_left, loss, lines)
        plot.phase(_right, lines)
    _figure
    return


@app.cell
def _(mo):
    mo.md(r"""
    Left the loss and the paths, right the first parameter against its momentum: the flow spirals into the minimum,
    the iterates turn beside it. How far are they from it, and what becomes of that as the step is refined? With
    steps of length $\delta$ the method becomes $a \to a\,\delta$, $(1-b) \to (1-b)\,\delta$; `order` makes them
    smaller and smaller, and certifies the order at which the gap closes, or says why not.
    """)
    return


@app.cell
def _(a, b, flow, ia, iterates, loss, np, plot, plt, start):
    gaps = {name: ia.gap(path, flow[::10]) for name, path in iterates.items()}
    dts = 2.0 ** -np.arange(1, 6)
    orders = {
        name: ia.order(lambda dt, scheme=scheme: ia.momentum(a, b, scheme=scheme, dt=dt), loss, start, 5.0, dts)
        for name, scheme in (("new m", "semi-implicit"), ("old m", "explicit"))
    }
    for _name, _order in orders.items():
        print(_name, _order.verdict)
        assert _order.doubt is None
        assert abs(_order.slope - 1) < 0.1
    with plt.rc_context({**plot.STYLE, "figure.dpi": 110}):
        _figure, (_left, _right) = plt.subplots(1, 2, figsize=(8, 3.2))
        plot.gaps(_left, gaps)
        plot.orders(_right, orders)
    _figure
    return (gaps,)


@app.cell
def _(a, b, gaps, mo):
    if (a, b) == (0.4, 0.9):  # what is said of these two numbers
        assert gaps["old m"].distance.max() > 2 * gaps["new m"].distance.max()
    mo.md(r"""
    Both orders have order 1, and yet on the full step the old $m$ strays farther: it is the explicit Euler method,
    which feeds an oscillator energy, while the new $m$ makes it the symplectic one. Along the flow the energy $E =
    |\theta'|^2/2 + a(1-b)f$ never grows, because $E' = -(1-b)\,|\theta'|^2$.
    """)
    return


@app.cell
def _(a, b, flow, ia, np, plot, plt):
    energy = ia.energy(flow, a, b)
    assert (np.diff(energy) < 1e-12).all()
    with plt.rc_context({**plot.STYLE, "figure.dpi": 110}):
        _figure, _ax = plt.subplots(figsize=(4, 2.6))
        _ax.plot(flow.times, energy)
        _ax.set(xlabel="time (iterations)", ylabel="energy of the flow")
    _figure
    return


if __name__ == "__main__":
    app.run()
