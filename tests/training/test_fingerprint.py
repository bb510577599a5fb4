"""A checkpoint of another run is refused, whatever the difference: a bound argument, a mask, a constant, any row."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from runs import identical, steps_in

import inercia as ia
from inercia.training.fingerprint import described, digest_of, traced, update_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 3)).astype(np.float32)
Y = RNG.integers(0, 2, 300).astype(np.int32)
W = {"w": jnp.asarray(RNG.normal(size=(3, 2)).astype(np.float32)), "b": jnp.ones(2)}


def loss(params, batch):
    x, y = batch
    return optax.softmax_cross_entropy_with_integer_labels(x @ params["w"] + params["b"], y).mean()


def train(folder, method, data=(X, Y), epochs=1, **options):
    options = {"key": 0, "batch_size": 100} | options
    return ia.train(method, loss, W, data, epochs=epochs, checkpoint=folder, **options)


OTHERS = {
    "lion weight_decay": (ia.lion(1e-3, weight_decay=0.0), ia.lion(1e-3, weight_decay=9.0)),
    "adamw mask": (ia.adamw(1e-3), ia.adamw(1e-3, mask=False)),
    "mask function": (
        ia.adamw(1e-3, mask=lambda p: {"w": True, "b": False}),
        ia.adamw(1e-3, mask=lambda p: {"w": False, "b": True}),
    ),
    "adagrad accumulator": (
        ia.adagrad(1e-3, initial_accumulator_value=0.1),
        ia.adagrad(1e-3, initial_accumulator_value=0.2),
    ),
    "dt": (ia.momentum(0.1), ia.momentum(0.1, dt=0.5)),
    "schedule": (ia.sgd(lambda k: 0.1 / (k + 1)), ia.sgd(lambda k: 0.1 / (k + 2))),
    "optax's decay": (optax.adamw(1e-3), optax.adamw(1e-3, weight_decay=1e-3)),
    "optax's mask": (optax.adamw(1e-3, mask={"w": True, "b": False}), optax.adamw(1e-3)),
    "optax's accumulator": (optax.adagrad(1e-3), optax.adagrad(1e-3, initial_accumulator_value=0.2)),
    "another's name": (ia.sgd(0.1), ia.sign_sgd(0.1)),
}


@pytest.mark.parametrize("case", OTHERS)
def test_methods_differ(case):
    first, second = ((described(method), update_of(method, W)) for method in OTHERS[case])
    assert first != second
    assert first == (described(OTHERS[case][0]), update_of(OTHERS[case][0], W))


@pytest.mark.slow
def test_another_mask_is_refused(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    train(tmp_path, ia.adamw(1e-3))
    with pytest.raises(ValueError, match=r"its (method|update) was"):
        train(tmp_path, ia.adamw(1e-3, mask=False), epochs=2)
    assert steps_in(tmp_path) == [3]


def test_constants_of_inner_programs_count():
    def scaled(by):
        inner = jax.jit(lambda x: (x * by).sum())
        return lambda x: inner(x) + jax.lax.scan(lambda c, _: (c * by, None), x, None, 2)[0].sum()

    x, by = jnp.ones(3), np.arange(3.0, dtype=np.float32)
    assert traced(scaled(by), x) == traced(scaled(by.copy()), x) != traced(scaled(by + 1), x)


@pytest.mark.slow
def test_another_evaluate_of_the_same_form_is_refused(tmp_path):
    pytest.importorskip("orbax.checkpoint")

    def norm(by, name="norm"):
        return lambda params: {name: by * jnp.sum(params["w"] ** 2)}

    first = train(tmp_path, ia.sgd(0.1), evaluate=norm(1.0))
    for other in (norm(2.0), norm(1.0, "size"), None):
        with pytest.raises(ValueError, match=r"belongs to another run: its evaluate('s program)? was"):
            train(tmp_path, ia.sgd(0.1), evaluate=other)
    with pytest.raises(ValueError, match=r"its key was rbg|its key was .*fry"):
        train(tmp_path, ia.sgd(0.1), evaluate=norm(1.0), key=jax.random.key(0, impl="rbg"))
    identical(first, train(tmp_path, ia.sgd(0.1), evaluate=norm(1.0)))  # made again, and the same


def test_the_names_of_what_a_function_gives_count():
    assert traced(lambda x: {"a": x}, 1.0) == traced(lambda x: {"a": x}, 1.0) != traced(lambda x: {"b": x}, 1.0)


@pytest.mark.slow
def test_the_same_in_another_process():
    """Addresses of functions, which custom derivatives and callbacks carry, do not count."""
    code = """
import jax, jax.numpy as jnp, numpy as np
from inercia.training.fingerprint import traced
def f(x):
    y = jax.pure_callback(lambda x: np.asarray(x), jax.ShapeDtypeStruct((3,), np.float32), x)
    return jax.nn.relu(y).sum() + jax.nn.logsumexp(jax.checkpoint(jax.nn.gelu)(x))
print(traced(f, jnp.ones(3)))
"""
    command = [sys.executable, "-c", code]
    outputs = {subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in "12"}
    assert len(outputs) == 1


@pytest.fixture
def files(tmp_path):
    def write(y):
        np.savez(tmp_path / "rows.npz", x=X, y=y)
        return ia.shards([tmp_path / "rows.npz"])

    return write


@pytest.mark.slow
def test_every_label_of_shards_counts(files, tmp_path):
    pytest.importorskip("orbax.checkpoint")
    seen = np.linspace(0, 299, 256).astype(int)
    flipped = np.where(np.isin(np.arange(300), seen), Y, 1 - Y)
    first = train(tmp_path / "run", ia.sgd(0.1), files(Y))
    identical(first, train(tmp_path / "run", ia.sgd(0.1), files(Y)))
    for other in (flipped, np.where(np.arange(300) == 137, 1 - Y, Y)):
        with pytest.raises(ValueError, match=r"its data was 300 rows .*, and now it is 300 rows"):
            train(tmp_path / "run", ia.sgd(0.1), files(other), epochs=2)


@pytest.mark.slow
def test_every_batch_that_has_passed_counts(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    batches = [(X[k : k + 60], Y[k : k + 60]) for k in range(0, 300, 60)]
    options = {"key": None, "batch_size": None}
    train(tmp_path, ia.sgd(0.1), batches, every=2, **options)  # saved after 4
    other = [*batches[:3], (X[180:240], 1 - Y[180:240]), batches[4]]
    with pytest.raises(ValueError, match="the 4 batches before it were others than those that data gives now"):
        train(tmp_path, ia.sgd(0.1), other, every=2, epochs=2, **options)
    whole = train(tmp_path / "whole", ia.sgd(0.1), batches, every=2, epochs=2, **options)
    identical(whole, train(tmp_path, ia.sgd(0.1), batches, every=2, epochs=2, **options))


def test_every_number_in_memory_counts():
    for change in (0, 7, 299):
        assert digest_of((X, np.where(np.arange(300) == change, 1 - Y, Y))) != digest_of((X, Y))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lbfgs", "polyak_sgd", "momo"])
def test_methods_that_need_the_loss(name, tmp_path):
    """They are given value, gradient and loss, in the description as in the run."""
    pytest.importorskip("orbax.checkpoint")
    method = {"lbfgs": optax.lbfgs, "polyak_sgd": optax.polyak_sgd, "momo": optax.contrib.momo}[name]()
    whole = train(tmp_path / "whole", method, epochs=2)
    train(tmp_path / "cut", method)
    identical(whole, train(tmp_path / "cut", method, epochs=2))


@pytest.mark.slow
def test_a_leaf_without_numbers_is_no_obstacle(tmp_path, recwarn):
    pytest.importorskip("orbax.checkpoint")
    params = W | {"empty": jnp.zeros((0, 3))}
    options = {"epochs": 2, "key": 0, "batch_size": 100, "evaluate": lambda p: p["empty"]}
    whole = ia.train(ia.adam(0.1), loss, params, (X, Y), **options)
    for epochs in (1, 2, 2):
        result = ia.train(ia.adam(0.1), loss, params, (X, Y), checkpoint=tmp_path, **(options | {"epochs": epochs}))
    identical(whole, result)
    assert result.history.evaluate.shape == (2, 0, 3)
    assert steps_in(tmp_path) == [3, 6]
    assert not [w for w in recwarn if issubclass(w.category, ia.InerciaWarning)]
