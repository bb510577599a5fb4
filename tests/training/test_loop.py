import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from runs import close, identical

import inercia as ia
from inercia.training import programs, supply

TRAIN, TEST = ia.digits()
NETWORK = ia.mlp([64, 32, 10])
LOSS = ia.risk(NETWORK, "cross-entropy")
PARAMS = NETWORK.init(jax.random.key(0))
SCORE = ia.accuracy(NETWORK)


def train(method, **changes):
    return ia.train(method, LOSS, PARAMS, TRAIN, **({"epochs": 2, "batch_size": 128, "key": 1} | changes))


@pytest.mark.parametrize("sampler", ["shuffle", pytest.param("partition", marks=pytest.mark.slow), "full"])
def test_equal_to_a_plain_loop(sampler):
    size = None if sampler == "full" else 100
    method = ia.adam(1e-3)
    result = train(method, sampler=sampler, batch_size=size, epochs=3)
    rule = ia.sampler(sampler, len(TRAIN.x), size)
    params, state = PARAMS, method.init(PARAMS)
    steps = 3 * rule.epoch
    rows = None if rule.rows is None else np.asarray(rule.rows(jax.random.key(1), 0, steps))
    losses = []
    for k in range(steps):
        batch = TRAIN if rows is None else (TRAIN.x[rows[k]], TRAIN.y[rows[k]])
        value, grads = jax.value_and_grad(LOSS)(params, batch)
        updates, state = method.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        losses.append(float(value))
    close(result.params, params, 2e-3, 2e-6)
    assert int(result.state.count) == steps
    np.testing.assert_allclose(result.history.loss, np.reshape(losses, (3, -1)).mean(axis=1), rtol=1e-4)
    np.testing.assert_array_equal(result.history.step, rule.epoch * np.arange(1, 4))
    assert result.diverged is None


def test_all_rows_are_a_batch_in_one_program(monkeypatch):
    made, once = [], programs.at_once
    monkeypatch.setattr(programs, "at_once", lambda *given: made.append(given[2]) or once(*given))
    x = jnp.arange(2000.0)
    epochs = supply.DRAWN // 1000
    ia.train(ia.sgd(0.1), lambda w, x: (w - x.mean()) ** 2, jnp.array(0.0), x, epochs=epochs, sampler="full", key=0)
    assert [segment.iterations for segment in made] == [epochs]


def test_equal_to_optax():
    close(train(ia.adam(1e-3)).params, train(optax.adam(1e-3)).params, 1e-5, 1e-7)


def test_start_and_data_are_left_untouched():
    before = jax.tree.map(np.array, PARAMS)
    train(ia.sgd(0.1))
    identical(PARAMS, before)


def test_same_key_same_bits_other_key_other_run():
    a, b, c = train(ia.sgd(0.1)), train(ia.sgd(0.1)), train(ia.sgd(0.1), key=jax.random.key(2))
    identical(a.params, b.params)
    assert (a.params[0].w != c.params[0].w).any()


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 4, 7, 11, 22, 100])
def test_records_do_not_change_the_run(every):
    reference = train(ia.adam(1e-3))
    result = train(ia.adam(1e-3), every=every, evaluate=lambda p: {"acc": SCORE(p, TEST), "norm": p[0].w[0, 0]})
    close(result.params, reference.params, 1e-4, 1e-6)
    steps = [*range(every, 23, every)] + ([22] if 22 % every else [])
    assert result.history.step.tolist() == steps
    assert result.history.evaluate["acc"].shape == (len(steps),)
    assert float(result.history.evaluate["norm"][-1]) == float(result.params[0].w[0, 0])


def test_progress_does_not_change_the_run(capfd):
    close(train(ia.adam(1e-3), progress=True).params, train(ia.adam(1e-3)).params, 1e-5, 1e-7)
    shown = capfd.readouterr().err
    assert "22/22" in shown
    assert shown.count("\r") <= 4  # where it does not move, as in a log, its states are few


@pytest.mark.slow
def test_a_run_can_go_on_with_its_state():
    first = train(ia.momentum(0.1), sampler="full", batch_size=None, epochs=5)
    rest = ia.train(ia.momentum(0.1), LOSS, first.params, TRAIN, epochs=4, key=1, sampler="full", state=first.state)
    whole = train(ia.momentum(0.1), sampler="full", batch_size=None, epochs=9)
    close(rest.params, whole.params, 1e-5, 1e-7)


@pytest.mark.slow
def test_mapped_over_keys_and_rates():
    def final(key, rate, b1):
        return train(ia.adam(rate, b1), key=key).history.loss

    keys, rates, decays = (
        jax.random.split(jax.random.key(5), 3),
        jnp.array([1e-3, 3e-3, 1e-2]),
        jnp.array([0.9, 0.5, 0.8]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together = jax.vmap(final)(keys, rates, decays)
        rates_only = jax.vmap(lambda rate: final(keys[0], rate, 0.9))(rates)
    one_by_one = [final(k, float(a), float(b)) for k, a, b in zip(keys, rates, decays, strict=True)]
    np.testing.assert_allclose(together, one_by_one, rtol=1e-3)
    np.testing.assert_allclose(rates_only[0], one_by_one[0], rtol=1e-3)


@pytest.mark.slow
def test_mapped_over_starts():
    starts = jax.vmap(NETWORK.init)(jax.random.split(jax.random.key(1), 4))
    results = jax.vmap(lambda p: ia.train(ia.sgd(0.1), LOSS, p, TRAIN, epochs=1, batch_size=128, key=0))(starts)
    assert results.history.loss.shape == (4, 1)
    assert results.diverged.tolist() == [-1] * 4


@pytest.mark.slow
def test_mapped_inside_a_compiled_function():
    """The data are known there, although every operation on them is traced."""
    x, y = jnp.asarray(TRAIN.x), jnp.asarray(TRAIN.y)

    def one(key):
        return ia.train(ia.sgd(0.1), LOSS, PARAMS, (x, y), epochs=1, batch_size=128, key=key).params

    keys = jax.random.split(jax.random.key(2), 2)
    close(jax.jit(jax.vmap(one))(keys), jax.vmap(one)(keys), 1e-5, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("watch", [False, True], ids=["bare", "evaluate"])
def test_blocks_do_not_show(monkeypatch, watch):
    """How many row numbers are drawn at a time changes nothing."""
    changes = {"epochs": 3, "every": 5, "evaluate": (lambda p: p[0].b.sum()) if watch else None}
    whole = train(ia.adam(1e-2), **changes)
    monkeypatch.setattr(supply, "DRAWN", 1300)
    close(whole, train(ia.adam(1e-2), **changes), 1e-5, 1e-7)


def test_divergence_is_reported_with_its_step():
    x, y = np.ones((8, 1), np.float32), np.ones((8, 1), np.float32)
    network = ia.mlp([1, 1], bias=False)
    arguments = (ia.risk(network), [ia.Layer(jnp.full((1, 1), 2.0), None)], (x, y))
    with pytest.warns(ia.InerciaWarning, match=r"the loss of iteration \d+ of 400 is not finite"):
        result = ia.train(ia.sgd(3.0), *arguments, epochs=400, key=0, sampler="full", every=1)
    first = result.diverged
    losses = np.asarray(result.history.loss)
    assert np.isfinite(losses[:first]).all()
    assert not np.isfinite(losses[first])
    # |1 - a| = 2 per step from an error of 1: the sum over 8 rows, 8 (2^k)^2 / 2 = 2^(2k+2), leaves float32 at 2^128.
    assert first == 63


@pytest.mark.slow
def test_bfloat16_params_stay():
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    result = ia.train(ia.adam(1e-3), LOSS, params, TRAIN, epochs=1, batch_size=128, key=0)
    assert {leaf.dtype for leaf in jax.tree.leaves(result.params)} == {jnp.dtype("bfloat16")}
    assert float(result.history.loss[0]) < 2.5


@pytest.mark.slow
def test_regression_on_a_teacher():
    network = ia.mlp([3, 16, 1])
    data, params = ia.teacher(network, 500, jax.random.key(0))
    result = ia.train(
        ia.adam(1e-2), ia.risk(network), network.init(jax.random.key(9)), data, epochs=200, batch_size=50, key=0
    )
    assert float(result.history.loss[-1]) < 0.01 * float(np.var(data.y)) / 2
    assert float(ia.risk(network)(params, data)) < 1e-10
