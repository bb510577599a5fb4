"""Random draws that can be made simple one by one, so that a case that fails shrinks to what it needs.

A case is a number. Draw i of it comes from a generator seeded with (case, i), whatever the draws before it gave; where
i is among the simple ones it is the plainest value that the same call could give. So a smaller case is a set of
numbers, and is played again from it.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np


def _filled(value: Any, by: float) -> Any:
    return np.full_like(value, by)[()]


#: method of `numpy.random.Generator` -> (what it drew, its arguments) -> the plainest draw.
PLAINEST: dict[str, Callable] = {
    "integers": lambda drawn, low, high=None, size=None: _filled(drawn, 0 if high is None else low),
    "uniform": lambda drawn, low=0.0, high=1.0, size=None: _filled(drawn, (low + high) / 2),
    "normal": lambda drawn, size=None: _filled(drawn, 1.0),
    "random": lambda drawn, size=None: _filled(drawn, 0.5),
    "choice": lambda drawn, options: np.asarray(options)[0],
    "permutation": lambda drawn, size: np.arange(size),
}


class Draws:
    """The draws of one case; used as a `numpy.random.Generator`."""

    def __init__(self, case: int, simple: Iterable[int] = ()) -> None:
        self.case, self.simple, self.made = case, frozenset(simple), 0

    def __getattr__(self, name: str) -> Callable:
        if name not in PLAINEST:
            raise AttributeError(name)

        def draw(*args: Any, **options: Any) -> Any:
            number, self.made = self.made, self.made + 1
            value = getattr(np.random.default_rng([self.case, number]), name)(*args, **options)
            return PLAINEST[name](value, *args, **options) if number in self.simple else value

        return draw


def shrunk(fails: Callable[[Draws], bool], case: int, draws: int) -> list[int]:
    """Return the draws of a failing case that can be simple, as many as a walk through them finds, and it still fails.

    Args:
        fails: plays a case; whether it fails.
        case: its number.
        draws: how many it makes.
    """
    simple: list[int] = []
    tried = [list(range(draws)), list(range(draws // 2)), list(range(draws // 2, draws)), *([i] for i in range(draws))]
    for more in tried:
        wanted = sorted({*simple, *more})
        if wanted != simple and fails(Draws(case, wanted)):
            simple = wanted
    return simple
