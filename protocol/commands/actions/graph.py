"""Draws the constellation as a tree, or in a form for other programs."""

import sys
from pathlib import Path

from asterism.orchestrator.core.errors import Misconfigured
from asterism.protocol.commands.actions.connection import connected, history_of, named_or_newest
from asterism.protocol.commands.actions.running import run_to_exit
from asterism.protocol.commands.ending import ExitCode
from asterism.protocol.graph.form import GraphForm
from asterism.protocol.graph.render import form_of_file, render
from asterism.protocol.view.style import console, is_terminal


def graph(
    constellation: str | None, form: GraphForm | None, file: Path | None, address: str | None, token_file: Path | None
) -> None:
    """Writes the graph to a file or to stdout, by default in the form that the file's suffix says, or as a tree."""
    if form is None:
        form = GraphForm.TREE if file is None else form_of_file(file)
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
