"""The central flow: continuous time at the edge of stability.

A step that is too large for the curvature makes the iterates oscillate, theta_k = w_k + delta_k, along the
eigenvectors U whose eigenvalue stands at the bound c of the method (2 for gradient descent; see `precondition`). The
oscillation is no error that a flow may leave out: averaged over it, the gradient also points towards smaller curvature,

    E[grad f(w + delta)] = g(w) + (1/2) grad <Sigma, H(w)>,        Sigma = E[delta delta^T] = U X U^T,

and that is what holds the curvature at the bound. The central flow follows the average w, time counted in updates, with
the one covariance X under which the curvature does not cross the bound, and feels nothing where it is below:

    w'  = -P^{-1} [ g + (1/2) sum_ij X_ij grad <u_i, H u_j> ]
    nu' = ((1-b2)/b2) [ g^2 + c^2 diag(P Sigma P) - nu ]                 H U = c P U at the edge; nu as it is used
    0 <= X,    0 <= M = A + B[X],    <X, M> = 0                          M: the slack c - U^T H U a step ahead

with H U = P U Lambda, U^T P U = 1. A is the slack under the stable flow (X = 0) and B the effect of X upon it. The loss
of the iterates is, on average, f + <H, Sigma>/2 = f + (c/2) tr X.

For gradient descent, scalar RMSProp and RMSProp these are the equations of Cohen et al. 2025. For momentum and Adam
they are ours, by the same average. Where theta_{k+1} = theta_k - P^{-1} m_{k+1}, the mean of m is an average of
E[grad f(w + delta)] over the last 1/(1-b) updates. Its first part, the gradient, keeps that memory; its second, the
oscillation's, changes slowly and acts at once:

    w'  = -P^{-1} [ m + (1/2) sum_ij X_ij grad <u_i, H u_j> ]
    m'  = r (g - m),      r = -log b,      m(0) = (1 - r b/(1-b)) g(theta_0);      Adam: m/m(t) of a constant gradient

with the bound c = (2+2b)/(1-b). r matches the decay of m from update to update, and m(0) the way that is lost while m
fills from zero, b/(1-b) P^{-1} g. The lecture's order is one update later, m(0) = (1 - r/(1-b)) g, and its bound is
c = 1; it oscillates by turning, and a turning delta has a covariance just as well.

Of any other transformation P, the memories and what nu makes of a covariance are read off the update, see
`averaged_update`: of AdamW (w' has the decay too), NAdam, Nesterov with a constant b, AdaBelief, Adan, and of chains.

Source: Cohen, Damian, Talwalkar, Kolter & Lee 2025, Understanding optimization in deep learning with central flows.
"""

import warnings
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from inercia.core import check, snapshot, tree
from inercia.core.method import Params
from inercia.core.path import Path
from inercia.core.precision import in_float64
from inercia.edge_of_stability.acting_clips import first_acting_clip
from inercia.edge_of_stability.averaged_method import Moment, in_closed_form
from inercia.edge_of_stability.averaged_reading import read_update
from inercia.edge_of_stability.central_loop import TOL, Clock, Status
from inercia.edge_of_stability.central_run import Run, run_central
from inercia.edge_of_stability.central_step import Flow
from inercia.edge_of_stability.eigenpairs import CurvatureError, Spectrum, check_k
from inercia.flows.iteration import diverged_at
from inercia.flows.smoothness import nonsmooth_in_loss

#: The most eigenvalues that may be critical at once.
MOST = 32


def central(
    method: Any,
    loss: Any,
    params: Params,
    steps: int,
    *,
    k: int | None = None,
    substeps: int = 4,
    every: int = 1,
    stable: bool = False,
    progress: bool = False,
    checkpoint: Any = None,
) -> Path:
    """Integrate the central flow of a method, which goes on where the plain flow leaves the iterates.

    Args:
        method: any optax transformation that acts on each parameter on its own, and linearly in gradient and memory
            once its second moments are frozen: preconditioner, bound and memory are read off its update, clips as idle.
            Of sgd, momentum, rmsprop, scalar_rmsprop and adam of inercia they are in closed form. The learning rate may
            be a schedule.
        loss: params -> scalar, three times differentiable; for data that do not fit at once, `in_chunks`.
        params: where the method starts; computed in float64 whatever its precision.
        steps: length in updates of the method.
        k: the most eigenvalues that may be critical at once, in 1..32; by default 32, or as many as there are
            parameters. Memory and work go by the number that are: arrays for 8 at first, then for 16 and 32, at the
            price of another compilation each. The stable flow follows one.
        substeps: explicit Euler steps per update; more where the stable flow is stiff.
        every: updates between recorded points; must divide steps.
        stable: leave the oscillation out (X = 0): the stable flow, for comparison. It is given up, with `diverged` set
            and nan from there, where its curvature exceeds the bound `STIFF` times.

        progress: show a bar, with the time left.
        checkpoint: file (.npz) in which the run is kept, at least every ten seconds and when it stops, and from which
            the same call goes on as if it had not stopped.

    Returns:
        Path: 1 + steps / every points. `loss` is f(w), `state` a `CentralState`; `observed` has "sharpness" (n, k),
        eigenvalues of P^{-1} H, comparable with the bound, nan where fewer are tracked; "residual" (n, k) of their
        eigenvectors, relative to the largest; "X" (n, k, k), the mean over the update that follows; "mean_loss" (n,),
        the predicted mean loss of the iterates; "bound" (n,). Here k is 8, 16 or 32, at most the argument; between two
        computations of the eigenvectors, at most four updates apart, critical eigenvalues are carried linearly.

    Raises:
        ValueError: a method without a central flow, with the reason (sign methods, scaling by norms, running maxima,
            weight decay inside the gradient, decays that change in time, parameters with different bounds); k out of
            range, every that does not divide steps, a loss that is not one real number, a checkpoint of another run.
        TypeError: integer or complex params.
        CurvatureError: a curvature that is not finite, eigenvectors that did not converge, or an X that could not be
            found, with the time; its `path` holds the points before.

    Warns:
        InerciaWarning: a loss that is not smooth, since the central flow needs its third derivatives; more
            than k critical eigenvalues; a clip that acts on the gradients along the flow.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> valley = lambda x: (1 + x[0] ** 2) * x[1] ** 2 / 2 + 0.002 * (x[0] - 3) ** 2  # its walls close in
        >>> method, start = inercia.sgd(0.5), jnp.array([1.7, 0.1])
        >>> flow = inercia.central(method, valley, start, 400, k=2)
        >>> path = inercia.iterate(method, valley, start, 400)
        >>> round(float(flow.params[-1, 0]), 2), round(float(path.params[200:, 0].mean()), 2)  # 1 + x^2 = 2 / 0.5
        (1.73, 1.73)
    """
    steps, every = check.recorded(steps, every)
    check.optimizer(method)
    if not check.is_concrete(params):
        raise TypeError("central cannot be traced by jit, vmap or grad: call it with numbers, once for each start.")
    dt = float(getattr(method, "dt", 1.0))
    substeps = check.integer("substeps", substeps)
    if k is not None and check.integer("k", k) > MOST:
        raise ValueError(f"k must be at most {MOST}, but it is {k}.")
    check.some_params(params)
    check.real("params", params)
    with jax.enable_x64(True):
        theta = tree.float64(params)
        loss = in_float64(loss, theta)
        check.loss_of(loss, theta)
        size = sum(leaf.size for leaf in jax.tree.leaves(theta))
        check_k(k or 1, size)
        _warn_of_nonsmooth_loss(loss, theta)
        read = None if in_closed_form(method) is not None else read_update(method, theta)
        flow = Flow(method, loss, stable, read=read)
        # One update beyond the last point, for its X.
        clock = Clock(substeps, every, (steps + 1) * substeps)
        most = min(k or MOST, size)
        settings = {"flow": "stable" if stable else "central", "k": most, "substeps": substeps, "every": every}
        kept = snapshot.of_run(checkpoint, method, loss, theta, **settings, steps=steps)
        run = run_central(flow, theta, most, clock, progress=progress, checkpoint=kept)
        path = _path(run, theta, every * dt)
        acting = None if read is None else first_acting_clip(read, loss, theta, _moments(run, every))
    if run.stand.status != Status.FINE and not stable:
        raise _failed(run, path, substeps, dt)
    _warn_of_more_than(most, run, path.times)
    if acting is not None:
        warnings.warn(_CLIPPED.format(acting * dt), check.InerciaWarning, stacklevel=2)
    return path


class CentralState(NamedTuple):
    """Moments along a central flow, leading axis = time; None where the method has none."""

    m: Params  # of the gradient, like params; a tuple of such trees where the method has several
    nu: Params  # of its square, likewise; (n,) where the method has one for all


def _path(run: Run, theta: Params, apart: float) -> Path:
    """Return the points of a run; of a stable flow that was stopped all, with nan from there."""
    flow = run.stand.flow
    own = flow.averaged
    count = len(run.records.loss) if flow.stable else run.complete
    points = tree.row(run.records, slice(count))
    trees = partial(tree.of_vectors, like=theta)
    size = points.w.shape[1]

    def moments(flat, many):
        found = tuple(trees(flat[:, n * size : (n + 1) * size]) for n in range(many))
        return None if not many else found[0] if many == 1 else found

    m, nu = moments(points.m, len(own.memory)), points.nu[:, 0] if own.scalar else moments(points.nu, own.moments)
    rebuilt, state = tree.to_numpy((trees(points.w), CentralState(m, nu)))
    times = apart * np.arange(count)
    observed = {
        "sharpness": points.values,
        "residual": points.residual,
        "X": points.X,
        "mean_loss": points.loss + 0.5 * own.bound * np.trace(points.X, axis1=1, axis2=2),
        "bound": np.full(count, own.bound),
    }
    return Path(
        times,
        rebuilt,
        state,
        points.loss,
        diverged_at(times, (), (), points.loss) if count else None,
        observed=observed,
    )


_WHY = {
    Status.NOT_FINITE: "the loss or its curvature is not finite: take a smaller learning rate, or start elsewhere",
    Status.LOST: "an eigenvector did not converge: take more substeps, or a larger k",
    Status.NO_BALANCE: "no oscillation holds the curvature at its bound: take more substeps, or a lower learning rate",
}


_CLIPPED = (
    "the update is not linear at time {:g}, where a clip acts: the central flow goes on as if it did not; take a "
    "larger clip, or a smaller learning rate."
)


def _moments(run: Run, every: int) -> Moment:
    """Return the points of a run that were met, times in updates."""
    w, m, nu = (part[: run.complete] for part in run.records[:3])
    times: Any = np.arange(float(run.complete)) * every
    return Moment(w, m, nu, times)


def _failed(run: Run, path: Path, substeps: int, dt: float) -> CurvatureError:
    stand = run.stand
    found = Spectrum(
        np.asarray(stand.state.predicted), None, np.full(len(stand.state.predicted), TOL), stand.iterations
    )
    time = stand.position / substeps * dt
    return CurvatureError(
        f"the central flow ended at time {time:g}: {_WHY[stand.status]}. The error's path holds the {len(path)} points "
        "before.",
        found,
        path,
    )


def _warn_of_more_than(most: int, run: Run, times: np.ndarray) -> None:
    beyond = run.records.beyond[: len(times)]
    if beyond.any():
        warnings.warn(
            f"more than {most} eigenvalues are critical at time {times[np.argmax(beyond)]:g}, and {most} take part in "
            "the oscillation: take a larger k.",
            check.InerciaWarning,
            stacklevel=3,
        )


def _warn_of_nonsmooth_loss(loss: Any, theta: Params) -> None:
    found = nonsmooth_in_loss(loss, theta)
    if found:
        warnings.warn(
            f"the loss is not smooth ({', '.join(found)}): its third derivatives, by which the central flow turns, "
            "vanish almost everywhere; take a smooth activation, as swish or tanh.",
            check.InerciaWarning,
            stacklevel=3,
        )
