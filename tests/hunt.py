"""Random cases beside oracles: methods, flows, closed forms, data and checkpoints. Prints its counts.

Run alone for a long hunt: `python tests/hunt.py 5000`; the tests run a short one. A case is made from its number alone:
`python tests/hunt.py --case 1234` plays one again. A case that fails is shrunk: the draws that do not matter are made
simple, and `--case 1234 --simple 0,2,5` plays what is left.
"""

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from oracles import hunt_checkpoints, hunt_closed_forms, hunt_data, hunt_dynamics, hunt_flows
from oracles.draws import Draws, shrunk

#: Cases after which compiled programs are dropped: thousands in one process exhaust its memory.
FORGOTTEN = 1000
#: Cases after which a log is told how far the hunt is.
TOLD = 100
#: Tasks of fifty-three cases in a row.
TASKS = {
    hunt_dynamics.iterate: 21,
    hunt_dynamics.train: 8,
    hunt_dynamics.integrate: 8,
    hunt_flows.diffrax_flow: 3,
    hunt_closed_forms.exact: 3,
    hunt_closed_forms.measures: 2,
    hunt_data.standardise: 2,
    hunt_data.split: 1,
    hunt_data.sampler: 2,
    hunt_data.read: 1,
    hunt_checkpoints.checkpoint: 2,
}
ORDER = [task for task, share in TASKS.items() for _ in range(share)]


def task_of(case: int) -> Callable[[Any], str]:
    """Return what the case plays."""
    return ORDER[case * 7 % len(ORDER)]


def play(draws: Draws) -> str:
    """Play one case; return what it was, or raise where two answers differ."""
    return task_of(draws.case)(draws)


def error_of(draws: Draws) -> Exception | None:
    """Play one case; return what it raised."""
    try:
        play(draws)
    except Exception as error:
        return error
    return None


def report(draws: Draws, error: Exception) -> str:
    """Shrink a case that failed; tell of the smallest that fails in the same way."""
    simple = shrunk(lambda smaller: type(error_of(smaller)) is type(error), draws.case, draws.made)
    smallest = error_of(Draws(draws.case, simple)) or error
    where = "" if isinstance(smallest, AssertionError) else "".join(traceback.format_exception(smallest))
    again = f"--case {draws.case} --simple {','.join(map(str, simple))}" if simple else f"--case {draws.case}"
    return f"{again} ({task_of(draws.case).__name__}): {type(smallest).__name__}: {smallest}\n{where}"


def hunt(cases: range) -> tuple[Counter, list[int]]:
    """Play the cases; return how many of each task there were, and the cases that failed, each of which is printed."""
    played: Counter = Counter()
    failed = []
    for case in tqdm(cases, desc="hunt", unit="case", disable=None):  # None: shown on a terminal only
        if case % FORGOTTEN == 0:
            jax.clear_caches()
        played[task_of(case).__name__] += 1
        draws = Draws(case)
        if (error := error_of(draws)) is not None:
            failed.append(case)
            print(report(draws, error), flush=True)
        if case % TOLD == TOLD - 1 and not sys.stderr.isatty():
            print(f"{case + 1} cases, {len(failed)} disagreements", flush=True)
    return played, failed


def main() -> None:
    """Hunt as the command line says; exit with 1 where something disagreed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=5000)
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--case", type=int, help="play this one alone")
    parser.add_argument("--simple", default="", help="which of its draws are simple, as 0,3")
    options = parser.parse_args()
    if options.case is not None:
        print(play(Draws(options.case, (int(i) for i in options.simple.split(",") if i))))
        return
    jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parents[1] / ".pytest_cache" / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    begin = time.time()
    played, failed = hunt(range(options.start, options.start + options.count))
    counts = ", ".join(f"{count} {task}" for task, count in played.items())
    print(f"{counts}: {len(failed)} disagreements {failed[:20]} in {time.time() - begin:.0f} s")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
