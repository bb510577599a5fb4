"""A bar on long work: how much is done, how fast, and the time left.

It moves in a terminal and in a notebook. In a log, where each of its states would be a line, there is one a minute.
"""

import sys
from typing import Any

#: Seconds between two states of the bar, where they overwrite each other and where they do not.
_MOVING, _LOGGED = 0.1, 60.0


class _Hidden:
    """A bar that shows nothing, for less than tqdm's takes to be made."""

    disable, n = True, 0

    def __enter__(self) -> "_Hidden":
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, n: float = 1) -> None: ...

    def reset(self, total: float | None = None) -> None: ...


def bar(show: bool, **options: Any) -> Any:
    """Return tqdm's bar with these options, or one that shows nothing."""
    if not show:
        return _Hidden()
    from tqdm import tqdm  # noqa: PLC0415  loaded when used

    seconds = _MOVING if sys.stderr.isatty() or "ipykernel" in sys.modules else _LOGGED
    return tqdm(mininterval=seconds, maxinterval=max(10.0, seconds), **options)
