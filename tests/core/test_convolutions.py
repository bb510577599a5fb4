"""`fast_convolutions` against the plain program: drawn convolutions, derivatives, loops, other platforms."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import inercia as ia


@st.composite
def convolutions(draw):
    """Draw (shape of lhs, shape of rhs, keywords) of a convolution, in any layout."""
    spatial = draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["plain", "feature groups", "depthwise", "batch groups"]))
    groups = draw(st.integers(2, 3)) if kind != "plain" else 1
    inputs = 1 if kind == "depthwise" else draw(st.integers(1, 3))
    outputs, batch = groups * draw(st.integers(1, 2)), draw(st.integers(1, 2))
    by_axis = partial(st.lists, min_size=spatial, max_size=spatial)
    kernel, size = draw(by_axis(st.integers(1, 3))), draw(by_axis(st.integers(3, 5)))
    strides, dilation, spread = (draw(by_axis(st.integers(1, 2))) for _ in range(3))
    # Wide enough for the kernel whatever its dilation.
    padding = [(k + draw(st.integers(-1, 1)), k) for k in kernel]
    letters = "XYZ"[:spatial]
    layout = tuple("".join(draw(st.permutations(first + letters))) for first in ("NC", "OI", "NC"))
    sizes = {"N": batch * (groups if kind == "batch groups" else 1)} | dict(zip(letters, size, strict=True))
    sizes["C"] = inputs * (groups if kind in ("feature groups", "depthwise") else 1)
    taps = {"O": outputs, "I": inputs} | dict(zip(letters, kernel, strict=True))
    if kind == "batch groups":
        taps["I"] = sizes["C"]
    return (
        tuple(sizes[c] for c in layout[0]),
        tuple(taps[c] for c in layout[1]),
        {
            "window_strides": strides,
            "padding": padding,
            "lhs_dilation": spread,
            "rhs_dilation": dilation,
            "dimension_numbers": layout,
            "feature_group_count": groups if kind in ("feature groups", "depthwise") else 1,
            "batch_group_count": groups if kind == "batch groups" else 1,
        },
    )


def drawn(*shapes, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def equal(a, b, tol=1e-5):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=tol, atol=tol * max(float(jnp.abs(y).max(initial=0)), 1e-3))


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(convolutions(), st.sampled_from([np.float32, np.float64]))
def test_equal_to_the_plain_convolution(case, dtype):
    shape, kernel, keywords = case
    with jax.enable_x64(dtype == np.float64):
        x, w = drawn(shape, kernel, dtype=dtype)
        plain = partial(lax.conv_general_dilated, **keywords)
        equal(jax.jit(ia.fast_convolutions(plain))(x, w), jax.jit(plain)(x, w), 1e-4 if dtype == np.float32 else 1e-12)


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(convolutions())
def test_first_and_second_derivatives(case):
    shape, kernel, keywords = case
    with jax.enable_x64(True):
        arrays = drawn(shape, kernel, dtype=np.float64)

        def derivatives(x, w):
            gradient = jax.grad(lambda x, w: jnp.sum(lax.conv_general_dilated(x, w, **keywords) ** 3), (0, 1))
            return jax.jvp(gradient, (x, w), (w.mean() + x, x.mean() + w))

        equal(jax.jit(ia.fast_convolutions(derivatives))(*arrays), jax.jit(derivatives)(*arrays), 1e-10)


def net(w, x):
    for n in range(2):
        x = jnp.tanh(lax.conv_general_dilated(x, w[n], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))
    return jnp.mean(x**2)


X, W = drawn((4, 5, 5, 2), (2, 3, 3, 2, 2))
GRADIENT = jax.grad(net)


@jax.custom_jvp
def own_jvp(w):
    return net(w, X)


own_jvp.defjvp(lambda w, dw: (net(*w, X), 7 * jnp.vdot(GRADIENT(*w, X), *dw)))


@jax.custom_vjp
def own_vjp(w):
    return net(w, X)


own_vjp.defvjp(lambda w: (net(w, X), w), lambda w, c: (5 * c * GRADIENT(w, X),))

PROGRAMS = {
    "scan": lambda w: lax.scan(lambda w, x: (w - GRADIENT(w, x[None]), net(w, X)), w, X),
    "while": lambda w: lax.while_loop(lambda c: c[1] < 3, lambda c: (c[0] - GRADIENT(c[0], X), c[1] + 1), (w, 0))[0],
    "map": lambda w: lax.map(lambda x: GRADIENT(w, x[None]), X),
    "cond": lambda w: lax.cond(w.sum() > 0, lambda w: GRADIENT(w, X), lambda w: 2 * GRADIENT(w, X), w),
    "remat": jax.grad(jax.checkpoint(lambda w: net(w, X))),
    "jit": lambda w: jax.jit(GRADIENT)(w, X),
    "vmap": lambda w: jax.vmap(lambda s, x: GRADIENT(s * w, x[None]))(jnp.arange(4.0), X),
    "hvp": lambda w: jax.vmap(lambda v: jax.jvp(lambda w: GRADIENT(w, X), (w,), (v,))[1])(jnp.stack([w, 1 + w])),
    "custom jvp": jax.grad(own_jvp),
    "custom vjp": jax.grad(own_vjp),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_inside_of(name):
    program = PROGRAMS[name]
    equal(jax.jit(ia.fast_convolutions(program))(W), jax.jit(program)(W))


def layouts(program, *arguments):
    """Return the layouts of the convolutions of a program compiled for this machine."""
    text = jax.jit(program).lower(*arguments).compile().as_text()
    return [
        line.split("dim_labels=")[1].split(",")[0].split()[0] for line in text.splitlines() if "dim_labels=" in line
    ]


@pytest.mark.parametrize("name", ["scan", "while", "hvp", "custom vjp"])
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="layouts of the CPU")
def test_all_layouts_become_canonical(name):
    found = layouts(ia.fast_convolutions(PROGRAMS[name]), W)
    assert found
    assert set(found) == {"b01f_01io->b01f"}
    if name in ("scan", "while"):
        assert set(layouts(PROGRAMS[name], W)) - set(found)  # or there is nothing to cure


@pytest.mark.parametrize("name", ["custom jvp", "custom vjp"])
def test_derivatives_of_ones_own_stay(name):
    own = {"custom jvp": own_jvp, "custom vjp": own_vjp}[name]
    equal(jax.jit(jax.grad(ia.fast_convolutions(own)))(W), jax.grad(own)(W))


def test_differentiated_and_mapped_after():
    fast = ia.fast_convolutions(net)
    equal(jax.jit(jax.grad(fast))(W, X), GRADIENT(W, X))
    equal(jax.jit(jax.vmap(fast, (0, None)))(jnp.stack([W, 2 * W]), X), jnp.stack([net(W, X), net(2 * W, X)]))


def test_without_convolutions_the_program_is_the_same():
    def program(x, n):
        return lax.scan(lambda c, _: (jnp.sin(c) @ c, c), x, length=n)

    plain, fast = (
        str(jax.make_jaxpr(f, static_argnums=1)(X[0, :, :, 0], 3)) for f in (program, ia.fast_convolutions(program))
    )
    assert fast == plain


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_keep_their_program(platform):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain, fast = (
            jax.export.export(jax.jit(f), platforms=[platform])(W).mlir_module()
            for f in (PROGRAMS["scan"], ia.fast_convolutions(PROGRAMS["scan"]))
        )
    for word in ("stablehlo.convolution", "stablehlo.transpose", "optimization_barrier", "dim_numbers = [f, 0, 1, b]"):
        assert fast.count(word) == plain.count(word)


def test_what_is_no_array_passes():
    class Own(tuple):
        __slots__ = ()

    settings = Own((net, "same"))

    def step(settings, w, *, scale):
        assert type(settings) is Own
        return scale * settings[0](w, X), settings[1], None, scale

    value, text, nothing, scale = ia.fast_convolutions(step)(settings, W, scale=2)
    assert (text, nothing, scale) == ("same", None, 2)
    equal(value, 2 * net(W, X))


def test_a_second_wrapper_compiles_nothing():
    gradient = jax.jit(lambda w: GRADIENT(w, X))
    first = ia.fast_convolutions(gradient)(W)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if "backend_compile" in name else None
    )
    try:
        again = ia.fast_convolutions(gradient)(W)
        assert not compiled
        jax.jit(lambda w: 3 * w)(W)
        assert compiled  # the ear works
    finally:
        jax.monitoring.clear_event_listeners()
    equal(again, first, 0)
