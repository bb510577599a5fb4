"""Chains, masks and partitions of methods, which keep their flow.

    update   u = dt T_n(... T_1(g)),   T_i the part's update per unit of time, with its own state
    flow     theta' = F_n(... F_1(g)),   each state by its own flow, driven by the signal that reaches its part

What runs through a chain is a rate: the gradient, clipped, averaged, scaled. dt multiplies it once, at the end, however
many parts have a learning rate, and each part refines by its own rule. So the limit of the composition is the
composition of the limits, where T_i tends to F_i at order dt and F_i is Lipschitz: by what optax does to updates, one
obtains the update from the parts' updates and the flow from the parts' flows.

    masked      the part sees the leaves that the mask names; the signal of the others passes
    partition   each leaf goes to the part that its label names; `parts.set_to_zero` freezes

Equal to optax's own at dt = 1: of `parts` to the bit, of methods as close as these are. A part with no smooth flow
leaves the composition without one, and it says which.

Source: the design of optax; for the limit, Hairer, Norsett & Wanner, section II.3 (order of a composition).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optax

from inercia.core import check
from inercia.core.method import Method, NoFlow, Number, Params, State, factory, refined
from inercia.core.transition import times


def _at(part: Any, dt: Number) -> Method:
    """Return the part at the composition's dt."""
    if not isinstance(part, Method):
        raise TypeError(
            f"parts must be methods, of inercia or inercia.parts, but one is {type(part).__name__}: optax.chain takes "
            "any transformation, and its flow is then interpolated from the iterates."
        )
    if check.is_concrete(part.dt) and part.dt != 1:
        raise ValueError(
            f"parts must be given at dt = 1, but {part!r} has dt = {part.dt:g}: pass dt to the composition."
        )
    return part if isinstance(dt, (int, float)) and dt == 1 else refined(part, dt)


def _composed(combine: Callable[[list], Any], parts: Sequence[Any], dt: Number) -> Method:
    """Apply what optax does with transformations to updates per unit of time, and to flows."""
    check.positive("dt", dt)
    at_dt = [_at(part, dt) for part in parts]

    def rate_of(part: Method) -> optax.GradientTransformationExtraArgs:
        def update(updates: Params, state: State, params: Params = None, **extra: Any) -> tuple[Params, State]:
            signal, after = part.update(updates, state, params, **extra)
            return times(1 / dt, signal), after

        return optax.GradientTransformationExtraArgs(part.init, update)

    def flow_of(part: Method) -> optax.GradientTransformationExtraArgs:
        def update(updates: Params, state: State, params: Params = None, **_: Any) -> tuple[Params, State]:
            return part.flow(updates, state, params)

        return optax.GradientTransformationExtraArgs(part.init, update)

    rates, flows = combine([rate_of(part) for part in at_dt]), combine([flow_of(part) for part in at_dt])

    def update(grads: Params, state: State, params: Params = None, **extra: Any) -> tuple[Params, State]:
        signal, after = rates.update(grads, state, params, **extra)
        return times(dt, signal), after

    def flow(grads: Params, state: State, params: Params = None) -> tuple[Params, State]:
        return flows.update(grads, state, params)

    return Method(rates.init, update, _lacking(parts) or flow, dt)


def _lacking(parts: Sequence[Method]) -> NoFlow | None:
    for part in parts:
        if isinstance(part.flow, NoFlow):
            return part.flow
        if getattr(part.flow, "takes_along", False):
            return NoFlow(
                f"a composition with {part.name} has no flow: that of {part.name} needs the rate of its signal, which "
                "a composition does not tell; optax.chain takes any transformation, and interpolates."
            )
    return None


@factory()
def chain(*parts: Any, dt: Number = 1.0) -> Method:
    """Chain methods as `optax.chain` does, and keep the flow.

        transition   u = dt T_n(... T_1(g)),   T_i the update of part i per unit of time
        refined      each part by its own rule; dt multiplies once
        flow         theta' = F_n(... F_1(g)),   F_i the flow of part i, its state driven by what reaches it

    Args:
        parts: methods, of `inercia` or `inercia.parts`, made at dt = 1; the first sees the gradient.
        dt: flow time of one update, in iterations; every part is made anew with it.

    Returns:
        Method, equal to `optax.chain` of optax's own parts at dt = 1; `hyper["parts"]` holds the parts.

    Raises:
        ValueError: no parts, a part at another dt, a dt that is too large for one of them.
        TypeError: a part that is no method; from `flow`, a part that has no smooth flow.

    Example:
        >>> import inercia as ia, jax.numpy as jnp
        >>> method = ia.chain(ia.parts.clip_by_global_norm(1.0), ia.sgd(0.5))
        >>> method.update(jnp.array([3.0, 4.0]), method.init(jnp.ones(2)))[0].round(3)
        Array([-0.3, -0.4], dtype=float32)
        >>> flow = ia.integrate(method, lambda x: 3 * x[0] + 4 * x[1], jnp.zeros(2), [0.0, 2.0])
        >>> flow.params[-1].round(3).tolist()
        [-0.6, -0.8]
    """
    if not parts:
        raise ValueError("a chain must have at least one part, but it has none.")
    return _composed(lambda transformations: optax.chain(*transformations), parts, dt)


@factory()
def masked(inner: Method, mask: Any, *, dt: Number = 1.0) -> Method:
    """Apply a method to the leaves where the mask is true, as `optax.masked`; the signal of the others passes.

    Args:
        inner: a method, made at dt = 1.
        mask: a tree of bools like the params, a prefix of one, or params -> tree.
        dt: flow time of one update.

    Raises:
        ValueError: `inner` at another dt.
        TypeError: `inner` that is no method; from `flow`, one that has no smooth flow.

    Example:
        >>> import inercia as ia, jax.numpy as jnp
        >>> method = ia.chain(ia.masked(ia.parts.add_decayed_weights(0.5), {"w": True, "b": False}), ia.sgd(1.0))
        >>> params = {"w": jnp.array(2.0), "b": jnp.array(2.0)}
        >>> updates, _ = method.update({"w": jnp.array(1.0), "b": jnp.array(1.0)}, method.init(params), params)
        >>> float(updates["w"]), float(updates["b"])
        (-2.0, -1.0)
    """
    return _composed(lambda transformations: optax.masked(transformations[0], mask), [inner], dt)


@factory()
def partition(transforms: Mapping[Any, Method], param_labels: Any, *, dt: Number = 1.0) -> Method:
    """Give each leaf to the method that its label names, as `optax.partition`.

    Args:
        transforms: label -> method, made at dt = 1; `parts.set_to_zero()` freezes its leaves.
        param_labels: a tree of labels like the params, a prefix of one, or params -> tree.
        dt: flow time of one update.

    Raises:
        ValueError: a method at another dt; from `init`, a label without a method.
        TypeError: a value that is no method; from `flow`, one that has no smooth flow.

    Example:
        >>> import inercia as ia, jax.numpy as jnp
        >>> method = ia.partition({"on": ia.sgd(0.5), "off": ia.parts.set_to_zero()}, {"w": "on", "b": "off"})
        >>> params = {"w": jnp.array(2.0), "b": jnp.array(2.0)}
        >>> updates, _ = method.update(params, method.init(params), params)
        >>> float(updates["w"]), float(updates["b"])
        (-1.0, 0.0)
    """
    labels = list(transforms)

    def combine(transformations: list) -> Any:
        return optax.partition(dict(zip(labels, transformations, strict=True)), param_labels)

    return _composed(combine, list(transforms.values()), dt)
