"""Weights, several labels, sparse rows, a second fit, a file: beside repeated rows, scikit-learn's and dense ones."""

import jax
import numpy as np
import pytest

pytest.importorskip("sklearn")
from scipy import sparse
from sklearn.datasets import load_iris
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight

import inercia as ia
from inercia.estimator import MLPClassifier, MLPRegressor, rows
from inercia.problems.empirical_risk import binary_cross_entropy

X, Y = load_iris(return_X_y=True)
RNG = np.random.default_rng(0)
TWICE = RNG.integers(0, 4, len(X))
SMALL = {"hidden_layer_sizes": 4, "learning_rate": 0.01, "epochs": 6, "random_state": 0}
FULL = {**SMALL, "batch_size": 10**6}  # so that no draw of batches differs


def same(a, b, tolerance=1e-9):
    x, y = (model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X) for model in (a, b))
    np.testing.assert_allclose(x, y, rtol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "y"), [(MLPClassifier, Y), (MLPRegressor, X[:, :2])], ids=["classes", "numbers"])
def test_a_weight_is_as_many_rows(kind, y):
    weighted = kind(**FULL).fit(X, y, TWICE)
    repeated = kind(**FULL).fit(X.repeat(TWICE, axis=0), y.repeat(TWICE, axis=0))
    same(weighted, repeated)
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-9)
    same(weighted, kind(**FULL).fit(X, y, 7.5 * TWICE))  # only their ratios count


@pytest.mark.parametrize("weight", ["balanced", {0: 3.0, 1: 0.5, 2: 1.0}], ids=["balanced", "dict"])
def test_weights_of_classes_are_scikit_learns(weight):
    x, y = X[30:], Y[30:]  # 20, 50 and 50 rows
    found = MLPClassifier(class_weight=weight, **SMALL).fit(x, y, TWICE[30:])
    same(found, MLPClassifier(**SMALL).fit(x, y, TWICE[30:] * compute_sample_weight(weight, y)), 0)


@pytest.mark.slow
def test_several_labels_a_row():
    labels = np.stack([X[:, 0] > 5.8, X[:, 2] > 4, X[:, 3] > 1], axis=1).astype(int)
    settings = {
        **SMALL,
        "epochs": 60,
        "learning_rate": 0.05,
        "hidden_layer_sizes": 16,
        "early_stopping": True,
        "n_iter_no_change": 60,
    }
    model = MLPClassifier(**settings).fit(X, labels)
    assert (model.predict(X) == labels).mean() > 0.92  # 0.95 by scikit-learn's
    assert model.score(X, labels) == (model.predict(X) == labels).all(axis=1).mean()  # all of a row's at once
    proba = model.predict_proba(X)
    z = np.log(proba / (1 - proba))
    np.testing.assert_array_equal(z > 0, model.predict(X))
    right = sum(log_loss(labels[:, k], proba[:, k]) for k in range(3))
    with jax.enable_x64(True):
        assert float(binary_cross_entropy(jax.numpy.asarray(z), labels).mean()) == pytest.approx(right, rel=1e-9)
    same(model, MLPClassifier(**settings).fit(X, sparse.csr_matrix(labels)), 0)
    with pytest.raises(ValueError, match="class_weight belongs to rows of one class each"):
        MLPClassifier(class_weight="balanced").fit(X, labels)
    with pytest.raises(ValueError, match="y must have the form of the first call"):
        model.partial_fit(X, Y)


def test_sparse_rows_are_dense_ones(monkeypatch):
    x = np.where(X > 3, X, 0)
    model = MLPClassifier(**SMALL).fit(sparse.csc_matrix(x), Y)
    same(model, MLPClassifier(**SMALL).fit(x, Y), 0)
    monkeypatch.setattr(rows, "AT_A_TIME", 100 * 4 * 8)  # two parts
    np.testing.assert_allclose(model.predict_proba(sparse.csr_array(x)), model.predict_proba(x), rtol=1e-12)
    monkeypatch.setattr(rows, "MOST_DENSE", 1000)
    with pytest.raises(ValueError, match=r"sparse X is made dense .* \(150, 4\) of float64 take .* TruncatedSVD"):
        model.fit(sparse.csr_matrix(x), Y)


def test_a_warm_start_goes_on():
    model = MLPRegressor(**(FULL | {"epochs": 3, "warm_start": True})).fit(X, Y)
    same(model.fit(X, Y), MLPRegressor(**FULL).fit(X, Y))
    assert model.n_iter_ == len(model.loss_curve_) == 6
    with pytest.raises(ValueError, match="warm_start goes on with a network of widths"):
        model.set_params(hidden_layer_sizes=5).fit(X, Y)
    classifier = MLPClassifier(**SMALL, warm_start=True).fit(X, Y)
    with pytest.raises(ValueError, match="y must hold only the classes"):
        classifier.fit(X, Y + 1)
    classifier.fit(X, Y)
    with pytest.raises(ValueError, match=r"warm_start goes on with rows of all classes \[0 1 2\], but y holds \[0 1\]"):
        classifier.fit(X[:100], Y[:100])


def test_a_fit_that_fails_leaves_no_model():
    model = MLPClassifier(**SMALL).fit(X, Y)
    for bad in (lambda: model.fit(X * np.nan, Y), lambda: model.fit(X, Y, -TWICE), lambda: model.fit(X[:, :0], Y)):
        model.fit(X, Y)
        with pytest.raises(ValueError, match=r"NaN|at least 0|0 feature"):
            bad()
        with pytest.raises(NotFittedError):
            model.predict(X)


@pytest.mark.slow
def test_numbers_keep_their_precision():
    for dtype in (np.float32, np.float64):
        model = MLPRegressor(**SMALL).fit(X.astype(dtype), Y).partial_fit(X, Y)
        assert {leaf.dtype for leaf in jax.tree.leaves(model.params_)} == {np.dtype(dtype)}


def test_a_saved_estimator_is_a_model(tmp_path):
    pd = pytest.importorskip("pandas")
    names = np.array(["setosa", "versicolor", "virginica"])[Y]
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    model = MLPClassifier(**SMALL).fit(frame, names)
    model.save(tmp_path / "m.npz")
    loaded = ia.load(tmp_path / "m.npz")
    frame[["d", "c", "b", "a"]].to_csv(tmp_path / "t.csv", index=False)
    for given in (frame, tmp_path / "t.csv"):
        np.testing.assert_array_equal(loaded.predict_proba(given), model.predict_proba(frame))
        np.testing.assert_array_equal(loaded.predict(given), model.predict(frame))
    with pytest.raises(ValueError, match="'d' is not among them; other columns: 'e'"):
        loaded.predict(frame.rename(columns={"d": "e"}))
    with pytest.raises(ValueError, match="the model was trained on a table with column names"):
        loaded.predict(X)
    with pytest.raises(NotFittedError):
        MLPRegressor().save(tmp_path / "n")


REFUSED = {
    "text": (X.astype(str), Y, "X must hold numbers, but its dtype is <U32: convert it to numbers first"),
    "dates": (np.zeros(X.shape, "M8[D]"), Y, r"X must hold numbers, but its dtype is datetime64\[D\]"),
    "time spans": (np.zeros(X.shape, "m8[s]"), Y, "X must hold numbers"),
    "a mask": (np.ma.masked_array(X, X > 5), Y, "X must have no mask"),
    "text to predict": (X, X[:, 0].astype(str), "y must hold numbers, but its dtype is <U32"),
    "several numbers to predict": (X, np.zeros((len(X), 2, 2)), "dim 3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_number_is_refused(case):
    x, y, message = REFUSED[case]
    for kind in (MLPClassifier, MLPRegressor)[case.endswith("predict") :]:
        with pytest.raises((ValueError, TypeError), match=message):
            kind(**SMALL).fit(x, y)
    if y is Y:
        model = MLPClassifier(**SMALL | {"epochs": 1}).fit(X, Y)
        with pytest.raises((ValueError, TypeError), match=message):
            model.predict(x)


READ = {
    "big-endian": lambda a: a.astype(">f8"),
    "read-only": lambda a: np.frombuffer(a.tobytes()).reshape(a.shape),
    "not contiguous": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "backwards": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "objects": lambda a: a.astype(object),
    "extended": lambda a: a.astype(np.longdouble),
    "lists": lambda a: a.tolist(),
    "sparse": sparse.coo_matrix,
}


@pytest.mark.parametrize("case", READ)
def test_other_arrays_of_the_same_numbers_are_the_same(case):
    model = MLPClassifier(**SMALL | {"epochs": 1}).fit(READ[case](X), Y.astype(">i4"))
    same(model, MLPClassifier(**SMALL | {"epochs": 1}).fit(X, Y), 0)
    np.testing.assert_array_equal(model.predict(READ[case](X)), model.predict(X))
    assert model.predict(X).dtype == np.int32


def test_a_column_is_one_number_a_row_as_in_scikit_learn():
    with pytest.warns(DataConversionWarning):
        model = MLPRegressor(**SMALL | {"epochs": 1}).fit(X, X[:, :1])
    same(model, MLPRegressor(**SMALL | {"epochs": 1}).fit(X, X[:, 0]), 0)
    assert model.predict(X).shape == (len(X),)
    with pytest.raises(ValueError, match="y must have 1 outputs, as in the first call, but it has 2"):
        model.partial_fit(X, X[:, :2])


def test_logarithms_of_probabilities():
    for y in (Y, LABELS.astype(int)):
        model = MLPClassifier(**SMALL | {"epochs": 1}).fit(X, y)
        np.testing.assert_allclose(model.predict_log_proba(X), np.log(model.predict_proba(X)), rtol=1e-9)
        assert np.isfinite(model.predict_log_proba(1e4 * X)).all()


LABELS = np.stack([X[:, 0] > 5.8, X[:, 2] > 4, X[:, 3] > 1], axis=1)
KINDS = {
    "a number": (MLPRegressor, X[:, 0]),
    "numbers": (MLPRegressor, X[:, :2]),
    "bools": (MLPClassifier, Y > 0),
    "floats": (MLPClassifier, Y.astype(np.float32)),
    "small integers": (MLPClassifier, Y.astype(np.int8)),
    "objects": (MLPClassifier, np.array(["setosa", "b", ""], object)[Y]),
    "labels": (MLPClassifier, LABELS.astype(int)),
    "sparse labels": (MLPClassifier, sparse.csr_array(LABELS.astype(int))),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", KINDS)
def test_every_kind_of_target_is_saved_to_the_bit(case, dtype, tmp_path):
    kind, y = KINDS[case]
    model = kind(**SMALL | {"hidden_layer_sizes": (np.int64(4),), "epochs": 1}).fit(X.astype(dtype), y)
    model.save(tmp_path / "m")
    loaded = ia.load(tmp_path / "m")
    for given in (X, X.astype(np.float32), sparse.csr_array(X), X[:1]):
        np.testing.assert_array_equal(loaded.predict(given), model.predict(given))
        if kind is MLPClassifier:
            np.testing.assert_array_equal(loaded.predict_proba(given), model.predict_proba(given))
    loaded.save(tmp_path / "again")
    np.testing.assert_array_equal(ia.load(tmp_path / "again").outputs(X), loaded.outputs(X))
