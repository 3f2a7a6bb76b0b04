"""`asterism graph`: the constellation as a tree, or in a form for other programs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from asterism.orchestrator.core.errors import Misconfigured
from asterism.protocol.commands.connection import connected, history_of, named_or_newest
from asterism.protocol.commands.ending import ExitCode
from asterism.protocol.commands.options import Address, NewestByDefault, Output, OutputFormat, TokenFile
from asterism.protocol.commands.running import run_to_exit
from asterism.protocol.graph.render import GraphForm, form_of_file, render
from asterism.protocol.view.style import console, is_terminal


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
    if form is None:
        form = GraphForm.JSON if output is Output.JSON else GraphForm.TREE if file is None else form_of_file(file)
    run_to_exit(_graph(constellation, form, file, address, token_file))


async def _graph(
    constellation: str | None, form: GraphForm, file: Path | None, address: str | None, token_file: Path | None
) -> ExitCode:
    async with connected(address, token_file) as client:
        picture = await client.get(await named_or_newest(client, constellation))
        history = await history_of(client, picture)
    if form is GraphForm.TREE and file is None and is_terminal():
        from asterism.protocol.graph.figure import figure_of
        from asterism.protocol.graph.tree import tree

        console().print(tree(figure_of(picture.constellation, history)))
    else:
        write(render(form, picture, history), file)
    return ExitCode.SUCCEEDED


def write(text: str, file: Path | None) -> None:
    """To a file, or to stdout; raises `Misconfigured` when the file cannot be written."""
    if file is None:
        sys.stdout.write(text)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Misconfigured("--out", f"cannot write {file}: {error.strerror}") from error
