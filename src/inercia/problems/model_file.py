"""A trained network with all that it needs to predict, in one NPZ file; nothing in it is ever unpickled.

layer[l].w, layer[l].b         float32 weights, or float64 ones, with which predictions are float64 too
mean, scale                    float64, of the encoded inputs
target_mean, target_scale      float64, of the targets of a regression
about                          JSON: format, version, widths, activation, columns, classes, whether a row has several
"""

import contextlib
import itertools
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from inercia.problems.encoding import Column
from inercia.problems.files import read_inputs
from inercia.problems.network import ACTIVATIONS, Layer, Network, mlp
from inercia.problems.prepared import Encoding
from inercia.problems.table import FileError, Table, Wishes
from inercia.problems.table_files import is_table, read_columns
from inercia.problems.target import Target

#: Of the file; one of a later format is refused. The first had float32 weights and one class a row alone.
FORMAT = 2
_KINDS = ("number", "date", "text")


class Model(NamedTuple):
    """A trained network and the encoding of its rows."""

    params: list[Layer]  # float32 or float64
    widths: tuple[int, ...]
    activation: str  # a name of `ACTIVATIONS`
    encoding: Encoding
    version: str  # of inercia that trained it

    @property
    def network(self) -> Network:
        """The network, whose `apply` takes `encoding.inputs(rows)`."""
        return mlp(self.widths, self.activation)

    def rows(self, rows: Any, header: bool | None = None) -> Table | np.ndarray:
        """Return rows of a file as they are, its columns read as those of the training were.

        A DataFrame becomes a table, and sparse rows dense.
        """
        if not isinstance(rows, str | Path):
            _distinct(getattr(rows, "columns", ()))
            if hasattr(rows, "columns") and hasattr(rows, "isna"):
                return _of_frame(rows)
            return rows.toarray() if hasattr(rows, "toarray") else rows
        if not is_table(rows):
            return read_inputs(rows)
        columns = self.encoding.columns or ()
        text = frozenset(c.name for c in columns if c.kind == "text")
        formats = {c.name: c.format for c in columns if c.format}
        return read_columns(rows, Wishes(header, text, frozenset(), formats, strict=False))

    def outputs(self, rows: Any) -> np.ndarray:
        """Return the network's outputs (N, outputs), in the params' dtype, for a file, a table or an array of rows."""
        dtype = self.params[0].w.dtype
        x = self.encoding.inputs(self.rows(rows), dtype)
        with jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext():
            return np.asarray(applied(self.network.apply, self.params, x))

    def predict_proba(self, rows: Any) -> np.ndarray:
        """Return the probability of each class or label, (N, classes) float64.

        Raises:
            ValueError: a model of a regression; rows that do not suit the model.
        """
        if self.encoding.target.classes is None:
            raise ValueError("a regression has no classes: call predict.")
        return self.encoding.target.probabilities(self.outputs(rows))

    def predict(self, rows: Any) -> np.ndarray:
        """Return what is predicted for each row.

        The likeliest class, by its name, (N,); 0 or 1 for each label, (N, K); or numbers in the targets' units.

        Args:
            rows: a file, a `Table`, a DataFrame or an array, with the columns of the training; others beside them are
                left alone.

        Raises:
            ValueError: columns that are lacking or of another kind, by name; text that is new.
        """
        return self.encoding.target.predicted(self.outputs(rows))

    def save(self, file: str | Path) -> None:
        """Write the model to an NPZ file, which `load` reads.

        Raises:
            ValueError: two columns of one name, which no row could be read by.
        """
        columns, mean, scale, target = self.encoding
        _distinct([column.name for column in columns or ()])
        about = {
            "format": FORMAT, "inercia": self.version, "widths": self.widths, "activation": self.activation,
            "columns": None if columns is None else [column._asdict() for column in columns],
            "target": {"name": target.name, "classes": target.classes, "flat": target.flat, "several": target.several},
        }  # fmt: skip
        weights: dict[str, Any] = {
            f"layer[{i}].{name}": np.asarray(leaf)
            for i, layer in enumerate(self.params)
            for name, leaf in layer._asdict().items()
            if leaf is not None
        }
        scales: dict[str, Any] = {
            "mean": mean, "scale": scale, "target_mean": target.mean, "target_scale": target.scale,
        }  # fmt: skip
        with open(file, "wb") as stream:  # savez adds an ending to a name without one
            np.savez(stream, about=np.array(json.dumps(about)), **scales, **weights)


def load(file: str | Path) -> Model:
    """Read a model that `inercia train --save` or `Model.save` wrote.

    Raises:
        FileError: a file that is missing, damaged, no model, or of another format.

    Example:
        >>> import jax, pathlib, tempfile
        >>> from inercia.problems.prepared import prepare
        >>> encoding = prepare().encoding  # of the digits
        >>> model = Model(mlp([64, 10]).init(jax.random.key(0)), (64, 10), "tanh", encoding, "0")
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "model.npz"
        >>> model.save(file)
        >>> load(file).predict(np.zeros((2, 64))).shape
        (2,)
    """
    path = Path(file)
    if not path.is_file():
        raise FileError(f"{path}: there is no such file.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            if about["format"] not in range(1, FORMAT + 1):
                raise FileError(
                    f"{path}: it is a model of format {about['format']}, written by inercia {about['inercia']}, and "
                    f"this inercia reads formats up to {FORMAT}: train it again."
                )
            return _model(about, arrays)
    except FileError:
        raise
    except Exception as error:  # zipfile, zlib, JSON, missing keys...: NumPy's reader documents no closed list
        raise FileError(f"{path}: it cannot be read as a model ({type(error).__name__}: {error}).") from None


@partial(jax.jit, static_argnums=0)
def applied(apply: Callable, params: Any, x: Any) -> jax.Array:
    """Return the outputs of a network, by one compiled program: those of an estimator and of its file are the same."""
    return apply(params, x)


def _distinct(names: Any) -> None:
    """Raise where two columns have one name."""
    names = [str(name) for name in names]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"columns must have different names, but {twice.count(twice[0])} are called {twice[0]!r}.")


def _of_frame(frame: Any) -> Table:
    """Return the columns of a DataFrame as those of a file: numbers, dates in days since 1970, text."""
    columns: dict[str, np.ndarray] = {}
    kinds = {}
    for name in frame.columns:
        cells, missing = frame[name].to_numpy(), frame[name].isna().to_numpy()
        kind = "number" if cells.dtype.kind in "iufb" else "date" if cells.dtype.kind == "M" else "text"
        if kind == "text":
            columns[str(name)] = np.array(
                [None if gap else str(cell) for cell, gap in zip(cells, missing, strict=True)], object
            )
        else:
            days = cells.astype("datetime64[us]").astype(np.float64) / 86400e6 if kind == "date" else cells
            columns[str(name)] = np.where(missing, np.nan, days.astype(np.float64))
        kinds[str(name)] = kind
    return Table(columns, kinds, {}, ())


def _model(about: dict, arrays: Any) -> Model:
    """Build the model, or raise anything where its parts do not fit each other."""
    widths = tuple(int(width) for width in about["widths"])
    params = []
    for i, shape in enumerate(itertools.pairwise(widths)):
        w, b = (arrays.get(f"layer[{i}].{name}") for name in ("w", "b"))
        params.append(Layer(_weights(w, shape), None if b is None else _weights(b, shape[1:])))
    if len(widths) < 2 or about["activation"] not in ACTIVATIONS:
        raise ValueError("no network has these widths and activation")
    if len({leaf.dtype for layer in params for leaf in layer if leaf is not None}) != 1:
        raise ValueError("weights are of several dtypes")
    columns = None if about["columns"] is None else _columns(about["columns"], widths[0])
    mean, scale = (_numbers(arrays[name], widths[:1]) for name in ("mean", "scale"))
    encoding = Encoding(columns, mean, scale, _target(about["target"], arrays, widths[-1]))
    if not ((scale > 0).all() and (encoding.target.scale > 0).all()):
        raise ValueError("a scale is not above 0")
    return Model(params, widths, about["activation"], encoding, str(about["inercia"]))


def _columns(given: list[dict], inputs: int) -> tuple[Column, ...]:
    columns = tuple(Column(**column)._replace(values=tuple(column["values"])) for column in given)
    for column in columns:
        texts = (column.name, column.format, *column.values)
        if column.kind not in _KINDS or not all(isinstance(text, str) for text in texts):
            raise ValueError("a column is of no kind, or has no name")
        if not np.isfinite(float(column.median)) or not isinstance(column.gaps, bool):
            raise ValueError("a column's gaps cannot be filled")
    _distinct([column.name for column in columns])
    if sum(len(column.titles) for column in columns) != inputs:
        raise ValueError("columns and inputs differ")
    return columns


def _target(given: dict, arrays: Any, outputs: int) -> Target:
    classes = None if given["classes"] is None else tuple(given["classes"])
    shape = (outputs,) if classes is None else (0,)
    mean, scale = (_numbers(arrays[f"target_{name}"], shape) for name in ("mean", "scale"))
    flat, several = (bool(given.get(name, False)) for name in ("flat", "several"))
    if not all(isinstance(value, str | int | float) for value in classes or ()):
        raise ValueError("a class is neither text nor a number")
    target = Target(str(given["name"]), classes, mean, scale, flat, several)
    if target.outputs != outputs or (several and classes != tuple(range(outputs))):
        raise ValueError("targets and outputs differ")
    return target


def _weights(array: np.ndarray, shape: tuple[int, ...]) -> Any:
    """Return weights, float32 or float64, in this machine's byte order."""
    dtype = _numbers(array, shape).dtype.newbyteorder("=")
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"weights are float32 or float64, but they are {array.dtype}")
    return array.astype(dtype)


def _numbers(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if array.dtype.kind != "f" or not np.isfinite(array).all() or array.shape != shape:
        raise ValueError(f"numbers of shape {shape} were expected, but they are {array.dtype} {array.shape}")
    return array
