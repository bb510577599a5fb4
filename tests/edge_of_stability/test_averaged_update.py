"""The central flow of any optax transformation, read off its update: against closed forms and the averaged iterates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import inercia as ia
from inercia.edge_of_stability.averaged_method import Moment, in_closed_form
from inercia.edge_of_stability.averaged_reading import read_update
from inercia.edge_of_stability.averaged_update import as_averaged

THETA = {"a": jnp.arange(1.0, 7.0).reshape(3, 2), "b": jnp.array([0.5, -1.0])}


def bare(method):
    """The method without its name: nothing but two functions."""
    return optax.GradientTransformation(*method[:2])


SLOW, LONG = [pytest.mark.slow], [pytest.mark.slow, pytest.mark.long]

CLOSED = {
    "GD": ia.sgd(0.1),
    "heavy ball": ia.sgd(0.05, 0.5),
    "momentum": ia.momentum(0.1, 0.8),
    "refined": ia.momentum(0.1, 0.8, dt=0.5),
    "RMSProp": ia.rmsprop(1e-3, 0.95, bias_correction=True, eps_in_sqrt=False),
    "RMSProp, scheduled": ia.rmsprop(optax.cosine_decay_schedule(1e-3, 50), 0.9),
    "Adam": ia.adam(1e-3, 0.8, 0.99),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n == "momentum" else SLOW if n in ("RMSProp", "Adam") else LONG) for n in CLOSED],
)
def test_what_is_read_is_what_is_derived(name):
    """Bound, P and its slope, memory, nu' and its response, at a random point."""
    closed = in_closed_form(CLOSED[name])
    rng = np.random.default_rng(3)
    with jax.enable_x64(True):
        read = as_averaged(read_update(bare(CLOSED[name]), THETA))
        w, g = (jnp.asarray(rng.normal(size=8)) for _ in range(2))
        nu, m = (jnp.asarray(rng.uniform(0.5, 2, 8 * n)) for n in (closed.moments, len(closed.memory)))
        assert read.bound == pytest.approx(closed.bound, rel=1e-12)
        # Before the first update's middle the closed form keeps the rate of a schedule.
        for time in (0.5, 7.25) if "scheduled" in name else (0.0, 0.5, 7.25):
            at = Moment(w, m, nu, jnp.asarray(time))
            for answer in (
                lambda own, at=at: own.scale(at.nu, at.time) + 0 * w,
                lambda own, at=at: jax.grad(lambda t: own.scale(at.nu, t).sum())(at.time),
                lambda own, at=at: own.direction(at.m, g, at.time, 0.25),
                lambda own, at=at: own.start(g),
                lambda own, at=at: own.nu_rate(at, g),
                lambda own, at=at: own.response(at, g) * jnp.ones_like(at.nu),
                lambda own: own.first_nu(jax.tree.map(jnp.float64, THETA), g),
            ):
                for one, other in zip(*(jax.tree.leaves(answer(own)) for own in (read, closed)), strict=True):
                    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
            if closed.moments:
                change = jnp.asarray(rng.normal(size=(2, 8)))
                np.testing.assert_allclose(
                    *(own.slope(nu, at.time, change) for own in (read, closed)), rtol=1e-8, atol=1e-12
                )


BOUNDS = {
    "adamw": (optax.adamw(1e-2, weight_decay=0.1), 38 * (1 - 1e-3 / 2)),
    "nadam": (optax.nadam(1e-2), 38 / 2.8),  # nesterov: (2+2b)/((1-b)(1+2b))
    "nesterov": (optax.sgd(0.1, 0.5, nesterov=True), 3.0),
    "adabelief": (optax.adabelief(1e-2), 38.0),
    "adagrad": (optax.adagrad(1e-2), 2.0),
    "clipped": (optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2)), 38.0),
    "in bfloat16": (optax.adam(1e-2, b1=0.875, mu_dtype="bfloat16"), 30.0),
    "every third": (optax.MultiSteps(optax.sgd(0.1, 0.5), 3).gradient_transformation(), 6.0),
    "a part frozen": (
        optax.partition({"moved": optax.adam(1e-2), "still": optax.set_to_zero()}, {"a": "moved", "b": "still"}),
        38.0,
    ),
    "injected": (optax.inject_hyperparams(optax.adam)(optax.cosine_decay_schedule(1e-2, 100)), 38.0),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=LONG if n in ("adabelief", "adagrad", "nesterov", "every third") else SLOW) for n in BOUNDS],
)
def test_bounds(name):
    method, bound = BOUNDS[name]
    assert read_update(method, THETA).bound == pytest.approx(bound, rel=1e-5)


@pytest.mark.slow
def test_bound_is_the_threshold():
    """By another way: the multipliers of the map itself, on a single parameter."""
    for method in (
        optax.adan(1e-2),
        optax.contrib.ademamix(1e-3),
        optax.radam(1e-2),
        optax.rmsprop(1e-3, momentum=0.7),
    ):
        found = read_update(method, THETA).bound
        assert found == pytest.approx(ia.threshold(method).bound, rel=1e-4)


REFUSED = {
    "a running maximum": (optax.amsgrad(1e-2), "averages, each keeping a fixed part of itself"),
    "decay in the gradient": (
        optax.chain(optax.add_decayed_weights(1e-2), optax.sgd(0.1, 0.9)),
        "moments of gradients alone",
    ),
    "two bounds": (
        optax.partition({"x": optax.adam(1e-2), "y": optax.sgd(0.1)}, {"a": "x", "b": "y"}),
        "one bound for all parameters, but those of this update go from 2 to 38",
    ),
    "memories of memories": (
        optax.chain(optax.trace(0.9), optax.trace(0.5), optax.sgd(0.1)),
        "memories that fade each on its own",
    ),
    "a decay in time": (
        optax.inject_hyperparams(optax.adam)(1e-2, b1=optax.linear_schedule(0.5, 0.9, 20)),
        "decay does not change in time",
    ),
    "a sign": (optax.lion(1e-2), "is it a sign method"),
    "a smoothed sign": (ia.sign_sgd(1e-2, smooth=0.1), "is it a sign method, smoothed"),
    "Lion, smoothed": (ia.lion(1e-2, smooth=0.1), "is it a sign method, smoothed"),
    "yogi": (optax.yogi(1e-2), "it jumps"),
    "a norm": (optax.lamb(1e-2), "does it scale by a norm"),
}


@pytest.mark.parametrize("name", [n if n == "a sign" else pytest.param(n, marks=pytest.mark.slow) for n in REFUSED])
def test_what_has_none_says_why(name):
    method, sentence = REFUSED[name]
    with pytest.raises(ValueError, match=sentence) as caught:
        ia.central(method, lambda p: sum(jnp.sum(x**4) for x in jax.tree.leaves(p)), THETA, 3)
    assert "\n" not in str(caught.value)


def valley(x):
    return (1 + x[0] ** 2) * x[1] ** 2 / 2 + 0.002 * (x[0] - 3) ** 2


@pytest.mark.slow
def test_a_clip_that_acts_is_told():
    with pytest.warns(ia.InerciaWarning, match="not linear at time 0, where a clip acts"):
        ia.central(optax.chain(optax.clip(0.05), optax.sgd(0.1)), valley, jnp.ones(2), 4, k=1)
    ia.central(optax.chain(optax.clip(10.0), optax.sgd(0.1)), valley, jnp.ones(2), 4, k=1)  # idle


@pytest.mark.slow
def test_every_second_update_is_half_as_fast():
    every_other = optax.MultiSteps(optax.sgd(0.5), 2).gradient_transformation()
    flows = [
        ia.central(method, valley, jnp.array([1.7, 0.1]), n, k=2, every=n, substeps=substeps)
        for method, n, substeps in ((optax.sgd(0.5), 100, 4), (every_other, 200, 2))
    ]
    np.testing.assert_allclose(flows[0].params[-1], flows[1].params[-1], atol=2e-3)
