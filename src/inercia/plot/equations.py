"""The equations of a loss and of its gradient, as JAX writes them down: nodes and arrows.

What only rearranges numbers (shapes, transposes, dtypes) is left out, and so is what depends on no argument.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from inercia.plot.words import said

#: Operations that move numbers and change none of them.
_MOVES = {
    "broadcast_in_dim", "convert_element_type", "copy", "expand_dims", "reshape", "reduce_precision", "squeeze",
    "stop_gradient", "transpose",
}  # fmt: skip
_SIGNS = {
    "add": "+", "add_any": "+", "sub": "−", "neg": "−", "mul": "×", "div": "/", "dot_general": "@", "reduce_sum": "Σ",
    "reduce_max": "max", "select_n": "if", "integer_pow": "( )²", "square": "( )²", "conv_general_dilated": "conv",
}  # fmt: skip
#: Equations of a function within the function, up to which it is one node that bears its name.
_SMALL = 12


class Equations(NamedTuple):
    """A graph; nodes are numbers, in an order in which arrows lead upwards."""

    labels: list[str]
    kinds: list[str]  # "argument", "data", "forward", "reverse", "result", "gradient"
    arrows: list[tuple[int, int]]


def equations(function: Callable, arguments: tuple, gradient: bool, names: Mapping[str, str]) -> Equations:
    """Read the equations of a function of trees, and of its gradient by the first of them."""
    traced = jax.make_jaxpr(jax.value_and_grad(function) if gradient else function)(*arguments)
    graph = _Reader([], [], set())
    titles = _titles(function, arguments)
    for variable, name in zip(traced.jaxpr.invars, titles, strict=True):
        graph.where[variable] = graph.add(names.get(name, name), "argument")
    for variable in traced.jaxpr.constvars:
        graph.where[variable] = graph.add(said("data"), "data") if np.size(variable.aval) > 1 else None
    graph.read(traced.jaxpr, False)
    outcomes = traced.jaxpr.outvars
    results, slopes = (outcomes[:1], outcomes[1:]) if gradient else (outcomes, [])
    for variable in results:
        graph.lead([variable], graph.add(said("loss") if gradient else "", "result"))
    for variable, name in zip(slopes, titles, strict=False):
        graph.lead([variable], graph.add(rf"$\partial${names.get(name, name)}", "gradient"))
    return graph.used()


class _Reader:
    def __init__(self, labels: list[str], kinds: list[str], arrows: set[tuple[int, int]]) -> None:
        self.labels, self.kinds, self.arrows = labels, kinds, arrows
        self.where: dict[Any, int | None] = {}  # variable -> the node that computes it; None for a constant

    def add(self, label: str, kind: str) -> int:
        self.labels.append(label)
        self.kinds.append(kind)
        return len(self.labels) - 1

    def node(self, variable: Any) -> int | None:
        return None if hasattr(variable, "val") else self.where.get(variable)

    def lead(self, variables: Any, to: int) -> None:
        self.arrows |= {(node, to) for v in variables if (node := self.node(v)) is not None}

    def read(self, jaxpr: Any, reverse: bool) -> None:
        """Add the equations of a jaxpr whose inputs have their nodes."""
        for equation in jaxpr.eqns:
            back = reverse or "transpose" in str(equation.source_info.name_stack)
            inner, name = _inner(equation)
            sources = [node for v in equation.invars if (node := self.node(v)) is not None]
            if inner is not None and (name.startswith(("_", "<")) or not name or len(inner.eqns) > _SMALL):
                self.where |= {v: self.node(w) for v, w in zip(inner.invars, equation.invars, strict=True)}
                self.read(inner, back)
                self.where |= {v: self.node(w) for v, w in zip(equation.outvars, inner.outvars, strict=True)}
            elif not sources or _only_moves(equation):
                self.where |= dict.fromkeys(equation.outvars, sources[0] if sources else None)
            elif equation.primitive.name == "reduce_sum" and self.labels[sources[0]] == "Σ":
                self.where |= dict.fromkeys(equation.outvars, sources[0])  # a sum of sums
            else:
                node = self.add(_label(equation, name), "reverse" if back else "forward")
                self.lead(equation.invars, node)
                self.where |= dict.fromkeys(equation.outvars, node)

    def used(self) -> Equations:
        """Return the nodes that lead somewhere, or to which something leads."""
        ends = {n for n, kind in enumerate(self.kinds) if kind in ("result", "gradient")}
        before: dict[int, list[int]] = {}
        for s, t in self.arrows:
            before.setdefault(t, []).append(s)
        kept, todo = set(), [n for n in ends if n in before]
        while todo:
            n = todo.pop()
            if n not in kept:
                kept.add(n)
                todo += before.get(n, [])
        order = sorted(kept)
        at = {n: i for i, n in enumerate(order)}
        arrows = sorted((at[s], at[t]) for s, t in self.arrows if s in kept and t in kept)
        return Equations([self.labels[n] for n in order], [self.kinds[n] for n in order], arrows)


def _only_moves(equation: Any) -> bool:
    """Whether an equation leaves every number as it is."""
    times_one = equation.primitive.name == "mul" and any(np.all(getattr(v, "val", 0) == 1) for v in equation.invars)
    return times_one or equation.primitive.name in _MOVES


def _inner(equation: Any) -> tuple[Any, str]:
    """Return the jaxpr of the function that an equation calls, and its name; None and "" where it calls none."""
    parameters = equation.params
    inner = parameters.get("jaxpr", parameters.get("call_jaxpr"))
    if inner is None or equation.primitive.name in ("scan", "while", "cond"):
        return None, ""
    inner = getattr(inner, "jaxpr", inner)
    same = len(inner.invars) == len(equation.invars) and len(inner.outvars) == len(equation.outvars)
    return (inner, str(parameters.get("name", ""))) if same else (None, "")


def _label(equation: Any, name: str) -> str:
    """Return an operation's sign, with the number that stands in it, if there is one."""
    primitive: str = equation.primitive.name
    sign = name or _SIGNS.get(primitive, str(primitive))
    numbers = [v.val for v in equation.invars if hasattr(v, "val") and np.size(v.val) == 1]
    if primitive == "integer_pow" and equation.params["y"] != 2:
        return f"( )^{equation.params['y']}"
    if primitive in ("add", "sub", "mul", "div") and numbers and not name:
        number = f"{np.asarray(numbers[0]).item():.3g}"
        first = hasattr(equation.invars[0], "val") and primitive != "mul"
        return f"{number} {sign}" if first else f"{sign} {number}"
    return sign


def _titles(function: Callable, arguments: tuple) -> list[str]:
    """Return a name for every array of the arguments: that of the argument where it is one array, else its place."""
    try:
        parameters = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        parameters = []
    titles = []
    for n, argument in enumerate(arguments):
        root = parameters[n] if n < len(parameters) else f"argument {n}"
        for keys, _ in jax.tree_util.tree_leaves_with_path(argument):
            titles.append(_title(root, n, keys))
    return titles


def _title(root: str, n: int, keys: tuple) -> str:
    place = jax.tree_util.keystr(keys, simple=True, separator=".")
    layer, _, field = place.partition(".")
    if layer.isdigit() and len(field) == 1:  # of an `mlp`: W_l and b_l, l = 1..L
        return rf"${field}_{{{int(layer) + 1}}}$"
    return place if n == 0 and place else f"{root}.{place}" if place else root
