"""Where the boxes of a figure go: layers from left to right, few crossings (after Sugiyama, Tagawa and Toda 1981)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from asterism.orchestrator.core.ids import StarId
from asterism.protocol.graph.figure import Arrow

_SWEEPS: Final = 6
"""Passes of the barycentre order; on graphs of a few hundred stars later ones change next to nothing."""
_ARRANGED_MAX: Final = 20_000
"""Arrows beyond which the order of the stars is taken as it is: a sweep costs a sort of every layer."""


@dataclass(frozen=True, slots=True)
class Place:
    """A cell of the drawing."""

    layer: int
    """Column, from 0 at the left: longer than any path that leads here."""
    row: int
    """From 0 at the top of its layer."""


def place(stars: Sequence[StarId], arrows: Sequence[Arrow]) -> dict[StarId, Place]:
    """A cell for every star. Arrows that close a cycle (none should) are left out of account."""
    parents = _acyclic_parents(stars, arrows)
    depth = _depths(stars, parents)
    layers: list[list[StarId]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for star in stars:
        layers[depth[star]].append(star)
    if len(arrows) <= _ARRANGED_MAX:
        _arrange(layers, parents)
    return {star: Place(column, row) for column, layer in enumerate(layers) for row, star in enumerate(layer)}


def _acyclic_parents(stars: Sequence[StarId], arrows: Sequence[Arrow]) -> dict[StarId, list[StarId]]:
    """Parents by star, in an order of Kahn's algorithm; what is left over would close a cycle."""
    children: dict[StarId, list[StarId]] = {star: [] for star in stars}
    unmet = dict.fromkeys(stars, 0)
    for arrow in arrows:
        children[arrow.parent].append(arrow.child)
        unmet[arrow.child] += 1
    waiting = [star for star in stars if unmet[star] == 0]
    parents: dict[StarId, list[StarId]] = {star: [] for star in stars}
    while waiting:
        star = waiting.pop()
        for child in children[star]:
            parents[child].append(star)
            unmet[child] -= 1
            if unmet[child] == 0:
                waiting.append(child)
    return parents


def _depths(stars: Sequence[StarId], parents: Mapping[StarId, Sequence[StarId]]) -> dict[StarId, int]:
    """Length of the longest path to each star, with a stack of its own: chains may be thousands long."""
    depth: dict[StarId, int] = {}
    for first in stars:
        stack = [first]
        while stack:
            star = stack[-1]
            if star in depth:
                stack.pop()
                continue
            missing = [parent for parent in parents[star] if parent not in depth]
            if missing:
                stack.extend(missing)
            else:
                depth[star] = max((depth[parent] + 1 for parent in parents[star]), default=0)
                stack.pop()
    return depth


def _arrange(layers: list[list[StarId]], parents: Mapping[StarId, Sequence[StarId]]) -> None:
    """Orders each layer by the mean height of its neighbours, to and fro. Heights are shares of a layer's length."""
    children: dict[StarId, list[StarId]] = {star: [] for layer in layers for star in layer}
    for child, of_child in parents.items():
        for parent in of_child:
            children[parent].append(child)
    height: dict[StarId, float] = {}

    def settle(layer: list[StarId]) -> None:
        for row, star in enumerate(layer):
            height[star] = (row + 0.5) / len(layer)

    for layer in layers:
        settle(layer)
    for sweep in range(_SWEEPS):
        neighbours: Mapping[StarId, Sequence[StarId]] = parents if sweep % 2 == 0 else children
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            mean = {
                star: sum(height[near] for near in neighbours[star]) / len(neighbours[star])
                if neighbours[star]
                else height[star]
                for star in layer
            }
            layer.sort(key=mean.__getitem__)
            settle(layer)
