"""Every notebook runs as a script, with its claims as assertions, and stands on the page of notebooks."""

import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebook(notebook, tmp_path):
    run = subprocess.run(
        [sys.executable, str(notebook)], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]


def test_the_page_names_them_all():
    page = (DOCS / "notebooks.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 4
    assert all(f"](notebooks/{file.name})" in page for file in NOTEBOOKS)
    assert all("assert " in file.read_text(encoding="utf-8") for file in NOTEBOOKS)
