"""Cases of `integrate` beside diffrax: another solver, written by others, on the same vector field.

`flow_rules` holds another field beside ours and leaves solving to SciPy, as we do; here it is the other way round.
"""

from functools import partial
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import inercia as ia
from oracles import losses
from oracles.hunt_dynamics import PROGRAMS, agree, fixed_data, fixed_loss, program, start
from oracles.methods import Kind, carried, state_of

SOLVERS = ("DOP853", "RK45", "Radau", "LSODA", "auto")


@partial(jax.jit, static_argnums=(0, 1))
def _solved(kind: Kind, loss: Any, params: Any, state: Any, times: Any, jumps: Any) -> Any:
    def field(t, y, _):
        params, state = y
        inner = state["inner"]
        state = state | {"inner": inner._replace(count=t)}
        return carried(kind).flow(jax.grad(loss)(params), state, params)

    steps = diffrax.ClipStepSizeController(diffrax.PIDController(rtol=1e-10, atol=1e-12), jump_ts=jumps)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Dopri8(),
        times[0],
        times[-1],
        None,
        (params, jax.tree.map(lambda leaf: jnp.asarray(leaf, float), state)),
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=steps,
        max_steps=200_000,
    )
    return solution.ys[0]


def diffrax_flow(rng: np.random.Generator) -> str:
    """The flow of a random method by one of our solvers, beside diffrax's Dopri8."""
    number = int(rng.integers(PROGRAMS["integrate"]))
    kind, loss = program("integrate", number)
    n, h, solver = losses.size(kind.tree), kind.numbers(rng), str(rng.choice(SOLVERS))
    h |= {name: max(h[name], 1e-3) for name in ("eps", "eps_root") if name in h}  # a layer of width eps is stiff
    data, z = fixed_data(number, loss, n), start(rng, n, np.float64)
    times = np.concatenate([[0.0], np.sort(rng.uniform(0.1, 20, 4))])
    params, f = losses.filled(kind.tree, z), fixed_loss(number, loss, n)
    breaks = [h["until"]] if kind.schedule == "piecewise" else [1.0]
    with jax.enable_x64(True):
        state = state_of(kind, h, params)
        theirs = _solved(kind, f, params, state, jnp.asarray(times), jnp.asarray(breaks))
    flow = ia.integrate(carried(kind), f, params, times, state=state, breakpoints=breaks, solver=solver)
    told = f"{kind} {h} {loss} {solver} times {times.tolist()}"
    agree(losses.rows(flow.params, len(flow)), losses.rows(theirs, len(flow)), 0, 1e-6, f"{told} params")
    values = [losses.by_hand(loss, z, *data)[0] for z in losses.rows(flow.params, len(flow))]
    agree(flow.loss, values, 0, 1e-9, f"{told} loss")
    return told
