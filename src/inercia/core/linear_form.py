"""The linear recursion that a method is, once its second moments stand still.

    kind             recursion, P the preconditioner                           form of the rate a
    GD               theta+ = theta - a P^{-1} g
    semi-implicit    m+ = b m + (1-b) g,   theta+ = theta - a P^{-1} m+         averaged
    explicit         theta+ = theta - a P^{-1} m (the old one),   m+ as above   averaged
    heavy ball       v+ = b v + g,   theta+ = theta - a P^{-1} v+               sum
    nesterov         v+ = b v + g,   theta+ = theta - a P^{-1} (b v+ + g)       sum

P = 1, or for methods that divide by the root of a second moment nu+ = b2 nu + (1-b2) |g|^2,

    P = sqrt(nu + eps_root) + eps,      nu divided by 1 - b2^n, n updates made, where it is corrected.

Every method that is one of these says so at its factory; `stability`, `modified`, `preconditioner`, `diffuse` and
`central` go by that alone, and by no method's name.
"""

from typing import Any, NamedTuple

from inercia.core.method import Method, Number, Schedule


class SecondMoment(NamedTuple):
    """How a method divides by the root of its second moment."""

    decay: Any  # b2 per update; None for a sum, which has none
    corrected: bool  # whether nu is divided by 1 - b2^n
    inside: Number  # eps added inside the root
    outside: Number  # eps added outside
    scalar: bool = False  # whether nu is one number, of all of the gradient
    centered: bool = False  # whether |m|^2 is taken from nu


class LinearForm(NamedTuple):
    """A method's recursion per update, refinement by dt included."""

    kind: str  # "GD", "semi-implicit", "explicit", "heavy ball" or "nesterov"
    learning_rate: Any  # a; for a schedule, count of updates -> a
    beta: Any = 0.0  # b; where it is a schedule, the schedule
    second_moment: SecondMoment | None = None

    @property
    def constant(self) -> bool:
        """Whether neither a nor b nor b2 is a schedule."""
        decay = None if self.second_moment is None else self.second_moment.decay
        return not any(callable(value) for value in (self.learning_rate, self.beta, decay))

    @property
    def averaged_rate(self) -> Any:
        """The rate of the averaged form: a, or a / (1-b) where the memory is a sum."""
        return self.learning_rate / (1 - self.beta) if self.kind in ("heavy ball", "nesterov") else self.learning_rate


def per_update(value: Number | Schedule, dt: Number, factor: Number = 1.0) -> Any:
    """Return a hyperparameter times `factor`, as a function of the count of updates where it is a schedule."""
    return (lambda count: value(count * dt) * factor) if callable(value) else value * factor


def linear_form(method: Any) -> LinearForm | None:
    """Return the recursion that a method is, or None where it is none of these.

    Example:
        >>> import inercia
        >>> linear_form(inercia.momentum(0.1, 0.5))[:3], linear_form(inercia.lion(0.1))
        (('semi-implicit', 0.1, 0.5), None)
    """
    form = getattr(method.factory, "form", None) if isinstance(method, Method) else None
    return None if form is None else form(**method.hyper)
