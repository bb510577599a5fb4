"""Multipliers against the linearised code, thresholds against theory, edges against runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inercia as ia
from inercia.edge_of_stability.linear_stability import growth

B = 0.7
METHODS = {
    "GD": (lambda a, dt=1.0: ia.sgd(a, dt=dt), 2.0),
    "semi-implicit": (lambda a, dt=1.0: ia.momentum(a, B, dt=dt), (2 + 2 * B) / (1 - B)),
    "explicit": (lambda a, dt=1.0: ia.momentum(a, B, scheme="explicit", dt=dt), 1.0),
    "heavy ball": (lambda a, dt=1.0: ia.sgd(a, B, dt=dt), 2 + 2 * B),
    "nesterov": (lambda a, dt=1.0: ia.sgd(a, B, nesterov=True, dt=dt), (2 + 2 * B) / (1 + 2 * B)),
}


@pytest.mark.parametrize("dt", [1.0, 0.25])
@pytest.mark.parametrize("name", METHODS)
def test_multipliers_are_those_of_the_code(name, dt):
    method = METHODS[name][0](0.3, dt)
    with jax.enable_x64(True):
        start = method.init(jnp.ones(()))

        def update(z, curvature):
            memory = [m for m in jax.tree.leaves(start) if m.dtype != jnp.int32]
            state = jax.tree.unflatten(jax.tree.structure(start), [start.count, z[1]][: 1 + len(memory)])
            step, after = method.update(curvature * z[0], state, z[0])
            return jnp.stack([z[0] + step, jax.tree.leaves(after)[-1] if memory else 0 * z[0]])

        for curvature in (0.1, 1.0, 4.0):
            jacobian = jax.jacfwd(update)(jnp.zeros(2), curvature)
            ours = ia.stability(method, [curvature])
            np.testing.assert_allclose(
                np.sort_complex(np.linalg.eigvals(np.asarray(jacobian)).astype(complex)),
                np.sort_complex(ours.multipliers[0]),
                atol=1e-7,
            )


@pytest.mark.parametrize("name", METHODS)
def test_thresholds(name):
    make, bound = METHODS[name]
    assert ia.stability(make(0.3), [1.0]).threshold == pytest.approx(bound / 0.3, rel=1e-12)
    inside, edge, outside = (ia.stability(make(0.3), [f * bound / 0.3]) for f in (1 - 1e-6, 1, 1 + 1e-6))
    assert inside.rate[0] < 1 < outside.rate[0]
    if name == "explicit":
        np.testing.assert_allclose(abs(np.angle(edge.multipliers[0])), np.arccos((1 + B) / 2), rtol=1e-9)
    else:
        np.testing.assert_allclose(edge.multipliers[0, 0], -1, atol=1e-12)


def test_preconditioned_thresholds():
    for b1 in (0.0, 0.9):
        assert ia.stability(ia.adam(0.01, b1), [1.0]).threshold == pytest.approx((2 + 2 * b1) / (1 - b1) / 0.01)
    assert ia.stability(ia.rmsprop(0.01), [1.0]).threshold == pytest.approx(200)


def test_damping_regimes_of_the_flow():
    a, b = 0.1, 0.9
    critical = (1 - b) / (4 * a)
    result = ia.stability(ia.momentum(a, b), [0.5 * critical, critical, 2 * critical])
    assert result.regime == ["overdamped", "critical", "underdamped"]
    assert ia.stability(ia.sgd(a * (1 - b), b), [0.5 * critical, critical, 2 * critical]).regime == result.regime
    assert ia.stability(ia.sgd(a), [1.0]).regime == ["first order"]


def test_best_heavy_ball_is_best():
    a, b, rate = ia.best_heavy_ball(0.5, 32.0)
    curvatures = np.linspace(0.5, 32, 200)
    assert ia.stability(ia.sgd(a, b), curvatures).rate.max() == pytest.approx(rate, rel=1e-6)
    for worse in [(0.95 * a, b), (1.05 * a, b), (a, b - 0.03), (a, b + 0.03)]:
        assert ia.stability(ia.sgd(*worse), curvatures).rate.max() > rate


@pytest.mark.parametrize("kind", METHODS)
def test_phase_diagram_is_the_multipliers(kind):
    x, b = np.meshgrid(np.linspace(0.01, 8, 50), np.linspace(0, 0.99, 40))
    with jax.enable_x64(True):
        diagram = np.asarray(jax.jit(growth, static_argnums=0)(kind, x, b))
    for i, j in [(3, 7), (20, 40), (39, 1), (30, 25)]:
        method = {
            "GD": lambda x, b: ia.sgd(x),
            "semi-implicit": ia.momentum,
            "explicit": lambda x, b: ia.momentum(x, b, scheme="explicit"),
            "heavy ball": ia.sgd,
            "nesterov": lambda x, b: ia.sgd(x, b, True),
        }[kind](float(x[i, j]), float(b[i, j]))
        assert diagram[i, j] == pytest.approx(ia.stability(method, [1.0]).rate[0], rel=1e-9)


@pytest.mark.slow
def test_phase_diagram_is_what_iterates_do():
    """A million cells by vmap: the iterates grow where the multipliers say so."""
    rates, betas = jnp.linspace(0.02, 3.0, 60), jnp.linspace(0.0, 0.95, 40)

    def final(rate, beta):
        method = ia.momentum(rate, beta, scheme="explicit")

        def step(carry, _):
            theta, state = carry
            update, state = method.update(theta, state)
            return (theta + update, state), None

        (theta, state), _ = jax.lax.scan(step, (jnp.ones(()), method.init(jnp.ones(()))), length=400)
        return jnp.hypot(theta, state.m)

    size = jax.jit(jax.vmap(jax.vmap(final, (0, None)), (None, 0)))(rates, betas)
    predicted = growth("explicit", rates[None], betas[:, None])
    clear = jnp.abs(predicted - 1) > 0.02
    assert clear.mean() > 0.6
    np.testing.assert_array_equal((size < 1)[clear], (predicted < 1)[clear])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ia.stability(ia.sgd(0.1), [1.0, 0.0]), "above 0"),
        (lambda: ia.stability(ia.sgd(0.1), [-1.0]), "above 0"),
        (lambda: ia.stability(ia.lion(0.1), [1.0]), "but the method is lion"),
        (lambda: ia.stability(ia.nesterov(0.1), [1.0]), "but the method is nesterov"),
        (lambda: ia.stability(ia.sgd(lambda k: 0.1), [1.0]), "constant hyperparameters"),
        (lambda: ia.best_heavy_ball(2.0, 1.0), "smallest must not exceed largest"),
        (lambda: ia.best_heavy_ball(0.0, 1.0), "smallest must be a finite number above 0"),
        (lambda: growth("explict", 1.0, 0.9), "did you mean 'explicit'"),
        (lambda: growth("GD", 1.0, 1.5), r"beta must lie in \[0, 1\), but it is 1.5"),
        (lambda: growth("GD", np.nan, 0.5), "a_lambda must be finite"),
        (
            lambda: growth("GD", np.ones(2), np.zeros(3)),
            r"must broadcast with a_lambda's shape \(2,\), but it has \(3,\)",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_growth_of_text_is_refused():
    with pytest.raises(TypeError, match="a_lambda must be real numbers, but it is 'a'"):
        growth("GD", "a", 0.9)
