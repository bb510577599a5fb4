"""What is predicted: classes, numbered, or numbers, standardised; and the rule that tells one from the other.

Text is classes. Integers are classes where there are at most two of them, or at most twenty that fill at most half
of the rows, each once; a matrix of 0 and 1 is labels, of which a row has any number; other numbers are a regression.
The rule is told with its counts, and an argument overrules it.

    classes      y = 0..K-1, in the order of their names;                     p = softmax of the outputs
    labels       y = 0 or 1 for each of K labels, which are numbered 0..K-1;  p = sigmoid of each output
    regression   y = (value - mean) / deviation of the training rows; predictions are undone
"""

from typing import Any, NamedTuple

import numpy as np

from inercia.core import check
from inercia.problems.data import scaled, scaling

TASKS = ("auto", "classification", "regression")
_MOST_CLASSES = 20  # of integers that nobody has called classes


class Target(NamedTuple):
    """How targets become what a network is trained on."""

    name: str
    classes: tuple[Any, ...] | None  # text or numbers, sorted; numbers of labels; None for a regression
    mean: np.ndarray  # (outputs,) float64; of a regression
    scale: np.ndarray  # (outputs,) float64
    flat: bool  # whether the targets of a regression are one number a row
    several: bool = False  # whether a row has any number of the classes, its labels

    @property
    def outputs(self) -> int:
        """Outputs of the network."""
        return len(self.mean) if self.classes is None else len(self.classes)

    @property
    def loss(self) -> str:
        """Name of the pointwise loss, see `risk`."""
        if self.classes is None:
            return "squared"
        return "binary-cross-entropy" if self.several else "cross-entropy"

    @property
    def names(self) -> list[str]:
        """Titles of the classes or labels, or of the numbers of a regression."""
        if self.classes is not None and not self.several:
            return [str(value) for value in self.classes]
        return [self.name] if self.flat else [f"{self.name} ({i + 1})" for i in range(self.outputs)]

    def encoded(self, values: np.ndarray) -> np.ndarray:
        """Return classes (N,) int32, labels (N, K) float32 of 0 and 1, or standardised numbers (N, outputs) float32.

        Raises:
            ValueError: a class that was not among those of the training rows; labels that are not 0 and 1.
        """
        if self.several:
            if values.shape[1:] != (self.outputs,) or not _is_binary(values):
                raise ValueError(f"target {self.name!r} must hold 0 or 1 for each of {self.outputs} labels.")
            return values.astype(np.float32)
        if self.classes is None:
            return scaled(values.reshape(len(values), -1), self.mean, self.scale).astype(np.float32)
        number = {value: i for i, value in enumerate(self.classes)}
        new = [value for value in np.unique(values).tolist() if value not in number]
        if new:
            raise ValueError(f"target {self.name!r} must be one of {list(self.classes)}, but it is {new[0]!r} too.")
        return np.array([number[value] for value in values.tolist()], np.int32)

    def undone(self, outputs: np.ndarray) -> np.ndarray:
        """Return the network's outputs (N, outputs) in the units of the targets: (N,) where these were flat."""
        values = np.asarray(outputs, np.float64) * self.scale + self.mean
        return values[:, 0] if self.flat else values

    def predicted(self, outputs: np.ndarray) -> np.ndarray:
        """Return the likeliest class by its name (N,), 0 or 1 for each label (N, K), or the numbers, undone."""
        if self.classes is None:
            return self.undone(outputs)
        return (outputs > 0).astype(int) if self.several else np.array(self.classes)[outputs.argmax(axis=1)]

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return the probability of each class or label, (N, K) float64; those of classes add up to 1."""
        from scipy.special import expit, softmax  # noqa: PLC0415  loaded when used

        z = np.asarray(outputs, np.float64)
        return expit(z) if self.several else softmax(z, axis=1)

    def log_probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return the logarithms of the probabilities, finite where these round to 0."""
        from scipy.special import log_expit, log_softmax  # noqa: PLC0415  loaded when used

        z = np.asarray(outputs, np.float64)
        return log_expit(z) if self.several else log_softmax(z, axis=1)

    def is_right(self, outputs: Any, y: Any) -> Any:
        """Whether the network's outputs tell the class of each row, (N,), or each of its labels, (N, K)."""
        return (outputs > 0) == (y > 0.5) if self.several else outputs.argmax(axis=1) == y


def fit_target(
    values: np.ndarray, name: str = "y", task: str = "auto", train: Any = slice(None), *, labels: bool = False
) -> tuple[Target, str]:
    """Decide what the targets are.

    Args:
        values: (N,) numbers or text, (N, outputs) numbers; none missing.
        name: of the target, for messages.
        task: "auto", "classification" or "regression".
        train: the rows that fix mean and deviation; classes are those of all rows.
        labels: whether the file calls them labels: integers are classes then, however many.

    Returns:
        The target, and a sentence that says what was decided and why.

    Raises:
        ValueError: text for a regression; one value alone; classes that nearly every row has for itself; labels other
            than 0 and 1.

    Example:
        >>> target, why = fit_target(np.array(["no", "yes", "no"], dtype=object))
        >>> target.classes, target.encoded(np.array(["yes"], dtype=object)).tolist()
        (('no', 'yes'), [1])
        >>> fit_target(np.array([1.5, 2.5, 4.0]))[1]
        "target 'y': a regression, for not all of its numbers are integers (3 distinct values in 3 rows)."
    """
    check.one_of("task", task, TASKS)
    text = values.dtype == object
    distinct = np.unique(values) if values.ndim == 1 else None
    if distinct is not None and len(distinct) < 2:
        raise ValueError(f"target {name!r} must take at least two values, but all of its rows are {distinct.item()!r}.")
    classify, why = _decided(values, distinct, task, text, labels)
    rows = len(values)
    if not classify:
        if text and distinct is not None:
            raise ValueError(f"a regression needs numbers, but target {name!r} is text, such as {distinct[0]!r}.")
        columns = values.reshape(rows, -1).astype(np.float64)
        mean, scale = scaling(columns[train])
        return Target(name, None, mean, scale, values.ndim == 1), f"target {name!r}: a regression, {why}."
    if distinct is None:
        if not _is_binary(values):
            raise ValueError(
                f"target {name!r} must be one column of classes, or a matrix of 0 and 1 for labels, but its shape is "
                f"{values.shape} and it holds other numbers."
            )
        numbers = tuple(range(values.shape[1]))
        return Target(name, numbers, np.zeros(0), np.zeros(0), False, True), f"target {name!r}: labels, {why}."
    if len(distinct) > _MOST_CLASSES and 2 * len(distinct) > rows:
        raise ValueError(
            f"a classification needs classes that rows share, but target {name!r} has {len(distinct)} distinct values "
            f"in {rows} rows{'' if text else ': say task=regression'}."
        )
    classes = [value if text or value != round(value) else int(value) for value in distinct.tolist()]
    return Target(name, tuple(classes), np.zeros(0), np.zeros(0), True), f"target {name!r}: classes, {why}."


def _decided(values: np.ndarray, distinct: Any, task: str, text: bool, labels: bool) -> tuple[bool, str]:
    if distinct is None:
        each = f"{values.shape[1]} numbers" if values.ndim == 2 else f"{values.shape[1:]} numbers"
        if task != "auto":
            return task == "classification", f"as asked, {each} a row"
        return _is_binary(values), f"for it has {each} a row{', 0 or 1 each' if _is_binary(values) else ''}"
    rows = len(values)
    counted = f"({len(distinct)} distinct values in {rows} rows, {len(distinct) / rows:.2%})"
    if len(distinct) == rows:
        counted = f"({rows} distinct values in {rows} rows)"
    if task != "auto":
        return task == "classification", f"as asked {counted}"
    if text:
        return True, f"for it is text {counted}"
    if (distinct != np.round(distinct)).any():
        return False, f"for not all of its numbers are integers {counted}"
    few = len(distinct) <= 2 or ((labels or len(distinct) <= _MOST_CLASSES) and 2 * len(distinct) <= rows)
    return few, f"for its integers are {'few' if few else 'many'} {counted}"


def _is_binary(values: np.ndarray) -> bool:
    """Whether the values are rows of 0 and 1."""
    return values.ndim == 2 and values.dtype != object and bool(((values == 0) | (values == 1)).all())
