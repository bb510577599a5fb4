"""Checks every annotation of the package while the tests run; Hypothesis draws the same examples every time."""

import warnings

import hypothesis
from jaxtyping import install_import_hook

with install_import_hook("inercia", "typechecker.checked"):
    import inercia

hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, print_blob=False)
hypothesis.settings.load_profile("tests")
warnings.simplefilter("error", inercia.InerciaWarning)
