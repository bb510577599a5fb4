"""The edge of stability, on a network: full-batch sharpness settles at the bound of the method, which no flow has."""

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


def late_sharpness(method, precondition=None):
    """Iterate 6,000 full-batch steps; return the mean largest Hessian eigenvalue of the last 1,500."""
    path = ia.iterate(method, loss, NETWORK.init(jax.random.key(1)), 6000, every=100)
    assert path.diverged is None
    with jax.enable_x64(True):
        _, rebuild = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), path.params))

        @jax.jit
        def sharpness(z, scale):
            H = jax.hessian(lambda z: loss(rebuild(z)))(z)
            return jnp.linalg.eigvalsh(H / jnp.sqrt(scale)[:, None] / jnp.sqrt(scale))[-1]

        values = []
        for k in range(46, 61, 2):
            row = jax.tree.map(lambda leaf, k=k: jnp.asarray(leaf[k]), (path.params, path.state))
            z = ravel_pytree(row[0])[0]
            values.append(sharpness(z, jnp.ones_like(z) if precondition is None else precondition(row[1])))
    return float(np.mean(values))


@pytest.mark.parametrize(
    ("make", "a"),
    [
        (ia.sgd, 0.4),
        (lambda a: ia.momentum(a, 0.5), 1.2),
        (lambda a: ia.momentum(a, 0.5, scheme="explicit"), 0.2),
        (lambda a: ia.momentum(a, 0.9, scheme="explicit"), 0.2),
    ],
    ids=["GD: 2", "semi-implicit b=.5: 6", "explicit b=.5: 1", "explicit b=.9: 1"],
)
def test_sharpness_settles_at_the_bound(make, a):
    bound = ia.stability(make(a), [1.0]).threshold
    assert late_sharpness(make(a)) == pytest.approx(bound, rel=0.03)


def test_preconditioned_sharpness_of_adam_climbs_to_its_bound():
    """At b1 = 0.9 it climbs to (2+2b1)/((1-b1) a) = 38/a and bursts throw it back: its mean is 36.3 here."""
    method = ia.adam(1e-3)

    def precondition(state):
        nu = ravel_pytree(state.nu)[0] / (1 - 0.999 ** state.count.astype(float))
        return jnp.sqrt(nu) + 1e-8

    share = late_sharpness(method, precondition) / ia.stability(method, [1.0]).threshold
    assert 0.9 < share < 1.02
