"""The explorer in Jupyter and marimo, also with the reader's own loss; what is chosen there comes back as a method."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from inercia.core.method import Method
from inercia.explorer.page import ROOT, page
from inercia.explorer.sampled_loss import sampled
from inercia.methods.adam import adam
from inercia.methods.momentum import momentum
from inercia.methods.nesterov import nesterov
from inercia.methods.rmsprop import rmsprop
from inercia.methods.sgd import sgd


def explore(
    loss: Callable | None = None, *, bounds: Any = ((-2, 2), (-2, 2)), start: Any = None, height: int = 900
) -> Any:
    """Show the explorer in a notebook, with a loss of your own beside the page's.

    Args:
        loss: params, (2,) -> scalar, smooth; sampled with its derivatives on a grid, see `sampled_loss`. None for the
            page's losses alone.
        bounds: ((x from, x to), (y from, y to)) of what is drawn of the loss.
        start: (2,), where both paths begin.
        height: of the frame, in pixels.

    Returns:
        A widget (anywidget). `widget.settings` holds what is chosen on the page, as numbers; `widget.method` is the
        method with these settings, ready for `iterate` and `integrate`.

    Raises:
        ImportError: anywidget is missing (the extra `notebook`).
        ValueError: bounds, a start or a loss that cannot be sampled; a height that is not above 0.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> widget = inercia.explore(lambda p: jnp.sum(jnp.sin(p) ** 2), start=[1.2, 0.5])
        >>> widget.settings = {"method": "lecture", "a": 0.5, "b": 0.75, "b2": 0.99, "eps": 1e-08, "dt": 1.0}
        >>> widget.method
        momentum(learning_rate=0.5, beta=0.75, scheme='explicit')
    """
    kind = _widget()
    if height <= 0:
        raise ValueError(f"height must be above 0 pixels, but it is {height}.")
    own = None if loss is None else sampled(loss, bounds, start)
    return kind(page=page(None if own is None else own.as_json()), height=int(height))


def method_of(settings: dict[str, Any]) -> Method:
    """Return the method that the page's settings stand for.

    Raises:
        ValueError: settings of no method, as before the page has told its own.
    """
    a, b, b2, eps, dt = (float(settings.get(name, np.nan)) for name in ("a", "b", "b2", "eps", "dt"))
    makers: dict[str, Callable[[], Method]] = {
        "gd": lambda: sgd(a, dt=dt),
        "momentum": lambda: momentum(a, b, dt=dt),
        "lecture": lambda: momentum(a, b, scheme="explicit", dt=dt),
        "nesterov": lambda: sgd(a, b, nesterov=True, dt=dt),
        "nesterov-k": lambda: nesterov(a, dt=dt),
        "rmsprop": lambda: rmsprop(a, b2, eps, dt=dt),
        "adam": lambda: adam(a, b, b2, eps, dt=dt),
    }
    if settings.get("method") not in makers:
        raise ValueError(f"settings must name one of the page's methods, but they are {settings}: is it on show yet?")
    return makers[settings["method"]]()


@cache
def _widget() -> Any:
    try:
        import anywidget  # noqa: PLC0415  an extra
        import traitlets  # noqa: PLC0415  comes with it
    except ImportError:
        raise ImportError(
            "explore shows the page in a notebook by anywidget: pip install 'inercia[notebook]', or open the page by "
            "the command inercia explore."
        ) from None

    class Explorer(anywidget.AnyWidget):
        """The page in a frame."""

        _esm = (ROOT / "widget.mjs").read_text(encoding="utf-8")
        page = traitlets.Unicode().tag(sync=True)
        height = traitlets.Int().tag(sync=True)
        settings = traitlets.Dict().tag(sync=True)

        @property
        def method(self) -> Method:
            """The method that is chosen on the page."""
            return method_of(self.settings)

    return Explorer
