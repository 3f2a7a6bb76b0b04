"""`asterism history` and `asterism replay`: how a graph came to be what it is."""

from typing import Annotated

import typer

from asterism.orchestrator.core.ids import ConstellationId
from asterism.protocol.commands.options import Address, ConstellationArgument, Output, OutputFormat, TokenFile


def history(
    constellation: ConstellationArgument,
    revision: Annotated[
        int | None,
        typer.Option("--revision", min=1, help="Draw the graph as this edit left it.", show_default=False),
    ] = None,
    diff: Annotated[
        str | None,
        typer.Option("--diff", metavar="A..B", help="What differs between two revisions.", show_default=False),
    ] = None,
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Show every edit of a request's graph: when, by whom, why and what; the graph at a revision; or a difference."""
    from asterism.protocol.commands.actions import history as action

    action.history(ConstellationId(constellation), revision, diff, address, token_file, output)


def replay(
    constellation: ConstellationArgument,
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Rebuild a request from its journal, and compare it with what the orchestrator says; a difference ends with 1."""
    from asterism.protocol.commands.actions import history as action

    action.replay(ConstellationId(constellation), address, token_file, output)
