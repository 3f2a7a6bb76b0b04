"""Answers what waits for a person, holds requests back, and lets them go on."""

from pathlib import Path

from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.values import Json
from asterism.protocol.commands.actions.connection import connected
from asterism.protocol.commands.actions.running import run_to_exit
from asterism.protocol.commands.actions.saying import say
from asterism.protocol.commands.ending import ExitCode
from asterism.protocol.commands.options import Output
from asterism.protocol.convert.checks import json_from_text


def decide(
    constellation: ConstellationId,
    star: StarId,
    approve: bool,
    reason: str,
    value: str | None,
    address: str | None,
    token_file: Path | None,
    output: Output,
) -> None:
    """Answers a star that waits for a person."""
    run_to_exit(_decide(constellation, star, approve, reason, value, address, token_file, output))


def replan(
    constellation: ConstellationId, why: str, address: str | None, token_file: Path | None, output: Output
) -> None:
    """Has a model rewrite a request."""
    run_to_exit(_replan(constellation, why, address, token_file, output))


def pause(
    constellation: ConstellationId,
    is_paused: bool,
    reason: str,
    address: str | None,
    token_file: Path | None,
    output: Output,
) -> None:
    """Holds a request back, or lets it go on."""
    run_to_exit(_pause(constellation, is_paused, reason, address, token_file, output))


async def _decide(
    constellation: ConstellationId,
    star: StarId,
    approve: bool,
    reason: str,
    value: str | None,
    address: str | None,
    token_file: Path | None,
    output: Output,
) -> ExitCode:
    given: Json = None
    if value is not None:
        try:
            given = json_from_text(value, "--value")
        except InvalidField as error:
            raise InvalidField("--value", f"{error.reason}; text goes in double quotes: --value '\"yes\"'") from None
    async with connected(address, token_file) as client:
        await client.decide(constellation, star, approve=approve, reason=reason, value=given)
    answer = "approved" if approve else "rejected"
    say(output, f"{star} of {constellation} is {answer}", {"id": constellation, "star": star, "decision": answer})
    return ExitCode.SUCCEEDED


async def _replan(
    constellation: ConstellationId, why: str, address: str | None, token_file: Path | None, output: Output
) -> ExitCode:
    async with connected(address, token_file) as client:
        revision = await client.replan(constellation, why)
    text = f"{constellation} is to be rewritten; asterism watch {constellation} shows what changes"
    say(output, text, {"id": constellation, "revision": revision})
    return ExitCode.SUCCEEDED


async def _pause(
    constellation: ConstellationId,
    is_paused: bool,
    reason: str,
    address: str | None,
    token_file: Path | None,
    output: Output,
) -> ExitCode:
    async with connected(address, token_file) as client:
        await client.pause(constellation, reason, is_paused=is_paused)
    text = f"is paused; asterism resume {constellation} lets it go on" if is_paused else "goes on"
    say(output, f"{constellation} {text}", {"id": constellation, "is_paused": is_paused})
    return ExitCode.SUCCEEDED
