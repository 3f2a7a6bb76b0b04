"""Saves a star's result to a file, or writes it to stdout."""

import os
import secrets
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from asterism.orchestrator.core.errors import Misconfigured, NotFound, WrongState
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.star import StarState
from asterism.orchestrator.core.values import Artifact, Result
from asterism.protocol.commands.actions.connection import connected, named_or_newest
from asterism.protocol.commands.actions.running import run_to_exit
from asterism.protocol.commands.ending import ExitCode
from asterism.protocol.view.json_text import json_text
from asterism.protocol.view.style import console, is_terminal

if TYPE_CHECKING:
    from asterism.protocol.client import AsyncClient

LONG_BYTES: Final = 4 * 1024 * 1024
"""From here on a person is shown how far it is."""


def fetch(
    star: str, constellation: str | None, file: Path | None, address: str | None, token_file: Path | None
) -> None:
    """Writes the JSON text of the result as it is; what ends it before its end leaves no file."""
    run_to_exit(_fetch(StarId(star), constellation, file, address, token_file))


async def _fetch(
    star: StarId, constellation: str | None, file: Path | None, address: str | None, token_file: Path | None
) -> ExitCode:
    async with connected(address, token_file) as client:
        of = (await client.get(await named_or_newest(client, constellation))).constellation
        found = of.stars.get(star)
        if found is None:
            raise NotFound("star", star)
        if found.state is not StarState.SUCCEEDED:
            raise WrongState("star", star, found.state.value, "only one that succeeded has a result")
        size = found.result.size if isinstance(found.result, Artifact) else 0
        async with aclosing(_parts(client, of.id, star, found.result)) as parts:
            shown = _shown(parts, size, star) if size >= LONG_BYTES and is_terminal(stderr=True) else parts
            with _opened(file) as out:
                async for part in shown:
                    out.write(part)
    return ExitCode.SUCCEEDED


async def _parts(
    client: "AsyncClient", constellation: ConstellationId, star: StarId, result: Result
) -> AsyncGenerator[bytes, None]:
    if isinstance(result, Artifact):
        async with aclosing(client.artifact_parts(constellation, star)) as parts:
            async for part in parts:
                yield part
    else:
        yield json_text(result).encode()


async def _shown(parts: AsyncIterator[bytes], size: int, star: StarId) -> AsyncIterator[bytes]:
    """The parts, with a bar on stderr that grows with them."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(star, total=size)
        async for part in parts:
            yield part
            progress.advance(task, len(part))


@contextmanager
def _opened(file: Path | None) -> Iterator[BinaryIO]:
    """Where to write. A file appears when all has been written; else nothing is left, and an older one stays."""
    if file is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        if file.exists() and not file.is_file():
            # A device, a pipe or a folder is written into, or refuses it: nothing may take its place.
            with file.open("wb") as out:
                yield out
            return
        target = Path(os.path.realpath(file))  # a link stays one
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        try:
            with part.open("xb") as out:
                yield out
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise Misconfigured("--to", f"cannot write {file}: {error.strerror or error}") from error
