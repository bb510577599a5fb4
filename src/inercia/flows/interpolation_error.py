"""How far a solver's polynomial between two steps is from the flow: its defect.

A solver controls the error at the ends of its steps. Near an equilibrium nothing there forbids a step that is far too
long for the polynomial between them, and DOP853, whose error estimate is a quotient, takes such steps: outputs inside
were off by 1e-5 at rtol = 1e-9. The polynomial p solves a disturbed equation, and the disturbance can be computed:

    defect = h |p'(t) - f(t, p(t))|

p has at most degree 7, so that its derivative follows, but for rounding, from its values at 8 points of the step.

Source: Enright, Continuous numerical methods for ODEs with defect control, J. Comput. Appl. Math. 125, 2000.
"""

from typing import Any

import numpy as np
from numpy.polynomial.chebyshev import Chebyshev

#: Largest defect, in units of the tolerances; steps of ordinary length have up to some tens.
MOST = 100.0
#: Nodes on [0, 1], and where the defect is looked at.
_NODES = (1 - np.cos((np.arange(8) + 0.5) * np.pi / 8)) / 2
_PLACES = np.array([0.4, 0.85])
#: Row j: the weights of the values at the nodes that give p' at place j, for h = 1.
_WEIGHTS = np.stack([Chebyshev.fit(_NODES, row, 7, domain=[0, 1]).deriv()(_PLACES) for row in np.eye(8)], axis=1)


def defect(solver: Any, polynomial: Any) -> float:
    """Return the largest defect of the polynomial of the last step, in units of atol + rtol |y|.

    Args:
        solver: one of SciPy's explicit Runge-Kutta solvers, which has made a step.
        polynomial: its `dense_output()`.
    """
    h = solver.t - solver.t_old
    values = np.asarray(polynomial(solver.t_old + h * _NODES))  # (unknowns, 8)
    largest = 0.0
    for place, weights in zip(solver.t_old + h * _PLACES, _WEIGHTS, strict=True):
        y = np.asarray(polynomial(place))
        off = (values @ weights - h * np.asarray(solver.fun(place, y))) / (solver.atol + solver.rtol * np.abs(y))
        largest = max(largest, float(np.sqrt(np.mean(off**2))))
    return largest
