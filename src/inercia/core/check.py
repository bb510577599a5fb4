"""One sentence at the call: the rules that arguments must keep.

Every function states the rule, the value given and, where there is one, the cure. Values that are not concrete
yet (tracers under `jit`, `vmap` or `grad`) and schedules pass: a rule about numbers can only judge numbers.
"""

import contextlib
import difflib
import math
import numbers
import operator
from collections.abc import Iterable, Iterator
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from inercia.core.forms import form_of

#: What JAX takes for an array.
_ARRAYS = (np.ndarray, np.generic, jax.Array, jax.ShapeDtypeStruct, numbers.Number)


class InerciaWarning(UserWarning):
    """Something was reported in a field of the result, and a reader of the screen should see it too."""


def is_concrete(*values: Any) -> bool:
    """Whether none of the leaves is a tracer, so that their numbers can be read."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def positive(name: str, value: Any) -> None:
    """Raise unless `value` is a schedule, a tracer or a finite number above zero."""
    if _judged(name, value) and not np.all(np.isfinite(value) & (np.asarray(value) > 0)):
        raise ValueError(f"{name} must be a finite number above 0, but it is {_shown(value)}.")


def nonnegative(name: str, value: Any) -> None:
    """Raise unless `value` is a schedule, a tracer or a finite number of at least zero."""
    if _judged(name, value) and not np.all(np.isfinite(value) & (np.asarray(value) >= 0)):
        raise ValueError(f"{name} must be a finite number of at least 0, but it is {_shown(value)}.")


def in_unit_interval(name: str, value: Any) -> None:
    """Raise unless `value` is a schedule, a tracer or a number in [0, 1)."""
    if _judged(name, value) and not np.all((np.asarray(value) >= 0) & (np.asarray(value) < 1)):
        raise ValueError(f"{name} must lie in [0, 1), but it is {_shown(value)}.")


def refinable(name: str, decay: Any, dt: Any) -> None:
    """Raise unless (1 - decay) dt <= 1: beyond it the refined decay 1 - (1 - decay) dt is negative."""
    if callable(decay) or not is_concrete(decay, dt):
        return
    # dt = 1 is always allowed, although 1 - (1 - decay) may round below decay.
    if np.any((1 - np.asarray(decay)) * dt > 1 + 1e-12):
        largest = 1 / (1 - float(np.min(decay)))
        raise ValueError(
            f"(1 - {name}) dt must be at most 1, but {name} = {_shown(decay)} and dt = {_shown(dt)} "
            f"make it {(1 - float(np.min(decay))) * dt:.6g}: take dt <= {largest:.6g}."
        )


def integer(name: str, value: Any, minimum: int = 1) -> int:
    """Return `value` as an int, or raise unless it is an integer of at least `minimum`."""
    try:
        number = operator.index(cast(Any, None) if isinstance(value, bool) else value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, but it is {value!r} of type {type(value).__name__}.") from None
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, but it is {number}.")
    return number


def recorded(steps: Any, every: Any) -> tuple[int, int]:
    """Return the updates of a run and those between its records, or raise unless the second divide the first."""
    steps, every = integer("steps", steps), integer("every", every)
    if steps % every:
        raise ValueError(f"every must divide steps, but every = {every} and steps = {steps}.")
    return steps, every


def one_of(name: str, value: Any, options: Iterable[str]) -> str:
    """Return `value`, or raise unless it is one of `options`, naming the closest."""
    options = list(options)
    if value in options:
        return value
    close = difflib.get_close_matches(str(value), options, n=1, cutoff=0.5)
    hint = f": did you mean {close[0]!r}?" if close else "."
    raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, but it is {value!r}{hint}")


def differentiable(name: str, tree: Any) -> None:
    """Raise unless every leaf of `tree` is an array of floating or complex numbers."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        where = name + jax.tree_util.keystr(path)
        unmasked(where, leaf)
        if not (isinstance(leaf, _ARRAYS) or hasattr(leaf, "__jax_array__")):
            kind = "function" if callable(leaf) else type(leaf).__name__
            cure = (
                "convert it with numpy.asarray."
                if hasattr(leaf, "__array__")
                else "partition the model, for example params, static = equinox.partition(model, "
                "equinox.is_inexact_array), and combine them in the loss."
            )
            raise TypeError(f"{name} must hold arrays, but {where} is a {kind}: {cure}")
        dtype = getattr(leaf, "dtype", None) or np.asarray(leaf).dtype
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise TypeError(
                f"{name} must hold floating or complex numbers, but {where} is {dtype}: cast it first, "
                "for example with jax.tree.map(lambda p: p * 1.0, params)."
            )


def some_params(tree: Any) -> None:
    """Raise unless params hold at least one array, and all of them can be differentiated."""
    if not jax.tree.leaves(tree):
        raise ValueError("params must hold at least one array, but they hold none.")
    differentiable("params", tree)


def unmasked(name: str, value: Any) -> None:
    """Raise where `value` is a masked array: JAX and `numpy.asarray` would take what is under the mask for numbers."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must have no mask, which would be ignored, but it is a masked array: fill it, for example with "
            "x.filled(0.0), or leave its rows out."
        )


def is_numeric(dtype: Any) -> bool:
    """Whether a dtype is of numbers or bools; a time span, an integer for NumPy, is neither."""
    if isinstance(dtype, np.dtype) and dtype.kind in "biufc":
        return True  # as nearly all are
    return (jnp.issubdtype(dtype, jnp.number) and np.dtype(dtype).kind != "m") or jnp.issubdtype(dtype, jnp.bool_)


def array(name: str, value: Any) -> Any:
    """Return `value` as an array that JAX reads as it is, or raise unless it holds numbers; JAX's own stay."""
    if isinstance(value, jax.Array):
        return value
    unmasked(name, value)
    found = np.asarray(value)
    if not is_numeric(found.dtype):
        raise TypeError(f"{name} must hold numbers, but its dtype is {found.dtype}.")
    return found.astype(native_dtype(found.dtype), copy=False)


def native_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype of numbers in this machine's byte order, and of at most 64 bits each real one."""
    widest = {"f": np.float64, "c": np.complex128}.get(dtype.kind, dtype)
    return min(dtype.newbyteorder("="), np.dtype(widest), key=lambda d: d.itemsize)


def key(value: Any) -> Any:
    """Return a typed key of a key, a raw key or a seed, or raise; None stays None."""
    if value is None:
        return None
    if isinstance(value, jax.Array | np.ndarray) and value.shape == (2,) and value.dtype == np.uint32:
        return jax.random.wrap_key_data(jnp.asarray(value))
    if isinstance(value, jax.Array) and value.shape == ():
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return value
        if jnp.issubdtype(value.dtype, jnp.integer):
            return jax.random.key(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        shown = f"an array of shape {value.shape}" if isinstance(value, jax.Array) else repr(value)
        raise TypeError(f"key must be a jax.random.key or an integer, but it is {shown}.")
    if not -(2**63) <= (seed := int(value)) < 2**63:
        raise ValueError(f"key must fit into 64 bits, but it is {seed}.")
    with jax.enable_x64(not -(2**31) <= seed < 2**32):  # in 32 bits, a larger number would lose its upper ones
        return jax.random.key(seed)


def reals(name: str, values: Any) -> np.ndarray:
    """Return `values` as a float64 array, or raise unless they are real numbers; an iterator is read to its end."""
    unmasked(name, values)
    array = np.asarray(list(values) if isinstance(values, Iterator | set) else values)
    if not is_numeric(array.dtype) or array.dtype.kind in "cb":
        raise TypeError(f"{name} must be real numbers, but it is {_brief(values)} of dtype {array.dtype}.")
    return array.astype(np.float64)


def number(name: str, value: Any) -> float:
    """Return `value` as a float, or raise unless it is one finite real number."""
    array = reals(name, value)
    if array.shape != () or not np.isfinite(array):
        raise ValueError(f"{name} must be one finite number, but it is {_brief(value)}.")
    return float(array)


def optimizer(method: Any) -> None:
    """Raise unless `method` has the functions `init` and `update` of an optax transformation."""
    if isinstance(method, type) or not all(callable(getattr(method, name, None)) for name in ("init", "update")):
        kind = f"the function {method.__name__}" if hasattr(method, "__name__") else f"a {type(method).__name__}"
        raise TypeError(f"method must be an optimizer, such as inercia.sgd(0.1) or optax.adam(1e-3), but it is {kind}.")


def real(name: str, tree: Any) -> None:
    """Raise unless every leaf of `tree` is an array of real floating numbers."""
    differentiable(name, tree)
    if any(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(tree)):
        raise TypeError(f"{name} must be real here: give the real and imaginary parts as leaves of their own.")


def all_finite(numbers: np.ndarray) -> bool:
    """Whether all numbers are: their sum, cheaper than a look at each, is finite then, unless it overflows."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(numbers.sum()) or np.isfinite(numbers).all())


def finite(name: str, array: Any) -> None:
    """Raise unless every number of `array` is finite, naming the first that is not."""
    if type(array) is np.ndarray and array.dtype.kind in "biuf" and (array.dtype.kind != "f" or all_finite(array)):
        return
    dtype = array.dtype if hasattr(array, "dtype") else np.asarray(array).dtype
    if not is_concrete(array) or not jnp.issubdtype(dtype, jnp.inexact):
        return
    if isinstance(array, jax.Array):
        with jax.ensure_compile_time_eval():  # under a trace too: the array is concrete
            if bool(jnp.isfinite(array).all()):
                return  # judged where the array lives
    if not all_finite(np.asarray(array)):
        good = np.isfinite(np.asarray(array))
        index = tuple(int(i) for i in np.argwhere(~good)[0])
        where = f"{name}[{', '.join(map(str, index))}]" if index else name
        raise ValueError(
            f"{name} must be finite, but {where} is {np.asarray(array)[index]} ({int((~good).sum())} such entries)."
        )


def increasing(name: str, values: Any) -> np.ndarray:
    """Return `values` as a float64 vector, or raise unless they are finite and strictly increasing."""
    times = reals(name, values)
    if times.ndim != 1 or times.size < 2:
        raise ValueError(f"{name} must be a vector of at least two numbers, but its shape is {times.shape}.")
    finite(name, times)
    steps = np.diff(times)
    if not (steps > 0).all():
        k = int(np.argmin(steps > 0))
        raise ValueError(f"{name} must increase, but {name}[{k}] = {times[k]:g} is followed by {times[k + 1]:g}.")
    return times


def scalar(name: str, value: jax.ShapeDtypeStruct) -> None:
    """Raise unless the abstract `value` that a loss returns is one real number."""
    shape = getattr(value, "shape", None)
    if shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
        got = f"shape {shape} and dtype {value.dtype}" if shape is not None else f"{type(value).__name__}"
        raise ValueError(
            f"{name} must return one real number, but it returns {got}: reduce it, for example with jnp.mean."
        )


def compilable(loss: Any) -> None:
    """Raise unless `loss` is a function that a compiled program can be kept by."""
    if not callable(loss):
        raise TypeError(f"loss must be a function of the params, but it is {type(loss).__name__}.")
    try:
        hash(loss)
    except TypeError:
        raise TypeError(
            f"loss must be hashable, so that its compilation can be kept, but {type(loss).__name__} is not: pass "
            "a function that calls it."
        ) from None


def loss_of(loss: Any, *arguments: Any) -> None:
    """Raise unless `loss(*arguments)` is one real number; the loss is traced, not computed."""
    compilable(loss)
    with compiled("loss"):
        abstract = form_of(loss, *arguments)
    scalar("loss", abstract)


@contextlib.contextmanager
def compiled(name: str, cure: str = "compute with jax.numpy, and choose with jnp.where") -> Iterator[None]:
    """Turn JAX's errors of what asks a traced number for its value into one sentence."""
    try:
        yield
    except (jax.errors.JAXTypeError, jax.errors.NonConcreteBooleanIndexError) as error:
        kind = type(error).__name__
        raise TypeError(f"{name} is compiled, but it asks for numbers on the host ({kind}): {cure}.") from error


def _judged(name: str, value: Any) -> bool:
    if callable(value) or not is_concrete(value):
        return False
    kind = np.asarray(value).dtype
    is_real = jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)
    if isinstance(value, bool | list | tuple) or not is_real:
        raise TypeError(f"{name} must be a real number or a schedule, but it is {value!r}.")
    return True


def _brief(value: Any) -> str:
    return text if len(text := repr(value)) < 60 and "\n" not in text else f"a {type(value).__name__}"


def _shown(value: Any) -> str:
    array = np.asarray(value)
    return f"{float(array):.6g}" if array.ndim == 0 and math.prod(array.shape) == 1 else str(array)
