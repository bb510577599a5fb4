"""The largest stable curvature of any transformation: the closed forms, and what the bound must not depend on."""

import numpy as np
import optax
import pytest

import inercia as ia


@pytest.mark.parametrize("b", [0.0, 0.9, *(pytest.param(b, marks=pytest.mark.slow) for b in (0.5, 0.99))])
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


@pytest.mark.slow
def test_the_second_moment_scales_it():
    for g in (0.01, 1.0, 30.0):
        result = ia.threshold(optax.adam(1e-3, b1=0.5), g)
        assert result.bound == pytest.approx(6, rel=1e-9)
        assert result.curvature == pytest.approx(6 * (g + 1e-8) / 1e-3, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [optax.nadam, optax.adabelief, lambda a: optax.chain(optax.clip(9.0), optax.yogi(a)), optax.adagrad],
    ids=["nadam", "adabelief", "clipped yogi", "adagrad"],
)  # fmt: skip
def test_any_transformation(make):
    """The bound is the preconditioned one: it knows neither the rate nor the size of the gradients."""
    results = [ia.threshold(make(a), g, warm=4000) for a, g in ((0.1, 1.0), (0.01, 1.0), (0.1, 2.0))]
    for result in results:
        assert result.bound == pytest.approx(results[0].bound, rel=1e-3)
        assert abs(result.multipliers[0]) == pytest.approx(1, abs=1e-9)
    assert results[1].curvature == pytest.approx(10 * results[0].curvature, rel=1e-3)
    assert results[2].curvature > 1.2 * results[0].curvature


def test_what_has_none():
    with pytest.raises(ValueError, match="sign method"):
        ia.threshold(optax.lion(0.1))
    with pytest.raises(ValueError, match="gradient must be"):
        ia.threshold(optax.sgd(0.1), 0.0)
    assert ia.threshold(optax.sgd(-0.1 + 0.3)).bound == pytest.approx(2)
