"""Tables from files, read by DuckDB: CSV and TSV of any separator, quote, encoding and header; Parquet.

Each column is numbers, dates (days since 1970-01-01) or text; what could be read in two ways is refused, with the
argument that decides.
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inercia.core import check
from inercia.problems.table import FileError, Table, Wishes, assembled, column_values, database, quoted, run
from inercia.problems.text_tables import read_text

#: Types of Parquet's columns, by their beginnings; the unsigned ones begin with U.
_AS_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "U")
_AS_TEXT = ("VARCHAR", "BOOLEAN", "ENUM", "UUID")


def read_table(
    file: str | Path,
    *,
    header: bool | None = None,
    text: Iterable[str] = (),
    drop: Iterable[str] = (),
    formats: Mapping[str, str] | None = None,
) -> Table:
    """Read a table by the file's ending: .csv, .tsv (also .gz) or .parquet.

    Args:
        file: cells of a CSV may be parted by comma, semicolon (then with decimal commas), tab or bar, quoted, in
            UTF-8, UTF-16 or Latin-1. A cell is missing where it is one of `MISSING`.
        header: whether the first line names the columns; judged by the cells when left out.
        text: columns that are text although they look like numbers or dates, such as postcodes.
        drop: columns to leave out.
        formats: of dates that could be read in two ways, column -> a format such as "%d/%m/%Y".

    Returns:
        Table.

    Raises:
        FileError: a file that is missing, damaged, ragged or empty, a column of numbers with other cells among them,
            infinite numbers, dates or a header that could be read in two ways: with the place and the cure.
        ImportError: without DuckDB.

    Example:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "t.csv"
        >>> _ = file.write_text("town;day;price\\nRome;2024-01-02;0,5\\nParis;2024-01-03;NA\\n")
        >>> table = read_table(file)
        >>> table.kinds, table.columns["price"].tolist()
        ({'town': 'text', 'day': 'date', 'price': 'number'}, [0.5, nan])
    """
    return read_columns(file, Wishes(header, frozenset(text), frozenset(drop), dict(formats or {})))


def read_columns(file: str | Path, wishes: Wishes) -> Table:
    """Read a table with what is said of its columns, as `read_table` does."""
    path = Path(file)
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if not path.is_file():
        raise FileError(f"{path}: there is no such file.")
    with database() as (db, folder):
        if kind == "parquet":
            return _read_parquet(path, db, wishes, folder)
        return read_text(path, db, wishes, folder, "\t" if kind == "tsv" else None)


def is_table(file: str | Path) -> bool:
    """Whether the ending is that of a table."""
    name = Path(file).name.lower()
    return name.endswith(".parquet") or name.removesuffix(".gz").endswith((".csv", ".tsv"))


def targeted(table: Table, target: str | int) -> tuple[str, list[str]]:
    """Return the name of the column to predict, given by name or by number, and those of the inputs.

    Raises:
        ValueError: no such column, one that the header names twice, cells missing in it, no input beside it.
    """
    names = list(table.columns)
    if isinstance(target, str) and target.lstrip("-").isdigit() and target not in names:
        target = int(target)
    if isinstance(target, int):
        if not -len(names) <= target < len(names):
            raise ValueError(f"target {target} is not among {len(names)} columns.")
        target = names[target]
    check.one_of("target", target, names)
    if f"{target} (2)" in names:
        raise ValueError(f"target {target!r} must name one column, but the header names it twice: rename one.")
    if len(names) < 2:
        raise ValueError(f"target {target!r} and at least one input are not among {len(names)} columns.")
    cells = table.columns[target]
    missing = np.array([cell is None for cell in cells]) if cells.dtype == object else np.isnan(cells)
    if missing.any():
        raise ValueError(
            f"target {target!r} must be there in every row, but {int(missing.sum())} miss it, the first row "
            f"{int(np.argmax(missing)) + 1}: take them out."
        )
    return target, [name for name in names if name != target]


def _read_parquet(path: Path, db: Any, wishes: Wishes, folder: Path) -> Table:
    link = folder / "table.parquet"  # a name without wildcards
    try:
        os.symlink(path.resolve(), link)
    except OSError:  # where links need a privilege
        shutil.copyfile(path, link)
    source = f"read_parquet({quoted(link)})"
    described = run(path, db, f"DESCRIBE SELECT * FROM {source}").fetchall()
    names = [row[0] for row in described]
    wishes.check(path, names)
    columns: list[np.ndarray | None] = []
    kinds = {}
    for name, kind, *_ in described:
        cell = '"' + name.replace('"', '""') + '"'
        if name in wishes.drop:
            columns.append(None)
        elif kind.startswith(("DATE", "TIMESTAMP")):
            columns.append(column_values(path, db, f"epoch({cell}) / 86400", source))
            kinds[name] = "date"
        elif kind.startswith(_AS_TEXT) or (name in wishes.text and kind.startswith(_AS_NUMBERS)):
            columns.append(column_values(path, db, f"CAST({cell} AS VARCHAR)", source))
            kinds[name] = "text"
        elif kind.startswith(_AS_NUMBERS):
            columns.append(column_values(path, db, f"CAST({cell} AS DOUBLE)", source))
        else:
            raise FileError(
                f"{path}: column {name!r} must hold numbers, dates or text, but its type is {kind}: say drop={[name]} "
                f"(--drop {name})."
            )
    return assembled(path, names, columns, kinds, wishes)
