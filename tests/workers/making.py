"""Values and plain stand-ins that the tests of the worker build on."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from asterism.agents.asks import EditReply, Json
from asterism.orchestrator.core.edits import EditBatch
from asterism.orchestrator.core.effects import Assign
from asterism.orchestrator.core.errors import AsterismError
from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.star import StarKind
from asterism.orchestrator.core.values import Artifact
from asterism.workers.reports import Report

TOKEN = FencingToken(7)
MAX_BYTES = 1024 * 1024
"""Of an artifact, as the port says."""


def an_assignment(program: str = "test.program", **changes: Any) -> Assign:
    """An assignment of a REASON star on the model `scripted`."""
    fields: dict[str, Any] = {
        "worker": WorkerId("w1"),
        "constellation": ConstellationId("c1"),
        "star": StarId("s1"),
        "attempt": 1,
        "fencing_token": TOKEN,
        "kind": StarKind.REASON,
        "program": program,
        "inputs": {},
        "model": "scripted",
        "revision": 3,
        "may_edit": False,
        "start_to_close_s": None,
        "heartbeat_s": None,
    }
    return Assign(**{**fields, **changes})


@dataclass(slots=True)
class RecordingPort:
    """A `Port` that keeps what comes, answers proposals with `reply`, and waits for `gate` in `stream`."""

    reply: EditReply = field(default_factory=lambda: EditReply(True, (), 4))
    chunks: list[tuple[FencingToken, Chunk]] = field(default_factory=list)
    batches: list[EditBatch] = field(default_factory=list)
    has_streamed: asyncio.Event = field(default_factory=asyncio.Event)
    kept: dict[Artifact, bytes] = field(default_factory=dict)
    asked: list[Artifact] = field(default_factory=list)
    refusal: AsterismError | None = None
    """Raised where an artifact is put or got."""

    async def stream(self, fencing_token: FencingToken, chunk: Chunk) -> None:
        self.chunks.append((fencing_token, chunk))
        self.has_streamed.set()

    async def propose(self, fencing_token: FencingToken, batch: EditBatch, size_bytes: int) -> EditReply:
        self.batches.append(batch)
        return self.reply

    @property
    def max_artifact_bytes(self) -> int:
        return MAX_BYTES

    async def put_artifact(self, fencing_token: FencingToken, artifact: Artifact, data: bytes) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.kept[artifact] = data

    async def get_artifact(self, fencing_token: FencingToken, artifact: Artifact) -> bytes:
        self.asked.append(artifact)
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal
        return self.kept[artifact]

    def text_of(self, thread: str) -> str:
        """All that was streamed under this thread's id."""
        return "".join(chunk.text for _, chunk in self.chunks if chunk.thread == thread)

    def tokens_of(self, thread: str) -> int:
        """How many tokens were counted under it."""
        return sum(chunk.tokens for _, chunk in self.chunks if chunk.thread == thread)


@dataclass(slots=True)
class RecordingLedger:
    """A `Ledger` that keeps reports, and can be waited on."""

    reports: list[Report] = field(default_factory=list)
    has_changed: asyncio.Event = field(default_factory=asyncio.Event)

    def finish(self, report: Report) -> None:
        self.reports.append(report)
        self.has_changed.set()

    async def wait_for(self, count: int) -> None:
        """Until there are that many."""
        while len(self.reports) < count:
            self.has_changed.clear()
            await self.has_changed.wait()


def add_star(star: str) -> Mapping[str, Json]:
    """An edit as a program writes it."""
    return {"add_star": {"id": star, "kind": "tool", "program": "noop"}}
