"""`asterism fetch`."""

from pathlib import Path
from typing import Annotated

import typer

from asterism.protocol.commands.options import Address, NewestByDefault, StarArgument, TokenFile


def fetch(
    star: StarArgument,
    constellation: NewestByDefault = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="A file, written whole or not at all; stdout without it.")
    ] = None,
    address: Address = None,
    token_file: TokenFile = None,
) -> None:
    """Save a star's result, of whatever size, as JSON text."""
    from asterism.protocol.commands.actions import fetch as action

    action.fetch(star, constellation, to, address, token_file)
