import numpy as np
import optax
import pytest

pytest.importorskip("sklearn")
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import inercia as ia
from inercia.estimator import MLPClassifier, MLPRegressor

X, Y = load_digits(return_X_y=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [MLPClassifier, pytest.param(MLPRegressor, marks=pytest.mark.long)])
def test_scikit_learns_own_checks(kind):
    results = check_estimator(kind(random_state=0, learning_rate=0.01), on_fail=None, on_skip=None)
    failed = [(r["check_name"], r["exception"]) for r in results if r["status"] not in {"passed", "skipped"}]
    assert not failed
    assert sum(r["status"] == "passed" for r in results) > 40


@pytest.mark.slow
def test_in_a_pipeline_and_a_search():
    model = make_pipeline(StandardScaler(), MLPClassifier(hidden_layer_sizes=(32,), epochs=20, random_state=0))
    assert cross_val_score(model, X, Y, cv=3).mean() > 0.9
    search = GridSearchCV(model, {"mlpclassifier__learning_rate": [1e-5, 1e-2]}, cv=2).fit(X[:600], Y[:600])
    assert search.best_params_ == {"mlpclassifier__learning_rate": 1e-2}
    proba = search.predict_proba(X)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(axis=1), 1)


@pytest.mark.slow
def test_early_stopping_keeps_the_best():
    model = MLPClassifier((64,), learning_rate=0.01, early_stopping=True, epochs=500, random_state=0).fit(X / 16, Y)
    assert model.n_iter_ < 500
    assert len(model.loss_curve_) == len(model.validation_loss_curve_) == model.n_iter_
    assert model.best_loss_ == pytest.approx(min(model.validation_loss_curve_))
    assert model.best_loss_ < model.validation_loss_curve_[-1]


@pytest.mark.slow
def test_partial_fit_goes_on():
    model = MLPClassifier((32,), learning_rate=0.01, random_state=0)
    with pytest.raises(ValueError, match="classes must be passed"):
        model.partial_fit(X, Y)
    scores = [model.partial_fit(X / 16, Y, classes=range(10)).score(X / 16, Y) for _ in range(5)]
    assert scores[-1] > max(0.9, scores[0])
    assert int(model.state_.count) == 5 * 57  # 1797 rows in batches of at most 32
    with pytest.raises(ValueError, match="only the classes"):
        model.partial_fit(X / 16, Y + 1)


@pytest.mark.slow
def test_regression_with_several_outputs_and_any_method():
    x, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    model = MLPRegressor((16,), method=optax.adamw(0.01), epochs=50, random_state=0).fit(x, np.stack([y, -y], axis=1))
    assert model.predict(x).shape == (len(x), 2)
    assert model.score(x, np.stack([y, -y], axis=1)) > 0.4
    assert MLPRegressor(method=ia.momentum(0.1), epochs=50, random_state=0).fit(x, y).predict(x).shape == (len(x),)


def test_wrong_names_are_refused():
    with pytest.raises(ValueError, match="did you mean 'adam'"):
        MLPClassifier(method="adm").fit(X, Y)
    with pytest.raises(ValueError, match="activation must be one of"):
        MLPClassifier(activation="rel").fit(X, Y)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_a_divergence_is_an_error(kind):
    """As in scikit-learn: never a prediction from numbers that are not finite."""
    model = kind((8,), activation="identity", method="sgd", learning_rate=1e6, epochs=30, random_state=0)
    with pytest.raises(ValueError, match=r"training diverged after .* or take a smaller learning rate than 1000000"):
        model.fit(X, Y)
    with pytest.raises(NotFittedError):
        model.predict(X)
    assert model.set_params(learning_rate=1e-4, epochs=1).fit(X, Y).predict(X).shape == (len(X),)


@pytest.mark.slow
def test_one_width_is_a_layer():
    one, several = (MLPClassifier(width, epochs=1, random_state=0).fit(X, Y) for width in (8, (8,)))
    np.testing.assert_array_equal(one.predict_proba(X), several.predict_proba(X))
