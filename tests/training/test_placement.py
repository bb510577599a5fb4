"""One device against eight: the same training, the same iterates, arrays that stay where they were put."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import pytest

import inercia as ia

PATHS = [Path(__file__).parent, Path(__file__).parents[2] / "benchmarks"]  # of `runs` and `collectives`
EIGHT = os.environ | {
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    "PYTHONPATH": os.pathsep.join([*map(str, PATHS), os.environ.get("PYTHONPATH", "")]),
}


def on_eight_devices(code):
    """Run `code` in a process that has eight CPU devices."""
    head = """
        import jax, jax.numpy as jnp, numpy as np, inercia as ia
        from runs import close
        from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
        train, _ = ia.digits()
        network = ia.mlp([64, 32, 10])
        loss, params = ia.risk(network, "cross-entropy"), network.init(jax.random.key(0))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(code)],
        capture_output=True, text=True, env=EIGHT, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("shard_params", [False, True], ids=["whole", "sharded"])
@pytest.mark.parametrize("axes", ["Auto", "Explicit"])
def test_equal_to_one_device(shard_params, axes):
    on_eight_devices(f"""
        mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.{axes},) * 2)
        options = dict(epochs=2, batch_size=128, key=1, evaluate=lambda p: ia.accuracy(network)(p, train))
        one = ia.train(ia.adam(1e-3), loss, params, train, **options)
        many = ia.train(ia.adam(1e-3), loss, params, train, mesh=mesh, shard_params={shard_params}, **options)
        close(one, many)
        shards = {{leaf.sharding.shard_shape(leaf.shape) for leaf in jax.tree.leaves(many.params)}}
        expected = {{(8, 32), (4,), (4, 10), (10,)}} if {shard_params} else {{(64, 32), (32,), (32, 10), (10,)}}
        assert shards == expected, shards
        for moment in (many.state.mu, many.state.nu):
            assert [m.sharding for m in jax.tree.leaves(moment)] == [p.sharding for p in jax.tree.leaves(many.params)]
    """)


@pytest.mark.slow
def test_sharding_stays_inside_the_program():
    """Between two steps nothing is moved but gradients: params and state keep their shardings in the loop."""
    on_eight_devices("""
        mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
        options = dict(epochs=1, batch_size=128, mesh=mesh, shard_params=True)
        first = ia.train(ia.adam(1e-3), loss, params, train, key=1, **options)
        again = ia.train(ia.adam(1e-3), loss, first.params, train, key=2, state=first.state, **options)
        for a, b in zip(jax.tree.leaves(first[:2]), jax.tree.leaves(again[:2]), strict=True):
            assert a.sharding == b.sharding
    """)


@pytest.mark.slow
@pytest.mark.parametrize("axes", ["Auto", "Explicit"])
def test_iterate_on_a_mesh(axes):
    on_eight_devices(f"""
        mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.{axes},))
        x, y = (jnp.asarray(part[:1024]) for part in train)
        one = ia.iterate(ia.momentum(0.1), lambda p: loss(p, (x, y)), params, 20)
        x, y = (jax.device_put(part, NamedSharding(mesh, P("d"))) for part in (x, y))
        spread = jax.device_put(params, NamedSharding(mesh, P()))
        close(one.params, ia.iterate(ia.momentum(0.1), lambda p: loss(p, (x, y)), spread, 20).params, 1e-10)
    """)


@pytest.mark.slow
def test_iterate_with_params_cut_over_the_mesh():
    on_eight_devices("""
        mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
        batch = tuple(jnp.asarray(part[:1024]) for part in train)
        one = ia.iterate(ia.adam(1e-3), lambda p: loss(p, batch), params, 20)
        where = lambda p: NamedSharding(mesh, P("d") if p.shape[0] % 8 == 0 else P())
        cut = jax.tree.map(lambda p: jax.device_put(p, where(p)), params)
        close(one.params, ia.iterate(ia.adam(1e-3), lambda p: loss(p, batch), cut, 20).params, 1e-10)
    """)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_devices():
    pytest.importorskip("orbax.checkpoint")
    on_eight_devices("""
        import tempfile
        eight, two = (Mesh(np.array(jax.devices()[:n]), ("d",)) for n in (8, 2))
        method, options = ia.adam(1e-3), dict(batch_size=128, key=1)
        whole = ia.train(method, loss, params, train, epochs=4, **options)
        for first, second in (({}, dict(mesh=eight)), (dict(mesh=eight, shard_params=True), dict(mesh=two))):
            with tempfile.TemporaryDirectory() as folder:
                ia.train(method, loss, params, train, epochs=2, checkpoint=folder, **first, **options)
                close(whole, ia.train(method, loss, params, train, epochs=4, checkpoint=folder, **second, **options))
    """)


@pytest.mark.slow
def test_streams_on_a_mesh(tmp_path):
    on_eight_devices(f"""
        mesh = jax.make_mesh((4, 2), ("a", "b"))
        x, y = train
        np.savez("{tmp_path}/rows.npz", x=x, y=y)
        data = ia.shards(["{tmp_path}/rows.npz"])
        batches = [(x[k:k + 64], y[k:k + 64]) for k in range(0, 640, 64)]
        options = dict(epochs=2, key=1, evaluate=lambda p: ia.accuracy(network)(p, train))
        method = ia.adam(1e-3)
        one = ia.train(method, loss, params, train, batch_size=128, **options)
        close(one, ia.train(method, loss, params, data, batch_size=128, mesh=mesh, shard_params=True, **options))
        one = ia.train(method, loss, params, batches, **options)
        close(one, ia.train(method, loss, params, batches, mesh=mesh, **options))
        try:
            ia.train(method, loss, params, [(x[:20], y[:20])], epochs=1, mesh=mesh)
        except ValueError as error:
            assert "8 devices and a batch has 20 rows" in str(error), error
        else:
            raise AssertionError("accepted")
    """)


@pytest.mark.slow
def test_keys_model_state_and_early_stopping_on_a_mesh():
    """Dropout draws the same on one device and on eight; the averages and the best params are those of one."""
    on_eight_devices("""
        mesh = jax.make_mesh((8,), ("d",))
        def noisy(params, stats, batch, key):
            x, y = batch
            x = x * jax.random.bernoulli(key, 0.8, x.shape)
            return loss(params, (x, y)), (x.mean(), {"mean": 0.9 * stats["mean"] + 0.1 * x.mean(axis=0)})
        options = dict(epochs=3, batch_size=128, key=1, model_state={"mean": np.zeros(64, np.float32)}, has_aux=True,
                       validation=lambda p, s: loss(p, train), patience=2)
        one = ia.train(ia.adam(1e-3), noisy, params, train, **options)
        close(one, ia.train(ia.adam(1e-3), noisy, params, train, mesh=mesh, **options))
        close(one, ia.train(ia.adam(1e-3), noisy, params, train, mesh=mesh, shard_params=True, **options))
        assert one.best == 33
    """)


@pytest.mark.slow
def test_the_sharding_that_params_came_with_is_kept():
    on_eight_devices("""
        mesh = jax.make_mesh((4, 2), ("data", "model"))
        specs = {(64, 32): P(None, "model"), (32,): P("model"), (32, 10): P("model", None), (10,): P(None)}
        cut = jax.tree.map(lambda p: jax.device_put(p, NamedSharding(mesh, specs[p.shape])), params)
        options = dict(epochs=2, batch_size=128, key=1)
        one = ia.train(ia.adam(1e-3), loss, params, train, **options)
        for shard in (False, True):
            many = ia.train(ia.adam(1e-3), loss, cut, train, mesh=mesh, shard_params=shard, **options)
            close(one, many)
            for tree in (many.params, many.state.mu, many.state.nu):
                for leaf in jax.tree.leaves(tree):
                    came = NamedSharding(mesh, specs[leaf.shape]).shard_shape(leaf.shape)
                    assert leaf.sharding.shard_shape(leaf.shape) == came, (leaf.shape, leaf.sharding)
        other = Mesh(np.array(jax.devices()), ("d",))
        try:
            ia.train(ia.adam(1e-3), loss, cut, train, mesh=other, **options)
        except ValueError as error:
            assert "must lie on the mesh that train gets" in str(error), error
        else:
            raise AssertionError("accepted")
        close(one, ia.train(ia.adam(1e-3), loss, jax.device_get(cut), train, mesh=other, **options))
    """)


@pytest.mark.slow
def test_mapped_trainings_are_shared_out_and_what_does_not_fit_a_mesh_is_refused():
    """The gradients of other devices by the start that all share are summed by nobody. One process for both."""
    on_eight_devices("""
        from collectives import collectives
        rows, network = tuple(part[:64] for part in train), ia.mlp([64, 10])
        loss, params = ia.risk(network, "cross-entropy"), network.init(jax.random.key(0))
        def one(given, data=rows, loss=loss, **options):
            key, rate = given
            options = options or dict(epochs=2, batch_size=16)
            return ia.train(ia.momentum(rate), loss, params, data, key=key, **options).params
        keys, rates = jax.random.split(jax.random.key(1), 16), jnp.geomspace(1e-3, 1e-1, 16)
        def made(program, *given):
            compiled = program.lower(*given).compile()
            return compiled(*given), [each.kind for each in collectives(compiled.as_text())]

        seeds, chunks = Mesh(jax.devices(), ("seeds",)), lambda given: jax.lax.map(one, given, batch_size=1)
        placed = jax.device_put((keys, rates), NamedSharding(seeds, P("seeds")))
        alone = jax.jit(jax.vmap(one))((keys, rates))
        shared = jax.jit(jax.shard_map(chunks, mesh=seeds, in_specs=P("seeds"), out_specs=P("seeds")))
        for program, given in ((jax.jit(jax.vmap(one)), placed), (shared, (keys, rates))):
            many, sent = made(program, given)
            close(alone, many)
            assert not sent, sent
            assert {leaf.sharding.shard_shape(leaf.shape)[0] for leaf in jax.tree.leaves(many)} == {2}
        from inercia.training.placement import place
        lies, three = place(seeds, True, 16, params), jax.tree.map(lambda leaf: leaf[:3], alone)
        close(three, jax.vmap(lambda start: lies.put(start, lies.of_carry(start)))(three))  # mapped starts and a mesh

        # And the rows of each over two devices; only the loss tells trainings apart, by a factor in place of a rate.
        both, full = Mesh(np.array(jax.devices()).reshape(4, 2), ("seeds", "rows")), dict(epochs=4, sampler="full")
        def scaled(given, data):
            mean = lambda params, batch: given[1] * jax.lax.pmean(loss(params, batch), "rows")
            return one((given[0], 1.0), data, mean, **full)
        every = jax.vmap(scaled, in_axes=(0, None))
        every = jax.jit(jax.shard_map(every, mesh=both, in_specs=(P("seeds"), P("rows")), out_specs=P("seeds")))
        many, sent = made(every, (keys, rates), rows)
        close(jax.jit(jax.vmap(lambda given: one(given, **full)))((keys, rates)), many, 1e-5, 1e-6)
        assert sent == ["all-reduce"], sent

        explicit = jax.make_mesh((8,), ("d",))
        lying = jax.device_put((keys, rates), NamedSharding(explicit, P("d")))
        batch_of = lambda size, mesh: lambda given: one(given, epochs=1, batch_size=size, mesh=mesh)
        inside = jax.shard_map(jax.vmap(batch_of(16, seeds)), mesh=seeds, in_specs=P("seeds"), out_specs=P("seeds"))
        for call, given, words in (
            (batch_of(20, explicit), (0, 0.1), "8 devices and batch_size is 20"),
            (inside, (keys, rates), "inside jax.shard_map train takes no mesh"),
            (jax.vmap(one), lying, "some lie on explicit ones"),
        ):
            try:
                call(given)
            except (TypeError, ValueError) as error:
                assert words in str(error), error
            else:
                raise AssertionError(words)
    """)


def test_shards_need_a_mesh():
    network = ia.mlp([64, 10])
    with pytest.raises(ValueError, match="shard_params needs devices to shard over: pass mesh too"):
        ia.train(
            ia.sgd(0.1), ia.risk(network, "cross-entropy"), network.init(jax.random.key(0)), ia.digits().train,
            epochs=1, batch_size=100, key=0, shard_params=True,
        )  # fmt: skip


def test_a_mesh_of_one_is_no_mesh():
    data, _ = ia.digits()
    network = ia.mlp([64, 10])
    loss, params = ia.risk(network, "cross-entropy"), network.init(jax.random.key(0))
    options = {"epochs": 1, "batch_size": 100, "key": 0}
    mesh = jax.make_mesh((1,), ("d",))
    assert ia.train(ia.sgd(0.1), loss, params, data, mesh=mesh, **options).diverged is None
    with pytest.raises(TypeError, match=r"jax\.sharding\.Mesh"):
        ia.train(ia.sgd(0.1), loss, params, data, mesh=8, **options)
