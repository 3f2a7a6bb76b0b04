"""One watcher's stream: first what the journal holds, then what comes, each record once and in order."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.effects import Broadcast
from asterism.orchestrator.core.errors import NotFound
from asterism.orchestrator.core.records import ConstellationEnded, ConstellationRecord, EditsApplied
from asterism.orchestrator.loop import Loop
from asterism.orchestrator.outbox import ForWatcher, WatcherOutbox
from asterism.orchestrator.services.auth import Renewal
from asterism.orchestrator.store import Store
from asterism.protocol.convert import record_to_proto, streamed_text_to_proto
from asterism.protocol.v1 import client_pb2

PAGE: Final = 256
"""Records read from the journal, or taken from the outbox, at a time."""
MAX_FRAME_BYTES: Final = 256 * 1024
"""Of several items; one that is larger goes alone. For a watcher that does not read, gRPC keeps some copies of one."""


async def stream_to(
    context: Any,
    loop: Loop,
    store: Store,
    read: Callable[[], Awaitable[TaskConstellation | None]],
    outbox: WatcherOutbox,
    after_seq: int,
    renewal: Renewal,
) -> None:
    """Write until the constellation, which `read` gives as it is on disk, has ended.

    `outbox` must have been open before: it bridges journal and presence.
    """
    seq = after_seq
    while True:
        seq = await _replay(context, store, outbox, seq)
        in_memory = loop.machine.constellations.get(outbox.constellation)
        if in_memory is not None and not in_memory.state.is_terminal:
            break  # its end is still to come, through the outbox
        on_disk = await read()
        if on_disk is None:
            raise NotFound("request", outbox.constellation, "it has been removed while it was read")
        if on_disk.seq <= seq:
            if on_disk.state.is_terminal:
                return
            break
    has_ended = False
    while not has_ended:
        taken = await outbox.take(PAGE)
        if not taken:
            return
        await renewal.check()
        items = [item for item in taken if isinstance(item, Broadcast) or item.seq > seq]
        for item in items:
            if isinstance(item, Broadcast):
                continue
            seq = item.seq
            if isinstance(item, ConstellationEnded):
                has_ended = True
            elif isinstance(item, EditsApplied):
                has_ended = False  # an edit of an ended constellation reopens it
        await _write(context, items)


async def _replay(context: Any, store: Store, outbox: WatcherOutbox, seq: int) -> int:
    """Write all that is on disk after `seq`; gives the last sequence number."""
    while page := await store.read_journal(outbox.constellation, after_seq=seq, limit=PAGE):
        await _write(context, page)
        seq = page[-1].seq
        if len(page) < PAGE:
            break
    return seq


async def _write(context: Any, items: Sequence[ForWatcher]) -> None:
    for frame in frames(items):
        await context.write(frame)


def frames(items: Sequence[ForWatcher]) -> Iterator[client_pb2.WatchResponse]:
    """As few messages as carry the items, none larger than MAX_FRAME_BYTES but for one large item."""
    frame, size = client_pb2.WatchResponse(), 0
    for item in items:
        part = _frame_of(item)
        part_size = part.ByteSize()
        if size and size + part_size > MAX_FRAME_BYTES:
            yield frame
            frame, size = client_pb2.WatchResponse(), 0
        frame.MergeFrom(part)
        size += part_size
    if size:
        yield frame


def _frame_of(item: Broadcast | ConstellationRecord) -> client_pb2.WatchResponse:
    if isinstance(item, Broadcast):
        return client_pb2.WatchResponse(texts=[streamed_text_to_proto(item)])
    return client_pb2.WatchResponse(records=[record_to_proto(item)])
