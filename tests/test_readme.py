"""What the README shows runs as it stands."""

import re
from pathlib import Path

import pytest

import inercia as ia
from readme_table import table

ROOT = Path(__file__).parents[1]
README, LEEME = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.es.md"))


@pytest.mark.slow
def test_the_examples_run(capsys, monkeypatch, tmp_path):
    code, edge, scale = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)
    out = capsys.readouterr().out
    assert float(out.split("test accuracy ")[1].split("\n")[0]) > 0.95
    assert "order 1: the gap shrinks as dt^" in out
    exec(compile(edge, "README.md", "exec"), names)
    assert names["path"].observed["sharpness"][-1, 0] == pytest.approx(2, rel=0.1)
    assert names["flow"].observed["mean_loss"][-1] == pytest.approx(names["path"].loss[-1], rel=0.05)
    monkeypatch.chdir(tmp_path)
    exec(compile(scale, "README.md", "exec"), names)
    assert int(names["result"].history.step[-1]) == 30 * 22
    assert (tmp_path / "runs" / "digits" / "660").is_dir()


def test_the_spanish_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", LEEME, re.DOTALL)
    exec(compile(code, "README.es.md", "exec"), {"__name__": "readme"})
    assert float(capsys.readouterr().out.split("exactitud ")[1].split("\n")[0]) > 0.95


@pytest.mark.slow
def test_the_page_on_own_methods_runs(capsys):
    text = (ROOT / "docs" / "own_method.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    exec(compile(code, "own_method.md", "exec"), {"__name__": "page"})
    out = capsys.readouterr().out
    assert "order 1: the gap shrinks as dt^1.00" in out
    assert "largest stable curvature 60.0" in out  # (2 + 2 * 0.8) / (1 - 0.8) / 0.3
    assert "of 18.0" in out


@pytest.mark.parametrize(
    "page", [*sorted(p.relative_to(ROOT).as_posix() for p in (*ROOT.glob("*.md"), *ROOT.glob("*/*.md")))]
)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", (ROOT / page).read_text(encoding="utf-8"))
    for link in map("".join, links):
        assert link.startswith("https://") or ((ROOT / page).parent / link).exists(), link


def test_the_table_is_that_of_the_factories():
    assert table() in README, "run python tests/readme_table.py"
    assert all(any(row[0].startswith(f"{name}(") for row in made.rows) for name, made in ia.METHODS.items())


def test_every_public_name_exists():
    assert all(hasattr(ia, name) for name in ia.__all__)
