"""What a column of text holds: numbers, dates or text, judged by all of its cells.

Numbers are written as 1, -0.5 or 2e3 (0,5 where semicolons part the cells); 2024_01 is text, as in every spreadsheet.
Dates are ISO's, or in one of a few formats that every cell must fit.
"""

from pathlib import Path
from typing import Any

import numpy as np

from inercia.problems.table import MISSING, FileError, Wishes, column_values, quoted, run

_SQL_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_SQL_DECIMAL_COMMA = r"[+-]?\d*,\d+([eE][+-]?\d+)?"
_ISO = r"\d{4}[-/]\d{1,2}[-/]\d{1,2}([ T].*)?"
_DATES = ("%Y-%m", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y")
_TIMES = ("", " %H:%M", " %H:%M:%S")


def load_cells(path: Path, db: Any, rows: str, width: int) -> None:
    """Make the table `cells` of the trimmed text c0, c1, ... of the rows, NULL where a cell is missing."""
    missing = ", ".join(map(quoted, MISSING))
    cells = ((f"trim(c{i}, ' \t\n')", f"c{i}") for i in range(width))
    trimmed = (f"CASE WHEN {cell} NOT IN ({missing}) THEN {cell} END AS {name}" for cell, name in cells)
    run(path, db, f"CREATE TEMP TABLE cells AS SELECT {', '.join(trimmed)} FROM {rows}")


def judged(path: Path, db: Any, cell: str, name: str, wishes: Wishes, comma: bool) -> tuple[str, np.ndarray]:
    """Judge one column of `cells` by all of its cells, and return its kind and its values."""
    if name in wishes.text:
        return "text", column_values(path, db, cell)
    number, decimal = f"regexp_full_match({cell}, '{_SQL_NUMBER}')", cell
    if comma:
        number = f"({number} OR regexp_full_match({cell}, '{_SQL_DECIMAL_COMMA}'))"
        decimal = f"replace({cell}, ',', '.')"
    there, numbers = run(path, db, f"SELECT count({cell}), count(*) FILTER ({number}) FROM cells").fetchone()
    if name in wishes.formats:
        return "date", _dates(path, db, cell, wishes.formats[name], name)
    if there == numbers:
        return "number", column_values(path, db, f"CAST({decimal} AS DOUBLE)")
    if 2 * numbers >= there:
        found = _first(path, db, cell, f"NOT {number}")
        assert found is not None
        raise FileError(
            f"{path}: row {found[0]}, column {name!r} must be a finite number, as {numbers} of its {there} cells are, "
            f"but it is {found[1]!r}: write NA where a value is missing, or say text={[name]} (--text {name})."
        )
    shape = _date_format(path, db, cell, there, name)
    if shape is None:
        return "text", column_values(path, db, cell)
    wishes.formats[name] = shape
    return "date", _dates(path, db, cell, shape, name)


def _first(path: Path, db: Any, cell: str, condition: str) -> tuple[int, str] | None:
    """Return the number and the cell of the first row that meets a condition; None where none does."""
    numbered = f"SELECT row_number() OVER () AS r, {cell} AS v, {condition} AS met FROM cells"
    return run(path, db, f"SELECT r, v FROM ({numbered}) WHERE met ORDER BY r LIMIT 1").fetchone()


def _date(cell: str, shape: str) -> str:
    if shape == "ISO":
        return f"try_cast(CASE WHEN regexp_full_match({cell}, '{_ISO}') THEN {cell} END AS TIMESTAMPTZ)"
    return f"try_strptime({cell}, [{', '.join(quoted(shape + time) for time in _TIMES)}])"


def _dates(path: Path, db: Any, cell: str, shape: str, name: str) -> np.ndarray:
    """Return days since 1970, or raise where a cell is no date of this format."""
    try:
        wrong = _first(path, db, cell, f"{cell} IS NOT NULL AND {_date(cell, shape)} IS NULL")
    except FileError:
        raise FileError(f"{path}: column {name!r} cannot be read as dates of the format {shape!r}.") from None
    if wrong is not None:
        raise FileError(f"{path}: row {wrong[0]}, column {name!r} must be a date as {shape}, but it is {wrong[1]!r}.")
    return column_values(path, db, f"epoch({_date(cell, shape)}) / 86400")


def _date_format(path: Path, db: Any, cell: str, there: int, name: str) -> str | None:
    """Return the format in which every cell is a date, None where there is none, or raise where there are two."""
    fitting = ["ISO", *_DATES]
    some = f"(SELECT {cell} FROM cells WHERE {cell} IS NOT NULL LIMIT 100)"
    for source, of in ((some, min(there, 100)), ("cells", there)):
        counts = ", ".join(f"count({_date(cell, shape)})" for shape in fitting)
        found = run(path, db, f"SELECT {counts} FROM {source}").fetchone()
        fitting = [shape for shape, count in zip(fitting, found, strict=True) if count == of]
        if not fitting:
            return None
    if len(fitting) > 1:
        raise FileError(
            f"{path}: the dates of column {name!r} may be {' or '.join(fitting)}: say formats={{{name!r}: "
            f"{fitting[0]!r}}} (--dates {name}={fitting[0]})."
        )
    return fitting[0]
