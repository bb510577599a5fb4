"""Eight devices, each with a part of the rows: the numbers of one."""

import os
import subprocess
import sys
import textwrap

import pytest


@pytest.mark.slow
@pytest.mark.long
def test_dynamics_over_eight_devices():
    code = """
        import jax, numpy as np, inercia as ia
        from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
        train, _ = ia.digits()
        network = ia.mlp([64, 4, 10], "tanh")
        params, risk = network.init(jax.random.key(0)), ia.risk(network)
        batch = train.x[:64], jax.nn.one_hot(train.y[:64], 10)
        mesh = Mesh(jax.devices(), ("rows",))
        cut = NamedSharding(mesh, P("rows"))
        one = lambda params: risk(params, batch)
        many = lambda params: risk(params, jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, cut), batch))
        assert "all-reduce" in jax.jit(jax.grad(many)).lower(params).compile().as_text()
        spread = jax.device_put(params, NamedSharding(mesh, P()))
        sharp = 3 * float(ia.curvature(one, params).values[0])
        method = ia.sgd(2 / sharp)
        def close(a, b):
            for a, b in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)
        close(ia.curvature(one, params, 2).values, ia.curvature(many, spread, 2).values)
        close(*(ia.central(method, loss, params, 5, k=1).params for loss in (one, many)))
    """
    eight = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=eight,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
