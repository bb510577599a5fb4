"""Records that share a call: the run is the same as without a look, wherever it stops and whatever is asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import close, identical, steps_in

import inercia as ia
from inercia.training import short_records

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 3)).astype(np.float32)
DATA = (X, (X @ RNG.normal(size=(3, 1))).astype(np.float32))
METHOD = ia.adam(0.01)
W = jnp.zeros((3, 1))


def loss(params, batch):
    return jnp.mean((batch[0] @ params - batch[1]) ** 2)


def noisy(params, batch, key):
    return loss(params + 0.01 * jax.random.normal(key, params.shape), batch), {"norm": jnp.abs(params).sum()}


RUNS = {
    "epochs": {},
    "several a record": {"every": 7},
    "within an epoch": {"every": 2, "epochs": 9},
    "partition": {"sampler": "partition", "batch_size": 5},
    "all rows": {"sampler": "full", "batch_size": None, "every": 4},
    "keys and aux": {"loss": noisy, "has_aux": True, "evaluate": lambda p: p, "validation": lambda p: jnp.sum(p**2)},
}


def train(epochs=20, loss=loss, **options):
    return ia.train(METHOD, loss, W, DATA, **({"epochs": epochs, "batch_size": 4, "key": 0} | options))


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """The counts of the calls, each as long as it may be."""
    counts, made = [], short_records._several
    monkeypatch.setattr(short_records, "AIM", 1e9)
    monkeypatch.setattr(short_records, "_several", lambda *given: (counts.append(int(given[-1])), made(*given))[1])
    return counts


@pytest.mark.slow
@pytest.mark.parametrize("case", RUNS)
def test_a_look_changes_nothing(case, calls):
    options, seen = RUNS[case], []
    bare = train(**options)
    looked = train(**options, on_record=lambda record: seen.append((record.step, record.loss)))
    identical(bare, looked)
    assert [step for step, _ in seen] == bare.history.step.tolist()
    close(np.array([value for _, value in seen]), bare.history.loss, 0)
    assert len(calls) < len(seen)
    assert len(seen) - sum(calls) in (0, 1)  # what is left of a record at the end has a call of its own


@pytest.mark.slow
def test_it_stops_at_any_record_as_if_it_had_ended_there(calls):
    for stop in (1, 2, 5, 20):
        told = []

        def look(record, stop=stop, told=told):
            told.append(record.step)
            return len(told) == stop

        identical(train(on_record=look), train(stop))
        assert told == [3 * k for k in range(1, stop + 1)]


def test_params_are_those_of_the_record_and_who_asks_is_told_each_by_itself(calls):
    path, found, kept = train(evaluate=lambda p: p).history.evaluate, {}, []

    def look(record):
        kept.append(record)
        if record.step >= 12:
            found[record.step // 3 - 1] = np.asarray(record.params)

    identical(train(on_record=look), train())
    for k, params in found.items():
        close(params, path[k], 0)
    assert calls[:2] == [1, 19]
    assert set(calls[2:]) <= set(range(3, 20))  # made again up to the record
    with pytest.raises(RuntimeError, match="during the call of on_record alone"):
        kept[-1].params  # noqa: B018
    calls.clear()
    identical(train(on_record=lambda record: record.params), train())
    assert calls == [1] * 20


def test_it_is_saved_where_it_is_due_and_where_a_callback_fails(tmp_path, calls):
    pytest.importorskip("orbax.checkpoint")

    def look(record):
        if record.step == 48:
            raise OSError("no space is left")

    options = {"checkpoint": tmp_path, "save_every": 15, "keep": 9}
    with pytest.raises(OSError, match="no space"):
        train(on_record=look, **options)
    assert steps_in(tmp_path) == [15, 30, 45, 48]
    assert calls == [1, 4, 5, 5, 5, 1]  # the last is made again up to the record
    identical(train(on_record=lambda record: None, **options), train())
    assert steps_in(tmp_path) == [15, 30, 45, 48, 60]


@pytest.mark.parametrize("policy", ["stop", "raise"])
def test_a_divergence_within_a_call_ends_the_run_there(policy, calls):
    method = ia.sgd(lambda k: jnp.where(k == 13, jnp.inf, 0.01))
    run = lambda **options: ia.train(method, loss, W, DATA, epochs=20, batch_size=4, key=0, **options)  # noqa: E731
    if policy == "raise":
        with pytest.raises(FloatingPointError, match="the loss of iteration 14 of 15"):
            run(on_divergence=policy)
        return
    seen = []
    with pytest.warns(ia.InerciaWarning, match="the loss of iteration 14 of 15"):
        result = run(on_divergence=policy, on_record=lambda record: seen.append(record.diverged))
    assert result.diverged == 14
    assert seen == [None] * 4 + [14]
