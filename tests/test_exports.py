"""Every compiled program of the library lowers for accelerators that are not here, and calls nothing on the host.

The public functions run on small problems while each jitted function of the package is recorded with the shapes that it
was given; each record is then exported for CUDA, ROCm and TPU. Training in float32 holds no float64.
"""

import importlib
import pkgutil
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import inercia as ia

PLATFORMS = ("cuda", "rocm", "tpu")
HOST = re.compile("callback|infeed|outfeed")
JITTED = type(jax.jit(lambda x: x))
NETWORK = ia.mlp([4, 3, 2], "swish")
X, Y = np.random.default_rng(0).normal(size=(8, 4)).astype("float32"), np.eye(2, dtype="float32")[[0, 1] * 4]
LOSS, START = ia.risk(NETWORK), NETWORK.init(jax.random.key(0))


def on_all(params):
    return LOSS(params, (X, Y))


CALLS = {
    "train": lambda: ia.train(ia.adam(1e-2), LOSS, START, (X, Y), epochs=2, batch_size=4, key=0, evaluate=on_all),
    "train on batches": lambda: ia.train(optax.adam(1e-2), LOSS, START, [(X, Y)] * 4, epochs=1),
    "iterate": lambda: ia.iterate(ia.momentum(0.1), on_all, START, 3),
    "integrate": lambda: ia.integrate(ia.momentum(0.1), on_all, START, [0.0, 1.0]),
    "order": lambda: ia.order(lambda dt: ia.sgd(0.1, dt=dt), on_all, START, 1.0, [1, 1 / 2, 1 / 4]),
    "interpolated": lambda: ia.integrate(optax.adam(1e-2), on_all, START, [0.0, 1.0]),
    "curvature": lambda: ia.curvature(on_all, START, 2),
    "trace and density": lambda: (ia.trace(on_all, START), ia.density(on_all, START, 8)),
    "sharpness": lambda: ia.iterate(
        ia.adam(1e-2), on_all, START, 2, observe={"sharpness": ia.sharpness(ia.adam(1e-2), on_all)}
    ),
    "central": lambda: ia.central(ia.sgd(0.1), on_all, START, 2, k=1),
    "threshold": lambda: ia.threshold(optax.adam(1e-2), warm=8),
}


@pytest.fixture
def recorded(monkeypatch):
    """Programs of the package by name, with the shapes of their arguments."""
    calls = {}

    def recorder(name, function):
        def record(*args, **kwargs):
            if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((args, kwargs))):
                calls[name] = (function, *jax.tree.map(_shape, (args, kwargs)), jax.config.jax_enable_x64)
            return function(*args, **kwargs)

        for attribute in ("eval_shape", "lower", "trace", "clear_cache"):
            setattr(record, attribute, getattr(function, attribute))
        return record

    for found in pkgutil.walk_packages(ia.__path__, "inercia."):
        module = importlib.import_module(found.name)
        for name, value in list(vars(module).items()):
            if isinstance(value, JITTED):
                monkeypatch.setattr(module, name, recorder(f"{value.__module__}.{value.__name__}", value))
    return calls


def _shape(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if isinstance(leaf, jax.Array | np.ndarray) else leaf


@pytest.mark.slow
def test_programs_lower_for_accelerators(recorded):
    for name, call in CALLS.items():
        before = set(recorded)
        call()
        assert set(recorded) - before or name in ("interpolated", "sharpness", "order"), name
    assert len(recorded) >= 20, sorted(recorded)
    for name, (function, args, kwargs, wide) in recorded.items():
        with jax.enable_x64(wide):
            module = jax.export.export(function, platforms=PLATFORMS)(*args, **kwargs).mlir_module()
        assert not HOST.search(module), name
        if name.startswith("inercia.training."):
            assert "f64" not in module, name


def test_a_callback_is_seen():
    """What the test above looks for is there where a program calls the host."""

    @jax.jit
    def loud(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    assert HOST.search(loud.lower(jnp.ones(2)).as_text())
