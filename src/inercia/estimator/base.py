"""scikit-learn estimators: networks trained by inercia's methods, in pipelines and searches.

They need the extra `sklearn`. Training is that of `inercia.train`, in float32; predictions are float64 NumPy arrays.
"""

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.core import check
from inercia.core.tree import float64
from inercia.methods.table import METHODS
from inercia.problems.empirical_risk import Risk, risk
from inercia.problems.network import ACTIVATIONS, Network, mlp
from inercia.training.loop import train

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError:
    raise ImportError("the estimators need scikit-learn: pip install 'inercia[sklearn]'.") from None


class _Estimator(BaseEstimator):
    """What both estimators share: the loop over epochs and the two ways to stop early."""

    _loss: str
    _read: Callable[..., tuple[np.ndarray, np.ndarray]]  # X, y, reset -> float32 inputs and what the loss takes
    _outputs: Callable[..., int]
    _strata: Callable[..., Any]  # what a split keeps the shares of

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
        random_state: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.method = method
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Any:
        """Train from the beginning on X (n, features) and y; ValueError where the training diverges."""
        x, targets = self._read(X, y, reset=True)
        self._start(x, targets)
        held = None
        if self.early_stopping:
            parts = train_test_split(
                x,
                targets,
                test_size=self.validation_fraction,
                random_state=self._seed(),
                stratify=self._strata(targets),
            )
            x, held_x, targets, held_y = map(np.asarray, parts)
            held = (jnp.asarray(held_x), jnp.asarray(held_y))
        loss, best, waited = self._risk(), np.inf, 0
        patience = check.integer("n_iter_no_change", self.n_iter_no_change)
        kept = self.params_
        watch = None if held is None else lambda p: (loss(p, held), p)  # one function, compiled once
        while self.n_iter_ < check.integer("epochs", self.epochs) and waited < patience:
            epochs = min(patience, self.epochs - self.n_iter_)
            losses, watched = self._epochs(x, targets, epochs, watch)
            for i, value in enumerate(losses if watched is None else watched[0]):
                waited = waited + 1 if value > best - self.tol else 0
                if value < best:
                    best = value
                    if watched is not None:
                        kept = jax.tree.map(lambda leaf, i=i: leaf[i], watched[1])
        if held is not None:
            self.params_ = kept
        self.best_loss_ = float(best)
        return self

    def _partial_fit(self, x: np.ndarray, targets: np.ndarray) -> Any:
        if not hasattr(self, "params_"):
            self._start(x, targets)
        self._epochs(x, targets, 1, None)
        return self

    def _start(self, x: np.ndarray, targets: np.ndarray) -> None:
        check.one_of("activation", self.activation, ACTIVATIONS)
        hidden = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=object)).tolist()
        self.widths_ = (x.shape[1], *hidden, self._outputs(targets))
        self._random = check_random_state(self.random_state)
        self.params_ = jax.tree.map(np.asarray, self._network().init(jax.random.key(self._seed())))
        self.state_ = jax.tree.map(np.asarray, self._method().init(self.params_))
        self.n_iter_, self.loss_curve_, self.validation_loss_curve_ = 0, [], []

    def _epochs(self, x: np.ndarray, targets: np.ndarray, epochs: int, watch: Any) -> tuple:
        """Train some epochs more; return their losses, and what `watch` saw at the end of each."""
        size = min(check.integer("batch_size", self.batch_size), len(x))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", check.InerciaWarning)  # raised below
            result = train(
                self._method(), self._risk(), self.params_, (x, targets), epochs=epochs, batch_size=size,
                key=self._seed(), state=self.state_, evaluate=watch,
            )  # fmt: skip
        if result.diverged is not None:
            del self.params_, self.state_  # a model that failed is not fitted
            raise ValueError(
                f"training diverged after {self.n_iter_ + result.diverged * size // len(x)} epochs: scale the inputs, "
                f"for example with StandardScaler, or take a smaller learning rate than {self.learning_rate}."
            )
        self.params_, self.state_ = jax.tree.map(np.asarray, result[:2])
        self.n_iter_ += epochs
        losses, watched = jax.tree.map(np.asarray, (result.history.loss, result.history.evaluate))
        self.loss_curve_ += losses.astype(float).tolist()
        if watched is not None:
            self.validation_loss_curve_ += watched[0].astype(float).tolist()
        return losses, watched

    def _outputs_at(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "params_")
        x = validate_data(self, X, reset=False, dtype=np.float64)
        with jax.enable_x64(True):
            return np.asarray(_apply(self._network().apply, float64(self.params_), x))

    def _network(self) -> Network:
        return _network(tuple(self.widths_), self.activation)

    def _risk(self) -> Risk:
        return risk(self._network(), self._loss)

    def _method(self) -> optax.GradientTransformation:
        if isinstance(self.method, str):
            return _method(check.one_of("method", self.method, METHODS), self.learning_rate)
        return self.method

    def _seed(self) -> int:
        return int(self._random.randint(2**31 - 1))


class MLPClassifier(ClassifierMixin, _Estimator):
    """A fully connected network that classifies, trained on the cross-entropy.

    Args:
        hidden_layer_sizes: widths of the hidden layers, or the width of the only one.
        activation: a name of `inercia.network.ACTIVATIONS`.
        method: a name of `inercia.METHODS`, made with `learning_rate`; or a method or optax transformation as it is.
        learning_rate: step size.
        batch_size: rows per iteration, at most all.
        epochs: most passes over the data.
        early_stopping: whether to hold out rows, to stop when their loss no longer falls, and to keep the best params;
            else the training loss decides, and the last params are kept.
        validation_fraction: share held out.
        n_iter_no_change: epochs without an improvement of `tol` after which training stops.
        tol: least improvement of the loss that counts.
        random_state: fixes the start, the batches and the rows held out.

    Attributes:
        classes_, n_features_in_, n_iter_ (epochs made), loss_curve_, validation_loss_curve_, best_loss_, params_.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> x, y = load_iris(return_X_y=True)
        >>> MLPClassifier(random_state=0, learning_rate=0.01).fit(x, y).score(x, y) > 0.9
        True
    """

    _loss = "cross-entropy"

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> "MLPClassifier":
        """Train one epoch more on these rows; the first call must name all `classes`."""
        first = not hasattr(self, "params_")
        if first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if first:
            self.classes_ = np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes must stay those of the first call, {self.classes_}, but they are {classes}.")
        x, targets = self._read(X, y, reset=first, classes=self.classes_)
        return self._partial_fit(x, targets)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of every class, (n, classes)."""
        return np.asarray(_softmax(self._outputs_at(X)))

    def predict(self, X: Any) -> np.ndarray:
        """Return the likeliest class of every row."""
        outputs = self._outputs_at(X)
        return self.classes_[outputs.argmax(axis=1)]

    def _read(self, X: Any, y: Any, reset: bool, classes: Any = None) -> tuple[np.ndarray, np.ndarray]:
        x, y = cast(tuple, validate_data(self, X, y, reset=reset, dtype=np.float32))
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if classes is None:
            self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError(f"a classifier needs at least 2 classes, but y holds one class: {self.classes_}.")
        unknown = np.setdiff1d(y, self.classes_)
        if unknown.size:
            raise ValueError(f"y must hold only the classes {self.classes_}, but it holds {unknown}.")
        return x, np.searchsorted(self.classes_, y).astype(np.int32)

    def _outputs(self, targets: np.ndarray) -> int:
        return len(self.classes_)

    def _strata(self, targets: np.ndarray) -> np.ndarray:
        return targets


class MLPRegressor(RegressorMixin, _Estimator):
    """A fully connected network that predicts numbers, trained on half the squared error; one or several outputs.

    Arguments and attributes are those of `MLPClassifier`, without classes.

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> x, y = load_diabetes(return_X_y=True, scaled=True)
        >>> MLPRegressor(random_state=0, learning_rate=0.01).fit(x, y).score(x, y) > 0.4
        True
    """

    _loss = "squared"

    def partial_fit(self, X: Any, y: Any) -> "MLPRegressor":
        """Train one epoch more on these rows."""
        return self._partial_fit(*self._read(X, y, reset=not hasattr(self, "params_")))

    def predict(self, X: Any) -> np.ndarray:
        """Return the predictions, (n,) or (n, outputs) as y was."""
        outputs = self._outputs_at(X)
        return outputs[:, 0] if self._flat else outputs

    def _read(self, X: Any, y: Any, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        read = validate_data(self, X, y, reset=reset, dtype=np.float32, multi_output=True, y_numeric=True)
        x, y = cast(tuple, read)
        if reset:
            self._flat = y.ndim == 1
        return x, y.astype(np.float32).reshape(len(y), -1)

    def _outputs(self, targets: np.ndarray) -> int:
        return targets.shape[1]

    def _strata(self, targets: np.ndarray) -> None:
        return None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


@lru_cache(maxsize=64)  # equal networks are the same object, so that what was compiled for one serves the other
def _network(widths: tuple[int, ...], activation: str) -> Network:
    return mlp(widths, activation)


@lru_cache(maxsize=64)
def _method(name: str, learning_rate: float) -> optax.GradientTransformation:
    return METHODS[name](learning_rate)


_apply = jax.jit(lambda apply, params, x: apply(params, x), static_argnums=0)


def _softmax(outputs: np.ndarray) -> np.ndarray:
    raised = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)
