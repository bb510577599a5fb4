"""At dt = 1 every method is optax's, over 1,000 steps; and it behaves wherever an optax optimizer does."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import inercia as ia

STEPS = 1000
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


def run(transformation, params, key):
    """Iterate on a noisy quadratic; return the params along the way."""

    def step(carry, k):
        params, state = carry
        leaves, treedef = jax.tree.flatten(params)
        keys = jax.random.split(jax.random.fold_in(key, k), len(leaves))
        grads = [
            p * (1 + jnp.arange(p.size, dtype=p.dtype).reshape(p.shape) / p.size)
            + jax.random.normal(q, p.shape, p.dtype)
            for p, q in zip(leaves, keys, strict=True)
        ]
        updates, state = transformation.update(jax.tree.unflatten(treedef, grads), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    carry = (params, transformation.init(params))
    return jax.jit(lambda c: jax.lax.scan(step, c, jnp.arange(STEPS))[1])(carry)


def apart(a, b):
    """Return the largest distance over the largest norm along the way (one parameter may pass through zero)."""
    a, b = (np.concatenate([np.asarray(x).reshape(STEPS, -1) for x in jax.tree.leaves(t)], axis=1) for t in (a, b))
    return np.linalg.norm(a - b, axis=1).max() / np.linalg.norm(b, axis=1).max()


rates = st.floats(1e-4, 0.05)
decays = st.floats(0.0, 0.99)


@st.composite
def schedules(draw):
    a = draw(rates)
    return draw(
        st.sampled_from(
            [
                a,
                optax.cosine_decay_schedule(a, 700),
                optax.exponential_decay(a, 200, 0.5, staircase=True),
                optax.warmup_cosine_decay_schedule(a / 10, a, 50, 900),
                optax.piecewise_constant_schedule(a, {300: 0.3}),
            ]
        )
    )


@st.composite
def trees(draw, dtype):
    shapes = draw(st.lists(st.lists(st.integers(1, 4), max_size=3).map(tuple), min_size=1, max_size=3))
    keys = jax.random.split(jax.random.key(draw(st.integers(0, 99))), len(shapes))
    leaves = [jax.random.normal(k, s, dtype) for k, s in zip(keys, shapes, strict=True)]
    return draw(st.sampled_from([leaves, {"a": leaves, "none": None}, (leaves[0], {"b": leaves[1:]})]))


@st.composite
def pairs(draw):
    """Our method and optax's, with the same hyperparameters."""
    rate = draw(schedules())
    name = draw(st.sampled_from(["sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad", "lion", "sign_sgd"]))
    if name == "sgd":
        momentum, nesterov = draw(st.none() | decays), draw(st.booleans())
        return ia.sgd(rate, momentum, nesterov), optax.sgd(rate, momentum, nesterov)
    if name == "momentum":
        b = draw(decays)
        return ia.momentum(rate, b), optax.chain(optax.ema(b, debias=False), optax.scale_by_learning_rate(rate))
    if name == "sign_sgd":
        return ia.sign_sgd(rate), optax.sign_sgd(rate)
    if name == "lion":
        options = {"b1": draw(decays), "b2": draw(decays), "weight_decay": draw(st.floats(0, 0.1))}
        return ia.lion(rate, **options), optax.lion(rate, **options)
    if name == "adagrad":
        options = {"initial_accumulator_value": draw(st.sampled_from([0.0, 0.1, 1.0]))}
        return ia.adagrad(rate, **options), optax.adagrad(rate, **options)
    if name == "rmsprop":
        options = {
            "decay": draw(st.floats(0.5, 0.99)),
            "initial_scale": draw(st.sampled_from([0.0, 1.0])),
            "eps_in_sqrt": draw(st.booleans()),
            "eps": 1e-6,
            "momentum": draw(st.none() | decays),
            "nesterov": draw(st.booleans()),
            "bias_correction": draw(st.booleans()),
        }
        return ia.rmsprop(rate, **options), optax.rmsprop(rate, **options)
    options = {
        "b1": draw(decays),
        "b2": draw(st.floats(0.5, 0.9999)),
        "eps": draw(st.sampled_from([1e-8, 1e-3])),
        "eps_root": draw(st.sampled_from([0.0, 1e-6])),
        "nesterov": draw(st.booleans()),
    }
    if name == "adamw":
        options |= {"weight_decay": draw(st.floats(0, 0.1)), "mask": draw(st.sampled_from([None, True, False]))}
        return ia.adamw(rate, **options), optax.adamw(rate, **options)
    return ia.adam(rate, **options), optax.adam(rate, **options)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(max_examples=6)
@given(data=st.data())
def test_equal_to_optax(dtype, data):
    with jax.enable_x64(dtype == "float64"):
        params = data.draw(trees(dtype))
        ours, theirs = data.draw(pairs())
        key = jax.random.key(0)
        a, b = run(ours, params, key), run(theirs, params, key)
        assert jax.tree.structure(a) == jax.tree.structure(b)
        assert apart(a, b) <= TOLERANCE[dtype]


METHODS = {
    "sgd": (ia.sgd(0.1), optax.sgd(0.1)),
    "sgd with momentum": (ia.sgd(0.1, 0.9), optax.sgd(0.1, 0.9)),
    "nesterov": (ia.sgd(0.1, 0.9, True), optax.sgd(0.1, 0.9, True)),
    "momentum": (ia.momentum(0.1), optax.chain(optax.ema(0.9, debias=False), optax.scale(-0.1))),
    "adam": (ia.adam(0.01), optax.adam(0.01)),
    "rmsprop": (ia.rmsprop(0.01), optax.rmsprop(0.01)),
    "rmsprop with momentum": (ia.rmsprop(0.01, momentum=0.9), optax.rmsprop(0.01, momentum=0.9)),
    "adagrad": (ia.adagrad(0.1), optax.adagrad(0.1)),
    "adamw": (ia.adamw(0.01, weight_decay=0.1), optax.adamw(0.01, weight_decay=0.1)),
    "nadam": (ia.nadam(0.01), optax.nadam(0.01)),
    "adam, nesterov": (ia.adam(0.01, nesterov=True), optax.adam(0.01, nesterov=True)),
}
both = pytest.mark.parametrize(("ours", "theirs"), METHODS.values(), ids=METHODS)


@both
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_params_keep_their_dtype(ours, theirs, dtype):
    params = {"w": jnp.linspace(-1, 1, 7, dtype=dtype)}
    grads = {"w": jnp.linspace(2, -3, 7, dtype=dtype)}
    state, reference = ours.init(params), theirs.init(params)
    before = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
    for _ in range(3):
        updates, state = ours.update(grads, state, params)
        expected, reference = theirs.update(grads, reference, params)
        assert updates["w"].dtype == dtype
        np.testing.assert_allclose(
            np.float32(updates["w"]), np.float32(expected["w"]), rtol=4 * float(jnp.finfo(dtype).eps)
        )
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == before


@both
def test_complex_params(ours, theirs):
    with jax.enable_x64(True):
        params = jnp.array([1 + 2j, -0.5j])
        grads = jnp.array([0.3 - 1j, 2 + 0.1j])
        state, reference = ours.init(params), theirs.init(params)
        for _ in range(5):
            updates, state = ours.update(grads, state, params)
            expected, reference = theirs.update(grads, reference, params)
            np.testing.assert_allclose(updates, expected, rtol=1e-13)


@both
def test_in_a_chain(ours, theirs):
    params = {"w": jnp.ones(3)}
    chains = [optax.chain(optax.clip_by_global_norm(0.5), m, optax.add_decayed_weights(-1e-2)) for m in (ours, theirs)]
    a, b = (run(chain, params, jax.random.key(1)) for chain in chains)
    assert apart(a, b) <= 1e-6


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (ia.sgd, optax.sgd, {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
        (ia.adam, optax.adam, {"learning_rate": optax.cosine_decay_schedule(0.1, 9), "b1": 0.8, "b2": 0.99}),
    ],
)
def test_injected_hyperparameters(ours, theirs, options, dtype):
    params = jnp.ones(4, dtype)
    grads = jnp.arange(4, dtype=dtype)
    a, b = optax.inject_hyperparams(ours)(**options), optax.inject_hyperparams(theirs)(**options)
    state, reference = a.init(params), b.init(params)
    assert {"learning_rate"} < set(state.hyperparams)
    for _ in range(4):
        updates, state = jax.jit(a.update)(grads, state, params)
        expected, reference = jax.jit(b.update)(grads, reference, params)
        assert updates.dtype == dtype
        np.testing.assert_allclose(np.float32(updates), np.float32(expected), rtol=1e-5 if dtype == "float32" else 0.02)


def test_momentum_with_injected_rate():
    method = optax.inject_hyperparams(ia.momentum)(learning_rate=0.5, beta=0.75)
    state = method.init(jnp.ones(1))
    updates, _ = jax.jit(method.update)(jnp.array([8.0]), state)
    np.testing.assert_allclose(updates, [-1.0], rtol=1e-6)


@pytest.mark.slow
@both
def test_in_flax_nnx(ours, theirs):
    def fit(transformation):
        model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)

        @nnx.jit
        def step(model, optimizer):
            grads = nnx.grad(lambda m: jnp.mean((m(jnp.ones((4, 2))) - 3.0) ** 2))(model)
            optimizer.update(model, grads)

        for _ in range(20):
            step(model, optimizer)
        return np.asarray(model.kernel[...])

    np.testing.assert_allclose(fit(ours), fit(theirs), rtol=1e-5)


@pytest.mark.slow
@both
def test_in_an_equinox_loop(ours, theirs):
    def fit(transformation):
        model = eqx.nn.MLP(2, "scalar", 8, 1, key=jax.random.key(0))
        state = transformation.init(eqx.filter(model, eqx.is_inexact_array))

        @eqx.filter_jit
        def step(model, state):
            x = jnp.eye(2)
            grads = eqx.filter_grad(lambda m: jnp.mean((jax.vmap(m)(x) - 3.0) ** 2))(model)
            updates, state = transformation.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
            return eqx.apply_updates(model, updates), state

        for _ in range(20):
            model, state = step(model, state)
        return np.asarray(jax.vmap(model)(jnp.eye(2)))

    np.testing.assert_allclose(fit(ours), fit(theirs), rtol=1e-5)


@pytest.mark.parametrize(
    "name", sorted(set(ia.METHODS) - {"conformal", "momentum", "nesterov", "relativistic", "scalar_rmsprop"})
)
def test_same_signature_as_optax(name):
    import inspect

    ours = inspect.signature(getattr(ia, name)).parameters
    theirs = inspect.signature(getattr(optax if hasattr(optax, name) else optax.contrib, name)).parameters
    # optax.nadam is a partial, in which everything after its first argument shows as keyword-only.
    assert [(p.name, p.default) for p in theirs.values()] == [
        (p.name, p.default) for p in ours.values() if p.name not in ("dt", "smooth")
    ]
    assert ours["dt"].default == 1.0


@both
def test_contract(ours, theirs):
    init, update = ours
    assert isinstance(ours, optax.GradientTransformationExtraArgs)
    params = {"w": jnp.ones(2), "none": None}
    state = init(params)
    updates, after = update({"w": jnp.ones(2), "none": None}, state, params, value=1.0, anything=3)
    assert updates["none"] is None
    assert jax.tree.structure(state) == jax.tree.structure(after)
    assert state.count.dtype == after.count.dtype == jnp.int32
    assert int(after.count) == 1
    d_params, d_state = ours.flow({"w": jnp.ones(2), "none": None}, state._replace(count=jnp.float32(0)), params)
    assert jax.tree.structure(d_state) == jax.tree.structure(state)
    assert jax.tree.structure(d_params) == jax.tree.structure(params)
    assert float(d_state.count) == 1.0
    assert ours.dt == 1.0


@pytest.mark.slow
def test_a_centered_rmsprop_is_optax():
    with jax.enable_x64(True):
        options = {"centered": True, "eps": 1e-3}
        for more in ({}, {"bias_correction": True}, {"momentum": 0.5, "nesterov": True}):
            ours, theirs = ia.rmsprop(0.01, **options, **more), optax.rmsprop(0.01, **options, **more)
            key = jax.random.key(0)
            assert apart(*(run(m, [jnp.ones(3)], key) for m in (ours, theirs))) <= 1e-12


@pytest.mark.slow
def test_weight_decay_mask_and_schedule():
    params = {"a": jnp.ones(2), "b": {"c": jnp.ones(3)}}
    options = {"weight_decay": 0.1, "mask": lambda p: {"a": True, "b": False}}
    for ours, theirs in ((ia.adamw, optax.adamw), (ia.lion, optax.lion)):
        pair = (ours(0.01, **options), theirs(0.01, **options))
        assert apart(*(run(m, params, jax.random.key(0)) for m in pair)) <= 1e-6
    scheduled = ia.adamw(0.01, weight_decay=lambda k: 0.1 / (1 + k))
    updates, _ = scheduled.update(params, scheduled.init(params), params)
    np.testing.assert_allclose(updates["a"], -0.01 - 0.01 * 0.1, rtol=1e-5)


def test_decay_needs_params():
    with pytest.raises(ValueError, match=r"weight decay needs the params: call update\(grads, state, params\)"):
        ia.adamw(0.1).update(jnp.ones(1), ia.adamw(0.1).init(jnp.ones(1)))
