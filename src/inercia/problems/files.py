"""Data sets from the user's own files: tables, NPZ and IDX, also gzipped.

Whatever a file holds, it is either read to its end or refused in one sentence: nothing is unpickled, and a header's
sizes are compared with the file before memory is asked for.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from inercia.problems.data import Dataset, checked
from inercia.problems.encoding import encoded, fit_columns
from inercia.problems.table import FileError
from inercia.problems.table_files import is_table, read_table, targeted
from inercia.problems.target import fit_target

#: IDX type codes (LeCun, the MNIST files).
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CHUNK = 1 << 20


def read(
    file: str | Path,
    labels: str | Path | None = None,
    *,
    target: str | int = -1,
    task: str = "auto",
    gaps: str = "median",
    **table: Any,
) -> Dataset:
    """Read (x, y) by the file's ending: .csv, .tsv, .npz, .idx or -ubyte, each also with .gz (not .npz); .parquet.

    Text becomes one-hot columns, missing cells the median and a column that tells them, dates days since 1970:
    `read_table` gives the columns by name instead.

    Args:
        file: a table, an NPZ with arrays x and y, or the IDX file of the inputs.
        labels: the IDX file of the labels; IDX only.
        target: the column to predict, by name or by number; tables only.
        task: "classification", "regression" or "auto", by the rule of `inercia.problems.target`; tables only.
        gaps: "median", or "refuse" to raise where a cell is missing; tables only.
        **table: `header`, `text`, `drop` and `formats` of `read_table`.

    Returns:
        Dataset: x (N, inputs) float64. y is (N,) int32 for classes: integers as they are written, text by its
        place in the order of the alphabet; else (N, outputs) float64.

    Raises:
        FileError: a file that is missing, damaged, ragged or empty, and what `read_table` refuses, with the place.

    Example:
        >>> import tempfile, pathlib
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "t.csv"
        >>> _ = file.write_text("a,b,label\\n0.5,1,0\\n2,3.5,1\\n")
        >>> data = read(file)
        >>> data.x.tolist(), data.y.tolist()
        ([[0.5, 1.0], [2.0, 3.5]], [0, 1])
    """
    path = Path(file)
    if not is_table(path):
        return read_arrays(path, labels)
    if labels is not None:
        raise FileError(f"{path}: labels name a second file for IDX data only.")
    found = read_table(path, **table)
    try:
        name, inputs = targeted(found, target)
        fitted, _ = fit_target(found.columns[name], name, task)
        x = encoded(fit_columns(found, inputs, gaps=gaps), found)
    except ValueError as error:
        raise FileError(f"{path}: {error}") from None
    y = found.columns[name]
    if fitted.classes is None:
        return _dataset(path, x, y[:, None])
    integers = all(isinstance(value, int) for value in fitted.classes)
    return _dataset(path, x, y.astype(np.int64) if integers else fitted.encoded(y))


def read_arrays(file: str | Path, labels: str | Path | None = None) -> Dataset:
    """Read (x, y) from an NPZ file or a pair of IDX files, as `read` does."""
    path = Path(file)
    ending = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    kind = ending.removesuffix(".gz").lower()
    if not path.is_file():
        raise FileError(f"{path}: there is no such file.")
    if kind == ".npz":
        if labels is not None:
            raise FileError(f"{path}: labels name a second file for IDX data only.")
        return _read_npz(path)
    if kind == ".idx" or "ubyte" in path.name:
        if labels is None:
            raise FileError(f"{path}: IDX inputs need the IDX file of their labels too.")
        return _dataset(path, read_idx(path), read_idx(labels))
    raise FileError(
        f"{path}: the ending must be .csv, .tsv, .parquet, .npz, .idx or -ubyte (also .gz), but it is {ending!r}."
    )


def read_inputs(file: str | Path) -> np.ndarray:
    """Read rows to predict from: x of an NPZ file, or an IDX file."""
    path = Path(file)
    if path.suffix.lower() != ".npz":
        return read_idx(path)
    if not path.is_file():
        raise FileError(f"{path}: there is no such file.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x = arrays["x"]
    except Exception as error:  # as in `_read_npz`
        raise FileError(f"{path}: it cannot be read as NPZ with x ({type(error).__name__}: {error}).") from None
    return _dataset(path, x, np.zeros(np.shape(x)[:1], np.int32)).x


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


def _dataset(path: Path, x: np.ndarray, y: np.ndarray) -> Dataset:
    for name, array in (("x", x), ("y", y)):
        if array.dtype.kind not in "fiub":
            raise FileError(f"{path}: {name} must hold real numbers, but its dtype is {array.dtype}.")
        if array.ndim == 0:
            raise FileError(f"{path}: {name} must have rows, but it is one number.")
    x = x.reshape(len(x), math.prod(x.shape[1:]))
    if y.dtype.kind in "iub" and y.size and y.min() >= -(2**31) and y.max() < 2**31:
        y = y.astype(np.int32)
    else:  # what no label can be
        y = y.astype(np.float64).reshape(len(y), math.prod(y.shape[1:]))
    if x.dtype.kind != "u":
        x = x.astype(np.float64)
    try:
        return checked((x, y))
    except ValueError as error:
        raise FileError(f"{path}: {error}") from None


def _open(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")


def _at_most(stream: Any, size: int) -> bytes:
    """Read up to `size` bytes, asking for memory only as they come."""
    parts, left = [], size
    while left > 0 and (part := stream.read(min(left, _CHUNK))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
