"""What the README shows runs as it stands."""

import re
from pathlib import Path

import inercia as ia

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    out = capsys.readouterr().out
    assert float(out.split("test accuracy ")[1].split("\n")[0]) > 0.95
    assert "order 1: the gap shrinks as dt^" in out


def test_every_method_is_in_the_table():
    assert all(f"`{name}(a" in README for name in ia.METHODS)


def test_every_public_name_exists():
    assert all(hasattr(ia, name) for name in ia.__all__)
