"""What this worker holds and what it owes the orchestrator, whatever becomes of connections. No clock, no network."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from asterism.agents.data import as_text
from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import FencingToken
from asterism.protocol.convert.worker import MAX_CHUNK
from asterism.workers.reports import (
    Failed,
    Outgoing,
    Proposal,
    Report,
    Stopped,
    Succeeded,
    describe_error,
    utf8_size,
)

MAX_WAITING_BYTES: Final = 64 * 1024
"""Streamed text that may wait for the stream; beyond it whoever streams waits, so a slow link slows the text only."""
MAX_CHUNK_CHARACTERS: Final = 4 * 1024
"""Waiting text of one thread is merged into chunks of about this size."""
MAX_FRAME_ITEMS: Final = 512
"""Proposals and reports in one frame: beyond 128 a frame costs no less per item (6 us), and reads get bursty."""
DEFAULT_FRAME_BYTES: Final = 1024 * 1024
"""Until the orchestrator has said how much it takes."""


class Session:
    """Owned by the link. Reports are kept until they are acknowledged; text is not, because nobody stores it."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._running: dict[FencingToken, None] = {}
        self._kept: dict[FencingToken, Report] = {}
        self._unsent: dict[FencingToken, None] = {}
        self._proposals: dict[tuple[FencingToken, int], Proposal] = {}
        self._unsent_proposals: dict[tuple[FencingToken, int], None] = {}
        self._waiting: dict[FencingToken, dict[str, list[Chunk]]] = {}
        self._tokens: dict[FencingToken, int] = {}
        """That models have written for each running attempt."""
        self._waiting_bytes = 0
        self._is_attached = False
        self._is_draining = False
        self._owes_drain = False
        self._owes_goodbye = False
        self.max_frame_bytes = DEFAULT_FRAME_BYTES
        self.chunks_dropped = 0
        """Chunks that no connection could carry."""

    @property
    def running(self) -> tuple[FencingToken, ...]:
        """The attempts that run here, in the order of their arrival."""
        return tuple(self._running)

    @property
    def held(self) -> tuple[FencingToken, ...]:
        """The attempts to announce: running, or with a report that nobody has acknowledged."""
        return (*self._running, *self._kept)

    @property
    def is_idle(self) -> bool:
        """Nothing runs and nothing is owed: the worker may leave."""
        return not self._running and not self._kept

    @property
    def has_room(self) -> bool:
        """Whether streamed text may be added now; without a connection there is always room, to drop it."""
        return not self._is_attached or self._waiting_bytes < MAX_WAITING_BYTES

    @property
    def has_something_to_send(self) -> bool:
        """Whether a frame would carry more than a sign of life."""
        return bool(self._unsent or self._unsent_proposals or self._waiting or self._owes_drain or self._owes_goodbye)

    def attach(self) -> None:
        """A new stream is open: everything that is kept goes out again, as the last stream may have swallowed it."""
        self._is_attached = True
        self._unsent = dict.fromkeys(self._kept)
        self._unsent_proposals = dict.fromkeys(self._proposals)
        self._owes_drain = self._is_draining

    def detach(self) -> None:
        """The stream is lost."""
        self._is_attached = False

    def accept(self, fencing_token: FencingToken) -> bool:
        """Whether to start this assignment: not one that is held already, nor one too many."""
        if fencing_token in self._running:
            return False
        if fencing_token in self._kept:
            self._unsent[fencing_token] = None
            return False
        self._running[fencing_token] = None
        if len(self._running) > self._slots:
            error = describe_error("worker_full", f"all {self._slots} slots are taken", retryable=True)
            self.finish(Failed(fencing_token, error))
            return False
        return True

    def stop(self, fencing_token: FencingToken) -> bool:
        """Whether there is a running attempt to stop; if not, the orchestrator is told that nothing runs."""
        if fencing_token in self._running:
            return True
        if fencing_token not in self._kept:
            self._keep(Stopped(fencing_token))
        return False

    def acknowledge(self, fencing_tokens: Iterable[FencingToken]) -> None:
        """The orchestrator needs these reports no more."""
        for fencing_token in fencing_tokens:
            self._kept.pop(fencing_token, None)
            self._unsent.pop(fencing_token, None)

    def stream(self, fencing_token: FencingToken, chunk: Chunk) -> None:
        """Add text to the next frame, merged with what waits of the same thread."""
        if fencing_token in self._running:
            self._tokens[fencing_token] = self._tokens.get(fencing_token, 0) + chunk.tokens
        if not self._is_attached and self._waiting_bytes >= MAX_WAITING_BYTES:
            self.chunks_dropped += 1
            return
        text = as_text(chunk.text)
        chunks = self._waiting.setdefault(fencing_token, {}).setdefault(chunk.thread, [])
        self._waiting_bytes += utf8_size(text)
        if chunks and len(chunks[-1].text) + len(text) <= MAX_CHUNK_CHARACTERS:
            last = chunks[-1]
            chunks[-1] = Chunk(chunk.thread, last.text + text, last.tokens + chunk.tokens)
        else:
            chunks.append(Chunk(chunk.thread, text[:MAX_CHUNK], chunk.tokens))
            rest = range(MAX_CHUNK, len(text), MAX_CHUNK)
            chunks.extend(Chunk(chunk.thread, text[start : start + MAX_CHUNK], 0) for start in rest)

    def propose(self, proposal: Proposal) -> None:
        """Send edits, on every new stream again; their answer comes as `answered`."""
        key = (proposal.fencing_token, proposal.number)
        self._proposals[key] = proposal
        self._unsent_proposals[key] = None

    def answered(self, fencing_token: FencingToken, number: int) -> bool:
        """Whether this answer is to a proposal that still waits for one."""
        self._unsent_proposals.pop((fencing_token, number), None)
        return self._proposals.pop((fencing_token, number), None) is not None

    def finish(self, report: Report) -> None:
        """An attempt has ended here; its report is kept until it is acknowledged."""
        fencing_token = report.fencing_token
        del self._running[fencing_token]
        for key in [key for key in self._proposals if key[0] == fencing_token]:
            del self._proposals[key]
            self._unsent_proposals.pop(key, None)
        tokens = self._tokens.pop(fencing_token, 0)
        self._keep(replace(report, tokens=tokens) if tokens else report)

    def refused(self, reason: str) -> tuple[Proposal, ...]:
        """The orchestrator ended the stream because something on it was invalid: it must not be sent again for ever.

        Results that were sent and not acknowledged become failures, which no check can refuse. Gives the proposals
        that were sent and not answered, and forgets them: the attempts that made them must fail too.
        """
        lost = tuple(proposal for key, proposal in self._proposals.items() if key not in self._unsent_proposals)
        for proposal in lost:
            del self._proposals[proposal.fencing_token, proposal.number]
        for fencing_token, report in self._kept.items():
            if isinstance(report, Succeeded) and fencing_token not in self._unsent:
                error = describe_error("report_refused", reason)
                self._kept[fencing_token] = Failed(fencing_token, error, report.tokens)
        return lost

    def drain(self) -> None:
        """Ask for no more stars."""
        self._is_draining = True
        self._owes_drain = True

    def leave(self) -> None:
        """Say goodbye in the next frame."""
        self._owes_goodbye = True

    def take(self) -> Outgoing:
        """What the next frame carries: all waiting text, then as much of the rest as fits."""
        progress = tuple(
            (fencing_token, tuple(chunk for chunks in threads.values() for chunk in chunks))
            for fencing_token, threads in self._waiting.items()
        )
        # Half of what the orchestrator takes: some bytes of each part are not counted.
        room = self.max_frame_bytes // 2 - self._waiting_bytes
        self._waiting.clear()
        self._waiting_bytes = 0
        proposals: list[Proposal] = []
        for key in list(self._unsent_proposals):
            proposal = self._proposals[key]
            if len(proposals) >= MAX_FRAME_ITEMS or (proposals and proposal.size_bytes > room):
                break
            room -= proposal.size_bytes
            del self._unsent_proposals[key]
            proposals.append(proposal)
        reports: list[Report] = []
        if not self._unsent_proposals:
            for fencing_token in list(self._unsent):
                report = self._kept[fencing_token]
                size = report.size_bytes
                if len(reports) >= MAX_FRAME_ITEMS or ((reports or proposals) and size > room):
                    break
                room -= size
                del self._unsent[fencing_token]
                reports.append(report)
        is_draining, self._owes_drain = self._owes_drain, False
        is_goodbye = self._owes_goodbye and not self._unsent
        self._owes_goodbye = self._owes_goodbye and not is_goodbye
        return Outgoing(progress, tuple(proposals), tuple(reports), is_draining, is_goodbye)

    def _keep(self, report: Report) -> None:
        self._kept[report.fencing_token] = report
        self._unsent[report.fencing_token] = None


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next try to connect: exponential, half of it left to chance."""

    first_s: float = 0.1
    """Small, because a worker that is back within half a second should lose nothing."""
    multiplier: float = 2.0
    max_s: float = 2.0
    """Well within a lease, so that a restarted orchestrator finds its workers before it gives their stars away."""

    def delay_s(self, failures: int, chance: float) -> float:
        """Seconds to wait after that many failures in a row (from 1); `chance` is uniform in [0, 1)."""
        span: float = self.first_s * self.multiplier ** min(failures - 1, 32)
        return min(self.max_s, span) * (0.5 + chance / 2)
