"""A training that was cut off and goes on is the training that never stopped, to the last bit."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from runs import close, identical, steps_in

import inercia as ia

pytest.importorskip("orbax.checkpoint")
DATA = tuple(part[:256] for part in ia.digits().train)
NETWORK = ia.mlp([64, 16, 10])
LOSS = ia.risk(NETWORK, "cross-entropy")
PARAMS = NETWORK.init(jax.random.key(0))


def train(folder=None, method=None, epochs=6, data=DATA, **changes):
    options = {"batch_size": 32, "key": 1, "evaluate": lambda p: {"b": p[0].b, "n": p[0].b.sum()}, "checkpoint": folder}
    return ia.train(method or ia.adam(1e-2), LOSS, PARAMS, data, epochs=epochs, **(options | changes))


NOISY = optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(0)), optax.sgd(0.1))  # a random key in its state


@pytest.mark.slow
@pytest.mark.parametrize("method", [ia.adam(1e-2), pytest.param(NOISY, marks=pytest.mark.long)], ids=["adam", "noisy"])
def test_resumed_is_never_stopped(tmp_path, method):
    whole = train(tmp_path / "whole", method)
    train(tmp_path / "cut", method, epochs=2)
    resumed = train(tmp_path / "cut", method)
    identical(whole, resumed)
    identical(whole, train(tmp_path / "cut", method))  # finished: nothing is left to do
    assert steps_in(tmp_path / "cut") == [32, 40, 48]  # the last three
    close(whole, train(method=method), 1e-5, 1e-6)  # and saving changes nothing


@pytest.mark.slow
def test_saves_where_asked(tmp_path):
    whole = train(tmp_path / "a", every=4, save_every=8, keep=10)
    assert steps_in(tmp_path / "a") == [8, 16, 24, 32, 40, 48]
    assert whole.history.step.tolist() == list(range(4, 49, 4))
    with pytest.raises(ValueError, match="save_every must be a multiple of every"):
        train(tmp_path / "b", every=4, save_every=6)
    with pytest.raises(ValueError, match="iteration 48, beyond the 8"):
        train(tmp_path / "a", epochs=1, every=4, save_every=8)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"method": ia.adam(2e-2)}, "its method was adam.*learning_rate=0.01.*now it is adam.*learning_rate=0.02"),
        ({"method": optax.adam(1e-2)}, "its method was adam"),
        ({"data": (DATA[0] + 1, DATA[1])}, "its data"),
        ({"batch_size": 64, "every": 8}, "its sampler was .'shuffle', 32."),
        ({"key": 2}, "its key"),
        ({"evaluate": None}, "its evaluate was"),
        ({"every": 4}, "its every was 8, and now it is 4"),
    ],
)
def test_another_run_is_refused(tmp_path, changes, named):
    train(tmp_path, epochs=1)
    with pytest.raises(ValueError, match=named):
        train(tmp_path, **changes)
    assert steps_in(tmp_path) == [8]


def test_another_loss_is_refused(tmp_path):
    train(tmp_path, epochs=1)
    other = ia.risk(ia.mlp([64, 16, 10], "relu"), "cross-entropy")
    with pytest.raises(ValueError, match="its loss was program"):
        ia.train(ia.adam(1e-2), other, PARAMS, DATA, epochs=2, batch_size=32, key=1, checkpoint=tmp_path)


def files_of(folder):
    return sorted((file for file in folder.rglob("*") if file.is_file()), key=str)


@pytest.mark.slow
def test_damage_is_found_and_passed_over(tmp_path):
    """Every file of the newest checkpoint in turn is cut at places all along it, or has a byte changed."""
    whole = train(tmp_path / "good", epochs=3)
    size = sum(file.stat().st_size for file in files_of(tmp_path / "good" / "24"))
    tried = passed_over = 0
    for cut in range(50):
        place = size * cut // 50
        folder = tmp_path / f"cut{cut}"
        shutil.copytree(tmp_path / "good", folder)
        for file in files_of(folder / "24"):  # the checkpoint ends here: what lies beyond the cut is lost
            length = file.stat().st_size
            if place < length:
                os.truncate(file, max(place, 0))
            place -= length
        tried += 1
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            identical(whole, train(folder, epochs=3))
        passed_over += any("is damaged" in str(w.message) for w in caught)
        shutil.rmtree(folder)
    assert tried == 50
    assert passed_over >= 45  # a cut that only takes files nobody reads is no damage


@pytest.mark.slow
def test_a_changed_number_is_found(tmp_path):
    train(tmp_path, epochs=2)
    arrays = [file for file in files_of(tmp_path / "16") if "/d/" in str(file)]
    for file in arrays:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    with pytest.warns(ia.InerciaWarning, match="iteration 16 .* is damaged"):
        identical(train(tmp_path, epochs=2), train(epochs=2))


def test_none_can_be_read(tmp_path):
    train(tmp_path, epochs=1)
    for file in files_of(tmp_path / "8"):
        os.truncate(file, 0)
    with pytest.raises(ValueError, match="none of the 1 checkpoints"), pytest.warns(ia.InerciaWarning):
        train(tmp_path, epochs=1)
    assert steps_in(tmp_path) == [8]  # nothing is removed


@pytest.mark.slow
def test_a_full_disk_keeps_what_there_is(tmp_path, monkeypatch):
    import orbax.checkpoint as ocp

    train(tmp_path, epochs=1)
    save = ocp.CheckpointManager.save

    def full(self, step, **arguments):
        if step == 16:
            raise OSError(28, "No space left on device")
        return save(self, step, **arguments)

    monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    with pytest.warns(ia.InerciaWarning, match="No space left on device.*iteration 8 stays, and the training goes on"):
        identical(train(epochs=3), train(tmp_path, epochs=3))
    assert steps_in(tmp_path) == [8, 24]


@pytest.mark.slow
def test_the_run_goes_on_while_it_is_saved(tmp_path, monkeypatch):
    import orbax.checkpoint as ocp

    save, later, waited = ocp.CheckpointManager.save, threading.Event(), []

    def slow(self, step, **arguments):
        waited.append(later.wait(20))
        return save(self, step, **arguments)

    monkeypatch.setattr(ocp.CheckpointManager, "save", slow)
    run = {"save_every": 24, "on_record": lambda record: later.set() if record.step == 40 else None}
    identical(train(), train(tmp_path, **run))
    assert waited == [True, True]  # the first save, of iteration 24, ended after the record of iteration 40
    assert steps_in(tmp_path) == [24, 48]
    shutil.rmtree(tmp_path / "48")
    identical(train(), train(tmp_path, save_every=24))  # what was written is what was there at iteration 24


def test_divergence_is_not_saved(tmp_path):
    method = ia.sgd(lambda k: jnp.where(k < 20, 0.1, jnp.nan))
    with pytest.warns(ia.InerciaWarning, match="diverged: the loss of iteration 21"):
        result = train(tmp_path, method)
    assert steps_in(tmp_path) == [8, 16]
    assert result.history.step.tolist() == [8, 16, 24]


def test_a_gradient_that_is_not_a_number(tmp_path):
    """One row whose loss is finite and whose gradient is NaN: its update is named, and nothing after it is saved."""

    def loss(params, batch):
        x, y = batch
        return LOSS(params, (x, y)) + jnp.sqrt(jnp.min(x[:, 0] ** 2) * jnp.sum(params[1].b ** 2))

    x = np.array(DATA[0]) + 1
    x[100, 0] = 0
    data, options = (x, DATA[1]), {"epochs": 1, "every": 1, "batch_size": 32, "key": 1}
    with pytest.warns(ia.InerciaWarning, match="diverged"):
        result = ia.train(ia.adam(1e-2), loss, PARAMS, data, checkpoint=tmp_path, **options)
    assert 0 <= result.diverged <= 8
    assert max(steps_in(tmp_path), default=0) <= result.diverged
    assert np.isfinite(result.history.loss[: result.diverged]).all()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_is_saved(tmp_path, number, code):
    script = textwrap.dedent(f"""
        import jax, inercia as ia, sys
        train, _ = ia.digits()
        network = ia.mlp([64, 16, 10])
        try:
            ia.train(ia.adam(1e-3), ia.risk(network, "cross-entropy"), network.init(jax.random.key(0)), train,
                     epochs=100_000, batch_size=128, key=1, checkpoint={str(tmp_path)!r}, save_every=11 * 50)
        except KeyboardInterrupt:
            sys.exit(130)
    """)
    process = subprocess.Popen([sys.executable, "-c", script])
    for _ in range(600):
        if steps_in(tmp_path):
            break
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    process.send_signal(number)
    assert process.wait(60) == code
    assert steps_in(tmp_path)


def test_not_inside_a_map(tmp_path):
    with pytest.raises(ValueError, match="inside jit or vmap"):
        jax.vmap(lambda b: train(tmp_path, ia.momentum(0.1, b)).params)(jnp.array([0.5, 0.9]))
    with pytest.raises(ValueError, match="inside jit or vmap"):
        jax.vmap(lambda key: train(tmp_path, key=key).params)(jax.random.split(jax.random.key(0), 2))


@pytest.mark.slow
def test_a_disk_that_is_really_full(tmp_path):
    """On a file system with room for some saves only: the run goes on, and what it saved before can be read."""
    script = f"""
        import jax, warnings, shutil, inercia as ia
        train, _ = ia.digits()
        data, network = tuple(part[:256] for part in train), ia.mlp([64, 256, 10])
        loss, params = ia.risk(network, "cross-entropy"), network.init(jax.random.key(0))
        method, options = ia.adam(1e-2), dict(batch_size=32, key=1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = ia.train(method, loss, params, data, epochs=6, checkpoint={str(tmp_path)!r}, **options)
        told = [str(w.message) for w in caught if "could not be saved" in str(w.message)]
        assert told and all("the training goes on" in line for line in told), told
        assert int(result.history.step[-1]) == 48
        shutil.copytree({str(tmp_path)!r}, {str(tmp_path)!r} + "/../copy")  # to where there is room
        again = ia.train(method, loss, params, data, epochs=6, checkpoint={str(tmp_path)!r} + "/../copy", **options)
        assert all((a == b).all() for a, b in zip(jax.tree.leaves(result), jax.tree.leaves(again), strict=True))
        print(len(told), "saves failed")
    """
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    inside = f'mount -t tmpfs -o size={{}} tmpfs {tmp_path} && exec "$0" "$@"'
    if not shutil.which("unshare") or subprocess.run([*mount, inside.format("1M"), "true"], check=False).returncode:
        pytest.skip("no file system can be made here")
    run = subprocess.run(
        [*mount, inside.format("900k"), sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    assert "saves failed" in run.stdout


@pytest.mark.slow
def test_an_exception_in_evaluate_costs_nothing_that_was_saved(tmp_path):
    """Raised on the host, in the middle of the run: the error comes through, and the run goes on from the last save."""

    def measure(params, broken):
        def look(b):
            if broken and abs(b).max() > limit:
                raise RuntimeError("the disk of the logger is gone")
            return np.float32(0)

        return jax.pure_callback(look, jax.ShapeDtypeStruct((), np.float32), params[1].b)

    limit = float(abs(np.asarray(train(epochs=2).params[1].b)).max()) + 1e-6
    with pytest.raises(Exception, match="the disk of the logger is gone"):
        train(tmp_path, evaluate=lambda p: measure(p, True))
    done = steps_in(tmp_path)
    assert done
    assert done[-1] < 48
    whole = train(tmp_path / "whole", evaluate=lambda p: measure(p, False))
    identical(whole, train(tmp_path, evaluate=lambda p: measure(p, False)))
