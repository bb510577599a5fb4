"""The rule's numbers, its schedules, its refusals; that the equation stays the same is shown with the flows."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import inercia as ia


def test_numbers():
    for method, wanted in (
        (ia.sgd(0.1), ia.sgd(0.4)),
        (ia.sgd(0.1, 0.9), ia.sgd(1.6, 0.6)),
        (ia.momentum(0.1, 0.9, scheme="explicit"), ia.momentum(0.4, 0.6, scheme="explicit")),
        (ia.rmsprop(0.1, 0.9, 1e-8), ia.rmsprop(0.2, 0.6, 2.5e-9)),
        (ia.rmsprop(0.1, 0.9, 1e-8, 1.0, False), ia.rmsprop(0.2, 0.6, 5e-9, 0.25, False)),
        (ia.adam(1e-3, eps_root=1e-4), ia.adam(2e-3, 0.6, 0.996, 5e-9, 2.5e-5)),
        (ia.adamw(1e-3, weight_decay=0.1), ia.adamw(2e-3, 0.6, 0.996, 5e-9, weight_decay=0.2)),
        (ia.sgd(0.1, 0.75), ia.sgd(1.6, 0.0)),  # the shortest memory there is
    ):
        assert ia.scale(method, 4) == wanted
        back = ia.scale(ia.scale(method, 1 / 3), 3).hyper
        assert all(back[name] == pytest.approx(value) for name, value in method.hyper.items())


def test_schedules_are_stretched():
    """Update k of the scaled method reads the schedule where the old one stands after kappa k."""
    schedule = optax.piecewise_constant_schedule(0.1, {8: 0.5})
    scaled = ia.scale(ia.sgd(schedule), 4)
    path = ia.iterate(scaled, lambda x: x, 0.0, 4)
    np.testing.assert_allclose(-np.diff(path.params), [0.4, 0.4, 0.2, 0.2], rtol=1e-6)
    one, two = (ia.scale(ia.sgd(optax.cosine_decay_schedule(0.1, 100)), 4) for _ in range(2))
    assert one == two  # one program serves both
    decayed = ia.scale(ia.adamw(1e-3, weight_decay=lambda k: 0.01 * k), 2.5)
    assert float(decayed.hyper["weight_decay"](jnp.int32(4))) == pytest.approx(0.1 * np.sqrt(2.5))


def test_under_jit():
    """The rate may be traced, as in a sweep; kappa is a number."""

    def step(a):
        method = ia.scale(ia.adam(a, b1=a), 2)
        return method.update(jnp.ones(2), method.init(jnp.ones(2)))[0]

    np.testing.assert_allclose(jax.jit(step)(0.9), -0.9 * np.sqrt(2) * np.ones(2), rtol=1e-5)


def gradients(ratio, n=4000, size=5):
    """Gradients of deviation 1 and |g|^2 = ratio tr Sigma."""
    return {"w": np.random.default_rng(0).normal(np.sqrt(ratio), 1, (n, size)), "b": np.full(n, 0.0)}


def test_too_much_signal_is_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ia.scale(ia.adam(1e-3), 4, signal=gradients(0.01))
        ia.scale(ia.adam(1e-3), 8, signal=gradients(0.0, 20, 1000))  # of few batches noise alone is no signal
        ia.scale(ia.sgd(1e-3), 4, signal=gradients(1.0))  # the linear rule does not mind
    with pytest.warns(ia.InerciaWarning, match="at kappa = 4 mean steps are 0.63 times those"):
        ia.scale(ia.adam(1e-3), 4, signal=gradients(1.0))


def test_signal_of_unequal_entries():
    """One entry with r = 1 among noise, whose steps halve: those without signal move nowhere, and do not count."""
    given = gradients(0.0)["w"] + np.array([1.0, 0, 0, 0, 0])
    with pytest.warns(ia.InerciaWarning, match=r"mean steps are 0\.5\d times"):
        ia.scale(ia.adam(1e-3), 7, signal=given)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: ia.scale(ia.momentum(0.1), 20), ValueError, r"kappa = 20 and beta = 0.9 make it 2.*kappa <= 10"),
        (lambda: ia.scale(ia.adam(0.1), 11), ValueError, r"kappa \(1 - b1\) must be at most 1"),
        (lambda: ia.scale(ia.sgd(0.1), 0), ValueError, "kappa must be a finite number above 0"),
        (lambda: ia.scale(ia.momentum(0.1, lambda k: 0.9), 2), TypeError, "beta must be a number.*it is a schedule"),
        (lambda: ia.scale(ia.adagrad(0.1), 2), TypeError, "second moments that forget, but adagrad sums them"),
        (lambda: ia.scale(ia.lion(0.1), 2), TypeError, "whose rules are known, but not lion"),
        (lambda: ia.scale(optax.adam(0.1), 2), TypeError, "but not GradientTransformation"),
        (lambda: ia.scale(ia.adam(0.1), 2, signal=np.ones((9, 3))), ValueError, "at least 16 batches"),
        (lambda: ia.scale(ia.adam(0.1), 2, signal=np.ones((20, 3))), ValueError, "they are all equal"),
        (lambda: ia.scale(ia.adam(0.1), 2, signal=np.full((20, 3), np.nan)), ValueError, "signal must be finite"),
    ],
)
def test_bad_input(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
