"""The forms in which a graph leaves the program."""

from pathlib import Path
from typing import Final, assert_never

from asterism.orchestrator.core.errors import InvalidField
from asterism.protocol.answers import Picture
from asterism.protocol.graph.figure import figure_of
from asterism.protocol.graph.form import GraphForm
from asterism.protocol.graph.picture import History, draw_picture
from asterism.protocol.view.json_text import json_text

_SUFFIXES: Final = {
    ".json": GraphForm.JSON,
    ".svg": GraphForm.SVG,
    ".dot": GraphForm.DOT,
    ".gv": GraphForm.DOT,
    ".mmd": GraphForm.MERMAID,
    ".mermaid": GraphForm.MERMAID,
    ".txt": GraphForm.TREE,
}


def form_of_file(file: Path, other_way: str = ", or give --format") -> GraphForm:
    """The form that a file's suffix stands for; raises `InvalidField`, with `other_way` to say it."""
    form = _SUFFIXES.get(file.suffix.lower())
    if form is None:
        raise InvalidField("file", f"{file.name}: the suffix must be one of {', '.join(_SUFFIXES)}{other_way}")
    return form


def render(form: GraphForm, picture: Picture, history: History) -> str:
    """The graph as text in one of the forms, with a line break at its end."""
    figure = figure_of(picture.constellation, history)
    match form:
        case GraphForm.JSON:
            drawn = draw_picture(picture.constellation, history, picture.waiting_for)
            return json_text(drawn, indent=2) + "\n"
        case GraphForm.MERMAID:
            from asterism.protocol.graph.text import mermaid

            return mermaid(figure)
        case GraphForm.DOT:
            from asterism.protocol.graph.text import dot

            return dot(figure)
        case GraphForm.SVG:
            from asterism.protocol.graph.svg import svg

            return svg(figure)
        case GraphForm.TREE:
            from rich.console import Console

            from asterism.protocol.graph.tree import tree

            console = Console(width=_TREE_WIDTH, no_color=True, force_terminal=False, highlight=False)
            with console.capture() as capture:
                console.print(tree(figure))
            return capture.get()
        case _:
            assert_never(form)


_TREE_WIDTH: Final = 160
"""Columns of a tree in a file."""
