"""Changes what runs."""

from pathlib import Path

from asterism.orchestrator.core.ids import ConstellationId
from asterism.protocol.commands.actions.connection import connected
from asterism.protocol.commands.actions.running import run_to_exit
from asterism.protocol.commands.actions.saying import say
from asterism.protocol.commands.ending import ExitCode
from asterism.protocol.commands.options import Output


def cancel(
    constellation: ConstellationId, reason: str, address: str | None, token_file: Path | None, output: Output
) -> None:
    """Cancels a request."""
    run_to_exit(_cancel(constellation, reason, address, token_file, output))


def retry(constellation: ConstellationId, address: str | None, token_file: Path | None, output: Output) -> None:
    """Runs again what did not succeed."""
    run_to_exit(_retry(constellation, address, token_file, output))


async def _cancel(
    constellation: ConstellationId, reason: str, address: str | None, token_file: Path | None, output: Output
) -> ExitCode:
    async with connected(address, token_file) as client:
        await client.cancel(constellation, reason)
    say(output, f"{constellation} is cancelled", {"id": constellation, "state": "CANCELLED"})
    return ExitCode.SUCCEEDED


async def _retry(
    constellation: ConstellationId, address: str | None, token_file: Path | None, output: Output
) -> ExitCode:
    async with connected(address, token_file) as client:
        revision = await client.retry(constellation)
    say(output, f"{constellation} runs again, revision {revision}", {"id": constellation, "revision": revision})
    return ExitCode.SUCCEEDED
