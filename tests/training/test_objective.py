"""Losses as people write them: each training is the reader's own loop, to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from runs import close

import inercia as ia
from inercia.training.objective import key_of_losses

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 5)).astype(np.float32)
Y = (X @ RNG.normal(size=(5, 3))).argmax(axis=1).astype(np.int32)
W = {"w": jnp.asarray(RNG.normal(size=(5, 3)).astype(np.float32)), "b": jnp.zeros(3)}
METHOD = optax.sgd(0.1, 0.9)


def cross_entropy(logits, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def plain(params, batch):
    x, y = batch
    return cross_entropy(x @ params["w"] + params["b"], y)


def dropout(params, batch, key):
    x, y = batch
    return plain(params, (x * jax.random.bernoulli(key, 0.8, x.shape) / 0.8, y))


def own_loop(loss, params, model_state=None, *, epochs=3, key=7, size=16, takes_key=False):
    """Write the training out: optax and jax alone, on the batches and keys that are documented."""
    rows = ia.sampler("shuffle", len(X), size)
    state, values = METHOD.init(params), []
    update = jax.jit(jax.value_and_grad(loss, has_aux=model_state is not None))
    for k in range(epochs * rows.epoch):
        chosen = np.asarray(rows.rows(jax.random.key(key), k, 1))[0]
        given = (
            (params, (X[chosen], Y[chosen])) if model_state is None else (params, model_state, (X[chosen], Y[chosen]))
        )
        keys = (jax.random.fold_in(key_of_losses(jax.random.key(key)), k),) if takes_key else ()
        value, grads = update(*given, *keys)
        if model_state is not None:
            value, model_state = value
        updates, state = METHOD.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        values.append(float(value))
    return params, model_state, np.reshape(values, (epochs, -1)).mean(axis=1)


def train(loss, params=W, data=(X, Y), **options):
    return ia.train(METHOD, loss, params, data, **({"epochs": 3, "batch_size": 16, "key": 7} | options))


@pytest.mark.slow
def test_a_key_of_each_iteration():
    params, _, losses = own_loop(dropout, W, takes_key=True)
    for every in (None, 2, 5):
        result = train(dropout, every=every)
        close(result.params, params, 1e-5)
    close(train(dropout).history.loss, losses, 1e-5)
    batches = [(X[k : k + 16], Y[k : k + 16]) for k in range(0, 48, 16)]
    values = [
        dropout(W, batches[0], jax.random.fold_in(key_of_losses(jax.random.key(7)), 0)),
        ia.train(METHOD, dropout, W, batches[:1], epochs=1, key=7).history.loss[0],
    ]
    close(values[0], values[1])


@pytest.mark.slow
def test_a_run_with_keys_goes_on(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    train(dropout, epochs=2, checkpoint=tmp_path)
    close(train(dropout, checkpoint=tmp_path), train(dropout), 0, 0)


@pytest.mark.slow
def test_keys_by_name_or_number():
    def named(params, batch, key=None):
        return dropout(params, batch, key)

    def optional(params, batch, scale=1.0):
        return scale * plain(params, batch)

    def starred(*given):
        return plain(*given)

    close(train(named).params, train(dropout).params)
    close(train(optional).params, train(plain).params)
    close(train(starred).params, train(plain).params)


def with_accuracy(params, batch):
    x, y = batch
    right = (x @ params["w"] + params["b"]).argmax(axis=1) == y
    return plain(params, batch), {"right": right.sum(), "accuracy": right.mean()}


@pytest.mark.slow
@pytest.mark.parametrize("evaluate", [None, lambda p: p["b"]], ids=["bare", "evaluate"])
def test_aux_is_averaged(evaluate):
    result = train(with_accuracy, has_aux=True, evaluate=evaluate)
    close(result.params, train(plain).params)
    close(result.history.loss, train(plain).history.loss)
    each = train(with_accuracy, has_aux=True, every=1).history.aux
    close(result.history.aux["accuracy"], each["accuracy"].reshape(3, 3).mean(axis=1))
    close(16 * result.history.aux["accuracy"], result.history.aux["right"])
    batches = [(X[k : k + 16], Y[k : k + 16]) for k in range(0, 48, 16)]
    streamed = ia.train(METHOD, with_accuracy, W, batches, epochs=1, has_aux=True, every=2)
    assert streamed.history.aux["accuracy"].shape == (2,)


def normalised(params, model_state, batch):
    """The running mean of the inputs, as BatchNorm keeps one."""
    x, y = batch
    return plain(params, (x - x.mean(axis=0), y)), {"mean": 0.9 * model_state["mean"] + 0.1 * x.mean(axis=0)}


@pytest.mark.slow
def test_model_state_is_carried(tmp_path):
    start = {"mean": np.zeros(5, np.float32)}
    params, model_state, losses = own_loop(normalised, W, start)
    result = train(normalised, model_state=start, evaluate=lambda p, s: s["mean"])
    close((result.params, result.model_state, result.history.loss), (params, model_state, losses), 1e-5)
    close(result.history.evaluate[-1], model_state["mean"], 1e-5)
    both = train(
        lambda p, s, b: (normalised(p, s, b)[0], (with_accuracy(p, b)[1], normalised(p, s, b)[1])),
        model_state=start, has_aux=True,
    )  # fmt: skip
    close((both.params, both.model_state), (params, model_state), 1e-5)
    assert both.history.aux["accuracy"].shape == (3,)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["alone", "dict", "triple", "nested"])
def test_any_tree_is_a_batch(form):
    weights = np.ones(48, np.float32)
    data, loss = {
        "alone": (X, lambda p, x: plain(p, (x, jnp.zeros(len(x), jnp.int32)))),
        "dict": ({"image": X, "label": Y}, lambda p, b: plain(p, (b["image"], b["label"]))),
        "triple": ((X, Y, weights), lambda p, b: plain(p, b[:2]) * b[2].mean()),
        "nested": ({"in": (X, weights), "out": Y}, lambda p, b: plain(p, (b["in"][0], b["out"]))),
    }[form]
    expected = train(plain, data=(X, 0 * Y) if form == "alone" else (X, Y))
    close(train(loss, data=data).params, expected.params)
    parts = [jax.tree.map(lambda leaf, k=k: leaf[k : k + 20], data) for k in range(0, 48, 20)]  # the last is ragged
    again = [(X[k : k + 20], (0 if form == "alone" else 1) * Y[k : k + 20]) for k in range(0, 48, 20)]
    close(
        ia.train(METHOD, loss, W, iter(parts), epochs=1).params,
        ia.train(METHOD, plain, W, iter(again), epochs=1).params,
    )


WRONG = {
    "one argument": (lambda: train(lambda p: 0.0), r"loss must take \(params, batch\) or \(params, batch, key\), but"),
    "four": (lambda: train(lambda p, s, b, k: 0.0), r"belongs to model_state=\."),
    "no model_state": (
        lambda: train(plain, model_state={"n": 0.0}),
        r"loss must take \(params, model_state, batch\) or \(params, model_state, batch, key\), but it takes",
    ),
    "no aux": (lambda: train(plain, has_aux=True), r"loss must return \(loss, aux\), but it returns shape \(\)"),
    "aux": (lambda: train(with_accuracy), r"loss must return one real number, but it returns a tuple of 2: metrics"),
    "state form": (
        lambda: train(lambda p, s, b: (plain(p, b), {}), model_state={"n": 0.0}),
        "loss must return a model_state of the form it takes",
    ),
    "state dtype": (
        lambda: train(lambda p, s, b: (plain(p, b), {"n": 1}), model_state={"n": 0.0}),
        r"model_state\['n'\] is float32 \(\) and comes back as int32",
    ),
    "no key": (lambda: ia.train(METHOD, dropout, W, [(X, Y)], epochs=1), "needs a key, .* the loss takes one"),
    "lengths": (
        lambda: train(plain, data=(X, Y, Y[:4])),
        r"as many rows as each other, but their shapes are \[\(48, 5",
    ),
    "text": (lambda: train(plain, data=(X, np.array(["a", "b"] * 24))), "y must hold numbers, but its dtype is <U1"),
    "objects": (lambda: train(plain, data=(X, np.array([None] * 48))), "y must hold numbers, but its dtype is object"),
    "ragged": (lambda: train(plain, data=([[1.0], [1.0, 2.0]], [0, 1])), "x must be one array, but its rows differ"),
}


@pytest.mark.parametrize("case", WRONG)
def test_one_sentence(case):
    call, message = WRONG[case]
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_lists_are_arrays():
    close(train(plain, data=(X.tolist(), Y.tolist())).params, train(plain).params)


@pytest.mark.slow
def test_batch_norm_and_dropout_of_linen():
    linen = pytest.importorskip("flax.linen")

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x, training):
            x = linen.relu(linen.BatchNorm(use_running_average=not training, momentum=0.9)(linen.Dense(8)(x)))
            return linen.Dense(3)(linen.Dropout(0.2, deterministic=not training)(x))

    net = Net()
    variables = net.init(jax.random.key(0), X, training=False)

    def loss(params, stats, batch, key):
        x, y = batch
        logits, changed = net.apply(
            {"params": params, "batch_stats": stats}, x, training=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )
        return cross_entropy(logits, y), changed["batch_stats"]

    params, stats = variables["params"], variables["batch_stats"]
    own = own_loop(loss, params, stats, takes_key=True)
    result = train(loss, params, model_state=stats)
    close((result.params, result.model_state, result.history.loss), own, 1e-4, 1e-5)
    assert float(abs(jax.tree.leaves(result.model_state)[0]).max()) > 0


@pytest.mark.slow
def test_batch_norm_and_dropout_of_nnx():
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first, self.norm = nnx.Linear(5, 8, rngs=rngs), nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
            self.drop, self.last = nnx.Dropout(0.2), nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x, rngs):
            return self.last(self.drop(nnx.relu(self.norm(self.first(x))), rngs=rngs))

    graph, params, rest = nnx.split(Net(nnx.Rngs(0)), nnx.Param, ...)

    def loss(params, rest, batch, key):
        x, y = batch
        net = nnx.merge(graph, params, rest, copy=True)
        value = cross_entropy(net(x, nnx.Rngs(dropout=key)), y)
        return value, nnx.state(net, nnx.Not(nnx.Param))

    own = own_loop(loss, params, rest, takes_key=True)
    result = train(loss, params, model_state=rest)
    close((result.params, result.model_state, result.history.loss), own, 1e-4, 1e-5)
