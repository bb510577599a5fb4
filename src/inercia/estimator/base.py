"""What both estimators share: the loop over epochs, the two ways to stop early, and the file of a model."""

import contextlib
import warnings
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from inercia.core import check
from inercia.core.tree import float64
from inercia.estimator.rows import WeightedRisk, dense, in_parts, judge_numbers, weighted
from inercia.methods.table import METHODS
from inercia.problems.empirical_risk import Risk, risk
from inercia.problems.encoding import Column
from inercia.problems.model_file import Model, applied
from inercia.problems.network import ACTIVATIONS, Network, mlp
from inercia.problems.prepared import Encoding
from inercia.problems.target import Target
from inercia.training.loop import train
from inercia.training.records import Record

#: Numbers that X may come in; others become the first.
DTYPES = (np.float64, np.float32)


class Estimator(BaseEstimator):
    """A network with scikit-learn's interface; which loss it has, and what its outputs mean, is the subclass's."""

    _loss: Callable[[], Any]  # name or function of the pointwise loss
    _read: Callable[..., tuple[Any, np.ndarray, Any]]  # X, y, sample_weight, reset -> x, targets, weights
    _outputs: Callable[..., int]
    _strata: Callable[..., Any]  # what a split keeps the shares of
    _target: Callable[[], Target]  # what a file says of the outputs

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
        self.warm_start = warm_start
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train on X (n, features) and y: from the beginning, or with `warm_start` on from the fit before.

        Args:
            X: dense or sparse; sparse rows are made dense.
            y: targets.
            sample_weight: (n,), at least 0: how often each row counts.

        Raises:
            ValueError: rows that cannot be used, or a training that diverges. A fit that fails leaves no model.
        """
        try:
            goes_on = self.warm_start and hasattr(self, "params_")
            x, targets, weights = self._read(X, y, sample_weight, reset=not goes_on)
            data = weighted(dense(x), targets, weights)
            with _precision(data[0].dtype):
                self._start(*data[:2], goes_on=goes_on)
                self._train(*self._held_out(data))
        except BaseException:
            for name in {"params_", "state_"} & vars(self).keys():
                delattr(self, name)
            raise
        return self

    def save(self, file: str | Path) -> None:
        """Write the model to an NPZ file, as `inercia train --save` does.

        `inercia.load` reads it, and `inercia predict` takes it: the columns of a DataFrame go by name. Its predictions
        are those of the estimator to the last bit.

        Raises:
            NotFittedError: there is no model.
            ValueError: two columns of one name.
        """
        check_is_fitted(self, "params_")
        names, inputs = getattr(self, "feature_names_in_", None), self.widths_[0]
        columns = None if names is None else tuple(Column(str(name), "number") for name in names)
        params = jax.tree.map(np.float64, self.params_)  # in which an estimator predicts
        encoding = Encoding(columns, np.zeros(inputs), np.ones(inputs), self._target())
        Model(params, self.widths_, self.activation, encoding, version("inercia")).save(file)

    def _held_out(self, data: tuple) -> tuple[tuple, tuple | None]:
        """Return the rows to train on, and those to judge by where training stops early."""
        if not self.early_stopping:
            return data, None
        parts = train_test_split(
            *data, test_size=self.validation_fraction, random_state=self._seed(), stratify=self._strata(data[1])
        )
        return tuple(map(np.asarray, parts[::2])), tuple(map(np.asarray, parts[1::2]))

    def _train(self, data: tuple, held: tuple | None) -> None:
        """Train until the loss that decides has not fallen by `tol` for some epochs; keep the best params, if held."""
        patience = check.integer("n_iter_no_change", self.n_iter_no_change)
        epochs = check.integer("epochs", self.epochs)
        best, waited = np.inf, 0

        def stands(record: Record) -> bool:
            nonlocal best, waited
            value = record.loss if record.validation is None else record.validation
            waited = waited + 1 if value > best - self.tol else 0
            best = min(best, value)
            return waited >= patience

        keeps = {} if held is None else {"validation": held, "patience": epochs}
        self._epochs(data, epochs, on_record=stands, on_divergence="stop", **keeps)
        self.best_loss_ = float(best)

    def _partial_fit(self, x: Any, targets: np.ndarray, weights: Any) -> Any:
        data = weighted(dense(x), targets, weights)
        started = hasattr(self, "params_")
        with _precision(self.params_[0].w.dtype if started else data[0].dtype):
            if not started:
                self._start(*data[:2], goes_on=False)
            self._epochs(data, 1)
        return self

    def _start(self, x: np.ndarray, targets: np.ndarray, goes_on: bool) -> None:
        check.one_of("activation", self.activation, ACTIVATIONS)
        hidden = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=object)).tolist()
        hidden = [check.integer(f"hidden_layer_sizes[{i}]", width) for i, width in enumerate(hidden)]
        widths = (x.shape[1], *hidden, self._outputs(targets))
        if goes_on:
            if widths != self.widths_:
                raise ValueError(f"warm_start goes on with a network of widths {self.widths_}, but now it is {widths}.")
            return
        self.widths_ = widths
        self._random = check_random_state(self.random_state)
        self.params_ = jax.tree.map(np.asarray, self._network().init(jax.random.key(self._seed())))
        self.state_ = jax.tree.map(np.asarray, self._method().init(self.params_))
        self.n_iter_, self.loss_curve_, self.validation_loss_curve_ = 0, [], []

    def _epochs(self, data: tuple, epochs: int, **watched: Any) -> None:
        """Train some epochs more."""
        rows = len(data[0])
        size = rows // -(-rows // check.integer("batch_size", self.batch_size))  # equal batches: few rows are left over
        loss = self._risk() if len(data) == 2 else WeightedRisk(self._risk())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", check.InerciaWarning)  # raised below
            result = train(
                self._method(), loss, self.params_, data, epochs=epochs, batch_size=size, key=self._seed(),
                state=self.state_, **watched,
            )  # fmt: skip
        if result.diverged is not None:
            del self.params_, self.state_  # a model that failed is not fitted
            raise ValueError(
                f"training diverged after {self.n_iter_ + result.diverged * size // rows} epochs: scale the "
                f"inputs, for example with StandardScaler, or take a smaller learning rate than {self.learning_rate}."
            )
        self.params_, self.state_ = jax.tree.map(np.asarray, result[:2])
        history = result.history
        self.n_iter_ += len(history.loss)
        self.loss_curve_ += np.asarray(history.loss, np.float64).tolist()
        if history.validation is not None:
            self.validation_loss_curve_ += np.asarray(history.validation, np.float64).tolist()

    def _outputs_at(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "params_")
        judge_numbers("X", X)
        x = validate_data(self, X, reset=False, dtype=np.float64, accept_sparse="csr")
        with jax.enable_x64(True):
            params, apply = float64(self.params_), self._network().apply
            return in_parts(x, lambda part: np.asarray(applied(apply, params, part)))

    def _network(self) -> Network:
        return _network(tuple(self.widths_), self.activation)

    def _risk(self) -> Risk:
        return risk(self._network(), self._loss())

    def _method(self) -> optax.GradientTransformation:
        if isinstance(self.method, str):
            return _method(check.one_of("method", self.method, METHODS), self.learning_rate)
        return self.method

    def _seed(self) -> int:
        return int(self._random.randint(2**31 - 1))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _precision(dtype: Any) -> Any:
    """Return the context in which numbers of the dtype are computed."""
    return jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext()


@lru_cache(maxsize=64)  # equal networks are the same object, so that what was compiled for one serves the other
def _network(widths: tuple[int, ...], activation: str) -> Network:
    return mlp(widths, activation, init="glorot")


@lru_cache(maxsize=64)
def _method(name: str, learning_rate: float) -> optax.GradientTransformation:
    return METHODS[name](learning_rate)
