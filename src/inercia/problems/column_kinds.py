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


def judged(path: Path, db: Any, cell: str, name: str, wishes: Wishes, comma: bool) -> tuple[str, np.ndarray]:
    """Judge one column of text by all of its cells, and return its kind and its values."""
    value = f"trim({cell})"
    present = f"{value} IS NOT NULL AND NOT list_contains([{', '.join(map(quoted, MISSING))}], {value})"
    number = f"regexp_full_match({value}, '{_SQL_NUMBER}')"
    decimal = value
    if comma:
        number = f"({number} OR regexp_full_match({value}, '{_SQL_DECIMAL_COMMA}'))"
        decimal = f"replace({value}, ',', '.')"
    (there, numbers) = run(
        path, db, f"SELECT count(*) FILTER ({present}), count(*) FILTER ({present} AND {number}) FROM cells"
    ).fetchone()
    as_text = name in wishes.text
    if there == numbers and not as_text:
        return "number", column_values(path, db, f"CASE WHEN {present} THEN CAST({decimal} AS DOUBLE) END")
    if not as_text and 2 * numbers >= there:
        row, wrong = run(
            path, db, f"SELECT r, v FROM (SELECT row_number() OVER () AS r, {value} AS v, {present} AND NOT {number} "
            "AS wrong FROM cells) WHERE wrong LIMIT 1",
        ).fetchone()  # fmt: skip
        raise FileError(
            f"{path}: row {row}, column {name!r} must be a finite number, as {numbers} of its {there} cells are, but "
            f"it is {wrong!r}: write NA where a value is missing, or say text={[name]} (--text {name})."
        )
    if not as_text and there:
        shape = wishes.formats.get(name) or _date_format(path, db, value, present, there, name)
        if shape is not None:
            wishes.formats[name] = shape
            return "date", column_values(path, db, f"CASE WHEN {present} THEN epoch({_date(value, shape)}) / 86400 END")
    return "text", column_values(path, db, f"CASE WHEN {present} THEN {value} END")


def _date(value: str, shape: str) -> str:
    if shape == "ISO":
        return f"try_cast(CASE WHEN regexp_full_match({value}, '{_ISO}') THEN {value} END AS TIMESTAMPTZ)"
    return f"try_strptime({value}, [{', '.join(quoted(shape + time) for time in _TIMES)}])"


def _date_format(path: Path, db: Any, value: str, present: str, there: int, name: str) -> str | None:
    """Return the format in which every cell is a date, None where there is none, or raise where there are two."""
    shapes = ("ISO", *_DATES)
    counts = ", ".join(f"count(*) FILTER ({present} AND {_date(value, shape)} IS NOT NULL)" for shape in shapes)
    found = run(path, db, f"SELECT {counts} FROM (SELECT * FROM cells LIMIT 1000)").fetchone()
    if not any(found):
        return None
    found = run(path, db, f"SELECT {counts} FROM cells").fetchone()
    fitting = [shape for shape, count in zip(shapes, found, strict=True) if count == there]
    if len(fitting) > 1:
        raise FileError(
            f"{path}: the dates of column {name!r} may be {' or '.join(fitting)}: say formats={{{name!r}: "
            f"{fitting[0]!r}}} (--dates {name}={fitting[0]})."
        )
    return fitting[0] if fitting else None
