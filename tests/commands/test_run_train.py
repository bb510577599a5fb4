"""The command line on tables that people have: train, save, predict."""

import csv
import inspect

import numpy as np
import pytest
from sklearn.datasets import load_iris

import inercia as ia
from inercia.commands import main as cli
from inercia.commands.watching import scheduled


def run(capsys, *arguments):
    """Call the command; return exit code, stdout, stderr."""
    try:
        cli.main([str(a) for a in arguments])
        code = 0
    except SystemExit as left:
        code = left.code or 0
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def write(file, titles, rows):
    with open(file, "w", newline="") as stream:
        csv.writer(stream).writerows([titles, *rows])
    return file


RNG = np.random.default_rng(0)
SMALL = ("--hidden", 8, "--epochs", 30)


def test_iris_with_all_defaults(capsys, tmp_path):
    x, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    file = write(
        tmp_path / "iris.csv", ["sl", "sw", "pl", "pw", "species"], [[*row, n] for row, n in zip(x, names, strict=True)]
    )
    code, out, _ = run(capsys, "train", "--data", file, "--save", tmp_path / "m" / "iris.npz")
    assert code == 0
    assert "target 'species': classes, for it is text (3 distinct values in 150 rows, 2.00%)." in out
    assert float(out.split("test accuracy ")[1].split("%")[0]) >= 90
    assert "virginica" in out.split("precision")[1]
    code, out, _ = run(capsys, "predict", tmp_path / "m" / "iris.npz", file, "--out", tmp_path / "p.csv")
    assert code == 0
    assert "150 rows predicted" in out
    with open(tmp_path / "p.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert np.mean([row["species"] == name for row, name in zip(rows, names, strict=True)]) > 0.9
    shares = np.array(
        [[float(row[f"probability of {name}"]) for name in ("setosa", "versicolor", "virginica")] for row in rows]
    )
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)


def test_whole_prices_are_a_regression_in_their_own_units(capsys, tmp_path):
    x = RNG.normal(size=(200, 2))
    price = np.round(300_000 + 40_000 * (x[:, 0] - 2 * x[:, 1]) + 1000 * RNG.normal(size=200)).astype(int) + 2**31
    file = write(tmp_path / "t.csv", ["u", "v", "price"], [[*row, p] for row, p in zip(x, price, strict=True)])
    code, out, _ = run(
        capsys, "train", "--data", file, "--target", "price", *SMALL, "--learning-rate", 0.02, "--save", tmp_path / "m"
    )
    assert code == 0
    assert "a regression, for its integers are many" in out
    assert float(out.split("test squared")[1].split("R^2 ")[1].split("\n")[0]) > 0.9
    assert run(capsys, "predict", tmp_path / "m", file, "--out", tmp_path / "p.csv")[0] == 0
    predicted = np.loadtxt(tmp_path / "p.csv", skiprows=1)
    assert np.corrcoef(predicted, price)[0, 1] > 0.95
    assert abs(np.mean(predicted - price)) < 20_000
    lacking = write(tmp_path / "n.csv", ["u", "w"], [[1, 2]])
    code, _, err = run(capsys, "predict", tmp_path / "m", lacking)
    assert code == 2
    assert "'v' is not among them; other columns: 'w'" in err


@pytest.mark.slow
def test_noise_is_called_noise(capsys, tmp_path):
    noise = RNG.normal(size=(40, 11)).round(4)
    file = write(tmp_path / "t.csv", [*"abcdefghij", "y"], noise.tolist())
    code, out, _ = run(capsys, "train", "--data", file, "--hidden", 32, "--epochs", 60)
    assert code == 0
    assert "Worse than predicting the mean" in out
    labels = write(
        tmp_path / "l.csv",
        ["u", "y"],
        [[f"{a:.4f}", "yes" if i % 8 else "no"] for i, a in enumerate(RNG.normal(size=40))],
    )
    code, out, _ = run(capsys, "train", "--data", labels, *SMALL)
    assert "No better than always 'yes'" in out


BAD = {
    "single class": (["a", "y"], [[1, "x"], [2, "x"], [3, "x"]], (), "must take at least two values"),
    "names": (["a", "y"], [[f"n{i}", i % 2] for i in range(60)], (), "say drop=['a'] (--drop 'a')"),
    "a target twice": (["a", "y", "y"], [[1, 2, 3], [2, 3, 4]], ("--target", "y"), "the header names it twice"),
    "gaps": (["a", "y"], [[1, 0], ["", 1], [3, 0]], ("--gaps", "refuse"), "column 'a' misses 1"),
    "dates": (["a", "y"], [["1/2/2024", 0], ["2/3/2024", 1]], (), "(--dates a=%d/%m/%Y)"),
    "a batch": (["a", "y"], [[i, i % 2] for i in range(10)], ("--batch-size", 9), "batch_size must be at most"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(capsys, tmp_path, case):
    titles, rows, more, message = BAD[case]
    code, _, err = run(capsys, "train", "--data", write(tmp_path / "t.csv", titles, rows), *more)
    assert code == 2
    assert message in err


@pytest.mark.slow
def test_edge_takes_signs_as_two_classes(capsys, tmp_path):
    x = RNG.normal(size=(40, 2))
    for name, low in (("signs", -1), ("zeros", 0)):
        file = write(tmp_path / f"{name}.csv", ["u", "v", "y"], [[*row, 1 if row[0] > 0 else low] for row in x])
        code, _, _ = run(
            capsys, "edge", "--data", file, "--rows", 30, "--hidden", 4, "--steps", 8, "--k", 1,
            "--window", 4, "--out", tmp_path / name,
        )  # fmt: skip
        assert code == 0
    with np.load(tmp_path / "signs" / "edge.npz") as a, np.load(tmp_path / "zeros" / "edge.npz") as b:
        np.testing.assert_array_equal(a["loss"], b["loss"])


@pytest.mark.slow
def test_validation_metrics_and_curve(capsys, tmp_path):
    code, out, _ = run(
        capsys, "train", "--hidden", 16, "--epochs", 3, "--validation", 0.1, "--schedule", "warmup-cosine",
        "--metrics", tmp_path / "m" / "run.csv", "--curve", tmp_path / "m" / "curve.png",
    )  # fmt: skip
    assert code == 0
    assert "1294 rows to train on, 359 to test" in out
    with open(tmp_path / "m" / "run.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["iterations", "training loss", "validation accuracy", "validation loss"]
    assert [int(row["iterations"]) for row in rows] == [10, 20, 30]
    assert f"validation accuracy {float(rows[-1]['validation accuracy']):.2%}" in out
    assert (tmp_path / "m" / "curve.png").stat().st_size > 5000
    assert run(capsys, "train", "--validation", 1.5)[0] == 2
    assert "validation must lie in [0, 1)" in run(capsys, "train", "--validation", 1.5)[2]


@pytest.mark.parametrize(
    ("name", "first", "last"), [("cosine", 0.1, 0), ("warmup-cosine", 0, 0), ("exponential", 0.1, 0.001)]
)
def test_schedules_end_with_the_training(name, first, last):
    rate = scheduled(name, 0.1, 1000)
    assert float(rate(0)) == pytest.approx(first)
    assert float(rate(1000)) == pytest.approx(last, abs=1e-9)
    assert max(float(rate(k)) for k in range(0, 1000, 10)) == pytest.approx(0.1)
    assert scheduled("constant", 0.1, 10) == 0.1


@pytest.mark.skipif("patience" not in inspect.signature(ia.train).parameters, reason="train has no patience yet")
def test_patience_keeps_the_best(capsys, tmp_path):
    rows = RNG.normal(size=(60, 11)).round(4).tolist()
    file = write(tmp_path / "t.csv", [*"abcdefghij", "y"], rows)
    more = ("--hidden", 32, "--epochs", 60, "--validation", 0.3, "--patience", 3, "--metrics", tmp_path / "m.csv")
    code, out, _ = run(capsys, "train", "--data", file, *more)
    assert code == 0
    with open(tmp_path / "m.csv", newline="") as stream:
        seen = [(float(row["validation loss"]), int(row["iterations"])) for row in csv.DictReader(stream)]
    assert f"the best weights are those after {min(seen)[1]} iterations" in out
    assert len(seen) == seen.index(min(seen)) + 4


def test_patience_needs_a_validation(capsys):
    code, _, err = run(capsys, "train", "--patience", 3)
    assert code == 2
    assert "--patience needs rows to judge by" in err
