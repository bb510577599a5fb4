"""Compiled programs that one call of the command keeps for the next: JAX's persistent cache, in the user's folder.

What a command waits for, the first time, is mostly the compiler. The cache is switched on for the command line alone; a
library must not choose where its user's files go. It is a help and no more: where the folder cannot be written, or an
entry is damaged, programs are compiled as without it.
"""

import hashlib
import os
import platform
import warnings
from pathlib import Path

import jax

#: The option, and the variable of the environment, that switch it off.
OFF, OFF_BY_ENVIRONMENT = "--no-cache", "INERCIA_NO_CACHE"
#: Bytes above which the oldest programs are deleted, until half of them are left.
MOST = 2**28


def switch_on(environment: dict[str, str] | None = None) -> Path | None:
    """Keep compiled programs of this process, unless the user has chosen otherwise.

    Args:
        environment: variables; by default those of the process.

    Returns:
        The folder; None where JAX's own settings stay: the cache is off, has a folder of the user's, or none can be
        written.
    """
    environment = dict(os.environ) if environment is None else environment
    if environment.get(OFF_BY_ENVIRONMENT) or getattr(jax.config, "jax_compilation_cache_dir", None):
        return None
    try:
        folder = _root(environment) / "inercia" / f"programs-{_machine()}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "in-use").touch()
        _prune(folder)
    except (OSError, RuntimeError):  # a read-only or full disk; no home
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    return folder


def _root(environment: dict[str, str]) -> Path:
    """Return the folder for caches: of XDG, of Windows, or ~/.cache."""
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        if Path(environment.get(name) or ".").is_absolute():
            return Path(environment[name])
    return Path.home() / ".cache"


def _machine() -> str:
    """Return a name of this kind of processor: programs hold its instructions, and a home may be shared by several."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    kinds = next((line for line in lines if line.lower().startswith(("flags", "features"))), platform.processor())
    return hashlib.sha256(f"{platform.machine()} {kinds}".encode()).hexdigest()[:8]


def _prune(folder: Path) -> None:
    """Delete the oldest programs where there are too many; another process may do so at the same time."""
    entries = [(entry.stat().st_mtime, entry.stat().st_size, entry.path) for entry in os.scandir(folder)]
    held = sum(size for _, size, _ in entries)
    if held <= MOST:
        return
    for _, size, path in sorted(entries):
        if held <= MOST // 2:
            return
        Path(path).unlink(missing_ok=True)
        held -= size
