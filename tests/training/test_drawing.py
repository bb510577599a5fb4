"""Batches that the host draws are those of the sampler's program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inercia as ia
from inercia.training import drawing

KEY = jax.random.key(5)


@pytest.mark.parametrize("x64", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize(("rows", "size"), [(7, 2), (600, 150)])  # one round of sorting, two
def test_rows_of_any_calls(rows, size, x64, monkeypatch):
    monkeypatch.setattr(drawing, "DRAWN", 11 * size)  # stretches end within epochs and within calls
    with jax.enable_x64(x64):
        sampler = ia.sampler("shuffle", rows, size)
        total = 40
        expected = np.asarray(sampler.rows(KEY, 0, total))
        for calls in ([5] * 8, [40], [1] * 40, [12, 12, 12, 4], [7, 1, 19, 13]):
            ahead, at = drawing.Ahead(sampler, KEY, total, calls[0]), 0
            for steps in calls:
                np.testing.assert_array_equal(ahead.rows(at, steps), expected[at : at + steps])
                at += steps
        late = drawing.Ahead(sampler, KEY, total, 5)  # a training that goes on
        np.testing.assert_array_equal(late.rows(23, 5), expected[23:28])


def test_a_training_is_the_same_whoever_draws(monkeypatch):
    x = np.linspace(-1, 1, 24, dtype=np.float32)[:, None]
    start = {"w": jnp.ones((1, 1)), "b": jnp.zeros(1)}

    def train(**options):
        return ia.train(ia.adam(0.1), loss, start, (x, 2 * x), epochs=3, batch_size=5, key=KEY, **options)

    one = train()
    many = train(on_record=lambda record: None)
    inside = jax.jit(lambda: train().params)()
    monkeypatch.setattr(drawing, "suits_host", lambda *_: False)
    for other in (many.params, inside, train().params):
        jax.tree.map(np.testing.assert_array_equal, one.params, other)


def loss(params, batch):
    return jnp.mean((batch[0] @ params["w"] + params["b"] - batch[1]) ** 2)
