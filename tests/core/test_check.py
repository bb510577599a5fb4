"""Bad input gets one clear sentence at the call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inercia as ia
from inercia.core import check


def loss(x):
    return jnp.sum(x**2)


X0 = jnp.ones(2)
NET = ia.mlp([2, 3])
DATA = (np.ones((6, 2), np.float32), np.array([0, 1, 2, 0, 1, 2]))


def train(**changes):
    arguments = {
        "method": ia.sgd(0.1),
        "loss": ia.risk(NET, "cross-entropy"),
        "params": NET.init(jax.random.key(0)),
        "data": DATA,
        "epochs": 1,
        "batch_size": 2,
        "key": 0,
    }
    return ia.train(**(arguments | changes))


BAD = {
    "rate zero": (lambda: ia.sgd(0.0), "learning_rate must be a finite number above 0, but it is 0"),
    "rate negative": (lambda: ia.adam(-1.0), "learning_rate must be a finite number above 0, but it is -1"),
    "rate nan": (lambda: ia.momentum(float("nan")), "learning_rate must be a finite number above 0, but it is nan"),
    "rate text": (lambda: ia.sgd("0.1"), "learning_rate must be a real number or a schedule"),
    "beta one": (lambda: ia.momentum(0.1, 1.0), r"beta must lie in \[0, 1\), but it is 1"),
    "beta negative": (lambda: ia.sgd(0.1, -0.5), r"momentum must lie in \[0, 1\), but it is -0.5"),
    "b2 above": (lambda: ia.adam(0.1, b2=1.5), r"b2 must lie in \[0, 1\)"),
    "eps": (lambda: ia.adam(0.1, eps=-1e-8), "eps must be a finite number of at least 0"),
    "dt zero": (lambda: ia.momentum(0.1, dt=0.0), "dt must be a finite number above 0"),
    "dt large": (lambda: ia.momentum(0.1, 0.5, dt=3.0), r"\(1 - beta\) dt must be at most 1, .* take dt <= 2\."),
    "dt large adam": (lambda: ia.adam(0.1, dt=11.0), r"\(1 - b1\) dt must be at most 1"),
    "scheme": (lambda: ia.momentum(0.1, scheme="explict"), "did you mean 'explicit'"),
    "integer params": (lambda: ia.sgd(0.1).init({"w": jnp.arange(3)}), r"params\['w'\] is int32: cast it first"),
    "integer params, iterate": (lambda: ia.iterate(ia.sgd(0.1), loss, jnp.arange(3), 1), "params is int"),
    "width zero": (lambda: ia.mlp([2, 0, 1]), r"widths\[1\] must be at least 1, but it is 0"),
    "epochs fraction": (lambda: check.integer("epochs", 1.5), "epochs must be an integer, but it is 1.5"),
    "one width": (lambda: ia.mlp([2]), "at least inputs and outputs"),
    "activation": (lambda: ia.mlp([2, 3, 1], "tahn"), "did you mean 'tanh'"),
    "activations": (lambda: ia.mlp([2, 3, 1], ["tanh", "relu"]), "one function per hidden layer, 1 here"),
    "init": (lambda: ia.mlp([2, 1], init="lecunn"), "did you mean 'lecun'"),
    "inputs": (lambda: NET.apply(NET.init(jax.random.key(0)), jnp.ones((4, 5))), r"x must have shape \(..., 2\)"),
    "loss name": (lambda: ia.risk(NET, "square"), "did you mean 'squared'"),
    "solver": (lambda: ia.integrate(ia.sgd(0.1), loss, X0, [0, 1], solver="DOP583"), "did you mean 'DOP853'"),
    "times": (lambda: ia.integrate(ia.sgd(0.1), loss, X0, [0, 2, 1]), r"times must increase, but times\[1\] = 2"),
    "times equal": (lambda: ia.integrate(ia.sgd(0.1), loss, X0, [0, 0]), "times must increase"),
    "times nan": (lambda: ia.integrate(ia.sgd(0.1), loss, X0, [0, np.nan]), r"times must be finite, but times\[1\]"),
    "times short": (lambda: ia.integrate(ia.sgd(0.1), loss, X0, [0]), "at least two numbers"),
    "times late": (lambda: ia.integrate(ia.sgd(0.1), loss, X0, [1, 2]), "clock shows 0: start there"),
    "rtol": (lambda: ia.integrate(ia.sgd(0.1), loss, X0, [0, 1], rtol=0.0), "rtol must be a finite number above 0"),
    "no flow": (
        lambda: ia.integrate(jax.tree_util.Partial(loss), loss, X0, [0, 1]),
        "a bare flow needs the state it starts from",
    ),
    "start": (
        lambda: ia.integrate(ia.sgd(0.1), lambda x: jnp.log(x).sum(), 0 * X0, [0, 1]),
        "the flow must be finite at the start",
    ),
    "vector loss": (lambda: ia.iterate(ia.sgd(0.1), lambda x: x, X0, 3), r"returns shape \(2,\)"),
    "complex loss": (lambda: ia.integrate(ia.sgd(0.1), lambda x: (x * 1j).sum(), X0, [0, 1]), "one real number"),
    "loss no function": (lambda: ia.iterate(ia.sgd(0.1), 3.0, X0, 3), "loss must be a function"),
    "steps": (lambda: ia.iterate(ia.sgd(0.1), loss, X0, 0), "steps must be at least 1"),
    "every": (lambda: ia.iterate(ia.sgd(0.1), loss, X0, 10, every=3), "every must divide steps"),
    "sampler": (lambda: train(sampler="shufle"), "did you mean 'shuffle'"),
    "batch large": (lambda: train(batch_size=7), "batch_size must be at most the number of rows 6, but it is 7"),
    "batch zero": (lambda: train(batch_size=0), "batch_size must be at least 1, but it is 0"),
    "batch full": (lambda: train(batch_size=3, sampler="full"), "sampler 'full' takes all 6 rows"),
    "epochs": (lambda: train(epochs=0), "epochs must be at least 1"),
    "lengths": (lambda: train(data=(DATA[0], DATA[1][:5])), r"as many rows as each other, .* \(6, 2\) and \(5,\)"),
    "empty": (lambda: train(data=(DATA[0][:0], DATA[1][:0])), "data must not be empty"),
    "no pair": (lambda: train(data=DATA[0]), r"data must be a pair \(x, y\)"),
    "nan in x": (lambda: train(data=(DATA[0] * [[1], [1], [np.nan], [1], [1], [1]], DATA[1])), r"but x\[2, 0\] is nan"),
    "inf in device x": (lambda: train(data=(jnp.asarray(DATA[0]).at[3, 1].set(jnp.inf), DATA[1])), r"x\[3, 1\] is inf"),
    "label high": (lambda: train(data=(DATA[0], DATA[1] + 1)), r"labels must lie in 0..2, .* y\[2\] is 3"),
    "label negative": (lambda: train(data=(DATA[0], DATA[1] - 1)), r"y\[0\] is -1"),
    "label float": (lambda: train(data=(DATA[0], DATA[1] * 1.0)), "labels must be integers"),
    "label shape": (lambda: train(data=(DATA[0], DATA[1][:, None])), r"labels must have shape \(6,\)"),
    "y shape": (
        lambda: train(loss=ia.risk(ia.Network(NET.init, lambda p, x: x[:, :1])), data=(DATA[0], DATA[0][:, 0])),
        r"y must have the prediction's shape \(6, 1\), but its shape is \(6,\): use y\[:, None\]",
    ),
    "train vector loss": (lambda: train(loss=lambda p, batch: batch[0][:, 0]), "must return one real number"),
    "few dts": (lambda: ia.order(lambda dt: ia.sgd(0.1, dt=dt), loss, X0, 4, [1, 0.5]), "dts must be at least three"),
    "odd dts": (lambda: ia.order(lambda dt: ia.sgd(0.1, dt=dt), loss, X0, 4, [1, 0.5, 0.3]), "multiple of dt"),
    "odd time": (lambda: ia.order(lambda dt: ia.sgd(0.1, dt=dt), loss, X0, 4.5, [1, 0.5, 0.25]), "multiple of dt"),
    "A": (lambda: ia.exact_flow([[1.0, 2.0], [0.0, 1.0]], [1.0, 1.0], [0, 1], 0.1), "A must be a symmetric matrix"),
    "share": (lambda: ia.split(DATA, 1.5), r"test must be a share in \(0, 1\)"),
    "share empty": (lambda: ia.split(DATA, 0.01), "leaves one part empty"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_one_sentence(case):
    call, message = BAD[case]
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))


def test_an_unhashable_loss_is_named():
    class Loss:
        __hash__ = None

        def __call__(self, x):
            return x.sum()

    with pytest.raises(TypeError, match="loss must be hashable"):
        ia.iterate(ia.sgd(0.1), Loss(), X0, 1)


def test_tracers_and_schedules_pass():
    def step(rate, beta, dt):
        return ia.momentum(rate, beta, dt=dt).update(X0, ia.momentum(0.1).init(X0))[0]

    assert np.isfinite(jax.jit(step)(0.1, 0.9, 0.5)).all()
    ia.momentum(lambda k: 0.1, lambda k: 0.9, dt=0.5)


def test_paths_at_different_times_do_not_compare():
    path = ia.iterate(ia.sgd(0.1), loss, X0, 4)
    with pytest.raises(ValueError, match=r"5 times from 0 to 4 and 2 times from 0 to 4: integrate at path.times"):
        ia.gap(path, path[np.array([0, 4])])


def test_energy_needs_momentum():
    with pytest.raises(TypeError, match="one of momentum"):
        ia.energy(ia.iterate(ia.sgd(0.1), loss, X0, 4), 0.1)
