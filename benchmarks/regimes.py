"""What `regime` says, against what the iterates then do, on random problems: `python benchmarks/regimes.py 100`;
on hard ones, near or at the edge: `python benchmarks/regimes.py 1000 1030`.

For each it is asked whether the largest distance of the iterates to the plain flow, until the time that is told, stays
below the bound that is told; where the edge of stability is met, whether the iterates meet it at about that time; with
batches, whether the spread of runs stays below the one that is told. Prints the shares.
"""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from tqdm import tqdm

import inercia as ia
from inercia.core.linear_form import linear_form

#: Problems after which compiled programs are dropped.
FORGOTTEN = 20
#: The first seed of the hard ones.
HARD = 1000


def _bowl(rng, n):
    """A quadratic with waves: convex or not."""
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    A = Q @ np.diag(rng.uniform(0.02, 1, n)) @ Q.T
    waves, pace = rng.uniform(0, 0.5), rng.uniform(0.5, 2, n)
    return (lambda x: 0.5 * x @ A @ x + waves * (1 - jnp.cos(pace * x)).sum()), rng.normal(size=n) * 1.5


def _valley(rng, n):
    """Walls that close in: the edge of stability may be met."""
    drift, far = rng.uniform(0.001, 0.02), rng.uniform(1.5, 4)
    start = np.array([rng.uniform(0, 1.5), rng.uniform(0.02, 0.3)])
    return (lambda x: (1 + x[0] ** 2) * x[1] ** 2 / 2 + drift * (x[0] - far) ** 2), start


def _network(rng, n):
    """A small network on random data."""
    x, w = rng.normal(size=(24, 3)), rng.normal(size=(3, 1))
    y = np.sin(x @ w)
    net = ia.mlp([3, 6, 1], "tanh")
    risk = ia.risk(net)
    start = net.init(jax.random.key(int(rng.integers(2**31))))
    return (lambda p: risk(p, (x, y))), start


def draw(seed):
    """Return method, loss, start and time of a random problem; from seed 1000 on a hard one, near or at its edge."""
    rng = np.random.default_rng(seed)
    if seed >= HARD:
        loss, start = [_bowl, _valley][rng.integers(2)](rng, 3)
        a, b = rng.uniform(0.5, 1.9) / max(ia.curvature(loss, start).values[0], 0.3), rng.uniform(0.3, 0.9)
        return [ia.sgd(a), ia.momentum(a, b)][rng.integers(2)], loss, start, int(rng.integers(100, 400))
    loss, start = [_bowl, _valley, _network][rng.integers(3)](rng, int(rng.integers(1, 6)))
    top = ia.curvature(loss, start).values[0]
    a = 10 ** rng.uniform(-2, 0.2) / max(top, 0.3)  # a lambda from .01 to 1.6
    b = rng.uniform(0.3, 0.95)
    method = [
        lambda: ia.sgd(a),
        lambda: ia.momentum(a, b),
        lambda: ia.sgd(a * (1 - b), b),
        lambda: ia.momentum(min(a, 0.5 / max(top, 0.3)), b, scheme="explicit"),
        lambda: ia.adam(0.05 * a, b1=b, b2=0.9 + 0.099 * rng.random(), eps=1e-4),
        lambda: ia.adamw(0.05 * a, weight_decay=0.1, eps=1e-4),
        lambda: ia.rmsprop(0.05 * a, b, initial_scale=1.0),
        lambda: optax.sgd(a * (1 - b), momentum=b, nesterov=True),
    ][rng.integers(8)]()
    return method, loss, start, int(10 ** rng.uniform(1.3, 2.7))


def judged(seed):
    """Return the regime of a problem, the gap that was met until then, and when the iterates meet the edge."""
    method, loss, start, steps = draw(seed)
    told = ia.regime(method, loss, start, time=steps)
    path = ia.iterate(method, loss, start, steps)
    flow = ia.integrate(method, loss, start, path.times)
    met = ia.gap(path, flow).distance[path.times <= told.until + 1e-9].max()
    return told, float(met), _edge(method, loss, path, told.bound)


def _edge(method, loss, path, bound):
    """Return when the iterates meet the edge, where P is one number; None where they do not, nan where it is not."""
    form = linear_form(method)
    if form is None or form.second_moment is not None or bound is None:
        return float("nan")
    _, rebuild = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], path.params))
    with jax.enable_x64(True):
        tops = jax.lax.map(
            jax.jit(lambda z: jnp.linalg.eigvalsh(jax.hessian(lambda z: loss(rebuild(z)))(z))[-1]), path.flat()
        )
    over = np.flatnonzero(form.averaged_rate * np.asarray(tops) >= 0.98 * bound)
    return float(path.times[over[0]]) if len(over) else None


def main(seeds):
    """Judge the problems and print what held."""
    begin, held, tight, edges, missed, failed = time.time(), [], [], [], [], []
    for seed in tqdm(seeds, disable=None):
        if seed % FORGOTTEN == 0:
            jax.clear_caches()
        try:
            told, met, edge = judged(seed)
        except (ia.IntegrationError, ia.CurvatureError, ValueError) as error:
            failed.append(seed)
            print(f"{seed}: {draw(seed)[0]!r}: {type(error).__name__}: {error}", flush=True)
            continue
        if told.gap is not None:
            held.append(met <= told.gap)
            tight.append(told.gap / max(met, 1e-300))
            print(
                f"{seed}: {told.gap:.3g} told, {met:.3g} met, {told.function}",
                "" if held[-1] else f"MISSED {draw(seed)[0]!r} {told}",
                flush=True,
            )
        if told.edge and edge and np.isfinite(edge):
            edges.append(told.edge / edge)
        if edge is None or np.isfinite(edge):
            missed += [seed] * ((told.edge is None) != (edge is None))
            if told.edge is not None or edge is not None:
                print(f"{seed}: edge at {edge}, told {told.edge}", flush=True)
    print(
        f"the bound held on {sum(held)} of {len(held)} problems, {np.median(tight):.2f} times the gap met, the median, "
        f"9 of 10 within {np.quantile(tight, 0.9):.2f}; the edge, met on {len(edges)}, is told within "
        f"{np.quantile(np.abs(np.log(edges)), 0.9) if edges else 0:.0%} on 9 of 10, and on {len(missed)} by one side "
        f"only; {len(failed)} refused; {time.time() - begin:.0f} s"
    )


if __name__ == "__main__":
    numbers = [int(n) for n in sys.argv[1:]] or [100]
    main(range(*numbers))
