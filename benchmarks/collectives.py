"""What devices send each other in an update of `train`, of `sharpness` and of `central`, and what it grows with.

Run alone: `python benchmarks/collectives.py` writes RESULTS_SCALE.md. One processor stands in for 64 devices, which
changes times and no sizes: every collective is read in the optimised text of the programs that a public call compiles.
Its bytes are those of its result on one device; inside a loop they are sent in every turn of it.

    rows a device held, devices doubled        weak scaling
    devices held, rows a device doubled        what grows with the rows of a device

What a turn computes is read from the compiler's count of flops, and how often a loop turns is counted while it does.
"""

import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import inercia as ia
from timing import load, machine, table

DEVICES, ROWS = (8, 16, 32, 64), (16, 32, 64)  # rows of a device; all but the first on the fewest devices alone
WIDTHS = [64, 64, 64, 10]
_KINDS = "all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all|collective-broadcast"
_COLLECTIVE = re.compile(rf"= (.+?) ({_KINDS})(?:-start)?\(")


class Collective(NamedTuple):
    """A message in a compiled program."""

    kind: str
    bytes: int  # of its result, on one device
    depth: int  # of the loops around it


def collectives(text: str) -> list[Collective]:
    """Return the collectives of a program, given as optimised text."""
    lines, name = {}, ""
    for line in text.splitlines():
        if line[:1] not in ("", " ", "}"):
            name = line.removeprefix("ENTRY ").split()[0].lstrip("%")
            lines[name] = []
        elif line.startswith(" ") and name:
            lines[name].append(line)
    depth = dict.fromkeys(lines, 0)
    for caller in reversed(lines):  # what is called is written before
        for line in lines[caller]:
            loops = re.findall(r"(?:body|condition)=%?([\w.-]+)", line)
            for called in {*re.findall(r"[%={, ]([\w.-]+)", line)} & lines.keys():
                depth[called] = max(depth[called], depth[caller] + (called in loops))
    found = ((name, _COLLECTIVE.search(line)) for name in lines for line in lines[name])
    return [Collective(match[2], _bytes(match[1]), depth[name]) for name, match in found if match]


def _bytes(shapes: str) -> int:
    """Return the bytes of the arrays that a result is made of, as in `(f32[64,10]{1,0}, pred[])`."""
    sizes = (
        (max(1, int(re.sub(r"\D", "", kind) or 8) // 8), np.prod([int(n) for n in dims.split(",") if n], dtype=int))
        for kind, dims in re.findall(r"\b([a-z]+\d*)\w*\[([\d,]*)\]", shapes)
    )
    return int(sum(width * size for width, size in sizes))


def compiled(call: Callable[[], Any]) -> list[str]:
    """Return the optimised text of every program that a call compiles."""
    jax.clear_caches()
    client = jax.devices()[0].client
    before = {id(program): program for program in client.live_executables()}  # held, so that no address serves twice
    call()
    return [p.hlo_modules()[0].to_string() for p in client.live_executables() if id(p) not in before]


def calls(devices: int, rows: int) -> dict[str, Callable[[], Any]]:
    """Return the calls that are looked at, by name: each an update or two on `rows` rows over so many devices."""
    mesh = Mesh(jax.devices()[:devices], ("rows",))
    network = ia.mlp(WIDTHS, "tanh")
    risk, params = ia.risk(network, "cross-entropy"), network.init(jax.random.key(0))
    x = np.random.default_rng(0).standard_normal((2 * rows, WIDTHS[0]), np.float32)
    data = x, np.argmax(x[:, : WIDTHS[-1]], axis=1).astype(np.int32)
    half = [tuple(part[n * rows : (n + 1) * rows] for part in data) for n in (0, 1)]
    fit = partial(ia.train, ia.adam(1e-3), risk, params, mesh=mesh, epochs=2)

    def cut(params):
        return risk(params, jax.lax.with_sharding_constraint(half[0], NamedSharding(mesh, PartitionSpec("rows"))))

    method = ia.sgd(0.1)
    watch = {"sharpness": ia.sharpness(method, cut)}
    return {
        "train": lambda: fit(data, batch_size=rows, key=0),
        "train, batches from outside": lambda: fit(half),
        "train, params sharded": lambda: fit(data, batch_size=rows, key=0, shard_params=True),
        "product with the Hessian": partial(jax.jit(lambda at: ia.hvp(cut, at, at)), params),
        "sharpness": lambda: ia.iterate(method, cut, params, 1, observe=watch),
        "central": lambda: ia.central(method, cut, params, 1, k=2),
    }


def measured(name: str, devices: int, rows: int) -> list[Collective]:
    """Return the collectives of all programs of a call, the largest first."""
    found = [each for text in compiled(calls(devices, rows)[name]) for each in collectives(text)]
    return sorted(found, key=lambda each: -each.bytes)


def by_rows(name: str, devices: tuple[int, ...] = DEVICES, rows: tuple[int, ...] = ROWS) -> tuple[str, bool]:
    """Return the table of a call, and whether neither rows nor devices change any of its collectives."""
    points = [(devices[0], n) for n in rows] + [(d, rows[0]) for d in devices[1:]]
    found = [measured(name, d, d * n) for d, n in points]
    lines = [
        [str(d), str(n), f"{d * n:,}", *(_told(each, kind) for kind in ("all-reduce", "all-gather", "")),
         f"{sum(c.bytes for c in each if not c.depth):,}"]
        for (d, n), each in zip(points, found, strict=True)
    ]  # fmt: skip
    head = ["devices", "rows a device", "rows", "all-reduce", "all-gather", "others", "bytes outside of loops"]
    alike = [sorted(c[:2] for c in each) for each in found]
    return table(head, lines), all(each == alike[0] for each in alike)


def _told(found: list[Collective], kind: str) -> str:
    """Return the number and the bytes of the collectives in loops of a kind, or of the kinds without a column."""
    of = [
        c.bytes for c in found if c.depth and (c.kind == kind if kind else c.kind not in ("all-reduce", "all-gather"))
    ]
    return f"{len(of)}: {sum(of):,}, largest {max(of):,}" if of else "none"


def flops() -> str:
    """Return what a gradient, a product with the Hessian and the third derivatives compute, per parameter and row."""
    rows, network = 256, ia.mlp([256, 512, 512, 16], "tanh")
    params, risk = network.init(jax.random.key(0)), ia.risk(network)
    data = jnp.ones((rows, 256)), jnp.ones((rows, 16))
    loss = partial(risk, batch=data)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))

    def turning(w):  # grad <u, H v> as a map of v
        return jax.linearize(lambda w: jax.jvp(jax.grad(loss), (w,), (params,))[1], w)[1]

    product, third = jax.linearize(jax.grad(loss), params)[1], turning(params)
    counted = {
        "loss": (loss, params),
        "gradient": (jax.grad(loss), params),
        "product with the Hessian, gradient included": (lambda w: ia.hvp(loss, w, params), params),
        "product with the Hessian, one more at the same params": (lambda p, v: p(v), product, params),
        "third derivatives, one more of a column": (lambda p, v: p(v), third, params),
    }
    of = {name: jax.jit(f).lower(*given).compile().cost_analysis()["flops"] for name, (f, *given) in counted.items()}
    lines = [[name, f"{n / size / rows:.2f}", f"{n / of['gradient']:.2f}"] for name, n in of.items()]
    return table([f"{size:,} parameters", "flops per parameter and row", "in gradients"], lines)


def counted(seen: list[int]) -> Callable[[jax.Array], jax.Array]:
    """Return the identity, for the outputs of a network: `seen` counts products and third derivatives."""

    def note(level, given):
        seen[level] += np.size(given)  # one for each vector of a block
        return np.zeros(np.shape(given), np.float32)

    def told(level):
        @jax.custom_jvp
        def same(x):  # a callback has no derivative, and reads float64 as float32: it gets one number, and gives 0
            one, form = jnp.sum(x).astype(np.float32), jax.ShapeDtypeStruct((), np.float32)
            return x + jax.pure_callback(partial(note, level), form, one, vmap_method="expand_dims")

        same.defjvp(lambda x, dx: (same(*x), dx[0] if level else told(1)(*dx)))
        return same

    slope = jax.custom_jvp(lambda x: x)
    slope.defjvp(lambda x, dx: (x[0], told(0)(*dx)))
    same = jax.custom_vjp(lambda x: x)
    same.defvjp(lambda x: (x, None), lambda _, dx: (slope(dx),))
    return same


def turns(updates: int = 200) -> str:
    """Return how many derivatives updates at the edge of stability take: gradient descent on digits."""
    train, _ = ia.digits()
    network = ia.mlp([64, 16, 16, 10], "swish")
    x, y = train.x[:300] / 2, jax.nn.one_hot(train.y[:300], 10)
    start, method, rows, seen = network.init(jax.random.key(0)), ia.sgd(0.7), [], [0, 0]
    through = counted(seen)

    def loss(params):
        return jnp.mean(jnp.sum((through(network.apply(params, x)) - y) ** 2, axis=1)) / 2

    watch = {"sharpness": ia.sharpness(method, loss)}
    run = {
        "sharpness, k = 1": lambda n: ia.iterate(method, loss, start, n, observe=watch),
        "central": lambda n: ia.central(method, loss, start, n, every=n),
    }
    for name, call in run.items():
        counts = []
        for n in (updates, 2 * updates):
            seen[:] = 0, 0
            path = call(n)
            counts.append(np.array(seen))
        products, thirds = (counts[1] - counts[0]) / updates
        rows.append([name, f"{path.observed['sharpness'][-1, 0]:.2f}", f"{products:.1f}", f"{thirds:.1f}"])
    head = ["an update of", "sharpness in the end", "products with the Hessian", "third derivatives"]
    return (
        table(head, rows)
        + f"\nMeans over updates {updates} to {2 * updates}; a block of vectors counts each of them.\n"
    )


def main() -> None:
    """Read all programs and write RESULTS_SCALE.md."""
    jax.config.update("jax_num_cpu_devices", max(DEVICES))
    began, before = time.process_time(), load()
    size = sum(leaf.size for leaf in jax.tree.leaves(ia.mlp(WIDTHS).init(jax.random.key(0))))
    parts = [f"## Flops\n\n{flops()}", f"## Turns\n\n{turns()}"]
    for name in calls(8, 8):
        text, same = by_rows(name)
        verdict = (
            "Neither rows nor devices change a collective." if same else "**Rows or devices change a collective.**"
        )
        parts.append(f"## {name}\n\n{text}\n{verdict}\n")
        print(parts[-1], flush=True)
    head = f"""# Collectives and flops

Written by `benchmarks/collectives.py`, {machine()} {before}
{time.process_time() - began:.0f} CPU-seconds.

Collectives: {size:,} parameters ({4 * size:,} bytes in float32, {8 * size:,} in float64) on virtual devices.
Number, sum and largest of the bytes that collectives inside of loops leave on one device, each counted once however
often its loop turns. What they come to at a billion parameters: docs/scale.md.
"""
    (Path(__file__).parent / "RESULTS_SCALE.md").write_text("\n".join([head, *parts]), encoding="utf-8")


if __name__ == "__main__":
    main()
