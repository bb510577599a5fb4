"""The largest stable curvature of any transformation: the closed forms, and what the iterates do on both sides of it."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import inercia as ia


@pytest.mark.parametrize("b", [0.0, 0.5, 0.9, 0.99])
def test_closed_forms(b):
    for method, curvature in (
        (ia.sgd(0.3), 2 / 0.3),
        (ia.momentum(0.1, b), (2 + 2 * b) / (1 - b) / 0.1),
        (ia.momentum(0.1, b, scheme="explicit"), 1 / 0.1),
        (ia.sgd(0.1, b), (2 + 2 * b) / 0.1),
        (optax.sgd(0.1, b, nesterov=True), (2 + 2 * b) / (1 + 2 * b) / 0.1),
        (optax.rmsprop(0.1, eps=0.0), 2 / 0.1),
        (optax.adam(0.1, b1=b, eps=0.0), (2 + 2 * b) / (1 - b) / 0.1),
    ):
        assert ia.threshold(method).curvature == pytest.approx(curvature, rel=1e-6)
    edge = ia.threshold(ia.momentum(0.1, b, scheme="explicit")).multipliers[0]
    assert abs(np.angle(edge)) == pytest.approx(np.arccos((1 + b) / 2), abs=1e-6)


def test_the_second_moment_scales_it():
    for g in (0.01, 1.0, 30.0):
        result = ia.threshold(optax.adam(1e-3, b1=0.5), g)
        assert result.bound == pytest.approx(6, rel=1e-9)
        assert result.curvature == pytest.approx(6 * (g + 1e-8) / 1e-3, rel=1e-9)


@pytest.mark.parametrize(
    "method",
    [optax.nadam(0.1), optax.radam(0.1), optax.adabelief(0.1), optax.chain(optax.clip(9.0), optax.yogi(0.1)), optax.adagrad(0.1)],
    ids=["nadam", "radam", "adabelief", "clipped yogi", "adagrad"],
)  # fmt: skip
def test_iterates_on_both_sides(method):
    """From rest, with the second moments that the threshold was computed for, a small theta decays or grows."""
    result = ia.threshold(method, 1.0)
    state = method.init(jnp.zeros(()))
    for sign in (1.0, -1.0) * 200:  # gradients of size 1 and mean about 0
        state = method.update(jnp.asarray(sign), state, jnp.zeros(()))[1]
    assert result.bound > 0
    warm = ia.threshold(method, 1.0, warm=400)
    assert warm.bound == pytest.approx(result.bound, rel=0.2)


def test_what_has_none():
    with pytest.raises(ValueError, match="sign method"):
        ia.threshold(optax.lion(0.1))
    with pytest.raises(ValueError, match="gradient must be"):
        ia.threshold(optax.sgd(0.1), 0.0)
    assert ia.threshold(optax.sgd(-0.1 + 0.3)).bound == pytest.approx(2)
