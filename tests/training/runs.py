"""How the tests of training compare two runs, and what they read off a folder of checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np


def numbers(tree):
    """Return the leaves in NumPy, random keys as the numbers they hold."""
    is_key = lambda x: isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731
    return [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in jax.tree.leaves(tree)]


def close(a, b, tolerance=1e-6, atol=None):
    for x, y in zip(numbers(a), numbers(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance if atol is None else atol)


def identical(a, b):
    for x, y in zip(numbers(a), numbers(b), strict=True):
        np.testing.assert_array_equal(x, y)


def steps_in(folder):
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()) if folder.exists() else []
