"""A convolutional network at the edge of stability: its sharpness climbs to 2/a and stays, its flow's goes on.

Opens with `marimo edit docs/notebooks/edge_of_stability_cnn.py`. As a script it runs too, and fails where a
claim does not hold.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App()


@app.cell
def _():
    import jax
    import jax.numpy as jnp
    import marimo as mo
    import matplotlib.pyplot as plt

    import inercia as ia
    from inercia import plot

    return ia, jax, jnp, mo, plot, plt


@app.cell
def _(mo):
    mo.md(r"""
    # The edge of stability, on a convolutional network

    Gradient descent on a curvature $\lambda$ is stable iff $a\lambda < 2$. The *sharpness* $S$, the largest
    eigenvalue of the loss's Hessian, is no constant: training raises it. What happens when it comes to $2/a$?

    A small convolutional network on 100 handwritten digits, all of them in every step, squared error.
    """)
    return


@app.cell
def _(ia, jax, jnp):
    train, _ = ia.digits()
    images = 0.3 * jnp.clip(jnp.asarray(train.x[:100]), -2, 2).reshape(-1, 8, 8, 1)
    goal = jax.nn.one_hot(train.y[:100], 10)
    of_kernel, of_w = jax.random.split(jax.random.key(0))
    params = {
        "kernel": jax.random.normal(of_kernel, (3, 3, 1, 2)) / 3,
        "w": jax.random.normal(of_w, (32, 10)) / 32**0.5,
    }

    def network(params, x):
        layout = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, params["kernel"], (2, 2), "SAME", dimension_numbers=layout)
        return jax.nn.silu(x).reshape(len(x), -1) @ params["w"]

    def loss(params):
        return jnp.mean(jnp.sum((network(params, images) - goal) ** 2, axis=1)) / 2

    return loss, params


@app.cell
def _(ia, loss, params):
    a, steps = 2.5, 400
    method = ia.sgd(a)
    watch = {"sharpness": ia.sharpness(method, loss)}  # a S, computed inside the compiled run
    path = ia.iterate(method, loss, params, steps, every=5, observe=watch)
    stable = ia.central(method, loss, params, steps, every=5, stable=True)  # the plain gradient flow
    sharp, without = path.observed["sharpness"][:, 0], stable.observed["sharpness"][:, 0]
    late = sharp[-30:].mean()
    print(f"learning rate x sharpness: {late:.3f} over the last 150 updates; of the flow {without[-1]:.3f} at the end")
    assert sharp[0] < 1.5  # it begins below
    assert abs(late / 2 - 1) < 0.05
    assert without[-1] > 2.4
    return path, stable


@app.cell
def _(ia, path, plot, plt, stable):
    lines = {"iterates": path, "gradient flow": stable}
    with plt.rc_context({**plot.STYLE, "figure.dpi": 110}):
        _figure, (_left, _right) = plt.subplots(1, 2, figsize=(8, 3.2))
        plot.series(_left, lines, log=True)
        _left.set(ylabel="training loss", xlabel="updates")
        plot.series(_right, lines, "sharpness")
        _right.axhline(ia.threshold(ia.sgd(1.0)).bound, color="0.5", lw=0.8, ls=":")
        _right.set(ylabel="learning rate × sharpness", xlabel="updates")
    _figure
    return


@app.cell
def _(mo):
    mo.md(r"""
    The sharpness rises until it passes 2; the iterates then oscillate along the eigenvector, the loss with them,
    and the oscillation pushes the sharpness down again, to 2 and no farther. The gradient flow, which has no such
    bound, goes on to sharper places.

    What the iterates do follow is the *central flow*, `inercia.central` without `stable=True`; `inercia.edge`
    measures both against the iterates and `plot.edge` draws them.
    """)
    return


if __name__ == "__main__":
    app.run()
