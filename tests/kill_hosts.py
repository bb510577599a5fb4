"""Kill a host of a run of two again and again, at random moments, and start both anew: nothing that was saved is lost.

Run alone: `python tests/kill_hosts.py 20`. Two processes of four devices each train one network; one, drawn by lot, is
killed with SIGKILL, also while process 0 writes. The other must be gone within `GRACE` seconds, by itself, saying that
the run was lost. The next round goes on from what is on the disk. The run that was killed so often must then end as one
that never was, bit for bit. Every wait is bounded.
"""

import atexit
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EPOCHS, SAVES = 4000, 11  # iterations between two saves; an epoch
#: Exit codes of a process that has lost another: `hosts.LOST`, or JAX's own service was quicker.
LEFT = (75, 134, -signal.SIGABRT)
#: Seconds: until the other must be gone; until a run must have joined and saved, or ended.
GRACE, LONG = 30, 120


def child(process: int, port: str, folder: str, epochs: int, out: str) -> None:
    """Train as one of two processes; process 0 prints each save that has been written."""
    import jax

    import inercia as ia
    from inercia.training import hosts
    from inercia.training.checkpoint import Checkpoints

    write = Checkpoints.write

    def told(self, step, *rest):
        failure = write(self, step, *rest)
        print(f"saved {step}", flush=True)
        return failure

    Checkpoints.write = told
    hosts.join(f"127.0.0.1:{port}", 2, process)
    data, _ = ia.digits()
    network = ia.mlp([64, 32, 10])
    loss, params = ia.risk(network, "cross-entropy"), network.init(jax.random.key(0))
    mesh = jax.make_mesh((jax.device_count(),), ("devices",))
    result = ia.train(
        ia.adam(1e-3), loss, params, data, epochs=epochs, batch_size=128, key=1, checkpoint=folder, mesh=mesh,
        shard_params=True, save_every=SAVES,
    )  # fmt: skip
    np.savez(f"{out}{process}.npz", *[hosts.gathered(leaf) for leaf in jax.tree.leaves(result)])


class Pair:
    """Two processes that train together in a folder."""

    def __init__(self, base: Path, folder: Path, epochs: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
        cache = {"JAX_COMPILATION_CACHE_DIR": str(base / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        self.told, self.said = [[base / f"{name}{p}" for p in range(2)] for name in ("told", "said")]
        self.processes = [
            subprocess.Popen(
                [sys.executable, __file__, "child", str(p), port, str(folder), str(epochs), str(base / folder.name)],
                env=os.environ | flags | cache, stdout=self.told[p].open("w"), stderr=self.said[p].open("w"),
            )
            for p in range(2)
        ]  # fmt: skip
        for process in self.processes:
            atexit.register(process.kill)

    def saved(self) -> int:
        """Return the last step that process 0 told it has written; 0 if none."""
        return max(map(int, re.findall(r"^saved (\d+)$", self.told[0].read_text(), re.MULTILINE)), default=0)

    def end(self, seconds: float) -> list[int | None]:
        """Return the exit codes; None of a process that had to be killed, for it was not gone in time."""
        deadline, codes = time.monotonic() + seconds, []
        for process in self.processes:
            try:
                codes.append(process.wait(max(0.1, deadline - time.monotonic())))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
                codes.append(None)
        return codes


def steps(folder: Path) -> list[int]:
    """Return the steps of the checkpoints in the folder."""
    return [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()] if folder.exists() else []


def kill(pair: Pair, victim: int, delay: float) -> bool:
    """Kill one of the pair `delay` seconds after its first save; return whether it was still there."""
    deadline = time.monotonic() + LONG
    while not pair.saved() and time.monotonic() < deadline and all(p.poll() is None for p in pair.processes):
        time.sleep(0.05)
    time.sleep(delay)
    if pair.processes[victim].poll() is not None:
        return False
    pair.processes[victim].kill()
    return True


def arrays(base: Path, name: str) -> list[list[np.ndarray]]:
    """Return what each process of a run has got."""
    found = []
    for p in range(2):
        with np.load(base / f"{name}{p}.npz") as file:
            found.append([file[key] for key in file.files])
    return found


def main(rounds: int) -> None:
    """Kill `rounds` times and print what was found."""
    rng, base, start = random.Random(0), Path(tempfile.mkdtemp()), time.time()
    folder, lost, faults, waits, victims = base / "killed", 0, [], [], [0, 0]
    for r in range(rounds):
        pair, victim = Pair(base, folder, EPOCHS), rng.randrange(2)
        if not kill(pair, victim, rng.uniform(0.0, 2.5)):
            codes = pair.end(0.1)
            faults.append(f"round {r}: ended by itself, {codes}: {pair.said[victim].read_text()[-300:]}")
            continue
        victims[victim] += 1
        began = time.monotonic()
        codes = pair.end(GRACE)
        waits.append(time.monotonic() - began)
        if codes[1 - victim] not in LEFT:
            faults.append(f"round {r}: process {1 - victim} left with {codes[1 - victim]}")
        if "is damaged" in pair.said[0].read_text():
            faults.append(f"round {r}: a damaged checkpoint")
        lost += pair.saved() > max(steps(folder), default=0)
    reached = max(steps(folder), default=0)
    epochs = reached // SAVES + 20
    for name in ("killed", "never"):
        pair = Pair(base, base / name, epochs)
        codes = pair.end(LONG)
        if codes != [0, 0]:
            faults.append(f"the run {name} ended with {codes}: {pair.said[0].read_text()[-300:]}")
    same = not faults and all(
        np.array_equal(a, b)
        for killed, never in zip(arrays(base, "killed"), arrays(base, "never"), strict=True)
        for a, b in zip(killed, never, strict=True)
    )
    print(
        f"{sum(victims)} kills ({victims[0]} of process 0, {victims[1]} of process 1) in {time.time() - start:.0f} s; "
        f"the other gone after {max(waits, default=0):.1f} s at most; saves lost: {lost}; reached iteration {reached}; "
        f"the end {'equals' if same else 'DIFFERS from'} that of the run never killed\n" + "\n".join(faults)
    )
    sys.exit(not (same and lost == 0 and not faults))


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(int(sys.argv[2]), *sys.argv[3:5], int(sys.argv[5]), sys.argv[6])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
