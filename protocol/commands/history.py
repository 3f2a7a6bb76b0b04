"""`asterism history` and `asterism replay`: how a request's graph came to be what it is."""

from pathlib import Path
from typing import Annotated

import typer

from asterism.protocol.commands.options import Address, NewestByDefault, Output, OutputFormat, TokenFile
from asterism.protocol.graph.form import GraphForm


def history(
    constellation: NewestByDefault = None,
    revision: Annotated[
        int | None,
        typer.Option("--revision", min=0, help="Draw the graph as this revision made it.", show_default=False),
    ] = None,
    diff: Annotated[
        str | None,
        typer.Option("--diff", metavar="A..B", help="What differs from revision A to B.", show_default=False),
    ] = None,
    form: Annotated[
        GraphForm | None,
        typer.Option("--format", help="Of --revision; a tree, or what the file's suffix says.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Write --revision to this file (.svg, .json, ...).", show_default=False),
    ] = None,
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """List the revisions of a request's graph: when, who, why and what. Or draw one, or tell two apart."""
    from asterism.protocol.commands.actions import history as action

    asked = action.Asked(revision, None if diff is None else action.read_range(diff), form, file)
    action.history(constellation, asked, address, token_file, output)


def replay(
    constellation: NewestByDefault = None,
    until: Annotated[
        int | None, typer.Option("--until", min=0, help="Stop with this revision.", show_default=False)
    ] = None,
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Rebuild a request from its journal, and compare it with what the orchestrator says. Exits with 1 if they differ.

    With --until it stops with the edit that made that revision, and there is nothing to compare.
    """
    from asterism.protocol.commands.actions import history as action

    action.replay_journal(constellation, until, address, token_file, output)
