"""A bar on long work: how much is done, how fast, and the time left.

It moves in a terminal and in a notebook. In a log, where each of its states would be a line, there is one a minute.
"""

import sys
from typing import Any

#: Seconds between two states of the bar, where they overwrite each other and where they do not.
_MOVING, _LOGGED = 0.1, 60.0


def bar(show: bool, **options: Any) -> Any:
    """Return tqdm's bar with these options, or one that shows nothing."""
    from tqdm import tqdm  # noqa: PLC0415  loaded when used

    seconds = _MOVING if sys.stderr.isatty() or "ipykernel" in sys.modules else _LOGGED
    return tqdm(disable=not show, mininterval=seconds, maxinterval=max(10.0, seconds), **options)
