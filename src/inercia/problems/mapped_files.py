"""Data larger than memory: rows that stay in their files and are read as a training asks for them.

A shard is an NPZ file with arrays x and y (written by `numpy.savez`, which does not compress), or a pair of files
(x, y), each NPY or IDX. The files are mapped into memory, not read: only the rows of a batch are ever copied.
"""

import glob
import math
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inercia.core import check
from inercia.problems.files import FileError, idx_header

#: Bytes of a local header in a ZIP archive, before the name and the extra field whose lengths it ends with.
_LOCAL_HEADER = 30


class Shards:
    """Rows of many mapped files, numbered through; `train` takes it as data.

    Attributes:
        names: one name a shard.
        shape: of x and of y, (N, ...) each.
        dtype: of x and of y, as the files hold them, in the machine's byte order.
    """

    def __init__(self, names: list[str], parts: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self.names = names
        self._starts = np.cumsum([0, *(len(x) for x, _ in parts)])
        self.shape = tuple((len(self), *parts[0][i].shape[1:]) for i in (0, 1))
        self.dtype = tuple(parts[0][i].dtype.newbyteorder("=") for i in (0, 1))
        self._swapped = tuple(parts[0][i].dtype != self.dtype[i] for i in (0, 1))
        self._rows = [tuple(_rows_as_bytes(part) for part in pair) for pair in parts]

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._starts[-1])

    def take(self, which: int, rows: Any) -> np.ndarray:
        """Copy rows out of the files.

        Args:
            which: 0 for x, 1 for y.
            rows: row numbers, any shape, each in 0..N-1.

        Returns:
            Array of rows.shape + the shape of one row.

        Raises:
            ValueError: a number that is not finite, with its row and its file.
        """
        rows = np.asarray(rows)
        flat = rows.ravel()
        home = np.searchsorted(self._starts, flat, side="right") - 1
        within = flat - self._starts[home]
        taken = aligned((flat.size, *self.shape[which][1:]), self.dtype[which])
        out = _rows_as_bytes(taken)
        for shard in np.unique(home):
            here = np.flatnonzero(home == shard)
            if len(here) == flat.size:
                np.take(self._rows[shard][which], within, out=out, mode="clip")
            else:
                out[here] = self._rows[shard][which][within[here]]
        if self._swapped[which]:
            taken.byteswap(inplace=True)
        if taken.dtype.kind == "f" and not check.all_finite(taken):
            n = int(np.argmin(np.isfinite(taken).reshape(flat.size, -1).all(axis=1)))
            raise ValueError(f"{'xy'[which]} must be finite, but row {within[n]} of {self.names[home[n]]} is not.")
        return taken.reshape(*rows.shape, *taken.shape[1:])


def shards(files: Any) -> Shards:
    """Map data files, for training on more rows than fit into memory.

    Args:
        files: a list with one entry a shard, an NPZ file or a pair (file of x, file of y) of NPY or IDX files; or a
            pattern such as "data/*.npz", whose matches are taken in the order of their names.

    Returns:
        Shards: rows numbered through all files in their order. Numbers stay as the files hold them: pixels that are
        bytes reach the loss as bytes, and are best scaled there.

    Raises:
        FileError: a file that is missing, damaged, compressed, empty or not numeric; shards whose rows differ.

    Example:
        >>> import tempfile, pathlib
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for k in range(2):
        ...     np.savez(folder / f"{k}.npz", x=np.full((3, 2), k, np.float32), y=np.arange(3))
        >>> data = shards(str(folder / "*.npz"))
        >>> len(data), data.take(0, [2, 3]).tolist(), data.take(1, [2, 3]).tolist()
        (6, [[0.0, 0.0], [1.0, 1.0]], [2, 0])
    """
    if isinstance(files, str | Path):
        listed: Sequence[Any] = sorted(glob.glob(str(files)))
        if not listed:
            raise FileError(f"{files}: no file matches this pattern.")
    else:
        listed = list(files)
        if not listed:
            raise FileError("files must name at least one shard, but the list is empty.")
    names, parts = [], []
    for entry in listed:
        pair = isinstance(entry, tuple | list)
        if pair and len(entry) != 2:
            raise FileError(f"a shard must be an NPZ file or a pair (x, y) of files, but it is {entry!r}.")
        name = str(entry[0] if pair else entry)
        arrays = (map_array(entry[0]), map_array(entry[1])) if pair else _map_npz(Path(entry))
        _check(name, arrays, (names[0], parts[0]) if parts else None)
        names.append(name)
        parts.append(arrays)
    return Shards(names, parts)


def map_array(file: str | Path) -> np.ndarray:
    """Map one NPY or IDX file, or raise `FileError`."""
    path = Path(file)
    if not path.is_file():
        raise FileError(f"{path}: there is no such file.")
    if path.suffix == ".gz":
        raise FileError(f"{path}: a compressed file cannot be mapped: unpack it first.")
    if path.suffix != ".npy":
        with open(path, "rb") as stream:
            shape, dtype = idx_header(stream, path)
            return _mapped(path, dtype, shape, stream.tell())
    with open(path, "rb") as stream:
        return _map_npy(path, stream, 0)


def _map_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise FileError(f"{path}: there is no such file.")
    try:
        with zipfile.ZipFile(path) as archive, open(path, "rb") as stream:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            missing = {"x", "y"} - members.keys()
            if missing:
                found = ", ".join(members) or "nothing"
                raise FileError(f"{path}: an NPZ file must hold x and y, but it holds {found}.")
            if any(members[name].compress_type != zipfile.ZIP_STORED for name in "xy"):
                raise FileError(f"{path}: it is compressed and cannot be mapped: write it with numpy.savez.")
            arrays = []
            for name in "xy":
                stream.seek(members[name].header_offset)
                header = stream.read(_LOCAL_HEADER)
                lengths = struct.unpack("<HH", header[-4:])
                arrays.append(_map_npy(path, stream, members[name].header_offset + _LOCAL_HEADER + sum(lengths)))
            return arrays[0], arrays[1]
    except FileError:
        raise
    except Exception as error:  # zipfile documents no closed list
        raise FileError(f"{path}: it cannot be read as NPZ ({type(error).__name__}: {error}).") from None


def _map_npy(path: Path, stream: Any, offset: int) -> np.ndarray:
    try:
        stream.seek(offset)
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(stream)
    except Exception as error:  # a damaged header is parsed as Python, and fails in many ways
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise FileError(f"{path}: it cannot be read as NPY ({reason}).") from None
    if fortran and len(shape) > 1:
        raise FileError(f"{path}: its numbers lie column by column: write it with numpy.ascontiguousarray.")
    return _mapped(path, dtype, shape, stream.tell())


def _mapped(path: Path, dtype: np.dtype, shape: tuple[int, ...], offset: int) -> np.ndarray:
    if dtype.hasobject:
        raise FileError(f"{path}: it holds Python objects, which are never unpickled.")
    needed, there = offset + math.prod(shape) * dtype.itemsize, path.stat().st_size
    if needed > there:
        raise FileError(f"{path}: its header promises shape {shape}, {needed} bytes, but the file has {there}.")
    if 0 in shape:
        raise FileError(f"{path}: it holds no rows (shape {shape}).")
    return np.asarray(np.memmap(path, dtype, "r", offset, shape))


def _rows_as_bytes(array: np.ndarray) -> np.ndarray:
    """View each row as one item of bytes: NumPy would copy an array of numbers that lie off their alignment."""
    flat = array.reshape(len(array), math.prod(array.shape[1:]))
    return flat.view(np.dtype((np.void, flat.shape[1] * flat.itemsize)))[:, 0]


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an empty array that begins at a multiple of 64 bytes, which JAX takes over on a CPU without a copy."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    return raw[(skip := -raw.ctypes.data % 64) : skip + size].view(dtype).reshape(shape)


def _check(name: str, arrays: tuple[np.ndarray, np.ndarray], first: Any) -> None:
    for letter, array in zip("xy", arrays, strict=True):
        if array.dtype.kind not in "fiub":
            raise FileError(f"{name}: {letter} must hold real numbers, but its dtype is {array.dtype}.")
    rows = [array.shape[:1] for array in arrays]
    if rows[0] != rows[1] or rows[0] == ():
        raise FileError(
            f"{name}: x and y must have as many rows as each other, but their shapes are {arrays[0].shape} and "
            f"{arrays[1].shape}."
        )
    if first is None:
        return
    for letter, array, model in zip("xy", arrays, first[1], strict=True):
        if (array.shape[1:], array.dtype) != (model.shape[1:], model.dtype):
            raise FileError(
                f"{name}: rows of {letter} must be those of {first[0]}, {model.dtype} {model.shape[1:]}, but they are "
                f"{array.dtype} {array.shape[1:]}."
            )
