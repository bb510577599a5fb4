"""A table in memory, and the database that reads it from a file."""

import itertools
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

#: Cells that say that a value is missing; those of pandas, and "?" of the UCI tables.
MISSING = (
    "", "?", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", "-nan", "-NaN", "NULL", "null", "None", "none",
)  # fmt: skip


class FileError(ValueError):
    """A file that cannot be read as data, with its name and what is wrong with it."""


class Table(NamedTuple):
    """Columns by name, all of one length."""

    columns: dict[str, np.ndarray]  # float64, nan where missing; text: objects, str or None
    kinds: dict[str, str]  # "number", "date" or "text"; "empty" where a model reads it and no cell is there
    formats: dict[str, str]  # of the dates, by name
    notes: tuple[str, ...]  # what was decided about the file, in sentences

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.columns.values())))


class Wishes(NamedTuple):
    """What the caller says of a file, as in `read_table`; `formats` grows by those that are found."""

    header: bool | None
    text: frozenset[str]
    drop: frozenset[str]
    formats: dict[str, str]
    strict: bool = True  # whether all columns that are spoken of must be there, and empty ones go

    def check(self, path: Path, names: list[str]) -> None:
        """Raise unless every column that is spoken of is there."""
        if not self.strict:
            return
        for argument in ("text", "drop", "formats"):
            for name in getattr(self, argument):
                if name not in names:
                    raise FileError(f"{path}: {argument} names the column {name!r}, but there are {_few(names)}.")


@contextmanager
def database() -> Iterator[tuple[Any, Path]]:
    """Open a session of the database in memory, and a folder for its files; what both hold goes when the block ends."""
    with tempfile.TemporaryDirectory() as folder, _instance(os.getpid(), _duckdb()).cursor() as db:
        db.execute("SET TimeZone = 'UTC'")
        yield db, Path(folder)


def _duckdb() -> Any:
    try:
        import duckdb  # noqa: PLC0415  an eighth of a second, and only tables need it
    except ImportError:
        raise ImportError("tables are read by DuckDB: pip install duckdb.") from None
    return duckdb


@cache
def _instance(process: int, duckdb: Any) -> Any:
    """Return the database of a process, which takes as long to make as a small table to read."""
    # Nothing is fetched: a table never makes DuckDB load a part of itself from elsewhere.
    alone = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false", "threads": 2}
    return duckdb.connect(config=alone)


def run(path: Path, db: Any, query: str) -> Any:
    """Run a query over a file; what DuckDB says of it becomes a `FileError` of one sentence."""
    try:
        return db.execute(query)
    except Exception as error:  # duckdb.Error, and conversions of Python's own: no closed list
        line = re.search(r"CSV Error on Line: (\d+)", str(error))
        counts = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", str(error))
        if line and counts:
            raise FileError(
                f"{path}: line {line[1]} has {counts[2]} cells, but the table has {counts[1]} columns."
            ) from None
        said = [s for s in str(error).splitlines() if s and not s.startswith(("CSV Error", "Original Line"))]
        reason = said[0][:200] if said else type(error).__name__
        raise FileError(f"{path}: it cannot be read{f' at line {line[1]}' if line else ''} ({reason}).") from None


def column_values(path: Path, db: Any, expression: str, source: str = "cells") -> np.ndarray:
    """Return one expression of all rows."""
    return filled(run(path, db, f"SELECT {expression} AS v FROM {source}").fetchnumpy()["v"])


def filled(values: Any) -> np.ndarray:
    """Return what the database gave as float64, nan where missing, or as objects, None where missing."""
    if values.dtype == object:
        cells = np.array(np.ma.getdata(values))
        cells[np.ma.getmaskarray(values)] = None  # numpy.ma.filled(values, None) would write "?"
        return cells
    numbers = np.ma.filled(values.astype(np.float64), np.nan)
    return np.asarray(numbers)


def assembled(
    path: Path, names: list[str], columns: Any, kinds: dict[str, str], wishes: Wishes, unnamed: bool = False
) -> Table:
    """Check the columns, leave out what is no input, and say so; `unnamed`: the header leaves the first one blank."""
    kept, notes = {}, []
    for i, (name, values) in enumerate(zip(names, columns, strict=True)):
        if values is None or name in wishes.drop:
            continue
        if len(values) == 0:
            raise FileError(f"{path}: the table has no rows.")
        if values.dtype != object:
            if np.isinf(values).any():
                row = int(np.argmax(np.isinf(values))) + 1
                raise FileError(f"{path}: row {row}, column {name!r} must be a finite number, but it is infinite.")
            if np.isnan(values).all() and not wishes.strict:
                kinds[name] = "empty"
            elif np.isnan(values).all():
                notes.append(f"column {name!r} is empty and left out")
                continue
            if unnamed and i == 0 and len(values) > 2 and np.array_equal(values, np.arange(len(values))):
                notes.append("the first column has no name and numbers the rows: it is left out")
                continue
        elif all(value is None for value in values) and wishes.strict:
            notes.append(f"column {name!r} is empty and left out")
            continue
        kept[name] = values
    if not kept:
        raise FileError(f"{path}: the table has no columns with values.")
    kinds = {name: kinds.get(name, "number") for name in kept}
    formats = {name: wishes.formats[name] for name in kept if kinds[name] == "date" and name in wishes.formats}
    return Table(kept, kinds, formats, tuple(notes))


def quoted(word: Any) -> str:
    """Return the word as SQL writes it."""
    return "'" + str(word).replace("'", "''") + "'"


def _few(names: Iterable[str]) -> str:
    shown = list(itertools.islice(names, 9))
    return ", ".join(map(repr, shown[:8])) + (", ..." if len(shown) > 8 else "")
