"""Places for the nodes of a graph: in columns by depth, in an order in which few arrows cross, and ways around nodes.

An arrow over several columns gets a place of its own in each of them, so that it runs through no node; those from one
node share it as far as they can. Heights come closest, in least squares, to the mean of the neighbours' while no two
places of a column are nearer than their sizes allow.

Source: Sugiyama, Tagawa & Toda 1981.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

#: Height of a node's place and of an arrow's, and how often the columns are passed over.
_NODE, _WAY, _SWEEPS = 1.0, 0.45, 24

#: A node, or (node, column): the way of its arrows through a column.
Place = int | tuple[int, int]


class Layout(NamedTuple):
    """Where nodes stand and arrows run."""

    column: dict[Place, int]
    height: dict[Place, float]
    ways: dict[tuple[int, int], list[Place]]  # arrow -> the places that it runs through


def layout(nodes: int, arrows: Sequence[tuple[int, int]]) -> Layout:
    """Return where the nodes 0, 1, ... stand, whose arrows all lead to larger numbers."""
    column = _columns(nodes, arrows)
    ways: dict[tuple[int, int], list[Place]] = {}
    links: set[tuple[Place, Place]] = set()
    for s, t in arrows:
        way: list[Place] = [(s, c) for c in range(column[s] + 1, column[t])]
        column |= {place: place[1] for place in way if isinstance(place, tuple)}
        ways[s, t] = way
        links |= set(zip([s, *way], [*way, t], strict=True))
    columns: list[list[Place]] = [[] for _ in range(max(column.values()) + 1)]
    for place, c in column.items():
        columns[c].append(place)
    near: dict[Place, list[Place]] = {place: [] for place in column}
    for a, b in sorted(links, key=str):
        near[a].append(b)
        near[b].append(a)
    return Layout(column, _heights(columns, column, near), ways)


def _columns(nodes: int, arrows: Sequence[tuple[int, int]]) -> dict[Place, int]:
    """Return the longest way to each node; what nothing leads to stands just before what it leads to."""
    depth = dict.fromkeys(range(nodes), 0)
    for s, t in sorted(arrows, key=lambda arrow: arrow[1]):
        depth[t] = max(depth[t], depth[s] + 1)
    reached = {t for _, t in arrows}
    for n in set(range(nodes)) - reached:
        depth[n] = min((depth[t] for s, t in arrows if s == n), default=1) - 1
    return {**depth}


def _heights(columns: list[list[Place]], column: dict[Place, int], near: dict[Place, Any]) -> dict[Place, float]:
    from scipy.optimize import isotonic_regression  # noqa: PLC0415  loaded when used

    height = {place: float(i) for places in columns for i, place in enumerate(places)}
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        for places in columns if forward else columns[::-1]:
            # At first by the side that the sweep comes from, which settles the order; then by both.
            side = {p: [q for q in near[p] if (column[q] < column[p]) == forward] for p in places}
            if sweep > _SWEEPS // 2:
                side = {p: near[p] for p in places}
            wish = {p: float(np.mean([height[q] for q in side[p]])) if side[p] else height[p] for p in places}
            places.sort(key=lambda p: (wish[p], height[p]))
            size = np.array([_WAY if isinstance(p, tuple) else _NODE for p in places])
            offset = np.cumsum(size) - size / 2
            weights = [4.0 if isinstance(p, tuple) else 1.0 for p in places]
            fit = isotonic_regression(np.array([wish[p] for p in places]) - offset, weights=np.array(weights)).x
            height |= dict(zip(places, (fit + offset).tolist(), strict=True))
    return height
