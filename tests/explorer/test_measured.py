"""What the page measures (order, curvature at a time, the flow's multipliers) is what inercia and SciPy measure."""

import json
import math

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browsers import in_node
from scipy.linalg import expm

import inercia as ia
from inercia.explorer.notebook import method_of
from inercia.explorer.page import joined

BASE = {
    "loss": "wells", "l1": 1, "l2": 20, "angle": 0, "method": "momentum", "a": 0.3, "b": 0.8, "b2": 0.95, "eps": 1e-4,
    "dt": 0.5, "noise": 0, "time": 20, "x": -0.7, "y": 1.5, "both": False,
}  # fmt: skip


def measured(settings):
    """Return order, gaps and, at the last time, curvatures, product, factor and bound."""
    script = f"""
    const model = experiment({json.dumps(settings)});
    const largest = model.levels.map((level) => level.largest);
    console.log(JSON.stringify({{ order: model.order, largest, ...modesAt(model, model.count) }}));
    """
    return json.loads(in_node(joined("arithmetic/experiment.js", "arithmetic/modes.js") + script))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["momentum", "adam"])
def test_the_order_is_the_slope_of_inercias_gaps(method):
    settings = BASE | {"method": method, "a": 0.1}
    loss, start = golden.loss_of(settings), np.array([settings["x"], settings["y"]])
    dts = settings["dt"] / 2.0 ** np.arange(4)
    times = np.linspace(0, 20, 41)
    flow = ia.integrate(method_of(settings), loss, start, times, rtol=1e-12, atol=1e-14)
    gaps = []
    for dt in dts:
        path = ia.iterate(method_of(settings | {"dt": dt}), loss, start, round(20 / dt), every=round(0.5 / dt))
        gaps.append(ia.gap(path, flow).distance.max())
    found = measured(settings)
    np.testing.assert_allclose(found["largest"], gaps, rtol=1e-7)
    assert found["order"] == pytest.approx(np.polyfit(np.log(dts), np.log(gaps), 1)[0], abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["momentum", "lecture", "nesterov", "rmsprop", "adam"])
def test_curvature_and_stability_are_inercias(name):
    settings = BASE | {"method": name}
    method, loss = method_of(settings), golden.loss_of(settings)
    start = np.array([settings["x"], settings["y"]])
    path = ia.iterate(method, loss, start, 40)
    if name in ("rmsprop", "adam"):
        here, last = path.params[-1], jax.tree.map(lambda leaf: leaf[-1], path.state)
        with jax.enable_x64(True):
            p = np.asarray(ia.preconditioner(method, jax.tree.map(jnp.asarray, last), jnp.asarray(here)))
    else:
        here, p = ia.integrate(method, loss, start, path.times, rtol=1e-12, atol=1e-14).params[-1], np.ones(2)
    with jax.enable_x64(True):
        hessian = np.asarray(jax.hessian(loss)(jnp.asarray(here)))
    scaled = np.linalg.eigvalsh(hessian / np.sqrt(np.outer(p, p)))
    found = measured(settings)
    if name in ("rmsprop", "adam"):
        # inercia's P holds the learning rate of an update: P = (sqrt(v) + eps) / a
        assert found["product"] == pytest.approx(scaled[1], rel=1e-8)
        assert found["bound"] == pytest.approx(ia.threshold(method).bound, rel=1e-6)
    else:
        np.testing.assert_allclose(found["curvatures"], scaled, rtol=1e-8)
        modes = ia.stability(method, scaled)
        assert found["factor"] == pytest.approx(modes.rate.max(), rel=1e-8)
        assert found["bound"] / found["product"] == pytest.approx(modes.threshold / scaled[1], rel=1e-8)


@pytest.mark.parametrize("name", ["gd", "momentum", "nesterov", "nesterov-k"])
def test_the_flows_multipliers_are_those_of_its_matrix(name):
    a, b, curvature, t, dt = 0.4, 0.7, 2.5, 9.0, 0.8
    matrix = {
        "gd": [[-a * curvature]],
        "momentum": [[0, -a], [(1 - b) * curvature, -(1 - b)]],
        "nesterov": [[0, -a], [curvature, -(1 - b)]],
        "nesterov-k": [[0, 1], [-a * curvature, -3 / t]],  # frozen at time t
    }[name]
    script = (
        f'console.log(JSON.stringify(flowMultipliers("{name}", {{ a: {a}, b: {b}, dt: {dt} }}, {curvature}, {t})));'
    )
    found = [complex(*mu) for mu in json.loads(in_node(joined("arithmetic/stability.js") + script))]
    expected = np.linalg.eigvals(expm(dt * np.array(matrix)))
    found, expected = (sorted(pair, key=lambda mu: (round(mu.imag, 9), mu.real)) for pair in (found, expected))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_two_orders_end_in_different_wells():
    """The story that the page tells first, and the README's picture."""
    script = f"""
    const found = experiment({{ ...{json.dumps(BASE)}, method: "lecture", a: 0.5, b: 0.9, dt: 1,
      time: 60, x: -0.2, y: 1.5, both: true }});
    console.log(JSON.stringify([found.iterates, found.other, found.flow].map((points) => points[points.length - 4])));
    """
    lecture, framework, flow = json.loads(in_node(joined("arithmetic/experiment.js") + script))
    assert math.copysign(1, lecture) == -1
    assert abs(framework - 1) < 0.1
    assert abs(flow - 1) < 0.1
