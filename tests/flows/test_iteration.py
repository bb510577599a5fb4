from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import inercia as ia


def loss(p):
    return jnp.sum(jnp.cosh(p["w"])) + p["b"] ** 2


P0 = {"b": jnp.float32(2.0), "w": jnp.array([[0.5, -1.0]], jnp.float32)}


def gradient(params, *_):
    return jax.grad(loss)(params)


CONTRIB = optax.contrib
OPTIMIZERS = {  # name: (transformation, what its update asks for)
    "adam": (optax.adam(0.1), ()),
    "rmsprop": (optax.rmsprop(0.1), ()),
    "chain": (optax.chain(optax.clip(0.1), optax.sgd(0.1, 0.9)), ()),
    "lion": (optax.lion(0.01), ()),
    "moments in bfloat16": (optax.adam(0.1, mu_dtype="bfloat16"), ()),
    "accumulated": (optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation(), ()),
    "hyperparameters in the state": (optax.inject_hyperparams(optax.sgd)(optax.linear_schedule(0.1, 0.01, 5)), ()),
    "random keys": (optax.noisy_sgd(0.1, key=1), ()),
    "flags": (optax.apply_if_finite(optax.adam(0.1), 3), ()),
    "line search": (optax.lbfgs(), ("value", "grad", "value_fn")),
    "loss value": (optax.polyak_sgd(), ("value",)),
    "loss value, momo": (CONTRIB.momo(), ("value",)),
    "loss value, plateau": (optax.chain(optax.sgd(0.1), CONTRIB.reduce_on_plateau(patience=1)), ("value",)),
    "gradient function": (CONTRIB.sam(optax.sgd(0.1), optax.sgd(0.01), opaque_mode=True), ("grad_fn",)),
    "loss function": (CONTRIB.sophia(0.1), ("obj_fn",)),
    "counts from one": (CONTRIB.schedule_free_sgd(0.1), ()),
}


def by_hand(transformation, needs, steps):
    """Return the params after each update and the last state, by a plain loop."""
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), P0)
        state, path = transformation.init(params), [params]
        for _ in range(steps):
            value, grads = jax.value_and_grad(loss)(params)
            extra = {"value": value, "grad": grads, "value_fn": loss, "obj_fn": loss, "grad_fn": gradient}
            extra = {name: extra[name] for name in needs}
            updates, state = transformation.update(grads, state, params, **extra)
            params = optax.apply_updates(params, updates)
            path.append(params)
        return path, state


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optax_transformation(name):
    transformation, needs = OPTIMIZERS[name]
    path = ia.iterate(transformation, loss, P0, 6)
    expected, state = by_hand(transformation, needs, 6)
    # This schedule computes in float32.
    rtol = 1e-7 if name == "hyperparameters in the state" else 1e-11
    for k in range(7):
        jax.tree.map(
            lambda p, e, k=k: np.testing.assert_allclose(p[k], e, rtol=rtol, atol=1e-15), path.params, expected[k]
        )
    np.testing.assert_array_equal(path.times, np.arange(7))
    assert path.diverged is None
    for leaf, mine in zip(jax.tree.leaves(state), jax.tree.leaves(path.state), strict=True):
        key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        np.testing.assert_allclose(
            mine[-1].astype(float), np.asarray(jax.random.key_data(leaf) if key else leaf, float), rtol=max(rtol, 1e-9)
        )
        assert mine.dtype == (np.uint32 if key else leaf.dtype)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OPTIMIZERS, "momentum"])
def test_any_run_can_go_on(name):
    transformation = OPTIMIZERS[name][0] if name in OPTIMIZERS else ia.momentum(0.1)
    full, first = ia.iterate(transformation, loss, P0, 6), ia.iterate(transformation, loss, P0, 4)
    rest = ia.iterate(transformation, loss, first[-1].params, 2, state=first[-1].state)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[4:], rtol=1e-13), rest.params, full.params)
    no_counter = name in ("chain", "accumulated", "loss value", "loss value, plateau", "rmsprop", "gradient function")
    np.testing.assert_array_equal(rest.times, [0, 1, 2] if no_counter else [4, 5, 6])


def test_the_clock_is_the_counter_that_every_update_raises():
    method = optax.apply_if_finite(optax.adam(0.1), 3)
    first = ia.iterate(method, loss, P0, 8)
    rest = ia.iterate(method, loss, first[-1].params, 4, state=first[-1].state)
    np.testing.assert_array_equal(rest.times, [8, 9, 10, 11, 12])
    np.testing.assert_array_equal(ia.iterate(CONTRIB.schedule_free_sgd(0.1), loss, P0, 3).times, [0, 1, 2, 3])
    named = ia.iterate(method, loss, first[-1].params, 4, every=2, state=first[-1].state, start=100.5)
    np.testing.assert_array_equal(named.times, [100.5, 102.5, 104.5])


def test_counters_that_disagree_are_not_chosen_from():
    method = optax.chain(optax.scale_by_adam(), optax.scale_by_schedule(lambda k: -0.1))
    state = ia.iterate(method, loss, P0, 4)[-1].state
    mixed = (state[0], method.init(P0)[1])
    with pytest.raises(ValueError, match=r"must agree on the updates made, but they show \[0, 4\]: say .* start="):
        ia.iterate(method, loss, P0, 2, state=mixed)
    np.testing.assert_array_equal(ia.iterate(method, loss, P0, 2, state=mixed, start=4).times, [4, 5, 6])


def test_a_state_must_be_the_method_s_own():
    with pytest.raises(ValueError, match=r"state must have the form that method.init\(params\) has"):
        ia.iterate(optax.adam(0.1), loss, P0, 2, state=optax.sgd(0.1, 0.9).init(P0))
    with pytest.raises(ValueError, match=r"state.m\['w'\] must have the shape \(1, 2\) for these params"):
        ia.iterate(ia.momentum(0.1), loss, P0, 2, state=ia.momentum(0.1).init({"b": P0["b"], "w": jnp.ones((2, 2))}))


def test_iterates_go_on_from_a_flow():
    method = ia.adam(0.1, dt=0.5)
    flow = ia.integrate(method, loss, P0, [0.0, 1.0, 1.7])
    path = ia.iterate(method, loss, flow[1].params, 4, state=flow[1].state)
    np.testing.assert_array_equal(path.times, [1, 1.5, 2, 2.5, 3])
    np.testing.assert_array_equal(path.state.count, [2, 3, 4, 5, 6])
    with pytest.raises(ValueError, match=r"only where its time is a multiple of dt, but the time is 1\.7.* dt = 0\.5"):
        ia.iterate(method, loss, flow[2].params, 4, state=flow[2].state)


def test_an_update_that_changes_its_dtypes_is_refused():
    kinds = jnp.float32, jnp.float64
    turning = optax.GradientTransformation(
        lambda p: jnp.zeros((), jnp.float32), lambda g, s, p=None: (g, s.astype(kinds[s.dtype == jnp.float32]))
    )
    with pytest.raises(TypeError, match="must settle on the dtypes of its state"):
        ia.iterate(turning, loss, P0, 2)


@pytest.mark.slow
def test_infinite_from_the_start_is_no_divergence():
    """The best loss so far of a line search begins at infinity; bfloat16 moments that overflow are one."""
    assert ia.iterate(optax.lbfgs(), loss, P0, 3).diverged is None
    overflow = ia.iterate(optax.sgd(1.0, 0.9, accumulator_dtype="bfloat16"), lambda x: 1e38 * x, jnp.zeros(()), 9)
    assert overflow.diverged == 4  # 3.4e38 is the largest: 1, 1.9, 2.71, 3.44


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_run_can_go_on():
    method = ia.adam(0.1, dt=0.5)
    full, first = ia.iterate(method, loss, P0, 20), ia.iterate(method, loss, P0, 8)
    rest = ia.iterate(method, loss, first[-1].params, 12, state=first[-1].state)
    np.testing.assert_array_equal(rest.times, full.times[8:])
    np.testing.assert_allclose(rest.params["w"], full.params["w"][8:], rtol=1e-14)


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


def shifted(x, batch, power=2):
    return jnp.sum((x - batch) ** power)


def test_data_of_a_partial_are_neither_stale_nor_compiled_again():
    method, start, batch = ia.sgd(0.5), np.zeros(3), np.full(3, 1.0)
    np.testing.assert_array_equal(ia.iterate(method, partial(shifted, batch=batch), start, 1).params[-1], batch)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    batch += 1  # in place, as a training loop's buffer
    for loss in (partial(shifted, batch=batch), jax.tree_util.Partial(shifted, batch=batch)):
        np.testing.assert_array_equal(ia.iterate(method, loss, start, 1).params[-1], [2, 2, 2])
    assert not compiled
    quartic = ia.iterate(method, partial(shifted, batch=batch, power=4), start, 1)
    np.testing.assert_array_equal(quartic.params[-1], [16, 16, 16])  # what is no array is part of the program


def test_data_of_a_partial_are_read_in_float64():
    """A convolution refuses mixed precision: float64 params on float32 images."""

    def convolve(kernel, images):
        return jnp.mean(jax.lax.conv(images, kernel, (1, 1), "SAME") ** 2)

    images = np.ones((2, 1, 4, 4), np.float32)
    path = ia.iterate(ia.sgd(0.1), partial(convolve, images=images), np.ones((1, 1, 3, 3), np.float32), 2)
    assert path.loss.dtype == np.float64


@pytest.mark.parametrize(
    "traced",
    [
        lambda: jax.vmap(lambda x: ia.iterate(ia.sgd(0.5), jnp.square, x, 1).params)(jnp.ones(2)),
        lambda: jax.grad(lambda a: ia.iterate(optax.sgd(a), jnp.square, jnp.ones(()), 1).loss[-1])(0.1),
    ],
    ids=["vmap over the start", "grad of the learning rate"],
)
def test_iterate_is_not_traced(traced):
    with pytest.raises(TypeError, match="iterate cannot be traced by jit, vmap or grad"):
        traced()


NETWORK = ia.mlp([2, 3, 1])
LOSS = ia.risk(NETWORK)
PARAMS = NETWORK.init(jax.random.key(0))


def test_schedules_of_refined_methods_are_read_in_float64():
    """An int32 count over a number is a float32, also where x64 is on; at dt = 1 schedules read what optax gives."""
    dt = 0.5
    a = 0.3 * 0.5 ** (np.arange(8) * dt / 7)
    path = ia.iterate(ia.sgd(optax.exponential_decay(0.3, 7, 0.5), dt=dt), lambda x: x**2 / 2, jnp.ones(()), 8)
    np.testing.assert_allclose(path.params[1:], np.cumprod(1 - a * dt), rtol=1e-14)
