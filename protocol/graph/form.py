"""The names of the forms in which a graph leaves the program."""

from enum import StrEnum


class GraphForm(StrEnum):
    """How to write a graph."""

    TREE = "tree"
    MERMAID = "mermaid"
    DOT = "dot"
    JSON = "json"
    SVG = "svg"
