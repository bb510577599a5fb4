"""A loss as people write it, seen as one function.

    loss(params, batch)                                -> value
    loss(params, batch, key)                           -> value                     dropout, augmentation
    loss(params, model_state, batch[, key])            -> value, model_state        model_state=: BatchNorm
    has_aux=True                                       -> value, aux                metrics
    has_aux=True and model_state=                      -> value, (aux, model_state)

Whether a loss takes a key is read off its signature: a parameter more than the others, required or named `key` or
`rng`. Iteration k of a training gives it fold_in(fold_in(key, 2^32 - 1), k), a key that no batch is drawn by, on any
number of devices.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from inercia.core import check
from inercia.core.forms import form_of

_KEYS = ("key", "rng", "rngs", "rng_key", "prng_key")


@dataclass(frozen=True)
class Objective:
    """params, model_state, batch, key -> value, (aux, model_state); None where the loss has no such thing."""

    loss: Callable
    takes_key: bool
    has_aux: bool
    has_state: bool

    def __call__(self, params: Any, model_state: Any, batch: Any, key: Any) -> tuple[jax.Array, tuple[Any, Any]]:
        """Return the loss, and (aux, model_state)."""
        arguments = (params, model_state, batch) if self.has_state else (params, batch)
        return self._parts(self.loss(*arguments, key) if self.takes_key else self.loss(*arguments))

    def value(self, params: Any, model_state: Any, batch: Any, key: Any) -> jax.Array:
        """Return the loss alone."""
        return self(params, model_state, batch, key)[0]

    def judge(self, params: Any, model_state: Any, batch: Any) -> Any:
        """Raise unless the loss returns what it should; return the form of aux. Traced, not computed."""
        arguments = (params, model_state, batch) if self.has_state else (params, batch)
        keys = (jax.eval_shape(lambda: jax.random.key(0)),) if self.takes_key else ()
        with check.compiled("loss"):
            returned = form_of(self.loss, *arguments, *keys)
        both = self.has_aux and self.has_state
        if (self.has_aux or self.has_state) and not (_is_pair(returned) and (not both or _is_pair(returned[1]))):
            promised = "(aux, model_state)" if both else "aux" if self.has_aux else "model_state"
            raise TypeError(f"loss must return (loss, {promised}), but it returns {_form(returned)}.")
        value, (aux, after) = self._parts(returned)
        if not hasattr(value, "shape"):
            cure = ": metrics beside it need has_aux=True." if _is_pair(value) else "."
            raise ValueError(f"loss must return one real number, but it returns {_form(value)}{cure}")
        check.scalar("loss", value)
        if self.has_state:
            _same_form(model_state, after)
        return aux

    def _parts(self, returned: Any) -> tuple[Any, tuple[Any, Any]]:
        if not (self.has_aux or self.has_state):
            return returned, (None, None)
        value, rest = returned
        return value, rest if self.has_aux and self.has_state else (rest, None) if self.has_aux else (None, rest)


def objective_of(loss: Any, has_aux: bool, has_state: bool) -> Objective:
    """Read off what a loss takes, or raise unless it fits one of the forms above."""
    check.compilable(loss)
    return _objective_of(loss, has_aux, has_state)


@lru_cache(maxsize=64)
def _objective_of(loss: Any, has_aux: bool, has_state: bool) -> Objective:
    names = ("params", "model_state", "batch") if has_state else ("params", "batch")
    signature = signature_of(loss)
    if signature is None:
        return Objective(loss, False, has_aux, has_state)
    without, with_key = accepts(signature, len(names)), accepts(signature, len(names) + 1)
    if not (without or with_key):
        form = ", ".join(names)
        cure = "" if has_state else "; a third argument before the batch belongs to model_state="
        raise TypeError(f"loss must take ({form}) or ({form}, key), but it takes {signature}{cure}.")
    positional = list(signature.parameters.values())
    named = with_key and len(positional) > len(names) and positional[len(names)].name in _KEYS
    return Objective(loss, named or not without, has_aux, has_state)


def key_of_losses(key: Any) -> Any:
    """Return the key from which the iterations' keys are folded."""
    return jax.random.fold_in(key, jnp.uint32(2**32 - 1))


def signature_of(function: Callable) -> inspect.Signature | None:
    """Return what a function takes; None where it does not tell, as one of another language may not."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def accepts(signature: inspect.Signature, count: int) -> bool:
    """Whether a function can be called with `count` arguments by place."""
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


def _form(returned: Any) -> str:
    if isinstance(returned, tuple | list):
        return f"a {type(returned).__name__} of {len(returned)}"
    return f"shape {returned.shape}" if hasattr(returned, "shape") else f"a {type(returned).__name__}"


def _same_form(before: Any, after: Any) -> None:
    must = "loss must return a model_state of the form it takes, but"
    if jax.tree.structure(before) != jax.tree.structure(after):
        raise TypeError(f"{must} {jax.tree.structure(before)} comes back as {jax.tree.structure(after)}.")
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        if (new.shape, new.dtype) != (jnp.shape(old), jnp.result_type(old)):
            raise TypeError(
                f"{must} model_state{jax.tree_util.keystr(path)} is {jnp.result_type(old)} {jnp.shape(old)} and comes "
                f"back as {new.dtype} {new.shape}."
            )
