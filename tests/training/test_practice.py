"""The page on training runs, and what it shows together is the reader's own loop."""

import csv
import re
import sys
import types
from pathlib import Path

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from runs import close

import inercia as ia

PAGE = Path(__file__).parents[2] / "docs" / "training_practice.md"


@pytest.mark.slow
def test_the_page_runs_and_is_the_own_loop(capsys, monkeypatch):
    scalars, writer = (
        [],
        types.ModuleType("tensorboardX"),
    )  # as tensorboardX's, whose add_scalar(tag, value, step) it is
    made = types.SimpleNamespace(add_scalar=lambda *given: scalars.append(given))
    monkeypatch.setattr(writer, "SummaryWriter", lambda logdir: made, raising=False)
    monkeypatch.setitem(sys.modules, "tensorboardX", writer)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    page: dict = {"__name__": "page"}
    exec(compile(code, PAGE.name, "exec"), page)
    best, averaged = map(float, re.findall(r"0\.\d+", capsys.readouterr().out))
    assert min(best, averaged) > 0.95
    with open(page["folder"] / "curve.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["batches"]) for row in rows] == page["result"].history.step.tolist()
    close(np.array([float(row["validation"]) for row in rows]), page["result"].history.validation)
    history = page["result"].history
    assert [value for tag, value, _ in scalars if tag == "loss"] == history.loss.tolist()
    assert [step for tag, _, step in scalars if tag == "validation"] == history.step.tolist()

    method, loss, params, data = (page[name] for name in ("method", "loss", "params", "rows"))
    result = ia.train(method, loss, params, data, epochs=1, batch_size=32, key=1)
    assert {leaf.dtype for leaf in jax.tree.leaves(result.params)} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(result.params[2].b, params[2].b)  # frozen
    program = str(jax.make_jaxpr(jax.grad(loss))(params, (data.x[:32], data.y[:32])))
    assert "bf16[32,128]" in program
    assert "checkpoint" in program or "remat" in program

    drawn = ia.sampler("shuffle", len(data.x), 32)
    rows = np.asarray(drawn.rows(jax.random.key(1), 0, drawn.epoch)).reshape(-1, 64)  # two batches to an update
    gradient = jax.jit(jax.grad(loss))
    both = optax.chain(optax.clip_by_global_norm(1.0), optax.partition(page["groups"], page["labels"]))
    state, mean = both.init(params), params
    for chosen in rows:
        halves = [gradient(params, (data.x[part], data.y[part])) for part in (chosen[:32], chosen[32:])]
        updates, state = both.update(jax.tree.map(lambda a, b: (a + b) / 2, *halves), state, params)
        params = optax.apply_updates(params, updates)
        mean = jax.tree.map(lambda a, p: 0.98 * a + 0.02 * p, mean, params)
    start, own, average, found = (
        np.asarray(jax.flatten_util.ravel_pytree(tree)[0])
        for tree in (page["params"], params, mean, result.state.inner_opt_state[-1])
    )
    theirs = np.asarray(jax.flatten_util.ravel_pytree(result.params)[0])
    moved = np.linalg.norm(own - start)
    assert np.linalg.norm(theirs - own) < 0.02 * moved  # the rounding of bfloat16, in another order of sums
    assert np.linalg.norm(found - average) < 0.02 * np.linalg.norm(average - start)
    assert jnp.all(result.state.gradient_step == len(rows))
