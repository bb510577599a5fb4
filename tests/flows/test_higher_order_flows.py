"""Flows of second order and more: slopes within 0.1 of the stated order over at least four halvings, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import inercia as ia
from inercia.problems.toy_losses import wells

START = np.array([0.8, 1.2])


def halvings(first, n=4):
    return [first * 2.0**-k for k in range(n + 1)]


# -- Interpolated: the time-1 flow of F_N misses the iterates by dt^N.

OPTAX = {
    "adam": lambda dt: optax.adam(0.05 * dt, b1=1 - 0.1 * dt, b2=1 - 0.05 * dt),
    "nadam": lambda dt: optax.nadam(0.2 * dt, b1=1 - 0.1 * dt, b2=1 - 0.05 * dt),
    "rmsprop": lambda dt: optax.rmsprop(0.05 * dt, decay=1 - 0.1 * dt),
    "nesterov": lambda dt: optax.sgd(0.05 * dt**2, momentum=1 - 0.2 * dt, nesterov=True),
    "gd": lambda dt: optax.sgd(0.2 * dt),
    "momentum": lambda dt: ia.momentum(0.3, 0.8, dt=dt),
}


def warm(transformation, dt):
    """Return the state after warm-up, moments equal for every dt and the clock at time 10."""
    g = jax.grad(wells)(jnp.asarray(START))
    named = {"mu": g, "nu": g**2, "trace": g / dt, "m": g, "count": jnp.int32(round(10 / dt))}
    state = transformation.init(jnp.asarray(START))

    def fill(path, leaf):
        names = [n for n in named if f".{n}" in jax.tree_util.keystr(path)]
        return named[names[0]].astype(leaf.dtype) if names else leaf

    return jax.tree_util.tree_map_with_path(fill, state)


LONG = ("nadam", "rmsprop")
INTERPOLATED = [pytest.param(name, n, marks=pytest.mark.long if name in LONG else ()) for name in OPTAX for n in (2, 4)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n"), [*INTERPOLATED, ("adam", 3)])
def test_interpolated_orders(name, n):
    family = OPTAX[name]
    first = 1 / 8 if n < 4 else {"nesterov": 1 / 4, "nadam": 1 / 8}.get(name, 1 / 2)
    with jax.enable_x64(True):
        states = {dt: warm(family(dt), dt) for dt in halvings(first)}

    def flows(dt):
        return ia.interpolated(family(dt), wells, n), START, states[dt]

    result = ia.order(family, wells, START, 4.0, list(states), flows=flows, state=states.get, rtol=1e-13, atol=1e-15)
    assert abs(result.slope - n) <= 0.1, result


@pytest.mark.slow
def test_more_iterates_serve_a_fixed_beta():
    """1-b = 0.1 is not small, and still the flow comes as near to the iterates as one likes."""
    method = ia.momentum(0.1, 0.9)
    path = ia.iterate(method, wells, START, 30)

    def miss(n):
        flow = ia.integrate(ia.interpolated(method, wells, n), wells, START, path.times, state=method.init(START))
        return ia.gap(path, flow).distance.max()

    assert miss(2) > 1e-3
    assert miss(6) < 1e-5
    assert miss(10) < 1e-7


def test_any_optax_transformation_has_a_flow():
    method = optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.02, eps_root=1e-3))
    path = ia.iterate(method, wells, START, 20)
    state = jax.tree.map(lambda leaf: leaf[10], path.state)
    with jax.enable_x64(True):
        flow = ia.integrate(method, wells, path.params[10], np.arange(10.0, 21.0), state=state)
    np.testing.assert_allclose(flow.params, path.params[10:], atol=3e-5)


@pytest.mark.parametrize(
    ("transformation", "why"),
    [
        (optax.lion(0.1), "sign"),
        (optax.rprop(0.1), "a branch on the gradient's size, sign"),
        (ia.sign_sgd(0.1), "sign"),
    ],
)
def test_jumps_are_refused_with_the_reason(transformation, why):
    for flow in (ia.interpolated(transformation, wells), ia.limit(transformation, wells).flow):
        with pytest.raises(ValueError, match=rf"must be continuous in the gradient .* but it jumps \({why}\)"):
            ia.integrate(flow, wells, START, [0.0, 1.0], state=transformation.init(START))


def test_multipliers_outside_the_disc_are_refused():
    """GD on curvature l has the multiplier 1 - a l: the series converges for a l < 1."""
    for a, inside in ((0.09, True), (0.11, False)):
        method = ia.sgd(a)
        flow = ia.interpolated(method, ia.quadratic([[10.0]]), 4)
        with jax.enable_x64(True):
            state = method.init(jnp.ones(1))._replace(count=jnp.float64(0))
            assert flow.radius(jnp.ones(1), state) == pytest.approx(10 * a, rel=1e-6)
        if not inside:
            with pytest.raises(ValueError, match=r"the largest \|mu - 1\| here is about 1.10: take a smaller"):
                ia.integrate(flow, ia.quadratic([[10.0]]), np.ones(1), [0.0, 1.0], state=method.init(np.ones(1)))


# -- The memoryless limit: the learning rate shrinks, the betas stay.

LIMITS = {
    "ema": (lambda a: ia.momentum(a, 0.8), 160, 0.08),
    "sum": (lambda a: optax.sgd(a, 0.8), 160, 0.02),
    "nesterov": (lambda a: optax.sgd(a, 0.8, nesterov=True), 160, 0.02),
    "adam": (lambda a: optax.adam(a, 0.8, 0.9, eps_root=1e-2), 300, 0.02),
    "nadam": (lambda a: optax.nadam(a, 0.8, 0.9, eps_root=1e-2), 300, 0.02),
    "rmsprop": (lambda a: optax.rmsprop(a, 0.9, eps=1e-2), 300, 0.01),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.long) if n in LONG else n for n in LIMITS])
def test_limit_flow_is_of_second_order(name):
    make, memory, a = LIMITS[name]

    def family(dt):
        return make(a * dt)

    def flows(dt):
        flow, start = ia.limit(family(dt), wells, memory=memory)
        return flow, *start(START, None)

    result = ia.order(family, wells, START, 8.0, halvings(1 / 8), flows=flows, after=0.75)
    assert abs(result.slope - 2) <= 0.1, result


@pytest.mark.slow
def test_limit_of_first_order():
    def flows(dt):
        return ia.limit(ia.momentum(0.1 * dt, 0.8), wells, order=1, memory=160).flow, START, ()

    result = ia.order(lambda dt: ia.momentum(0.1 * dt, 0.8), wells, START, 8.0, halvings(1 / 8), flows=flows)
    assert abs(result.slope - 1) <= 0.1, result


# -- Modified flows, by formula.


def check_order(family, regime, expected, order=2, first=1 / 8, start=None):
    def flows(dt):
        flow, begin = ia.modified(family(dt), wells, regime, order)
        return flow, *(begin if start is None else start)(START, family(dt).init(START))

    after = 0.75 if regime == "memoryless" else 0.0
    result = ia.order(family, wells, START, 8.0, halvings(first), flows=flows, after=after)
    assert abs(result.slope - expected) <= 0.1, result


@pytest.mark.slow
@pytest.mark.parametrize("order", [2, 3])
def test_gradient_descent_refined(order):
    check_order(lambda dt: ia.sgd(0.3, dt=dt), "refined", order, order)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ia.SCHEMES)
def test_momentum_near_identity(scheme):
    check_order(lambda dt: ia.momentum(0.5, 0.7, scheme=scheme, dt=dt), "refined", 2)


@pytest.mark.slow
def test_momentum_staggered():
    check_order(lambda dt: ia.momentum(0.5, 0.7, dt=dt), "staggered", 2)


FIXED_BETA = {
    "gd": lambda dt: ia.sgd(0.2 * dt),
    "semi-implicit": lambda dt: ia.momentum(0.05 * dt, 0.8),
    "explicit": lambda dt: ia.momentum(0.05 * dt, 0.8, scheme="explicit"),
    "sum": lambda dt: ia.sgd(0.01 * dt, 0.8),
    "nesterov": lambda dt: ia.sgd(0.01 * dt, 0.8, nesterov=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIXED_BETA)
def test_fixed_beta(name):
    check_order(FIXED_BETA[name], "memoryless", 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["semi-implicit", "explicit", "nesterov"])
def test_fixed_beta_without_the_shift_is_of_first_order(name):
    """The seeded bug: the flow from theta_0 itself. It also shows what a cold start costs."""
    with pytest.raises(AssertionError):
        check_order(FIXED_BETA[name], "memoryless", 2, start=lambda params, state: (params, ()))


@pytest.mark.parametrize("name", FIXED_BETA)
def test_modified_loss_gives_the_same_flow(name):
    method = FIXED_BETA[name](1.0)
    flow, start = ia.modified(method, wells, "memoryless")
    params, _ = start(START, None)
    a = method.hyper["learning_rate"]
    rate = a / (1 - method.hyper["momentum"]) if method.hyper.get("momentum") else a
    by_formula = ia.integrate(flow, wells, params, [0.0, 20.0], state=())
    by_loss = ia.integrate(ia.sgd(rate), ia.modified_loss(method, wells), params, [0.0, 20.0])
    np.testing.assert_allclose(by_formula.params, by_loss.params, atol=1e-9)


@pytest.mark.slow
def test_adam_at_fixed_betas():
    def family(dt):
        return ia.adam(0.02 * dt, 0.8, 0.9, eps=0.0, eps_root=1e-2)

    g = jax.grad(wells)(START)

    def state(dt):  # warm, and so old that the corrections are 1
        return ia.AdamState(jnp.int32(100_000), g, g**2)

    def flows(dt):
        return ia.modified(family(dt), wells, "memoryless").flow, START, ()

    with jax.enable_x64(True):
        g = jax.grad(wells)(jnp.asarray(START))
    result = ia.order(family, wells, START, 8.0, halvings(1 / 8), flows=flows, state=state)
    assert abs(result.slope - 2) <= 0.1, result


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ia.modified(ia.sgd(0.1), wells, "refind"), "did you mean 'refined'"),
        (lambda: ia.modified(ia.adam(0.1), wells), "no modified flow is given for adam in the regime 'refined'"),
        (lambda: ia.modified(ia.adam(0.1), wells, "memoryless"), r"eps inside the root: use adam\(..., eps=0.0"),
        (lambda: ia.modified(ia.momentum(0.1), wells, order=3), "order must be 2"),
        (lambda: ia.modified(ia.sgd(lambda k: 0.1), wells), "need constant hyperparameters"),
        (lambda: ia.modified(ia.lion(0.1), wells), "but it is lion"),
        (lambda: ia.modified_loss(ia.adam(0.1), wells), "adam has no modified loss"),
        (lambda: ia.limit(ia.sgd(0.1), wells, order=3), "order must be 1 or 2"),
        (lambda: ia.limit(ia.sgd(0.1), wells, memory=1), "memory must be at least 2"),
        (lambda: ia.interpolated(ia.sgd(0.1), wells, 0), "order must be at least 1"),
        (lambda: ia.interpolated(ia.sgd(0.1), wells, 40), "order must be at most 16, .* lose more to rounding"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
