"""The README's table of methods once more, in NumPy, written from the table and from what `help` says of each factory.

A point is one flat float64 vector z, its gradient g; `h` holds the numbers of a method, `o` its options. A rule makes
one update, in place on its own memory; `k` counts the updates made, schedules are read at t = k dt, decays are refined
to B = 1 - (1 - b) dt.
"""

from collections.abc import Callable
from typing import Any

import numpy as np


def rate(schedule: str, h: Any, t: Any, xp: Any) -> Any:
    """Return the learning rate at t, computed by `xp`, NumPy or jax.numpy."""
    a = h["learning_rate"]
    if schedule == "exponential":
        return a * h["factor"] ** (t / 10)
    if schedule == "cosine":
        return a * (0.55 + 0.45 * xp.cos(xp.pi * t / h["period"]))
    if schedule == "piecewise":
        return xp.where(t < h["until"], a, a * h["factor"])
    return a + 0 * t


def ramp(b: Any, t: Any) -> Any:
    """Return a decay that moves from b half of the way to 1."""
    return b + (1 - b) * t / (2 * t + 20)


class Rule:
    """One method's update on the flat vector."""

    def __init__(
        self, name: str, h: dict[str, float], o: dict[str, Any], schedule: str, dt: float, decays: Any
    ) -> None:
        self.name, self.h, self.o, self.schedule, self.dt, self.decays = name, h, o, schedule, dt, decays
        self.memory: dict[str, Any] = {}

    def step(self, k: int, z: np.ndarray, grad: Callable) -> np.ndarray:
        """Return z after update number k, from 0."""
        a = float(rate(self.schedule, self.h, k * self.dt, np)) * self.dt
        return getattr(self, self.name)(k, z, grad(z), a)

    def refined(self, name: str) -> float:
        return 1 - (1 - self.h[name]) * self.dt

    def average(self, name: str, decay: float, value: Any, start: float = 0.0) -> Any:
        self.memory[name] = decay * self.memory.get(name, start) + (1 - decay) * value
        return self.memory[name]

    def total(self, name: str, decay: float, value: Any) -> Any:
        self.memory[name] = decay * self.memory.get(name, 0.0) + value
        return self.memory[name]

    def sgd(self, k, z, g, a):
        if "momentum" not in self.h:
            return z - a * g
        b = self.refined("momentum")
        v = self.total("v", b, self.dt * g)
        return z - a * (b * v + self.dt * g if self.o.get("nesterov") else v)

    def momentum(self, k, z, g, a):
        b = ramp(self.h["beta"], k * self.dt) if self.o.get("beta_ramp") else self.h["beta"]
        old = self.memory.get("m", np.zeros_like(z))
        m = self.average("m", 1 - (1 - b) * self.dt, g)
        return z - a * (old if self.o.get("scheme") == "explicit" else m)

    def nesterov(self, k, z, g, a):
        x = z - self.h["learning_rate"] * self.dt**2 * g
        before = self.memory.get("x", z)
        self.memory["x"] = x
        return x + k / (k + 3) * (x - before)  # (k-1)/(k+2), counted from 1

    def rmsprop(self, k, z, g, a):
        b = self.refined("decay")
        v = self.average("v", b, g**2, self.h.get("initial_scale", 0.0))
        m = self.average("m", b, g)
        if self.o.get("bias_correction"):
            v, m = v / (1 - b ** (k + 1)), m / (1 - b ** (k + 1))
        v = v - m**2 if self.o.get("centered") else v
        inside = self.o.get("eps_in_sqrt", True)
        u = -g / (np.sqrt(v + self.h["eps"]) if inside else np.sqrt(v) + self.h["eps"])
        if "momentum" not in self.h:
            return z + a * u
        c, u = self.refined("momentum"), a * u  # a holds the dt of r+ = c r + dt u
        r = self.total("r", c, u)
        return z + self.dt * (c * r + u if self.o.get("nesterov") else r)

    def scalar_rmsprop(self, k, z, g, a):
        v = self.average("v", self.refined("decay"), g @ g, self.h["initial_scale"])
        return z - a * g / (np.sqrt(v) + self.h["eps"])

    def adagrad(self, k, z, g, a):
        self.memory["v"] = v = self.memory.get("v", self.h["initial_accumulator_value"]) + self.dt * g**2
        return z - a * np.where(v > 0, g / np.sqrt(np.where(v > 0, v, 1) + self.h["eps"]), 0)

    def adadelta(self, k, z, g, a):
        b, eps = self.refined("rho"), self.h["eps"]
        g = g + self.h["weight_decay"] * self.decays * z
        v = self.average("v", b, g**2)
        u = g * np.sqrt(self.memory.get("x", 0.0) + eps) / np.sqrt(v + eps)
        self.average("x", b, u**2)
        return z - a * u

    def adam(self, k, z, g, a):
        b1, b2 = self.refined("b1"), self.refined("b2")
        m, v = self.average("m", b1, g), self.average("v", b2, g**2)
        mh, vh = m / (1 - b1 ** (k + 1)), v / (1 - b2 ** (k + 1))
        if self.o.get("nesterov"):
            mh = b1 * m / (1 - b1 ** (k + 2)) + (1 - b1) * g / (1 - b1 ** (k + 1))
        return z - a * mh / (np.sqrt(vh + self.h["eps_root"]) + self.h["eps"])

    def nadam(self, k, z, g, a):
        self.o = {"nesterov": True}
        return self.adam(k, z, g, a)

    def adamw(self, k, z, g, a):
        return self.adam(k, z, g, a) - a * self.h["weight_decay"] * self.decays * z

    def adamax(self, k, z, g, a):
        b1 = self.refined("b1")
        m = self.average("m", b1, g)
        self.memory["u"] = np.maximum(self.refined("b2") * self.memory.get("u", 0.0), abs(g) + self.h["eps"])
        return z - a * m / (1 - b1 ** (k + 1)) / self.memory["u"]

    def lion(self, k, z, g, a):
        b1 = self.refined("b1")
        c = b1 * self.memory.get("m", 0.0) + (1 - b1) * g
        self.average("m", self.refined("b2"), g)
        return z - a * (np.sign(c) + self.h["weight_decay"] * self.decays * z)

    def sign_sgd(self, k, z, g, a):
        return z - a * np.sign(g)
