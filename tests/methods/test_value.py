"""A method is a value: equal calls are equal, it survives whatever takes a tree apart, and it is compiled once."""

import copy
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.base import clone

import inercia as ia
from inercia.core.linear_form import linear_form
from inercia.core.transition import clock
from inercia.core.values import key_of
from inercia.estimator import MLPClassifier

each = pytest.mark.parametrize("name", ia.METHODS)


def made(name, **more):
    return ia.METHODS[name](ia.METHODS[name].training_rate, **more)


def same(a, b):
    assert type(a) is type(b) is ia.Method
    assert a == b
    assert hash(a) == hash(b)
    assert a.hyper == b.hyper
    assert a.dt == b.dt
    x, g = jnp.array([1.0, -2.0]), jnp.array([0.5, 3.0])
    assert all(map(np.array_equal, *(jax.tree.leaves(m.update(g, m.init(x), x)) for m in (a, b))))


@each
def test_equal_calls_are_equal(name):
    same(made(name), made(name))
    same(made(name), made(name, dt=1.0))
    assert made(name) != made(name, dt=0.5)
    assert made(name) != ia.METHODS[name](0.123)
    assert made(name) not in [made(other) for other in ia.METHODS if other != name]


@each
def test_survives_whatever_takes_it_apart(name):
    method = made(name)
    for rebuilt in (
        copy.copy(method),
        copy.deepcopy(method),
        pickle.loads(pickle.dumps(method)),
        jax.tree.map(lambda leaf: leaf, method),
        jax.tree.unflatten(jax.tree.structure(method), jax.tree.leaves(method)),
        eqx.filter_jit(lambda m: m)(method),
        eqx.combine(*eqx.partition(method, eqx.is_array)),
        clone(MLPClassifier(method=method)).method,
    ):
        same(rebuilt, method)
        assert rebuilt.flow == method.flow


@each
def test_knows_its_call(name):
    method = made(name, dt=0.5)
    assert method.name == name
    assert method.factory is ia.METHODS[name]
    assert method.hyper["dt"] == 0.5
    assert repr(method) == f"{name}(learning_rate={ia.METHODS[name].training_rate!r}, dt=0.5)"
    assert eval(repr(method), vars(ia)) == method


def test_hyper_holds_every_argument():
    masked = ia.adamw(0.1, mask={"a": True}, weight_decay=3.0)
    assert masked.hyper["mask"] == {"a": True}
    assert masked != ia.adamw(0.1, mask={"a": False}, weight_decay=3.0)
    assert ia.adagrad(0.1, 0.5).hyper["initial_accumulator_value"] == 0.5
    assert ia.lion(0.1) != ia.lion(0.1, weight_decay=9.0)


def test_equal_schedules_make_equal_methods():
    for make in (
        lambda: optax.cosine_decay_schedule(0.1, 100),
        lambda: optax.join_schedules([optax.constant_schedule(0.1), optax.linear_schedule(0.1, 0.2, 10)], [5]),
        lambda: optax.piecewise_constant_schedule(0.1, {3: 0.5}),
    ):
        assert ia.adam(make()) == ia.adam(make())
    assert ia.adam(optax.cosine_decay_schedule(0.1, 100)) != ia.adam(optax.cosine_decay_schedule(0.1, 101))
    assert key_of(lambda k: 0.1) != key_of(lambda k: 0.2)
    assert key_of(np.ones(2)) is None


def test_traced_hyperparameters_are_compared_by_identity():
    seen = []

    @jax.jit
    def step(rate):
        method, other = ia.adam(rate), ia.adam(rate)
        seen.append((method == method, method == other, hash(method) == hash(method)))  # noqa: PLR0124
        return method.update(jnp.ones(2), method.init(jnp.ones(2)))[0]

    np.testing.assert_allclose(step(0.5), -0.5, rtol=1e-5)
    assert seen == [(True, False, True)]
    array = jnp.array([0.1, 0.2])
    assert ia.sgd(array) != ia.sgd(jnp.array([0.1, 0.2]))
    assert ia.sgd(jnp.float32(0.5)) == ia.sgd(np.float16(0.5)) == ia.sgd(0.5)  # single numbers are numbers


def test_a_method_by_hand():
    method = ia.sgd(0.1)
    own = ia.Method(method.init, method.update, method.flow)
    assert own == ia.Method(method.init, method.update, method.flow)
    assert own.dt == 1.0
    assert (own.name, own.hyper, own.factory) == ("", {}, None)
    assert jax.tree.map(lambda leaf: leaf, own).flow.function is method.flow.function
    assert not hasattr(ia.Method(optax.sgd(0.1).init, optax.sgd(0.1).update), "flow")


def test_a_factory_that_makes_no_method():
    @ia.factory
    def bare(rate):
        return optax.sgd(rate)

    with pytest.raises(TypeError, match=r"bare must return inercia\.Method\(init, update, flow\), but it returned"):
        bare(0.1)


def test_equal_methods_share_their_programs():
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )

    def everything():
        method = ia.momentum(0.05, 0.9)
        ia.iterate(method, ripple, X0, 4)
        ia.integrate(method, ripple, X0, [0.0, 4.0])
        ia.order(family, ripple, X0, 2.0, [1.0, 0.5, 0.25])
        ia.central(ia.sgd(0.05), ripple, X0, 2, k=1)
        ia.train(ia.adam(1e-2), fit, X0, DATA, epochs=1, batch_size=2, key=0)

    everything()
    assert compiled
    compiled.clear()
    everything()
    assert not compiled


X0 = jnp.array([0.3, -0.4])
DATA = (np.ones((4, 2), np.float32), np.ones(4, np.float32))


def ripple(x):
    return jnp.sum(x**2) + 0.1 * jnp.sum(jnp.cos(x))


def fit(params, batch):
    x, y = batch
    return jnp.mean((x @ params - y) ** 2)


def family(dt):
    return ia.momentum(0.05, 0.9, dt=dt)


@pytest.mark.slow
def test_heavy_ball_is_momentum_in_the_modified_flows():
    # The sum form with rate a is the averaged one with a / (1-b): one path.
    a, b = 0.2, 0.75
    for regime in ("refined", "staggered", "memoryless"):
        paths = []
        for method in (ia.sgd(a * (1 - b), b), ia.momentum(a, b)):
            flow, start = ia.modified(method, ripple, regime)
            params, state = start(X0, method.init(X0))
            assert regime != "staggered" or jax.tree.leaves(state)[-1].dtype == np.float64
            paths.append(ia.integrate(flow, ripple, params, [0.0, 3.0, 9.0], state=state).params)
        np.testing.assert_allclose(*paths, rtol=1e-8)


def test_linear_form_is_the_update():
    with jax.enable_x64(True):
        x, g = jnp.array([0.3, -0.7]), jnp.array([2.0, -0.5])
        for method in (ia.sgd(0.1, dt=0.5), ia.sgd(0.1, 0.9, dt=0.5), ia.sgd(0.1, 0.9, True), ia.momentum(0.1, dt=0.5)):
            form, theta, memory = linear_form(method), np.array(x), np.zeros(2)
            state, params = method.init(x), x
            for _ in range(4):
                updates, state = method.update(g, state, params)
                params = params + updates
                keep = 1 - form.beta if form.kind == "semi-implicit" else 1.0
                memory = form.beta * memory + keep * np.array(g)
                theta = theta - form.learning_rate * (form.beta * memory + g if form.kind == "nesterov" else memory)
                np.testing.assert_allclose(params, theta, rtol=1e-14)


def test_the_clock_is_exact_in_dynamics():
    with jax.enable_x64(True):
        for count in (2**24 + 1, 2**30 + 12345):
            assert float(clock(jnp.int32(count), 0.3)) == count * 0.3
