import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import inercia as ia


def loss(p):
    return jnp.sum(jnp.cosh(p["w"])) + p["b"] ** 2


P0 = {"b": jnp.float32(2.0), "w": jnp.array([[0.5, -1.0]], jnp.float32)}


@pytest.mark.parametrize(
    "transformation",
    [optax.adam(0.1), optax.rmsprop(0.1), optax.chain(optax.clip(0.1), optax.sgd(0.1, 0.9)), optax.lion(0.01)],
    ids=["adam", "rmsprop", "chain", "lion"],
)
def test_any_optax_transformation(transformation):
    path = ia.iterate(transformation, loss, P0, 6)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), P0)
        state = transformation.init(params)
        for k in range(6):
            np.testing.assert_allclose(path.params["w"][k], params["w"], rtol=1e-13)
            updates, state = transformation.update(jax.grad(loss)(params), state, params)
            params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(path.params["b"][6], params["b"], rtol=1e-13)
    np.testing.assert_array_equal(path.times, np.arange(7))


def test_a_line_search_gets_what_it_asks_for():
    path = ia.iterate(optax.lbfgs(), loss, P0, 20)
    assert path.loss[-1] == pytest.approx(2.0, abs=1e-9)


def test_thinned_path_is_the_same_path():
    method = ia.momentum(0.1)
    fine, coarse = ia.iterate(method, loss, P0, 30), ia.iterate(method, loss, P0, 30, every=10)
    np.testing.assert_array_equal(coarse.times, [0, 10, 20, 30])
    np.testing.assert_allclose(coarse.params["w"], fine.params["w"][::10], rtol=1e-14)
    np.testing.assert_allclose(coarse.loss, fine.loss[::10], rtol=1e-14)
    np.testing.assert_array_equal(coarse.state.count, [0, 10, 20, 30])


def test_a_run_can_go_on():
    method = ia.adam(0.1, dt=0.5)
    whole, first = ia.iterate(method, loss, P0, 20), ia.iterate(method, loss, P0, 8)
    rest = ia.iterate(method, loss, first[-1].params, 12, state=first[-1].state)
    np.testing.assert_array_equal(rest.times, whole.times[8:])
    np.testing.assert_allclose(rest.params["w"], whole.params["w"][8:], rtol=1e-14)


def test_float64_whatever_the_flag():
    path = ia.iterate(ia.sgd(0.1), loss, P0, 3)
    assert path.params["w"].dtype == path.loss.dtype == np.float64
    assert not jax.config.jax_enable_x64
    assert jnp.ones(1).dtype == jnp.float32


def test_complex_params_descend():
    path = ia.iterate(ia.sgd(0.25), lambda z: jnp.sum(jnp.abs(z - (1 + 2j)) ** 2), jnp.zeros(1, jnp.complex64), 60)
    np.testing.assert_allclose(path.params[-1], [1 + 2j], atol=1e-12)


def test_divergence_is_reported_with_its_time():
    path = ia.iterate(ia.sgd(10.0), lambda x: x**4, jnp.array(1.0), 20)
    assert path.diverged is not None
    first = int(path.diverged)
    assert np.isfinite(path.loss[:first]).all()
    assert not np.isfinite(path.loss[first])


def test_second_call_does_not_compile():
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    method, start = ia.momentum(0.1), np.array([1.0, 2.0])

    def quartic(x):
        return (x**4).sum()

    def everything():
        path = ia.iterate(method, quartic, start, 10)
        ia.integrate(method, quartic, start, path.times)
        data = (np.ones((8, 2), np.float32), np.ones((8, 1), np.float32))
        ia.train(method, LOSS, PARAMS, data, epochs=2, batch_size=4, key=0)

    everything()
    assert compiled  # the listener hears
    compiled.clear()
    everything()
    assert not compiled


NETWORK = ia.mlp([2, 3, 1])
LOSS = ia.risk(NETWORK)
PARAMS = NETWORK.init(jax.random.key(0))
