"""Follows a request that somebody submitted."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.protocol.answers import StreamedText
from asterism.protocol.commands.actions.connection import connected, named_or_newest
from asterism.protocol.commands.actions.following import follow, in_sight, trouble_listener, view_of
from asterism.protocol.commands.actions.running import run_to_exit
from asterism.protocol.commands.ending import ExitCode
from asterism.protocol.commands.options import Output
from asterism.protocol.view.answer import answer_text
from asterism.protocol.view.json_lines import json_line
from asterism.protocol.view.json_text import json_text
from asterism.protocol.view.progress import Progress
from asterism.protocol.view.wording import one_line

if TYPE_CHECKING:
    from asterism.protocol.client import AsyncClient


def watch(
    constellation: str | None,
    after: int,
    star: str | None,
    address: str | None,
    token_file: Path | None,
    output: Output,
) -> None:
    """Shows every record until the request has ended, then its answer."""
    run_to_exit(_watch(constellation, after, star, address, token_file, output))


async def _watch(
    constellation: str | None,
    after: int,
    star: str | None,
    address: str | None,
    token_file: Path | None,
    output: Output,
) -> ExitCode:
    async with connected(address, token_file) as client:
        followed = await named_or_newest(client, constellation)
        with in_sight(followed):
            return await _follow(client, followed, after, None if star is None else StarId(star), output)


async def _follow(
    client: "AsyncClient", followed: ConstellationId, after: int, star: StarId | None, output: Output
) -> ExitCode:
    progress = Progress(followed)
    if output is Output.JSON:
        await _print_lines(client, progress, after)
    else:
        with view_of(progress, star=star) as view:
            await follow(client, followed, view)
    if output is Output.JSON and star is None and progress.state.is_terminal:
        return ExitCode.of_state(progress.state)
    ended = (await client.get(followed)).constellation
    if output is Output.TEXT:
        sys.stdout.write(answer_text(ended.answer()) + "\n")
    if star is not None and star not in ended.stars:
        sys.stderr.write(f"no star {one_line(star, 64)} in {followed}; `asterism get {followed}` lists them\n")
    # Where nothing came after the record that was asked for, nothing has told of the end.
    return ExitCode.of_state(progress.state if progress.state.is_terminal else ended.state)


async def _print_lines(client: "AsyncClient", progress: Progress, after: int) -> None:
    """JSON lines, each flushed: a reader behind a pipe sees what there is at once."""
    listener = trouble_listener(lambda text: sys.stderr.write(f"{text}\n"))
    async for item in client.watch(progress.id, after_seq=after, with_text=True, listener=listener):
        if not isinstance(item, StreamedText):
            progress.apply(item)
        sys.stdout.write(json_text(json_line(item)) + "\n")
        sys.stdout.flush()
