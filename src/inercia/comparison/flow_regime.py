"""Which flow holds, and until when: the numbers by which the continuous pictures of a method exclude each other.

    plain flow     misses the iterates by what the terms that it drops add up to: F_N is the flow through N further
                   iterates, plain + correction + ..., and the gap is estimated as |theta_plain - theta_F|
    memory         1/(1-b) updates, of no consequence where the fastest direction takes longer, 1/(a lambda): memoryless
    edge           lambda of P^{-1} H at its bound: beyond it no plain flow holds, and the central flow does
    noise          batches move the params by sqrt(n tr Cov(u)), u an update; the drift moves them by |theta - theta_0|

The first updates, in which directions with a lambda > 1 die that no series of F sees, are made and measured; F starts
after them. What is told of the gap is a bound, `SAFETY` times the estimate, tried on a hundred random problems:
`benchmarks/regimes.py`.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check, tree
from inercia.core.linear_form import linear_form
from inercia.core.method import Method, NoFlow, Params, State
from inercia.core.path import Path
from inercia.edge_of_stability.averaged_reading import bounds_of, decays_of, read_update
from inercia.edge_of_stability.preconditioning import preconditioner
from inercia.edge_of_stability.sharpness_observer import sharpness
from inercia.flows.integration import integrate
from inercia.flows.interpolating_flow import Interpolated
from inercia.flows.iteration import iterate
from inercia.flows.modified_equation import modified
from inercia.flows.smoothness import jumps
from inercia.flows.stochastic_flow import count_of_batches

#: Factor between the estimate of a gap and the bound that is told.
SAFETY = 1.5
#: Updates that are made and measured, points after them, and points at which the sharpness is computed.
_PROBED, _POINTS, _LOOKS = 32, 32, 16
#: N of F, for a method with a flow of its own, and for another transformation, whose flow is that of order 4.
_ORDERS = (3, 6)
_TIGHT: dict[str, Any] = {"rtol": 1e-7, "atol": 1e-10}
#: Memory over the time of the fastest direction, below which it is of no consequence.
_SHORT = 0.1
#: Displacement by noise over that by drift, from which the noise decides.
_NOISY = 0.5


class Regime(NamedTuple):
    """What `regime` found; `str` says it. Times in iterations."""

    until: float  # up to which the gap is told: the end, or the edge where that is met before
    gap: float | None  # the iterates are at most about so far from the plain flow until then; None at the edge
    displacement: float  # of the flow, the farthest until then
    sharpness: float | None  # largest eigenvalue of P^{-1} H at the start; None where the method has no preconditioner
    bound: float | None  # on it
    edge: float | None  # when it is met, about; None where it is not met until the end, or not told
    memory: float  # 1/(1-b), updates, of the slowest memory; 0 for none
    noise: float | None  # displacement by noise over that by drift, at most about; None without batches
    function: str  # the one to call
    tolerance: float  # gap over displacement up to which the plain flow is recommended

    @property
    def relative(self) -> float | None:
        """The gap over the displacement."""
        return None if self.gap is None else self.gap / max(self.displacement, np.finfo(float).tiny)

    @property
    def memoryless(self) -> bool | None:
        """Whether memory is of no consequence; None where there is none, or no preconditioner tells."""
        if not self.memory or self.sharpness is None:
            return None
        return bool(self.memory * abs(self.sharpness) < _SHORT)

    def __str__(self) -> str:
        if self.gap is None:
            held = "no plain flow holds, for the start is at the edge of stability"
        else:
            held = f"the plain flow holds to within {self.gap:.2g} ({self.relative:.2g} of the displacement) until "
            held += f"time {self.until:.4g}"
        parts = [held]
        if self.bound is not None:
            ratio = (self.sharpness or 0.0) / self.bound
            when = "not reached" if self.edge is None else f"reached at about time {self.edge:.4g}"
            parts.append(f"the edge of stability, of which the sharpness starts at {ratio:.2g}, is {when}")
        if self.memoryless is not None:
            kind = "memoryless" if self.memoryless else "not memoryless"
            fastest = 1 / abs(self.sharpness) if self.sharpness else np.inf
            parts.append(f"{kind}, with a memory of {self.memory:.3g} updates against {fastest:.3g}")
        if self.noise is not None:
            parts.append(f"noise moves the params by up to {self.noise:.2g} of the displacement")
        return "; ".join(parts) + f": call {self.function}."


def regime(
    method: Any,
    loss: Any,
    params: Params,
    *,
    time: float,
    batches: Any = None,
    state: State | None = None,
    tolerance: float = 0.05,
) -> Regime:
    """Say which flow a method follows from a point on, until when and how closely, and which function has it.

    Costs a few dozen updates, the plain flow over the time, a flow of higher order over the same, and the sharpness at
    some of its points.

    Args:
        method: a method, or any optax transformation with a smooth update.
        loss: params -> scalar, twice differentiable; (params, batch) -> scalar where batches are given.
        params: where the iterates start; computed in float64.
        time: how long, in iterations; a multiple of dt.
        batches: tree of arrays whose leading axis is that of the N_b batches, of which each update draws one.
        state: the method's, by default a fresh one.
        tolerance: largest gap over displacement with which the plain flow is recommended.

    Returns:
        Regime. `gap` is a bound that held on 95 and more of 100 random problems, not a proven one.

    Raises:
        ValueError: an update that jumps, a time that is no multiple of dt, batches of unequal number.
        TypeError: a method that has no flow, with the reason.
        IntegrationError: the plain flow could not be solved.
        CurvatureError: a curvature that is not finite.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> bowl = lambda x: x[0] ** 2 / 2 + x[1] ** 2 / 20
        >>> told = inercia.regime(inercia.sgd(0.05), bowl, jnp.array([1.0, 1.0]), time=64)
        >>> print(str(told)[:79])
        the plain flow holds to within 0.014 (0.014 of the displacement) until time 64;
    """
    check.optimizer(method)
    check.positive("time", check.number("time", time))
    check.positive("tolerance", check.number("tolerance", tolerance))
    check.some_params(params)
    if rough := jumps(method, tree.at_least_float(params)):
        raise ValueError(f"regime needs a smooth update, but this one jumps ({', '.join(rough)}) and has no flow.")
    dt = float(getattr(method, "dt", 1.0))
    steps = round(time / dt)
    if steps < 1 or abs(steps * dt - time) > 1e-9 * time:
        raise ValueError(f"time must be a multiple of dt, but time = {time:g} and dt = {dt:g}.")
    mean = loss
    if batches is not None:
        count_of_batches(batches)
        mean = partial(_mean, loss, batches)
    first = min(_PROBED, steps)
    counts = np.unique(np.concatenate([np.arange(first + 1), np.linspace(first, steps, _POINTS + 1).round()]))
    begun = iterate(method, mean, params, first, state=state)
    plain = integrate(method, mean, params, begun.times[0] + counts * dt, state=state, **_TIGHT)
    top, bound, edge = _edge(method, mean, plain)
    until = float(plain.times[-1] if edge is None else edge)
    inside = plain.times <= until + 1e-9
    beyond = np.concatenate([[True], inside[:-1]])  # one point more: the gap grows fast near the edge
    gap = None if edge == plain.times[0] else SAFETY * _gap(method, mean, begun, plain, beyond)
    moved = float(np.linalg.norm(plain.flat() - plain.flat()[0], axis=1)[inside].max())
    noise = None if batches is None else _noise(method, loss, batches, plain, first, dt)
    found = Regime(until, gap, moved, top, bound, edge, _memory(method, params), noise, "", float(tolerance))
    return found._replace(function=_function(found, method, mean))


class _Onwards(Interpolated):
    """F from where the fast directions have died: that its series converges for them is not asked."""

    def check(self, params: Params, state: State) -> None:
        """Ask for nothing."""


def _mean(loss: Any, batches: Any, params: Params) -> jax.Array:
    return jax.vmap(lambda batch: loss(params, batch))(batches).mean()


def _edge(method: Any, loss: Any, plain: Path) -> tuple[float | None, float | None, float | None]:
    """Return the sharpness at the start, its bound, and when the plain flow meets that; None where there is none."""
    try:
        bound, _ = bounds_of(method, tree.row(plain.params, 0))
    except ValueError:  # no preconditioner
        return None, None, None
    watch = {"sharpness": sharpness(method, loss)}
    top = before = then = None
    for i in np.unique(np.linspace(0, len(plain) - 1, _LOOKS + 1).round().astype(int)):
        at = plain[i]
        seen = iterate(method, loss, at.params, 1, state=at.state, start=float(at.times), observe=watch)
        ratio, now = float(seen.observed["sharpness"][0, 0]) / bound, float(at.times)
        if top is None:
            top = ratio * bound
        if ratio >= 1:
            part = 1.0 if before is None or then is None else (1 - before) / (ratio - before)
            return top, bound, now if then is None else then + part * (now - then)
        before, then = ratio, now
    return top, bound, None


def _gap(method: Any, loss: Any, begun: Path, plain: Path, inside: np.ndarray) -> float:
    """Estimate the largest distance of the iterates to the plain flow: measured at first, then that of F to it."""
    first = len(begun)
    measured = tree.distance(begun.params, plain[:first].params)[inside[:first]].max()
    last, later = begun[-1], plain[first - 1 :][inside[first - 1 :]]
    if len(later) < 2:
        return float(measured)
    order = _ORDERS[0] if isinstance(method, Method) and not isinstance(method.flow, NoFlow) else _ORDERS[1]
    onwards = _Onwards(method, loss, order)
    counted = jax.tree.map(lambda x: x * 1.0, last.state)
    better = integrate(onwards, loss, last.params, later.times, state=counted, **_TIGHT)
    return float(max(measured, tree.distance(better.params, later.params).max()))


def _memory(method: Any, params: Params) -> float:
    """Return 1/(1-b) of the slowest memory, in updates; 0 where there is none."""
    form, period = linear_form(method), 1
    if form is not None and form.constant:
        kept = [form.beta, *([] if form.second_moment is None else [form.second_moment.decay])]
        kept = [1.0 if b is None else float(b) for b in kept]  # a sum forgets nothing
    else:
        try:
            read = read_update(method, params)
        except ValueError:
            return 0.0
        kept, period = decays_of(read), read.own.period
    slowest = max(kept, default=0.0)
    return 0.0 if slowest == 0 else float(np.inf) if slowest >= 1 else period / (1 - slowest)


def _noise(method: Any, loss: Any, batches: Any, plain: Path, first: int, dt: float) -> float:
    """Return sqrt(n tr Cov(u)) / displacement, the larger of those at the first updates' end and at the flow's."""
    moved, sizes = np.linalg.norm(plain.flat() - plain.flat()[0], axis=1).max(), []
    with jax.enable_x64(True):
        for at in (plain[first], plain[-1]):
            each = jax.vmap(lambda batch, theta=at.params: jax.grad(loss)(theta, batch))(tree.float64(batches))
            mean = jax.tree.map(lambda g: g.mean(axis=0), each)
            after = method.update(mean, jax.tree.map(jnp.asarray, at.state), at.params)[1]
            scale = preconditioner(method, after, at.params)
            parts = jax.tree.map(lambda g, p: jnp.sum(g.var(axis=0) / jnp.square(p)), each, scale)
            sizes.append(float(sum(jax.tree.leaves(parts))))
    steps = (plain.times[-1] - plain.times[0]) / dt
    return float(np.sqrt(steps * max(sizes)) / max(moved, np.finfo(float).tiny))


def _function(found: Regime, method: Any, loss: Any) -> str:
    """Return the name of the function that has the flow."""
    if found.noise is not None and found.noise > _NOISY:
        return "diffuse" if hasattr(method, "flow") else "iterate_batches"
    if found.edge is not None:
        return "central"
    if (found.relative or 0.0) <= found.tolerance:
        return "integrate"
    if found.memoryless:
        return "limit"
    try:
        modified(method, loss)
    except ValueError:
        return "interpolated"
    return "modified"
