"""Every seeded violation of an order must be caught, and clean cases certified. Prints its counts.

Run alone for all of them, and 200 clean cases: `python tests/certificates.py 200`; the tests run a short draw.
"""

import sys
import time

import jax
from tqdm import tqdm

from oracles.violations import CASES, alarm, missed

#: Calls after which compiled programs are dropped.
FORGOTTEN = 50


def hunt(clean: range) -> tuple[list[str], list[str]]:
    """Seed every violation and measure the clean cases; return what was missed, and the false alarms."""
    found: dict[str, list[str]] = {"missed": [], "alarms": []}
    calls = [("missed", missed, case) for case in CASES] + [("alarms", alarm, (seed,)) for seed in clean]
    for k, (name, call, arguments) in enumerate(tqdm(calls, desc="certificates", disable=None)):
        if k % FORGOTTEN == 0:
            jax.clear_caches()
        if told := call(*arguments):
            found[name].append(told)
            print(f"{name}: {told}", flush=True)
    return found["missed"], found["alarms"]


if __name__ == "__main__":
    count, begin = int(sys.argv[1]) if len(sys.argv) > 1 else 200, time.time()
    wrong, alarms = hunt(range(count))
    print(
        f"{len(CASES) - len(wrong)} of {len(CASES)} violations caught; {len(alarms)} false alarms in {count} clean "
        f"cases, in {time.time() - begin:.0f} s"
    )
    sys.exit(bool(wrong) or len(alarms) >= max(1, 0.02 * count))
