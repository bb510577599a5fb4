"""What is waited for: modules that `import inercia` leaves alone, programs not compiled twice, the kept ones."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inercia as ia
from inercia.commands import program_cache
from inercia.core.partial_loss import one_of_equals
from inercia.core.values import ByValue

HEAVY = ("scipy", "matplotlib", "tqdm", "tyro", "duckdb", "jax.experimental.sparse", "jax.extend")


def test_import_loads_what_it_needs():
    code = f"import sys, inercia; print([name for name in {HEAVY} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "[]"


@pytest.fixture
def compiled():
    """Names of the programs that are compiled while a test runs."""
    names = []

    def hear(event, _, **more):
        if "backend_compile" in event:
            names.append(more.get("fun_name", "?"))

    jax.monitoring.register_event_duration_secs_listener(hear)
    yield names
    jax.monitoring.unregister_event_duration_listener(hear)


def loss(params, batch):
    x, y = batch
    return jnp.mean((jnp.tanh(x @ params["w"]) - y) ** 2)


START = {"w": np.array([0.3, -0.4])}
X, Y = np.random.default_rng(0).normal(size=(8, 2)), np.linspace(-0.5, 0.5, 8)


def of_params():
    """Make the loss again, of equal parts."""
    return partial(loss, batch=(X.copy(), Y.copy()))


def watch():
    return {"sharpness": ia.sharpness(ia.sgd(0.1), of_params())}


def a_training():
    network = ia.mlp([2, 3, 1])
    data = X.astype(np.float32), Y.astype(np.float32)[:, None]
    return ia.train(ia.adam(1e-2), ia.risk(network), network.init(0), data, epochs=1, batch_size=4, key=0)


#: Calls, each of which makes method, loss and data anew, and the most programs that the first one may compile.
CALLS = {
    "train": (a_training, 12),
    "iterate": (lambda: ia.iterate(ia.adam(0.1), of_params(), START, 4), 3),
    "observed": (lambda: ia.iterate(ia.sgd(0.1), of_params(), START, 4, observe=watch()), 6),
    "integrate": (lambda: ia.integrate(ia.momentum(0.1), of_params(), START, [0.0, 1.0, 2.5]), 4),
    "order": (lambda: ia.order(lambda dt: ia.momentum(0.1, dt=dt), of_params(), START, 2.0, [1, 0.5, 0.25]), 5),
    "central": (lambda: ia.central(ia.sgd(0.05), of_params(), START, 2, k=1), 4),
    "curvature": (lambda: ia.curvature(of_params(), START), 2),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_made_again_of_equal_parts_compile_nothing(name, compiled):
    call, most = CALLS[name]
    jax.clear_caches()
    call()
    assert 0 < len(compiled) <= most, compiled
    compiled.clear()
    call()
    assert compiled == []


def test_a_loop_that_is_left_and_entered_again_is_compiled_once(compiled):
    """A status without a strong type compiled the largest program of all twice."""
    jax.clear_caches()
    ia.central(ia.sgd(0.05), of_params(), START, 40, k=1)
    assert [name for name in compiled if "advance" in name] == ["jit(advance)"]


def test_a_partial_whose_array_was_changed_in_place_is_another():
    """Programs with the array as a constant gave the old curvature."""
    batch = X.copy(), Y.copy()
    bound = partial(loss, batch=batch)
    before = ia.curvature(bound, START).values
    batch[0][:] *= 2
    after = ia.curvature(bound, START).values
    hessian = jax.hessian(lambda w: loss({"w": w}, (2 * X, Y)))(START["w"])
    np.testing.assert_allclose(after, np.linalg.eigvalsh(hessian)[-1:], rtol=1e-4)
    assert abs(after - before) > 1e-3
    assert one_of_equals(bound) == one_of_equals(partial(loss, batch=(2 * X, Y)))


RATE = 0.5


def test_functions_are_equal_where_all_that_they_read_is(monkeypatch):
    class Settings:
        rate = 0.5

    settings, made = Settings(), []

    def of(read):
        return ByValue(lambda dt: read * dt)

    def reads_a_global():
        return ByValue(lambda dt: RATE * dt)

    assert of(2.0) == of(2.0) != of(3.0)
    assert hash(of(2.0)) == hash(of(2.0))
    made.append(reads_a_global())
    assert made[0] == reads_a_global()
    monkeypatch.setitem(globals(), "RATE", 0.25)
    assert made[0] != reads_a_global()  # or the program of the old rate would be used
    changes = ByValue(lambda dt: settings.rate * dt), ByValue(lambda dt: settings.rate * dt)
    assert changes[0] != changes[1]  # what may change in place is not known to be equal later
    assert ia.mlp([2, 3, 1]).apply == ia.mlp([2, 3, 1]).apply != ia.mlp([2, 4, 1]).apply
    assert ia.mlp([2, 3, 1]).apply != ia.mlp([2, 3, 1]).init


@pytest.fixture
def settings():
    """Put JAX's settings of the cache back."""
    names = [name for name in dir(jax.config) if "compilation_cache_dir" in name or "persistent_cache_min" in name]
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.usefixtures("settings")
def test_the_command_keeps_programs_in_the_users_folder(tmp_path, monkeypatch):
    folder = program_cache.switch_on({"XDG_CACHE_HOME": str(tmp_path)})
    assert folder is not None
    assert folder.parent == tmp_path / "inercia"
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert program_cache.switch_on({"XDG_CACHE_HOME": str(tmp_path)}) is None  # a folder is chosen: it stays
    jax.config.update("jax_compilation_cache_dir", None)
    assert program_cache.switch_on({program_cache.OFF_BY_ENVIRONMENT: "1"}) is None
    (tmp_path / "file").touch()
    assert program_cache.switch_on({"XDG_CACHE_HOME": str(tmp_path / "file")}) is None  # no folder can be made there
    assert jax.config.jax_compilation_cache_dir is None
    for n in range(4):
        (folder / f"old{n}").write_bytes(bytes(100))
        os.utime(folder / f"old{n}", (n, n))
    monkeypatch.setattr(program_cache, "MOST", 300)
    program_cache.switch_on({"XDG_CACHE_HOME": str(tmp_path)})
    assert [f"old{n}" for n in range(4) if (folder / f"old{n}").exists()] == ["old3"]


@pytest.mark.slow
def test_a_damaged_cache_changes_nothing(tmp_path):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")} | {"XDG_CACHE_HOME": str(tmp_path)}
    code = "from inercia.commands.main import main; main()"

    def order(*more):
        call = [sys.executable, "-c", code, "order", "--dts", "1", "0.5", "0.25", "--time", "4", *more]
        done = subprocess.run(call, check=True, capture_output=True, text=True, env=kept)
        assert done.stderr == ""
        return done.stdout

    first = order("--no-cache")
    assert not list(tmp_path.glob("inercia/*/*"))
    assert order() == first
    entries = list(tmp_path.glob("inercia/*/*-cache"))
    assert entries
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[:50])
    assert order() == first
