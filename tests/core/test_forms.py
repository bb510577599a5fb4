"""What a function gives is looked up, not traced again."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inercia.core import forms


def test_it_is_traced_once_for_each_form():
    traced = []

    def f(x, y):
        traced.append((x.shape, x.dtype))
        return {"sum": x.sum() + y, "x": x}

    for n in (3, 3, 4):
        x = jnp.ones(n)
        assert forms.form_of(f, x, 2.0) == jax.eval_shape(f, x, 2.0)
    assert forms.form_of(f, np.ones(3, np.float32), 1.0)["x"].shape == (3,)
    with jax.enable_x64(True):
        assert forms.form_of(f, np.ones(3), 1.0)["sum"].dtype == np.float64
    assert forms.form_of(f, np.ones(3), 1.0)["sum"].dtype == np.float32
    alone = [shape for shape in traced if shape == ((3,), np.float32)]
    assert len(alone) <= 1 + 2  # ours once, eval_shape's own


def test_it_is_forgotten_with_the_function_and_a_failure_is_not_kept():
    def f(x):
        if fails:
            raise ValueError("not yet")
        return x

    gc.collect()
    before, fails = len(forms._FORMS), True
    with pytest.raises(ValueError, match="not yet"):
        forms.form_of(f, jnp.ones(2))
    fails = False
    assert forms.form_of(f, jnp.ones(2)).shape == (2,)
    assert len(forms._FORMS) == before + 1
    del f
    jax.clear_caches()
    gc.collect()
    assert len(forms._FORMS) <= before
