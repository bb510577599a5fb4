"""Data sets from the user's own files: CSV, NPZ and IDX, also gzipped.

Whatever a file holds, it is either read whole or refused in one sentence: nothing is unpickled, and a header's
sizes are compared with the file before memory is asked for.
"""

import csv
import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any, cast

import numpy as np

from inercia.core import check
from inercia.problems.data import Dataset, checked

#: IDX type codes (LeCun, the MNIST files).
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CHUNK = 1 << 20


class FileError(ValueError):
    """A file that cannot be read as data, with its name and what is wrong with it."""


def read(file: str | Path, labels: str | Path | None = None, *, target: str | int = -1) -> Dataset:
    """Read (x, y) by the file's ending: .csv, .npz, .idx or -ubyte, each also with .gz (not .npz).

    Args:
        file: a CSV table, an NPZ with arrays x and y, or the IDX file of the inputs.
        labels: the IDX file of the labels; IDX only.
        target: the CSV column to predict, by name or by number; CSV only.

    Returns:
        Dataset: x (N, inputs) float32. y is (N,) int32 where it is written in whole numbers, else (N, outputs)
        float32.

    Raises:
        FileError: a file that is missing, damaged, ragged, empty or not numeric, with the place.

    Example:
        >>> import tempfile, pathlib
        >>> table = pathlib.Path(tempfile.mkdtemp()) / "t.csv"
        >>> _ = table.write_text("a,b,label\\n0.5,1,0\\n2,3.5,1\\n")
        >>> data = read(table)
        >>> data.x.tolist(), data.y.tolist()
        ([[0.5, 1.0], [2.0, 3.5]], [0, 1])
    """
    path = Path(file)
    ending = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    kind = ending.removesuffix(".gz").lower()
    if not path.is_file():
        raise FileError(f"{path}: there is no such file.")
    if labels is not None and kind in (".csv", ".npz"):
        raise FileError(f"{path}: labels name a second file for IDX data only.")
    if kind == ".csv":
        return _read_csv(path, target)
    if kind == ".npz":
        return _read_npz(path)
    if kind == ".idx" or "ubyte" in path.name:
        if labels is None:
            raise FileError(f"{path}: IDX inputs need the IDX file of their labels too.")
        return _dataset(path, read_idx(path), read_idx(labels))
    raise FileError(f"{path}: the ending must be .csv, .npz, .idx or -ubyte (also .gz), but it is {ending!r}.")


def read_idx(file: str | Path) -> np.ndarray:
    """Read one IDX array (.gz too): two zero bytes, a type, a rank, the sizes, then the numbers, big-endian.

    Raises:
        FileError: a wrong header, or a length that is not what the header says.
    """
    path = Path(file)
    try:
        with _open(path) as stream:
            shape, dtype = idx_header(stream, path)
            expected = math.prod(shape) * dtype.itemsize
            content = _at_most(stream, expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise FileError(f"{path}: it cannot be read ({error}).") from None
    if len(content) != expected:
        got = f"{len(content)}" if len(content) < expected else f"more than {expected}"
        raise FileError(f"{path}: the IDX header promises {expected} bytes of shape {shape}, but there are {got}.")
    try:
        return np.frombuffer(content, dtype).reshape(shape)
    except ValueError as error:
        raise FileError(f"{path}: no array has the shape {shape} ({error}).") from None


def idx_header(stream: Any, path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Read shape and dtype from the head of an IDX file, or raise `FileError`."""
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _IDX_TYPES or head[3] == 0:
        raise FileError(f"{path}: this is no IDX file (it starts with {head.hex() or 'nothing'}).")
    sizes = stream.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise FileError(f"{path}: the IDX header is cut short.")
    return struct.unpack(f">{head[3]}I", sizes), np.dtype(_IDX_TYPES[head[2]])


def _read_npz(path: Path) -> Dataset:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = [name for name in ("x", "y") if name not in arrays]
            if missing:
                found = ", ".join(arrays.files) or "nothing"
                raise FileError(f"{path}: an NPZ file must hold x and y, but it holds {found}.")
            return _dataset(path, arrays["x"], arrays["y"])
    except FileError:
        raise
    except Exception as error:  # zipfile, zlib, struct, tokenize...: NumPy's reader documents no closed list
        raise FileError(f"{path}: it cannot be read as NPZ ({type(error).__name__}: {error}).") from None


def _read_csv(path: Path, target: str | int) -> Dataset:
    try:
        with _open(path) as stream:
            text = stream.read().decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise FileError(f"{path}: it cannot be read ({error}).") from None
    try:
        rows = [(n, row) for n, row in enumerate(csv.reader(text.splitlines()), start=1) if row]
    except csv.Error as error:
        raise FileError(f"{path}: it is no CSV table ({error}).") from None
    names: list[str] = []
    if rows and not any(_is_number(cell) for cell in rows[0][1]):
        names = [cell.strip() for cell in rows.pop(0)[1]]
    if not rows:
        raise FileError(f"{path}: the table has no rows of numbers.")
    width = len(names or rows[0][1])
    for line, row in rows:
        if len(row) != width:
            raise FileError(f"{path}: line {line} has {len(row)} cells, but the table has {width} columns.")
    column = _column(path, target, names, width)
    table = _numbers(path, rows, names)
    y = table[:, column]
    whole = all(_is_whole(row[column]) for _, row in rows)
    return _dataset(path, np.delete(table, column, axis=1), y.astype(np.int64) if whole else y[:, None])


def _numbers(path: Path, rows: list[tuple[int, list[str]]], names: list[str]) -> np.ndarray:
    try:
        table = np.array([row for _, row in rows], dtype=np.float64)
    except ValueError:
        table = None
    if table is None or not np.isfinite(table).all():
        for line, row in rows:
            for j, cell in enumerate(row):
                if not (_is_number(cell) and math.isfinite(float(cell))):
                    column = f"column {j + 1}" + (f" ({names[j]})" if names else "")
                    raise FileError(f"{path}: line {line}, {column} must be a finite number, but it is {cell!r}.")
    return cast(np.ndarray, table)


def _column(path: Path, target: str | int, names: list[str], width: int) -> int:
    if isinstance(target, str) and target.lstrip("-").isdigit() and target not in names:
        target = int(target)
    if isinstance(target, str):
        if not names:
            raise FileError(f"{path}: target {target!r} names a column, but the table has no header.")
        try:
            return names.index(check.one_of("target", target, names))
        except ValueError as error:
            raise FileError(f"{path}: {error}") from None
    if not -width <= target < width or width < 2:
        raise FileError(f"{path}: target {target} and at least one input are not among {width} columns.")
    return target % width


def _dataset(path: Path, x: np.ndarray, y: np.ndarray) -> Dataset:
    for name, array in (("x", x), ("y", y)):
        if array.dtype.kind not in "fiub":
            raise FileError(f"{path}: {name} must hold real numbers, but its dtype is {array.dtype}.")
        if array.ndim == 0:
            raise FileError(f"{path}: {name} must have rows, but it is one number.")
    with np.errstate(over="ignore"):  # what overflows float32 becomes inf, which `checked` refuses
        x = x.reshape(len(x), math.prod(x.shape[1:])).astype(np.float32)
        y = y.astype(np.int64 if y.dtype.kind in "iub" else np.float32)
    if y.dtype.kind == "i":
        if y.size and (y.max() >= 2**31 or y.min() < -(2**31)):
            raise FileError(f"{path}: whole numbers in y must fit 32 bits, but they span {y.min()} to {y.max()}.")
        y = y.astype(np.int32)
    elif y.ndim == 1:
        y = y[:, None]
    try:
        return checked((x, y))
    except ValueError as error:
        raise FileError(f"{path}: {error}") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_whole(cell: str) -> bool:
    return cell.strip().lstrip("+-").isdigit()


def _open(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")


def _at_most(stream: Any, size: int) -> bytes:
    """Read up to `size` bytes, asking for memory only as they come."""
    parts, left = [], size
    while left > 0 and (part := stream.read(min(left, _CHUNK))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
