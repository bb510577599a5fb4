"""The classifier: one class a row, by the softmax of the outputs, or any number of them, by their sigmoids."""

from typing import Any, cast

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d, validate_data

from inercia.estimator.base import DTYPES, Estimator
from inercia.estimator.rows import dense, judge_numbers, weights_of
from inercia.problems.target import Target


class MLPClassifier(ClassifierMixin, Estimator):
    """A fully connected network that classifies, trained on the cross-entropy.

    Where y is a matrix of 0 and 1, a row has any number of labels: each output is a class of its own, by its sigmoid.

    Args:
        hidden_layer_sizes: widths of the hidden layers, or the width of the only one.
        activation: a name of `inercia.network.ACTIVATIONS`.
        method: a name of `inercia.METHODS`, made with `learning_rate`; or a method or optax transformation as it is.
        learning_rate: step size.
        batch_size: most rows per iteration; an epoch is cut into equal batches.
        epochs: most passes over the data.
        early_stopping: whether to hold out rows, to stop when their loss no longer falls, and to keep the best params;
            else the training loss decides, and the last params are kept.
        validation_fraction: share held out.
        n_iter_no_change: epochs without an improvement of `tol` after which training stops.
        tol: least improvement of the loss that counts.
        warm_start: whether `fit` goes on from the fit before, with its params and the method's state.
        class_weight: None, a dict class -> weight, or "balanced": n / (classes * rows of the class); a factor of the
            sample weights.
        random_state: fixes the start, the batches and the rows held out.

    Attributes:
        classes_: the classes, sorted; of several labels, their numbers.
        params_: of the network, NumPy arrays.
        n_features_in_: columns of X.
        n_iter_: epochs made, those of all fits together with `warm_start`.
        loss_curve_: loss of each epoch; validation_loss_curve_ with `early_stopping`, best_loss_ the least of them.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> x, y = load_iris(return_X_y=True)
        >>> MLPClassifier(random_state=0, learning_rate=0.01).fit(x, y).score(x, y) > 0.9
        True
    """

    classes_: Any

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        method: Any = "adam",
        learning_rate: float = 1e-3,
        batch_size: int = 32,
        epochs: int = 200,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        class_weight: Any = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes, activation, method, learning_rate, batch_size, epochs, early_stopping,
            validation_fraction, n_iter_no_change, tol, warm_start, random_state,
        )  # fmt: skip
        self.class_weight = class_weight

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> "MLPClassifier":
        """Train one epoch more on these rows; the first call must name all `classes`, unless y is a matrix."""
        first = not hasattr(self, "params_")
        if first and classes is None and np.ndim(y) != 2:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if isinstance(self.class_weight, str):
            raise ValueError("class_weight 'balanced' needs all rows at once: pass a dict to partial_fit's estimator.")
        if first:
            self.classes_ = None if classes is None else np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes must stay those of the first call, {self.classes_}, but they are {classes}.")
        return self._partial_fit(*self._read(X, y, sample_weight, reset=first, classes=self.classes_))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of every class, (n, classes); they add up to 1 unless y was a matrix."""
        outputs = self._outputs_at(X)
        return self._target().probabilities(outputs)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of `predict_proba`, computed without it: finite where a probability rounds to 0."""
        outputs = self._outputs_at(X)
        return self._target().log_probabilities(outputs)

    def predict(self, X: Any) -> np.ndarray:
        """Return the likeliest class of every row; 0 or 1 for each, (n, classes), dense, where y was a matrix."""
        outputs = self._outputs_at(X)
        return (outputs > 0).astype(int) if self._several else self.classes_[outputs.argmax(axis=1)]

    def _read(
        self, X: Any, y: Any, sample_weight: Any, reset: bool, classes: Any = None
    ) -> tuple[Any, np.ndarray, np.ndarray | None]:
        judge_numbers("X", X)
        read = validate_data(self, X, y, reset=reset, dtype=DTYPES, accept_sparse="csr", multi_output=True)
        x, y = cast(tuple, read)
        check_classification_targets(y)
        several = type_of_target(y, input_name="y") == "multilabel-indicator"
        goes_on = classes is None and not reset
        classes = classes if reset else self.classes_
        if not reset and several != self._several:
            raise ValueError("y must have the form of the first call, a column of classes or a matrix of 0 and 1.")
        self._several = several
        if several:
            return self._labels(x, y, sample_weight, classes)
        y = column_or_1d(y, warn=True)
        y = y.astype(y.dtype.newbyteorder("="), copy=False)
        self.classes_ = np.unique(y) if classes is None else classes
        if len(self.classes_) < 2:
            raise ValueError(f"a classifier needs at least 2 classes, but y holds one class: {self.classes_}.")
        unknown = np.setdiff1d(y, self.classes_)
        if unknown.size:
            raise ValueError(f"y must hold only the classes {self.classes_}, but it holds {unknown}.")
        if goes_on and len(np.unique(y)) < len(self.classes_):
            raise ValueError(
                f"warm_start goes on with rows of all classes {self.classes_}, but y holds {np.unique(y)} alone: call "
                "partial_fit for some of them."
            )
        by_class = None if self.class_weight is None else compute_sample_weight(self.class_weight, y)
        targets = np.searchsorted(self.classes_, y).astype(np.int32)
        return x, targets, weights_of(sample_weight, by_class, len(targets))

    def _labels(self, x: Any, y: Any, sample_weight: Any, classes: Any) -> tuple[Any, np.ndarray, np.ndarray | None]:
        y = np.asarray(dense(y), x.dtype)
        if self.class_weight is not None:
            raise ValueError("class_weight belongs to rows of one class each, but y is a matrix: use sample_weight.")
        if classes is not None and len(classes) != y.shape[1]:
            raise ValueError(f"y must have a column for each of {len(classes)} classes, but its shape is {y.shape}.")
        self.classes_ = np.arange(y.shape[1])
        return x, y, weights_of(sample_weight, None, len(y))

    def _loss(self) -> Any:
        return "binary-cross-entropy" if self._several else "cross-entropy"

    def _outputs(self, targets: np.ndarray) -> int:
        return len(self.classes_)

    def _strata(self, targets: np.ndarray) -> np.ndarray | None:
        return None if self._several else targets

    def _target(self) -> Target:
        classes, several = tuple(self.classes_.tolist()), self._several
        return Target("y", classes, np.zeros(0), np.zeros(0), not several, several)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
