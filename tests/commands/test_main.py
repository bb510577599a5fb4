import csv
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from inercia.commands import main as cli
from inercia.commands import run_figures

ANALYSIS = Path(__file__).parents[2] / "analysis"


def ended(code):
    """Return what a process leaves."""
    return CompletedProcess([], code)


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


COMMANDS = ("demo", "train", "predict", "compare", "order", "edge", "explore", "figures")


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help(capsys, command):
    code, out, _ = run(capsys, *command, "--help")
    assert code == 0
    assert "usage: inercia" in out


@pytest.mark.slow
def test_edge(capsys, tmp_path):
    small = ("edge", "--rows", 60, "--hidden", 8, "--steps", 60, "--k", 2, "--out", tmp_path)
    code, out, _ = run(capsys, *small, "--flows", "modified")
    assert code == 0
    assert "to central  to modified" in out
    assert "sgd on 60 rows, 610 parameters" in out
    assert (tmp_path / "edge.png").stat().st_size > 10_000
    with np.load(tmp_path / "edge.npz") as written:
        assert written["central_sharpness"].shape == (61, 2)
        assert written["to_modified"].shape == (61,)
        assert written["loss"][0] == pytest.approx(written["central_loss"][0])
    for more, exit_code, sentence in (
        (("--learning-rate", 1e4), 1, "the iterates diverge at time"),
        (("--method", "nadam"), 2, "method must be one of 'sgd'"),
        (("--beta", 0.9), 2, "--beta belongs to momentum and adam"),
        (("--rows", 10**6), 2, "rows must be at most 1617"),
    ):
        code, _, err = run(capsys, *small, *more)
        assert code == exit_code
        assert sentence in err


def test_train_on_the_digits(capsys, tmp_path):
    code, out, _ = run(capsys, "train", "--epochs", 8, "--hidden", 32, "--save", tmp_path / "w.npz")
    assert code == 0
    assert "1438 rows to train on, 359 to test; network 64-32-10" in out
    assert float(out.split("test accuracy ")[1].split("%")[0]) > 90
    with np.load(tmp_path / "w.npz") as weights:
        assert weights["layer[0].w"].shape == (64, 32)


@pytest.mark.slow
def test_train_goes_on_from_its_checkpoint(capsys, tmp_path):
    command = ("train", "--hidden", 16, "--checkpoint", tmp_path, "--epochs")
    assert run(capsys, *command, 2)[0] == 0
    code, out, _ = run(capsys, *command, 4)
    assert code == 0
    assert "44 iterations of adam" in out
    code, _, err = run(capsys, *command, 4, "--learning-rate", 0.1)
    assert code == 2
    assert "its method was adam(learning_rate=0.002" in err


def test_compare_writes_both_paths(capsys, tmp_path):
    code, out, _ = run(capsys, "compare", "--steps", 20, "--out", tmp_path)
    assert code == 0
    assert "20 updates; DOP853 took" in out
    assert {f.name for f in tmp_path.iterdir()} == {
        "iterates.npz", "iterates.csv", "flow.npz", "flow.csv", "paths.png", "gap.png",
    }  # fmt: skip
    with np.load(tmp_path / "iterates.npz") as a, np.load(tmp_path / "flow.npz") as b:
        np.testing.assert_array_equal(a["times"], b["times"])
        assert a["params"].shape == b["params"].shape == (21, 2)
    with open(tmp_path / "flow.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 21


def test_order(capsys):
    code, out, _ = run(
        capsys, "order", "--method", "adam", "--learning-rate", 0.02, "--time", 8, "--dts", 0.25, 0.125, 1 / 16, 1 / 32
    )
    assert code == 0
    assert "order 1: the gap shrinks as dt^" in out


BAD = {
    "method": (("train", "--method", "adm"), 2, "did you mean 'adam'"),
    "problem": (("compare", "--problem", "well"), 2, "did you mean 'wells'"),
    "solver": (("compare", "--solver", "rk45"), 2, "did you mean 'RK45'"),
    "file": (("train", "--data", "none.csv"), 2, "none.csv: there is no such file"),
    "rate": (("train", "--learning-rate", "-1"), 2, "learning_rate must be a finite number above 0"),
    "rate zero": (("train", "--learning-rate", "0"), 2, "learning_rate must be a finite number above 0"),
    "option": (("train", "--method", "adam", "--beta", "0.5"), 2, "--beta belongs to the method momentum"),
    "batch": (("train", "--batch-size", "5000"), 2, "batch_size must be at most"),
    "dts": (("order", "--dts", "1", "0.5"), 2, "dts must be at least three"),
    "divergence": (
        ("train", "--method", "sgd", "--activation", "relu", "--learning-rate", "1e30"),
        1,
        "training diverged at",
    ),
    "divergence of the path": (("compare", "--learning-rate", "300"), 1, "the iterates diverged at time"),
    "usage": (("train", "--epochs", "many"), 2, ""),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_have_a_code_and_no_traceback(capsys, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    arguments, expected, message = BAD[case]
    code, _, err = run(capsys, *arguments)
    assert code == expected
    assert message in err


def test_figures_runs_the_scripts_of_the_analysis(capsys, tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(run_figures.subprocess, "run", lambda command, check: ran.append(command) or ended(0))
    assert run(capsys, "figures", "--out", tmp_path, "--fast")[0] == 0
    assert [Path(command[1]) for command in ran] == sorted(ANALYSIS.glob("*.py"))
    assert all(command[2:] == ["--out", str(tmp_path), "--fast"] for command in ran)
    code, _, err = run(capsys, "figures", "momentun")
    assert code == 2
    assert "did you mean 'momentum'?" in err
    monkeypatch.setattr(run_figures.subprocess, "run", lambda command, check: ended(1))
    code, _, err = run(capsys, "figures", "adam")
    assert code == 1
    assert "adam failed" in err


def test_interrupt(capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.run_demo, "demo", interrupted)
    code, _, err = run(capsys, "demo")
    assert code == 130
    assert err == "inercia: interrupted\n"
