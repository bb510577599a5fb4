"""Several hosts: one training run by many processes under `jax.distributed`, and what happens when one is lost.

Every process makes the same call, with the same arguments, and computes on its own devices; the collectives of the
compiled program keep them together. Process 0 alone prints and writes.

A process that has died breaks the collectives at once; one that is frozen leaves them waiting for ever. So each writes
a count into the coordinator's table every second, and whoever finds that another's count has stood still for
`PATIENCE` seconds, or that the coordinator does not answer, says so and ends with exit code `LOST`. (Where process 0,
which is the coordinator, dies, JAX's own service may be quicker: it aborts, exit code 134.) Nothing can be finished
then: the run goes on from its last checkpoint when it is started again.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

#: Exit code of a process whose run has lost another one (EX_TEMPFAIL of sysexits.h: try again).
LOST = 75
#: Seconds after which a process that gives no sign is lost.
PATIENCE = 10.0
_BEAT = 1.0
_DONE = "done"


def is_main_process() -> bool:
    """Whether this is the process that prints and writes."""
    return jax.process_index() == 0


def join(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Join the other processes of the run; must come before anything else touches JAX.

    Args:
        coordinator: host:port of process 0.
        processes: how many there are.
        process: the number of this one, from 0. What is left out comes from the launcher (SLURM, mpirun), as
            `jax.distributed.initialize` detects it.

    Raises:
        ValueError: nothing was given and no launcher is there; or the others did not come within a minute.
    """
    try:
        jax.distributed.initialize(
            coordinator, processes, process, initialization_timeout=60, heartbeat_timeout_seconds=30,
            shutdown_timeout_seconds=15,
        )  # fmt: skip
    except (ValueError, RuntimeError) as error:
        line = str(error).strip().splitlines()[0]
        raise ValueError(
            f"the processes could not be joined ({line}): start one on each host by SLURM or mpirun, or give the "
            "coordinator's address, the number of processes and the number of this one."
        ) from None
    if alone_on_host(os.environ):
        for platform in ("cuda", "rocm"):
            jax.config.update(f"jax_{platform}_visible_devices", "all")


def alone_on_host(environment: Mapping[str, str]) -> bool:
    """Whether a launcher has started one process on each host, which then computes on all of its devices.

    JAX gives each process that a launcher starts the one device with its number on the host, also where there is no
    other process for the rest. What `JAX_LOCAL_DEVICE_IDS` says counts.

    Example:
        >>> alone_on_host({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_NODES": "4"})
        True
        >>> alone_on_host({"SLURM_NTASKS": "8", "SLURM_STEP_NUM_NODES": "2"})
        False
    """
    if environment.get("JAX_LOCAL_DEVICE_IDS"):
        return False
    if "OMPI_COMM_WORLD_LOCAL_SIZE" in environment:
        return environment["OMPI_COMM_WORLD_LOCAL_SIZE"] == "1"
    return environment.get("SLURM_NTASKS", "") == environment.get("SLURM_STEP_NUM_NODES", "none")


def largest(value: int) -> int:
    """Return the largest of the values that the processes give: a decision that all of them take alike."""
    from jax.experimental import multihost_utils  # noqa: PLC0415  slow to load

    return int(np.max(multihost_utils.process_allgather(np.int32(value))))


def gathered(leaf: Any) -> np.ndarray:
    """Return an array that may be sharded over the devices of all processes, complete, to every process."""
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        from jax.experimental import multihost_utils  # noqa: PLC0415

        leaf = multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(leaf)


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Run the block with an eye on the other processes; leave the process when one of them is lost."""
    watch = _Watch()
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        watch.explain(error)
        raise
    else:
        watch.done()
    finally:
        watch.stop()


def _table() -> Any:
    """Return the coordinator's table, which has no public name; None where the launcher joined the processes itself."""
    try:
        from jax._src.distributed import global_state  # noqa: PLC0415

        table = global_state.client
        missing = [name for name in ("key_value_set", "key_value_dir_get") if table and not hasattr(table, name)]
    except (ImportError, AttributeError) as error:
        table, missing = None, [str(error)]
    if missing:
        raise ImportError(
            f"jax {jax.__version__} has moved the table by which hosts watch each other ({missing[0]}): install "
            "another version of jax, or train on one host."
        )
    return table


class _Watch:
    """Two threads: one tells and asks the table, which may hang; one watches the clock."""

    def __init__(self) -> None:
        self.table = _table()
        self.me = jax.process_index()
        self.answered = time.monotonic()
        self.seen: dict[str, tuple[str, float]] = {}  # process -> (count, when it came)
        self.ended = threading.Event()
        if self.table is None:
            return
        for work in (self._tell, self._look):
            threading.Thread(target=work, daemon=True).start()

    def explain(self, error: Exception) -> None:
        """Leave if a lost process caused the error: its text says so, or the others' counts will."""
        text = str(error)
        if any(sign in text for sign in ("Gloo", "onnection closed", "onnection reset", "heartbeat", "NCCL")):
            _leave(f"another process was lost ({text.strip().splitlines()[0][:120]})")
        time.sleep(PATIENCE + 2 * _BEAT)

    def done(self) -> None:
        """Tell the others that this process needs them no more."""
        with contextlib.suppress(Exception):
            self.table.key_value_set(f"inercia/beat/{self.me}", _DONE, allow_overwrite=True)

    def stop(self) -> None:
        """Stop telling and watching."""
        self.ended.set()

    def _tell(self) -> None:
        count = 0
        while not self.ended.wait(_BEAT):
            count += 1
            with contextlib.suppress(Exception):  # a coordinator that is gone: the clock tells
                self.table.key_value_set(f"inercia/beat/{self.me}", f"{count}", allow_overwrite=True)
                for name, value in self.table.key_value_dir_get("inercia/beat/"):
                    process = name.rsplit("/", 1)[1]
                    if self.seen.get(process, ("", 0.0))[0] != value:
                        self.seen[process] = (value, time.monotonic())
                self.answered = time.monotonic()

    def _look(self) -> None:
        while not self.ended.wait(_BEAT / 4):
            now = time.monotonic()
            if now - self.answered > PATIENCE:
                _leave(f"the coordinator, process 0, has not answered for {PATIENCE:.0f} s")
            for process, (value, since) in list(self.seen.items()):
                if value != _DONE and now - since > PATIENCE:
                    _leave(f"process {process} has given no sign for {PATIENCE:.0f} s")


def _leave(reason: str) -> None:
    """End the process at once: a collective that waits for a lost process cannot be interrupted otherwise."""
    print(
        f"\ninercia: {reason}; this run cannot go on. Start it again on all hosts: with a checkpoint folder it goes on "
        "from the last save.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(LOST)
