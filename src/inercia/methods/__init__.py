"""The methods, one file each: equation, transition and flow side by side."""

from collections.abc import Callable

from inercia.core.method import Method
from inercia.methods.adagrad import AdagradState, adagrad
from inercia.methods.adam import AdamState, adam
from inercia.methods.adamw import adamw
from inercia.methods.lion import LionState, SignState, lion, sign_sgd
from inercia.methods.momentum import SCHEMES, MomentumState, OscillatorState, momentum, oscillator
from inercia.methods.nadam import nadam
from inercia.methods.nesterov import NesterovState, nesterov
from inercia.methods.rmsprop import RmspropState, rmsprop
from inercia.methods.scalar_rmsprop import ScalarRmspropState, scalar_rmsprop
from inercia.methods.sgd import SgdState, sgd

#: Every method by name: what the command line, the docs and the tests go through.
METHODS: dict[str, Callable[..., Method]] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "rmsprop": rmsprop,
    "scalar_rmsprop": scalar_rmsprop,
    "adagrad": adagrad,
    "adam": adam,
    "adamw": adamw,
    "nadam": nadam,
    "lion": lion,
    "sign_sgd": sign_sgd,
}

__all__ = [
    "METHODS",
    "SCHEMES",
    "AdagradState",
    "AdamState",
    "LionState",
    "MomentumState",
    "NesterovState",
    "OscillatorState",
    "RmspropState",
    "ScalarRmspropState",
    "SgdState",
    "SignState",
    "adagrad",
    "adam",
    "adamw",
    "lion",
    "momentum",
    "nadam",
    "nesterov",
    "oscillator",
    "rmsprop",
    "scalar_rmsprop",
    "sgd",
    "sign_sgd",
]
