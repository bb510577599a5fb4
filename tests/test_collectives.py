"""What eight devices send each other: gradients and products, summed; never rows."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PROGRAM = """
HloModule jit_f

%sum (a: f32[], b: f32[]) -> f32[] {
  ROOT %add.1 = f32[] add(%a, %b)
}

%inner (p: (s32[], f32[4,2])) -> (s32[], f32[4,2]) {
  %all-gather.7 = bf16[16,2]{1,0} all-gather(%part), dimensions={0}
}

%outer (p: (s32[], f32[4,2])) -> (s32[], f32[4,2]) {
  %while.2 = (s32[], f32[4,2]{1,0}) while(%t), condition=%less, body=%inner
  %all-reduce.3 = (f32[4,2]{1,0}, pred[]) all-reduce(%g, %h), to_apply=%sum
}

ENTRY %main (p: f32[4,2]) -> f32[4,2] {
  %while.1 = (s32[], f32[4,2]{1,0}) while(%t), condition=%less, body=%outer
  %all-reduce.4 = f64[] all-reduce(%l), to_apply=%sum
}
"""


def script():
    spec = importlib.util.spec_from_file_location("collectives", BENCHMARKS / "collectives.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_collectives_are_read_with_their_bytes_and_loops(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    found = [tuple(each) for each in script().collectives(PROGRAM)]
    assert sorted(found) == [("all-gather", 64, 2), ("all-reduce", 8, 0), ("all-reduce", 33, 1)]


@pytest.mark.slow
def test_rows_change_no_collective():
    code = """
import jax
jax.config.update("jax_num_cpu_devices", 8)
from collectives import WIDTHS, measured
import inercia as ia
size = sum(leaf.size for leaf in jax.tree.leaves(ia.mlp(WIDTHS).init(jax.random.key(0))))
for name, most in (("train, batches from outside", 1), ("product with the Hessian", 2)):
    few, many = (measured(name, 8, rows) for rows in (64, 256))
    assert sorted(few) == sorted(many), (name, few, many)
    # The gradient and the loss; of a product, weights between two layers in two terms.
    assert 4 * size <= sum(each.bytes for each in many) <= most * 4 * (size + 1), (name, many)
"""
    path = os.pathsep.join([str(BENCHMARKS), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path},
        timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
