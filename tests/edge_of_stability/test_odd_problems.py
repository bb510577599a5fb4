"""Losses, params and states at the end of what is sensible: the right number at any scale, or one sentence."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import inercia as ia
from inercia.comparison.edge_run import averaged
from inercia.edge_of_stability.averaged_reading import decays_of, read_update
from inercia.edge_of_stability.lanczos import leading
from inercia.edge_of_stability.sharpness_observer import sharpness

EIGENVALUES = np.arange(1.0, 6.0)
ONE = np.ones(5)
SGD = ia.sgd(0.1)


def bowl(p):
    return jnp.sum(EIGENVALUES * p**2) / 2


def scaled(scale, p):
    return scale * bowl(p)


def row_losses(p, rows):
    return jnp.mean(rows["h"] * (p**2).sum()) / 2


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_spectrum_at_any_scale(scale):
    loss = partial(scaled, scale)
    nodes, weights = ia.density(loss, ONE, 5, 1)
    np.testing.assert_allclose(nodes / scale, EIGENVALUES, rtol=1e-10)
    assert weights.sum() == pytest.approx(1)
    assert ia.trace(loss, ONE, 10, method="xtrace")[0] / scale == pytest.approx(15, rel=1e-12)
    assert ia.trace(loss, ONE, 4)[0] / scale == pytest.approx(15)
    with np.errstate(all="raise"):
        assert ia.curvature(loss, ONE, 2).values / scale == pytest.approx([5, 4])
    values = np.linspace(0, 1, 1100)
    found = leading(lambda v: scale * values * v, 1100, 2, 1e-6, 500)
    np.testing.assert_allclose(found.values / scale, values[:-3:-1], rtol=1e-9)
    data = {"h": np.array([scale, 3 * scale])}  # the gradient of a row is h p
    found, error = ia.batch_sharpness(row_losses, ONE, data, 1, batches=2)
    assert found / scale == pytest.approx(2.8)
    assert np.isfinite(error / scale)


def test_estimates_of_one_parameter_have_no_error():
    assert ia.trace(lambda p: 3 * p**2, np.ones(()), 4, method="xtrace") == pytest.approx((6.0, 0.0))
    assert ia.trace(lambda p: 3 * jnp.sum(p), np.ones((0, 3)), 4, method="xtrace") == (0.0, 0.0)


def nan_loss(p):
    return jnp.nan * bowl(p)


HELD = {"a": np.zeros((0, 3))}
CALLS = {
    "trace of a vector": (lambda: ia.trace(lambda p: p[:1], ONE), ValueError, "return one real number"),
    "trace without a loss": (lambda: ia.trace(3, ONE), TypeError, "loss must be a function"),
    "trace of nan": (lambda: ia.trace(nan_loss, ONE, 4), ia.CurvatureError, "not finite"),
    "xtrace of nan": (lambda: ia.trace(nan_loss, ONE, 4, method="xtrace"), ia.CurvatureError, "not finite"),
    "two samples": (lambda: ia.trace(bowl, ONE, 3, method="xtrace"), ValueError, "samples must be at least 4"),
    "density of a host's loss": (lambda: ia.density(lambda p: float(p[0]), ONE, 2), TypeError, "numbers on the host"),
    "density of nan": (lambda: ia.density(nan_loss, ONE, 2, 1), ia.CurvatureError, "not finite"),
    "curvature at nan": (lambda: ia.curvature(bowl, np.full(5, np.nan)), ValueError, r"params\[0\] is nan"),
    "curvature under jit": (lambda: jax.jit(lambda p: ia.curvature(bowl, p).values)(ONE), TypeError, "traced by jit"),
    "P of another tree": (lambda: ia.curvature(bowl, ONE, preconditioner={"a": ONE}), ValueError, "structure and sha"),
    "P of text": (lambda: ia.curvature(bowl, ONE, preconditioner="a"), ValueError, "structure and shapes"),
    "start of a spectrum": (
        lambda: ia.curvature(lambda p: (p**2).sum(), np.ones(1001), start=ia.curvature(bowl, ONE)),
        ValueError,
        "its field `vectors`",
    ),
    "start of a vector": (
        lambda: ia.curvature(lambda p: (p**2).sum(), np.ones(1001), start=np.ones(1001)),
        ValueError,
        "one more axis in front",
    ),
    "nothing at all": (lambda: ia.central(SGD, lambda p: p["a"].sum(), HELD, 4), ValueError, "at least one number"),
    "no curvature": (lambda: ia.curvature(lambda p: p["a"].sum(), HELD), ValueError, "at least one number"),
    "batches of text": (
        lambda: ia.batch_sharpness(row_losses, ONE, {"h": np.array(["a", "b"])}, 1),
        TypeError,
        "data must hold numbers",
    ),
    "batches without rows": (lambda: ia.batch_sharpness(row_losses, ONE, {"h": 3.0}, 1), ValueError, "at least one"),
    "batches of complex params": (
        lambda: ia.batch_sharpness(row_losses, ONE * 1j, {"h": ONE}, 1),
        TypeError,
        "params must be real",
    ),
    "batches at nan": (
        lambda: ia.batch_sharpness(row_losses, ONE * np.nan, {"h": ONE}, 1, batches=2),
        ia.CurvatureError,
        "gradient or the Hessian of a batch is not finite",
    ),
    "advice at nan": (lambda: ia.advise(SGD, nan_loss, ONE), ia.CurvatureError, "must be finite where advice"),
    "advice on a rate of 0": (
        lambda: ia.advise(ia.sgd(optax.linear_schedule(0.0, 0.1, 10)), bowl, ONE),
        ValueError,
        "needs a learning rate above 0 at this update",
    ),
    "advice on no method": (lambda: ia.advise(optax.sgd, bowl, ONE), TypeError, "method must be an optimizer"),
    "central of a rate": (lambda: ia.central(0.1, bowl, ONE, 3), TypeError, "method must be an optimizer"),
    "central under jit": (
        lambda: jax.jit(lambda p: ia.central(SGD, bowl, p, 3).loss)(ONE),
        TypeError,
        "cannot be traced by jit",
    ),
    "regime of nothing": (lambda: ia.regime(None, bowl, ONE, time=3), TypeError, "method must be an optimizer"),
    "sharpness of another method": (
        lambda: ia.iterate(SGD, bowl, ONE, 2, observe={"s": sharpness(ia.adam(0.1), bowl)}),
        ValueError,
        "must be made of the method that is iterated",
    ),
    "critical sharpness of another method": (
        lambda: ia.iterate(SGD, bowl, ONE, 2, observe={"s": ia.critical_sharpness(ia.adam(0.1), bowl)}),
        ValueError,
        "must be made of the method that is iterated",
    ),
    "P before the first update": (
        lambda: ia.preconditioner(ia.adam(0.1), ia.adam(0.1).init(jnp.ones(5)), jnp.ones(5)),
        ValueError,
        "this state has seen none",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_one_sentence(name):
    call, kind, told = CALLS[name]
    with pytest.raises(kind, match=told) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [">f8", np.longdouble])
def test_products_at_numbers_of_other_machines(dtype):
    assert ia.hvp(lambda p: p[0] ** 2 + p[0] * p[1], np.ones(2, dtype), np.ones(2)).tolist() == [3, 1]


X = np.random.default_rng(0).normal(size=(256, 8))
Y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2]


def linear_fit(p):
    return jnp.mean((X.astype(np.float32) @ p - Y.astype(np.float32)) ** 2)


def test_critical_sharpness_is_not_that_of_rounding():
    """In float32 a step of 2^-40 of the update raises the loss or does not, as rounding has it."""
    method, loss = ia.sgd(0.01), ia.in_float32(linear_fit)
    path = ia.iterate(method, loss, np.zeros(8), 30, observe={"c": ia.critical_sharpness(method, loss)})
    H = 2 * X.T @ X / len(X)
    g = path.params @ H - 2 * X.T @ Y / len(X)
    exact = 0.01 * np.einsum("ni,ij,nj->n", g, H, g) / (g**2).sum(axis=1)
    np.testing.assert_allclose(path.observed["c"], exact, rtol=0.02)


def test_critical_sharpness_of_a_python_number():
    path = ia.iterate(SGD, lambda p: 1.0, ONE, 1, observe={"c": ia.critical_sharpness(SGD, lambda p: 1.0)})
    assert path.observed["c"].tolist() == [0, 0]


def test_advice_scales_the_weight_decay_too():
    """With the decay w in the gradient a step is stable iff a (lambda + w) < 2."""
    method = optax.chain(optax.add_decayed_weights(0.5), optax.sgd(0.1))
    found = ia.advise(method, bowl, ONE)
    assert found.factor == pytest.approx(2 / (0.1 * (5 + 0.5)), rel=1e-5)
    assert found.margin == pytest.approx(1 - 0.1 * 5 / (2 - 0.1 * 0.5), rel=1e-5)


def test_advice_far_beyond_the_bound_is_short():
    told = str(ia.advise(SGD, partial(scaled, 1e200), ONE))
    assert told.startswith("the sharpness 5e+199 is 2.5e+199 times the bound 2:")


@pytest.mark.long
def test_sharpness_of_what_steps_once_in_k_updates_before_its_first_step():
    grouped = optax.MultiSteps(optax.chain(optax.scale_by_rms(0.9), optax.scale(-0.1)), 2).gradient_transformation()
    seen = ia.iterate(grouped, bowl, ONE, 2, observe={"s": sharpness(grouped, bowl)}).observed["s"].ravel()
    nu = 0.1 * EIGENVALUES**2
    first = (0.1 * EIGENVALUES / (np.sqrt(nu) + 1e-8)).max()
    np.testing.assert_allclose(seen[:2], first, rtol=1e-5)


def test_negative_curvature_is_no_lack_of_memory():
    regime = ia.Regime(9.0, 0.1, 1.0, -0.5, 2.0, None, 1000.0, None, "limit", 0.05)
    assert regime.memoryless is False
    assert "not memoryless, with a memory of 1e+03 updates against 2" in str(regime)


@pytest.mark.long
def test_second_moments_are_memories_too():
    """Of any transformation as of inercia's own, whose table says so; an accumulated sum keeps all of itself."""
    for method, kept in ((optax.rmsprop(0.1, decay=0.9), 0.9), (optax.adagrad(0.1), 1.0)):
        assert max(decays_of(read_update(method, np.ones(2)))) == pytest.approx(kept)


def test_averages_keep_nothing_of_what_has_left_the_window():
    values = 10.0 ** -np.arange(40.0)
    for window in (2, 5, 10, 39, 100):
        half = np.minimum(window // 2, np.minimum(np.arange(40), np.arange(40)[::-1]))
        parts = [values[t - h : t + h + 1] for t, h in enumerate(half)]
        exact = [x[0] if len(x) == 1 else ((x[1:] + x[:-1]) / 2).mean() for x in parts]
        np.testing.assert_allclose(averaged(values, window), exact, rtol=1e-14)
