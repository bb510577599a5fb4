"""The explorer in a notebook: a loss of the reader's own, sampled, and the settings that come back."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browsers import in_browser, in_node
from scipy.optimize import minimize

import inercia
from inercia.explorer.notebook import method_of
from inercia.explorer.page import ROOT, joined, page
from inercia.explorer.sampled_loss import sampled
from inercia.problems.toy_losses import valley

BOX = ((-1.5, 1.5), (-1.0, 2.0))


def curved(p):
    return jnp.sin(1.3 * p[0]) * jnp.cos(p[1]) + 0.3 * jnp.sum(p**2) + 0.1 * jnp.exp(-p[0] * p[1] / 2)


def at(own, points):
    """Return the page's values, gradients and Hessians of a sampled loss."""
    script = f"""
    const loss = sampledLoss({own.as_json()});
    const g = new Float64Array(2);
    console.log(JSON.stringify({json.dumps(points.tolist())}.map(([x, y]) => {{
      loss.gradient(x, y, g);
      return [loss.value(x, y), ...g, ...loss.hessian(x, y)];
    }})));
    """
    return np.array(json.loads(in_node(joined("arithmetic/sampled_loss.js") + script)), dtype=float)


def lowest(loss):
    found = minimize(jax.jit(jax.value_and_grad(loss)), [0.1, 0.1], jac=True, bounds=BOX, tol=1e-15)
    return found.fun


def exact(loss, points):
    """Return the same of the loss itself, above its least value within the box."""
    with jax.enable_x64(True):
        p = jnp.asarray(points)
        hessian = jax.vmap(jax.hessian(loss))(p)[:, [0, 0, 1], [0, 1, 1]]
        value = jax.vmap(loss)(p)[:, None] - lowest(loss)
        return np.concatenate([value, jax.vmap(jax.grad(loss))(p), hessian], axis=1)


@pytest.mark.slow
def test_a_polynomial_is_the_loss_itself_and_others_nearly():
    points = np.random.default_rng(0).uniform([-1.5, -1.0], [1.5, 2.0], (200, 2))
    own = sampled(valley, BOX)
    np.testing.assert_allclose(at(own, points), exact(valley, points), rtol=1e-10, atol=1e-9)
    assert own.error < 1e-14
    own = sampled(curved, BOX)
    found, expected = at(own, points), exact(curved, points)
    assert np.abs(found - expected)[:, :3].max() < 1e-9
    assert np.abs(found - expected)[:, 3:].max() < 1e-7
    off = np.abs(found - expected)[:, 0].max() / np.ptp(expected[:, 0])
    assert off < 3 * own.error  # the middles tell the error


@pytest.mark.slow
def test_outside_of_the_bounds_it_goes_on_to_second_order():
    points = np.array([[-1.6, 0.3], [1.55, 2.05], [50.0, 0.0]])
    found = at(sampled(curved, BOX), points)
    np.testing.assert_allclose(found[:2, 0], exact(curved, points[:2])[:, 0], atol=1e-3)
    assert np.isnan(found[2]).all()


@pytest.mark.slow
def test_what_cannot_be_sampled_is_refused():
    for arguments, sentence in (
        ((curved, ((1, 0), (0, 1))), "bounds must be"),
        ((curved, ((0, 1), (0, np.nan))), "bounds must be"),
        ((curved, BOX, [5.0, 0.0]), "start must be two numbers within the bounds"),
        ((lambda p: p, BOX), "loss must"),
        ((lambda p: jnp.log(p[0]), BOX), "loss must be finite"),
        ((lambda p: jnp.sin(60 * p[0]), BOX), "loss must be smooth enough"),
    ):
        with pytest.raises((ValueError, TypeError), match=sentence):
            sampled(*arguments)


def test_the_widget_holds_the_page_and_gives_the_method():
    widget = inercia.explore(valley, bounds=BOX, start=[-0.6, 0.9], height=700)
    assert widget.page.count('id="own"') == 1
    assert len(widget.page.encode()) < 300_000
    with pytest.raises(ValueError, match="is it on show yet"):
        widget.method  # noqa: B018
    widget.settings = {"method": "rmsprop", "a": 0.1, "b": 0.9, "b2": 0.8, "eps": 1e-6, "dt": 0.5}
    assert widget.method == inercia.rmsprop(0.1, 0.8, 1e-6, dt=0.5)
    assert inercia.explore().page == page()
    with pytest.raises(ValueError, match="height must be above 0"):
        inercia.explore(height=0)


@pytest.mark.parametrize("name", ["gd", "momentum", "lecture", "nesterov", "nesterov-k", "rmsprop", "adam"])
def test_every_method_of_the_page_is_one_of_inercia(name):
    method = method_of({"method": name, "a": 0.1, "b": 0.9, "b2": 0.99, "eps": 1e-8, "dt": 0.5})
    assert method.dt == 0.5
    assert method.hyper["learning_rate"] == 0.1


def test_without_anywidget_the_cure_is_told(monkeypatch):
    from inercia.explorer import notebook

    monkeypatch.setitem(sys.modules, "anywidget", None)
    notebook._widget.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'inercia\[notebook\]'"):
        inercia.explore()
    notebook._widget.cache_clear()


SHOW = """<!doctype html><body><script type="module">
WIDGET
const given = { page: PAGE, height: 900 };
const model = {
  get: (name) => given[name],
  set(name, value) { given[name] = value; },
  save_changes() { document.title = JSON.stringify(given.settings); },
};
shown.render({ model, el: document.body });
</script></body>"""


def test_the_settings_come_back_from_the_frame(tmp_path):
    text = json.dumps(inercia.explore(valley, bounds=BOX, start=[-0.6, 0.9]).page).replace("</", "<\\/")
    script = (ROOT / "widget.mjs").read_text("utf-8").replace("export default", "const shown =")
    html = in_browser(SHOW.replace("WIDGET", script).replace("PAGE", text), tmp_path)
    settings = json.loads(html.split("<title>")[1].split("</title>")[0])
    assert (settings["loss"], settings["method"]) == ("own", "momentum")
    assert (settings["x"], settings["y"]) == (-0.6, 0.9)
    with jax.enable_x64(True):
        largest = np.abs(np.linalg.eigvalsh(jax.hessian(valley)(jnp.array([-0.6, 0.9])))).max()
    assert settings["a"] == pytest.approx(1 / largest)
