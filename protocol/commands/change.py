"""`asterism cancel` and `asterism retry`."""

from typing import Annotated

import typer

from asterism.orchestrator.core.ids import ConstellationId
from asterism.protocol.commands.options import Address, ConstellationArgument, Output, OutputFormat, TokenFile


def cancel(
    constellation: ConstellationArgument,
    reason: Annotated[str, typer.Option("--reason", help="Kept with the request.")] = "cancelled by its user",
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Cancel a request: what runs is told to stop, what has ended stays."""
    from asterism.protocol.commands.actions import change as action

    action.cancel(ConstellationId(constellation), reason, address, token_file, output)


def retry(
    constellation: ConstellationArgument,
    star: Annotated[
        list[str] | None,
        typer.Option("--star", help="Run this one again, and what changes with it (repeat it).", show_default=False),
    ] = None,
    set_input: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="STAR.INPUT=JSON",
            help="Another input (repeat it). As --star does, it limits the retry to the star that it names.",
            show_default=False,
        ),
    ] = None,
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Run what failed or was cancelled again, as new stars beside the old ones.

    What depends on them runs again too, unless its inputs turn out to be what they were: then it keeps its result.
    """
    from asterism.protocol.commands.actions import change as action

    action.retry(ConstellationId(constellation), star or [], set_input or [], address, token_file, output)
