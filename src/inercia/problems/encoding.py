"""From columns to the numbers that a network sees: fitted on training rows, applied to any others.

    number, date   x, where missing the median of the training rows; and a column "x is missing", 0 or 1, where any was
    text           one column of 0 and 1 for each value (one-hot); none of them is 1 where it is missing

Medians are of the training rows; the values of text are those of all rows, so that the test rows can be read.
"""

from typing import Any, NamedTuple

import numpy as np

from inercia.core import check
from inercia.problems.table import Table

#: What may be done with missing cells.
GAPS = ("median", "refuse")
#: A text column with more values than this, and than half the rows, names its rows instead of grouping them.
_FEW_VALUES, _MOST_VALUES = 20, 1000


class Column(NamedTuple):
    """How one column of a table is encoded."""

    name: str
    kind: str  # "number", "date" or "text"
    median: float = 0.0
    gaps: bool = False  # whether training rows missed it
    values: tuple[str, ...] = ()  # of text, sorted
    format: str = ""  # of dates

    @property
    def titles(self) -> list[str]:
        """Names of the encoded columns."""
        first = [f"{self.name} = {value}" for value in self.values] if self.kind == "text" else [self.name]
        return first + ([f"{self.name} is missing"] if self.gaps else [])

    def encoded(self, cells: np.ndarray) -> np.ndarray:
        """Return the cells as (N, columns) float64.

        Raises:
            ValueError: a value of text that the training table did not hold.
        """
        if self.kind == "text":
            cells = cells if cells.dtype == object else np.full(len(cells), None)  # an empty column
            missing = np.array([cell is None for cell in cells])
            place = {value: i for i, value in enumerate(self.values)}
            codes = np.array([-1 if cell is None else place.get(cell, len(place)) for cell in cells], int)
            if (codes == len(place)).any():
                row = int(np.argmax(codes == len(place)))
                raise ValueError(
                    f"column {self.name!r} must be one of {_few(self.values)}, but in row {row + 1} it is "
                    f"{cells[row]!r}, which the training table did not hold."
                )
            first = (codes[:, None] == np.arange(len(place))).astype(np.float64)
        else:
            missing = np.isnan(cells)
            first = np.where(missing, self.median, cells)[:, None]
        return np.hstack([first, missing[:, None]]) if self.gaps else first


def fit_columns(table: Table, inputs: list[str], train: Any = slice(None), gaps: str = "median") -> tuple[Column, ...]:
    """Return how the input columns of a table are encoded.

    Args:
        table: of `read_table`.
        inputs: names of the columns.
        train: rows that fix medians and say where cells may be missing.
        gaps: "median", or "refuse" to raise where a cell is missing.

    Raises:
        ValueError: missing cells that are refused; a text column that has another value in nearly every row.

    Example:
        >>> table = Table({"a": np.array([1.0, np.nan, 4.0])}, {"a": "number"}, {}, ())
        >>> encoded(fit_columns(table, ["a"]), table).tolist()
        [[1.0, 0.0], [2.5, 1.0], [4.0, 0.0]]
    """
    check.one_of("gaps", gaps, GAPS)
    columns = []
    for name in inputs:
        cells, kind = table.columns[name], table.kinds[name]
        missing = np.array([cell is None for cell in cells]) if kind == "text" else np.isnan(cells)
        if gaps == "refuse" and missing.any():
            raise ValueError(
                f"no cell may be missing, but column {name!r} misses {int(missing.sum())}, the first in row "
                f"{int(np.argmax(missing)) + 1}."
            )
        some = bool(missing[train].any())
        if kind == "text":
            values = tuple(sorted({cell for cell in cells if cell is not None}))
            if len(values) > max(_FEW_VALUES, min(_MOST_VALUES, len(cells) // 2)):
                raise ValueError(
                    f"a column of text must group rows, but {name!r} has {len(values)} values in {len(cells)} rows: "
                    f"say drop={[name]} (--drop {name!r})."
                )
            columns.append(Column(name, kind, 0.0, some, values))
        else:
            there = cells[train][~missing[train]]
            median = float(np.median(there)) if len(there) else 0.0
            columns.append(Column(name, kind, median, some, (), table.formats.get(name, "")))
    return tuple(columns)


def encoded(columns: tuple[Column, ...], table: Table) -> np.ndarray:
    """Return the inputs (N, width) float64 of a table by a fitted encoding.

    Raises:
        ValueError: a column that is not there, or of another kind; a value of text that is new.
    """
    lacking = [column.name for column in columns if column.name not in table.columns]
    if lacking:
        others = [name for name in table.columns if name not in {column.name for column in columns}]
        raise ValueError(
            f"the table must have the columns that the model was trained on, but {_few(lacking)} "
            f"{'is' if len(lacking) == 1 else 'are'} not among them; other columns: {_few(others) or 'none'}."
        )
    for column in columns:
        if table.kinds[column.name] not in (column.kind, "empty"):
            raise ValueError(
                f"column {column.name!r} must be of the kind {column.kind!r}, as in training, but it is "
                f"{table.kinds[column.name]!r}."
            )
    return np.hstack([column.encoded(table.columns[column.name]) for column in columns])


def _few(names: Any) -> str:
    names = list(names)
    return ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")
