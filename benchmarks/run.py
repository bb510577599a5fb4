"""Time inercia beside what a user would pick instead, and write what was measured to RESULTS.md.

All contestants of a table run in turn in one process, several rounds; figures are medians, ratios are taken round by
round and shown with their range. `make bench` installs the peers and runs everything.
"""

import importlib
import warnings
from pathlib import Path
from typing import Literal

import tyro

from timing import Goal, Section, load, machine, table

PARTS = (
    "training", "networks", "estimators", "convolutions", "many", "streaming", "callback", "update", "flows", "central",
    "startup", "scaling", "accelerator",
)  # fmt: skip
HEAD = ["goal", "asked", "measured (range)", "met"]


def main(
    parts: tuple[
        Literal[
            "training",
            "networks",
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
    goals: list[Goal] = []
    for part in parts:
        print(f"{part} ...", flush=True)
        before = load()
        section = importlib.import_module(part).run(fast)
        print(section.text, flush=True)
        goals += section.goals
        if not fast:  # part by part, so that a run that is stopped has written what it measured
            _write(out, section, f"*{machine()} {before}*")
    print(table(HEAD, _rows(goals)))
    if not fast:
        print(out)


def _rows(goals: list[Goal]) -> list[list[str]]:
    return [[g.name, g.asked, g.measured, g.verdict] for g in goals]


def _write(out: Path, section: Section, stamp: str) -> None:
    """Put a section, and its goals, in the place of what an earlier report has of them."""
    texts, lines = _report(out)
    texts[section.title] = f"{stamp}\n\n{section.text.strip()}"
    lines |= {row[0]: row for row in _rows(section.goals)}
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in texts.items())
    out.write_text(
        "# Results\n\nWritten by `make bench`; do not edit.\n\n"
        "Medians of rounds, with their range. A goal is not decided where it was missed, but not in every round. "
        "Why the goals that are not met are not: [README](README.md).\n\n"
        f"{table(HEAD, list(lines.values()))}\n{body}\n",
        encoding="utf-8",
    )


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


if __name__ == "__main__":
    tyro.cli(main)
