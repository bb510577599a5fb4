"""Two processes of two devices each, on one machine: one run, and what is left of it when a process is lost.

Every wait is bounded; a process that is not done in time is killed.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from runs import close, steps_in

from inercia.training import hosts

pytest.importorskip("orbax.checkpoint")
CODE = """
    import sys
    process, processes, port, folder, epochs, save_every, out = sys.argv[1:]
    import jax, numpy as np, inercia as ia
    from inercia.training import hosts
    if processes != "1":
        hosts.join(f"127.0.0.1:{port}", int(processes), int(process))
    train, _ = ia.digits()
    network = ia.mlp([64, 32, 10])
    loss, params = ia.risk(network, "cross-entropy"), network.init(jax.random.key(0))
    result = ia.train(
        ia.adam(1e-2), loss, params, train, epochs=int(epochs), batch_size=64, key=1, checkpoint=folder or None,
        mesh=jax.make_mesh((jax.device_count(),), ("devices",)), shard_params=True, save_every=int(save_every),
        evaluate=lambda p: ia.accuracy(network)(p, train), progress=True,
    )
    np.savez(f"{out}{process}.npz", *[hosts.gathered(leaf) for leaf in jax.tree.leaves(result)])
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mpirun") is None, reason="Open MPI is not installed")
def test_mpirun_tells_who_is_who(tmp_path):
    line = "import sys; from inercia.commands.main import main; main(sys.argv[1:])"
    train = [sys.executable, "-c", line, "train", "--epochs", "2", "--hidden", "16"]
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    command = ["mpirun", "--oversubscribe", "-n", "2", *train, "--distributed", "--checkpoint", str(tmp_path)]
    options = {"env": environment(1) | root, "capture_output": True, "text": True, "timeout": 150}
    two, one = (subprocess.run(started, check=True, **options).stdout for started in (command, train))
    assert [two.count(text) for text in ("test accuracy", "22 iterations of adam")] == [1, 1]  # process 0 alone prints
    assert two.split("test accuracy")[1].split("\n")[0] == one.split("test accuracy")[1].split("\n")[0]
    assert steps_in(tmp_path) == [11, 22]


@pytest.mark.slow
def test_slurm_tells_who_is_who(tmp_path):
    """The line of docs/several_hosts.md, on one host for two, with what srun tells its tasks."""
    line = "import sys; from inercia.commands.main import main; main(sys.argv[1:])"
    options = ["train", "--distributed", "--shard-params", "--epochs", "2", "--hidden", "16", "--batch-size", "128"]
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", line, *options, "--checkpoint", str(tmp_path)],
            env=environment(1) | job | {"SLURM_PROCID": str(p), "SLURM_LOCALID": str(p), "SLURM_STEP_NUM_NODES": "1"},
            stdout=subprocess.PIPE, text=True,
        )
        for p in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=120)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0]
    assert ["test accuracy" in text for text in said] == [True, False]
    assert steps_in(tmp_path) == [11, 22]


ALONE = """
import jax
from inercia.training import hosts
hosts.join()
print(jax.config.read("jax_cuda_visible_devices"))
"""


@pytest.mark.slow
def test_one_process_on_a_host_has_all_of_its_devices():
    job = {"SLURM_JOB_ID": str(os.getpid() + 1), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "1"}
    for nodes, seen in (("1", "all"), ("2", "0")):
        told = job | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NUM_NODES": nodes}
        command = [sys.executable, "-c", ALONE]
        done = subprocess.run(
            command, env=environment(1) | told, capture_output=True, text=True, timeout=90, check=True
        )
        assert done.stdout.split() == [seen]


def environment(devices):
    return os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}


@contextlib.contextmanager
def running(tmp_path, processes=2, *, devices=2, folder="run", epochs=3, save_every=22, out="out"):
    """Start the processes; kill at the end those that are left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = folder and str(tmp_path / folder)
    arguments = [str(a) for a in (processes, port, folder, epochs, save_every, tmp_path / out)]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CODE), str(p), *arguments], env=environment(devices),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for p in range(processes)
    ]  # fmt: skip
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait(10)


def finished(tmp_path, processes=2, **options):
    """Run to the end; return what each process printed, and its arrays."""
    with running(tmp_path, processes, **options) as started:
        printed = [process.communicate(timeout=150)[0] for process in started]
        assert [process.returncode for process in started] == [0] * processes, printed
    arrays = []
    for p in range(processes):
        with np.load(tmp_path / f"{options.get('out', 'out')}{p}.npz") as file:
            arrays.append([file[name] for name in file.files])
    return SimpleNamespace(printed=printed, arrays=arrays)


def saved(folder, process):
    """Wait until the run has saved twice."""
    for _ in range(900):
        if len(steps_in(folder)) > 1:
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    raise AssertionError("nothing was saved")


@pytest.mark.slow
def test_one_run_by_two_processes(tmp_path):
    """Equal to one process, whoever began it: three epochs by two processes, and on to five by one, or by two."""
    three, alone = finished(tmp_path, epochs=3), finished(tmp_path, 1, devices=1, folder="", epochs=5)
    close(three.arrays[0], three.arrays[1], 0)
    assert "train:" in three.printed[0]
    assert "train:" not in three.printed[1]  # process 0 alone prints
    close(finished(tmp_path, 1, devices=4, epochs=5).arrays[0], alone.arrays[0], 1e-5)
    assert steps_in(tmp_path / "run") == [66, 88, 110]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "number"),
    [(1, signal.SIGKILL), pytest.param(0, signal.SIGSTOP, marks=pytest.mark.long)],
    ids=["dead", "frozen"],
)
def test_a_lost_process_ends_the_run(tmp_path, victim, number):
    with running(tmp_path, epochs=10**6, save_every=220) as started:
        saved(tmp_path / "run", started[0])
        started[victim].send_signal(number)
        begin = time.monotonic()
        survivor = started[1 - victim]
        printed = survivor.communicate(timeout=60)[0]
        assert survivor.returncode == hosts.LOST == 75, printed
        assert time.monotonic() - begin < 15
        assert "Start it again on all hosts" in printed
    if victim == 1:  # the documented restart: the same call again
        done = steps_in(tmp_path / "run")[-1]
        epochs = done // 22 + 2
        again = finished(tmp_path, epochs=epochs, save_every=220)
        alone = finished(tmp_path, 1, devices=1, folder="", epochs=epochs, out="alone")
        close(again.arrays[0], alone.arrays[0], 1e-3)  # hundreds of iterations, sums in another order


@pytest.mark.slow
def test_a_signal_to_one_ends_all_saved(tmp_path):
    with running(tmp_path, epochs=10**6, save_every=220) as started:
        saved(tmp_path / "run", started[0])
        started[1].send_signal(signal.SIGTERM)
        assert [process.wait(60) for process in started] == [143, 143]


@pytest.mark.slow
def test_the_command_line(tmp_path):
    """Two hosts run the same command; the first prints and writes, and the weights are those of one process."""

    def command(*more):
        words = ["train", "--epochs", "3", "--hidden", "32", "--batch-size", "64", *more]
        return subprocess.Popen(
            [Path(sys.executable).with_name("inercia"), *words], env=environment(2),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    join = ("--distributed", "--shard-params", "--coordinator", f"127.0.0.1:{port}", "--processes", "2")
    saves = ("--checkpoint", str(tmp_path / "run"), "--save", str(tmp_path / "two.npz"))
    processes = [command(*join, *saves, "--process", f"{p}") for p in range(2)]
    processes.append(command("--save", str(tmp_path / "one.npz")))
    try:
        printed = [process.communicate(timeout=150)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0, 0], printed
    assert "test accuracy" in printed[0]
    assert "accuracy" not in printed[1]
    assert steps_in(tmp_path / "run") == [22, 44, 66]
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "two.npz") as two:
        assert one.files == two.files
        weights = [name for name in one.files if one[name].dtype.kind == "f"]
        assert len(weights) >= 4
        close([one[name] for name in weights], [two[name] for name in weights], 1e-5)
        assert all(np.array_equal(one[name], two[name]) for name in one.files if name not in weights)


def test_nobody_to_join(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(ValueError, match="the processes could not be joined"):
        hosts.join()


def test_a_jax_without_the_table(monkeypatch):
    """The table has no public name: where it moves, one sentence says so."""
    monkeypatch.setitem(sys.modules, "jax._src.distributed", SimpleNamespace())
    with (
        pytest.raises(ImportError, match="has moved the table by which hosts watch each other") as caught,
        hosts.watched(),
    ):
        pass
    assert "\n" not in str(caught.value)
