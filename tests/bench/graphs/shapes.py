"""The four graphs that every system runs: star number -> the numbers of its parents, parents first."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

Graph: TypeAlias = Mapping[int, Sequence[int]]

LAYERS: Final = 20
PARENTS: Final = 3
SEED: Final = 7


def chain(stars: int) -> Graph:
    """Each behind the one before."""
    return {number: [number - 1] if number else [] for number in range(stars)}


def fan(stars: int) -> Graph:
    """A root, `stars` behind it, and one behind all of those: two more than are named."""
    leaves = list(range(1, stars + 1))
    return {0: [], **{leaf: [0] for leaf in leaves}, stars + 1: leaves}


def layered(stars: int) -> Graph:
    """LAYERS layers of equal size; each star has PARENTS different parents in the layer before, by chance."""
    chance, width = random.Random(SEED), max(1, stars // LAYERS)
    graph: dict[int, list[int]] = {}
    for number in range(stars):
        layer = number // width
        above = range((layer - 1) * width, layer * width) if layer else range(0)
        graph[number] = sorted(chance.sample(above, min(PARENTS, len(above))))
    return graph


def independent(stars: int) -> Graph:
    """Nothing depends on anything."""
    return {number: [] for number in range(stars)}


GRAPHS: Final[Mapping[str, Callable[[int], Graph]]] = {
    "chain": chain,
    "fan": fan,
    "layered": layered,
    "independent": independent,
}


def named(name: str) -> Graph:
    """The graph that a text such as "layered:1000" names."""
    kind, _, stars = name.partition(":")
    return GRAPHS[kind](int(stars))
