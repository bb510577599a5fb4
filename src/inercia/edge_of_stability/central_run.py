"""A central flow from its start to its end: the compiled loop is left, helped and entered again.

    more eigenvalues near the bound than the arrays hold     larger arrays, another program: 8, 16, 32 eigenvalues
    an eigenvector that did not converge                     random rows beside the tracked ones, more iterations
    after the first substep, then every `PROBED` updates     a Lanczos run looks for an eigenvalue that nobody tracks:
                                                             one near the bound is tracked from there on, and the next
                                                             probe follows at once, for it may have copies; one that
                                                             has crossed it sends the flow back to the probe before

Where nothing helps, the points up to there are returned with the reason. Intervals do not depend on where the loop is
left, so that a run that is watched, saved or resumed gives the same numbers to the last bit.
"""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core.progress import bar
from inercia.edge_of_stability.central_loop import (
    ITERATIONS,
    LONGEST,
    NEAR,
    OVERSHOOT,
    Clock,
    Records,
    State,
    Status,
    advance,
    probe_at,
)
from inercia.edge_of_stability.central_step import Flow, first_moment
from inercia.edge_of_stability.eigenpairs import FOLLOWED
from inercia.edge_of_stability.eigenvector_tracking import GUARD, random_rows

#: Eigenvalues that the first arrays hold; they double.
FIRST = 8
#: Updates between probes.
PROBED = 32
#: Numbers in the records of one compiled call, and the fewest and most points of it.
_NUMBERS, _FEWEST, _MOST = 2**20, 2 * LONGEST, 256
#: Times that a run goes back to the same place.
_RETURNS = 3
#: Seconds that a compiled call should take, and between two saved files.
_CALL, _SAVED = 1.0, 10.0


class Stand(NamedTuple):
    """Where a run stands."""

    flow: Flow  # with the arrays' sizes
    state: State
    iterations: int = ITERATIONS  # allowed for the eigenvectors
    helped: int = 0  # times at this position
    due: int = 1  # position of the next probe

    @property
    def position(self) -> int:
        """Substeps made."""
        return int(self.state.position)

    @property
    def status(self) -> Status:
        """Why the loop was left."""
        return Status(int(self.state.status))


class Run(NamedTuple):
    """What was computed."""

    stand: Stand  # in the end
    records: Records  # leading axis = time; `values` and `residual` nan where nothing was tracked
    complete: int  # points that were met, with the update that follows them


def sized(flow: Flow, k: int, size: int) -> Flow:
    """Return the flow with arrays for k critical eigenvalues of a Hessian of this size."""
    k = 1 if flow.stable else k
    return flow._replace(k=k, rows=0 if size < FOLLOWED * k else k + max(GUARD, min(k, FIRST), k // 2))


def run_central(
    flow: Flow, theta: Any, most: int, clock: Clock, *, progress: bool = False, checkpoint: Any = None
) -> Run:
    """Integrate a flow to its end, or to where nothing helps: then the status in the end is not `Status.FINE`.

    Args:
        flow: what does not change; the sizes of the arrays are set here.
        theta: params, float64.
        most: eigenvalues that may be critical at once.
        clock: how positions are counted, as integers.
        progress: whether to show a bar.
        checkpoint: (load, save) of arrays by name, or None.
    """
    stand = _start(flow, theta, most)
    records = _no_records(stand, (clock.total - clock.substeps) // clock.apart + 1)
    load, save = checkpoint or (lambda: None, lambda arrays: None)
    restored = load()
    if restored is not None:
        stand, records = _unpacked(restored, stand, records)
    verified, returns, saved, updates, seconds = stand, 0, time.monotonic(), 2 * LONGEST, _CALL
    total = clock.total // clock.substeps - 1
    with bar(progress, total=total, initial=min(stand.position // clock.substeps, total), unit="update") as shown:
        try:
            while stand.position < clock.total:
                updates = int(np.clip(updates * min(_CALL / seconds, 2), 1, 2**20))
                started = time.monotonic()
                until = min(clock.total, stand.due, stand.position + updates * clock.substeps)
                stand, records = _advanced(stand, records, theta, most, clock, until)
                seconds = max(time.monotonic() - started, 1e-3)
                if stand.status != Status.FINE:
                    helped = _helped(stand, most)
                    if helped is None:
                        break
                    stand, records = helped, _widened(records, helped.flow.k)
                elif stand.position >= min(stand.due, clock.total):
                    stand, back = _probed(stand, verified, theta, returns, clock)
                    returns = returns + 1 if back else 0
                    verified = verified if back else stand
                    records = _widened(records, stand.flow.k)
                    if not back and time.monotonic() - saved > _SAVED:
                        save(_packed(verified, records, clock))
                        saved = time.monotonic()
                shown.update(min(stand.position // clock.substeps, total) - shown.n)
        finally:
            save(_packed(verified, records, clock))
    met = stand.position - clock.substeps  # the last position whose update is complete
    return Run(stand, records, max(0, met // clock.apart + 1) if met >= 0 else 0)


def _start(flow: Flow, theta: Any, most: int) -> Stand:
    at = first_moment(flow, theta)
    flow = sized(flow, min(most, FIRST), at.w.size)
    seen = flow.rows or min(flow.k + 1, at.w.size)  # one more shows whether k are too few
    # On the host, as all that is small here: each operation of JAX would be a program to compile.
    rows = np.linalg.qr(np.random.default_rng(0).standard_normal((at.w.size, flow.rows)))[0].T
    zero, X = np.asarray(0), np.zeros((flow.k, flow.k))
    start: Any = jax.device_put((at, rows, np.asarray(seen), zero, *(np.zeros(seen),) * 2, X, np.zeros(()), zero, zero))
    return Stand(flow, State(*start))


def _no_records(stand: Stand, points: int) -> Records:
    at, k = stand.state.at, stand.flow.k
    shapes = {"w": (at.w.size,), "m": (at.m.size,), "nu": (at.nu.size,), "loss": (), "values": (k,), "residual": (k,)}
    empty: Any = {name: np.full((points, *s), np.nan) for name, s in (shapes | {"X": (k, k), "error": ()}).items()}
    return Records(**empty, beyond=np.zeros(points, bool), written=np.zeros(points, bool))


def _widened(records: Records, k: int) -> Records:
    """Return the records with room for k eigenvalues."""
    more = k - records.values.shape[1]
    if more <= 0:
        return records
    values, residual = (
        np.pad(part, ((0, 0), (0, more)), constant_values=np.nan) for part in (records.values, records.residual)
    )
    return records._replace(values=values, residual=residual, X=np.pad(records.X, ((0, 0), (0, more), (0, more))))


def _advanced(stand: Stand, records: Records, theta: Any, most: int, clock: Clock, until: int) -> tuple:
    """Enter the loop, and write what it met into the records."""
    flow, state = stand.flow, stand.state
    slots = int(np.clip(_NUMBERS // state.at.w.size, _FEWEST, _MOST))
    base = stand.position // clock.apart
    until = min(until, (base + slots) * clock.apart - LONGEST * clock.substeps)
    may_grow = flow.k < most and not flow.stable
    state, met = advance(flow, slots, theta, state, until, clock, stand.iterations, may_grow)
    used = min((int(state.position) - 1) // clock.apart - base + 1, slots, len(records.loss) - base)
    met = jax.tree.map(lambda part: np.asarray(part)[:used], met)
    k = flow.k
    for n in np.flatnonzero(met.written):
        for kept, new in zip((*records[:4], records.beyond), (*met[:4], met.beyond), strict=True):
            kept[base + n] = new[n]
        for kept, new in ((records.values, met.values), (records.residual, met.residual)):
            kept[base + n, :k] = np.where(np.isfinite(met.values[n]), new[n], np.nan)
    if used > 0:
        records.X[base : base + used, :k, :k] = met.X
        records.error[base : base + used] = met.error
        records.written[base : base + used] |= met.written
    moved = int(state.position) > stand.position
    return stand._replace(state=state, **({"helped": 0, "iterations": ITERATIONS} if moved else {})), records


def _helped(stand: Stand, most: int) -> Stand | None:
    """Return the run with what it lacked, or None where nothing helps."""
    flow, state = stand.flow, stand.state
    if stand.status == Status.FULL:
        return _grown(stand, most)
    if stand.status == Status.LOST and stand.helped == 0:
        rows = random_rows(state.rows * (jnp.arange(flow.rows) < state.active)[:, None], stand.position)
        state = state._replace(rows=rows, active=np.asarray(flow.rows), interval=np.asarray(0))
        return stand._replace(state=state, helped=1, iterations=8 * ITERATIONS)
    if stand.status == Status.LOST and flow.k < most and not flow.stable:
        return _grown(stand, most)._replace(iterations=8 * ITERATIONS)
    return None


def _grown(stand: Stand, most: int) -> Stand:
    """Return the run with arrays for twice as many eigenvalues, the new rows random."""
    flow, state = stand.flow, stand.state
    flow = sized(flow, min(2 * flow.k, most), state.at.w.size)
    seen, more = flow.rows or min(flow.k + 1, state.at.w.size), flow.k - stand.flow.k
    rows = jnp.zeros((flow.rows, state.at.w.size))
    rows = random_rows(rows.at[: len(state.rows)].set(state.rows) if flow.rows else rows, stand.position)
    found, predicted = (
        jnp.pad(part, (0, seen - len(part)), constant_values=-jnp.inf) for part in (state.found, state.predicted)
    )
    X = jnp.pad(state.X, ((0, more), (0, more)))
    state = state._replace(
        rows=rows, active=np.asarray(seen), interval=np.asarray(0), found=found, predicted=predicted, X=X
    )
    return stand._replace(flow=flow, state=state)


def _probed(stand: Stand, verified: Stand, theta: Any, returns: int, clock: Clock) -> tuple[Stand, bool]:
    """Look for an eigenvalue that is not tracked; return where to go on, and whether that is a place before."""
    flow, c = stand.flow, stand.flow.bound
    stand = stand._replace(due=stand.position + PROBED * clock.substeps)
    if not flow.rows or flow.stable:
        return stand, False
    start = np.random.default_rng(stand.position).standard_normal(stand.state.at.w.size)
    value, vector = probe_at(flow, theta, stand.state, start)
    if not float(value) > NEAR * c:
        return stand, False
    back = float(value) > OVERSHOOT * c and returns < _RETURNS
    origin = verified if back else stand
    if origin.flow.k < flow.k:
        origin = origin._replace(flow=flow, state=_grown(origin, flow.k).state)
    state = origin.state
    last = jnp.minimum(state.active, flow.rows - 1)
    rows = _with_row(state.rows, vector, last)
    state = state._replace(rows=rows, active=last + 1, interval=np.asarray(0))
    return origin._replace(state=state, due=origin.position + 1), back


@jax.jit
def _with_row(rows: jax.Array, vector: jax.Array, n: Any) -> jax.Array:
    """Return the rows with the vector, made orthogonal to the others, as row n."""
    rows = rows.at[n].set(0.0)
    for _ in range(2):
        vector = vector - (rows @ vector) @ rows
        vector = vector / jnp.linalg.norm(vector)
    return rows.at[n].set(vector)


def _packed(stand: Stand, records: Records, clock: Clock) -> dict[str, Any]:
    """Return what a file holds: the state, and the points met."""
    points = -(-stand.position // clock.apart)
    state = {f"state{n}": np.asarray(leaf) for n, leaf in enumerate(jax.tree.leaves(stand.state))}
    kept = {f"record{n}": part[:points] for n, part in enumerate(records)}
    return {
        **state,
        **kept,
        "k": stand.flow.k,
        "iterations": stand.iterations,
        "helped": stand.helped,
        "due": stand.due,
    }


def _unpacked(arrays: dict[str, np.ndarray], stand: Stand, records: Records) -> tuple[Stand, Records]:
    k, treedef = int(arrays["k"]), jax.tree.structure(stand.state)
    state = jax.tree.unflatten(treedef, [jnp.asarray(arrays[f"state{n}"]) for n in range(treedef.num_leaves)])
    flow = sized(stand.flow, k, state.at.w.size)
    records = _widened(records, k)
    for n, part in enumerate(records):
        part[: len(arrays[f"record{n}"])] = arrays[f"record{n}"]
    return Stand(flow, state, *(int(arrays[name]) for name in ("iterations", "helped", "due"))), records
