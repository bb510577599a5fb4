"""The parts of JAX's programs, by the names that `jax.extend.core` gives them; loaded when one is first looked at."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

__all__ = ["ClosedJaxpr", "Jaxpr", "Literal", "jaxpr_as_fun"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from jax.extend import core  # noqa: PLC0415  loads all of jax.extend

    globals().update({each: getattr(core, each) for each in __all__})
    return globals()[name]
