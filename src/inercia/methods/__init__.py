"""The methods, one file each: equation, transition and flow side by side."""

from collections.abc import Callable

from inercia.method import Method
from inercia.methods.adam import AdamState, adam
from inercia.methods.momentum import SCHEMES, MomentumState, OscillatorState, momentum, oscillator
from inercia.methods.sgd import SgdState, sgd

#: Every method by name: what the command line, the docs and the tests go through.
METHODS: dict[str, Callable[..., Method]] = {
    "sgd": sgd,
    "momentum": momentum,
    "adam": adam,
}

__all__ = [
    "METHODS",
    "SCHEMES",
    "AdamState",
    "MomentumState",
    "OscillatorState",
    "SgdState",
    "adam",
    "momentum",
    "oscillator",
    "sgd",
]
