"""`asterism plan check`: light to import; what it needs is imported when it runs."""

import sys
from enum import StrEnum
from typing import Annotated

import typer


class _Output(StrEnum):
    text = "text"
    json = "json"


app = typer.Typer(no_args_is_help=True, help="Check plan files.")


@app.callback()
def _plan() -> None:
    """Check plan files."""


@app.command()
def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A plan in YAML or JSON, or `-` for standard input.")],
    lines: Annotated[
        bool, typer.Option("--lines", help="It is written as lines, one star each, as models write plans.")
    ] = False,
    output: Annotated[_Output, typer.Option("--output", help="For people, or for programs.")] = _Output.text,
) -> None:
    """Check a plan without running it, and show the stars that it makes.

    What is wrong is named with its line and column, and ends with code 2. Whether workers offer its tools and models is
    checked when it is submitted.
    """
    from pathlib import Path

    from asterism.orchestrator.core.request import Request
    from asterism.planner.check import check_size
    from asterism.planner.outline import as_json, as_tree, read_plan

    text = _read(file)
    if not lines:
        # Under the name that `asterism submit` gives it, which counts.
        check_size(Request("plan", text, "stdin" if file == "-" else Path(file).name[:200]))
    stars = read_plan(text, is_lines=lines)
    sys.stdout.write(as_json(stars) if output is _Output.json else as_tree(stars))


def _read(file: str) -> str:
    from pathlib import Path

    from asterism.orchestrator.core.errors import InvalidField
    from asterism.orchestrator.core.request import MAX_REQUEST_BYTES

    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_REQUEST_BYTES + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(MAX_REQUEST_BYTES + 1)
    except OSError as error:
        raise InvalidField("FILE", f"{file} cannot be read: {error.strerror}") from None
    if len(data) > MAX_REQUEST_BYTES:
        raise InvalidField("FILE", f"{file} has more than {MAX_REQUEST_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidField("FILE", f"{file} is no text in UTF-8: byte {error.start}") from None
