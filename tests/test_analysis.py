"""Every script of the analysis runs, and what it claims holds, in its fast mode."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "analysis"
SCRIPTS = sorted(FOLDER.glob("*.py"))
#: Those that take long, and whose claims, of the edge of stability, noise and orders, the library's tests make too.
LONG = ("stability", "edge", "oscillation", "scaling_rule", "nesterov")


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", [pytest.param(s, marks=pytest.mark.long) if s.stem in LONG else s for s in SCRIPTS], ids=lambda s: s.stem
)
def test_script(script, tmp_path):
    run = subprocess.run(
        [sys.executable, str(script), "--fast", "--out", str(tmp_path)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    drawn = sorted(file.stem for file in tmp_path.glob("*.png"))
    assert drawn
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"`{script.name}`" in index
    assert all(f"`{name}`" in index for name in drawn)
