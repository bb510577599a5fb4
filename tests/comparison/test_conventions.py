"""Each row of the table of conventions, against the real optax and torch."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import inercia as ia

A, B, STEPS = 0.3, 0.8, 60
H = np.array([[2.0, 0.5], [0.5, 1.0]])
X0 = np.array([1.0, -2.0])


def ours(method):
    return ia.iterate(method, ia.quadratic(H), X0, STEPS).params


def torch_path(make, **options):
    torch = pytest.importorskip("torch", reason="the extra `peers` holds torch")
    theta = torch.tensor(X0, dtype=torch.float64, requires_grad=True)
    curvature = torch.tensor(H, dtype=torch.float64)
    optimizer = getattr(torch.optim, make)([theta], **options)
    path = [X0]
    for _ in range(STEPS):
        optimizer.zero_grad()
        (0.5 * theta @ curvature @ theta).backward()
        optimizer.step()
        path.append(theta.detach().numpy().copy())
    return np.array(path)


def equal(a, b, tolerance=1e-12):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def test_ema_is_optax_ema():
    equal(ours(ia.momentum(A, B)), ours(optax.chain(optax.ema(B, debias=False), optax.scale(-A))))


def test_ema_to_sum():
    form = ia.convert(A, B, "ema", "sum")
    equal(ours(ia.momentum(A, B)), ours(optax.sgd(form.learning_rate, B)))
    equal(ours(ia.momentum(A, B)), ours(optax.chain(optax.trace(B), optax.scale(-form.learning_rate))))
    memories = [ia.iterate(m, ia.quadratic(H), X0, 9).state for m in (ia.momentum(A, B), ia.sgd(form.learning_rate, B))]
    equal(memories[0].m * form.memory, memories[1].trace)


def test_sum_is_torch():
    equal(ours(ia.sgd(A, B)), torch_path("SGD", lr=A, momentum=B))
    equal(ours(ia.sgd(A, B, nesterov=True)), torch_path("SGD", lr=A, momentum=B, nesterov=True))
    form = ia.convert(A, B, "ema", "sum")
    equal(ours(ia.momentum(A, B)), torch_path("SGD", lr=form.learning_rate, momentum=B))


@pytest.mark.parametrize("dampening", [0.3, B])
def test_dampened_is_torch_from_equal_memories(dampening):
    """torch's first step is whole; from its first memory on the averaged form follows it exactly."""
    path = torch_path("SGD", lr=A, momentum=B, dampening=dampening)
    equal(path[1], X0 - A * H @ X0)  # not (1 - d) of it
    form = ia.convert(A, B, "dampened", "ema", dampening=dampening)
    back = ia.convert(form.learning_rate, B, "ema", "dampened", into=dampening)
    assert back.learning_rate == pytest.approx(A)
    m = H @ X0 / back.memory  # torch's memory after its first step is g
    state = ia.MomentumState(jnp.int32(1), m)
    rest = ia.iterate(ia.momentum(form.learning_rate, B), ia.quadratic(H), path[1], STEPS - 1, state=state)
    equal(rest.params, path[1:])
    if dampening == B:
        assert form.learning_rate == pytest.approx(A)  # d = b is the averaged form
        with pytest.raises(AssertionError):
            equal(ours(ia.momentum(A, B)), path)  # and still the first steps differ


def test_first_steps():
    g = H @ X0
    steps = {
        "ema": (ours(ia.momentum(A, B)), A * (1 - B) * g),
        "sum": (ours(ia.sgd(A, B)), A * g),
        "debiased": (ours(optax.chain(optax.ema(B, debias=True), optax.scale(-A))), A * g),
        "explicit": (ours(ia.momentum(A, B, scheme="explicit")), 0 * g),
    }
    for path, first in steps.values():
        equal(path[0] - path[1], first, 1e-15)


def test_debiased_meets_ema_after_its_transient():
    debiased, ema = (optax.chain(optax.ema(B, debias=d), optax.scale(-A)) for d in (True, False))
    g = jnp.ones(1)
    state, reference = debiased.init(g), ema.init(g)
    for k in range(60):
        u, state = debiased.update(g, state)
        v, reference = ema.update(g, reference)
        np.testing.assert_allclose(v / u, 1 - B ** (k + 1), rtol=1e-5)


def test_adam_is_torch_adam():
    equal(ours(ia.adam(0.05, eps=1e-4)), torch_path("Adam", lr=0.05, eps=1e-4))
    equal(ours(ia.adamw(0.05, weight_decay=0.1)), torch_path("AdamW", lr=0.05, weight_decay=0.1))


def test_eps_inside_and_outside_the_root():
    outside, inside = ours(ia.rmsprop(0.01, 0.99, 1e-3, eps_in_sqrt=False)), ours(ia.rmsprop(0.01, 0.99, 1e-3))
    equal(outside, torch_path("RMSprop", lr=0.01, alpha=0.99, eps=1e-3))
    assert abs(outside - inside).max() > 1e-4
    # Where v = 0 they are one: eps_root = eps^2.
    g = jnp.zeros(1)
    d = [
        m.flow(g + 1e-30, ia.AdamState(jnp.float32(1), g + 1.0, g), g)[0]
        for m in (ia.adam(0.1, eps=1e-3), ia.adam(0.1, eps=0.0, eps_root=1e-6))
    ]
    np.testing.assert_allclose(*d, rtol=1e-5)


def test_adagrad_and_torch():
    equal(
        ours(ia.adagrad(0.1, 0.5, eps=0.0)),
        torch_path("Adagrad", lr=0.1, initial_accumulator_value=0.5, eps=0.0),
    )


def test_round_trips():
    forms = [("ema", 0.0), ("sum", 0.0), ("dampened", 0.4)]
    for s, d in forms:
        for t, e in forms:
            there = ia.convert(A, B, s, t, dampening=d, into=e)
            back = ia.convert(there.learning_rate, B, t, s, dampening=e, into=d)
            assert back.learning_rate == pytest.approx(A, rel=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ia.convert(0.0, 0.9, "ema", "sum"), "learning_rate must be a finite number above 0"),
        (lambda: ia.convert(0.1, 1.0, "ema", "sum"), "beta must lie in"),
        (lambda: ia.convert(0.1, 0.9, "emma", "sum"), "did you mean 'ema'"),
        (lambda: ia.convert(0.1, 0.9, "ema", "sum", into=0.5), "dampening belongs to the dampened form, but target is"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
