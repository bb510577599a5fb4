"""Classes or a regression: the rule, what it says, and what is refused."""

import numpy as np
import pytest

from inercia.problems.target import fit_target

PRICES = np.arange(1000.0) * 7
AUTO = {
    "text": (np.array(["a", "b", "b"], object), ("a", "b"), "for it is text"),
    "signs": (np.array([-1.0, 1, 1, -1]), (-1, 1), "integers are few (2 distinct values in 4 rows, 50.00%)"),
    "iris": (np.repeat([0.0, 1, 2], 50), (0, 1, 2), "few (3 distinct values in 150 rows, 2.00%)"),
    "prices": (PRICES, None, "integers are many (1000 distinct values in 1000 rows)"),
    "ages": (np.arange(20_000.0) % 80, None, "integers are many (80 distinct values in 20000 rows, 0.40%)"),
    "decimals": (np.array([0.5, 1.0, 1.0]), None, "not all of its numbers are integers"),
    "beyond 32 bits": (PRICES + 2.0**40, None, "many"),
    "two columns": (np.eye(3)[:, :2] + 1, None, "a regression, for it has 2 numbers a row."),
}


@pytest.mark.parametrize("case", AUTO)
def test_the_rule(case):
    values, classes, why = AUTO[case]
    target, said = fit_target(values, "t")
    assert target.classes == classes
    assert why in said
    encoded = target.encoded(values)
    if classes is None:
        np.testing.assert_allclose(encoded.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(target.undone(encoded), values, rtol=2e-7, atol=1e-5)
    else:
        assert [classes[i] for i in encoded] == values.tolist()


def test_a_matrix_of_0_and_1_is_labels():
    for values in (np.eye(3)[:, :2], np.eye(3)[:, :2] == 1, np.zeros((2, 3), np.int8)):
        target, said = fit_target(values, "t")
        assert target.several
        assert target.classes == tuple(range(values.shape[1]))
        assert said == f"target 't': labels, for it has {values.shape[1]} numbers a row, 0 or 1 each."
        np.testing.assert_array_equal(target.encoded(values), values)
        np.testing.assert_array_equal(target.predicted(values - 0.5), values)
    with pytest.raises(ValueError, match="target 't' must hold 0 or 1 for each of 3 labels"):
        target.encoded(np.full((2, 3), 0.5))


def test_arguments_overrule_it():
    assert fit_target(np.eye(3), task="regression")[0].loss == "squared"
    assert fit_target(np.repeat([0.0, 1, 2], 50), task="regression")[0].classes is None
    assert fit_target(np.array([1.0, 0.0, 1.0]), task="classification")[0].classes == (0, 1)
    assert fit_target(np.repeat(np.arange(100.0), 3), task="classification")[0].outputs == 100
    assert fit_target(np.repeat(np.arange(100), 3), labels=True)[0].outputs == 100


@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        (PRICES, "classification", "1000 distinct values in 1000 rows: say task=regression"),
        (np.array(["a", "b"], object), "regression", "needs numbers, but target 'y' is text, such as 'a'"),
        (np.zeros(4), "auto", "at least two values, but all of its rows are 0.0"),
        (np.eye(3) / 2, "classification", "one column of classes, or a matrix of 0 and 1 for labels"),
        (PRICES, "guess", "task must be one of"),
    ],
)
def test_what_is_refused(values, task, message):
    with pytest.raises(ValueError, match=message):
        fit_target(values, task=task)


def test_a_new_class_is_named():
    target, _ = fit_target(np.array(["no", "yes"], object))
    with pytest.raises(ValueError, match=r"must be one of \['no', 'yes'\], but it is 'maybe' too"):
        target.encoded(np.array(["maybe"], object))
