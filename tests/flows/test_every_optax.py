"""What every factory of optax and optax.contrib supports here; docs/optax_support.md is written by this file.

    python tests/flows/test_every_optax.py          writes the table, some minutes; the tests check every ninth row

The factories are found by introspection: a new one in optax fails the test that makes all of them until it has a row.
"""

import inspect
import json
import re
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import inercia as ia
from inercia.core.optimizer_state import advance, bowl, update_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "optax_support.md"
COLUMNS = ("iterate", "integrate", "threshold", "train", "with checkpoint")
SGD = optax.sgd(0.01)
RATE = 0.01


def everything(*_, **__):
    return True


def each(value):
    """Return the function params -> a tree like params that holds the value at every leaf."""
    return lambda params: jax.tree.map(lambda _: value, params)


#: Arguments of the factories that need more than a learning rate.
ARGUMENTS = {
    "adaptive_grad_clip": (0.1,),
    "add_noise": (0.01, 0.55, 0),
    "apply_if_finite": (optax.adam(RATE), 3),
    "chain": (optax.clip(1.0), SGD),
    "named_chain": (("clip", optax.clip(1.0)), ("sgd", SGD)),
    "clip": (1.0,),
    "clip_by_block_rms": (1.0,),
    "clip_by_global_norm": (1.0,),
    "conditionally_mask": (SGD, everything),
    "conditionally_transform": (SGD, everything),
    "ema": (0.9,),
    "flatten": (optax.adam(RATE),),
    "freeze": (each(False),),
    "lookahead": None,
    "masked": (SGD, each(True)),
    "monitor": None,
    "multi_transform": ({"a": SGD}, each("a")),
    "partition": ({"a": SGD}, each("a")),
    "noisy_sgd": (RATE, 0.01, 0.55, 0),
    "scale": (-RATE,),
    "scale_by_backtracking_linesearch": (5,),
    "scale_by_zoom_linesearch": (5,),
    "scale_by_schedule": (lambda count: -RATE / (1 + count),),
    "selective_transform": None,
    "snapshot": None,
    "stateless": (lambda updates, params: jax.tree.map(lambda u: -RATE * u, updates),),
    "stateless_with_tree_map": (lambda u, p: -RATE * u,),
    "trace": (0.9,),
    "with_extra_args_support": (SGD,),
    "inject_hyperparams": None,
    "inject_stateful_hyperparams": None,
    "differentially_private_aggregate": (1.0, 0.1, 0),
    "dpsgd": (RATE, 1.0, 0.1, 0),
    "mechanize": (SGD,),
    "sam": (SGD, SGD),
    "schedule_free": (SGD, RATE),
    "split_real_and_imaginary": (SGD,),
}
#: Made in another way than by positional arguments.
MADE = {
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.sgd)(optax.linear_schedule(RATE, RATE / 2, 5)),
    "inject_stateful_hyperparams": lambda: optax.inject_stateful_hyperparams(optax.sgd)(RATE),
    "MultiSteps": lambda: optax.MultiSteps(SGD, 2).gradient_transformation(),
    "monitor": lambda: optax.monitor({"norm": lambda updates, **_: optax.global_norm(updates)}),
    "snapshot": lambda: optax.snapshot("norm", lambda updates, **_: optax.global_norm(updates)),
    "selective_transform": lambda: optax.selective_transform(SGD, freeze_mask=each(False)),
    "scale_by_muon": lambda: optax.contrib.scale_by_muon(
        weight_dimension_numbers=each(optax.contrib.MuonDimensionNumbers())
    ),
    "sam": lambda: optax.contrib.sam(SGD, SGD, opaque_mode=True),
}
#: Callables without an annotation, or with another, that are no factories of plain transformations.
OTHERS = {
    "lookahead": "works on pairs of fast and slow params",
    "measure_with_ema": "returns a measurement, no update",
    "matrix_inverse_pth_root": "a function of matrices",
    "sigmoid_binary_cross_entropy": "a loss",
    "update_infinity_moment": "a formula",
    "update_moment": "a formula",
    "update_moment_per_elem_norm": "a formula",
    "bias_correction": "a formula",
    "init_empty_state": "a formula",
    "schedule_free_eval_params": "a function of a state",
}


def factories():
    """Return the factories, name -> (function, its module's name)."""
    found = {}
    for module in (optax, optax.contrib):
        for name, function in sorted(vars(module).items()):
            if name.startswith("_") or not inspect.isfunction(function) or name in OTHERS:
                continue
            returns = inspect.signature(function).return_annotation
            kind = inspect.isclass(returns) and issubclass(returns, optax.GradientTransformation)
            if kind or returns is inspect.Signature.empty or name in MADE:
                found[name] = (function, module.__name__)
    return found | {"MultiSteps": (optax.MultiSteps, "optax")}


FACTORIES = factories()


def make(name):
    """Return a descending transformation: a piece that only scales the gradient is chained with a step."""
    function = FACTORIES[name][0]
    if name in MADE:
        transformation = MADE[name]()
    elif name in ARGUMENTS:
        transformation = function(*ARGUMENTS[name])
    else:
        needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
        transformation = function(*[RATE for p in needed if p.kind is p.POSITIONAL_OR_KEYWORD])
    return transformation


def descending(transformation):
    state = transformation.init(START)
    try:
        updates, _, _ = update_of(transformation, bowl, START, state)
        ascends = float(optax.tree.vdot(updates, START)) > 0
    except (TypeError, ValueError):
        ascends = False
    return optax.chain(transformation, optax.scale(-RATE)) if ascends else transformation


rng = np.random.default_rng(0)
X, Y = rng.normal(size=(16, 3)).astype(np.float32), rng.normal(size=(16, 2)).astype(np.float32)
START = {"w": jnp.asarray(rng.normal(size=(3, 2)), jnp.float32)}


def loss(params, batch):
    x, y = batch
    return jnp.mean((x @ params["w"] - y) ** 2)


FULL = partial(loss, batch=(X, Y))


def iterated(method):
    path = ia.iterate(method, FULL, START, 3)
    with jax.enable_x64(True):  # the loop by hand
        params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), START)
        state = method.init(params)
        data = X.astype(np.float64), Y.astype(np.float64)
        step = jax.jit(partial(advance, method, partial(loss, batch=data)))
        for k in range(3):
            np.testing.assert_allclose(path.params["w"][k], params["w"], rtol=1e-6, atol=1e-9)
            params, state, _ = step(params, state)
        np.testing.assert_allclose(path.params["w"][3], params["w"], rtol=1e-6, atol=1e-9)


def integrated(method):
    flow = ia.integrate(method, FULL, START, [0.0, 1.0, 2.0], solver="RK23", rtol=1e-3, atol=1e-6)
    assert np.isfinite(flow.loss).all()


def trained(method, folder=None):
    result = ia.train(method, loss, START, (X, Y), epochs=2, batch_size=4, key=0, checkpoint=folder)
    assert np.isfinite(np.asarray(result.history.loss)).all()


def resumed(method):
    with tempfile.TemporaryDirectory() as folder:
        trained(method, folder)
        trained(method, folder)


CALLS = {"iterate": iterated, "integrate": integrated, "threshold": lambda method: ia.threshold(method, warm=64)}


def answer(call, method):
    """Return "yes", the sentence of a refusal, or the type of an error that is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(method)
    except (ValueError, TypeError, ia.IntegrationError) as error:
        text = str(error)
        if "\n" not in text and text.endswith((".", "?")) and _raised_here(error):
            return "no: " + text
        return f"fails: {type(error).__name__}"
    except Exception as error:
        return f"fails: {type(error).__name__}"
    return "yes"


def _raised_here(error):
    """Whether inercia, and not a library below it, raised the error."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return "inercia" in Path(trace.tb_frame.f_code.co_filename).parts


def row(name):
    method = descending(make(name))
    found = {column: answer(CALLS[column], method) for column in ("iterate", "integrate", "threshold")}
    saved = answer(resumed, method)
    return found | {"train": saved if saved == "yes" else answer(trained, method), "with checkpoint": saved}


def written(rows):
    """Return the document."""
    reasons: list[str] = []

    def cell(text):
        if not text.startswith("no: "):
            return text
        reason = re.sub(r"-?\d+(\.\d+)?(e[+-]?\d+)?", "#", text.removeprefix("no: "))
        if reason not in reasons:
            reasons.append(reason)
        return f"no ({reasons.index(reason) + 1})"

    table = [
        f"| `{FACTORIES[name][1]}.{name}` | " + " | ".join(cell(rows[name][c]) for c in COLUMNS) + " |" for name in rows
    ]
    return "\n".join(
        [
            "# What each optimizer of optax supports",
            "",
            f"Written by `tests/flows/test_every_optax.py` with optax {optax.__version__}; do not edit. `iterate` is",
            "held against the same loop by hand; a transformation that only scales the gradient is chained with a step",
            f"of -{RATE}; `integrate` starts from a fresh state. *No* is a refusal in one sentence, found below by its",
            "number (# stands for a number in it); *fails* is an error of JAX or optax that nothing refuses yet.",
            "",
            "| transformation | " + " | ".join(COLUMNS) + " |",
            "|---" * (len(COLUMNS) + 1) + "|",
            *table,
            "",
            *[f"{n}. {reason}" for n, reason in enumerate(reasons, 1)],
            "",
            "Not in the table: " + "; ".join(f"`{name}`, {why}" for name, why in sorted(OTHERS.items())) + ".",
            "",
        ]
    )


def documented():
    """Return the table of the document: name -> column -> "yes", "no" or "fails: ..."."""
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `optax")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {
        cell[0].strip("`").split(".")[-1]: dict(zip(COLUMNS, (c.split(" (")[0] for c in cell[1:]), strict=True))
        for cell in cells
    }


def test_every_factory_has_a_row():
    assert set(documented()) == set(FACTORIES)


def test_every_factory_is_made():
    for name in FACTORIES:
        assert isinstance(make(name), optax.GradientTransformation), name


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FACTORIES)[::9])  # all of them: see above
def test_the_table_is_true(name):
    expected = documented()[name]
    found = {column: "no" if text.startswith("no: ") else text for column, text in row(name).items()}
    assert found == expected


if __name__ == "__main__":
    kept = Path(sys.argv[1]) if len(sys.argv) > 1 else None  # a file of rows, to go on from
    rows = json.loads(kept.read_text()) if kept and kept.exists() else {}
    for name in FACTORIES:
        if name not in rows:
            rows[name] = row(name)
            print(name, rows[name], flush=True)
            if kept:
                kept.write_text(json.dumps(rows))
    DOCUMENT.write_text(written({name: rows[name] for name in FACTORIES}))
