import gzip
import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import inercia as ia
from fuzz_readers import hunt


def idx(array, code):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


def write(path, content):
    if isinstance(content, str):
        content = content.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_csv(tmp_path, name):
    file = write(tmp_path / name, "a,class,b\n1,0,2.5\n-3e-1,2,4\n")
    data = ia.read(file, target="class")
    np.testing.assert_array_equal(data.x, [[1, 2.5], [-0.3, 4]])
    assert data.x.dtype == np.float64
    assert data.y.tolist() == [0, 2]
    assert data.y.dtype == np.int32
    by_last = ia.read(file)
    assert by_last.y.tolist() == [[2.5], [4.0]]
    assert by_last.y.dtype == np.float64


def test_text_gaps_and_dates_are_numbers(tmp_path):
    file = write(
        tmp_path / "t.csv", "day,town,size,sold\n2024-01-03,Rome,1.5,yes\n2024-01-04,,NA,no\n2024-01-05,Bonn,2.5,no\n"
    )
    data = ia.read(file)
    np.testing.assert_array_equal(data.x, [[19725, 0, 1, 0, 1.5, 0], [19726, 0, 0, 1, 2, 1], [19727, 1, 0, 0, 2.5, 0]])
    assert data.y.tolist() == [1, 0, 0]
    with pytest.raises(ia.FileError, match="no cell may be missing, but column 'town' misses 1, the first in row 2"):
        ia.read(file, gaps="refuse")


def test_npz(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.ones((3, 2, 2)), y=np.array([1, 0, 1], np.uint8))
    data = ia.read(tmp_path / "d.npz")
    assert data.x.shape == (3, 4)
    assert data.y.tolist() == [1, 0, 1]


@pytest.mark.parametrize("ending", ["-idx3-ubyte", "-idx3-ubyte.gz", ".idx"])
def test_idx(tmp_path, ending):
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    a = write(tmp_path / f"images{ending}", idx(images, 8))
    b = write(tmp_path / f"labels{ending}", idx(np.array([7, 1], np.uint8), 8))
    data = ia.read(a, b)
    np.testing.assert_array_equal(data.x, images.reshape(2, 12))
    assert data.y.tolist() == [7, 1]


@pytest.mark.parametrize(("code", "dtype"), [(9, ">i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")])
def test_idx_types(tmp_path, code, dtype):
    array = np.array([[1, -2], [3, 4]], dtype)
    np.testing.assert_array_equal(ia.read_idx(write(tmp_path / "a.idx", idx(array, code))), array)


BAD = {
    "mixed": ("t.csv", "a,b\n1,2\n3,x\n", "row 2, column 'b' must be a finite number, .* but it is 'x'"),
    "ragged": ("t.csv", "1,2\n3,4,5\n", "line 2 has 3 cells, but the table has 2 columns"),
    "empty": ("t.csv", "", "the table has no rows"),
    "one column": ("t.csv", "1.5\n2\n", "at least one input are not among 1 columns"),
    "one class": (
        "t.csv",
        "1,3\n2,3\n",
        "must take at least two values, but all of its rows are 3.0",
    ),
    "no target": ("t.csv", "a,b\n1,2\n2,\n", "target 'b' must be there in every row, but 1 miss it, the first row 2"),
    "two targets": ("t.csv", "a,y,y\n1,2,3\n4,5,6\n", "must name one column, but the header names it twice"),
    "binary": ("t.csv", b"\xff\xfe\x00", "cannot be read"),
    "npz": ("t.npz", b"PK\x03\x04 no", "cannot be read as NPZ"),
    "parquet": ("t.parquet", b"PAR1 no", "cannot be read"),
    "ending": ("t.txt", "1,2", "the ending must be"),
    "idx magic": ("t.idx", b"\1\2\3\4", "no IDX file"),
    "gzip": ("t.csv.gz", None, "cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path, case):
    name, content, message = BAD[case]
    file = tmp_path / name
    if content is None:
        file.write_bytes(b"not gzip")
    else:
        write(file, content)
    with pytest.raises(ia.FileError, match=message) as caught:
        ia.read(file, labels=file if case == "idx magic" else None, target="y" if case == "two targets" else -1)
    assert str(file) in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(ia.FileError, match="there is no such file"):
        ia.read(tmp_path / "none.csv")


def test_closest_column_is_named(tmp_path):
    with pytest.raises(ia.FileError, match="did you mean 'label'"):
        ia.read(write(tmp_path / "t.csv", "a,label\n1,2\n3,4\n"), target="lable")


@pytest.mark.parametrize("name", ["a.idx", "a.idx.gz"])
def test_a_small_idx_file_cannot_ask_for_gigabytes(tmp_path, name):
    file = write(tmp_path / name, struct.pack(">BBBB3I", 0, 0, 14, 3, 2**31, 2**20, 2**9) + b"12345678")
    with pytest.raises(ia.FileError, match=r"promises \d+ bytes .* but there are 8"):
        ia.read_idx(file)


def test_pickles_are_not_loaded(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.array([{"a": 1}], dtype=object), y=np.zeros(1))
    with pytest.raises(ia.FileError, match="allow_pickle"):
        ia.read(tmp_path / "d.npz")


@pytest.mark.slow
@settings(max_examples=60)
@given(st.binary(max_size=60), st.sampled_from([".csv", ".npz", ".idx", ".csv.gz", ".idx.gz", ".tsv", ".parquet"]))
@example(b"\0\0\x08\x01\0\0\0\x02\1\2", ".idx")
@example(b'1,"2\n3', ".csv")
def test_any_bytes_give_data_or_the_typed_error(tmp_path_factory, content, ending):
    file = tmp_path_factory.mktemp("f") / f"f{ending}"
    write(file, content)
    try:
        data = ia.read(file, labels=file if "idx" in ending else None)
    except ia.FileError:
        return
    assert len(data.x) == len(data.y) > 0


@pytest.mark.slow
def test_a_short_hunt(tmp_path):
    was_read, refused = hunt(200, tmp_path)
    assert min(was_read, refused) > 20
