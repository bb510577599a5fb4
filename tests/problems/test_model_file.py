"""A model that is saved predicts as it did, and what does not suit it is refused by name."""

import json

import jax
import numpy as np
import pytest

import inercia as ia
from inercia.problems.prepared import prepare

TABLE = "day,town,size,price\n" + "".join(
    f"2024-01-{1 + i:02d},{'Rome' if i % 3 else 'Bonn'},{'' if i % 4 == 0 else i / 2},{10_000 + 100 * i * i}\n"
    for i in range(24)
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a model of the table with random weights, its file, and the table's."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "t.csv").write_text(TABLE)
    encoding = prepare(folder / "t.csv").encoding
    widths = (len(encoding.mean), 3, 1)
    model = ia.Model(ia.mlp(widths, "relu").init(jax.random.key(0)), widths, "relu", encoding, "0.1")
    model.save(folder / "m.npz")
    return model, folder / "m.npz", folder / "t.csv"


def by_hand(model, table):
    """Predict in NumPy, float64."""
    columns, mean, scale, target = model.encoding
    size, word = table.columns["size"], table.columns["town"]
    x = np.column_stack([
        table.columns["day"], word == "Bonn", word == "Rome",
        np.where(np.isnan(size), columns[2].median, size), np.isnan(size),
    ])  # fmt: skip
    x = (x - mean) / scale
    (w1, b1), (w2, b2) = ((np.asarray(w, np.float64), np.asarray(b, np.float64)) for w, b in model.params)
    return ((np.maximum(x @ w1 + b1, 0) @ w2 + b2) * target.scale + target.mean)[:, 0]


def test_saved_and_loaded_it_predicts_as_before(saved):
    model, file, rows = saved
    loaded = ia.load(file)
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
    np.testing.assert_allclose(loaded.predict(rows), by_hand(model, ia.read_table(rows)), rtol=1e-4)
    assert loaded.encoding.columns == model.encoding.columns
    assert loaded.encoding.target._replace(mean=0, scale=0) == model.encoding.target._replace(mean=0, scale=0)


def test_columns_go_by_name_in_any_order_and_others_are_left_alone(saved, tmp_path):
    model, file, rows = saved
    table = ia.read_table(rows)
    order = ["size", "town", "day"]
    lines = [",".join([f"x{i}", *(str(table.columns[name][i]) for name in order)]) for i in range(len(table))]
    lines = [
        line.replace(str(day), str(np.datetime64(int(day), "D")))
        for line, day in zip(lines, table.columns["day"], strict=True)
    ]
    (tmp_path / "o.csv").write_text("id," + ",".join(order) + "\n" + "\n".join(lines))
    np.testing.assert_allclose(ia.load(file).predict(tmp_path / "o.csv"), model.predict(rows), rtol=1e-6)


def test_a_data_frame_is_a_table(saved):
    pd = pytest.importorskip("pandas")
    model, _, rows = saved
    frame = pd.read_csv(rows, parse_dates=["day"])
    np.testing.assert_array_equal(model.predict(frame), model.predict(rows))
    with pytest.raises(ValueError, match="'town' is not among them"):
        model.predict(frame.drop(columns="town"))
    with pytest.raises(
        ValueError, match="column 'size' must be of the kind 'number', as in training, but it is 'text'"
    ):
        model.predict(frame.assign(size="big"))


def test_one_row_with_gaps_is_read_as_in_training(saved, tmp_path):
    (tmp_path / "one.csv").write_text("day,town,size\nNA,Rome,\n")
    model, file, _ = saved
    columns = model.encoding.columns
    found = model.encoding.inputs(ia.load(file).rows(tmp_path / "one.csv"))
    raw = found * model.encoding.scale + model.encoding.mean
    np.testing.assert_allclose(raw[0], [columns[0].median, 0, 1, columns[2].median, 1], rtol=1e-6, atol=1e-6)


NEW = {
    "a column is lacking": ("day,town\n2024-01-01,Rome\n", "but 'size' is not among them; other columns: none"),
    "a new town": (
        "day,town,size\n2024-01-01,Rome,1\n2024-01-02,Oslo,1\n",
        "'town' must be one of 'Bonn', 'Rome', but in row 2 it is 'Oslo'",
    ),
    "another kind": ("day,town,size\n2024-01-01,Rome,big\n", "column 'size' must be of the kind 'number'"),
    "no date": ("day,town,size\n17,Rome,1\n", "row 1, column 'day' must be a date as ISO, but it is '17'"),
}


@pytest.mark.parametrize("case", NEW)
def test_rows_that_do_not_suit_are_refused_by_name(saved, tmp_path, case):
    content, message = NEW[case]
    (tmp_path / "new.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        ia.load(saved[1]).predict(tmp_path / "new.csv")


def test_classes_keep_their_names_and_probabilities_sum_to_one(tmp_path):
    parts = prepare(ia.Dataset(np.random.default_rng(0).normal(size=(30, 2)), np.tile([-1, 1, 5], 10)))
    model = ia.Model(ia.mlp([2, 3]).init(jax.random.key(0)), (2, 3), "tanh", parts.encoding, "0.1")
    model.save(tmp_path / "m")
    loaded, x = ia.load(tmp_path / "m"), np.random.default_rng(1).normal(size=(7, 2))
    shares = loaded.predict_proba(x)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_array_equal(loaded.predict(x), np.array([-1, 1, 5])[shares.argmax(axis=1)])
    with pytest.raises(ValueError, match="rows must have 2 inputs, as in training, but they have 3"):
        loaded.predict(np.ones((1, 3)))


def of_labels(classes=2):
    parts = prepare(ia.Dataset(np.random.default_rng(0).normal(size=(30, 2)), np.eye(2)[np.arange(30) % 2]))
    model = ia.Model(ia.mlp([2, 3, classes]).init(jax.random.key(0)), (2, 3, classes), "tanh", parts.encoding, "0.1")
    return model, np.random.default_rng(1).normal(size=(7, 2))


def test_labels_are_saved_and_each_has_its_sigmoid(tmp_path):
    model, x = of_labels()
    model.save(tmp_path / "m")
    loaded = ia.load(tmp_path / "m")
    shares = loaded.predict_proba(x)
    np.testing.assert_array_equal(shares, model.predict_proba(x))
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    np.testing.assert_allclose(shares, 1 / (1 + np.exp(-model.outputs(x).astype(np.float64))), rtol=1e-12)
    np.testing.assert_array_equal(loaded.predict(x), shares > 0.5)
    for target in (
        {"name": "y", "classes": [0, 1, 2], "flat": False, "several": True},
        {"name": "y", "classes": [1, 0], "flat": False, "several": True},
    ):
        with pytest.raises(ia.FileError, match="cannot be read as a model"):
            ia.load(changed(tmp_path / "m", tmp_path / "bad.npz", about={"target": target}))


def test_a_file_of_the_first_format_is_read(saved, tmp_path):
    model, file, rows = saved
    old = changed(
        file, tmp_path / "old.npz", about={"format": 1, "target": {"name": "price", "classes": None, "flat": 1}}
    )
    np.testing.assert_array_equal(ia.load(old).predict(rows), model.predict(rows))


def test_arrays_that_do_not_suit_are_refused():
    model, x = of_labels()
    for bad, message in (
        (x * np.nan, r"rows\[0, 0\] is nan"),
        (x.astype(str), "must hold numbers"),
        (x[:, :1], "2 inputs"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            model.predict(bad)
    np.testing.assert_array_equal(model.predict(x.astype(">f8")), model.predict(x))
    pd = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="columns must have different names, but 2 are called 'a'"):
        model.predict(pd.DataFrame(x, columns=["a", "a"]))


def changed(file, to, **arrays):
    with np.load(file) as kept:
        everything = dict(kept)
    about = json.loads(str(everything["about"]))
    about.update(arrays.pop("about", {}))
    np.savez(to, **{**everything, "about": np.array(json.dumps(about)), **arrays})
    return to


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"about": {"format": 3, "inercia": "9.9"}},
            "a model of format 3, written by inercia 9.9, and this inercia reads formats up to 2",
        ),
        ({"about": {"widths": [7, 3, 1]}}, "cannot be read as a model"),
        ({"about": {"activation": "eval"}}, "cannot be read as a model"),
        ({"layer[0].w": np.ones((5, 3), np.float16)}, "weights are float32 or float64"),
        ({"layer[0].w": np.ones((5, 3))}, "weights are of several dtypes"),
        ({"about": {"target": {"name": "y", "classes": ["a"], "flat": 1, "several": True}}}, "but they are"),
        ({"mean": np.full(5, np.nan)}, "cannot be read as a model"),
        ({"mean": np.array([{}], object)}, "cannot be read as a model .*allow_pickle"),
    ],
)
def test_what_is_no_model(saved, tmp_path, change, message):
    with pytest.raises(ia.FileError, match=message):
        ia.load(changed(saved[1], tmp_path / "bad.npz", **change))


def test_weights_alone_are_no_model(tmp_path):
    np.savez(tmp_path / "w.npz", x=np.ones(3))
    with pytest.raises(ia.FileError, match="cannot be read as a model"):
        ia.load(tmp_path / "w.npz")
    with pytest.raises(ia.FileError, match="there is no such file"):
        ia.load(tmp_path / "none.npz")
