"""Central flows: by hand, against the averaged iterates, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inercia as ia
from inercia.comparison.edge_run import averaged

NETWORK = ia.mlp([8, 16, 16, 1], "swish")
_of_x, _of_noise = jax.random.split(jax.random.key(7))
X = jax.random.normal(_of_x, (128, 8))
Y = jnp.sin(2 * X[:, :1]) + 0.5 * X[:, 1:2] * X[:, 2:3] + 0.5 * jax.random.normal(_of_noise, (128, 1))
RISK, START = ia.risk(NETWORK), NETWORK.init(jax.random.key(1))


def loss(params):
    return 2 * RISK(params, (X, Y))


def valley(x):
    return (1 + x[0] ** 2) * x[1] ** 2 / 2 + 0.002 * (x[0] - 3) ** 2


def two_valleys(x):
    return valley(x[:2]) + valley(x[2:])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "bound", "step"),
    [
        pytest.param(ia.sgd(0.5), 2.0, 0.5, marks=pytest.mark.long), (ia.sgd(0.5 * 0.4, 0.6), 8.0, 0.5),
        pytest.param(ia.momentum(2.0, 0.6), 8.0, 2.0, marks=pytest.mark.long),
        (ia.momentum(0.25, 0.9, scheme="explicit"), 1.0, 0.25), (ia.sgd(1.0, dt=0.5), 2.0, 0.5),
    ],
)  # fmt: skip
def test_where_it_rests_on_the_bound(method, bound, step):
    """On the valley's floor curvature is 1 + x^2; at rest g = 0 and E[y^2] x = 0.004 (3 - x)."""
    flow = ia.central(method, valley, jnp.array([1.0, 0.0]), 6000, k=2, every=3000)
    end = bound / step
    x = min(3.0, float(np.sqrt(end - 1)))
    assert flow.observed["bound"][0] == pytest.approx(bound)
    assert flow.params[-1, 0] == pytest.approx(x, abs=2e-4)
    size = flow.observed["X"][-1, 0, 0] * step  # Sigma = U X U^T, and U^T U = a
    assert size == pytest.approx(0.004 * (3 - x) / x, rel=2e-3, abs=1e-12)
    expected = 0.002 * (x - 3) ** 2 + end * size / 2
    assert flow.observed["mean_loss"][-1] == pytest.approx(expected, rel=2e-3)


@pytest.mark.slow
@pytest.mark.long  # networks of other makers do it too
def test_far_from_the_edge_it_is_the_plain_flow():
    method = ia.sgd(0.02)
    flow, stable = (ia.central(method, loss, START, 100, every=100, k=2, stable=s, substeps=32) for s in (False, True))
    np.testing.assert_allclose(flow.flat(), stable.flat(), rtol=0, atol=1e-14)
    plain = ia.integrate(method, loss, START, [0.0, 100.0]).flat()
    assert np.linalg.norm(flow.flat()[-1] - plain[1]) < 1e-3 * np.linalg.norm(plain[1] - plain[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "near"), [("semi-implicit", 4e-4), pytest.param("explicit", 4e-3, marks=pytest.mark.long)]
)
def test_first_moment_before_the_edge(scheme, near):
    """The start of m makes up for the way that is lost while it fills, 4 a g(theta_0)."""
    gaps = []
    for n in (100, 200):
        method = ia.momentum(2.0 / n, 0.8, scheme=scheme)
        path = ia.iterate(method, loss, START, n, every=n)
        flow = ia.central(method, loss, START, n, every=n, k=1, substeps=8)
        gaps.append(np.linalg.norm(path.flat()[-1] - flow.flat()[-1]))
    assert gaps[1] < 0.55 * gaps[0]
    assert gaps[1] < near * np.linalg.norm(path.flat()[-1] - path.flat()[0])


RUNS = {  # method, updates, largest error of the predicted mean loss; None where the first burst still rings
    "GD": (ia.sgd(0.1), 1000, None),
    "RMSProp": (ia.rmsprop(5e-4, 0.99, bias_correction=True), 1000, 0.02),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RMSProp", pytest.param("GD", marks=pytest.mark.long)])
def test_the_averaged_iterates_follow_it(name):
    method, steps, close = RUNS[name]
    run = ia.edge(method, loss, START, steps, k=4)
    late = run.after(100)
    assert late.sum() > 100
    share = run.to_central[late] / run.displacement[late]
    assert np.median(share) < 0.05
    assert share[-1] < 0.05
    assert (run.to_stable[late][-50:] > 5 * run.to_central[late][-50:]).all()
    np.testing.assert_allclose(run.central.observed["sharpness"][late, 0], run.bound, rtol=1e-3)
    assert run.sharpness[late].mean() == pytest.approx(run.bound, rel=0.03)
    if close is not None:
        predicted = run.central.observed["mean_loss"]
        assert np.median(np.abs(predicted / run.loss - 1)[late]) < close


def valleys(p):
    return sum(valley(each) for each in p)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("many", "above"), [(3, 0.001), (4, 0.035), (4, 0.5), (8, 0.1), (8, 0.001)])
def test_equal_valleys_above_the_bound_are_copies_of_one(many, above):
    start = np.array([np.sqrt(3 + above), 0.1])
    one = ia.central(ia.sgd(0.5), valley, start, 24, k=1)
    all_ = ia.central(ia.sgd(0.5), valleys, np.tile(start, (many, 1)), 24, k=many)
    np.testing.assert_allclose(all_.params, np.tile(one.params[:, None], (many, 1)), rtol=0, atol=1e-6)
    size = np.trace(all_.observed["X"], axis1=1, axis2=2)
    np.testing.assert_allclose(size, many * one.observed["X"][:, 0, 0], rtol=1e-4, atol=1e-8)


@pytest.mark.slow
def test_copies_that_random_rows_do_not_meet_are_found_at_the_start():
    """Four rows converge at once among 2000 parameters; the walls of all seven valleys stand at 1 + a^2 = 2 / 0.5."""

    def flat_beside(p):
        return valleys(p["x"]) + 1e-3 * jnp.sum(p["flat"] ** 2)

    start = {"x": np.tile([np.sqrt(3) + 0.005, 0.1], (7, 1)), "flat": np.ones(2000)}
    run = ia.central(ia.sgd(0.5), flat_beside, start, 4, k=7)
    assert np.abs(run.params["x"][1:, :, 0] - np.sqrt(3)).max() < 1e-5
    assert (run.observed["sharpness"][1:] > 3.99 / 2).all()


@pytest.mark.slow
def test_a_learning_rate_in_time():
    """Where a falls the bound 2/a rises, and the curvature with it; where it rises the curvature is pressed down."""
    falls = lambda n: 0.1 - 0.05 * jnp.clip((n - 700) / 300, 0, 1)  # noqa: E731
    method = ia.sgd(falls)
    flow = ia.central(method, loss, START, 1100, every=100, k=2)
    sharp = flow.observed["sharpness"][:, 0]
    assert sharp[7] == pytest.approx(2, rel=1e-3)
    assert sharp[-1] < 1.9  # the bound ran away
    assert ia.curvature(loss, flow[-1].params).values[0] * 0.05 == pytest.approx(sharp[-1], rel=1e-3)


@pytest.mark.slow
def test_substeps_converge():
    method = ia.sgd(0.1)
    ends = [ia.central(method, loss, START, 600, every=600, k=2, substeps=n).flat()[-1] for n in (2, 4, 8)]
    first, second = (np.linalg.norm(ends[n] - ends[n + 1]) for n in (0, 1))
    assert second < 0.75 * first
    assert second < 1e-3 * np.linalg.norm(
        ends[-1] - np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(START)])
    )


@pytest.mark.slow
def test_precision_and_chunks():
    chunked = ia.in_chunks(lambda p, batch: 2 * RISK(p, batch), (X, Y), 32)
    method = ia.sgd(0.4)
    whole, parts = (ia.central(method, f, START, 60, every=60, k=2) for f in (loss, chunked))
    assert whole.params[0].w.dtype == np.float64
    np.testing.assert_allclose(whole.flat(), parts.flat(), rtol=0, atol=1e-5)  # float32 data, summed in another order


@pytest.mark.slow
def test_what_it_refuses():
    for call, kind, sentence in (
        (lambda: ia.central(ia.momentum(0.1, lambda n: 0.9), loss, START, 1), ValueError, "constant decays"),
        (lambda: ia.central(ia.sgd(0.1), loss, START, 1, k=33), ValueError, "k must be at most 32"),
        (lambda: ia.central(ia.sgd(0.1), loss, START, 10, every=3), ValueError, "every must divide steps"),
        (
            lambda: ia.central(ia.sgd(0.1), valley, jnp.ones(2), 1, k=3),
            ValueError,
            "at most the number of parameters 2",
        ),
        (lambda: ia.central(ia.sgd(0.1), lambda z: jnp.abs(z) ** 2, jnp.array(1j), 1, k=1), TypeError, "must be real"),
        (lambda: ia.central(ia.sgd(1e6), valley, jnp.ones(2), 50, k=1), ia.CurvatureError, "ended at time"),
        (lambda: ia.edge(ia.sgd(1e3), loss, START, 20), ia.CurvatureError, "iterates diverge at time"),
    ):
        with pytest.raises(kind, match=sentence) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_what_it_warns_of():
    bent = ia.mlp([8, 4, 1], "relu")
    with pytest.warns(ia.InerciaWarning, match=r"not smooth \(max\)"):
        ia.central(ia.sgd(0.01), lambda p: ia.risk(bent)(p, (X, Y)), bent.init(jax.random.key(0)), 2, k=1)
    with pytest.warns(ia.InerciaWarning, match="more than 1 eigenvalues are critical"):
        ia.central(ia.sgd(0.5), two_valleys, jnp.array([1.7, 0.0, 1.6, 0.0]), 200, k=1)


@pytest.mark.slow
def test_a_second_call_compiles_nothing(caplog):
    method = ia.sgd(0.1)
    ia.central(method, loss, START, 20, k=2)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        ia.central(method, loss, START, 20, k=2, substeps=8)
    assert not [r for r in caplog.records if "advance" in r.getMessage()]


def test_averages():
    values = np.array([1.0, -1.0] * 20)
    assert np.abs(averaged(values, 10)[5:-5]).max() < 1e-15
    np.testing.assert_allclose(averaged(np.arange(30.0)[:, None], 8), np.arange(30.0)[:, None])


@pytest.mark.slow
def test_the_certificate_says_edge():
    made = ia.order(lambda dt: ia.sgd(0.2, dt=dt), loss, START, 200.0, [1, 1 / 2, 1 / 4])
    assert made.doubt == "edge of stability"
    assert "edge of stability at dt = 1" in made.verdict
    assert np.isnan(made.slope)
