"""Chains, masks and partitions: optax's to the bit at dt = 1, and each with the flow that its parts make."""

import itertools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import inercia as ia

P = ia.parts
TREE = {"w": jnp.array([1.5, -2.0, 0.7]), "b": jnp.array([0.3, -0.4]), "frozen": jnp.array([2.0])}
LABELS = {"w": "on", "b": "on", "frozen": "off"}
COSINE = optax.cosine_decay_schedule(0.3, 20, 0.1)


def bend(x):
    """A loss with a coupling, so that frozen leaves matter."""
    return sum(jnp.sum(jnp.sqrt(1 + v**2)) for v in jax.tree.leaves(x)) + 0.3 * x["w"][0] * x["b"][0] * x["frozen"][0]


def late(t):
    return 0.3 * jnp.exp(-t / 10)


#: name -> ours and optax's.
SAME = {
    "clip": (P.clip(0.5), optax.clip(0.5)),
    "clip norm": (P.clip_by_global_norm(0.8), optax.clip_by_global_norm(0.8)),
    "decay": (P.add_decayed_weights(0.1, {"w": True, "b": False, "frozen": False}),
              optax.add_decayed_weights(0.1, {"w": True, "b": False, "frozen": False})),
    "ema": (P.ema(0.9), optax.ema(0.9)),
    "trace": (P.trace(0.9, nesterov=True), optax.trace(0.9, nesterov=True)),
    "adam": (P.scale_by_adam(0.8, eps_root=1e-6, nesterov=True),
             optax.scale_by_adam(0.8, eps_root=1e-6, nesterov=True)),
    "rate": (P.scale_by_learning_rate(COSINE), optax.scale_by_learning_rate(COSINE)),
    "schedule": (P.scale_by_schedule(COSINE), optax.scale_by_schedule(COSINE)),
    "zero": (P.set_to_zero(), optax.set_to_zero()),
    "scale": (P.scale(-0.3), optax.scale(-0.3)),
    "adamw after a clip": (
        ia.chain(P.clip_by_global_norm(0.5), P.scale_by_adam(), P.add_decayed_weights(1e-4),
                 P.scale_by_learning_rate(COSINE)),
        optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(COSINE))),
    "masked": (ia.chain(ia.masked(P.trace(0.8), {"w": True, "b": False, "frozen": True}), ia.sgd(0.1)),
               optax.chain(optax.masked(optax.trace(0.8), {"w": True, "b": False, "frozen": True}), optax.sgd(0.1))),
    "partition": (ia.partition({"on": ia.chain(P.clip(0.4), P.scale_by_adam(), P.scale(-0.1)),
                                "off": P.set_to_zero()}, LABELS),
                  optax.partition({"on": optax.chain(optax.clip(0.4), optax.adam(0.1)), "off": optax.set_to_zero()},
                                  LABELS)),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_equal_to_optax_to_the_bit(name):
    rng = np.random.default_rng(1)
    ours, theirs = SAME[name]
    ahead, state, other = TREE, ours.init(TREE), theirs.init(TREE)
    both = jax.jit(ours.update), jax.jit(theirs.update)
    for _ in range(30):
        grads = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), TREE)
        one, state = both[0](grads, state, ahead)
        two, other = both[1](grads, other, ahead)
        jax.tree.map(np.testing.assert_array_equal, one, two)
        ahead = optax.apply_updates(ahead, two)


#: What the pairs are made of.
PIECES = {
    "clip": P.clip_by_global_norm(1.2),
    "decay": P.add_decayed_weights(0.2),
    "momentum": P.ema(0.7),
    "adam": P.scale_by_adam(0.8, 0.9, 1e-2),
    "schedule": P.scale_by_schedule(late),
}
SLOW, LONG = [pytest.mark.slow], [pytest.mark.slow, pytest.mark.long]  # the other order of a pair is long
PAIRS = list(itertools.permutations(PIECES, 2))


def slope(first, second):
    def family(dt):
        inner = ia.chain(PIECES[first], PIECES[second], P.scale_by_learning_rate(0.1))
        return ia.partition({"on": inner, "off": P.set_to_zero()}, LABELS, dt=dt)

    return ia.order(family, bend, TREE, 4.0, [1 / 8, 1 / 16, 1 / 32, 1 / 64], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("first", "second"),
    [p if p == ("clip", "momentum") else pytest.param(*p, marks=SLOW if p[0] < p[1] else LONG) for p in PAIRS],
)
def test_order_of_every_pair_on_a_tree_with_frozen_leaves(first, second):
    result = slope(first, second)
    assert result.doubt is None or result.doubt == "crossings", result
    assert result.slope == pytest.approx(1, abs=0.1), result


@pytest.mark.slow
def test_a_sum_from_zero_before_adam_costs_a_logarithm_of_the_derived_size():
    def measured(first, **start):
        def family(dt):
            return ia.chain(first, P.scale_by_adam(0.8, 0.9), P.scale_by_learning_rate(0.1), dt=dt)

        return ia.order(family, bowl, np.array([1.5, -2.0]), 4.0, [2.0**-k for k in range(5, 9)], **start)

    def warm(dt):
        cold = ia.chain(P.trace(0.7), P.scale_by_adam(), P.scale_by_learning_rate(0.1)).init(np.ones(2))
        return (optax.TraceState(np.array([1.5, -2.0]) / 0.3), *cold[1:])

    cold = measured(P.trace(0.7))
    assert cold.doubt == "logarithm", cold
    per_halving = np.sqrt(3) / 8 * 0.1 * np.log(2) * np.sqrt(2)
    np.testing.assert_allclose(np.diff(cold.gaps / cold.dts), per_halving, rtol=0.1)
    for cured in (measured(P.ema(0.7)), measured(P.trace(0.7), state=warm)):
        assert cured.verdict.startswith("order 1:"), cured


def bowl(x):
    return x @ x / 2


TIMES = np.linspace(0, 6, 4)


@pytest.mark.parametrize(
    ("chained", "whole"),
    [
        (ia.chain(P.ema(0.8, False), P.scale_by_learning_rate(0.2)), ia.momentum(0.2, 0.8)),
        (ia.chain(P.trace(0.8), P.scale(-0.05)), ia.sgd(0.05, 0.8)),
        (ia.chain(P.scale_by_adam(), P.add_decayed_weights(0.1), P.scale_by_learning_rate(0.1)),
         ia.adamw(0.1, weight_decay=0.1)),
        (ia.chain(ia.chain(P.scale(2.0)), ia.adam(0.1, eps=1e-3)), ia.adam(0.1, eps=5e-4)),
    ],
    ids=["momentum", "heavy ball", "adamw", "nested"],
)  # fmt: skip
def test_flow_of_a_chain_is_that_of_the_method(chained, whole):
    one, two = (ia.integrate(m, bend, TREE, TIMES, rtol=1e-10) for m in (chained, whole))
    np.testing.assert_allclose(one.flat(), two.flat(), rtol=0, atol=1e-8)


def test_a_frozen_leaf_stays_and_the_other_signal_passes():
    method = ia.partition({"on": ia.sgd(0.1), "off": P.set_to_zero()}, LABELS)
    flow = ia.integrate(method, bend, TREE, TIMES)
    assert (flow.params["frozen"] == flow.params["frozen"][0]).all()
    decayed = ia.chain(ia.masked(P.add_decayed_weights(0.5), lambda p: {k: k == "w" for k in p}), ia.sgd(0.1))
    rate, _ = decayed.flow(TREE, decayed.init(TREE), TREE)
    np.testing.assert_allclose(rate["w"], -0.15 * TREE["w"], rtol=1e-6)
    np.testing.assert_allclose(rate["b"], -0.1 * TREE["b"], rtol=1e-6)


def test_a_jump_of_a_schedule_inside_is_found():
    jump = optax.piecewise_constant_schedule(1.0, {3: 0.1})
    flow = ia.integrate(ia.chain(P.scale_by_schedule(jump), ia.sgd(0.5)), bow, np.array(1.0), [0.0, 5.0])
    assert flow.params[-1] == pytest.approx(np.exp(-0.5 * (3 + 0.1 * 2)), rel=1e-8)


def bow(x):
    return x**2 / 2


def test_the_bound_is_read_off():
    chained = ia.chain(P.ema(0.5, False), P.scale_by_learning_rate(0.1))
    assert ia.threshold(chained).bound == pytest.approx(6)
    assert ia.threshold(ia.chain(P.scale(2.0), ia.sgd(0.1))).bound == pytest.approx(ia.threshold(ia.sgd(0.1)).bound)


def test_a_chain_is_a_value():
    def made(rate):
        return ia.chain(P.clip(1.0), ia.masked(ia.adam(rate), True), dt=0.5)

    assert made(0.1) == made(0.1) != made(0.2)
    assert hash(made(0.1)) == hash(made(0.1))
    assert pickle.loads(pickle.dumps(made(0.1))) == made(0.1)
    text = "chain(clip(max_delta=1.0), masked(inner=adam(learning_rate=0.1), mask=True), dt=0.5)"
    assert repr(made(0.1)) == text
    assert made(0.1).hyper["parts"][1].hyper["inner"].hyper["b1"] == 0.9
    assert made(0.1).dt == 0.5


def test_what_has_no_flow_says_so():
    for part, reason in ((ia.sign_sgd(0.1), "sign_sgd has no smooth flow"), (ia.adamax(0.1), "the rate of its signal")):
        with pytest.raises(TypeError, match=reason):
            ia.integrate(ia.chain(P.clip(1.0), part), bend, TREE, TIMES)


def test_refusals():
    with pytest.raises(TypeError, match=r"parts must be methods, .* GradientTransformationExtraArgs: optax.chain"):
        ia.chain(optax.adam(0.1))
    with pytest.raises(ValueError, match=r"at dt = 1, but sgd\(learning_rate=0.1, dt=0.5\) has dt = 0.5"):
        ia.chain(ia.sgd(0.1, dt=0.5))
    with pytest.raises(ValueError, match="at least one part"):
        ia.chain()
    with pytest.raises(ValueError, match=r"\(1 - decay\) dt must be at most 1"):
        ia.chain(P.ema(0.5), dt=4.0)
    with pytest.raises(TypeError, match="max_norm must be a number, but it is a function"):
        P.clip_by_global_norm(COSINE)
    bare = ia.Method(*ia.sgd(0.1), ia.sgd(0.1).flow)
    with pytest.raises(ValueError, match="a method is refined by its factory"):
        ia.chain(bare, dt=0.5)
