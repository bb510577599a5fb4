"""What the README shows runs as it stands."""

import re
from pathlib import Path

import pytest

import inercia as ia
from readme_table import METHODS, questions, table

ROOT = Path(__file__).parents[1]
README, LEEME = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.es.md"))


@pytest.mark.slow
def test_the_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    out = capsys.readouterr().out
    assert float(out.split("test accuracy ")[1].split("\n")[0]) > 0.95
    assert "order 1: the gap shrinks as dt^" in out


@pytest.mark.slow
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


def test_the_tables_are_those_of_the_factories_and_of_the_page():
    assert table() in METHODS.read_text(encoding="utf-8"), "run python tests/readme_table.py"
    assert questions() in README, "run python tests/readme_table.py"
    assert all(any(row[0].startswith(f"{name}(") for row in made.rows) for name, made in ia.METHODS.items())


def test_every_public_name_exists():
    assert all(hasattr(ia, name) for name in ia.__all__)
