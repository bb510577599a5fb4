"""Tables as people have them, beside pandas, and what could be read in two ways."""

import gzip
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import inercia as ia
from inercia.problems.table import MISSING

PLAIN = "a,b,label\n0.5,1,x\n2,3.5,y\n"
WAYS = {
    "commas": ("t.csv", PLAIN.encode()),
    "semicolons": ("t.csv", PLAIN.replace(",", ";").encode()),
    "decimal commas": ("t.csv", PLAIN.replace(",", ";").replace(".", ",").encode()),
    "tabs": ("t.csv", PLAIN.replace(",", "\t").encode()),
    "tsv": ("t.tsv", PLAIN.replace(",", "\t").encode()),
    "bars": ("t.csv", PLAIN.replace(",", "|").encode()),
    "spaces": ("t.csv", PLAIN.replace(",", " , ").encode()),
    "Windows": ("t.csv", PLAIN.replace("\n", "\r\n").encode()),
    "old Mac": ("t.csv", PLAIN.replace("\n", "\r").encode()),
    "both ends of line": ("t.csv", PLAIN.replace("\n", "\r\n", 1).encode()),
    "no last end": ("t.csv", PLAIN.rstrip().encode()),
    "blank lines": ("t.csv", PLAIN.replace("\n", "\n\n").encode()),
    "quotes": ("t.csv", b'"a","b","label"\n"0.5",1,"x"\n2,"3.5","y"\n'),
    "a mark of UTF-8": ("t.csv", b"\xef\xbb\xbf" + PLAIN.encode()),
    "UTF-16": ("t.csv", PLAIN.encode("utf-16")),
    "UTF-16 unmarked": ("t.csv", PLAIN.encode("utf-16-le")),
    "gzip": ("t.csv.gz", gzip.compress(PLAIN.encode())),
    "capitals": ("T.CSV", PLAIN.encode()),
    "a name of wildcards": ("t[1]*.csv", PLAIN.encode()),
    "an empty last column": ("t.csv", PLAIN.replace("\n", ",\n").encode()),
    "pandas' index": ("t.csv", b",a,b,label\n0,0.5,1,x\n1,2,3.5,y\n"),
}


def written(folder, name, content):
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize("way", [w for w in WAYS if w != "pandas' index"])
def test_one_table_written_in_many_ways(tmp_path, way):
    table = ia.read_table(written(tmp_path, *WAYS[way]))
    assert table.kinds == {"a": "number", "b": "number", "label": "text"}
    assert {name: column.tolist() for name, column in table.columns.items()} == {
        "a": [0.5, 2.0], "b": [1.0, 3.5], "label": ["x", "y"],
    }  # fmt: skip
    assert table.columns["a"].dtype == np.float64


def test_the_index_that_pandas_writes_is_no_input(tmp_path):
    frame = pd.DataFrame({"a": np.arange(5) ** 2.0, "y": list("uvuvu")})
    frame.to_csv(tmp_path / "t.csv")
    table = ia.read_table(tmp_path / "t.csv")
    assert list(table.columns) == ["a", "y"]
    assert "numbers the rows" in table.notes[0]


def test_parquet_and_latin_1(tmp_path):
    days = np.array(["2024-01-03", "1969-12-31"], "datetime64[D]")
    import duckdb

    duckdb.sql(
        "SELECT * FROM (VALUES (DATE '2024-01-03', 1.5::DECIMAL(4,1), TRUE, 'sí', 9007199254740991), "
        "(DATE '1969-12-31', NULL, FALSE, NULL, 3)) t(day, x, flag, word, big)"
    ).write_parquet(str(tmp_path / "t.parquet"))
    table = ia.read_table(tmp_path / "t.parquet")
    assert table.kinds == {"day": "date", "x": "number", "flag": "text", "word": "text", "big": "number"}
    np.testing.assert_array_equal(table.columns["day"], days.astype(int))
    np.testing.assert_array_equal(table.columns["x"], [1.5, np.nan])
    assert table.columns["word"].tolist() == ["sí", None]
    assert table.columns["big"].tolist() == [9007199254740991, 3]
    latin = ia.read_table(written(tmp_path, "t.csv", "año,word\n1,sí\n2,ñu\n".encode("latin-1")))
    assert latin.columns["word"].tolist() == ["sí", "ñu"]
    assert latin.columns["año"].tolist() == [1, 2]


def test_missing_cells(tmp_path):
    rows = "".join(f"{i},{word},{word}\n" for i, word in enumerate(MISSING))
    table = ia.read_table(written(tmp_path, "t.csv", f"i,number,word\n100,1.5,x\n{rows}"))
    assert table.kinds["number"] == "number"
    assert table.columns["number"].tolist()[0] == 1.5
    assert np.isnan(table.columns["number"][1:]).all()
    assert table.columns["word"].tolist() == ["x", *[None] * len(MISSING)]


@pytest.mark.parametrize(
    ("cells", "days"),
    [
        (["2024-01-03", "2024-02-29"], [19725, 19782]),
        (["2024/01/03", "2024/02/29"], [19725, 19782]),
        (["2024-01-03T12:00:00Z", "2024-01-03 14:00:00+02"], [19725.5, 19725.5]),
        (["03/01/2024", "29/02/2024"], [19725, 19782]),
        (["01/03/2024", "02/29/2024 06:00"], [19725, 19782.25]),
        (["3.1.2024", "29.2.2024"], [19725, 19782]),
        (["03 Jan 2024", "29 Feb 2024"], [19725, 19782]),
        (["2024-01", "2024-02"], [19723, 19754]),
    ],
)
def test_dates_are_days(tmp_path, cells, days):
    table = ia.read_table(written(tmp_path, "t.csv", "d,x\n" + "".join(f"{c},1\n" for c in cells)))
    assert table.kinds["d"] == "date"
    np.testing.assert_allclose(table.columns["d"], days, rtol=1e-15)


def test_what_looks_like_numbers_and_is_none(tmp_path):
    table = ia.read_table(written(tmp_path, "t.csv", "month,x\n2024_01,1\n2024_02,2\n2024_01,3\n"))
    assert table.columns["month"].tolist() == ["2024_01", "2024_02", "2024_01"]
    codes = ia.read_table(written(tmp_path, "t.csv", "zip,x\n01234,1\n56789,2\n"), text=["zip"])
    assert codes.columns["zip"].tolist() == ["01234", "56789"]


def test_an_underscore_far_down_is_no_number(tmp_path):
    file = written(tmp_path, "t.csv", "a,b\n" + "1,2\n" * 5000 + "1,2024_01\n")
    with pytest.raises(ia.FileError, match=r"row 5001, column 'b' must be a finite number, .* but it is '2024_01'"):
        ia.read_table(file)


def test_seconds_and_big_integers_keep_their_digits(tmp_path):
    seconds = 1_700_000_000 + np.arange(60)
    file = written(tmp_path, "t.csv", "s,y\n" + "".join(f"{s},{9007199254740991 - s}\n" for s in seconds))
    data = ia.read(file)
    np.testing.assert_array_equal(data.x[:, 0], seconds)
    np.testing.assert_array_equal(data.y[:, 0], 9007199254740991 - seconds)
    assert len(np.unique(ia.standardise(ia.split(data)).train.x)) == 48


HEADERS = {
    "0,1,2\n3.5,1.25,0\n2,3.5,1\n": ["0", "1", "2"],
    "0,1,2,3\n5,6,7,8\n9,9,9,9\n": ["0", "1", "2", "3"],
    "5,1,2\n3,1,0\n2,3,1\n": None,
    "1,2,3\n4,5,6\n": None,
    "bob,3,0.5\nann,4,0.6\n": None,
    "name,city\nbob,paris\nann,rome\n": ["name", "city"],
    "x,2020\n1,5\n2,6\n": ["x", "2020"],
}


@pytest.mark.parametrize("content", HEADERS)
def test_headers(tmp_path, content):
    file, names = written(tmp_path, "t.csv", content), HEADERS[content]
    table = ia.read_table(file)
    assert list(table.columns) == (names or [f"column {i + 1}" for i in range(len(table.columns))])
    assert len(table) == content.count("\n") - (names is not None)
    assert len(
        ia.read_table(file, header=False, text=[f"column {i + 1}" for i in range(len(table.columns))])
    ) == content.count("\n")


BAD = {
    "a header in two ways": ("0,1\n3,1\n2,3\n", "may be names or numbers: say header=True or header=False"),
    "dates in two ways": ("d,x\n03/01/2024,1\n04/02/2024,2\n", r"may be %d/%m/%Y or %m/%d/%Y: say formats=\{'d'"),
    "mixed": (
        "a,b\n1,2\n3,x\n4,5\n",
        r"row 2, column 'b' must be a finite number, as 2 of its 3 cells are, but it is 'x'",
    ),
    "infinite": ("a,b\n1,2\n3,1e999\n", "row 2, column 'b' must be a finite number"),
    "inf": ("a,b\n1,2\n3,inf\n", "row 2, column 'b' must be a finite number"),
    "ragged": ("a,b\n1,2\n3,4,5\n", "line 3 has 3 cells, but the table has 2 columns"),
    "short": ("a,b\n1,2\n3\n", "line 3 has 1 cells, but the table has 2 columns"),
    "open quote": ('a,b\n1,"2\n3,4\n', "line 2"),
    "empty": ("", "no rows"),
    "only names": ("a,b\n", "no rows"),
    "zeros": ("a,b\n1,\0\n", "as text in UTF-8, UTF-16 or Latin-1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables(tmp_path, case):
    content, message = BAD[case]
    file = written(tmp_path, "t.csv", content)
    with pytest.raises(ia.FileError, match=message) as caught:
        ia.read_table(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_the_arguments_decide(tmp_path):
    dates = written(tmp_path, "d.csv", BAD["dates in two ways"][0])
    assert ia.read_table(dates, formats={"d": "%d/%m/%Y"}).columns["d"].tolist() == [19725, 19757]
    with pytest.raises(ia.FileError, match="row 1, column 'd' must be a date as %Y-%m, but it is '03/01/2024'"):
        ia.read_table(dates, formats={"d": "%Y-%m"})
    mixed = written(tmp_path, "m.csv", BAD["mixed"][0])
    assert ia.read_table(mixed, text=["b"]).columns["b"].tolist() == ["2", "x", "5"]
    assert list(ia.read_table(mixed, drop=["b"]).columns) == ["a"]
    with pytest.raises(ia.FileError, match="drop names the column 'c', but there are 'a', 'b'"):
        ia.read_table(mixed, drop=["c"])


def test_without_duckdb(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ImportError, match="tables are read by DuckDB: pip install duckdb"):
        ia.read_table(written(tmp_path, "t.csv", PLAIN))


CELL = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr), st.integers(-(10**18), 10**18).map(str), st.just("")
)


@pytest.mark.slow
@settings(max_examples=30)
@given(
    st.lists(st.tuples(CELL, CELL), min_size=2, max_size=12), st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"])
)
def test_random_numbers_are_those_of_pandas(tmp_path_factory, rows, separator, end):
    rows = [("1", "2"), *rows]
    file = tmp_path_factory.mktemp("t") / "t.csv"
    file.write_text("a" + separator + "b" + end + "".join(separator.join(row) + end for row in rows), newline="")
    theirs = pd.read_csv(file, sep=separator, dtype=np.float64)
    ours = ia.read_table(file)
    np.testing.assert_array_equal(np.column_stack(list(ours.columns.values())), theirs.to_numpy())


WORD = st.text(st.sampled_from("abñ€ 0\"',;x\n"), max_size=5)


@pytest.mark.slow
@settings(max_examples=30)
@given(
    st.lists(st.tuples(WORD, WORD), min_size=2, max_size=8),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["utf-8", "utf-16"]),
)
def test_random_text_is_that_of_pandas(tmp_path_factory, rows, separator, encoding):
    file = tmp_path_factory.mktemp("t") / "t.csv"
    frame = pd.DataFrame([("one", "two"), *rows], columns=["u", "v"])
    frame.to_csv(file, sep=separator, index=False, encoding=encoding)
    ours = ia.read_table(file, text=["u", "v"], header=True)
    for name in ("u", "v"):
        expected = [None if word.strip() in MISSING else word.strip() for word in frame[name]]
        found = ours.columns.get(name, np.full(len(frame), None)).tolist()
        assert found == expected
