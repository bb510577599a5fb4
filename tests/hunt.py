"""Random cases beside oracles: methods, flows, closed forms, data and checkpoints. Prints its counts.

Run alone for a long hunt: `python tests/hunt.py 5000`; the tests run a short one. A case is made from its number alone:
`python tests/hunt.py --case 1234` plays one again.
"""

import argparse
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from oracles import hunt_checkpoints, hunt_closed_forms, hunt_data, hunt_dynamics

#: Cases after which compiled programs are dropped: thousands in one process exhaust its memory.
FORGOTTEN = 1000
#: Tasks of fifty cases in a row.
TASKS = {
    hunt_dynamics.iterate: 21,
    hunt_dynamics.train: 8,
    hunt_dynamics.integrate: 8,
    hunt_closed_forms.exact: 3,
    hunt_closed_forms.measures: 2,
    hunt_data.standardise: 2,
    hunt_data.split: 1,
    hunt_data.sampler: 2,
    hunt_data.read: 1,
    hunt_checkpoints.checkpoint: 2,
}
ORDER = [task for task, share in TASKS.items() for _ in range(share)]


def play(case: int) -> tuple[str, str]:
    """Play one case; return its task and what it was, or raise where two answers differ."""
    task = ORDER[case * 7 % len(ORDER)]
    return task.__name__, task(np.random.default_rng(case))


def hunt(cases: range) -> tuple[Counter, list[int]]:
    """Play the cases; return how many of each task there were, and the cases that failed, each of which is printed."""
    played: Counter = Counter()
    failed = []
    for case in tqdm(cases, desc="hunt", unit="case", disable=None):  # None: shown on a terminal only
        if case % FORGOTTEN == 0:
            jax.clear_caches()
        task = ORDER[case * 7 % len(ORDER)].__name__
        played[task] += 1
        try:
            play(case)
        except Exception as error:
            failed.append(case)
            where = "" if isinstance(error, AssertionError) else traceback.format_exc()
            print(f"case {case} ({task}): {type(error).__name__}: {error}\n{where}", flush=True)
    return played, failed


def main() -> None:
    """Hunt as the command line says; exit with 1 where something disagreed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=5000)
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--case", type=int, help="play this one alone")
    options = parser.parse_args()
    if options.case is not None:
        print(*play(options.case))
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
