"""Convolutions: 100 Adam steps of a small CNN in a compiled loop, and four eigenvalues of CNNs of 6,000 parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import LinearOperator, eigsh

import inercia as ia
from timing import Goal, Section, interleaved, ratio, table

RATE, STEPS, K = 1e-3, 100, 4
LAYOUT = ("NHWC", "HWIO", "NHWC")


def network(kernels, seed=0):
    """Return a start and params, x -> logits: strided convolutions with tanh, a mean over space and a matrix."""
    *convolutions, last = (
        0.2 * jax.random.normal(key, shape)
        for key, shape in zip(jax.random.split(jax.random.key(seed), len(kernels)), kernels, strict=True)
    )

    def apply(params, x):
        for kernel in params["kernels"]:
            x = jnp.tanh(lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=LAYOUT))
        return x.mean((1, 2)) @ params["last"]

    return {"kernels": list(convolutions), "last": last}, apply


def data(rows, seed=1):
    """Return images of noise, 16 x 16 x 3, and labels."""
    of_x, of_y = jax.random.split(jax.random.key(seed))
    return jax.random.normal(of_x, (rows, 16, 16, 3)), jax.random.randint(of_y, (rows,), 0, 10)


def run(fast: bool) -> Section:
    """Time the steps, and the eigenvalues against scipy's from one compiled product."""
    rounds = 3 if fast else 7
    text, goals = _steps(rounds)
    more, others = _eigenvalues(rounds)
    return Section("Convolutions in compiled loops", text + "\n" + more, goals + others)


def contestants(loss, start, batch, steps):
    """Return calls of as many steps of Adam on one batch: by us, by scans, by a loop."""
    opt, method = optax.adam(RATE), ia.adam(RATE)

    def step(carry, batch):
        params, state = carry
        updates, state = opt.update(jax.grad(loss)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    def scanned(step):
        @jax.jit
        def run(params, batch):
            return lax.scan(lambda c, _: (step(c, batch), None), (params, opt.init(params)), length=steps)[0]

        return lambda: run(start, batch)[0]

    one = jax.jit(step)

    def loop():
        carry = start, opt.init(start)
        for _ in range(steps):
            carry = one(carry, batch)
        return carry[0]

    def train():
        return ia.train(method, loss, start, batch, epochs=steps, sampler="full", key=0).params

    return {
        "inercia": train,
        "optax in a scan, fast_convolutions": scanned(ia.fast_convolutions(step)),
        "optax in a loop": loop,
        "optax in a scan": scanned(step),
    }


def _steps(rounds):
    start, apply = network([(3, 3, 3, 16), (3, 3, 16, 16), (16, 10)])
    batch = data(128)

    def loss(params, batch):
        return optax.softmax_cross_entropy_with_integer_labels(apply(params, batch[0]), batch[1]).mean()

    calls = contestants(loss, start, batch, STEPS)
    seconds, results = interleaved(calls, rounds)
    flat = {name: np.asarray(ravel_pytree(params)[0]) for name, params in results.items()}
    rows = [
        [
            name,
            f"{np.median(each) / STEPS * 1e3:.2f}",
            ratio(seconds, name, "inercia")[1],
            f"{np.abs(flat[name] - flat['optax in a scan']).max():.0e}",
        ]
        for name, each in seconds.items()
    ]
    head = ["", "ms per step", "times ours (range)", "from optax in a scan"]
    text = f"{STEPS} steps of Adam, two layers, 128 images of 16 x 16 x 3:\n\n" + table(head, rows)
    scan, shown = ratio(seconds, "optax in a scan", "inercia")
    looped, beside = ratio(seconds, "optax in a loop", "inercia")
    return text, [
        Goal("CNN: against optax in a scan", "≥ 10×", shown, scan >= 10),
        Goal("CNN: against optax in a loop", "≥ 1×", beside, looped >= 1),
    ]


def _eigenvalues(rounds):
    start, apply = network([(3, 3, 3, 20), (3, 3, 20, 29), (29, 10)], seed=2)
    noise = data(64, seed=3)
    text, goals = "", []
    for name, begin, model, (x, y), steps in (
        ("of 64 images of noise", start, apply, noise, 0),
        ("of 300 digits", *_digits(), 0),
        ("of 300 digits after 300 updates", *_digits(), 300),
    ):
        with jax.enable_x64(True):
            images, theta = jnp.asarray(x, float), jax.tree.map(lambda leaf: leaf.astype(float), begin)

        def loss(params, apply=model, images=images, y=y):
            return optax.softmax_cross_entropy_with_integer_labels(apply(params, images), y).mean()

        theta = ia.iterate(ia.sgd(0.1), loss, theta, steps, every=steps)[-1].params if steps else theta
        rows, apart, times, size = _against_eigsh(loss, theta, rounds)
        text += f"The {K} largest eigenvalues of a CNN's Hessian {name}, {size:,} parameters, float64:\n\n"
        text += table(["", "seconds", "with compiling", "products"], rows) + f"\nThey are {apart:.0e} apart.\n\n"
        for what, seconds in zip(("", ", with compiling"), times, strict=True):
            speed, shown = ratio(seconds, "inercia", "scipy")
            goals.append(
                Goal(f"CNN: curvature(k=4) {name} against eigsh over one product{what}", "≤ 1.2×", shown, speed <= 1.2)
            )
    return text, goals


def _digits():
    """Return a start of 6,090 parameters, params, x -> logits, and 300 digits."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = {"first": ((3, 3, 1, 16), 3), "second": ((3, 3, 16, 32), 12), "last": ((128, 10), 11)}
    start = {
        name: {"w": jax.random.normal(key, shape) / scale, "b": jnp.zeros(shape[-1])}
        for key, (name, (shape, scale)) in zip(keys, shapes.items(), strict=True)
    }

    def apply(params, x):
        for name in ("first", "second"):
            layer = params[name]
            x = jnp.tanh(lax.conv_general_dilated(x, layer["w"], (2, 2), "SAME", dimension_numbers=LAYOUT) + layer["b"])
        return x.reshape(len(x), -1) @ params["last"]["w"] + params["last"]["b"]

    x, y = ia.digits().train
    return start, apply, (np.reshape(x[:300], (-1, 8, 8, 1)), np.asarray(y[:300]))


def _against_eigsh(loss, theta, rounds):
    """Return a row for each contestant, how far apart they are, their seconds warm and cold, and the parameters."""
    with jax.enable_x64(True):
        z, rebuild = ravel_pytree(theta)
    begin, products = np.random.default_rng(0).standard_normal(z.size), [0]

    def scipy_of(loss):
        with jax.enable_x64(True):
            product = jax.jit(lambda v: jax.jvp(jax.grad(lambda z: loss(rebuild(z))), (z,), (v,))[1])

        def one(v):
            products[0] += 1
            return np.asarray(product(v))

        def call():
            products[0] = 0
            with jax.enable_x64(True):
                operator = LinearOperator((z.size, z.size), matvec=one, dtype=np.float64)
                return eigsh(operator, K, which="LA", tol=1e-6, v0=begin)[0][::-1]

        return call

    def renewed(solve):
        def call():
            jax.clear_caches()
            return solve(loss)

        return call

    cold, _ = interleaved(
        {"inercia": renewed(lambda f: ia.curvature(f, theta, K).values), "scipy": renewed(lambda f: scipy_of(f)())},
        min(rounds, 5),
    )
    warm, found = interleaved({"inercia": lambda: ia.curvature(loss, theta, K), "scipy": scipy_of(loss)}, rounds)
    ours, theirs = found["inercia"], found["scipy"]
    used = {"inercia": ours.iterations, "scipy": products[0]}
    rows = [[name, f"{np.median(warm[name]):.2f}", f"{np.median(cold[name]):.2f}", str(used[name])] for name in warm]
    return rows, float(np.abs(ours.values - theirs).max() / theirs[0]), (warm, cold), z.size
