"""Kinks that are crossed have a flow, of order 1; what slides has none; nothing else is an alarm."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import inercia as ia
from inercia.core.optimizer_state import start_state
from inercia.flows.sliding_modes import DIRECTION, sliding
from inercia.flows.smoothness import jumps, nonsmooth_in_loss, nonsmooth_operations, require_continuous, require_smooth

P = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
A = jnp.array([[2.0, 0.5], [0.5, 1.0]])
START = np.array([1.0, -2.0])


def loss(x):
    return 0.5 * x @ A @ x + 0.3 * jnp.sum(1 - jnp.cos(x))


BRANCH = "a branch on the gradient's size"


def elementwise(function):
    return optax.stateless(lambda grads, params: jax.tree.map(function, grads))


UPDATES = {  # name: (transformation, what is not smooth, what jumps)
    "adam": (optax.adam(0.1), [], []),
    "adagrad, which guards a division": (optax.adagrad(0.1), [], []),
    "amsgrad": (optax.amsgrad(0.1), ["max"], []),
    "adamax": (optax.adamax(0.1), ["abs", "max"], []),
    "clip": (optax.clip(1.0), ["max", "min"], []),
    "clip by norm": (optax.clip_by_global_norm(1.0), [BRANCH], []),
    "adaptive clip": (optax.adaptive_grad_clip(0.1), [BRANCH, "max"], []),
    "lars, which guards a division": (optax.lars(0.1), [], []),
    "sm3": (optax.sm3(0.1), ["reduce_max"], []),
    "muon, a loop": (optax.contrib.muon(0.1), [], []),
    "only where finite": (optax.apply_if_finite(optax.adam(0.1), 3), [], []),
    "lion": (optax.lion(0.1), ["sign"], ["sign"]),
    "yogi": (optax.yogi(0.1), ["sign"], ["sign"]),
    "sign": (ia.sign_sgd(0.1), ["sign"], ["sign"]),
    "sign as a choice": (elementwise(lambda g: jnp.where(g > 0, 1.0, -1.0)), [BRANCH], [BRANCH]),
    "sign as a number": (elementwise(lambda g: 2.0 * (g > 0) - 1), [BRANCH], [BRANCH]),
    "dropped where large": (elementwise(lambda g: jnp.where(g * g < 1, g, 0.0)), [BRANCH], [BRANCH]),
    "a choice without a jump": (elementwise(lambda g: jnp.where(g < 1, g, 2 * g - 1)), [BRANCH], []),
    "rounded": (elementwise(lambda g: jnp.round(8 * g) / 8), ["round"], ["round"]),
    "cut to integers": (
        elementwise(lambda g: g.astype(int).astype(g.dtype)),
        *[["conversion to integers"]] * 2,
    ),
    "jump in a loop": (
        elementwise(lambda g: jax.lax.fori_loop(0, 2, lambda _, x: x + jnp.sign(x), g)),
        *[["sign"]] * 2,
    ),
    "computed and dropped": (elementwise(lambda g: (jnp.sign(g), g)[1]), [], []),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", UPDATES)
def test_operations_of_updates(name):
    transformation, operations, jumping = UPDATES[name]
    assert nonsmooth_operations(transformation, P) == operations
    assert jumps(transformation, P) == jumping
    if jumping:
        with pytest.raises(ValueError, match=rf"must be continuous in the gradient .* but it jumps \({jumping[0]}\)"):
            require_continuous(transformation, P)
    else:
        require_continuous(transformation, P)
    if operations and not jumping:
        with pytest.raises(ValueError, match="must be smooth in the gradient here, but its slope jumps"):
            require_smooth(transformation, P)


def layer_norm(p):
    x = jnp.linspace(-1, 1, 12).reshape(4, 3) @ p["w"].T
    mean = x.mean(axis=1, keepdims=True)
    variance = jnp.maximum(0, (x**2).mean(axis=1, keepdims=True) - mean**2)
    return (x - mean) / jnp.sqrt(variance + 1e-5)


def of_w(function):
    return lambda p: jnp.sum(function(p["w"]))


LOSSES = {
    "layer norm": (lambda p: jnp.sum(jnp.tanh(layer_norm(p))), []),
    "layer norm, then relu": (lambda p: jnp.sum(jax.nn.relu(layer_norm(p))), ["max"]),
    "relu": (of_w(jax.nn.relu), ["max"]),
    "abs": (of_w(jnp.abs), ["abs"]),
    "abs squared": (of_w(lambda w: jnp.abs(w) ** 2), []),
    "max": (of_w(jnp.max), ["reduce_max"]),
    "sorted": (of_w(lambda w: jnp.sort(w.ravel())[:2]), ["sort"]),
    "clip": (of_w(lambda w: jnp.clip(w, -1, 1)), ["max", "min"]),
    "elu, whose curvature jumps": (of_w(jax.nn.elu), ["a branch on a value"]),
    "logsumexp": (of_w(jax.nn.logsumexp), []),
    "log softmax": (of_w(jax.nn.log_softmax), []),
    "cross-entropy": (lambda p: optax.softmax_cross_entropy_with_integer_labels(p["w"], jnp.array([0, 1])).sum(), []),
    "binary cross-entropy": (of_w(lambda w: optax.sigmoid_binary_cross_entropy(w, jnp.ones((2, 3)))), []),
    "softplus": (of_w(jax.nn.softplus), []),
    "gelu": (of_w(jax.nn.gelu), []),
    "norm": (of_w(jnp.linalg.norm), []),
    "a loop": (of_w(lambda w: jax.lax.fori_loop(0, 3, lambda _, x: jnp.tanh(x), w)), []),
    "relu in a loop": (of_w(lambda w: jax.lax.fori_loop(0, 3, lambda _, x: jax.nn.relu(x - 0.1), w)), ["max"]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_operations_of_losses(name):
    function, operations = LOSSES[name]
    assert nonsmooth_in_loss(function, P) == operations


def refined(b, dt):
    return 1 - (1 - b) * dt


FAMILIES = {  # name: (family, what slides)
    "momentum": (lambda dt: ia.momentum(0.3, 0.9, dt=dt), []),
    "clip": (lambda dt: optax.chain(optax.clip(1.0), optax.sgd(0.2 * dt)), []),
    "clip by norm": (lambda dt: optax.chain(optax.clip_by_global_norm(0.5), ia.adam(0.05, dt=dt)), []),
    "amsgrad": (lambda dt: optax.amsgrad(0.2 * dt, refined(0.5, dt), refined(0.8, dt)), []),
    "adamax": (lambda dt: optax.adamax(0.2 * dt, refined(0.5, dt), refined(0.8, dt)), []),
    "lion, refined": (lambda dt: optax.lion(0.05 * dt, refined(0.9, dt), refined(0.99, dt)), []),
    "lion": (lambda dt: optax.lion(0.05 * dt, 0.9, refined(0.99, dt)), [DIRECTION, "sign"]),
    "sign": (lambda dt: optax.sign_sgd(0.1 * dt), [DIRECTION, "sign"]),
    "unit steps": (lambda dt: optax.chain(optax.normalize_by_update_norm(), optax.scale(-0.1 * dt)), [DIRECTION]),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_sliding_doubles_where_crossing_stays(name):
    family, slides = FAMILIES[name]
    # Adamax forgets its maximum too, and ends in swings that grow ever faster: it is looked at before.
    result = sliding(family, loss, START, 10.0 if name == "adamax" else 40.0, 1 / 8)
    assert result.slides == slides
    np.testing.assert_array_equal(result.dts, [1 / 8, 1 / 16, 1 / 32])
    for operation, counts in result.changes.items():
        ratios = counts[1:] / np.maximum(counts[:-1], 1)
        assert (abs(ratios - 2) < 0.1).all() if operation in slides else np.ptp(counts) <= 1


def test_yogi_slides_where_its_average_meets_the_square_of_the_gradient():
    """At v = g^2 its sign is taken of zero; on a constant gradient the average settles there."""
    result = sliding(lambda dt: optax.yogi(0.05 * dt, refined(0.9, dt), refined(0.5, dt)), jnp.sum, START, 40.0, 1 / 8)
    assert result.slides == ["sign"]
    assert result.changes[DIRECTION].max() == 0


def test_clipping_is_crossed_as_often_as_the_gradient_passes_its_bound():
    result = sliding(lambda dt: optax.chain(optax.clip(1.0), optax.sgd(0.2 * dt)), loss, START, 40.0, 1 / 8)
    assert {name: set(n.tolist()) for name, n in result.changes.items()} == {DIRECTION: {0}, "max": {1}, "min": {1}}


def test_sliding_checks_its_input():
    with pytest.raises(ValueError, match=r"time must be a multiple of dt, but time = 1 and dt = 0\.3"):
        sliding(FAMILIES["sign"][0], loss, START, 1.0, 0.3)
    with pytest.raises(ValueError, match="halvings must be at least 1"):
        sliding(FAMILIES["sign"][0], loss, START, 1.0, 0.5, halvings=0)


def begin(name, method, dt):
    """Return a state at time 16 that follows the gradient already, since a fresh one jumps in its first update."""
    g = np.asarray(jax.grad(loss)(START), np.float64)
    warm = {
        "amsgrad": {"nu": 0.5 * g**2, "nu_max": 0.6 * g**2},
        "adamax": {"nu": 1.2 * abs(g)},
    }.get(name)
    if warm is None:
        return None
    with jax.enable_x64(True):
        first, *rest = start_state(method, jnp.asarray(START))
    return (first._replace(count=np.int32(round(16 / dt)), mu=g, **warm), *rest)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("adamax", "clip by norm")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["amsgrad", "clip", *SLOW])
def test_the_flow_across_slope_jumps_is_followed_at_order_one(name):
    family, times, fine = FAMILIES[name][0], np.linspace(0, 16, 9), 1 / 1024
    at = 16 if name in ("amsgrad", "adamax") else 0
    method = family(fine)
    flow = ia.integrate(
        method, loss, START, (at + times) / fine, rtol=1e-9, atol=1e-11, state=begin(name, method, fine)
    )
    dts, gaps = np.array([1 / 4, 1 / 8, 1 / 16]), []
    for dt in dts:
        method = family(dt)
        path = ia.iterate(method, loss, START, round(16 / dt), every=round(2 / dt), state=begin(name, method, dt))
        gaps.append(abs(path.params - flow.params).max())
    slopes = np.diff(np.log(gaps)) / np.diff(np.log(dts - fine))  # the flow is that of the family at `fine`
    assert (abs(slopes - 1) < 0.05).all(), slopes
