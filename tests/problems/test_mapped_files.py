"""Rows that stay in their files: what is read is what was written, and what cannot be mapped is refused by name."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

import inercia as ia

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((30, 4, 3)).astype(np.float32), RNG.integers(0, 5, 30).astype(np.int32)
CUTS = ((0, 7), (7, 8), (8, 30))


def as_npz(folder):
    for k, (a, b) in enumerate(CUTS):
        np.savez(folder / f"{k}.npz", x=X[a:b], y=Y[a:b])
    return str(folder / "*.npz")


def as_npy(folder):
    for k, (a, b) in enumerate(CUTS):
        np.save(folder / f"x{k}.npy", X[a:b])
        np.save(folder / f"y{k}.npy", Y[a:b])
    return [(folder / f"x{k}.npy", folder / f"y{k}.npy") for k in range(3)]


def as_idx(folder):
    for k, (a, b) in enumerate(CUTS):
        (folder / f"x{k}.idx").write_bytes(
            struct.pack(">4B3I", 0, 0, 0x0D, 3, b - a, 4, 3) + X[a:b].astype(">f4").tobytes()
        )
        (folder / f"y{k}.idx").write_bytes(struct.pack(">4BI", 0, 0, 0x0C, 1, b - a) + Y[a:b].astype(">i4").tobytes())
    return [(folder / f"x{k}.idx", folder / f"y{k}.idx") for k in range(3)]


@pytest.mark.parametrize("form", [as_npz, as_npy, as_idx])
def test_rows_are_those_written(tmp_path, form):
    data = ia.shards(form(tmp_path))
    rows = RNG.integers(0, 30, (6, 5))
    assert len(data) == 30
    assert data.dtype == (np.float32, np.int32)
    np.testing.assert_array_equal(data.take(0, rows), X[rows])
    np.testing.assert_array_equal(data.take(1, rows), Y[rows])
    np.testing.assert_array_equal(data.take(0, [3, 1]), X[[3, 1]])  # all of one shard


def test_only_the_rows_asked_for_are_copied(tmp_path):
    x = np.zeros((20_000, 100), np.float32)  # 8 MB, which savez puts at an odd address
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(20_000))
    data = ia.shards([tmp_path / "a.npz"])
    assert data.take(0, []).shape == (0, 100)
    tracemalloc.start()
    data.take(0, range(100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


def test_a_number_that_is_not_finite_is_named(tmp_path):
    x = X.copy()
    x[11, 2, 1] = np.nan
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    np.savez(tmp_path / "b.npz", x=x, y=Y)
    data = ia.shards([tmp_path / "a.npz", tmp_path / "b.npz"])
    data.take(0, range(41))
    with pytest.raises(ValueError, match=r"x must be finite, but row 11 of .*b\.npz is not"):
        data.take(0, range(60))


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def stored(x, y):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", x)
        archive.writestr("y.npy", y)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"nonsense", "cannot be read as NPZ"),
        (stored(npy(X)[:90], npy(Y)), "cannot be read as NP"),
        (stored(npy(X), npy(Y))[:400], "cannot be read as NPZ"),
        (stored(npy(X), npy(Y[:5])), "as many rows as each other"),
        (stored(npy(X[:0]), npy(Y[:0])), "holds no rows"),
        (stored(npy(X), npy(np.array([str(k) for k in Y]))), "y must hold real numbers"),
        (stored(npy(X), npy(np.array([{}] * 30), allow_pickle=True)), "never unpickled"),
        (stored(npy(np.asfortranarray(X)), npy(Y)), "column by column"),
        (
            stored(npy(X).replace(b"(30, 4, 3)", b"(90, 4, 9)"), npy(Y)),
            "promises shape .90, 4, 9., 13.* but the file has",
        ),
    ],
)
def test_what_cannot_be_mapped(tmp_path, content, sentence):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ia.FileError, match=sentence):
        ia.shards([tmp_path / "a.npz"])


def test_files_that_do_not_suit(tmp_path):
    np.savez_compressed(tmp_path / "small.npz", x=X, y=Y)
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    np.savez(tmp_path / "b.npz", x=X.astype(float), y=Y)
    np.savez(tmp_path / "c.npz", z=X)
    (tmp_path / "a.idx.gz").write_bytes(b"")
    (tmp_path / "a.idx").write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 2**31, 2**31))
    for files, sentence in (
        (tmp_path / "no*.npz", "no file matches"),
        ([], "at least one shard"),
        ([tmp_path / "none.npz"], "no such file"),
        ([tmp_path / "small.npz"], r"compressed and cannot be mapped: write it with numpy\.savez"),
        ([tmp_path / "c.npz"], "must hold x and y, but it holds z"),
        ([tmp_path / "a.npz", tmp_path / "b.npz"], r"rows of x must be those of .*a\.npz, float32 .*float64"),
        ([(tmp_path / "a.idx.gz", tmp_path / "a.idx.gz")], "unpack it first"),
        ([(tmp_path / "a.idx", tmp_path / "a.idx")], "promises shape"),
        ([(tmp_path / "a.npz",)], "a pair"),
    ):
        with pytest.raises(ia.FileError, match=sentence):
            ia.shards(files)
