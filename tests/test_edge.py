"""The edge of stability, on a network: full-batch sharpness settles at the bound of the method, which no flow has.

The other methods, and Adam, are claims of analysis/stability.py, which the tests run.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import inercia as ia

NETWORK = ia.mlp([8, 16, 16, 1], "swish")
X = jax.random.normal(jax.random.key(0), (64, 8))
Y = jnp.sin(3 * X[:, :1]) + X[:, 1:2] * X[:, 2:3]
RISK = ia.risk(NETWORK)


def loss(params):
    return 2 * RISK(params, (X, Y))


def test_sharpness_of_the_lectures_order_settles_at_one():
    method, start = ia.momentum(0.2, 0.9, scheme="explicit"), NETWORK.init(jax.random.key(1))
    bound = ia.stability(method, [1.0]).threshold
    path = ia.iterate(method, loss, start, 6000, every=100)
    assert path.diverged is None
    _, rebuild = ravel_pytree(start)
    sharpness = jax.jit(lambda z: jnp.linalg.eigvalsh(jax.hessian(lambda z: loss(rebuild(z)))(z))[-1])
    late = np.mean([sharpness(jnp.asarray(z, jnp.float32)) for z in path.flat()[46::2]])
    assert float(late) == pytest.approx(bound, rel=0.03)
