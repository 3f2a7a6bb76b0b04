"""`asterism watch`."""

from typing import Annotated

import typer

from asterism.protocol.commands.options import MAX_SEQ, Address, NewestByDefault, Output, OutputFormat, TokenFile


def watch(
    constellation: NewestByDefault = None,
    after: Annotated[
        int, typer.Option("--after", min=0, max=MAX_SEQ, help="With --output json: only what came after this record.")
    ] = 0,
    star: Annotated[
        str | None, typer.Option("--star", help="Show the reasoning threads of this star, side by side.")
    ] = None,
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Follow a request to its end and print its answer. With JSON: one line for each record and piece of text."""
    from asterism.protocol.commands.actions import watch as action

    action.watch(constellation, after, star, address, token_file, output)
