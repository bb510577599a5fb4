"""optax's own tests of every optimizer that we have too pass with ours swapped in."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_optax_alias_tests_pass_on_our_factories():
    found = importlib.util.find_spec("optax._src.alias_test")
    assert found is not None
    file = found.origin
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "optax_swap", "-q", "-n", "0", "-p", "no:cacheprovider",
         "--override-ini", "addopts=", str(file)],
        cwd=Path(__file__).parent,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    closing = run.stdout.strip().splitlines()[-1]
    assert run.returncode == 0, run.stdout[-3000:]
    passed = re.search(r"(\d+) passed", closing)
    assert passed, closing
    assert int(passed[1]) >= 180, closing
