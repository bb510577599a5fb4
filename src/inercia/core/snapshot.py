"""A long computation kept in one file, from which it goes on as if it had never stopped.

An NPZ file holds numbered arrays and a fingerprint of what decides the computation. It is written beside its name and
then renamed, so that a stop at any moment leaves the file before or the file after; a file of another computation is
refused.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core.method import Params


def of_run(file: Any, method: Any, loss: Any, params: Params, **settings: Any) -> tuple[Callable, Callable] | None:
    """Return (load, save) of a run's arrays by name; None where the file is None.

    Args:
        file: where; a name that ends in .npz.
        method: with its hyperparameters part of the fingerprint, as is the loss: by what they trace to.
        loss: params -> scalar.
        params: the start.
        settings: whatever else decides the run.

    Raises:
        ValueError: a file that is a folder; by `load` and `save`, one that is another run's.
    """
    if file is None:
        return None
    file = Path(file)
    if file.is_dir():
        raise ValueError(f"checkpoint must be a file, but {file} is a folder.")

    def update(params):
        return method.update(jax.grad(loss)(params), method.init(params), params)

    programs = {"loss": (loss, params), "method": (update, params)}
    mark = fingerprint(programs, start=digest(params), **settings)
    return lambda: load(file, mark), lambda arrays: save(file, mark, arrays)


def save(file: Path, fingerprint: dict[str, str], arrays: dict[str, Any]) -> None:
    """Write the arrays, by name, in place of what the file held."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as out:
            np.savez(out, fingerprint=np.array(json.dumps(fingerprint)), **arrays)
            out.flush()
            os.fsync(out.fileno())
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


def load(file: Path, fingerprint: dict[str, str]) -> dict[str, np.ndarray] | None:
    """Return the arrays of the file, or None where there is none.

    Raises:
        ValueError: the file is another computation's, or cannot be read.
    """
    if not file.exists():
        return None
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        saved = json.loads(str(arrays.pop("fingerprint")))
    except Exception as error:  # whatever a damaged or foreign file makes NumPy raise
        raise ValueError(f"checkpoint must be a file that this function wrote, but {file} is not: {error}.") from None
    for name, now in fingerprint.items():
        if saved.get(name) != now:
            raise ValueError(
                f"the checkpoint {file} belongs to another computation: its {name} was {saved.get(name)}, and now it "
                f"is {now}. Restore what it was, or name another file."
            )
    return arrays


def fingerprint(programs: dict[str, tuple], **settings: Any) -> dict[str, str]:
    """Describe a computation: each program, a function with its arguments, by what it traces to; settings by value."""
    described = {name: _digest(function, arguments) for name, (function, *arguments) in programs.items()}
    return {**described, **{name: str(value) for name, value in settings.items()}, "jax": jax.__version__}


def digest(tree: Any) -> str:
    """Describe arrays by their content."""
    made = hashlib.sha256(str(jax.tree.structure(tree)).encode())
    for leaf in jax.tree.leaves(tree):
        is_key = jnp.issubdtype(getattr(leaf, "dtype", np.dtype(float)), jax.dtypes.prng_key)
        numbers = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        made.update(f"{numbers.shape}{numbers.dtype}".encode() + np.ascontiguousarray(numbers).tobytes())
    return made.hexdigest()[:12]


def _digest(function: Any, arguments: Any) -> str:
    closed = jax.make_jaxpr(function)(*arguments)
    text = re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr))  # addresses of functions differ from process to process
    return hashlib.sha256((text + digest(closed.consts)).encode()).hexdigest()[:12]
