"""Every compiled program of the library lowers for accelerators that are not here, and calls nothing on the host.

The public functions run on small problems while each jitted function of the package, and each that is compiled on the
way, is recorded with the shapes that it was given; each record is then exported for CUDA, ROCm and TPU. Training in
float32 holds no float64, and Hessian products in float32 multiply no matrices in float64. `diffuse` is left out: its
program is diffrax's, which calls the host.
"""

import importlib
import pkgutil
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import inercia as ia

PLATFORMS = ("cuda", "rocm", "tpu")
HOST = re.compile("callback|infeed|outfeed")
WIDE_PRODUCT = re.compile("dot_general.*f64")
JITTED = type(jax.jit(lambda x: x))
NETWORK = ia.mlp([4, 3, 2], "swish")
X, Y = np.random.default_rng(0).normal(size=(8, 4)).astype("float32"), np.eye(2, dtype="float32")[[0, 1] * 4]
LOSS, START = ia.risk(NETWORK), NETWORK.init(jax.random.key(0))


def on_all(params):
    return LOSS(params, (X, Y))


def of_many(w):
    """Have more params than are made into a matrix."""
    return jnp.sum(jnp.arange(1.0, 1101.0) * w**2) + jnp.sum(w**4)


MANY, WELL = np.ones(1100), ia.quadratic([[1.0]])
LEAPFROG = ia.conformal(0.1, dt=0.5)
FISHER = ia.gauss_newton(lambda params: NETWORK.apply(params, X), lambda z: jnp.mean((z - Y) ** 2))
ROWS = ia.empirical_fisher(lambda params: jnp.mean((NETWORK.apply(params, X) - Y) ** 2, axis=1))


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
    "curvature by Lanczos": lambda: ia.curvature(of_many, MANY, 2),
    "xtrace": lambda: ia.trace(on_all, START, 6, method="xtrace"),
    "Gauss-Newton": lambda: (ia.curvature(FISHER, START, 2), ia.trace(FISHER, START, 4), ia.density(FISHER, START, 4)),
    "Fisher": lambda: (ia.curvature(ROWS, START, 2), ia.trace(ROWS, START, 4, method="xtrace")),
    "of a layer": lambda: ia.curvature(*ia.restricted(FISHER, START, "0"), 2),
    "in float32": lambda: (
        ia.curvature(ia.in_float32(on_all), START, 2),
        ia.trace(ia.in_float32(FISHER), START, 4, method="xtrace"),
    ),
    "products": lambda: (
        jax.jit(partial(ia.hvp, on_all))(START, START),
        jax.jit(partial(ia.hvp, FISHER))(START, START),
    ),
    "sharpness of batches": lambda: ia.batch_sharpness(LOSS, START, (X, Y), 4, batches=3),
    "sharpness ahead": lambda: ia.iterate(
        ia.sgd(0.1), on_all, START, 1, observe={"ahead": ia.critical_sharpness(ia.sgd(0.1), on_all)}
    ),
    "train matrices": lambda: ia.train(ia.muon(1e-2, smooth=0.1), LOSS, START, (X, Y), epochs=1, batch_size=4, key=0),
    "iterate on batches": lambda: ia.iterate_batches(
        ia.sgd(0.1), LOSS, START, (X, Y), 2, key=[0, 1], batch_size=4, sampler="partition"
    ),
    "rod and edge flow": lambda: (ia.rod(ia.sgd(0.1), WELL, [1.0], 2), ia.edge_flow(ia.sgd(0.1), WELL, [1.0], 2)),
    "limit": lambda: ia.integrate(
        ia.limit(optax.sgd(0.1, momentum=0.5), WELL, memory=8)[0], WELL, np.ones(1), [0.0, 1.0], state=()
    ),
    "sliding": lambda: ia.sliding(lambda dt: optax.sign_sgd(0.1 * dt), WELL, [0.2], 4.0),
    "portrait": lambda: ia.portrait(LEAPFROG, lambda x: x**2, [-1.0, 1.0], [0.0, 1.0]),
    "modified energy": lambda: ia.modified_energy(LEAPFROG, WELL, ia.iterate(LEAPFROG, WELL, [1.0], 4)),
    "models": lambda: ia.teacher(NETWORK, 4, jax.random.key(0)),
}


@pytest.fixture
def recorded(monkeypatch):
    """Programs of the package by name and by what they are compiled for, with the shapes of their arguments."""
    calls = {}

    def recorder(name, function):
        def record(*args, **kwargs):
            leaves, form = jax.tree.flatten((args, kwargs))
            if not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
                fixed = [repr(leaf) for leaf in leaves if not isinstance(leaf, jax.Array | np.ndarray | float)]
                shapes = jax.tree.map(_shape, (args, kwargs))
                calls[name, *fixed, str(form)] = (function, *shapes, jax.config.jax_enable_x64)
            return function(*args, **kwargs)

        for attribute in ("eval_shape", "lower", "trace", "clear_cache"):
            setattr(record, attribute, getattr(function, attribute))
        return record

    for found in pkgutil.walk_packages(ia.__path__, "inercia."):
        module = importlib.import_module(found.name)
        for name, value in list(vars(module).items()):
            if isinstance(value, JITTED):
                monkeypatch.setattr(module, name, recorder(f"{value.__module__}.{value.__name__}", value))

    def compiled(function, jit=jax.jit, **options):
        return recorder(f"{function.__module__} {function!r:.40}", jit(function, **options))

    monkeypatch.setattr(jax, "jit", compiled)
    return calls


def _shape(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if isinstance(leaf, jax.Array | np.ndarray) else leaf


@pytest.mark.slow
def test_programs_lower_for_accelerators(recorded):
    export = jax.export.export
    for name, call in CALLS.items():
        before = set(recorded)
        call()
        new = set(recorded) - before
        assert new or name in ("interpolated", "sharpness", "order"), name
        for key in new:
            function, args, kwargs, wide = recorded[key]
            with jax.enable_x64(wide):
                module = export(function, platforms=PLATFORMS)(*args, **kwargs).mlir_module()
            assert not HOST.search(module), (name, key[0])
            assert "f64" not in module or not name.startswith("train"), (name, key[0])
            assert name != "in float32" or not WIDE_PRODUCT.search(module), (name, key[0])
    assert len(recorded) >= 60, sorted(recorded)


def test_a_callback_is_seen():
    """What the test above looks for is there where a program calls the host."""

    @jax.jit
    def loud(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    assert HOST.search(loud.lower(jnp.ones(2)).as_text())
