"""Random methods whose numbers are part of the state, so that one compiled program serves all of them."""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import inercia as ia
from oracles.losses import MASKS
from oracles.update_rules import ramp, rate

DECAY, EPS = (0.05, 0.98), (1e-8, 1e-1)
#: name -> ranges of its numbers; eps is drawn on a logarithmic scale, as learning rates are.
NUMBERS = {
    "sgd": {"learning_rate": (0.02, 0.5)},
    "sgd with momentum": {"learning_rate": (0.01, 0.3), "momentum": DECAY},
    "momentum": {"learning_rate": (0.02, 0.45), "beta": DECAY},
    "nesterov": {"learning_rate": (0.02, 0.3)},
    "rmsprop": {"learning_rate": (0.005, 0.1), "decay": DECAY, "eps": EPS, "initial_scale": (0.01, 1)},
    "rmsprop with momentum": {"learning_rate": (0.003, 0.03), "decay": DECAY, "eps": EPS, "momentum": (0.05, 0.9)},
    "scalar_rmsprop": {"learning_rate": (0.02, 0.2), "decay": DECAY, "eps": EPS, "initial_scale": (0.01, 1)},
    "adagrad": {"learning_rate": (0.05, 0.5), "initial_accumulator_value": (0.01, 1), "eps": EPS},
    "adadelta": {"learning_rate": (0.3, 2), "rho": DECAY, "eps": (1e-4, 1e-1), "weight_decay": (0.01, 0.3)},
    "adam": {"learning_rate": (0.005, 0.1), "b1": DECAY, "b2": (0.5, 0.999), "eps": EPS, "eps_root": EPS},
    "adamw": {
        "learning_rate": (0.005, 0.1), "b1": DECAY, "b2": (0.5, 0.999), "eps": EPS, "eps_root": EPS,
        "weight_decay": (0.01, 0.5),
    },
    "adamax": {"learning_rate": (0.005, 0.1), "b1": DECAY, "b2": (0.5, 0.999), "eps": EPS},
    "lion": {"learning_rate": (0.002, 0.05), "b1": DECAY, "b2": DECAY, "weight_decay": (0.01, 0.5)},
    "sign_sgd": {"learning_rate": (0.002, 0.05)},
}  # fmt: skip
NUMBERS["nadam"] = NUMBERS["adam"]
_FLAGS = ({}, {"eps_in_sqrt": False}, {"centered": True}, {"bias_correction": True}, {"nesterov": True})
#: name -> the options that it is drawn with.
OPTIONS: dict[str, tuple[dict, ...]] = {
    "sgd with momentum": ({}, {"nesterov": True}),
    "momentum": ({}, {"scheme": "explicit"}, {"beta_ramp": True}, {"scheme": "explicit", "beta_ramp": True}),
    "rmsprop": (*_FLAGS[:4], {"centered": True, "eps_in_sqrt": False}),
    "rmsprop with momentum": _FLAGS,
    "adam": ({}, {"nesterov": True}),
    "adamw": ({}, {"masked": True}, {"masked": True, "nesterov": True}),
    "lion": ({}, {"masked": True}),
    "adadelta": ({}, {"masked": True}),
}
SCHEDULED = {"exponential": ("factor",), "cosine": ("period",), "piecewise": ("factor", "until")}


class Kind(NamedTuple):
    """What of a method decides the program: everything but its numbers."""

    name: str
    options: tuple[tuple[str, Any], ...]
    schedule: str
    dt: float
    tree: str

    @property
    def factory(self) -> str:
        return self.name.split()[0]

    def numbers(self, rng: np.random.Generator) -> dict[str, float]:
        """Draw the numbers."""
        drawn = {}
        for name, (low, high) in NUMBERS[self.name].items():
            linear = name not in {"eps", "eps_root", "learning_rate"}
            drawn[name] = float(rng.uniform(low, high) if linear else np.exp(rng.uniform(np.log(low), np.log(high))))
        if self.schedule != "constant":
            more = {"factor": rng.uniform(0.3, 0.9), "period": rng.uniform(5, 30), "until": rng.integers(1, 15)}
            drawn |= {name: float(more[name]) for name in SCHEDULED[self.schedule]}
        return drawn

    def made(self, h: Any) -> Any:
        """Return the library's method with the numbers h, traced or not."""
        keep = {name: value for name, value in h.items() if name not in {"factor", "period", "until"}}
        options = dict(self.options)
        if self.schedule != "constant":
            keep["learning_rate"] = lambda t: rate(self.schedule, h, jnp.asarray(t, float), jnp)
        if options.pop("beta_ramp", False):
            keep["beta"] = lambda t: ramp(h["beta"], t)
        if options.pop("masked", False):
            options["mask" if self.factory != "adadelta" else "weight_decay_mask"] = MASKS[self.tree]
        return getattr(ia, self.factory)(**keep, **options, dt=self.dt)


def drawn(rng: np.random.Generator, names: list[str], tree: str) -> Kind:
    """Draw a kind."""
    name = names[rng.integers(len(names))]
    options = OPTIONS.get(name, ({},))
    chosen = dict(options[rng.integers(len(options))])
    if MASKS[tree] is None:
        chosen.pop("masked", None)
    schedule = "constant" if name == "nesterov" else str(rng.choice(["constant", *SCHEDULED]))
    return Kind(name, tuple(chosen.items()), schedule, float(rng.choice([1, 0.5, 0.25])), tree)


@cache
def carried(kind: Kind) -> Any:
    """Return the method of a kind that reads its numbers from its state, {"numbers": h, "inner": its own state}."""
    plain = dict.fromkeys([*NUMBERS[kind.name], *SCHEDULED.get(kind.schedule, ())], 0.5)

    def init(params):
        numbers = {name: jnp.asarray(value, jnp.result_type(float)) for name, value in plain.items()}
        return {"numbers": numbers, "inner": kind.made(plain).init(params)}

    def update(grads, state, params=None, **extra):
        updates, inner = kind.made(state["numbers"]).update(grads, state["inner"], params)
        return updates, {"numbers": state["numbers"], "inner": inner}

    def flow(grads, state, params=None):
        rate, inner = kind.made(state["numbers"]).flow(grads, state["inner"], params)
        return rate, {"numbers": jax.tree.map(jnp.zeros_like, state["numbers"]), "inner": inner}

    return ia.Method(init, update, flow, kind.dt)


def state_of(kind: Kind, h: dict[str, float], params: Any) -> Any:
    """Return the state of `carried` at the start, with the numbers h."""
    inner = kind.made(h).init(params)
    dtype = jnp.result_type(float)
    return {"numbers": {name: jnp.asarray(value, dtype) for name, value in h.items()}, "inner": inner}
