"""Time inercia beside what a user would pick instead, and write what was measured to RESULTS.md.

All contestants of a table run in turn in one process, several rounds; figures are medians, ratios are taken round by
round and shown with their range. `make bench` installs the peers and runs everything.
"""

import datetime
import importlib
import os
import platform
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import jax
import tyro

from timing import table

PARTS = ("training", "many", "streaming", "update", "flows", "startup", "scaling")
PEERS = ("jax", "optax", "flax", "equinox", "torch", "scikit-learn", "numpy", "scipy", "diffrax", "torchdiffeq")


def main(
    parts: tuple[Literal["training", "many", "streaming", "update", "flows", "startup", "scaling"], ...] = PARTS,
    fast: bool = False,
    out: Path = Path(__file__).parent / "RESULTS.md",
) -> None:
    """Run the benchmarks.

    Args:
        parts: Which to run; a report is written only when all of them ran at full length.
        fast: Small sizes and three rounds, to see that everything works.
        out: Where the report goes.
    """
    warnings.filterwarnings("ignore")  # of peers: fits cut short on purpose
    sections = []
    for part in parts:
        print(f"{part} ...", flush=True)
        section = importlib.import_module(part).run(fast)
        print(section.text, flush=True)
        sections.append(section)
    goals = [goal for section in sections for goal in section.goals]
    rows = [[g.name, g.asked, g.measured, "yes" if g.met else "**no**"] for g in goals]
    summary = table(["goal", "asked", "measured (range)", "met"], rows)
    print(summary)
    if fast or set(parts) != set(PARTS):
        return
    body = "\n".join(f"## {section.title}\n\n{section.text}" for section in sections)
    out.write_text(
        f"# Results\n\nWritten by `make bench`; do not edit. {datetime.date.today()}, {_machine()}\n\n"
        f"Why the goals that are not met are not: [README](README.md).\n\n{summary}\n{body}",
        encoding="utf-8",
    )
    print(out)


def _machine() -> str:
    lines = _read("/proc/cpuinfo").splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    device = jax.devices()[0]
    peers = ", ".join(f"{name} {version(name)}" for name in PEERS)
    return (
        f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}), device {device.device_kind}, "
        f"Python {platform.python_version()}, {peers}."
    )


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8") if Path(path).exists() else ""


if __name__ == "__main__":
    tyro.cli(main)
