"""Where schedules change: found to the last bit, whatever the size of the change."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from inercia.flows.breakpoints import changes
from inercia.flows.pieces import pieces

CONSTANT = optax.constant_schedule
FOUND = {
    "join": (optax.join_schedules([CONSTANT(0.1), CONSTANT(0.2), CONSTANT(0.1)], [50, 50.5]), [50, 50.5]),
    "piecewise": (optax.piecewise_constant_schedule(0.1, {10: 0.5, 25: 0.1}), [10, 25]),
    "staircase": (optax.exponential_decay(0.1, 20, 0.5, transition_begin=7, staircase=True), [7, 27, 47, 67, 87]),
    "decay": (optax.exponential_decay(0.1, 20, 0.5), []),
    "warmup cosine": (optax.warmup_cosine_decay_schedule(0.0, 0.1, 10, 60), [10, 60]),
    "onecycle": (optax.linear_onecycle_schedule(60, 0.1), [18, 51, 60]),
    "interpolated table": (lambda t: jnp.interp(t, jnp.array([0.0, 8, 20.5]), jnp.array([0.1, 0.3, 0.2])), [8, 20.5]),
    "table": (lambda t: jnp.array([0.1, 0.2, 0.3])[jnp.clip(jnp.asarray(t // 30, int), 0, 2)], [30, 60, 90]),
    "periodic": (lambda t: jnp.where(jnp.mod(t, 40.0) < 0.01, 0.1, 0.2), [0.01, 40, 40.01, 80, 80.01]),
    "corner": (lambda t: jnp.abs(t - 30.25), [30.25]),
    "on a switch": (lambda t: jax.lax.switch(jnp.asarray(t // 50, int), [lambda t: t, lambda t: 2 * t], t), [50]),
    "a jump of 1e-12": (lambda t: jnp.where(t > 33.3, 0.1, 0.1 + 1e-12), [33.3]),
    "smooth": (lambda t: 0.1 * jnp.exp(-t / 10), []),
}


@pytest.mark.parametrize("name", FOUND)
def test_every_change_is_found(name):
    schedule, right = FOUND[name]
    with jax.enable_x64(True):
        cut = pieces(0.0, 99.0, changes(schedule, 0.0, 99.0))
    np.testing.assert_allclose([p.end for p in cut[:-1]], right, rtol=1e-13)
    assert all(p.last < q.first <= p.end for p, q in pairwise(cut))


def test_each_side_is_read_at_its_own_value():
    schedule = FOUND["piecewise"][0]
    with jax.enable_x64(True):
        cut = pieces(0.0, 25.0, changes(schedule, 0.0, 25.0))
        assert [p[:2] for p in cut] == [(0.0, cut[1].start), (cut[1].start, 25.0)]
        assert [float(schedule(jnp.float64(p.last))) for p in cut] == pytest.approx([0.1, 0.05])  # not 0.005 at 25
        assert float(schedule(jnp.float64(cut[1].first))) == pytest.approx(0.05)


def test_backwards():
    forth = pieces(0.0, 9.0, [(np.nextafter(4.0, 0), 4.0)])
    back = pieces(9.0, 0.0, [(np.nextafter(4.0, 0), 4.0)])
    assert [(p.end, p.start, p.first, p.last) for p in reversed(back)] == [tuple(p) for p in forth]


def test_decisions_on_what_is_not_the_time_do_not_count():
    def flow(t, g):
        return jnp.clip(g, -1, 1) * jnp.where(t < 3, 1.0, 2.0), jnp.maximum(g * t, 0)

    with jax.enable_x64(True):
        assert changes(flow, 0.0, 9.0, jnp.ones(3)) == [(np.nextafter(3.0, 0), 3.0)]


def test_too_many_changes_are_refused():
    with jax.enable_x64(True), pytest.raises(ValueError, match="must not change more than 200,000 times"):
        changes(lambda t: jnp.floor(1e6 * t), 0.0, 1.0)
