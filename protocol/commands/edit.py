"""`asterism edit`."""

from typing import Annotated

import typer

from asterism.orchestrator.core.ids import ConstellationId
from asterism.protocol.commands.options import Address, ConstellationArgument, Output, OutputFormat, TokenFile


def edit(
    constellation: ConstellationArgument,
    file: Annotated[
        str | None,
        typer.Option("--file", help="Take it from this file, or `-`: no editor, no question.", show_default=False),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print the file that an editor would open, and do no more.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and do no more.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before it is applied.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Kept in the journal, for who asks later.")] = "",
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Edit what neither runs nor has ended, as a plan file in $VISUAL or $EDITOR.

    The difference is shown and applied whole or not at all, against the graph that the file was written from. What was
    typed is never lost: where it is not applied, it stays in a file that is named.
    """
    from asterism.protocol.commands.actions import edit as action

    asked = action.Asked(ConstellationId(constellation), reason, dry_run, yes or file is not None, output)
    if show:
        action.show(asked, file, address, token_file)
    elif file is not None:
        action.edit_by_file(asked, file, address, token_file)
    else:
        action.edit_by_hand(asked, address, token_file)
