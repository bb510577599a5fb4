"""What is predicted: classes, numbered, or numbers, standardised; and the rule that tells one from the other.

Text is classes. Integers are classes where there are at most two of them, or at most twenty that fill at most half
of the rows, each once; other numbers are a regression. The rule is told with its counts, and an argument overrules it.

    classes      y = 0..K-1, in the order of their names
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
    classes: tuple[Any, ...] | None  # text or numbers, sorted; None for a regression
    mean: np.ndarray  # (outputs,) float64; of a regression
    scale: np.ndarray  # (outputs,) float64
    flat: bool  # whether the targets of a regression are one number a row

    @property
    def outputs(self) -> int:
        """Outputs of the network."""
        return len(self.mean) if self.classes is None else len(self.classes)

    def encoded(self, values: np.ndarray) -> np.ndarray:
        """Return labels (N,) int32, or standardised numbers (N, outputs) float32.

        Raises:
            ValueError: a class that was not among those of the training rows.
        """
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
        ValueError: text for a regression; one value alone; classes that nearly every row has for itself.

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
        raise ValueError(f"target {name!r} must be one column of classes, but its shape is {values.shape}.")
    if len(distinct) > _MOST_CLASSES and 2 * len(distinct) > rows:
        raise ValueError(
            f"a classification needs classes that rows share, but target {name!r} has {len(distinct)} distinct values "
            f"in {rows} rows{'' if text else ': say task=regression'}."
        )
    classes = [value if text or value != round(value) else int(value) for value in distinct.tolist()]
    return Target(name, tuple(classes), np.zeros(0), np.zeros(0), True), f"target {name!r}: classes, {why}."


def _decided(values: np.ndarray, distinct: Any, task: str, text: bool, labels: bool) -> tuple[bool, str]:
    if distinct is None:
        return task == "classification", f"for it has {values.shape[1:]} numbers a row"
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
