"""What reaches the loss are the numbers that were given; what the dtype cannot hold is refused, at every door."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import close

import inercia as ia
from inercia.training.batches import cast

N = 8
ONES = np.ones((N, 1), np.float32)
W = jnp.ones(1)


def loss(params, batch):
    x, y = batch
    return jnp.mean(x * params + y)


def in_memory(x, y, params=W, **options):
    return ia.train(ia.sgd(0.1), loss, params, (x, y), epochs=1, **({"batch_size": 4, "key": 0} | options))


def from_files(x, y, folder, params=W):
    np.savez(folder / "rows.npz", x=x, y=y)
    data = ia.shards([folder / "rows.npz"])
    return ia.train(ia.sgd(0.1), loss, params, data, epochs=1, key=0, batch_size=4)


def from_batches(x, y, params=W):
    return ia.train(ia.sgd(0.1), loss, params, [(x[:4], y[:4]), (x[4:], y[4:])], epochs=1)


BAD = {
    "int64": (np.full((N, 1), 3 * 10**9), ONES, "x must fit into int32, but it holds 3000000000"),
    "uint64": (ONES, np.full((N, 1), 2**33, np.uint64), "y must fit into uint32, but it holds 8589934592"),
    "negative": (np.full((N, 1), -(2**40)), ONES, "x must fit into int32, but it holds -1099511627776"),
    "float64": (np.full((N, 1), 1e300), ONES, r"x must fit into the params' dtype float32, but .* size 1e\+300"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_the_dtype_cannot_hold(case, tmp_path):
    x, y, message = BAD[case]
    for call in (in_memory, from_batches, lambda x, y: from_files(x, y, tmp_path)):
        with pytest.raises(ValueError, match=message):
            call(x, y)


def test_the_last_rows_count_too(tmp_path):
    x = np.arange(N)[:, None]
    x[-1] = 2**31
    for call in (in_memory, from_batches, lambda x, y: from_files(x, y, tmp_path)):
        with pytest.raises(ValueError, match="x must fit into int32, but it holds 2147483648"):
            call(x, ONES)


def test_complex_data_for_real_params():
    for call in (in_memory, from_batches):
        with pytest.raises(TypeError, match=r"x must be real where the params are, but it is complex64 .* as columns"):
            call((ONES + 2j).astype(np.complex64), ONES)


def test_half_precision():
    params = W.astype(jnp.float16)
    with pytest.raises(
        ValueError, match="x must fit into the params' dtype float16, but it holds numbers of size 70000"
    ):
        in_memory(7e4 * ONES, ONES, params)
    with pytest.warns(ia.InerciaWarning, match="training diverged"):  # 6e4 squared is no float16
        assert in_memory(6e4 * ONES, 0 * ONES, params, batch_size=1).history.loss.dtype == jnp.float16


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint32, bool, np.float64, np.float16])
def test_numbers_that_fit_arrive(dtype):
    x = np.arange(N).astype(dtype)[:, None]
    close(in_memory(x, 0 * ONES, sampler="full", batch_size=None).history.loss, [x.astype(float).mean()])
    arrived = cast((x, x), np.dtype("float32"))[0]
    np.testing.assert_array_equal(arrived, x)
    assert arrived.dtype == jax.dtypes.canonicalize_dtype(dtype if np.dtype(dtype).kind in "iub" else np.float32)


def test_keys_and_seeds():
    y = np.arange(N, dtype=np.float32)[:, None]
    expected = in_memory(ONES, y).params
    for key in (0, np.int64(0), np.uint8(0), jnp.int32(0), jax.random.key(0), jax.random.PRNGKey(0)):
        close(in_memory(ONES, y, key=key).params, expected)
    for key in (1.5, True, "0", np.zeros(3)):
        with pytest.raises(TypeError, match=r"key must be a jax\.random\.key or an integer, but it is"):
            in_memory(ONES, ONES, key=key)


@pytest.mark.slow
def test_a_whole_model_is_no_params():
    equinox = pytest.importorskip("equinox")
    model = equinox.nn.MLP(1, 1, 4, 1, key=jax.random.key(0))
    with pytest.raises(TypeError, match=r"params\.activation.* is a function: partition the model, .*equinox\.parti"):
        in_memory(ONES, ONES, model)
    params, static = equinox.partition(model, equinox.is_inexact_array)

    def of_model(params, batch):
        x, y = batch
        return jnp.mean((jax.vmap(equinox.combine(params, static))(x) - y) ** 2)

    result = ia.train(ia.adam(0.01), of_model, params, (ONES, ONES), epochs=3, key=0, batch_size=4)
    assert float(result.history.loss[-1]) < float(result.history.loss[0])
    with pytest.raises(ValueError, match="params must hold at least one array"):
        in_memory(ONES, ONES, ())


def test_string_labels():
    network = ia.mlp([1, 2])
    for data in ((ONES, np.array(list("abababab"))), [(ONES, np.array(list("abababab")))]):
        with pytest.raises(TypeError, match=r"y must hold numbers, but its dtype is <U1: give labels as integers"):
            ia.train(
                ia.sgd(0.1), ia.risk(network, "cross-entropy"), network.init(jax.random.key(0)), data, epochs=1, key=0,
                batch_size=None if isinstance(data, list) else 4,
            )  # fmt: skip
