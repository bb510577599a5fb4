"""How good a trained model is, beside what knows nothing: the largest class, or the mean of the training rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from inercia.problems.data import Dataset
from inercia.problems.model_file import Model
from inercia.problems.prepared import Prepared
from inercia.problems.target import Target

_MOST_SHOWN = 20  # classes of the report


def print_scores(model: Model, parts: Prepared, report: bool = False) -> None:
    """Print what the model reaches on both parts, class by class on the test part, and whether it is worth anything.

    Args:
        model: trained.
        parts: the rows.
        report: whether to print every class, however many there are, with its F1 score, and the means over classes.
    """
    if model.encoding.target.classes is None:
        _regression(model, parts)
    else:
        _classification(model, parts, report)


def metric(model: Model, part: Dataset) -> tuple[str, float]:
    """Return the name and the value of what a model reaches on rows: accuracy, or R^2 of all outputs together."""
    outputs, target = _outputs(model, part), model.encoding.target
    if target.classes is not None:
        return "accuracy", float(np.mean(target.is_right(outputs, part.y)))
    return "R^2", _explained(model, outputs, part)


def _outputs(model: Model, part: Dataset) -> np.ndarray:
    return np.asarray(model.network.apply(model.params, part.x))


def _classification(model: Model, parts: Prepared, report: bool) -> None:
    target, right = model.encoding.target, False
    outputs = {name: _outputs(model, getattr(parts, name)) for name in _PARTS}
    for name, found in outputs.items():
        right = target.is_right(found, getattr(parts, name).y)
        of_rows = f", all of a row's labels in {right.all(axis=1).mean():.2%} of the rows" if target.several else ""
        print(f"{name} accuracy {np.mean(right):.2%}{of_rows}")
    usual, what = _usual(target, parts)
    if np.mean(right) <= usual:
        print(f"No better than {what}: {usual:.2%} of the test {'labels' if target.several else 'rows'}.")
    if report or target.outputs <= _MOST_SHOWN:
        chosen = outputs["test"] > 0 if target.several else outputs["test"].argmax(axis=1)
        print("\n" + "\n".join(class_table(target.names, chosen, parts.test.y, report)))


def _usual(target: Target, parts: Prepared) -> tuple[float, str]:
    """Return the share of the test rows that the training rows' usual class, or value of each label, tells."""
    if target.several:
        right = (parts.train.y.mean(axis=0) > 0.5) == parts.test.y
        return float(right.mean()), "always the usual value of each label"
    assert target.classes is not None
    largest = int(np.bincount(parts.train.y).argmax())
    return float(np.mean(parts.test.y == largest)), f"always {target.classes[largest]!r}, the largest class"


def class_table(classes: Sequence[Any], found: np.ndarray, true: np.ndarray, means: bool = False) -> list[str]:
    """Return the lines of a table of the classes: test rows, recall, precision; with `means` F1, and means too.

    Args:
        classes: their names.
        found: classes (N,) that a model gives, or labels (N, K), 0 or 1.
        true: likewise.
        means: whether to add F1 = 2 p r / (p + r), and the mean over classes, where what 0 / 0 leaves open counts as 0.

    Example:
        >>> print("\\n".join(class_table(("no", "yes"), np.array([0, 1, 1]), np.array([0, 0, 1]))))
        class  test rows   recall  precision
        no             2    50.0%     100.0%
        yes            1   100.0%      50.0%
    """
    of = np.arange(len(classes))
    said, there = (given == 1 if given.ndim == 2 else given[:, None] == of for given in (found, true))
    both, there, said = ((said & there).sum(axis=0), there.sum(axis=0), said.sum(axis=0))
    columns = {"recall": (both, there), "precision": (both, said)} | ({"F1": (2 * both, there + said)} if means else {})
    width = max(len(str(name)) for name in (*classes, "class"))
    lines = [f"{'class':<{width}}{'test rows':>11}" + "".join(f"{name:>{_WIDTH[name]}}" for name in columns)]
    for k, name in enumerate(classes):
        shares = "".join(f"{_share(part[k], of[k]):>{_WIDTH[title]}}" for title, (part, of) in columns.items())
        lines.append(f"{name!s:<{width}}{there[k]:>11}{shares}")
    if means:
        mean = [np.mean(part / np.maximum(of, 1)) for part, of in columns.values()]
        shares = "".join(f"{value:>{_WIDTH[title]}.1%}" for title, value in zip(columns, mean, strict=True))
        lines.append(f"{'mean':<{width}}{len(true):>11}{shares}")
    return lines


def _regression(model: Model, parts: Prepared) -> None:
    target = model.encoding.target
    explained = 0.0
    for name in _PARTS:
        part = getattr(parts, name)
        outputs = _outputs(model, part)
        half = 0.5 * (((outputs - part.y).astype(np.float64) * target.scale) ** 2).sum(axis=1).mean()
        mean = 0.5 * ((part.y.astype(np.float64) * target.scale) ** 2).sum(axis=1).mean()
        explained = _explained(model, outputs, part)
        print(f"{name} squared error / 2: {half:.4g} (the mean alone: {mean:.4g}), R^2 {explained:.4f}")
    if explained <= 0:  # on the test rows
        print("Worse than predicting the mean: try other --hidden, a smaller --learning-rate or fewer --epochs.")


def _explained(model: Model, outputs: np.ndarray, part: Dataset) -> float:
    """Return R^2 in the target's units, beside the mean of the training rows, which is 0 where targets are scaled."""
    scale = model.encoding.target.scale
    apart = ((outputs - part.y).astype(np.float64) * scale) ** 2
    return float(1 - apart.sum() / max(((part.y.astype(np.float64) * scale) ** 2).sum(), 1e-300))


_PARTS = ("train", "test")
_WIDTH = {"recall": 9, "precision": 11, "F1": 9}


def _share(part: int, of: int) -> str:
    return f"{part / of:.1%}" if of else "-"
