"""Cases of `train(checkpoint=...)`: goes on bit for bit, and refuses whatever differs."""

import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import inercia as ia

DATA = np.random.default_rng(0)
X, Y = DATA.normal(size=(12, 2)).astype(np.float32), DATA.normal(size=12).astype(np.float32)
HELD = X[:3], Y[:3]
PARAMS = {"b": jnp.zeros(()), "w": jnp.ones(2, jnp.float32)}
#: Changes that a case tries.
TRIED = 8


def loss(params: Any, batch: Any) -> Any:
    x, y = batch
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


def another_loss(params: Any, batch: Any) -> Any:
    return 1.0001 * loss(params, batch)


def seen(params: Any) -> Any:
    return params["b"]


METHODS = {
    "sgd": {"learning_rate": 0.1, "momentum": 0.5, "nesterov": False, "dt": 1.0},
    "momentum": {"learning_rate": 0.1, "beta": 0.5, "scheme": "explicit", "dt": 1.0},
    "adamw": {
        "learning_rate": 0.01,
        "b1": 0.5,
        "b2": 0.9,
        "eps": 1e-8,
        "eps_root": 0.0,
        "weight_decay": 0.1,
        "dt": 1.0,
    },
    "lion": {"learning_rate": 0.01, "b1": 0.5, "b2": 0.9, "weight_decay": 0.1, "dt": 1.0},
}
BASE = {
    "loss": loss, "params": PARAMS, "data": (X, Y), "key": 0, "batch_size": 4, "sampler": "shuffle", "every": 3,
    "evaluate": seen, "validation": HELD, "patience": 50,
}  # fmt: skip


def other_number(value: Any, rng: np.random.Generator) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return "semi-implicit"
    return value * float(rng.uniform(0.5, 0.99)) + (1e-3 if value == 0 else 0)


def one_changed(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change the last bit of one number."""
    array = array.copy()
    place = tuple(rng.integers(0, size) for size in array.shape)
    array[place] = np.nextafter(array[place], np.float32(np.inf))
    return array


def changes(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return arguments of `train`, each with another value."""
    order = rng.permutation(len(X))
    return [
        {"loss": another_loss},
        {"data": (one_changed(X, rng), Y)},
        {"data": (X, one_changed(Y, rng))},
        {"data": (np.roll(X, 1, axis=0), np.roll(Y, 1))},
        {"data": (X[:-1], Y[:-1])},
        {"key": int(rng.integers(1, 1000))},
        {"batch_size": 6, "every": 3},
        {"sampler": "partition"},
        {"every": 1, "save_every": 3},
        {"evaluate": None},
        {"evaluate": lambda params: params["w"]},
        {"evaluate": lambda params: 2 * params["b"]},
        {"key": jax.random.key(0, impl="rbg")},
        {"validation": (one_changed(HELD[0], rng), HELD[1])},
        {"validation": lambda params: params["b"] ** 2},
        {"patience": None},
        {"params": jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)},
        {"params": PARAMS | {"w": jnp.ones(2), "c": jnp.ones(1)}, "loss": loss},
        {"loss": lambda params, batch, key: loss(params, batch) + 0 * jax.random.normal(key), "validation": seen},
        {"data": (X[order], Y[order])},
    ]


def checkpoint(rng: np.random.Generator) -> str:
    """A run is cut, refused with one argument changed, and ends as the unbroken one, to the last bit."""
    name = str(rng.choice(list(METHODS)))
    hyper = METHODS[name]

    def run(folder, hyper=hyper, epochs=3, **changes):
        call = {**BASE, **changes}
        first = [call.pop(part) for part in ("loss", "params", "data")]
        return ia.train(getattr(ia, name)(**hyper), *first, epochs=epochs, checkpoint=folder, **call)

    others = [{"hyper": {**hyper, which: other_number(hyper[which], rng)}} for which in hyper] + changes(rng)
    tried = [others[k] for k in rng.permutation(len(others))[:TRIED]]
    with tempfile.TemporaryDirectory() as folder:
        run(folder, epochs=2)
        for other in tried:
            refused = "it went on"
            try:
                run(folder, **other)
            except ValueError as error:
                refused = str(error)
            if "belongs to another run" not in refused:
                raise AssertionError(f"{name}, with another {other}, must be refused: {refused}")
        resumed, whole = run(folder), run(None)
    for ours, theirs in zip(jax.tree.leaves(resumed), jax.tree.leaves(whole), strict=True):
        assert np.array_equal(np.asarray(ours), np.asarray(theirs)), f"{name}: resumed is not unbroken"
    return f"{name}, with another {[list(other) for other in tried]}"
