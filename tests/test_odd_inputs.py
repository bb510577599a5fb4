"""Inputs that nobody had in mind: each has the right value, or one sentence."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

import hunt
import inercia as ia
from inercia.core import check
from inercia.flows import stepping
from inercia.flows.interpolation_error import defect
from oracles.draws import Draws, shrunk

SGD = ia.sgd(0.5)
ROWS = np.array([[0.5, 1.0], [2.0, 3.0], [-1.0, 0.5], [4.0, -2.0]])
MASKED = np.ma.array(ROWS, mask=ROWS > 2)
NETWORK = ia.mlp([2, 3])
PARAMS = NETWORK.init(0)
LABELS = np.array([0, 2, 1, 0])


def bowl(params):
    return sum(jnp.sum(jnp.abs(leaf) ** 2) for leaf in jax.tree.leaves(params)) / 2


def fitted(params, batch):
    return jnp.mean((batch[0] @ params["w"] - batch[1]) ** 2)


def first(params, batch=None):
    return bowl(params)


W = {"w": np.ones(2)}
DATA = (ROWS, np.arange(4.0))


@pytest.mark.parametrize("dtype", [">f4", ">f8", np.longdouble])
def test_bytes_are_read_as_they_are_meant(dtype):
    """A compiled function of JAX takes foreign bytes for its own: 1.0 was 3e-319."""
    params, data = {"w": np.ones(2, dtype)}, tuple(part.astype(dtype) for part in DATA)
    loss = partial(fitted, batch=data)
    expected = ia.iterate(ia.sgd(0.01), partial(fitted, batch=DATA), W, 3)
    np.testing.assert_allclose(ia.iterate(ia.sgd(0.01), loss, params, 3).params["w"], expected.params["w"], rtol=1e-15)
    flow = ia.integrate(SGD, bowl, params, [0.0, 2.0])
    np.testing.assert_allclose(flow.params["w"][1], np.exp(-1.0), rtol=1e-8)
    trained = [
        ia.train(ia.sgd(0.01), fitted, jax.tree.map(np.float32, p), d, epochs=2, batch_size=2, key=0).params["w"]
        for p, d in ((W, DATA), (params, data))
    ]
    np.testing.assert_array_equal(*trained)
    read = check.array("x", ROWS.astype(dtype))
    assert read.dtype in (np.float32, np.float64)
    np.testing.assert_array_equal(read, ROWS)


@pytest.mark.parametrize(
    "call",
    [
        lambda: ia.iterate(SGD, bowl, MASKED, 2),
        lambda: ia.iterate(SGD, partial(fitted, batch=(MASKED, DATA[1])), W, 2),
        lambda: ia.integrate(SGD, bowl, MASKED, [0, 1]),
        lambda: ia.integrate(SGD, bowl, W, np.ma.array([0.0, 1.0], mask=[0, 1])),
        lambda: ia.train(SGD, fitted, W, (MASKED, DATA[1]), epochs=1, batch_size=2, key=0),
        lambda: ia.train(SGD, fitted, {"w": np.ma.array(np.ones(2))}, DATA, epochs=1, batch_size=2, key=0),
        lambda: ia.standardise(ia.Split(ia.Dataset(MASKED, None), ia.Dataset(ROWS, None))),
        lambda: ia.split((MASKED, LABELS)),
        lambda: NETWORK.apply(PARAMS, MASKED),
        lambda: ia.exact_flow(np.ma.array(np.eye(2)), [1.0, 1.0], [0, 1], 0.1),
        lambda: ia.curvature(bowl, MASKED),
        lambda: ia.density(bowl, MASKED, 2),
    ],
)
def test_masks_are_not_lost(call):
    with pytest.raises(TypeError, match=r"must have no mask, which would be ignored, .* fill it"):
        call()


def test_accuracy_compares_row_by_row():
    """Labels of shape (N, 1) were compared with every row, and those of shape (1,) too."""
    score, right = ia.accuracy(NETWORK), np.asarray(jnp.argmax(NETWORK.apply(PARAMS, ROWS), -1))
    for labels in (right, right.tolist(), pd.Series(right, index=[3, 1, 0, 2]), right.astype(np.uint8)):
        assert score(PARAMS, (ROWS, labels)) == 1
    for labels, error in (
        (right[:, None], ValueError), (right[:1], ValueError), (right - 3, ValueError), (right + 0.0, TypeError),
    ):  # fmt: skip
        with pytest.raises(error, match="labels must"):
            score(PARAMS, (ROWS, labels))
    for function in (score, ia.risk(NETWORK, "cross-entropy")):
        with pytest.raises(ValueError, match="must not be empty"):
            function(PARAMS, (ROWS[:0], right[:0]))
    assert score(PARAMS, (ROWS * np.nan, 0 * right)) == 0  # the argmax of what is no number is 0


def test_statistics_of_jax_arrays_are_in_float64():
    years = np.arange(2000.0, 2021.0).repeat(50)[:, None]
    scaled = [ia.standardise(ia.Split(*[ia.Dataset(x, None)] * 2)).train.x for x in (years, jnp.asarray(years))]
    np.testing.assert_array_equal(*scaled)
    frame = pd.DataFrame(years, index=np.arange(len(years))[::-1])
    np.testing.assert_array_equal(ia.standardise(ia.Split(*[ia.Dataset(frame, None)] * 2)).train.x, scaled[0])


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (ROWS + 1j, TypeError), (ROWS.astype("m8[s]"), TypeError), (ROWS.astype("M8[s]"), TypeError),
        (ROWS.astype(str), TypeError), (ROWS * np.inf, ValueError), (ROWS[:0], ValueError), (ROWS[:, 0], ValueError),
    ],
)  # fmt: skip
def test_what_cannot_be_standardised(x, error):
    with pytest.raises(error, match=r"^(train|test)\.x must"):
        ia.standardise(ia.Split(ia.Dataset(x, None), ia.Dataset(x, None)))


def test_rows_are_taken_by_place():
    """A pandas index is a label, not a place."""
    back = np.arange(4)[::-1]
    given = pd.DataFrame(ROWS, index=back), pd.Series(LABELS, index=back)
    for ours, theirs in zip(ia.split(given, 0.5), ia.split((ROWS, LABELS), 0.5), strict=True):
        np.testing.assert_array_equal(ours.x, theirs.x)
        np.testing.assert_array_equal(ours.y, theirs.y)
    for test, seed in ((1.5, 0), (np.nan, 0), (0.5, -1)):
        with pytest.raises((TypeError, ValueError), match=r"^(test|seed) must"):
            ia.split((ROWS, LABELS), test, seed)


def test_paths_of_other_forms_do_not_compare():
    scalar, vector = ia.iterate(ia.momentum(0.1), bowl, 1.0, 3), ia.iterate(ia.momentum(0.1), bowl, np.ones(1), 3)
    with pytest.raises(ValueError, match=r"params of the same form, but they have \(\) and \(1,\)"):
        ia.gap(scalar, vector)
    for call in (lambda: ia.gap(scalar[0], scalar[0]), lambda: ia.energy(vector[0], 0.1), lambda: len(scalar[0])):
        with pytest.raises(TypeError, match="must have an axis of time"):
            call()
    with pytest.raises(TypeError, match=r"needs a number for learning_rate, .* it is of shape \(4,\)"):
        ia.energy(vector, np.full(4, 0.1))


def test_whole_numbers_do_not_round_the_matrix():
    assert ia.quadratic([[0.5]])(jnp.array([2])) == 1.0  # 0.5 was cast to an int
    with pytest.raises(TypeError, match="A must be real numbers"):
        ia.exact_flow(np.eye(2) + 1j, [1.0, 1.0], [0, 1], 0.1)
    with pytest.raises(ValueError, match=r"theta must have the shape \(2,\)"):
        ia.exact_flow(np.eye(2), [[1.0, 1.0]], [0, 1], 0.1)


def test_keys_use_all_of_their_bits():
    data = [np.asarray(jax.random.key_data(check.key(k))).tolist() for k in (0, 2**31, 2**32 - 1, 2**40, -1)]
    assert data[:4] == [[0, 0], [0, 2**31], [0, 2**32 - 1], [256, 0]]
    np.testing.assert_array_equal(data[4], jax.random.key_data(jax.random.key(-1)))
    for key, error in ((2**64, ValueError), (jax.random.split(jax.random.key(0)), TypeError), (True, TypeError)):
        with pytest.raises(error, match="key must"):
            ia.train(SGD, fitted, W, DATA, epochs=1, batch_size=2, key=key)


@pytest.mark.parametrize("kind", [np.float16, np.float32, jnp.bfloat16, jnp.float16])
def test_single_numbers_of_any_dtype_are_python_numbers(kind):
    """1 - (1 - 0.999) dt in float16 is 1, and the corrected moments nan."""
    value = kind(0.1)
    ours, plain = ia.adam(0.1, dt=value), ia.adam(0.1, dt=float(value))
    assert ours == plain
    assert np.isfinite(ia.iterate(ours, bowl, np.ones(2), 3).loss).all()


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: ia.integrate(SGD, bowl, 1.0, np.array([0, 1 + 1j])), TypeError, "times must be real numbers"),
        (lambda: ia.integrate(SGD, bowl, 1.0, np.array([0, 1], "m8[s]")), TypeError, "times must be real numbers"),
        (lambda: ia.integrate(SGD, bowl, 1.0, [0, 1], max_nfev=0), ValueError, "max_nfev must be at least 1"),
        (lambda: ia.integrate(SGD, bowl, 1.0, [0, 1], breakpoints=[1j]), TypeError, "breakpoints must be real"),
        (
            lambda: ia.integrate(SGD, bowl, np.ones(2), [0, 1], events=lambda t, p, s: p),
            ValueError,
            "an event must return one real number",
        ),
        (lambda: ia.iterate(SGD, bowl, 1.0, 2, start=np.nan), ValueError, "start must be one finite number"),
        (lambda: ia.iterate(SGD, bowl, 1.0, True), TypeError, "steps must be an integer"),
        (lambda: ia.iterate(SGD, bowl, {}, 2), ValueError, "must hold at least one array"),
        (lambda: ia.iterate(SGD, bowl, pd.Series([1.0]), 2), TypeError, "is a Series: convert it with numpy.asarray"),
        (lambda: ia.iterate(SGD, float, 1.0, 2), TypeError, "loss is compiled, but it asks for numbers on the host"),
        (lambda: check.optimizer(ia.sgd), TypeError, "must be an optimizer, .* the function sgd"),
        (lambda: check.optimizer(ia.Method), TypeError, "must be an optimizer"),
        (lambda: check.reals("dts", [1j, 2, 3]), TypeError, "dts must be real numbers"),
        (lambda: ia.sgd([0.1]), TypeError, "learning_rate must be a real number or a schedule"),
        (lambda: ia.stability(SGD, [1j]), TypeError, "eigenvalues must be real numbers"),
        (lambda: check.number("smallest", np.ones(2)), ValueError, "smallest must be one finite number"),
        (lambda: ia.trace(bowl, np.ones(2) + 1j), TypeError, "must be real here"),
        (lambda: ia.modified(SGD, bowl).start(np.ones(2) + 1j, ()), TypeError, "must be real here"),
        (
            lambda: ia.iterate(SGD, bowl, np.ones(2) + 1j, 2, observe={"s": ia.sharpness(SGD, bowl)}),
            TypeError,
            "must be real here",
        ),
        (lambda: ia.diffuse(SGD, first, 1.0, ROWS * np.nan, [0, 1], 0), ValueError, "batches must be finite"),
        (lambda: ia.diffuse(SGD, first, 1.0, ROWS, [0, 1], None), TypeError, "diffuse needs a key"),
    ],
)
def test_refused_in_one_sentence(call, error, told):
    with pytest.raises(error, match=told) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_schedules_that_choose_on_the_host():
    method = ia.sgd(lambda step: 0.1 if step < 3 else 0.2)
    for call in (
        lambda: ia.iterate(method, bowl, 1.0, 2),
        lambda: ia.train(method, first, {"w": jnp.ones(2)}, DATA, epochs=1, batch_size=2, key=0),
    ):
        with pytest.raises(TypeError, match=r"the update is compiled, .* choose with jnp\.where"):
            call()


def test_iterators_and_numbers_of_arrays():
    flow = ia.integrate(SGD, bowl, 1.0, (t for t in (0.0, 1.0, 2.0)), breakpoints=iter([1.0]))
    np.testing.assert_allclose(flow.params, np.exp([0, -0.5, -1]), rtol=1e-8)
    assert check.integer("rows", jnp.int32(6)) == 6
    np.testing.assert_array_equal(np.sort(check.reals("dts", {0.5, 0.25})), [0.25, 0.5])


@pytest.mark.slow
def test_the_limit_of_complex_params_is_that_of_their_parts():
    def of_parts(p):
        return jnp.sum(jnp.cos(p[0]) * p[1] + p[0] ** 2 + 0.5 * p[1] ** 2)

    def whole(z):
        return of_parts((z.real, z.imag))

    z, method = np.array([0.3 + 0.4j, -1 + 0.2j]), optax.sgd(0.05)
    paths = []
    for loss, params in ((whole, z), (of_parts, (z.real.copy(), z.imag.copy()))):
        flow, start = ia.limit(method, loss, memory=4)
        paths.append(ia.integrate(flow, loss, start(params, None)[0], [0.0, 3.0], state=()).params)
    np.testing.assert_allclose(paths[0], paths[1][0] + 1j * paths[1][1], rtol=1e-12)
    values = [ia.modified_loss(ia.sgd(0.1), f)(p) for f, p in ((whole, jnp.asarray(z)), (of_parts, (z.real, z.imag)))]
    np.testing.assert_allclose(*values, rtol=1e-6)


def test_outputs_inside_of_a_step_are_near_the_flow(monkeypatch):
    """The hunt found this: near the equilibrium DOP853 made a step of 5.8, and its polynomial was off by 1e-5."""
    hunt.play(Draws(671, [3]))
    monkeypatch.setattr(stepping, "MOST", np.inf)
    with pytest.raises(AssertionError, match="off by"):
        hunt.play(Draws(671, [3]))


def test_the_defect_is_that_of_the_polynomial():
    class Solver:
        t_old, t, atol, rtol = 1.0, 3.0, 0.0, 1e-3
        fun = staticmethod(lambda t, y: 7 * t**6 + 0 * y)

    assert defect(Solver, lambda t: np.atleast_2d(t**7) if np.ndim(t) else np.array([t**7])) < 1e-9
    steeper = defect(Solver, lambda t: np.atleast_2d(1.1 * t**7) if np.ndim(t) else np.array([1.1 * t**7]))
    assert steeper == pytest.approx(max(2 * 0.7 / (1.1 * t * 1e-3) for t in (1.8, 2.7)), rel=1e-6)


def test_a_case_shrinks_to_what_it_needs():
    def fails(draws):
        numbers = [draws.uniform(0, 1), draws.integers(1, 9), draws.normal(size=3).max(), draws.choice(["a", "b"])]
        return numbers[2] != 1

    assert fails(Draws(5))
    assert shrunk(fails, 5, 4) == [0, 1, 3]
    assert Draws(5, [1]).choice(["a", "b"]) == Draws(5).choice(["a", "b"])
