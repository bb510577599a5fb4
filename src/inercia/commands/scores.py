"""How good a trained model is, beside what knows nothing: the largest class, or the mean of the training rows."""

import numpy as np

from inercia.problems.data import Dataset
from inercia.problems.model_file import Model
from inercia.problems.prepared import Prepared

_MOST_SHOWN = 20  # classes of the report


def print_scores(model: Model, parts: Prepared) -> None:
    """Print what the model reaches on both parts, class by class on the test part, and whether it is worth anything."""
    if model.encoding.target.classes is None:
        _regression(model, parts)
    else:
        _classification(model, parts)


def _outputs(model: Model, part: Dataset) -> np.ndarray:
    return np.asarray(model.network.apply(model.params, part.x))


def _classification(model: Model, parts: Prepared) -> None:
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
    if len(classes) <= _MOST_SHOWN:
        width = max(len(str(name)) for name in (*classes, "class"))
        print(f"\n{'class':<{width}}{'test rows':>11}{'found':>9}{'precision':>11}")
        for k, name in enumerate(classes):
            both = np.sum((found == k) & (true == k))
            print(
                f"{name!s:<{width}}{np.sum(true == k):>11}{_share(both, np.sum(true == k)):>9}"
                f"{_share(both, np.sum(found == k)):>11}"
            )


def _regression(model: Model, parts: Prepared) -> None:
    target = model.encoding.target
    shares = {}
    for name in _PARTS:
        part = getattr(parts, name)
        apart = (_outputs(model, part) - part.y).astype(np.float64) * target.scale  # in the target's units
        spread = part.y.astype(np.float64) * target.scale  # from the training rows' mean
        shares[name] = 1 - (apart**2).sum() / max((spread**2).sum(), 1e-300)
        half = 0.5 * (apart**2).sum(axis=1).mean()
        mean = 0.5 * (spread**2).sum(axis=1).mean()
        print(f"{name} squared error / 2: {half:.4g} (the mean alone: {mean:.4g}), R^2 {shares[name]:.4f}")
    if shares["test"] <= 0:
        print("Worse than predicting the mean: try other --hidden, a smaller --learning-rate or fewer --epochs.")


_PARTS = ("train", "test")


def _share(part: int, of: int) -> str:
    return f"{part / of:.1%}" if of else "-"
