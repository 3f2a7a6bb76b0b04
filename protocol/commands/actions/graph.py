"""Draws the constellation as a tree, or in a form for other programs."""

import sys
from pathlib import Path

from asterism.orchestrator.core.errors import InvalidField, Misconfigured
from asterism.protocol.commands.actions.connection import connected, history_of, named_or_newest
from asterism.protocol.commands.actions.running import run_to_exit
from asterism.protocol.commands.ending import ExitCode
from asterism.protocol.commands.options import Output
from asterism.protocol.graph.form import GraphForm
from asterism.protocol.graph.render import form_of_file, render
from asterism.protocol.view.style import console, is_terminal


def graph(
    constellation: str | None,
    form: GraphForm | None,
    file: Path | None,
    address: str | None,
    token_file: Path | None,
    output: Output,
) -> None:
    """Writes the graph to a file or to stdout, by default in the form that the file's suffix says, or as a tree."""
    check_form(form, output)
    if form is None and output is Output.JSON:
        form = GraphForm.JSON
    elif form is None:
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


def check_form(form: GraphForm | None, output: Output) -> None:
    """Raises `InvalidField` where --format and --output ask for two things at once."""
    if output is Output.JSON and form not in (None, GraphForm.JSON):
        raise InvalidField("--format", f"it says {form.value}, and --output says json: leave out one of the two")


def write(text: str, file: Path | None, option: str = "--out") -> None:
    """To a file, or to stdout; raises `Misconfigured`, naming the option, when the file cannot be written."""
    if file is None:
        sys.stdout.write(text)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Misconfigured(option, f"cannot write {file}: {error.strerror}") from error
