"""Batches from outside: the training is the one that has all rows in memory, and memory stays bounded."""

import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
from runs import close, identical

import inercia as ia

X, Y = (part[:300] for part in ia.digits().train)
NETWORK = ia.mlp([64, 16, 10])
LOSS = ia.risk(NETWORK, "cross-entropy")
PARAMS = NETWORK.init(jax.random.key(0))
METHOD = ia.adam(1e-2)


def train(data, **options):
    return ia.train(METHOD, LOSS, PARAMS, data, **options)


def measure(params):
    return {"accuracy": ia.accuracy(NETWORK)(params, (X, Y))}


@pytest.fixture
def files(tmp_path):
    for k in range(3):
        np.savez(tmp_path / f"{k}.npz", x=X[100 * k : 100 * k + 100], y=Y[100 * k : 100 * k + 100])
    return ia.shards(str(tmp_path / "*.npz"))


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["shuffle", "partition"])
@pytest.mark.parametrize("every", [None, 4, 25])
def test_shards_are_as_good_as_memory(files, sampler, every, monkeypatch):
    monkeypatch.setattr("inercia.training.stream.CHUNK", 3 * 32 * 65 * 4)  # three batches
    options = {"epochs": 3, "batch_size": 32, "key": 1, "sampler": sampler, "every": every, "evaluate": measure}
    close(train((X, Y), **options), train(files, **options))


@pytest.mark.slow
def test_shards_go_on(files, tmp_path):
    pytest.importorskip("orbax.checkpoint")
    options = {"batch_size": 32, "key": 1, "evaluate": measure}
    whole = train(files, epochs=5, **options)
    train(files, epochs=2, checkpoint=tmp_path / "run", **options)
    resumed = train(files, epochs=5, checkpoint=tmp_path / "run", **options)
    identical(whole, resumed)
    other = ia.shards(files.names[:2])
    with pytest.raises(ValueError, match=r"its data was 300 rows .* and now it is 200 rows"):
        train(other, epochs=5, checkpoint=tmp_path / "run", **options)


BATCHES = [(X[k : k + 50], Y[k : k + 50]) for k in range(0, 300, 50)]


@pytest.mark.slow
@pytest.mark.parametrize("every", [None, 4])
@pytest.mark.parametrize("ragged", [False, True])
def test_batches_of_ones_own(every, ragged):
    batches = [*BATCHES[:-1], (X[250:280], Y[250:280])] if ragged else BATCHES
    result = train(batches, epochs=2, every=every)
    params, state, losses = PARAMS, METHOD.init(PARAMS), []
    gradient, update = jax.jit(jax.value_and_grad(LOSS)), jax.jit(METHOD.update)
    for batch in batches * 2:
        value, grads = gradient(params, batch)
        updates, state = update(grads, state, params)
        params = jax.tree.map(lambda p, u: p + u, params, updates)
        losses.append(float(value))
    ends = [6, 12] if every is None else [4, 8, 12]
    assert result.history.step.tolist() == ends
    means = [np.mean(losses[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
    np.testing.assert_allclose(result.history.loss, means, rtol=1e-5)
    close((result.params, result.state), (params, state), 1e-5)
    if not ragged and every is None:
        close(train((jax.device_put(batch) for batch in BATCHES), epochs=1), train(BATCHES, epochs=1))


def test_a_source_may_use_its_arrays_again():
    def reusing():
        x, y = np.empty((50, 64), np.float32), np.empty(50, np.int32)
        for batch in BATCHES:
            x[:], y[:] = batch
            yield x, y

    close(train(reusing(), epochs=1), train(BATCHES, epochs=1), 0)


@pytest.mark.slow
def test_batches_of_a_torch_loader():
    torch = pytest.importorskip("torch")
    rows = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    close(train(torch.utils.data.DataLoader(rows, batch_size=50), epochs=2), train(BATCHES, epochs=2), 0)


@pytest.mark.slow
def test_batches_go_on(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    whole = train(BATCHES, epochs=5)
    train(BATCHES, epochs=2, checkpoint=tmp_path)
    resumed = train(BATCHES, epochs=5, checkpoint=tmp_path)
    close(whole, resumed, 0)


def test_what_does_not_suit(files):
    wrong = [(np.where(np.arange(50)[:, None] == 7, np.nan, X[:50]), Y[:50])]
    for data, options, kind, sentence in (
        (iter(BATCHES), {"epochs": 2}, ValueError, "gave no batch in a pass"),
        ([], {"epochs": 1}, TypeError, "pair"),
        (iter([]), {"epochs": 1}, ValueError, "gives no batch"),
        (iter([X]), {"epochs": 1}, TypeError, r"must give batches \(x, y\), but it gives a ndarray"),
        ([(X,)], {"epochs": 1}, TypeError, "gives a tuple of 1"),
        (7, {"epochs": 1}, TypeError, "a pair .x, y., shards or an iterable"),
        (BATCHES, {"epochs": 1, "batch_size": 5}, ValueError, "leave batch_size out"),
        (BATCHES, {"epochs": 1, "save_every": 5}, ValueError, "pass every too"),
        (wrong, {"epochs": 1}, ValueError, "x of a batch must be finite"),
        ([*BATCHES, (X[:5], Y[:5] + 9)], {"epochs": 1}, ValueError, r"labels must lie in 0\.\.9"),
        (files, {"epochs": 1, "key": 0, "sampler": "full"}, ValueError, "holds all rows at once"),
        (files, {"epochs": 1, "batch_size": 5}, TypeError, "needs a key"),
    ):
        with pytest.raises(kind, match=sentence):
            train(data, **options)


def test_an_error_on_the_way_comes_through(tmp_path):
    def broken():
        yield from BATCHES
        raise OSError("the cable is out")

    with pytest.raises(OSError, match="the cable is out"):
        train(broken(), epochs=1)
    np.savez(tmp_path / "a.npz", x=X, y=np.where(np.arange(300) == 150, 10, Y))
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.9"):
        train(ia.shards([tmp_path / "a.npz"]), epochs=1, batch_size=30, key=0)


@pytest.mark.slow
def test_memory_is_bounded(tmp_path):
    """One GiB of rows passes through a process whose own memory grows by less than a fifth of that."""
    code = f"""
        import threading, time, jax, numpy as np, inercia as ia
        rows, width = 2**19, 512
        for name, shape, dtype in (("x", (rows, width), np.float32), ("y", (rows,), np.int32)):
            np.lib.format.open_memmap(f"{tmp_path}/{{name}}.npy", "w+", dtype, shape)  # zeros that take no disk
        data = ia.shards([("{tmp_path}/x.npy", "{tmp_path}/y.npy")])
        network = ia.mlp([width, 10])
        loss, params = ia.risk(network, "cross-entropy"), network.init(jax.random.key(0))
        small = (np.zeros((2048, width), np.float32), np.zeros(2048, np.int32))
        ia.train(ia.adam(1e-3), loss, params, [small], epochs=1)  # what compiling takes is there now
        def own():
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) / 1024 for line in status if line.startswith("RssAnon"))
        before, peak, going = own(), [0.0], [True]
        def look():
            while going:
                peak[0] = max(peak[0], own())
                time.sleep(0.01)
        threading.Thread(target=look, daemon=True).start()
        result = ia.train(ia.adam(1e-3), loss, params, data, epochs=1, batch_size=2048, key=0)
        jax.block_until_ready(result)
        print(peak[0] - before)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert 0 < float(run.stdout) < 200
