"""Preconditioners read off the update: against the closed forms, for a user's own transformation, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import inercia as ia
from inercia.edge_of_stability.state_reading import read_preconditioner

rng = np.random.default_rng(0)
START = {"a": rng.normal(size=(3, 2)), "b": rng.normal(size=2)}
RATE = 0.01


def after(method, updates=7):
    """Return params and the state after some updates on random gradients, float64; needs an x64 context."""
    params = jax.tree.map(jnp.asarray, START)
    state, update = method.init(params), jax.jit(method.update)
    draw = np.random.default_rng(1)
    for _ in range(updates):
        state = update(jax.tree.map(lambda p: draw.normal(size=p.shape), START), state, params)[1]
    return params, state


def constant(value):
    return lambda _: jax.tree.map(lambda p: np.full(p.shape, value), START)


def of_adam(part, b2=0.999, eps=1e-8, ahead=None, steps=7):
    """Return state -> (sqrt(nu-hat) + eps) / a of the part of the state that is Adam's."""
    gain = RATE if ahead is None else RATE * ahead(steps)
    return lambda state: jax.tree.map(lambda v: (np.sqrt(v / (1 - b2**steps)) + eps) / gain, part(state).nu)


def of_rms(state):
    return jax.tree.map(lambda v: np.sqrt(v + 1e-8) / RATE, state[0].nu)


def ahead(n, b=0.9):
    """NAdam's answer to a gradient that has been constant for n updates."""
    return b * (1 - b**n) / (1 - b ** (n + 1)) + (1 - b) / (1 - b**n)


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (optax.sgd(0.1), constant(10.0)),
        (optax.sgd(0.1, 0.75), constant(2.5)),
        slow(optax.sgd(0.1, 0.75, nesterov=True), constant(2.5)),
        (ia.sgd(0.1, 0.75, nesterov=True), constant(2.5)),
        (ia.momentum(0.1, 0.75), constant(10.0)),
        (ia.momentum(0.1, 0.75, scheme="explicit"), constant(10.0)),
        slow(optax.chain(optax.ema(0.75), optax.scale(-0.1)), constant(10.0)),
        slow(optax.chain(optax.add_decayed_weights(0.3), optax.sgd(0.1, 0.75)), constant(2.5)),
        (optax.rmsprop(RATE), of_rms),
        (optax.adam(RATE), of_adam(lambda s: s[0])),
        slow(optax.adam(RATE, eps=0.0), of_adam(lambda s: s[0], eps=0.0)),
        slow(optax.adamw(RATE, weight_decay=0.1), of_adam(lambda s: s[0])),
        slow(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(RATE)), of_adam(lambda s: s[1][0])),
        slow(optax.inject_hyperparams(optax.adam)(RATE), of_adam(lambda s: s.inner_state[0])),
        (optax.nadam(RATE), of_adam(lambda s: s[0], ahead=ahead)),
        slow(ia.nadam(RATE), of_adam(lambda s: s, ahead=ahead)),
        (ia.adam(RATE, b1=0.6, b2=0.8), of_adam(lambda s: s, b2=0.8)),
    ],
    ids=lambda value: getattr(value, "name", None) or "optax" if isinstance(value, tuple) else "",
)  # fmt: skip
def test_closed_forms(method, expected):
    with jax.enable_x64(True):
        params, state = after(method)
        found = jax.jit(lambda state, params: read_preconditioner(method, state, params))(state, params)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), found, expected(state))


@pytest.mark.slow
def test_what_steps_once_in_k_updates_is_read_per_step():
    method = optax.MultiSteps(optax.adam(RATE), 3).gradient_transformation()
    with jax.enable_x64(True):
        params, state = after(method, 8)  # between two steps
        expected = of_adam(lambda s: s.inner_opt_state[0], steps=2)(state)
        found = ia.preconditioner(method, state, params)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), found, expected)


def test_threshold_per_step():
    for method in (
        optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation(),
        optax.inject_hyperparams(optax.sgd)(0.1),
    ):
        assert ia.threshold(method, warm=64)[:3] == pytest.approx((20, 0.1, 2), rel=1e-6)


@pytest.mark.slow
def test_parts_of_the_params_with_methods_of_their_own():
    parts = {"adam": optax.adam(RATE), "still": optax.set_to_zero()}
    method = optax.partition(parts, {"a": "adam", "b": "still"})
    with jax.enable_x64(True):
        params, state = after(method)
        found = ia.preconditioner(method, state, params)
        np.testing.assert_allclose(found["a"], of_adam(lambda s: s.inner_states["adam"].inner_state[0])(state)["a"])
        assert np.isinf(found["b"]).all()


def own(a=0.1, b=0.8):
    """Momentum of steps, in a metric with a memory of its own: no library's transformation."""

    def init(params):
        return {"speed": jax.tree.map(jnp.zeros_like, params), "size": jax.tree.map(jnp.ones_like, params)}

    def update(grads, state, params=None):
        size = jax.tree.map(lambda g, v: 0.9 * v + 0.1 * g**4, grads, state["size"])
        speed = jax.tree.map(lambda g, m, v: b * m - a * g / v**0.25, grads, state["speed"], size)
        return speed, {"speed": speed, "size": size}

    return optax.GradientTransformation(init, update)


@pytest.mark.slow
def test_a_transformation_of_a_users_own():
    method = own()
    with jax.enable_x64(True):
        params, state = after(method)
        found = ia.preconditioner(method, state, params)
        jax.tree.map(lambda x, v: np.testing.assert_allclose(x, v**0.25 * 0.2 / 0.1, rtol=1e-9), found, state["size"])


def bowl(x):
    return jnp.sum(jnp.array([1.0, 3.0, 2.0]) * x**2) / 2 + jnp.sum(x**4) / 100


@pytest.mark.slow
def test_sharpness_is_that_of_the_named_method():
    x = jnp.array([1.0, 0.5, -0.3])
    runs = [
        ia.iterate(method, bowl, x, 10, every=5, observe={"S": ia.sharpness(method, bowl, 2)}).observed["S"]
        for method in (optax.adam(RATE), ia.adam(RATE))
    ]
    np.testing.assert_allclose(*runs, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (optax.lion(RATE), "or does it scale by a norm"),
        (optax.lamb(RATE), "or does it scale by a norm"),
        (optax.lars(RATE), "or does it scale by a norm"),
        (optax.polyak_sgd(), "it asks the loss for 'value'"),
        (optax.lbfgs(), "it asks the loss for 'value', 'grad', and 'value_fn'"),
        (optax.contrib.schedule_free_sgd(RATE), "keeps every gradient for good"),
        (optax.scale_by_adam(), "some updates go along the gradient"),
        (optax.masked(optax.sgd(RATE), {"a": True, "b": False}), "some updates go along the gradient"),
        (optax.chain(optax.centralize(), optax.sgd(RATE)), "it mixes them"),
        (optax.set_to_zero(), "answers to the gradients"),
    ],
)  # fmt: skip
def test_refused_in_a_sentence(method, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        ia.preconditioner(method, None, START)
    assert str(error.value).count(". ") == 0


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (optax.polyak_sgd(), "it asks the loss for 'value'"),
        (optax.contrib.schedule_free_sgd(RATE), "keeps every gradient for good"),
        (optax.sm3(RATE), "fails with them: list index out of range"),
    ],
)
def test_threshold_refuses_in_a_sentence(method, sentence):
    with pytest.raises(ValueError, match=sentence):
        ia.threshold(method, warm=64)
