"""`asterism graph`."""

from pathlib import Path
from typing import Annotated

import typer

from asterism.protocol.commands.options import Address, NewestByDefault, Output, OutputFormat, TokenFile
from asterism.protocol.graph.form import GraphForm


def graph(
    constellation: NewestByDefault = None,
    form: Annotated[
        GraphForm | None,
        typer.Option("--format", help="By default a tree, or what the file's suffix says.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Write to this file (.svg, .json, .dot, .mmd).", show_default=False),
    ] = None,
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Draw a request's graph: its stars, lines, attempts and revisions."""
    from asterism.protocol.commands.actions import graph as action

    action.graph(constellation, form, file, address, token_file, output)
