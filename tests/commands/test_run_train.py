"""The command line on tables that people have: train, save, predict."""

import csv

import jax
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.metrics import classification_report

import inercia as ia
from inercia.commands import main as cli
from inercia.commands.scores import class_table
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


@pytest.mark.slow
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


@pytest.mark.slow
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
@pytest.mark.long
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


@pytest.mark.slow
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


def read_metrics(file):
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_several_seeds_are_the_trainings_one_by_one(capsys, tmp_path):
    small = ("train", "--hidden", 8, "--epochs", 2, "--batch-size", 100, "--metrics")
    code, out, _ = run(capsys, *small, tmp_path / "all.csv", "--seeds", 2, "--save", tmp_path / "m", "--report")
    assert code == 0
    assert run(capsys, *small, tmp_path / "one.csv")[0] == 0
    rows, alone = read_metrics(tmp_path / "all.csv"), read_metrics(tmp_path / "one.csv")
    assert [row["seed"] for row in rows] == ["0", "0", "1", "1"]
    together = [float(row["training loss"]) for row in rows]
    np.testing.assert_allclose(together[:2], [float(row["training loss"]) for row in alone], rtol=1e-4)
    kept = int(out.split("the model kept is that of seed ")[1].split(",")[0])
    assert kept == np.argmin(together[1::2])
    assert f"least, {min(together[1::2]):.4g}" in out
    train, test = ia.digits()
    model, loss = ia.load(tmp_path / "m"), ia.risk(ia.mlp([64, 8, 10]), "cross-entropy")
    found = [
        ia.train(ia.adam(0.002), loss, ia.mlp([64, 8, 10]).init(jax.random.key(seed)), train, epochs=2, batch_size=100,
                 key=seed).params for seed in (0, 1)
    ]  # fmt: skip
    np.testing.assert_allclose(model.params[0].w, found[kept][0].w, atol=1e-4)
    scores = [float(ia.accuracy(model.network)(params, test)) for params in found]
    assert f"mean {np.mean(scores):.2%}, standard deviation {np.std(scores, ddof=1):.2%}" in out


def test_the_rate_finder_finds_the_stable_rates(capsys, tmp_path):
    """On y = x both curvatures are 1 and |1 - a| a step: of the rates tried 1.8 is the largest below 2."""
    file = write(tmp_path / "t.csv", ["u", "y"], [[u, 3 * u + 5] for u in RNG.normal(size=40).round(3)])
    linear = ("train", "--data", file, "--method", "sgd", "--hidden", "--sampler", "full", "--find-rate", "--curve")
    code, out, _ = run(capsys, *linear, tmp_path / "r.png")
    assert code == 0
    assert "of 25 rates tried for 200 iterations each" in out
    assert "the largest rate that stayed finite is 1.8." in out
    assert 0.1 < float(out.split("--learning-rate ")[1].split(",")[0]) < 1.1
    assert (tmp_path / "r.png").stat().st_size > 5000


def test_the_class_table_is_that_of_scikit_learn():
    true, found = RNG.integers(0, 4, 300), RNG.integers(0, 3, 300)  # class 3 is never found
    right = classification_report(true, found, output_dict=True, zero_division=0)
    lines = [line.split() for line in class_table((0, 1, 2, 3), found, true, means=True)]
    assert lines[0] == ["class", "test", "rows", "recall", "precision", "F1"]
    for name, count, *shares in lines[1:]:
        row = right["macro avg" if name == "mean" else name]
        numbers = [float(share.strip("%").replace("-", "0")) for share in shares]
        np.testing.assert_allclose(numbers, [100 * row[c] for c in ("recall", "precision", "f1-score")], atol=0.051)
        assert int(count) == row["support"]


@pytest.mark.slow
def test_several_labels_a_row(capsys, tmp_path):
    x = RNG.normal(size=(240, 2))
    np.savez(tmp_path / "d.npz", x=x, y=np.stack([x[:, 0] > 0, x.sum(axis=1) > 1], axis=1))
    code, out, _ = run(
        capsys, "train", "--data", tmp_path / "d.npz", *SMALL, "--learning-rate", 0.02, "--save", tmp_path / "m",
        "--validation", 0.2, "--patience", 30, "--report",
    )  # fmt: skip
    assert code == 0
    assert "target 'y': labels, for it has 2 numbers a row, 0 or 1 each." in out
    assert float(out.split("test accuracy ")[1].split("%")[0]) > 90
    assert "all of a row's labels in " in out
    assert [line.split()[:2] for line in out.splitlines()[-4:-2]] == [["y", "(1)"], ["y", "(2)"]]
    np.savez(tmp_path / "n.npz", x=x)
    assert run(capsys, "predict", tmp_path / "m", tmp_path / "n.npz", "--out", tmp_path / "p.csv")[0] == 0
    with open(tmp_path / "p.csv", newline="") as stream:
        titles, *rows = csv.reader(stream)
    assert titles == ["y (1)", "y (2)", "probability of y (1)", "probability of y (2)"]
    labels, shares = np.split(np.array(rows, float), 2, axis=1)
    np.testing.assert_array_equal(labels, shares > 0.5)
    np.testing.assert_array_equal(labels, ia.load(tmp_path / "m").predict(x))


@pytest.mark.parametrize("option", ["save", "metrics", "curve"])
def test_a_file_that_cannot_be_written_is_told_before_the_training(option, capsys, tmp_path):
    (tmp_path / "file").touch()
    for bad in (tmp_path, tmp_path / "file" / "m.png"):
        code, out, err = run(capsys, "train", f"--{option}", bad)
        assert code == 2
        assert not out
        assert f"--{option} must name a file that can be written, but {bad} cannot" in err
    if option == "curve":
        code, out, err = run(capsys, "train", "--curve", tmp_path / "c.pgn")
        assert "the ending of --curve must be one of" in err
        assert "did you mean 'png'" in err
        assert not (tmp_path / "c.pgn").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seeds", 1), "seeds must be at least 2, but it is 1"),
        (("--seeds", 3, "--checkpoint", "c"), "several networks in one program: leave --checkpoint out"),
        (("--seeds", 3, "--validation", 0.1, "--patience", 2), "leave --patience out"),
        (("--seeds", 3, "--find-rate"), "leave --find-rate out"),
        (("--find-rate", "--save", "m", "--learning-rate", 0.1), "leave --save and --learning-rate out"),
        (("--find-rate", "--schedule", "cosine"), "--find-rate makes short trainings alone: leave --schedule out"),
    ],
)
def test_options_that_make_no_sense_together(capsys, options, message):
    code, _, err = run(capsys, "train", *options)
    assert code == 2
    assert message in err


def test_a_regression_has_no_classes_to_report(capsys, tmp_path):
    file = write(tmp_path / "t.csv", ["u", "y"], [[u, u / 2 + 0.1] for u in range(20)])
    code, _, err = run(capsys, "train", "--data", file, "--report")
    assert code == 2
    assert "--report tells of classes, but the target is a regression" in err
