"""The regressor: one or several numbers a row, on half the squared error."""

from typing import Any, cast

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import column_or_1d, validate_data

from inercia.estimator.base import DTYPES, Estimator
from inercia.estimator.rows import judge_numbers, weights_of
from inercia.problems.target import Target


class MLPRegressor(RegressorMixin, Estimator):
    """A fully connected network that predicts numbers, trained on half the squared error; one or several outputs.

    Arguments and attributes are those of `MLPClassifier`, without classes and class_weight.

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> x, y = load_diabetes(return_X_y=True, scaled=True)
        >>> MLPRegressor(random_state=0, learning_rate=0.01).fit(x, y).score(x, y) > 0.4
        True
    """

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MLPRegressor":
        """Train one epoch more on these rows."""
        return self._partial_fit(*self._read(X, y, sample_weight, reset=not hasattr(self, "params_")))

    def predict(self, X: Any) -> np.ndarray:
        """Return the predictions, (n,), or (n, outputs) where there are several."""
        outputs = self._outputs_at(X)
        return outputs[:, 0] if self._flat else outputs

    def _read(self, X: Any, y: Any, sample_weight: Any, reset: bool) -> tuple[Any, np.ndarray, np.ndarray | None]:
        judge_numbers("X", X)
        judge_numbers("y", y)
        read = validate_data(
            self, X, y, reset=reset, dtype=DTYPES, accept_sparse="csr", multi_output=True, y_numeric=True
        )
        x, y = cast(tuple, read)
        y = (
            column_or_1d(y, warn=True) if y.shape[1:] == (1,) else y
        )  # as scikit-learn's: a warning, and flat predictions
        outputs = 1 if y.ndim == 1 else y.shape[1]
        if reset:
            self._flat = y.ndim == 1
        elif outputs != self.widths_[-1] and hasattr(self, "params_"):
            raise ValueError(f"y must have {self.widths_[-1]} outputs, as in the first call, but it has {outputs}.")
        return x, y.astype(x.dtype).reshape(len(y), -1), weights_of(sample_weight, None, len(y))

    def _loss(self) -> str:
        return "squared"

    def _outputs(self, targets: np.ndarray) -> int:
        return targets.shape[1]

    def _strata(self, targets: np.ndarray) -> None:
        return None

    def _target(self) -> Target:
        outputs = self.widths_[-1]
        return Target("y", None, np.zeros(outputs), np.ones(outputs), self._flat)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
