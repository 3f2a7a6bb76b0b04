"""Mermaid and Graphviz forms of a constellation."""

from typing import Final, assert_never

from asterism.orchestrator.core.star import StarState
from asterism.protocol.graph.figure import ArrowKind, Figure

COLOURS: Final = {
    StarState.WAITING: "#8b949e",
    StarState.READY: "#3b82f6",
    StarState.RUNNING: "#d97706",
    StarState.SUCCEEDED: "#15803d",
    StarState.FAILED: "#dc2626",
    StarState.CANCELLED: "#7c3aed",
}
"""One per state; each stands out from white and from near-black (contrast of 3 or more, WCAG 2.2 section 1.4.11)."""


def mermaid(figure: Figure) -> str:
    """A Mermaid flowchart. Nodes are numbered, because a star's name may hold characters that an id may not."""
    number = {star: index for index, star in enumerate(figure.boxes)}
    rows = ["flowchart LR"]
    rows += [
        f'  s{number[box.id]}["{_mermaid_text(box.id)}<br/>{_mermaid_text(box.words)}"]:::{box.state.value.lower()}'
        for box in figure.boxes.values()
    ]
    rows += [
        f"  s{number[arrow.parent]} {_mermaid_arrow(arrow.kind)} s{number[arrow.child]}" for arrow in figure.arrows
    ]
    rows += [f"  classDef {state.value.lower()} stroke:{colour},stroke-width:2px" for state, colour in COLOURS.items()]
    return "\n".join(rows) + "\n"


def dot(figure: Figure) -> str:
    """A Graphviz digraph."""
    rows = [
        f"digraph {_dot_text(figure.name)} {{",
        "  rankdir=LR;",
        '  node [shape=box, style=rounded, fontname="Helvetica", fontsize=10, penwidth=2];',
    ]
    rows += [
        f"  {_dot_text(box.id)} [label={_dot_text(box.id, box.words)}, color={_dot_text(COLOURS[box.state])}];"
        for box in figure.boxes.values()
    ]
    rows += [
        f"  {_dot_text(arrow.parent)} -> {_dot_text(arrow.child)} [style={_dot_style(arrow.kind)}];"
        for arrow in figure.arrows
    ]
    return "\n".join([*rows, "}"]) + "\n"


def _mermaid_arrow(kind: ArrowKind) -> str:
    match kind:
        case ArrowKind.SUCCESS:
            return "-->"
        case ArrowKind.COMPLETION:
            return "-.->"
        case ArrowKind.CONDITION:
            return "-->|if|"
        case ArrowKind.QUORUM:
            return "-->|votes|"
        case ArrowKind.GUARD:
            return "-.->|may save|"
        case ArrowKind.STREAM:
            return "==>"
        case ArrowKind.ADDED:
            return "-. adds .->"
        case _:
            assert_never(kind)


def _mermaid_text(text: str) -> str:
    """Inside quotes Mermaid reads entities, so that no word ends the quotes or becomes markup."""
    return "".join(char if char.isalnum() or char in " ._~-·,:/" else f"#{ord(char)};" for char in text)


def _dot_style(kind: ArrowKind) -> str:
    match kind:
        case ArrowKind.SUCCESS:
            return "solid"
        case ArrowKind.COMPLETION:
            return "dashed"
        case ArrowKind.CONDITION:
            return "bold"
        case ArrowKind.QUORUM:
            return "tapered"
        case ArrowKind.GUARD:
            return "dotted"
        case ArrowKind.STREAM:
            return '"bold,dashed"'
        case ArrowKind.ADDED:
            return "dotted"
        case _:
            assert_never(kind)


def _dot_text(*lines: str) -> str:
    return '"' + "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'
