"""The scripts of analysis/, which a wheel carries along: each checks its claims and draws them."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import tyro

import inercia
from inercia.commands.options import FailedError
from inercia.core import check

_PACKAGE = Path(inercia.__file__).parent


def scripts() -> dict[str, Path]:
    """Return name -> script: those in the installed package, or beside the sources that are worked on."""
    for folder in (_PACKAGE / "analysis", _PACKAGE.parents[1] / "analysis"):
        found = {file.stem: file for file in sorted(folder.glob("*.py"))}
        if found:
            return found
    raise FileNotFoundError(f"the scripts of analysis/ are neither in {_PACKAGE} nor beside its sources.")


def figures(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (), /, out: Path = Path("figures"), fast: bool = False
) -> None:
    """Run the scripts of analysis/: what each claims is asserted, and drawn.

    Args:
        names: Scripts, such as `momentum stability`; all of them where none is named.
        out: Folder for the figures.
        fast: Smaller versions, of seconds instead of minutes.
    """
    every = scripts()
    for name in names:
        check.one_of("script", name, every)
    for name in names or every:
        print(f"\n{name}", flush=True)
        command = [sys.executable, str(every[name]), "--out", str(out), *(["--fast"] if fast else [])]
        if subprocess.run(command, check=False).returncode:
            raise FailedError(f"{name} failed: what it claims does not hold here, or it could not run (see above).")
