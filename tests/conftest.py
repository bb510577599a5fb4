"""Checks every annotation of the package while the tests run; Hypothesis draws the same examples every time."""

import os
from pathlib import Path

# What one test has compiled serves the others, those of other workers and of child processes, and the next run.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import hypothesis
import jax
import pytest
from jaxtyping import install_import_hook

with install_import_hook("inercia", "typechecker.checked"):
    import inercia  # noqa: F401  before pytest's filters name it

hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, print_blob=False)
hypothesis.settings.load_profile("tests")


def pytest_configure(config):
    """Have every `InerciaWarning` that no test waits for fail it."""
    config.addinivalue_line("filterwarnings", "error::inercia.InerciaWarning")


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_programs():
    """Let go of a file's programs after it: thousands in one process exhaust its memory maps."""
    yield
    jax.clear_caches()
