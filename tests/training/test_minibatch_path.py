"""The path on batches is that of train, of the reader's own loop, and on one axis with flow and SDE."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from runs import close

import inercia as ia
from inercia.training import minibatch_path
from inercia.training.objective import key_of_losses

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4)).astype(np.float32)
Y = (X @ RNG.normal(size=(4, 3))).argmax(axis=1).astype(np.int32)
NETWORK = ia.mlp([4, 3])
LOSS = ia.risk(NETWORK, "cross-entropy")
PARAMS = NETWORK.init(jax.random.key(0))
METHOD = ia.adam(0.05)


def dropout(params, batch, key):
    x, y = batch
    return LOSS(params, (x * jax.random.bernoulli(key, 0.8, x.shape[:1])[:, None], y))


def own_loop(loss, steps, key, sampler, size):
    """Write the iterations out in float64, on batches drawn as documented."""
    rows = ia.sampler(sampler, len(X), size).rows
    chosen = None if rows is None else np.asarray(rows(jax.random.key(key), 0, steps))
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), PARAMS)
        state, x, path = METHOD.init(params), X.astype(np.float64), [params]
        gradient = jax.jit(jax.grad(loss))
        for k in range(steps):
            batch = (x, Y) if chosen is None else (x[chosen[k]], Y[chosen[k]])
            keys = (jax.random.fold_in(key_of_losses(jax.random.key(key)), k),) if loss is dropout else ()
            updates, state = METHOD.update(gradient(params, batch, *keys), state, params)
            params = optax.apply_updates(params, updates)
            path.append(params)
        return jax.tree.map(lambda *parts: np.stack(parts), *path), float(LOSS(params, (x, Y)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "size", "loss"),
    [("shuffle", 16, LOSS), ("partition", 16, LOSS), ("full", None, LOSS), ("shuffle", 16, dropout)],
    ids=["shuffle", "partition", "full", "key"],
)
def test_as_the_own_loop_and_as_train(monkeypatch, sampler, size, loss):
    options = {"batch_size": size, "sampler": sampler}
    monkeypatch.setattr(minibatch_path, "_DRAWN", 3 * 2 * (size or 50))  # in two pieces
    path = ia.iterate_batches(METHOD, loss, PARAMS, (X, Y), 12, key=3, every=2, **options)
    right, last = own_loop(loss, 12, 3, sampler, size)
    close(path.params, jax.tree.map(lambda leaf: leaf[::2], right), 1e-12)
    assert path.times.tolist() == [*range(0, 13, 2)]
    if loss is LOSS:
        assert path.loss[-1] == pytest.approx(last, rel=1e-12)
    if sampler != "full" and loss is LOSS:  # random numbers of a loss are drawn in its own precision
        per_epoch = ia.sampler(sampler, len(X), size).epoch
        result = ia.train(METHOD, loss, PARAMS, (X, Y), epochs=12 // per_epoch, key=3, **options)
        close(path[-1].params, result.params, 1e-4, 1e-5)
        assert path.state.count[-1] == result.state.count


@pytest.mark.slow
def test_several_keys_are_as_many_paths():
    several = ia.iterate_batches(METHOD, LOSS, PARAMS, (X, Y), 6, key=[3, 4], batch_size=16, every=3)
    for i, key in enumerate((3, 4)):
        one = ia.iterate_batches(METHOD, LOSS, PARAMS, (X, Y), 6, key=key, batch_size=16, every=3)
        close(jax.tree.map(lambda leaf, i=i: leaf[:, i], (several.params, several.loss)), (one.params, one.loss), 1e-12)
    assert several.loss.shape == (3, 2)


CENTRES = jnp.array([-1.0, 1.0, 0.5])


def bowl(x, c):
    return jnp.mean((x - c) ** 2) / 2


@pytest.mark.slow
def test_path_mean_flow_and_sde_on_one_axis():
    """theta_k of SGD: mean m + (1-a)^k (theta_0 - m), variance a s^2 / (2-a) (1 - (1-a)^2k), to 4 standard errors."""
    a, steps, n = 0.2, 20, 4000
    path = ia.iterate_batches(ia.sgd(a), bowl, 2.0, CENTRES, steps, key=range(n), batch_size=1, sampler="partition")
    mean, variance, k = float(CENTRES.mean()), float(CENTRES.var()), path.times
    exact_mean = mean + (2 - mean) * (1 - a) ** k
    exact_variance = a * variance / (2 - a) * (1 - (1 - a) ** (2 * k))
    assert (abs(path.params.mean(axis=1) - exact_mean) <= 4 * np.sqrt(exact_variance / n) + 1e-12).all()
    assert (abs(path.params.var(axis=1) - exact_variance) <= 5 * exact_variance * np.sqrt(2 / n) + 1e-12).all()
    middle = replace(path, params=path.params.mean(axis=1), loss=path.loss.mean(axis=1))
    flow = ia.integrate(ia.sgd(a), lambda x: bowl(x, CENTRES), 2.0, path.times)
    assert ia.gap(middle, flow).distance.max() < a / 2 * (2 - mean)  # first order in a
    sde = ia.diffuse(ia.sgd(a), bowl, 2.0, CENTRES, path.times, 1, paths=n).params
    assert abs(sde[:, -1].mean() - path.params[-1].mean()) < 0.05
    assert sde[:, -1].std() == pytest.approx(path.params[-1].std(), rel=0.1)


def test_one_sentence():
    for options, message in (
        ({"key": None}, "needs a key"),
        ({"key": []}, "key must hold at least one key"),
        ({"steps": 5, "every": 2}, "every must divide steps"),
        ({"batch_size": 51}, "batch_size must be at most the number of rows 50"),
        ({"data": (X, Y - 1)}, "labels must lie in 0..2"),
        ({"loss": lambda p: 0.0}, r"loss must take \(params, batch\)"),
    ):
        given = {"loss": LOSS, "data": (X, Y), "steps": 4, "key": 0, "batch_size": 16} | options
        with pytest.raises((ValueError, TypeError), match=message):
            ia.iterate_batches(METHOD, given.pop("loss"), PARAMS, given.pop("data"), given.pop("steps"), **given)
    with pytest.raises(TypeError, match="give it several keys at once instead"):
        jax.vmap(lambda k: ia.iterate_batches(METHOD, LOSS, PARAMS, (X, Y), 2, key=k, batch_size=16).loss)(
            jax.random.split(jax.random.key(0), 2)
        )
