"""How good a trained model is, beside what knows nothing: the largest class, or the mean of the training rows."""

import numpy as np

from inercia.problems.data import Dataset
from inercia.problems.model_file import Model
from inercia.problems.prepared import Prepared

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
    outputs = _outputs(model, part)
    if model.encoding.target.classes is not None:
        return "accuracy", float(np.mean(outputs.argmax(axis=1) == part.y))
    return "R^2", _explained(model, outputs, part)


def _outputs(model: Model, part: Dataset) -> np.ndarray:
    return np.asarray(model.network.apply(model.params, part.x))


def _classification(model: Model, parts: Prepared, report: bool) -> None:
    classes = model.encoding.target.classes
    assert classes is not None
    largest = int(np.bincount(parts.train.y).argmax())
    chosen = {name: _outputs(model, part).argmax(axis=1) for name, part in parts._asdict().items() if name in _PARTS}
    for name, labels in chosen.items():
        print(f"{name} accuracy {np.mean(labels == getattr(parts, name).y):.2%}")
    found, true = chosen["test"], parts.test.y
    alone = np.mean(true == largest)
    if np.mean(found == true) <= alone:
        print(f"No better than always {classes[largest]!r}, the largest class: {alone:.2%} of the test rows.")
    if report or len(classes) <= _MOST_SHOWN:
        print("\n" + "\n".join(class_table(classes, found, true, report)))


def class_table(classes: tuple, found: np.ndarray, true: np.ndarray, means: bool = False) -> list[str]:
    """Return the lines of a table of the classes: test rows, recall, precision; with `means` F1, and means too.

    Args:
        classes: their names.
        found: labels (N,) that a model gives.
        true: labels (N,).
        means: whether to add F1 = 2 p r / (p + r), and the mean over classes, where what 0 / 0 leaves open counts as 0.

    Example:
        >>> print("\\n".join(class_table(("no", "yes"), np.array([0, 1, 1]), np.array([0, 0, 1]))))
        class  test rows   recall  precision
        no             2    50.0%     100.0%
        yes            1   100.0%      50.0%
    """
    labels = range(len(classes))
    both, there, said = (
        np.array([np.sum(which(k)) for k in labels])
        for which in (lambda k: (found == k) & (true == k), lambda k: true == k, lambda k: found == k)
    )
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
