"""The compiled loop of a central flow: how often its eigenvectors are computed, and when the loop must be left.

An interval begins with the leading eigenpairs of the point and lasts m substeps (`central_step`). With `off` the
largest difference, over the bound, between eigenvalues predicted by the interval before and those found,

    m <- m / 2 where off > OFF,    2 m where off < OFF / 4, 4 m where off < OFF / 16 (the error goes as m^2),
    1 while the largest is above OVERSHOOT times the bound,

at most `LONGEST` updates; while nothing is near the bound, at least one update. By the same measure it is decided which
eigenvalues may become critical in the interval: those alone need third derivatives, whose number goes by the square.
While there are none, eigenvalues are predicted by their rates over the last interval, and the next one ends where the
first of them comes within reach.
The Hessian of few parameters is formed anew at each substep. Numbers of eigenvectors change inside the loop, up to what
its arrays hold. The loop is left with the last good point and a `Status` where that is not enough, or where something
failed.
"""

from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core.convolutions import fast_convolutions
from inercia.edge_of_stability.averaged_method import Moment
from inercia.edge_of_stability.central_step import (
    STIFF,
    Flow,
    divisions,
    freeze,
    predicted_eigenvalues,
    substep,
    vector_loss,
)
from inercia.edge_of_stability.eigenpairs import dense_rows
from inercia.edge_of_stability.eigenvector_tracking import CHUNK, GUARD, Tracked, probe, track
from inercia.edge_of_stability.hessian import hessian_on_rows

#: Residual of an eigenvector that may be critical, relative to the largest eigenvalue; of one that is only watched; and
#: iterations allowed for them.
TOL, WATCHED, ITERATIONS = 1e-3, 5e-3, 60
#: Eigenvalues above these shares of the bound are converged, and tracked; below the first no eigenvectors are needed.
NEAR, TRACKED = 0.95, 0.92
#: Eigenvalues above (1 - reach) times the bound take part in the oscillation. The reach lies between these, and is else
#: so many times `off`: a smaller one leaves out eigenvectors towards which the critical ones turn.
REACH, SAFETY = (0.015, 0.03), 4.0
#: Error of predicted eigenvalues, over the bound, above which an interval is halved; doubled below a quarter of it.
OFF = 0.01
#: Largest eigenvalue over the bound above which every substep has eigenvectors of its own.
OVERSHOOT = 1.02
#: Updates of the longest interval.
LONGEST = 4
#: Largest error of X that is accepted.
UNSOLVED = 1e-6


class Status(IntEnum):
    """Why the loop was left."""

    FINE = 0
    FULL = 1  # more eigenvalues near the bound than the arrays hold
    LOST = 2  # an eigenvector did not converge
    NOT_FINITE = 3
    NO_BALANCE = 4  # no X was found
    STIFF = 5  # stable flow


class State(NamedTuple):
    """Where the loop stands; `position` counts substeps."""

    at: Moment
    rows: jax.Array  # (r, n), eigenvectors of P^{-1/2} H P^{-1/2} of the last interval's start; (k, 0) for none
    active: jax.Array  # rows to start from
    interval: jax.Array  # substeps of the last interval; 0 where the next must be a single one
    found: jax.Array  # (r,), eigenvalues at its start
    predicted: jax.Array  # (r,), and at its end, as far as could be told
    X: jax.Array  # (k, k), the mean over the update that follows the last record, as far as it is computed
    error: jax.Array  # of X, the largest since that record
    position: jax.Array
    status: jax.Array


class Records(NamedTuple):
    """Points of the flow; leading axis = time."""

    w: Any
    m: Any
    nu: Any
    loss: Any
    values: Any  # (k,) each
    residual: Any  # (k,) each
    X: Any  # (k, k) each
    error: Any
    beyond: Any  # whether more than k were critical
    written: Any  # whether the point was met; X and error may be of a point met before


class Clock(NamedTuple):
    """How positions are counted."""

    substeps: Any  # per update
    every: Any  # updates between records
    total: Any  # position at which the flow ends
    base: Any = 0  # number of the first record that is kept

    @property
    def apart(self) -> Any:
        """Substeps between records."""
        return self.substeps * self.every


def _allowed(flow: Flow, values: jax.Array) -> jax.Array:
    """Return the residuals allowed: inf but for eigenvalues that may soon be critical, and the first."""
    watched = (jnp.arange(len(values)) == 0) | (values > (np.inf if flow.stable else NEAR * flow.bound))
    return jnp.where(watched, jnp.where(values > (1 - REACH[1]) * flow.bound, TOL, WATCHED), jnp.inf)


def operator(flow: Flow, theta: Any, at: Moment) -> Any:
    """Return P^{-1/2} H P^{-1/2} on rows."""
    return hessian_on_rows(vector_loss(flow, theta), at.w, jnp.sqrt(flow.averaged.scale(at.nu, at.time)))


def _eigenpairs(flow: Flow, theta: Any, state: State, iterations: Any) -> Tracked:
    product = operator(flow, theta, state.at)
    if flow.rows:
        return track(product, state.rows, partial(_allowed, flow), iterations, state.active)
    values, rows = dense_rows(product, state.at.w.size, len(state.predicted))
    return Tracked(values, rows, jnp.zeros_like(values), jnp.asarray(0))


def _plan(flow: Flow, clock: Clock, state: State, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the length of the next interval, in substeps, and how many eigenvalues are critical in it."""
    c, largest = flow.bound, values[0] / flow.bound
    if flow.stable:
        return jnp.minimum(clock.substeps, clock.total - state.position), jnp.asarray(0)
    judged = jnp.isfinite(values) & jnp.isfinite(state.predicted)
    judged &= (jnp.maximum(values, state.predicted) > NEAR * c) | (jnp.arange(len(values)) == 0)
    off = jnp.max(jnp.where(judged, jnp.abs(values - state.predicted), 0.0)) / c
    last = state.interval
    length = jnp.where(off > OFF, last // 2, last * jnp.where(off < OFF / 16, 4, jnp.where(off < OFF / 4, 2, 1)))
    length = jnp.where((largest > OVERSHOOT) | (flow.rows == 0), 1, length)
    rate = _rates(state, values)
    within = jnp.ceil(
        jnp.min(jnp.where(rate > 0, ((1 - REACH[0]) * c - values) / jnp.where(rate > 0, rate, 1.0), jnp.inf))
    )
    length = jnp.where((largest < 1 - REACH[0]) & (within < length), within.astype(length.dtype), length)
    length = jnp.where(largest < NEAR, jnp.maximum(length, clock.substeps), length)
    length = jnp.clip(jnp.where(last == 0, 1, length), 1, LONGEST * clock.substeps)
    # Records that are far apart have eigenvalues of their own.
    here = jnp.where(clock.every >= LONGEST, clock.apart - state.position % clock.apart, clock.total)
    length = jnp.minimum(length, jnp.minimum(here, clock.total - state.position))
    reach = jnp.clip(SAFETY * off * length / jnp.maximum(last, 1), *REACH)
    reach = jnp.where((last == 0) | (largest > OVERSHOOT) | (flow.rows == 0), REACH[1], reach)
    return length, (values > (1 - reach) * c).sum()


def _rates(state: State, values: jax.Array) -> jax.Array:
    """Return how much the eigenvalues rose a substep, over the last interval; 0 where that is not known."""
    both = jnp.isfinite(values) & jnp.isfinite(state.found) & (state.interval > 0)
    return jnp.where(both, values - state.found, 0.0) / jnp.maximum(state.interval, 1)


def _judge(flow: Flow, found: Tracked, count: jax.Array, may_grow: Any) -> tuple[jax.Array, jax.Array]:
    """Return the status and how many rows the next interval starts from."""
    c = flow.bound
    lost = (found.residual > _allowed(flow, found.values)).any()
    wanted = (found.values > TRACKED * c).sum() + GUARD
    if flow.stable:
        full, wanted = jnp.asarray(False), jnp.asarray(1 + GUARD)
    else:
        full = may_grow & ((count > flow.k) | (flow.rows > 0) & (wanted > flow.rows))
    status = jnp.where(lost, Status.LOST, jnp.where(full, Status.FULL, Status.FINE))
    if flow.stable:
        status = jnp.where(found.values[0] > STIFF * c, Status.STIFF, status)
    status = jnp.where(jnp.isfinite(found.values[0]), status, Status.NOT_FINITE)
    # The others are let go; `central_run` probes for what is lost with them. A product takes CHUNK rows in any case.
    return status, jnp.minimum(-(-wanted // CHUNK) * CHUNK, max(flow.rows, 1))


def _merged(critical: jax.Array, values: jax.Array, count: jax.Array) -> jax.Array:
    """Return the values with the first `count` of them replaced, decreasing."""
    longer = jnp.zeros_like(values).at[: len(critical)].set(critical)
    return -jnp.sort(-jnp.where(jnp.arange(len(values)) < count, longer, values))


def _cross(
    flow: Flow, f: Any, clock: Clock, state: State, records: Records, found: Tracked, plan: tuple, active: jax.Array
) -> tuple:
    """Cross one interval; return the state at its end and the records."""
    k, values, length = flow.k, found.values, 1 / clock.substeps
    (many, count), parts = plan, divisions(flow, values[0], clock.substeps)
    beyond = count > k
    frozen, hessian = freeze(flow, f, state.at, values[:k], found.rows[:k], jnp.minimum(count, k), length)
    rates = jnp.where(count > 0, 0.0, _rates(state, values))

    def one(i, carry):
        at, hessian, before, X, error, sound, records = carry
        position = state.position + i
        slot, phase = position // clock.apart - clock.base, position % clock.apart
        there, hessian, met = substep(flow, f, frozen, at, hessian, before, length, parts)
        X = jnp.where(phase == 0, 0.0, X) + jnp.where(phase < clock.substeps, met.X * length, 0.0)
        error = jnp.maximum(jnp.where(phase == 0, 0.0, error), met.error)
        shown = _merged(met.eigenvalues, values + i * rates, frozen.count)[:k]
        point = Records(at.w, at.m, at.nu, met.loss, shown, found.residual[:k], X, error, beyond, True)
        target = jnp.where(phase == 0, slot, len(records.loss))  # beyond the last slot nothing is written
        new = jax.tree.map(lambda every, this: every.at[target].set(this, mode="drop"), records, point)
        new = new._replace(X=new.X.at[slot].set(X), error=new.error.at[slot].set(error))
        return there, hessian, met.X, X, error, sound & jnp.isfinite(met.loss), new

    start = (state.at, hessian, jnp.zeros_like(state.X), state.X, state.error, jnp.asarray(True), records)
    at, hessian, _, X, error, sound, records = jax.lax.fori_loop(0, many, one, start)
    sound &= jnp.isfinite(at.w).all()
    status = jnp.where(sound, jnp.where(error <= UNSOLVED, Status.FINE, Status.NO_BALANCE), Status.NOT_FINITE)
    predicted = predicted_eigenvalues(flow, frozen, at, hessian)
    predicted = _merged(predicted, values + many * rates, frozen.count)
    rows = found.rows if flow.rows else state.rows
    done = State(at, rows, active, many, values, predicted, X, error, state.position + many, status)
    # Where it fails the interval is tried again as a single substep.
    failed = state._replace(interval=0 * many, status=jnp.where(many > 1, Status.FINE, status))
    return jax.tree.map(partial(jnp.where, status == Status.FINE), done, failed), records


@partial(jax.jit, static_argnums=(0, 1))
@fast_convolutions
def advance(
    flow: Flow, slots: int, theta: Any, state: State, until: Any, clock: Clock, iterations: Any, may_grow: Any
) -> tuple[State, Records]:
    """Go on until a position, or the end of the interval that holds it; return what was met on the way.

    Args:
        flow: what does not change.
        slots: of the records; the first is that of the last record at or before the state's position.
        theta: params, for their structure.
        state: where to begin; its status is ignored.
        until: position.
        clock: how positions are counted.
        iterations: of the eigenvectors, at most.
        may_grow: whether `Status.FULL` helps.
    """
    f = vector_loss(flow, theta)
    clock = clock._replace(base=state.position // clock.apart)

    def unfinished(carry):
        state, _ = carry
        return (state.position < until) & (state.status == Status.FINE)

    def interval(carry):
        state, records = carry
        found = _eigenpairs(flow, theta, state, iterations)
        plan = _plan(flow, clock, state, found.values)
        status, active = _judge(flow, found, plan[1], may_grow)
        return jax.lax.cond(
            status == Status.FINE,
            lambda: _cross(flow, f, clock, state, records, found, plan, active),
            lambda: (state._replace(status=status), records),
        )

    k, moments = flow.k, (jnp.zeros((slots, part.size)) for part in state.at[:3])
    rows = (jnp.zeros((slots, *shape)) for shape in ((), (k,), (k,), (k, k), ()))
    records = Records(*moments, *rows, *(jnp.zeros(slots, bool) for _ in range(2)))
    state, records = jax.lax.while_loop(unfinished, interval, (state._replace(status=jnp.asarray(0)), records))
    # Not weakly typed, as it came: else the next call is compiled anew.
    return state._replace(status=state.status.astype(np.int64)), records


@partial(jax.jit, static_argnums=0)
def probe_at(flow: Flow, theta: Any, state: State, start: Any) -> tuple[jax.Array, jax.Array]:
    """Return the largest eigenvalue found beside the tracked ones, and its vector; see `probe`."""
    return probe(operator(flow, theta, state.at), state.rows, start)
