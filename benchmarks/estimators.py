"""inercia's estimators beside scikit-learn's networks on five of its bundled sets, at equal settings."""

import time

import numpy as np
from sklearn import datasets, neural_network
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from inercia import estimator
from timing import Goal, Section, table

SETS = ("iris", "wine", "breast_cancer", "digits", "diabetes")
#: Equal for both: one layer of 100, ReLU, Adam at 1e-3, no penalty, stopped where the loss stands. With batches of 30
#: no epoch of scikit-learn's ends with a batch of one row, as 353 rows at 32 do: its noise works like a penalty.
EQUAL = {"hidden_layer_sizes": (100,), "batch_size": 30, "n_iter_no_change": 10, "tol": 1e-4}
EPOCHS = 200


def run(fast: bool) -> Section:
    """Fit both on random splits of every set; scores are of the rows held out, means over splits."""
    splits = 2 if fast else 10
    rows, goals = [], []
    for name in SETS:
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        if name == "diabetes":
            y = (y - y.mean()) / y.std()
        ours, theirs = (_scores(peer, x, y, name == "diabetes", splits) for peer in (estimator, neural_network))
        measure = "R²" if name == "diabetes" else "accuracy"
        first, own, other = ours[1][0], ours[1][1:], theirs[1][1:]
        ratios = other / own
        means = [f"{scores.mean():.4f} ± {scores.std():.3f}" for scores, _ in (ours, theirs)]
        seconds = [f"{second:.2f}" for second in (first, np.median(own), np.median(other))]
        faster = f"{np.median(ratios):.1f} ({ratios.min():.1f}..{ratios.max():.1f})"
        rows.append([name, measure, *means, *seconds, faster])
        better = ours[0].mean() - theirs[0].mean()
        goals.append(
            Goal(f"{measure} on {name} beside scikit-learn's", "≥ −0.01", f"{better:+.4f}", bool(better >= -0.01))
        )
    text = (
        f"{splits} random splits (a fifth held out), standardised inputs, the same rows for both; one layer of 100, "
        f"ReLU, Adam at 1e-3, batches of 30, at most {EPOCHS} epochs, no penalty, both in float64. Seconds a fit; the "
        "first of ours compiles.\n\n"
    )
    head = ["set", "score", "inercia", "scikit-learn", "first fit", "inercia, s", "scikit-learn, s", "times as fast"]
    return Section("Estimators", text + table(head, rows), goals)


def _scores(peer, x, y, regression: bool, splits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and seconds of each split."""
    scores, seconds = [], []
    for split in range(splits):
        a, b, c, d = train_test_split(x, y, test_size=0.2, random_state=split, stratify=None if regression else y)
        kind = peer.MLPRegressor if regression else peer.MLPClassifier
        own = {"epochs": EPOCHS} if peer is estimator else {"max_iter": EPOCHS, "alpha": 0.0}
        model = make_pipeline(StandardScaler(), kind(**EQUAL, **own, random_state=split))
        start = time.perf_counter()
        model.fit(a, c)
        seconds.append(time.perf_counter() - start)
        scores.append(model.score(b, d))
    return np.array(scores), np.array(seconds)
