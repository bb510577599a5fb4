"""Ctrl-C and SIGTERM held back until the work at hand is saved."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def interrupted() -> Iterator[list[int]]:
    """Collect the first interrupting signal instead of raising; a second one acts at once.

    Outside the main thread, which alone may catch signals, nothing is held back.
    """
    signals: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    watched = (signal.SIGINT, signal.SIGTERM)

    def note(number, frame):
        signals.append(number)
        restore()

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, note) for number in watched}
    try:
        yield signals
    finally:
        restore()


def stop_for(number: int) -> None:
    """Do what the signal asks, now that all is saved: KeyboardInterrupt, or exit code 128 + number."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
