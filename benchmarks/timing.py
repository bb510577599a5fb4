"""Contestants timed in turn, so that whatever slows the machine for a while slows all of them."""

import datetime
import gc
import os
import platform
import re
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

_MODULES = {"scikit-learn": "sklearn"}
_PEERS = ("jax", "optax", "flax", "equinox", "torch", "scikit-learn", "numpy", "scipy", "diffrax", "torchdiffeq")


class Goal(NamedTuple):
    """A figure that was asked for and the one that was measured."""

    name: str
    asked: str
    measured: str
    met: bool

    @property
    def verdict(self) -> str:
        """Whether it was met; "not decided" where it was not, but some of the rounds reach it."""
        if self.met:
            return "yes"
        asked = re.match(r"([≥≤]) ([-−]?[\d.]+(?:e-?\d+)?)", self.asked)
        ends = re.search(r"\(([\d.e+-]+)\.\.([\d.e+-]+)\)", self.measured)
        if not asked or not ends:
            return "**no**"
        goal, (low, high) = float(asked[2].replace("−", "-")), map(float, ends.groups())
        return "not decided" if (high >= goal if asked[1] == "≥" else low <= goal) else "**no**"


class Section(NamedTuple):
    """One part of the report."""

    title: str
    text: str  # markdown
    goals: list[Goal]


def interleaved(contestants: Mapping[str, Callable], rounds: int = 7) -> tuple[dict[str, np.ndarray], dict]:
    """Call every contestant once to warm up, then `rounds` times in turn.

    Returns:
        Seconds by name, (rounds,) each, and what each returned last.
    """
    seconds = {name: np.empty(rounds) for name in contestants}
    results = {name: jax.block_until_ready(call()) for name, call in contestants.items()}
    for r in range(rounds):
        for name, call in contestants.items():
            results[name] = None  # frees what the call before made
            gc.collect()
            time.sleep(0.02)  # threads of the contestant before go to sleep
            start = time.perf_counter()
            results[name] = jax.block_until_ready(call())
            seconds[name][r] = time.perf_counter() - start
    return seconds, results


def ratio(seconds: Mapping[str, np.ndarray], of: str, to: str) -> tuple[float, str]:
    """Return how many times as long `of` takes as `to`, the median over rounds, and it as text with its range."""
    each = seconds[of] / seconds[to]
    return float(np.median(each)), f"{np.median(each):.2f} ({each.min():.2f}..{each.max():.2f})"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def machine() -> str:
    """Return the day, the machine and the packages that matter."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    device = jax.devices()[0]
    peers = ", ".join(f"{name} {version(name)}" for name in _PEERS if find_spec(_MODULES.get(name, name)))
    return (
        f"{datetime.date.today()}, {os.cpu_count()} cores ({names[0] if names else platform.machine()}), device "
        f"{device.device_kind}, Python {platform.python_version()}, {peers}."
    )


def load() -> str:
    """Return how busy the machine is, before a part begins; the benchmarks themselves are one or two."""
    now, cores = os.getloadavg()[0], os.cpu_count() or 1
    others = "nothing else ran" if now < 0.3 * cores else "others ran beside, so that ranges are wide"
    return f"Load at the start {now:.1f} on {cores} cores: {others}."
