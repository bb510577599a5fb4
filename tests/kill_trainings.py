"""Kill a training again and again, at random moments, and let it go on: nothing that was saved is lost, ever.

Run alone: `python tests/kill_trainings.py 200`. Each run is killed with SIGKILL, often while it writes. The next one
goes on from what is on the disk. At the end the result is compared, bit for bit, with a run that was never killed.
"""

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

import inercia as ia
from inercia.training.checkpoint import Checkpoints

EPOCHS = 200


def train(folder: Path) -> ia.Result:
    """Train for a few seconds, saving about ten times a second."""
    data, _ = ia.digits()
    network = ia.mlp([64, 64, 10])
    loss, params = ia.risk(network, "cross-entropy"), network.init(jax.random.key(0))
    return ia.train(ia.adam(1e-3), loss, params, data, epochs=EPOCHS, batch_size=128, key=1, checkpoint=folder)


def child(folder: Path, reports: int) -> None:
    """Train, telling the parent through a pipe of every save that has been written."""
    write = Checkpoints.write

    def told(self, step, *rest):
        failure = write(self, step, *rest)
        os.write(reports, step.to_bytes(8, "big"))
        return failure

    Checkpoints.write = told
    train(folder)
    os._exit(0)


def main(kills: int) -> None:
    """Kill `kills` times and print what was found; a run that reaches its end is compared, and another one started."""
    jax.config.update("jax_compilation_cache_dir", tempfile.mkdtemp())
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    rng, killed, lost, ended, start = random.Random(0), 0, 0, [], time.time()
    base = Path(tempfile.mkdtemp())
    folder = base / "run0"
    while killed < kills:
        ours, theirs = os.pipe()
        process = os.fork()  # JAX is imported, but no device is in use yet
        if process == 0:
            errors = os.open(base / "errors", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(errors, 2)
            child(folder, theirs)
        os.close(theirs)
        time.sleep(rng.uniform(0.5, 4.0))
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        killed += os.WIFSIGNALED(status)
        reported = os.read(ours, 1 << 20)
        os.close(ours)
        saved = int.from_bytes(reported[-8:], "big") if reported else 0
        kept = [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()] if folder.exists() else []
        lost += saved > max(kept, default=0)
        if max(kept, default=0) >= EPOCHS * 11:
            ended.append(folder)
            folder = base / f"run{len(ended)}"
    told = (base / "errors").read_text()
    damaged, tracebacks = told.count("is damaged"), told.count("Traceback")
    whole = jax.tree.leaves(train(base / "whole"))
    same = sum(
        all(
            np.array_equal(np.asarray(a), np.asarray(b))
            for a, b in zip(whole, jax.tree.leaves(train(run)), strict=True)
        )
        for run in [*ended, folder]
    )
    runs = len(ended) + 1
    print(
        f"{killed} kills in {time.time() - start:.0f} s; saves lost: {lost}; checkpoints found damaged: {damaged}; "
        f"tracebacks: {tracebacks}; {same} of {runs} runs ended as the one never killed, bit for bit"
    )
    sys.exit(not (same == runs and lost == 0 and damaged == 0 and tracebacks == 0))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
