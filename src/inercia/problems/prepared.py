"""From a file's rows to what a network is trained on, and the encoding that does the same to new rows.

    rows -> training and test part -> inputs encoded and standardised, targets numbered or standardised

Means, deviations and medians are those of the training part; classes and values of text are those of all rows.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inercia.core import check
from inercia.problems.data import Dataset, all_digits, checked, scaling, split_rows, standardised
from inercia.problems.encoding import Column, encoded, fit_columns
from inercia.problems.files import read_arrays
from inercia.problems.table import FileError, Table
from inercia.problems.table_files import is_table, read_table, targeted
from inercia.problems.target import Target, fit_target


class Encoding(NamedTuple):
    """All that lies between rows and network."""

    columns: tuple[Column, ...] | None  # of a table; None where inputs are numbers without names
    mean: np.ndarray  # (inputs,) float64
    scale: np.ndarray  # (inputs,) float64
    target: Target

    def inputs(self, rows: Table | np.ndarray, dtype: Any = np.float32) -> np.ndarray:
        """Return rows as the network's inputs, (N, inputs), float32 by default.

        Raises:
            ValueError: other columns than those of the training, by name; text that is new; a wrong width; numbers
                that are not finite.
            TypeError: an array of something else than numbers.
        """
        if isinstance(rows, Table):
            if self.columns is None:
                raise ValueError("the model was trained on arrays without column names: give it .npz or IDX files.")
            x = encoded(self.columns, rows)
        else:
            x = check.array("rows", rows)
            if self.columns is not None:
                raise ValueError("the model was trained on a table with column names: give it a table.")
            if x.dtype.kind == "c":
                raise TypeError(f"rows must hold real numbers, but their dtype is {x.dtype}.")
            check.finite("rows", x)
            x = np.asarray(x).reshape(len(x), -1) if x.ndim else x.reshape(1, 1)
        if x.shape[1] != len(self.mean):
            raise ValueError(f"rows must have {len(self.mean)} inputs, as in training, but they have {x.shape[1]}.")
        return standardised(x, self.mean, self.scale, dtype)


class Prepared(NamedTuple):
    """Two parts of the rows as the network sees them."""

    train: Dataset  # x float32; y int32 classes, float32 labels (N, K), or float32 standardised (N, outputs)
    test: Dataset
    encoding: Encoding
    notes: tuple[str, ...]  # what was decided, in sentences


def prepare(
    data: str | Path | Table | Dataset | None = None,
    labels: str | Path | None = None,
    *,
    target: str | int = -1,
    task: str = "auto",
    gaps: str = "median",
    test: float = 0.2,
    seed: int = 0,
    **table: Any,
) -> Prepared:
    """Read, split and encode rows for a training.

    Args:
        data: a file as in `inercia.read`, a table, or a pair (x, y); the bundled digits by default.
        labels: the IDX file of the labels; IDX only.
        target: column to predict, by name or number; tables only.
        task: "auto", "classification" or "regression", see `fit_target`.
        gaps: "median", or "refuse" to raise where a cell is missing.
        test: share of the rows held out.
        seed: of the split.
        **table: `header`, `text`, `drop` and `formats` of `read_table`.

    Raises:
        FileError: a file that cannot be used, with the place.
        ValueError: rows that cannot be used.

    Example:
        >>> table = Table({"a": np.arange(10.0), "b": np.arange(10.0) ** 2 / 2}, {"a": "number", "b": "number"}, {}, ())
        >>> parts = prepare(table)
        >>> parts.train.x.shape, parts.notes[-1]
        ((8, 1), "target 'b': a regression, for not all of its numbers are integers (10 distinct values in 10 rows).")
    """
    if data is None:
        data = all_digits()
    path = data if isinstance(data, str | Path) else None
    if path is not None and is_table(path):
        if labels is not None:
            raise FileError(f"{path}: labels name a second file for IDX data only.")
        data = read_table(path, **table)
    elif path is not None:
        data = read_arrays(path, labels)
    try:
        parts = _of_table(data, target, task, gaps, test, seed) if isinstance(data, Table) else None
        return parts or _of_arrays(data, task, test, seed)
    except ValueError as error:
        if path is None or isinstance(error, FileError):
            raise
        raise FileError(f"{path}: {error}") from None


def _of_table(table: Table, target: str | int, task: str, gaps: str, test: float, seed: int) -> Prepared:
    name, inputs = targeted(table, target)
    train, held = split_rows(len(table), test, seed)
    columns = fit_columns(table, inputs, train, gaps)
    fitted, why = fit_target(table.columns[name], name, task, train)
    notes = list(table.notes)
    missing = sum(int(column.encoded(table.columns[column.name])[:, -1].sum()) for column in columns if column.gaps)
    if missing:
        notes.append(f"{missing} cells are missing: filled with the median, and told by a column each")
    dates = [f"{name} ({shape})" for name, shape in table.formats.items()]
    if dates:
        notes.append(f"dates as days since 1970: {', '.join(dates)}")
    return _parts(encoded(columns, table), table.columns[name], columns, fitted, (train, held), (*notes, why))


def _of_arrays(data: Any, task: str, test: float, seed: int) -> Prepared:
    x, y = checked(data)
    x, y = np.asarray(x), np.asarray(y)
    y = y[:, 0] if y.shape[1:] == (1,) else y
    train, held = split_rows(len(x), test, seed)
    fitted, why = fit_target(y, "y", task, train, labels=y.dtype.kind in "iub")
    return _parts(x.reshape(len(x), -1), y, None, fitted, (train, held), (why,))


def _parts(x: np.ndarray, y: np.ndarray, columns: Any, target: Target, rows: Any, notes: Any) -> Prepared:
    mean, scale = scaling(x[rows[0]])
    train, test = (Dataset(standardised(x[part], mean, scale), target.encoded(y[part])) for part in rows)
    return Prepared(train, test, Encoding(columns, mean, scale, target), notes)
