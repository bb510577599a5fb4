"""Tables of text, CSV and TSV: encoding, separator, header, then the columns."""

import codecs
import gzip
import itertools
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from inercia.problems.column_kinds import judged, load_cells
from inercia.problems.table import MISSING, FileError, Table, Wishes, assembled, filled, quoted, run

#: Separators that are tried where the file gives no ground to choose.
_SEPARATORS = (",", ";", "\t", "|")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_ROWS_FOR_THE_HEADER = 500


def decoded(path: Path) -> str:
    """Return the text of a file, also gzipped: by its byte order mark, as UTF-8, UTF-16 or, else, Windows' Latin-1."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as stream:
            content = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise FileError(f"{path}: it cannot be read ({error}).") from None
    zeros = content[:4096].count(0), content[1:4096:2].count(0)
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        if wide or zeros[0] > len(content[:4096]) // 4:
            text = content.decode("utf-16" if wide else "utf-16-le" if zeros[1] else "utf-16-be")
        else:
            text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    if "\0" in text or "�" in text:
        raise FileError(f"{path}: it cannot be read as text in UTF-8, UTF-16 or Latin-1.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text(path: Path, db: Any, wishes: Wishes, folder: Path, separator: str | None) -> Table:
    """Read a CSV or TSV table; `separator` is None where the file decides."""
    content = decoded(path)
    if not content.strip():
        raise FileError(f"{path}: the table has no rows.")
    plain = folder / "table.csv"  # in UTF-8, under a name without wildcards
    plain.write_text(content, encoding="utf-8", newline="")
    first = content.split("\n", 1)[0]
    shape = _dialect(db, plain, content, separator)
    lines = run(path, db, f"SELECT * FROM {shape.rows(plain)} LIMIT {_ROWS_FOR_THE_HEADER}").fetchall()
    if not lines:
        raise FileError(f"{path}: the table has no rows.")
    named = _has_header(path, lines[0], lines[1:], wishes.header)
    names = _names(lines[0] if named else [None] * shape.width)
    wishes.check(path, names)
    body = content[len(first) :] if named else content
    unnamed = named and not (lines[0][0] or "").strip()
    if shape.numeric and not wishes.text and "_" not in body:  # DuckDB reads 2024_01 as 202401
        numbers = _all_numbers(db, shape.rows(plain, "DOUBLE", named))
        if numbers is not None:
            return assembled(path, names, numbers, {}, wishes, unnamed)
    load_cells(path, db, shape.rows(plain, skip=named), shape.width)
    columns, kinds = [], {}
    for i, name in enumerate(names):
        if name in wishes.drop:
            columns.append(None)
            continue
        kinds[name], values = judged(path, db, f"c{i}", name, wishes, shape.separator == ";")
        columns.append(values)
    return assembled(path, names, columns, kinds, wishes, unnamed)


def _all_numbers(db: Any, rows: str) -> list | None:
    """Read all columns as numbers at once; None where a cell is none, so that every cell must be looked at."""
    try:
        return [filled(column) for column in db.execute(f"SELECT * FROM {rows}").fetchnumpy().values()]
    except Exception:  # the reason is told when the cells are looked at
        return None


class _Dialect(NamedTuple):
    separator: str
    width: int
    numeric: bool  # the sniffer saw nothing but numbers

    def rows(self, file: Path, dtype: str = "VARCHAR", skip: bool = False) -> str:
        columns = ", ".join(f"'c{i}': '{dtype}'" for i in range(self.width))
        missing = ", ".join(map(quoted, MISSING))
        return (
            f"read_csv({quoted(file)}, auto_detect=false, columns={{{columns}}}, delim={quoted(self.separator)}, "
            f"quote='\"', escape='\"', header={skip}, nullstr=[{missing}], "
            "new_line='\\n', max_line_size=100000000)"
        )


def _dialect(db: Any, plain: Path, content: str, separator: str | None) -> _Dialect:
    """Choose the separator; the quote is ", for an apostrophe is a letter."""
    wishes = ", quote='\"'" + ("" if separator is None else f", delim={quoted(separator)}")
    sniff = (
        f"SELECT Delimiter, len(Columns), Columns FROM sniff_csv({quoted(plain)}, skip=0, sample_size=2048, "
        f"max_line_size=100000000{wishes})"
    )
    try:
        found, width, columns = db.execute(sniff).fetchone()
    except Exception:  # ragged or broken: read it strictly, so that the place is named
        found, width, columns = "", 1, []
    if width < 2 or found not in _SEPARATORS:
        first = re.sub('"[^"]*"', "", content).split("\n", 1)[0]
        found = separator or max(_SEPARATORS, key=first.count)
        width, columns = first.count(found) + 1, []
    numeric = bool(columns) and all(column["type"] in ("BIGINT", "DOUBLE", "HUGEINT") for column in columns)
    return _Dialect(found, width, numeric)


def _has_header(path: Path, first: tuple, rest: list[tuple], wish: bool | None) -> bool:
    """Judge the first line by the cells below: words over numbers are names, and so are pandas' 0, 1, 2, ..."""
    if wish is not None:
        return wish
    written = [cell for cell in first if cell is not None]
    if any(not _NUMBER.fullmatch(cell) for cell in written):
        below = [[row[j] for row in rest if row[j] is not None] for j in range(len(first))]
        over_numbers = any(
            cell is not None and not _NUMBER.fullmatch(cell) and column and all(map(_NUMBER.fullmatch, column))
            for cell, column in zip(first, below, strict=True)
        )
        return over_numbers or not any(map(_NUMBER.fullmatch, written))
    counted = [cell.strip() for cell in written]
    if counted and counted == [str(i) for i in range(len(counted))] and len(first) - len(counted) <= 1 and rest:
        if len(counted) >= 4 or any(
            not re.fullmatch(r"\s*[+-]?\d+\s*", row[j]) for row in rest for j in range(len(first)) if row[j] is not None
        ):
            return True
        raise FileError(
            f"{path}: the first line, {', '.join(counted)}, may be names or numbers: say header=True or header=False "
            "(--header or --no-header)."
        )
    return False


def _names(cells: Iterable[str | None]) -> list[str]:
    """Return a name for every column, each its own: a second "a" is called "a (2)"."""
    names: list[str] = []
    for i, cell in enumerate(cells):
        name = (cell or "").strip() or f"column {i + 1}"
        others = itertools.chain([name], (f"{name} ({n})" for n in itertools.count(2)))
        names.append(next(other for other in others if other not in names))
    return names
