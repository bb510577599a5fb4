"""The sharpness along a run: the largest eigenvalues of the preconditioned Hessian at every recorded point.

    H u = lambda P u       P of the update made at the point; at the edge of stability lambda_1 stands at the bound

The eigenvectors of one point start the search at the next.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from inercia.core import check
from inercia.core.optimizer_state import require_own
from inercia.core.partial_loss import one_of_equals
from inercia.core.precision import in_float64
from inercia.core.values import ByValue
from inercia.edge_of_stability.eigenpairs import (
    FOLLOWED,
    CurvatureError,
    Spectrum,
    check_k,
    dense_eigenpairs,
    first_rows,
)
from inercia.edge_of_stability.eigenvector_tracking import GUARD, track
from inercia.edge_of_stability.frozen_update import step_of
from inercia.edge_of_stability.hessian import hessian_on_rows
from inercia.edge_of_stability.preconditioning import has_rule, preconditioner
from inercia.edge_of_stability.state_reading import reading
from inercia.flows.iteration import Observer


def sharpness(method: Any, loss: Any, k: int = 1, *, tol: float = 1e-3, iterations: int = 300) -> Observer:
    """Make an observer of the k largest eigenvalues of the preconditioned Hessian along a run of a method.

    For gradient descent they are learning rate times sharpness. Where the largest reaches `threshold(method).bound`, 2
    for gradient descent, the run is at its edge of stability. P is that of the update made at the point; of what steps
    once in k updates, of the step that k updates with the point's gradient make. The vectors of one point start the
    search at the next.

    Args:
        method: the one that is iterated: an inercia method or an optax transformation that has a `preconditioner`.
        loss: params -> scalar, the one that is iterated; for data that do not fit at once, `in_chunks`.
        k: how many.
        tol: largest residual, relative to the largest eigenvalue. An eigenvalue's error is at most as large, and, apart
            from others, about its square.
        iterations: at most, at a point.

    Returns:
        For `iterate(..., observe={"sharpness": ...})`, where it gives (points, k) float64.

    Raises:
        ValueError: from `iterate`, a method that has no preconditioner, with the reason, or k that is too large.
        CurvatureError: from `iterate`, eigenvalues that are not finite or did not converge to tol, with the time.

    Example:
        >>> import inercia
        >>> method, loss = inercia.sgd(0.5), inercia.quadratic(np.diag([1.0, 3.0]))
        >>> watch = {"sharpness": inercia.sharpness(method, loss)}
        >>> inercia.iterate(method, loss, jnp.ones(2), 2, observe=watch).observed["sharpness"].round(6).tolist()
        [[1.5], [1.5], [1.5]]
    """
    k, iterations = check.integer("k", k), check.integer("iterations", iterations)
    check.positive("tol", tol)
    check.optimizer(method)

    here, loss = partial(_root, method), one_of_equals(loss)

    def init(params, state):
        check.real("params", params)
        require_own(method, params, state)
        if not has_rule(method):
            reading(method, params)  # refuses, before `here` makes an update that may fail
        root = here(in_float64(loss, params), params, state)
        check_k(k, root.size)
        return (
            first_rows(in_float64(loss, params), params, root, k + GUARD, iterations)
            if root.size >= FOLLOWED * k
            else ()
        )

    def observe(params, state, memory):
        f = in_float64(loss, params)
        root = here(f, params, state)
        if root.size < FOLLOWED * k:
            values, _, _ = dense_eigenpairs(f, params, root, k)
            return (values, jnp.zeros_like(values)), ()
        allowed = jnp.where(jnp.arange(k + GUARD) < k, tol, jnp.inf)
        found = track(hessian_on_rows(f, params, root), memory, lambda _: allowed, iterations)
        return (found.values[:k], found.residual[:k]), found.rows

    def finish(times, seen):
        values, residual = seen
        bad = ~np.isfinite(values).all(axis=1) | ~(residual <= tol).all(axis=1)
        if bad.any():
            n = int(np.argmax(bad))
            why = (
                f"converged to {residual[n].max():.1e} only, and tol = {tol:g} was asked: allow more iterations"
                if np.isfinite(values[n]).all()
                else "not finite"
            )
            found = Spectrum(values[n], None, residual[n], iterations)
            raise CurvatureError(f"at time {times[n]:g} the eigenvalues of the Hessian are {why}.", found)
        return values

    decided_by = (method, loss, k, tol, iterations)  # equal observers share a program
    return Observer(*(ByValue(each, decided_by) for each in (init, observe, finish)))


@partial(jax.jit, static_argnums=(0, 1))
def _root(method, loss, params, state):
    """Return the square root of P as a vector: of the update made here, or of the k that make a step."""
    period = 1 if has_rule(method) else reading(method, params).period
    after = step_of(method, period, jax.grad(loss)(params), state, params)[1]
    return jnp.sqrt(ravel_pytree(preconditioner(method, after, params))[0])
