"""Columns as scikit-learn's OneHotEncoder and SimpleImputer encode them."""

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

import inercia as ia
from inercia.problems.encoding import encoded, fit_columns
from inercia.problems.prepared import prepare


def table_of(**columns):
    kinds = {name: "text" if cells.dtype == object else "number" for name, cells in columns.items()}
    return ia.Table(columns, kinds, {}, ())


def test_text_is_one_hot():
    words = np.random.default_rng(0).choice(["b", "a", "ñ"], 50).astype(object)
    table = table_of(w=words)
    np.testing.assert_array_equal(
        encoded(fit_columns(table, ["w"]), table), OneHotEncoder(sparse_output=False).fit_transform(words[:, None])
    )


def test_gaps_are_medians_of_the_training_rows():
    numbers = np.random.default_rng(0).normal(size=40)
    numbers[::7] = np.nan
    table, train = table_of(x=numbers), np.arange(25)
    theirs = SimpleImputer(strategy="median", add_indicator=True).fit(numbers[train, None])
    columns = fit_columns(table, ["x"], train)
    np.testing.assert_array_equal(encoded(columns, table), theirs.transform(numbers[:, None]))
    assert columns[0].titles == ["x", "x is missing"]


def test_missing_text_is_none_of_the_values():
    table = table_of(w=np.array(["b", None, "a"], object))
    columns = fit_columns(table, ["w"])
    np.testing.assert_array_equal(encoded(columns, table), [[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert columns[0].titles == ["w = a", "w = b", "w is missing"]


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (
            table_of(w=np.array(["a", "c"], object), x=np.ones(2)),
            "column 'w' must be one of 'a', 'b', but in row 2 it is 'c'",
        ),
        (table_of(w=np.array(["a"], object), y=np.ones(1)), "but 'x' is not among them; other columns: 'y'"),
        (
            table_of(w=np.ones(1), x=np.ones(1)),
            "column 'w' must be of the kind 'text', as in training, but it is 'number'",
        ),
    ],
)
def test_rows_that_do_not_suit(new, message):
    columns = fit_columns(table_of(w=np.array(["a", "b"], object), x=np.arange(2.0)), ["w", "x"])
    with pytest.raises(ValueError, match=message):
        encoded(columns, new)


def test_a_column_of_names_is_refused():
    table = table_of(name=np.array([f"n{i}" for i in range(100)], object))
    with pytest.raises(ValueError, match="'name' has 100 values in 100 rows: say drop="):
        fit_columns(table, ["name"])


def test_preparing_the_digits_changes_nothing():
    parts, (train, test) = prepare(), ia.digits()
    np.testing.assert_array_equal(parts.train.x, train.x)
    np.testing.assert_array_equal(parts.test.y, test.y)


def test_signs_are_two_classes():
    x = np.arange(20.0)[:, None]
    parts = prepare(ia.Dataset(x, np.where(x[:, 0] > 9, 1, -1)))
    assert parts.encoding.target.classes == (-1, 1)
    assert set(parts.train.y) == {0, 1}
