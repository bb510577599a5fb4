"""The networks and methods of benchmarks/architectures.py: each can be asked, and one cell follows the central flow."""

import importlib.util
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import inercia as ia


def benchmark_of(name):
    file = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CELLS = benchmark_of("architectures")


@pytest.mark.parametrize("name", CELLS.METHODS)
def test_every_method_has_a_bound(name):
    assert 0 < ia.threshold(CELLS.METHODS[name](1e-3)).bound < math.inf
    assert "," not in name  # several are asked for by commas


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS.NETWORKS)
def test_every_network_has_a_slope(name):
    loss, params = CELLS.problem(name)
    value, slope = jax.jit(jax.value_and_grad(loss))(params)
    assert 0.5 < float(value) < 50
    assert 5_000 < sum(leaf.size for leaf in jax.tree.leaves(params)) < 200_000
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(slope))


@pytest.mark.slow
def test_a_cell():
    """At its edge the perceptron is nearer to the central flow than to the stable one; its loss is as predicted."""
    row = dict(zip(CELLS.COLUMNS, CELLS.cell("mlp", "rmsprop", CELLS.warm("mlp"), 140, 1.1), strict=True))
    central, stable, loss = (
        float(row[key].rstrip(" %")) for key in ("to central flow", "to stable flow", "mean loss off by")
    )
    assert central < 5
    assert central < stable / 2
    assert loss < 5
