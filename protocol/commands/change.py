"""`asterism cancel` and `asterism retry`: change what runs."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from asterism.orchestrator.core.ids import ConstellationId
from asterism.protocol.commands.connection import connected
from asterism.protocol.commands.ending import ExitCode
from asterism.protocol.commands.options import Address, ConstellationArgument, Output, OutputFormat, TokenFile
from asterism.protocol.commands.running import run_to_exit


def cancel(
    constellation: ConstellationArgument,
    reason: Annotated[str, typer.Option("--reason", help="Kept with the request.")] = "cancelled by its user",
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Cancel a request: what runs is told to stop, what has ended stays."""
    run_to_exit(_cancel(ConstellationId(constellation), reason, address, token_file, output))


def retry(
    constellation: ConstellationArgument,
    address: Address = None,
    token_file: TokenFile = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Run what failed or was cancelled again, as new stars beside the old ones."""
    run_to_exit(_retry(ConstellationId(constellation), address, token_file, output))


async def _cancel(
    constellation: ConstellationId, reason: str, address: str | None, token_file: Path | None, output: Output
) -> ExitCode:
    async with connected(address, token_file) as client:
        await client.cancel(constellation, reason)
    _say(output, f"{constellation} is cancelled", {"id": constellation, "state": "CANCELLED"})
    return ExitCode.SUCCEEDED


async def _retry(
    constellation: ConstellationId, address: str | None, token_file: Path | None, output: Output
) -> ExitCode:
    async with connected(address, token_file) as client:
        revision = await client.retry(constellation)
    _say(output, f"{constellation} runs again, revision {revision}", {"id": constellation, "revision": revision})
    return ExitCode.SUCCEEDED


def _say(output: Output, text: str, answer: dict[str, str | int]) -> None:
    sys.stdout.write((json.dumps(answer) if output is Output.JSON else text) + "\n")
