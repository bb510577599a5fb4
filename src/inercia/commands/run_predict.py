"""`inercia predict`: what a saved model says of new rows."""

import csv
from pathlib import Path

import numpy as np
from tyro.conf import Positional

from inercia.problems.model_file import load


def predict(
    model: Positional[Path], rows: Positional[Path], out: Path = Path("predictions.csv"), header: bool | None = None
) -> None:
    """Predict new rows with a model that `inercia train --save` wrote; write a CSV.

    Args:
        model: The .npz file of the model.
        rows: A file with the columns of the training, by name and in any order; others are left alone.
        out: Where to write: the class, or 0 and 1 for each label, and all probabilities; or numbers; a line a row.
        header: Whether the first line names the columns; judged by the cells by default.
    """
    trained = load(model)
    found = trained.rows(rows, header)
    target = trained.encoding.target
    predicted = trained.predict(found)
    titles = [target.name] if predicted.ndim == 1 else target.names
    columns = list(np.atleast_2d(predicted.T).tolist())
    if target.classes is not None:
        titles = titles + [f"probability of {name}" for name in target.names]
        columns += list(np.char.mod("%.6g", trained.predict_proba(found).T))
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(titles)
        writer.writerows(zip(*columns, strict=True))
    print(f"{len(predicted)} rows predicted: {out}")
