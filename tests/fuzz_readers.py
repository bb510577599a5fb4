"""Feed the readers damaged files: each is read completely or refused with the typed error. Prints its counts.

Run alone for a long hunt: `python tests/fuzz_readers.py 100000`; the tests run a short one.
"""

import gzip
import io
import pickle
import resource
import struct
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import duckdb
import numpy as np

from inercia.problems.data import Dataset
from inercia.problems.files import read
from inercia.problems.mapped_files import shards
from inercia.problems.model_file import Model, load
from inercia.problems.network import Layer
from inercia.problems.prepared import prepare
from inercia.problems.table import FileError, Table

#: Files after which a log is told how far the hunt is.
TOLD = 10_000


class Trap:
    """Unpickling it leaves a file behind."""

    sprung = Path(tempfile.gettempdir()) / "inercia-pickle-was-loaded"

    def __reduce__(self):
        """Touch the file when unpickled."""
        return (Path.touch, (self.sprung,))


def seeds() -> list[tuple[str, bytes]]:
    """Return good files and traps, by ending."""
    npz, npy, trap = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(npz, x=np.eye(3, dtype=np.float32), y=np.arange(3))
    np.save(npy, np.arange(6, dtype=">f8").reshape(2, 3))
    np.savez_compressed(trap, x=np.array([Trap()], dtype=object), y=np.arange(1))
    idx = b"\0\0\x08\x02" + struct.pack(">II", 2, 3) + bytes(range(6))
    csv = b"a,b,label\n0.5,1,0\n2,3.5,1\n-1e3,nan,2\n"
    words = "day,town,label\n2024-01-03,Rome,no\n2024-02-29,Málaga,yes\nNA,Rome,no\n"
    return [
        (".csv", csv), (".csv", csv.replace(b",", b";")), (".csv.gz", gzip.compress(csv)), (".npz", npz.getvalue()),
        (".csv", words.encode()), (".csv", words.encode("utf-16")), (".parquet", parquet()),
        (".tsv", words.encode("latin-1").replace(b",", b"\t")), (".parquet", parquet()),
        (".model", model()), (".model", model()), (".model", labels_model()),
        (".npz", trap.getvalue()), (".npz", pickle.dumps(Trap())), (".idx", idx), (".idx.gz", gzip.compress(idx)),
        (".npy", npy.getvalue()), (".npy", npy.getvalue().replace(b"(2, 3)", b"(2**3, 3)")),
        (".idx", b"\0\0\x0e\x03" + struct.pack(">III", 2**31, 2**31, 8)),
    ]  # fmt: skip


@cache
def parquet() -> bytes:
    """Return a small Parquet file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "t.parquet"
        rows = "VALUES (DATE '2024-01-03', 'Rome', 1.5, 0), (NULL, 'Lima', NULL, 1), (DATE '2024-02-03', NULL, 2.5, 1)"
        duckdb.sql(f"SELECT * FROM ({rows}) t(day, town, x, label)").write_parquet(str(file))
        return file.read_bytes()


@cache
def model() -> bytes:
    """Return a small saved model."""
    table = Table({"a": np.arange(9.0), "b": np.array(list("uvu" * 3), object)}, {"a": "number", "b": "text"}, {}, ())
    params = [Layer(np.ones((1, 2), np.float32), np.zeros(2, np.float32))]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "m.npz"
        Model(params, (1, 2), "tanh", prepare(table).encoding, "0").save(file)
        return file.read_bytes()


@cache
def labels_model() -> bytes:
    """Return a small saved model of two labels a row, float64."""
    encoding = prepare(Dataset(np.arange(18.0).reshape(9, 2), np.eye(9)[:, :2])).encoding
    params = [Layer(np.ones((2, 3)), None), Layer(np.ones((3, 2)), np.zeros(2))]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "m.npz"
        Model(params, (2, 3, 2), "relu", encoding, "0").save(file)
        return file.read_bytes()


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Change, cut, repeat or insert some bytes."""
    data = bytearray(content)
    for _ in range(rng.integers(0, 5)):
        place = int(rng.integers(0, len(data) + 1))
        match rng.integers(0, 5):
            case 0 if place < len(data):
                data[place] ^= 1 << int(rng.integers(0, 8))
            case 1:
                del data[place:]
            case 2:
                data[place:place] = data[: int(rng.integers(0, 64))]
            case 3:
                data[place : place + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"1e999"])
            case _:
                data[place:place] = rng.bytes(int(rng.integers(0, 8)))
    return bytes(data)


def hunt(count: int, folder: Path, seed: int = 0) -> tuple[int, int]:
    """Read `count` damaged files; return how many were read and how many refused. Anything else is raised."""
    rng = np.random.default_rng(seed)
    good, was_read = seeds(), 0
    labels = folder / "labels.idx"
    labels.write_bytes(b"\0\0\x08\x01" + struct.pack(">I", 2) + b"\0\1")
    for done in range(count):
        if done and done % TOLD == 0:
            print(f"{done} files, {was_read} read", flush=True)
        ending, content = good[int(rng.integers(len(good)))]
        file = folder / f"data{ending}"
        file.write_bytes(damaged(content, rng))
        sound = [_refused_or(_load, file, labels)] if ending == ".model" else []
        sound += [_refused_or(_read_all, file, labels)] if ending not in {".npy", ".model"} else []
        if ending in {".npz", ".npy", ".idx"}:
            sound.append(_refused_or(_map_all, file, labels))
        was_read += any(sound)
    assert not Trap.sprung.exists(), "a pickle was loaded"
    return was_read, count - was_read


def _refused_or(use: Callable[[Path, Path], None], file: Path, labels: Path) -> bool:
    try:
        use(file, labels)
    except FileError:
        return False
    return True


def _read_all(file: Path, labels: Path) -> None:
    data = read(file, labels if ".idx" in file.name else None)
    assert np.isfinite(data.x).all()
    assert len(data.x) == len(data.y) > 0


def _load(file: Path, labels: Path) -> None:
    found = load(file)
    assert len(found.widths) >= 2
    assert found.encoding.target.outputs == found.widths[-1]
    assert all(np.isfinite(layer.w).all() for layer in found.params)
    if found.encoding.target.several:
        assert set(found.predict(np.ones((2, 2))).ravel()) <= {0, 1}


def _map_all(file: Path, labels: Path) -> None:
    data = shards([file if file.suffix == ".npz" else (file, labels)])
    for which in (0, 1):
        try:
            assert np.isfinite(data.take(which, range(len(data)))).all()
        except ValueError as error:  # numbers that are not finite are refused when they are used, and nothing else
            if "must be finite" not in str(error):
                raise


if __name__ == "__main__":
    count, seed = (int(word) for word in (*sys.argv[1:], *("100000", "0")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as temporary:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        was_read, refused = hunt(count, Path(temporary), seed)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"{was_read} read, {refused} refused, 0 other errors, no pickle loaded, memory grew by {grown:.0f} MiB")
