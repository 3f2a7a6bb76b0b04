"""Following a request to its end: frames or lines while it runs."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

from asterism.orchestrator.core.errors import AsterismError, NotLeading, Unreachable
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.records import ConstellationRecord
from asterism.protocol.answers import StreamedText
from asterism.protocol.commands.actions.running import beside
from asterism.protocol.commands.ending import OutOfSight
from asterism.protocol.patience import TroubleListener
from asterism.protocol.view.progress import Progress
from asterism.protocol.view.style import console, is_terminal
from asterism.protocol.view.wording import one_line

if TYPE_CHECKING:
    from asterism.protocol.client import AsyncClient
    from asterism.protocol.view.live import LiveView
    from asterism.protocol.view.plain import PlainView

View: TypeAlias = "LiveView | PlainView"


_FRAME_S: Final = 0.1
"""Time between two frames, in seconds: smooth enough to read, and cheap over ssh."""


def view_of(progress: Progress, *, is_live: bool = True, is_quiet: bool = False, star: StarId | None = None) -> "View":
    """The live view where people look at both streams, plain lines on stderr elsewhere; `star` shows its threads."""
    if is_live and not is_quiet and is_terminal() and is_terminal(stderr=True):
        from asterism.protocol.view.live import LiveView

        return LiveView(console(stderr=True), progress, star)
    from asterism.protocol.view.plain import PlainView

    return PlainView(sys.stderr, progress, is_quiet=is_quiet, star=star)


@contextmanager
def in_sight(constellation: ConstellationId) -> Iterator[None]:
    """While a request is followed: an orchestrator that cannot be reached any more is said with how to go on."""
    try:
        yield
    except (Unreachable, NotLeading) as error:
        raise OutOfSight(constellation, error) from error


def trouble_listener(say: Callable[[str], object]) -> TroubleListener:
    """Says that the connection is lost, and that it is back."""

    def hear(trouble: AsterismError | None) -> None:
        if trouble is None:
            say("connected again")
        else:
            say(f"no connection ({one_line(trouble.message, 300)}); it is tried again")

    return hear


async def follow(
    client: "AsyncClient", constellation: ConstellationId, view: "View", *, after_seq: int = 0
) -> list[ConstellationRecord]:
    """Shows a request until it ends; gives its records after `after_seq`."""
    return await beside(_show(client, constellation, view, after_seq), _draw(view))


async def _show(
    client: "AsyncClient", constellation: ConstellationId, view: "View", after_seq: int
) -> list[ConstellationRecord]:
    records: list[ConstellationRecord] = []
    listener = trouble_listener(view.say)
    async for item in client.watch(constellation, after_seq=after_seq, with_text=True, listener=listener):
        if isinstance(item, StreamedText):
            view.hear(item.star, item.attempt, item.chunks)
        else:
            view.show(item)
            records.append(item)
    view.refresh()
    return records


async def _draw(view: "View") -> None:
    """Frames, at a rate for eyes; what they show comes by events."""
    while True:
        view.refresh()
        await asyncio.sleep(_FRAME_S)
