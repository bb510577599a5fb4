"""A trained network with all that it needs to predict, in one NPZ file; nothing in it is ever unpickled.

layer[l].w, layer[l].b         float32 weights
mean, scale                    float64, of the encoded inputs
target_mean, target_scale      float64, of the targets of a regression
about                          JSON: format, version, widths, activation, columns, classes
"""

import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.problems.encoding import Column
from inercia.problems.files import read_inputs
from inercia.problems.network import ACTIVATIONS, Layer, Network, mlp
from inercia.problems.prepared import Encoding
from inercia.problems.table import FileError, Table, Wishes
from inercia.problems.table_files import is_table, read_columns
from inercia.problems.target import Target

#: Of the file; a file of another format is refused.
FORMAT = 1
_KINDS = ("number", "date", "text")


class Model(NamedTuple):
    """A trained network and the encoding of its rows."""

    params: list[Layer]  # float32
    widths: tuple[int, ...]
    activation: str  # a name of `ACTIVATIONS`
    encoding: Encoding
    version: str  # of inercia that trained it

    @property
    def network(self) -> Network:
        """The network, whose `apply` takes `encoding.inputs(rows)`."""
        return mlp(self.widths, self.activation)

    def rows(self, rows: Any, header: bool | None = None) -> Table | np.ndarray:
        """Return rows of a file as they are, its columns read as those of the training were; a DataFrame as a table."""
        if not isinstance(rows, str | Path):
            return _of_frame(rows) if hasattr(rows, "columns") and hasattr(rows, "isna") else rows
        if not is_table(rows):
            return read_inputs(rows)
        columns = self.encoding.columns or ()
        text = frozenset(c.name for c in columns if c.kind == "text")
        formats = {c.name: c.format for c in columns if c.format}
        return read_columns(rows, Wishes(header, text, frozenset(), formats, strict=False))

    def outputs(self, rows: Any) -> np.ndarray:
        """Return the network's outputs (N, outputs) float32 for a file, a table or an array of rows."""
        x = self.encoding.inputs(self.rows(rows))
        return np.asarray(self.network.apply(jax.tree.map(jnp.asarray, self.params), x))

    def predict_proba(self, rows: Any) -> np.ndarray:
        """Return the probability of each class, (N, classes) float64.

        Raises:
            ValueError: a model of a regression; rows that do not suit the model.
        """
        if self.encoding.target.classes is None:
            raise ValueError("a regression has no classes: call predict.")
        z = self.outputs(rows).astype(np.float64)
        raised = np.exp(z - z.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)

    def predict(self, rows: Any) -> np.ndarray:
        """Return the likeliest class of each row, by its name, or the number predicted, in the targets' units.

        Args:
            rows: a file, a `Table`, a DataFrame or an array, with the columns of the training; others beside them are
                left alone.

        Raises:
            ValueError: columns that are lacking or of another kind, by name; text that is new.
        """
        target, outputs = self.encoding.target, self.outputs(rows)
        if target.classes is None:
            return target.undone(outputs)
        return np.array(target.classes)[outputs.argmax(axis=1)]

    def save(self, file: str | Path) -> None:
        """Write the model to an NPZ file, which `load` reads."""
        columns, mean, scale, target = self.encoding
        about = {
            "format": FORMAT, "inercia": self.version, "widths": self.widths, "activation": self.activation,
            "columns": None if columns is None else [column._asdict() for column in columns],
            "target": {"name": target.name, "classes": target.classes, "flat": target.flat},
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
            if about["format"] != FORMAT:
                raise FileError(
                    f"{path}: it is a model of format {about['format']}, written by inercia {about['inercia']}, and "
                    f"this inercia reads format {FORMAT}: train it again."
                )
            return _model(about, arrays)
    except FileError:
        raise
    except Exception as error:  # zipfile, zlib, JSON, missing keys...: NumPy's reader documents no closed list
        raise FileError(f"{path}: it cannot be read as a model ({type(error).__name__}: {error}).") from None


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
        bias = None if b is None else jnp.asarray(_numbers(b, shape[1:]), jnp.float32)
        params.append(Layer(jnp.asarray(_numbers(w, shape), jnp.float32), bias))
    if len(widths) < 2 or about["activation"] not in ACTIVATIONS:
        raise ValueError("no network has these widths and activation")
    inputs = widths[:1]
    columns = about["columns"]
    if columns is not None:
        columns = tuple(Column(**column)._replace(values=tuple(column["values"])) for column in columns)
        if any(column.kind not in _KINDS for column in columns):
            raise ValueError("a column is of no kind")
        if sum(len(column.titles) for column in columns) != widths[0]:
            raise ValueError("columns and inputs differ")
    classes = about["target"]["classes"]
    outputs = widths[-1:] if classes is None else (0,)
    target_mean, target_scale = (_numbers(arrays[f"target_{name}"], outputs) for name in ("mean", "scale"))
    classes = None if classes is None else tuple(classes)
    target = Target(str(about["target"]["name"]), classes, target_mean, target_scale, bool(about["target"]["flat"]))
    if target.outputs != widths[-1]:
        raise ValueError("targets and outputs differ")
    encoding = Encoding(columns, _numbers(arrays["mean"], inputs), _numbers(arrays["scale"], inputs), target)
    return Model(params, widths, about["activation"], encoding, str(about["inercia"]))


def _numbers(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if array.dtype.kind != "f" or not np.isfinite(array).all() or array.shape != shape:
        raise ValueError(f"numbers of shape {shape} were expected, but they are {array.dtype} {array.shape}")
    return array
