"""What is waited for before the first result, in a new process: import, tracing, compilation, the run; and memory.

Contestants do the same from the first line of a script to its end, each in a process of its own, in turn: with nothing
compiled before, and with JAX's persistent cache filled by an earlier process. What a peer does by hand is written as
its documentation shows it. CPU seconds (user and system, of all threads) are what another program on the machine
disturbs least; the ratios are of them.
"""

import os
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import numpy as np

from timing import Goal, Section, ratio, table

TRAINING = """
import jax, inercia as ia
train, _ = ia.digits()
network = ia.mlp([64, 128, 128, 10])
loss, params = ia.risk(network, "cross-entropy"), network.init(jax.random.key(0))
jax.block_until_ready(ia.train(ia.adam(1e-3), loss, params, train, epochs=1, batch_size=128, key=0).params)
"""

TRAINING_BY_HAND = """
import jax, jax.numpy as jnp, numpy as np, optax
from importlib.util import find_spec
from pathlib import Path
with np.load(Path(find_spec("inercia").origin).parent / "problems" / "digits.npz") as digits:
    x, y = digits["x"][:1438].astype(np.float32).reshape(1438, 64) / 16, digits["y"][:1438].astype(np.int32)
x, y, sizes, key = jnp.asarray(x), jnp.asarray(y), [64, 128, 128, 10], jax.random.key(0)
params = []
for n, m in zip(sizes[:-1], sizes[1:]):
    key, own = jax.random.split(key)
    params.append((jax.random.normal(own, (n, m)) / n**0.5, jnp.zeros(m)))
def loss(params, x, y):
    for w, b in params[:-1]:
        x = jnp.tanh(x @ w + b)
    w, b = params[-1]
    return optax.softmax_cross_entropy_with_integer_labels(x @ w + b, y).mean()
method = optax.adam(1e-3)
@jax.jit
def epoch(params, state, order):
    def step(carry, rows):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params, x[rows], y[rows])
        updates, state = method.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value
    return jax.lax.scan(step, (params, state), order)
order = np.random.default_rng(0).permutation(1438)[: 11 * 128].reshape(11, 128)
jax.block_until_ready(epoch(params, method.init(params), order))
"""

PROBLEM = """
import jax, jax.numpy as jnp, numpy as np
wells = lambda p: (p[0] ** 2 - 1) ** 2 / 4 + p[1] ** 2 / 2 + p[0] * p[1] / 4
start, steps = [1.5, 1.0], 100
"""

FLOW = (
    PROBLEM
    + """
import inercia as ia
method = ia.momentum(0.1, 0.9)
path = ia.iterate(method, wells, jnp.array(start), steps)
flow = ia.integrate(method, wells, jnp.array(start), path.times)
print(ia.gap(path, flow).distance.max())
"""
)

ITERATES_BY_HAND = """
import optax
jax.config.update("jax_enable_x64", True)
def iterates(dt, steps):
    method = optax.chain(optax.ema(1 - 0.1 * dt, debias=False), optax.scale(-0.1 * dt))
    @jax.jit
    def run(p):
        def step(carry, _):
            p, state = carry
            updates, state = method.update(jax.grad(wells)(p), state, p)
            p = optax.apply_updates(p, updates)
            return (p, state), (p, wells(p))
        return jax.lax.scan(step, (p, method.init(p)), length=steps)[1]
    return np.concatenate([[start], run(jnp.array(start))[0]])
"""

SCIPY = """
from scipy.integrate import solve_ivp
gradient = jax.jit(jax.grad(wells))
def flow(times):
    rate = lambda t, z: np.concatenate([-0.1 * z[2:], 0.1 * (np.asarray(gradient(z[:2])) - z[2:])])
    ends = times[0], times[-1]
    return solve_ivp(rate, ends, [*start, 0.0, 0.0], method="DOP853", t_eval=times, rtol=1e-9, atol=1e-12).y[:2].T
"""

DIFFRAX = """
import diffrax
def flow(times):
    rate = lambda t, z, _: (-0.1 * z[1], 0.1 * (jax.grad(wells)(z[0]) - z[1]))
    return diffrax.diffeqsolve(
        diffrax.ODETerm(rate), diffrax.Dopri8(), times[0], times[-1], None, (jnp.array(start), jnp.zeros(2)),
        stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-12), saveat=diffrax.SaveAt(ts=jnp.asarray(times)),
    ).ys[0]
"""

GAP_BY_HAND = """
print(np.linalg.norm(iterates(1.0, steps) - flow(np.arange(steps + 1.0)), axis=1).max())
"""

ORDER = (
    PROBLEM
    + """
import inercia as ia
family = lambda dt: ia.momentum(0.1, 0.9, dt=dt)
print(ia.order(family, wells, jnp.array(start), 16.0, [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32]))
"""
)

ORDER_BY_HAND = """
exact, dts, gaps = flow(np.arange(17.0)), 0.5 ** np.arange(6), []
for k, dt in enumerate(dts):
    gaps.append(np.linalg.norm(iterates(dt, 16 * 2**k)[:: 2**k] - exact, axis=1).max())
print(np.polyfit(np.log(dts), np.log(gaps), 1)[0])
"""

CENTRAL = """
import jax, inercia as ia
from functools import partial
train, _ = ia.digits()
network = ia.mlp([64, 16, 10], "swish")
loss = partial(ia.risk(network, "cross-entropy"), batch=(train.x[:128], train.y[:128]))
ia.central(ia.sgd(0.5), loss, network.init(jax.random.key(0)), 40, k=3)
"""

DEMO = """
import sys, tempfile
from inercia.commands.main import main
with tempfile.TemporaryDirectory() as folder:
    main(["demo", "--out", folder])
"""

#: Groups of contestants, ours first.
GROUPS = {
    "a training of 11 steps": {"inercia": TRAINING, "optax in a scan": TRAINING_BY_HAND},
    "100 iterates and their flow": {
        "inercia": FLOW,
        "optax and scipy by hand": PROBLEM + ITERATES_BY_HAND + SCIPY + GAP_BY_HAND,
        "optax and diffrax by hand": PROBLEM + ITERATES_BY_HAND + DIFFRAX + GAP_BY_HAND,
    },
    "an order from six steps": {
        "inercia": ORDER,
        "optax and scipy by hand": PROBLEM + ITERATES_BY_HAND + SCIPY + ORDER_BY_HAND,
    },
    "40 updates of a central flow": {"inercia": CENTRAL},
    "inercia demo": {"inercia": DEMO},
}

MEMORY = """
import sys, jax, jax.numpy as jnp, inercia as ia
train, _ = ia.digits()
network = ia.mlp([64, 512, 512, 10])
risk, params = ia.risk(network, "cross-entropy"), network.init(jax.random.key(0))
x, y = jnp.asarray(train.x), jnp.asarray(train.y)
if sys.argv[1] == "train":
    ia.train(ia.adam(1e-3), risk, params, train, epochs=int(sys.argv[2]), batch_size=128, key=0)
elif sys.argv[1] == "iterate":
    ia.iterate(ia.adam(1e-3), lambda p: risk(p, (x[:64], y[:64])), params, 100, every=int(sys.argv[2]))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) / 1024)
"""


class Spent(NamedTuple):
    """What a process took."""

    cpu: float
    wall: float
    printed: str


def run(fast: bool) -> Section:
    """Time imports, first results and peak memory, each in a process of its own."""
    rounds = 3 if fast else 9
    names = ("import jax, optax", "import inercia")
    imports = _in_turn({name: name for name in names}, rounds, None)
    value, shown = ratio({name: imports[name][:, 0] for name in names}, names[1], names[0])
    goals = [Goal("import inercia / import jax + optax, CPU time", "≤ 1.15×", shown, value <= 1.15)]
    rows = [["import", name, "", *_figures(imports[name])] for name in names]
    for title, contestants in GROUPS.items():
        if fast and title == "inercia demo":
            continue
        for kept in (False, True):
            times = _in_turn(contestants, 1 if fast else 7, kept)
            for name, each in times.items():
                cached = "from the persistent cache" if kept else "nothing compiled before"
                rows.append([title, name, cached, *_figures(each, times["inercia"])])
            if title == "inercia demo" and not kept:
                wall = times["inercia"][:, 1]
                shown = f"{np.median(wall):.1f} ({wall.min():.1f}..{wall.max():.1f})"
                goals.append(Goal("inercia demo, seconds", "≤ 20", shown, bool(np.median(wall) <= 20)))
    head = ["", "", "", "CPU seconds (range)", "seconds", "CPU time in units of ours (range)"]
    text = table(head, rows) + _CACHE + table(["", "MiB"], _peaks())
    return Section("Before the first result", text, goals)


_CACHE = """
The command line keeps its programs for the next call; a script does where `JAX_COMPILATION_CACHE_DIR` is set (and
`JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0`, because these programs compile quickly).

Peak memory above that of the imports, network of 1.3 MiB in float32 (the path is in float64, and Adam's state is twice
the params: 6 times as much per point):

"""


def _in_turn(codes: dict[str, str], rounds: int, kept: bool | None) -> dict[str, np.ndarray]:
    """Run each code in turn; return (rounds, 2) by name, CPU and wall seconds."""
    spent: dict[str, list] = {name: [] for name in codes}
    with tempfile.TemporaryDirectory() as folder:
        cache = {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        for n in range(-1, rounds):  # the first time writes bytecode, and fills the cache
            for name, code in codes.items():
                took = _child(code, environment=cache if kept else {"INERCIA_NO_CACHE": "1"})
                if n >= 0:
                    spent[name].append(took[:2])
    return {name: np.array(each) for name, each in spent.items()}


def _figures(spent: np.ndarray, ours: np.ndarray | None = None) -> list[str]:
    cpu, wall = spent.T
    figures = [f"{np.median(cpu):.2f} ({cpu.min():.2f}..{cpu.max():.2f})", f"{np.median(wall):.2f}"]
    return [*figures, "" if ours is None else ratio({"a": cpu, "b": ours[:, 0]}, "a", "b")[1]]


def _peaks() -> list[list[str]]:
    idle = float(_child(MEMORY, "nothing", "0").printed)
    wanted = (
        ("train, 5 epochs", ("train", "5")),
        ("train, 50 epochs", ("train", "50")),
        ("iterate, 100 Adam steps, every = 1", ("iterate", "1")),
        ("iterate, 100 Adam steps, every = 10", ("iterate", "10")),
        ("iterate, 100 Adam steps, every = 100", ("iterate", "100")),
    )
    return [[name, f"{float(_child(MEMORY, *arguments).printed) - idle:.0f}"] for name, arguments in wanted]


def _child(code: str, *arguments: str, environment: dict | None = None) -> Spent:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began, before = time.perf_counter(), os.times()
    out = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True, capture_output=True, text=True, env=kept | (environment or {}),
    )  # fmt: skip
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Spent(cpu, time.perf_counter() - began, (out.stdout.split() or [""])[-1])
