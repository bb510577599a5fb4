"""What the host does at records: callbacks, goals, early stopping, divergence."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from runs import close, identical, steps_in

import inercia as ia

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype(np.float32)
Y = (X @ RNG.normal(size=(3, 1)) + RNG.normal(size=(40, 1))).astype(np.float32)
HELD = (X[:10], Y[:10])
DATA = (X[10:18], Y[10:18])  # few rows, so that the held-out loss has its least early
W = jnp.zeros((3, 1))
METHOD = ia.momentum(0.05)


def loss(params, batch):
    x, y = batch
    return jnp.mean((x @ params - y) ** 2)


def held(params):
    return loss(params, HELD)


def train(epochs=30, method=METHOD, data=DATA, **options):
    return ia.train(method, loss, W, data, **({"epochs": epochs, "batch_size": 4, "key": 0} | options))


def batches(**options):
    """The rows of `train` in memory, as batches of a list."""
    rule = ia.sampler("partition", 8, 4)
    given = [tuple(part[rows] for part in DATA) for rows in np.asarray(rule.rows(jax.random.key(0), 0, 30))]
    return ia.train(METHOD, loss, W, given, **({"epochs": 1, "every": 2} | options))


def test_each_record_is_told():
    told = []
    result = train(5, on_record=told.append, evaluate=lambda p: {"w": p}, validation=HELD)
    identical(result, train(5, evaluate=lambda p: {"w": p}, validation=HELD))
    assert [record.step for record in told] == result.history.step.tolist() == [2, 4, 6, 8, 10]
    close([record.loss for record in told], list(result.history.loss), 0)
    close([record.validation for record in told], list(result.history.validation), 0)
    close(np.stack([record.evaluate["w"] for record in told]), result.history.evaluate["w"], 0)
    assert isinstance(told[0].evaluate["w"], np.ndarray)
    assert told[0].diverged is None
    assert told[0].model_state is None


def test_params_of_a_record_are_kept():
    kept = []
    result = train(5, on_record=lambda record: kept.append(record.params), evaluate=lambda p: p)
    close(np.stack(kept), result.history.evaluate, 0)


def test_a_curve_in_a_csv_file(tmp_path):
    import csv

    with open(tmp_path / "curve.csv", "w", newline="") as file:
        writer = csv.writer(file)
        train(3, on_record=lambda record: writer.writerow([record.step, record.loss]))
    assert len((tmp_path / "curve.csv").read_text().splitlines()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("run", [train, batches], ids=["memory", "batches"])
def test_a_goal(run):
    """True stops; another answer, such as the count that a writer gives back, does not."""
    losses = run().history.loss
    goal = float(np.sort(losses)[1])
    first = int(np.argmax(losses <= goal))
    result = run(on_record=lambda record: record.loss <= goal)
    close(result.history.loss, losses[: first + 1], 0)
    assert len(run(on_record=lambda record: 12).history.loss) == len(losses)


@pytest.mark.parametrize("validation", [HELD, held], ids=["rows", "function"])
@pytest.mark.parametrize("run", [train, batches], ids=["memory", "batches"])
def test_early_stopping_keeps_the_best(run, validation):
    full = run(evaluate=lambda p: p, validation=validation)
    metrics = np.asarray(full.history.validation)
    close(metrics, np.array([held(p) for p in full.history.evaluate]), 1e-5)
    least = next(k for k in range(len(metrics)) if len(metrics) > k + 3 and metrics[k + 1 : k + 4].min() >= metrics[k]
                 and metrics[: k + 1].min() == metrics[k])  # fmt: skip
    result = run(validation=validation, patience=3)
    assert len(result.history.step) == least + 4 < len(metrics)
    assert result.best == int(result.history.step[least])
    close(result.params, full.history.evaluate[least], 1e-6)
    assert full.best is None


def test_a_validation_that_is_no_number_is_told():
    with pytest.warns(ia.InerciaWarning, match="validation metric was never a number"):
        train(validation=lambda p: jnp.nan * p.sum(), patience=2)


@pytest.mark.slow
def test_early_stopping_goes_on(tmp_path):
    """Stopped by hand and resumed, it stops where it would have, with the params that were best before the stop."""
    pytest.importorskip("orbax.checkpoint")
    whole = train(validation=HELD, patience=3)
    for stop in (1, 3, len(whole.history.step)):
        folder = tmp_path / str(stop)
        train(stop, validation=HELD, patience=3, checkpoint=folder)
        identical(whole, train(validation=HELD, patience=3, checkpoint=folder))
        identical(whole, train(validation=HELD, patience=3, checkpoint=folder))  # it is over
    with pytest.raises(ValueError, match="its validation was"):
        train(validation=(HELD[0], -HELD[1]), patience=3, checkpoint=folder)


def test_a_callback_that_raises(tmp_path):
    pytest.importorskip("orbax.checkpoint")

    def look(record):
        if record.step == 6:
            raise OSError("the logger's disk is full")

    with pytest.raises(OSError, match="disk is full") as caught:
        train(on_record=look, checkpoint=tmp_path, save_every=40)
    assert caught.value.__notes__ == ["inercia: on_record raised this after iteration 6; the run is saved there."]
    assert steps_in(tmp_path) == [6]
    identical(train(checkpoint=tmp_path, save_every=40), train())
    with pytest.raises(OSError, match="disk is full") as caught:
        train(on_record=look)
    assert "nothing was saved" in caught.value.__notes__[0]


def test_an_interrupt_in_a_callback_comes_through():
    def look(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(on_record=look)


NAN = ia.sgd(lambda k: jnp.where(k == 7, jnp.nan, 0.01))


@pytest.mark.slow
def test_what_follows_a_divergence(tmp_path):
    with pytest.warns(ia.InerciaWarning, match="the loss of iteration 8 of 60"):
        result = train(method=NAN)
    assert result.diverged == 8
    assert len(result.history.step) == 30
    with pytest.warns(ia.InerciaWarning, match="the last params are not finite"):
        stopped = train(method=NAN, on_divergence="stop", validation=HELD, patience=20)
    assert stopped.diverged == 8
    assert stopped.history.step.tolist() == [2, 4, 6, 8]
    assert np.isfinite(stopped.params).all()  # the best
    with pytest.raises(FloatingPointError, match="the loss of iteration 8 of 9 is not finite; try a smaller learning"):
        train(method=NAN, on_divergence="raise", every=3)


def test_no_watcher_changes_the_run(tmp_path):
    """One NaN batch that the method skips: the bar, a checkpoint and a callback leave the run as it is."""
    pytest.importorskip("orbax.checkpoint")
    x = np.array(DATA[0])

    def guarded(params, batch):
        return loss(params, batch) / jnp.where(jnp.any(batch[0] == 7), 0.0, 1.0)

    x[2] = 7
    method = optax.apply_if_finite(optax.sgd(0.01), 9)
    options = {"epochs": 5, "batch_size": 2, "key": 0}

    def run(**watchers):
        with pytest.warns(ia.InerciaWarning, match="diverged"):
            return ia.train(method, guarded, W, (x, DATA[1]), **options, **watchers)

    bare = run()
    assert bare.history.step.tolist() == [4, 8, 12, 16, 20]
    assert np.isfinite(bare.params).all()
    for watchers in ({"progress": True}, {"checkpoint": tmp_path}, {"on_record": lambda record: None}):
        close(bare, run(**watchers), 1e-6)


@pytest.mark.slow
def test_one_sentence():
    for options, message in (
        ({"patience": 3}, "patience counts records without a smaller validation metric: pass validation too"),
        ({"patience": 0, "validation": HELD}, "patience must be at least 1"),
        ({"on_record": 3}, "on_record must be a function of a record, but it is int"),
        ({"on_divergence": "stp"}, "did you mean 'stop'"),
        ({"validation": lambda p: p}, r"validation must return one real number, but it returns shape \(3, 1\)"),
        ({"validation": (HELD[0], HELD[1][:4])}, "as many rows as each other"),
        ({"evaluate": lambda p: float(p[0, 0])}, "evaluate is compiled into the run, .*: compute it in on_record"),
        ({"evaluate": lambda p: ia.curvature(held, p)}, "evaluate is compiled into the run"),
        ({"evaluate": ia.curvature}, r"evaluate must take \(params\), but it takes \(loss.*, params"),
        ({"evaluate": lambda p: {"note": "good"}}, "evaluate must return arrays of numbers, or a tree of them"),
    ):
        with pytest.raises((ValueError, TypeError), match=message) as caught:
            train(**options)
        assert "\n" not in str(caught.value)
    for options in ({"on_record": print}, {"validation": HELD, "patience": 1}, {"on_divergence": "stop"}):
        with pytest.raises(ValueError, match="need a training of its own: inside jit or vmap"):
            jax.vmap(lambda rate, options=options: train(method=ia.sgd(rate), **options).params)(jnp.array([0.1, 0.2]))
