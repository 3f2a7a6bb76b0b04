"""Changes what runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.star import Constant, StarInput
from asterism.orchestrator.core.values import Json
from asterism.protocol.commands.actions.connection import connected
from asterism.protocol.commands.actions.running import run_to_exit
from asterism.protocol.commands.actions.saying import say
from asterism.protocol.commands.ending import ExitCode
from asterism.protocol.commands.options import Output
from asterism.protocol.convert.checks import json_from_text


def cancel(
    constellation: ConstellationId, reason: str, address: str | None, token_file: Path | None, output: Output
) -> None:
    """Cancels a request."""
    run_to_exit(_cancel(constellation, reason, address, token_file, output))


def retry(
    constellation: ConstellationId,
    stars: Sequence[str],
    settings: Sequence[str],
    address: str | None,
    token_file: Path | None,
    output: Output,
) -> None:
    """Runs again what did not succeed, or some stars with other inputs."""
    rebinds: dict[StarId, dict[str, StarInput]] = {}
    for setting in settings:
        star, name, value = _read_setting(setting)
        rebinds.setdefault(star, {})[name] = Constant(value)
    named = list(dict.fromkeys([*map(StarId, stars), *rebinds]))
    run_to_exit(_retry(constellation, named, rebinds, address, token_file, output))


def _read_setting(setting: str) -> tuple[StarId, str, Json]:
    """`STAR.INPUT=JSON`; a star's name may have dots itself."""
    place, sign, text = setting.partition("=")
    star, dot, name = place.rpartition(".")
    if not (sign and dot and star and name):
        raise InvalidField("--set", f"{setting!r} is not STAR.INPUT=JSON")
    try:
        return StarId(star), name, json_from_text(text, "--set")
    except InvalidField as error:
        raise InvalidField("--set", f"{error.reason}; text goes in double quotes: '{place}=\"yes\"'") from None


async def _cancel(
    constellation: ConstellationId, reason: str, address: str | None, token_file: Path | None, output: Output
) -> ExitCode:
    async with connected(address, token_file) as client:
        await client.cancel(constellation, reason)
    say(output, f"{constellation} is cancelled", {"id": constellation, "state": "CANCELLED"})
    return ExitCode.SUCCEEDED


async def _retry(
    constellation: ConstellationId,
    stars: Sequence[StarId],
    rebinds: Mapping[StarId, Mapping[str, StarInput]],
    address: str | None,
    token_file: Path | None,
    output: Output,
) -> ExitCode:
    async with connected(address, token_file) as client:
        revision = await client.retry(constellation, stars, rebinds)
    say(output, f"{constellation} runs again, revision {revision}", {"id": constellation, "revision": revision})
    return ExitCode.SUCCEEDED
