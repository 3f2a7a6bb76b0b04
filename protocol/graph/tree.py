"""A constellation as a tree in the terminal. A graph is no tree: each star stands once, under one of its parents."""

from collections.abc import Mapping
from typing import Final

from rich.text import Text
from rich.tree import Tree

from asterism.orchestrator.core.ids import StarId
from asterism.protocol.graph.figure import Arrow, ArrowKind, Box, Figure
from asterism.protocol.view.style import STATE_STYLES

_GATHERS: Final = 4
"""From so many parents on, a star is a root of its own: under any one of them it would seem to belong there."""


def tree(figure: Figure) -> Tree:
    """The tree: a star is under its only parent, else under the star that added it, else under its first parent."""
    above: dict[StarId, list[Arrow]] = {star: [] for star in figure.boxes}
    for arrow in figure.arrows:
        above[arrow.child].append(arrow)
    parent = {star: _parent(arrows) for star, arrows in above.items()}
    root = Tree(Text(f"{figure.name} — {figure.state}, revision {figure.revision}", style="bold"), highlight=False)
    branches: dict[StarId, Tree] = {}
    for star in figure.boxes:
        _grow(star, figure.boxes, parent, above, branches, root)
    return root


def _parent(arrows: list[Arrow]) -> StarId | None:
    lines = [arrow.parent for arrow in arrows if arrow.kind is not ArrowKind.ADDED]
    if len(lines) == 1:
        return lines[0]
    adder = next((arrow.parent for arrow in arrows if arrow.kind is ArrowKind.ADDED), None)
    return lines[0] if adder is None and 0 < len(lines) < _GATHERS else adder


def _grow(
    star: StarId,
    boxes: Mapping[StarId, Box],
    parent: Mapping[StarId, StarId | None],
    above: Mapping[StarId, list[Arrow]],
    branches: dict[StarId, Tree],
    root: Tree,
) -> None:
    """Adds a star's branch, and before it those of its parents; without recursion, for chains may be thousands long."""
    path: list[StarId] = []
    at: StarId | None = star
    while at is not None and at not in branches and at not in path:
        path.append(at)
        at = parent[at]
    branch = root if at is None or at not in branches else branches[at]
    for name in reversed(path):
        branch = branches[name] = branch.add(_label(boxes[name], above[name]))


def _label(box: Box, arrows: list[Arrow]) -> Text:
    label = Text()
    label.append(box.id, style="bold")
    label.append(f" {box.state.value}", style=STATE_STYLES[box.state])
    label.append(f"  {box.words}", style="dim")
    lines = [arrow.parent for arrow in arrows if arrow.kind is not ArrowKind.ADDED]
    if len(lines) >= _GATHERS:
        label.append(f"  ← {len(lines)} stars", style="dim")
    elif len(lines) > 1:
        label.append(f"  ← {', '.join(lines)}", style="dim")
    return label
