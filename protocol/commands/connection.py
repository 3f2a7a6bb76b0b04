"""A client of the orchestrator that the user means."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from asterism.orchestrator.core.errors import Misconfigured, NotFound
from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.core.records import ConstellationRecord
from asterism.protocol.answers import Picture, StreamedText
from asterism.protocol.graph.picture import History, read_history
from asterism.protocol.settings import ClientSettings, load_settings

if TYPE_CHECKING:
    from asterism.protocol.client import AsyncClient


def settings_of(address: str | None, token_file: Path | None) -> ClientSettings:
    """The settings, where these two flags win over the environment and the file."""
    return load_settings(address, None if token_file is None else _credential(token_file))


@asynccontextmanager
async def connected(address: str | None, token_file: Path | None) -> AsyncIterator["AsyncClient"]:
    """A client, closed at the end."""
    from asterism.protocol.client import AsyncClient  # gRPC takes 150 ms to import

    async with AsyncClient.from_settings(settings_of(address, token_file)) as client:
        yield client


async def named_or_newest(client: "AsyncClient", constellation: str | None) -> ConstellationId:
    """The constellation that the user names; the newest one where none is named."""
    if constellation is not None:
        return ConstellationId(constellation)
    async for summary in client.list(page_size=1):
        return summary.id
    raise NotFound("constellation", "(the newest: there is none yet)")


async def history_of(client: "AsyncClient", picture: Picture) -> History:
    """How a constellation came to be what the picture shows: its journal up to there."""
    records: list[ConstellationRecord] = []
    async for item in client.watch(picture.constellation.id, with_text=False):
        if isinstance(item, StreamedText):
            continue
        if item.seq > picture.constellation.seq:
            break
        records.append(item)
        if item.seq == picture.constellation.seq:
            break
    return read_history(records)


def _credential(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError as error:
        raise Misconfigured("--token-file", f"cannot read {file}: {error.strerror}") from error
