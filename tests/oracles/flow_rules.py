"""The README's flows once more, in NumPy, solved by SciPy: what `integrate` is compared with.

z is the flat vector of params, s the memory of the method as one flat vector; t is counted in iterations.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from oracles.update_rules import ramp, rate


def corrected(moment: Any, limit: Any, b: float, t: float) -> Any:
    """Return moment / (1 - e^{-(1-b) t}), and at t = 0 its limit."""
    return moment / -np.expm1(-(1 - b) * t) if t > 0 else limit


def field(name: str, h: dict[str, float], o: dict[str, Any]) -> Callable:
    """Return (t, z, parts of s, g, a) -> (z', parts of s')."""

    def sgd(t, z, s, g, a):
        if "momentum" not in h:
            return -a * g, []
        return -a * s[0], [g - (1 - h["momentum"]) * s[0]]

    def momentum(t, z, s, g, a):
        b = ramp(h["beta"], t) if o.get("beta_ramp") else h["beta"]
        return -a * s[0], [(1 - b) * (g - s[0])]

    def nesterov(t, z, s, g, a):  # from rest, w' = -3 w/t - a g gives w = -a g t/4 at first
        return s[0], [-3 / t * s[0] - a * g if t > 0 else -a * g / 4]

    def rmsprop(t, z, s, g, a):
        c = 1 - h["decay"]
        v, m, r = s
        vh, mh = v, m
        if o.get("bias_correction"):
            start = np.where(v > 0, np.inf, g**2)  # an average that does not start at 0 is infinite at t = 0
            vh, mh = corrected(v, start, h["decay"], t), corrected(m, g, h["decay"], t)
        vh = vh - mh**2 if o.get("centered") else vh
        u = -a * g / (np.sqrt(vh + h["eps"]) if o.get("eps_in_sqrt", True) else np.sqrt(vh) + h["eps"])
        dots = [c * (g**2 - v), c * (g - m)]
        return (r, [*dots, u - (1 - h["momentum"]) * r]) if "momentum" in h else (u, [*dots, 0 * r])

    def scalar_rmsprop(t, z, s, g, a):
        v = s[0]
        return -a * g / (np.sqrt(v) + h["eps"]), [(1 - h["decay"]) * (g @ g - v)]

    def adagrad(t, z, s, g, a):
        return -a * g / np.sqrt(s[0] + h["eps"]), [g**2]

    def adadelta(t, z, s, g, a):
        v, x = s
        g = g + h["weight_decay"] * o["decays"] * z
        u = g * np.sqrt(x + h["eps"]) / np.sqrt(v + h["eps"])
        return -a * u, [(1 - h["rho"]) * (g**2 - v), (1 - h["rho"]) * (u**2 - x)]

    def adam(t, z, s, g, a):
        m, v = s
        mh, vh = corrected(m, g, h["b1"], t), corrected(v, g**2, h["b2"], t)
        dots = [(1 - h["b1"]) * (g - m), (1 - h["b2"]) * (g**2 - v)]
        return -a * mh / (np.sqrt(vh + h["eps_root"]) + h["eps"]), dots

    def adamw(t, z, s, g, a):
        z_dot, dots = adam(t, z, s, g, a)
        return z_dot - a * h["weight_decay"] * o["decays"] * z, dots

    return locals()["adam" if name == "nadam" else name]


def memory(name: str, h: dict[str, float], size: int) -> list[np.ndarray]:
    """Return the parts of s at the start."""
    zero = np.zeros(size)
    if name == "sgd":
        return [zero] if "momentum" in h else []
    if name in {"rmsprop", "scalar_rmsprop"}:  # the scalar one as equal copies
        return [zero + h.get("initial_scale", 0.0), zero, zero][: 3 if name == "rmsprop" else 1]
    if name == "adagrad":
        return [zero + h["initial_accumulator_value"]]
    return [zero] if name in {"momentum", "nesterov"} else [zero, zero]


def solve(name, h, o, schedule, grad, z, times) -> np.ndarray:
    """Return z at the times, by SciPy's DOP853 at tight tolerances, restarted where the schedule jumps."""
    n, of = len(z), field(name, h, o)
    parts = memory(name, h, n)
    y, reached, rows = np.concatenate([z, *parts]), times[0], [z]
    jump = h["until"] if schedule == "piecewise" else np.inf
    for end in times[1:]:
        for stop in sorted({min(max(jump, reached), end), end}):
            if stop > reached:
                middle = (reached + stop) / 2

                def rhs(t, y, middle=middle):
                    z, *s = np.split(y, len(y) // n)
                    a = float(rate(schedule, h, middle if schedule == "piecewise" else t, np))
                    z_dot, dots = of(t, z, s, grad(z), a)
                    return np.concatenate([z_dot, *dots])

                y = solve_ivp(rhs, (reached, stop), y, "DOP853", rtol=1e-11, atol=1e-13).y[:, -1]
                reached = stop
        rows.append(y[:n])
    return np.array(rows)
