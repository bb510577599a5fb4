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
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import jax
import tyro

from timing import table

PARTS = (
    "training", "estimators", "convolutions", "many", "streaming", "callback", "update", "flows", "central", "startup",
    "scaling", "accelerator",
)  # fmt: skip
MODULES = {"scikit-learn": "sklearn"}
HEAD = ["goal", "asked", "measured (range)", "met"]
PEERS = ("jax", "optax", "flax", "equinox", "torch", "scikit-learn", "numpy", "scipy", "diffrax", "torchdiffeq")


def main(
    parts: tuple[
        Literal[
            "training",
            "estimators",
            "convolutions",
            "many",
            "streaming",
            "callback",
            "update",
            "flows",
            "central",
            "startup",
            "scaling",
            "accelerator",
        ],
        ...,
    ] = PARTS,
    fast: bool = False,
    out: Path = Path(__file__).parent / "RESULTS.md",
) -> None:
    """Run the benchmarks.

    Args:
        parts: Which to run; what ran at full length replaces its part of the report.
        fast: Small sizes and three rounds, to see that everything works.
        out: Where the report goes.
    """
    warnings.filterwarnings("ignore")  # of peers: fits cut short on purpose
    sections, stamps = [], []
    for part in parts:
        print(f"{part} ...", flush=True)
        before = os.getloadavg()[0]
        section = importlib.import_module(part).run(fast)
        print(section.text, flush=True)
        sections.append(section)
        stamps.append(f"*{datetime.date.today()}, {_machine()} {_load(before)}*")
    goals = [goal for section in sections for goal in section.goals]
    rows = [[g.name, g.asked, g.measured, g.verdict] for g in goals]
    summary = table(HEAD, rows)
    print(summary)
    if fast:
        return
    texts, lines = _report(out)
    texts |= {s.title: f"{stamp}\n\n{s.text.strip()}" for s, stamp in zip(sections, stamps, strict=True)}
    lines |= {goal.name: row for goal, row in zip(goals, rows, strict=True)}
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in texts.items())
    out.write_text(
        "# Results\n\nWritten by `make bench`; do not edit.\n\n"
        "Medians of rounds, with their range. A goal is not decided where it was missed, but not in every round. "
        "Why the goals that are not met are not: [README](README.md).\n\n"
        f"{table(HEAD, list(lines.values()))}\n{body}\n",
        encoding="utf-8",
    )
    print(out)


def _report(file: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the sections and the goals of an earlier report, by title and by name."""
    if not file.exists():
        return {}, {}
    head, *sections = file.read_text(encoding="utf-8").split("\n## ")
    titles = (section.split("\n", 1) for section in sections)
    cells = (
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in head.splitlines() if line.startswith("| ")
    )
    return {title: text.strip() for title, text in titles}, {
        row[0]: row for row in cells if row not in (HEAD, ["---"] * 4)
    }


def _machine() -> str:
    lines = _read("/proc/cpuinfo").splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    device = jax.devices()[0]
    peers = ", ".join(f"{name} {version(name)}" for name in PEERS if find_spec(MODULES.get(name, name)))
    return (
        f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}), device {device.device_kind}, "
        f"Python {platform.python_version()}, {peers}."
    )


def _load(before: float) -> str:
    """Return how busy the machine was when a part began; the benchmarks themselves are one or two."""
    cores = os.cpu_count() or 1
    others = "nothing else ran" if before < 0.3 * cores else "others ran beside, so that ranges are wide"
    return f"Load at the start {before:.1f} on {cores} cores: {others}."


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8") if Path(path).exists() else ""


if __name__ == "__main__":
    tyro.cli(main)
