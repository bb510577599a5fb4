"""Numbers over time, by name: what a path or a history of a training holds."""

from typing import Any

import jax
import numpy as np

from inercia.core import check
from inercia.core.path import Path
from inercia.training.loop import History

#: Lines that one name may stand for.
_MOST = 20


def metrics(label: str, history: History, evaluate: bool | str = True) -> dict[str, np.ndarray]:
    """Return what `evaluate` gave at each record, (records,) each, under its name; "" where it has none."""
    if history.evaluate is None:
        raise ValueError(
            f"histories must hold what evaluate returned, but {label!r} does not: give train(evaluate=...)."
        )
    found = {
        jax.tree_util.keystr(keys, simple=True, separator="."): np.asarray(leaf)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(history.evaluate)
    }
    if isinstance(evaluate, str):
        found = {check.one_of("evaluate", evaluate, found): found[evaluate]}
    for name, value in found.items():
        if value.ndim != 1:
            what = f"{name!r} of {label!r}" if name else repr(label)
            raise ValueError(f"a metric must be one number per record, but that of {what} has shape {value.shape[1:]}.")
    return found


def selected(label: str, line: Path | History, what: str | int) -> dict[str, np.ndarray]:
    """Return name -> (n,), the numbers over time that `what` names in a path or a history."""
    if not isinstance(what, str):
        if not isinstance(line, Path):
            raise TypeError(f"a number selects a parameter of a path, but {label!r} is a history: give a name.")
        flat = line.flat()
        if not 0 <= check.integer("what", what, 0) < flat.shape[1]:
            raise ValueError(f"what must be below the number of parameters {flat.shape[1]}, but it is {what}.")
        return {str(what): flat[:, what]}
    columns = _columns(line)
    found = {key: value for key, value in columns.items() if key == what or key.startswith((f"{what}.", f"{what}["))}
    if not found:
        name, _, index = what.removesuffix("]").rpartition("[")  # an entry of an array, as in "params[0].w[3,1]"
        if name not in columns or not all(i.strip().isdigit() for i in index.split(",")):
            check.one_of("what", what, columns)
        found = {what: _entry(what, columns[name], tuple(map(int, index.split(","))))}
    return _numbers(label, what, found)


def _columns(line: Path | History) -> dict[str, np.ndarray]:
    """Return every array of a path or history under its name; what was observed also without `observed`."""
    if not isinstance(line, Path):
        given = {"loss": line.loss, "evaluate": line.evaluate, "validation": line.validation}
        return _named(given)
    line.check_axis()
    return {**_named(line.observed), **line.columns()}


def _named(tree: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(keys, simple=True, separator="."): np.asarray(leaf) for keys, leaf in leaves}


def _entry(what: str, value: np.ndarray, index: tuple[int, ...]) -> np.ndarray:
    try:
        return value[(slice(None), *index)]
    except IndexError:
        raise ValueError(f"what must name an entry of shape {value.shape[1:]}, but it is {what!r}.") from None


def _numbers(label: str, what: str, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return one name for each number over time."""
    several = sum(int(np.prod(value.shape[1:])) for value in found.values())
    if several > _MOST:
        raise ValueError(
            f"what must name at most {_MOST} numbers, but {what!r} of {label!r} are {several}: name one entry, for "
            f"example {next(iter(found))!r} followed by its index in brackets."
        )
    numbers = {}
    for name, value in found.items():
        for index in np.ndindex(value.shape[1:]):
            shown = name + (f"[{','.join(map(str, index))}]" if value[0].size > 1 else "")
            numbers[shown] = value[(slice(None), *index)]
    return numbers
