"""The explorer computes what inercia computes, to 1e-9: checked in a browser, and in Node where there is one."""

import json
import math

import golden
import numpy as np
import pytest
from browsers import in_browser, in_node

from inercia.explorer.page import joined

ARITHMETIC = joined("arithmetic/experiment.js", "arithmetic/modes.js")
ENTRIES = json.loads(golden.FILE.read_text())
CHECK = golden.FILE.with_name("check_golden.js").read_text() + f"\nconst golden = {json.dumps(ENTRIES)};\n"
TOLERANCE = 1e-9


def judge(text):
    verdict = json.loads(text)
    assert verdict["entries"] == 200
    assert set(verdict["worst"]) == {
        "loss", "gradient", "hessian", "iterates", "flow", "multipliers", "threshold", "energy",
    }  # fmt: skip
    assert max(verdict["worst"].values()) < TOLERANCE, verdict


def test_every_method_and_loss_is_among_the_settings():
    settings = [entry["setting"] for entry in ENTRIES]
    pairs = {(s["loss"], s["method"]) for s in settings}
    assert len(pairs) == 35
    assert {len(e["answers"]["flow"][0]) for e in ENTRIES} == {2, 4, 6}
    assert sum(s["dt"] < 1 for s in settings) > 50


def test_the_arithmetic_equals_inercia_in_a_browser(tmp_path):
    script = f"{ARITHMETIC}\n{CHECK}\ndocument.body.textContent = verdict(golden);"
    text = in_browser(f'<!doctype html><body><script type="module">{script}</script></body>', tmp_path)
    judge(text[text.index("{") : text.rindex("}") + 1])


def test_the_arithmetic_equals_inercia_in_node():
    judge(in_node(f"{ARITHMETIC}\n{CHECK}\nconsole.log(verdict(golden));"))


BUGS = {
    "the gradient for m": ("z[i] -= a * z[2 + i];\n    }\n  },\n", "z[i] -= a * g[i];\n    }\n  },\n"),
    "a loose tolerance": ("rtol: 1e-11", "rtol: 1e-5"),
    "Adam's correction": ("1 - b2 ** (k + 1)", "1 - b2 ** k"),
    "the lecture's bound": ("explicit: () => 1,", "explicit: () => 2,"),
    "a curvature": ("3 * x * x - 1", "3 * x * x - 2"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_seeded_bug_is_seen(bug):
    right, wrong = BUGS[bug]
    assert ARITHMETIC.count(right) == 1
    script = ARITHMETIC.replace(right, wrong)
    verdict = json.loads(in_node(f"{script}\n{CHECK}\nconsole.log(verdict(golden));").replace("null", "1e300"))
    assert max(verdict["worst"].values()) > 100 * TOLERANCE


@pytest.mark.slow
def test_the_settings_are_still_what_inercia_answers():
    for entry in np.random.default_rng().choice(np.array(ENTRIES, dtype=object), 2, replace=False):
        again = golden.answers(entry["setting"])
        assert again is not None, entry
        for key, value in entry["answers"].items():
            np.testing.assert_allclose(again[key], value, rtol=1e-10, atol=1e-10, err_msg=f"{key}: {entry}")


def test_noise_is_normal_and_the_same_for_a_seed():
    drawn = np.array(json.loads(in_node(f"{ARITHMETIC}\nconsole.log(JSON.stringify([...normals(7, 40000)]));")))
    again = json.loads(in_node(f"{ARITHMETIC}\nconsole.log(JSON.stringify([...normals(7, 10)]));"))
    assert drawn[:10].tolist() == again
    assert abs(drawn.mean()) < 5 / 200
    assert drawn.std() == pytest.approx(1, abs=5 / 200 / math.sqrt(2))
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 5 / 200
    assert np.mean(np.abs(drawn) < 1) == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.012)


def test_noisy_descent_has_the_stationary_variance_of_theory():
    """On l theta^2 / 2 with noise s: variance a s^2 / (l (2 - a l))."""
    script = """
    const loss = { loss: "quadratic", l1: 2, l2: 2, angle: 0, x: 0, y: 0 };
    const settings = { ...loss, method: "gd", a: 0.3, b: 0, b2: 0, eps: 0, dt: 1, noise: 0.7 };
    const { points } = iterate(settings, lossOf(settings), 60000, 1, normals(3, 120000));
    console.log(points.reduce((sum, value) => sum + value * value, 0) / points.length);
    """
    expected = 0.3 * 0.7**2 / (2 * (2 - 0.3 * 2))
    assert float(in_node(ARITHMETIC + script)) == pytest.approx(expected, rel=0.03)


def test_orders_are_those_of_the_readme():
    script = """
    const orders = {};
    for (const method of Object.keys(METHODS)) {
      const loss = { loss: "wells", x: -0.2, y: 1.5, time: 16, noise: 0 };
      orders[method] = experiment({ ...loss, method, a: 0.05, b: 0.9, b2: 0.99, eps: 1e-8, dt: 1 / 8 }).order;
    }
    console.log(JSON.stringify(orders));
    """
    orders = json.loads(in_node(ARITHMETIC + script))
    assert orders.pop("rmsprop") == pytest.approx(0.5, abs=0.1)  # from a cold start
    assert orders == {method: pytest.approx(1, abs=0.1) for method in orders}
