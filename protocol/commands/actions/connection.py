"""A client of the orchestrator that the user means."""

import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.core.records import ConstellationRecord
from asterism.protocol.answers import Picture, StreamedText
from asterism.protocol.commands.ending import NoRequestYet
from asterism.protocol.graph.picture import History, read_history
from asterism.protocol.settings import ClientSettings, load_settings, read_secret

if TYPE_CHECKING:
    from asterism.protocol.client import AsyncClient


def settings_of(address: str | None, token_file: Path | None) -> ClientSettings:
    """The settings, where these two flags win over the environment and the file."""
    return load_settings(address, None if token_file is None else read_secret(token_file, "--token-file"))


@asynccontextmanager
async def connected(address: str | None, token_file: Path | None) -> AsyncIterator["AsyncClient"]:
    """A client, closed at the end."""
    async with client_of(settings_of(address, token_file)) as client:
        yield client


def client_of(settings: ClientSettings) -> "AsyncClient":
    """A client that is yet to be entered; warnings about the settings go to stderr."""
    from asterism.protocol.client import AsyncClient  # gRPC takes 150 ms to import

    for warning in settings.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    return AsyncClient.from_settings(settings)


async def named_or_newest(client: "AsyncClient", constellation: str | None) -> ConstellationId:
    """The constellation that the user names; the newest one where none is named."""
    if constellation is not None:
        return ConstellationId(constellation)
    async for summary in client.list(page_size=1):
        return summary.id
    raise NoRequestYet


async def journal_of(
    client: "AsyncClient", constellation: ConstellationId, until_seq: int
) -> list[ConstellationRecord]:
    """Its records up to and with `until_seq`, which is one of them."""
    records: list[ConstellationRecord] = []
    async with aclosing(client.watch(constellation, with_text=False)) as items:
        async for item in items:
            if isinstance(item, StreamedText):
                continue
            if item.seq <= until_seq:
                records.append(item)
            if item.seq >= until_seq:
                break
    return records


async def history_of(client: "AsyncClient", picture: Picture) -> History:
    """How a constellation came to be what the picture shows: its journal up to there."""
    return read_history(await journal_of(client, picture.constellation.id, picture.constellation.seq))
