"""`asterism get` and `asterism list`."""

from typing import Annotated

import typer

from asterism.orchestrator.core.request import ConstellationState
from asterism.protocol.commands.options import Address, NewestByDefault, Output, OutputFormat, TokenFile


def get(
    constellation: NewestByDefault = None,
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Show a request: its state, its stars and what they wait for, its answer."""
    from asterism.protocol.commands.actions import get as action

    action.get(constellation, address, token_file, output)


def list_requests(
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many.")] = 20,
    state: Annotated[
        list[ConstellationState] | None, typer.Option("--state", help="Only these.", show_default=False)
    ] = None,
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """List requests, newest first."""
    from asterism.protocol.commands.actions import get as action

    action.list_requests(limit, tuple(state or ()), address, token_file, output)
