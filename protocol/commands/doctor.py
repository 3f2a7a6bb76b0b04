"""`asterism doctor`."""

from asterism.protocol.commands.options import Address, Output, OutputFormat, TokenFile


def doctor(address: Address = None, token_file: TokenFile = None, output: OutputFormat = Output.TEXT) -> None:
    """Check this installation and the way to its orchestrator. Exits with 1 when something fails."""
    from asterism.protocol.commands.actions import doctor as action

    action.doctor(address, token_file, output)
