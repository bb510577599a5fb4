"""A method is an optax transformation that also knows its flow, and a value.

    update(grads, state, params) -> (delta params, new state)      one iteration
    flow  (grads, state, params) -> (d params/dt,  d state/dt)     its continuous-time limit, same trees

Time is counted in iterations: one update advances it by `dt`, which is 1 for the ordinary optimizer. **Refining** a
method takes 1/dt times as many updates, each with a -> a dt and (1-b) -> (1-b) dt, schedules being read at
t = k dt. The differential equation does not change with dt, and the iterates converge to it as dt -> 0.

A method made by a `factory` is the value of that call: two calls with equal arguments are equal, so that whatever was
compiled for the one serves the other. A transformation is a tree with the leaves `init` and `update`, and libraries
take it apart and rebuild it from those two; so each leaf knows the rest of its method.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import optax

from inercia.core.values import as_number, key_of

Params: TypeAlias = Any  # a tree of arrays
State: TypeAlias = Any  # a NamedTuple of arrays
Number: TypeAlias = Any  # a Python number, a scalar array or a tracer
Schedule: TypeAlias = Callable[[Any], Any]  # step -> value; step 0 at the first update; in a flow, the time
Family: TypeAlias = Callable[[float], optax.GradientTransformation]  # dt -> transformation


class _Call(NamedTuple):
    """The call that made a method."""

    factory: "Factory"
    arguments: dict[str, Any]
    key: Any  # hashable, of the factory and all arguments; None where one of them cannot be compared by value


class _Rest(NamedTuple):
    """What a method has beside `init` and `update`."""

    flow: Callable[..., tuple[Params, State]]
    dt: Number
    call: _Call | None


class _Leaf:
    """A function of a method, equal to that of an equal method; from `init` or `update` the method can be rebuilt."""

    def __init__(self, name: str, function: Callable, rest: _Rest) -> None:
        self.name, self.function, self.rest = name, function, rest
        functools.update_wrapper(self, function)
        self._key = (name, function, rest.dt if rest.call is None else None)
        if rest.call is not None and rest.call.key is not None:
            self._key = (name, rest.call.key)

    def __call__(self, *args: Any, **extra: Any) -> Any:
        return self.function(*args, **extra)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, _Leaf) and self._key == other._key)

    def __hash__(self) -> int:
        return hash(self._key[:2])

    def __copy__(self) -> "_Leaf":
        return self

    def __deepcopy__(self, memo: Any) -> "_Leaf":
        return self


@dataclass(frozen=True)
class NoFlow:
    """Stands where a flow would: the method has none that is smooth, for the stated reason."""

    reason: str

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Raise TypeError with the reason."""
        raise TypeError(self.reason)


class Method(optax.GradientTransformationExtraArgs):
    """An `optax.GradientTransformationExtraArgs` with a flow.

    Args:
        init: params -> state.
        update: (grads, state, params=None, **extra) -> (updates, state); updates are added to the params.
        flow: (grads, state, params=None) -> (d params/dt, d state/dt).
        dt: flow time that one update advances, in iterations.

    Attributes:
        flow: as above.
        dt: as above.
        name: the factory's; empty for a method that no factory made.
        hyper: every argument of the factory's call by name, defaults included.

    Two methods of one factory with equal arguments are equal. Arguments are compared by value where they are numbers,
    texts, functions or trees of them, and by identity where they are arrays or traced.

    Example:
        >>> import inercia
        >>> method = inercia.momentum(0.1)
        >>> init, update = method
        >>> isinstance(method, optax.GradientTransformationExtraArgs), method.dt, method
        (True, 1.0, momentum(learning_rate=0.1))
        >>> method == inercia.momentum(0.1, beta=0.9), method.hyper["beta"]
        (True, 0.9)
    """

    __slots__ = ()

    def __new__(cls, init: Any, update: Any, flow: Callable | None = None, dt: Number = 1.0) -> "Method":
        """Join the functions; without a flow, put the leaves of a method together again."""
        if flow is None:
            return super().__new__(cls, init, update)
        return cls._joined(init, update, _Rest(flow, dt, None))

    @classmethod
    def _joined(cls, init: Any, update: Any, rest: _Rest) -> "Method":
        def leaf(name: str, function: Any) -> _Leaf:
            return _Leaf(name, getattr(function, "function", function), rest)

        if not isinstance(rest.flow, NoFlow):
            rest = rest._replace(flow=leaf("flow", rest.flow))
        return super().__new__(cls, leaf("init", init), leaf("update", update))

    @property
    def _rest(self) -> _Rest:
        rest = getattr(self.init, "rest", None) or getattr(self.update, "rest", None)
        if rest is None:
            raise AttributeError("this is no method: neither of its functions has a flow.")
        return rest

    @property
    def flow(self) -> Callable[..., tuple[Params, State]]:
        """The vector field: (grads, state, params=None) -> (d params/dt, d state/dt)."""
        return self._rest.flow

    @property
    def dt(self) -> Number:
        """Flow time of one update, in iterations."""
        return self._rest.dt

    @property
    def name(self) -> str:
        """The factory's name, a key of `METHODS`."""
        return getattr(self.factory, "__name__", "")

    @property
    def factory(self) -> "Factory | None":
        """The function that made it."""
        return None if self._rest.call is None else self._rest.call.factory

    @property
    def hyper(self) -> dict[str, Any]:
        """Every argument that the factory was called with, by name."""
        return {} if self._rest.call is None else dict(self._rest.call.arguments)

    def __repr__(self) -> str:
        call = getattr(getattr(self.init, "rest", None), "call", None)
        if call is None:
            return super().__repr__()
        named = inspect.signature(call.factory).parameters
        parts = [_shown(v) for k, v in call.arguments.items() if named[k].kind is named[k].VAR_POSITIONAL for v in v]
        given = (
            f"{k}={_shown(v)}"
            for k, v in call.arguments.items()
            if named[k].kind is not named[k].VAR_POSITIONAL and key_of(v) != key_of(named[k].default)
        )
        return f"{call.factory.__name__}({', '.join([*parts, *given])})"

    def __copy__(self) -> "Method":
        return self

    def __deepcopy__(self, memo: Any) -> "Method":
        return self

    def __reduce__(self) -> Any:
        call = getattr(getattr(self.init, "rest", None), "call", None)
        if call is None:
            rest = getattr(self.init, "rest", None)
            functions = (getattr(f, "function", f) for f in self)
            return Method, (*functions, *(() if rest is None else (rest.flow, rest.dt)))
        return functools.partial(call.factory, *_positional(call), **_named(call)), ()


def refined(method: Method, dt: Number) -> Method:
    """Return the same method at another dt, made by the same call of its factory.

    Raises:
        ValueError: a method that no factory made, or one that takes no dt.

    Example:
        >>> import inercia
        >>> refined(inercia.adam(0.1), 0.5)
        adam(learning_rate=0.1, dt=0.5)
    """
    call = method._rest.call
    if call is None or "dt" not in call.arguments:
        raise ValueError(f"a method is refined by its factory, but {method!r} has none that takes dt: use `factory`.")
    return call.factory(*_positional(call), **_named(call) | {"dt": dt})


def _positional(call: _Call) -> tuple:
    kinds = inspect.signature(call.factory).parameters
    return tuple(v for k, v in call.arguments.items() if kinds[k].kind is kinds[k].VAR_POSITIONAL for v in v)


def _named(call: _Call) -> dict[str, Any]:
    kinds = inspect.signature(call.factory).parameters
    return {k: v for k, v in call.arguments.items() if kinds[k].kind is not kinds[k].VAR_POSITIONAL}


@runtime_checkable
class Factory(Protocol):
    """A function that makes methods; what the rest of the library needs to be told of them are its attributes."""

    __name__: str
    training_rate: float  # a learning rate that suits the digits
    edge: dict[str, Any] | None  # arguments with which the edge of stability is reached on the digits; None: no default
    form: Callable[..., Any] | None  # arguments -> `LinearForm`; None where the update is no linear recursion
    rows: tuple[tuple[str, str, str, str], ...]  # of the table of methods: call, update, flow, measured order

    def __call__(self, *args: Any, **kwargs: Any) -> Method:
        """Make a method."""
        ...


def factory(
    make: Callable | None = None,
    /,
    *,
    training_rate: float = 0.1,
    edge: dict[str, Any] | None = None,
    form: Callable[..., Any] | None = None,
    rows: tuple[tuple[str, str, str, str], ...] = (),
) -> Any:
    """Turn a function that returns a `Method` into a factory, whose methods know the call that made them.

    Args:
        make: the function; left out where the decorator takes arguments.
        training_rate: a learning rate that suits the bundled digits; the command line's default.
        edge: arguments with which the method reaches its edge of stability on the digits.
        form: (every argument by name) -> `LinearForm`, see there.
        rows: of the table of methods: call, update, flow, measured order.

    Example:
        >>> import jax
        >>> @factory
        ... def descent(learning_rate, *, dt=1.0):
        ...     rate = lambda grads: jax.tree.map(lambda g: -learning_rate * g, grads)
        ...     update = lambda grads, state, params=None, **extra: (rate(jax.tree.map(lambda g: dt * g, grads)), state)
        ...     return Method(lambda params: (), update, lambda grads, state, params=None: (rate(grads), state), dt)
        >>> descent(0.1) == descent(0.1), descent(0.1, dt=0.5)
        (True, descent(learning_rate=0.1, dt=0.5))
    """

    def decorate(make: Callable) -> Factory:
        signature = inspect.signature(make)

        @functools.wraps(make)
        def made(*args: Any, **kwargs: Any) -> Method:
            args, kwargs = tuple(map(as_number, args)), {name: as_number(value) for name, value in kwargs.items()}
            method = make(*args, **kwargs)
            if not isinstance(method, Method):
                raise TypeError(
                    f"{make.__name__} must return inercia.Method(init, update, flow), but it returned {method!r}."
                )
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            arguments = dict(bound.arguments)
            key = key_of(arguments)
            call = _Call(made, arguments, None if key is None else (made, key))  # pyright: ignore[reportArgumentType]
            return Method._joined(method.init, method.update, method._rest._replace(call=call))

        for name, value in (("training_rate", training_rate), ("edge", edge), ("form", form), ("rows", rows)):
            setattr(made, name, value)
        return made  # pyright: ignore[reportReturnType]

    return decorate if make is None else decorate(make)


def _shown(value: Any) -> str:
    return getattr(value, "__name__", repr(value)) if callable(value) else repr(value)
