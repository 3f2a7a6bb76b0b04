"""What a person following a request should see: a fold of its journal records and streamed text, without a terminal."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, assert_never

from asterism.orchestrator.core.edits import (
    AddLine,
    AddStar,
    CancelStar,
    Edit,
    RebindInputs,
    RemoveLine,
    RemoveStar,
    UpdateStar,
)
from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.records import (
    AttemptEnded,
    AttemptLeased,
    ConstellationEnded,
    ConstellationPaused,
    ConstellationRecord,
    EditsApplied,
    EditsRefused,
    RequestAccepted,
    SlotReleased,
    StarFinished,
)
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.star import StarKind, StarState
from asterism.protocol.view.edits_text import describe_edits
from asterism.protocol.view.wording import one_line, seconds

_CHANGES_KEPT: Final = 50
"""Lines of news kept for a view; a live one shows the last few of them."""
_TEXT_KEPT: Final = 600
"""Characters of streamed text kept for each reasoning thread: more than the widest cell shows."""
_THREADS_KEPT: Final = 256
"""Reasoning threads whose text is kept for one star; the runner's own bound."""


@dataclass(slots=True)
class StarRow:
    """One star as a row of a table."""

    id: StarId
    kind: StarKind
    program: str
    title: str
    state: StarState = StarState.WAITING
    worker: str = ""
    """That of the last attempt."""
    attempt: int = 0
    """0 before the first lease."""
    leased_at: float | None = None
    ended_at: float | None = None
    note: str = ""
    """Why it waits again, failed or was cancelled."""
    threads: dict[str, str] = field(default_factory=dict)
    """Reasoning thread -> end of its text, in the current attempt; the last to speak is the last."""
    tokens: int = 0
    parents: set[StarId] = field(default_factory=set)

    def seconds(self, now: float) -> float | None:
        """How long the last attempt has run, in seconds; None before the first."""
        if self.leased_at is None:
            return None
        return max((self.ended_at if self.ended_at is not None else now) - self.leased_at, 0.0)

    @property
    def said(self) -> str:
        """The end of what the last reasoning thread to speak has said."""
        return next(reversed(self.threads.values()), "")


@dataclass(frozen=True, slots=True)
class Change:
    """A piece of news in one line; `at` in seconds since the epoch, by the orchestrator's clock."""

    at: float
    text: str


@dataclass(slots=True)
class Progress:
    """The view model of one request. Feed it every record in journal order, and text in between."""

    id: ConstellationId
    name: str = ""
    state: ConstellationState = ConstellationState.RUNNING
    reason: str = ""
    revision: int = 0
    accepted_at: float | None = None
    ended_at: float | None = None
    seq: int = 0
    """The last record that was folded in: where to resume."""
    stars: dict[StarId, StarRow] = field(default_factory=dict)
    """In the order in which they were added."""
    changes: deque[Change] = field(default_factory=lambda: deque(maxlen=_CHANGES_KEPT))

    @property
    def stars_terminal(self) -> int:
        """How many of the known stars have ended."""
        return sum(star.state.is_terminal for star in self.stars.values())

    def count(self, state: StarState) -> int:
        """How many stars are in `state`."""
        return sum(star.state is state for star in self.stars.values())

    def elapsed_s(self, now: float) -> float:
        """Seconds since the request was accepted, or until it ended."""
        if self.accepted_at is None:
            return 0.0
        return max((self.ended_at if self.ended_at is not None else now) - self.accepted_at, 0.0)

    def apply(self, record: ConstellationRecord) -> Change | None:
        """Folds in the next record; gives its news, or None where it says nothing to people."""
        self.seq = record.seq
        text = self._fold(record)
        if text is None:
            return None
        change = Change(record.at, text)
        self.changes.append(change)
        return change

    def hear(self, star: StarId, attempt: int, chunks: Iterable[Chunk]) -> None:
        """Adds streamed text; that of an attempt which is not the star's last is dropped."""
        row = self.stars.get(star)
        if row is None or row.attempt != attempt or row.state.is_terminal:
            return
        for chunk in chunks:
            said = row.threads.pop(chunk.thread, "")
            row.threads[chunk.thread] = (said + chunk.text)[-_TEXT_KEPT:]
            row.tokens += chunk.tokens
            if len(row.threads) > _THREADS_KEPT:
                del row.threads[next(iter(row.threads))]

    def most_interesting(self) -> Iterator[StarRow]:
        """Every star: those that run first, the longest-running at the top; then failures, news, what waits."""
        yield from sorted(self.stars.values(), key=_interest)

    def _fold(self, record: ConstellationRecord) -> str | None:
        match record:
            case RequestAccepted():
                self.name = record.request.name or record.request.form
                self.accepted_at = record.at
                return f"accepted {one_line(self.name, 80)}"
            case EditsApplied():
                self.revision = record.revision
                if self.state.is_terminal:  # only an edit or a retry reopens a request
                    self.state, self.reason, self.ended_at = ConstellationState.RUNNING, "", None
                for edit in record.edits:
                    self._edit(edit)
                self._settle()
                why = f" ({one_line(record.reason, 160)})" if record.reason else ""
                edits = describe_edits(record.edits)
                return f"revision {record.revision}: {edits} by {one_line(record.by, 80)}{why}"
            case EditsRefused():
                why = one_line("; ".join(record.reasons), 160)
                return f"refused the edits of {one_line(record.by, 80)}: {why}"
            case AttemptLeased():
                return self._lease(record)
            case AttemptEnded():
                return self._end_attempt(record)
            case StarFinished():
                return self._finish(record)
            case SlotReleased():
                return None
            case ConstellationPaused():
                why = f": {one_line(record.reason, 160)}" if record.reason else ""
                return f"{'paused' if record.is_paused else 'resumed'} by {one_line(record.by, 80)}{why}"
            case ConstellationEnded():
                self.state, self.reason, self.ended_at = record.state, record.reason, record.at
                why = f": {one_line(record.reason, 160)}" if record.reason else ""
                return f"{record.state.value}{why}"
            case _:
                assert_never(record)

    def _lease(self, record: AttemptLeased) -> str | None:
        row = self.stars.get(record.star)
        if row is None:
            return None
        row.state, row.worker, row.attempt = StarState.RUNNING, record.worker, record.attempt
        row.leased_at, row.ended_at, row.note, row.tokens = record.at, None, "", 0
        row.threads.clear()
        again = f" (attempt {record.attempt})" if record.attempt > 1 else ""
        return f"{row.id} runs on {row.worker}{again}"

    def _end_attempt(self, record: AttemptEnded) -> str | None:
        row = self.stars.get(record.star)
        if row is None:
            return None
        row.state = StarState.READY if record.retry_at is None else StarState.WAITING
        row.ended_at = record.at
        row.note = one_line(f"{record.outcome.value.lower()}: {record.error.message}", 160)
        then = "" if record.retry_at is None else f"; again in {seconds(record.retry_at - record.at)}"
        return f"{row.id} attempt {record.attempt} on {row.worker} {row.note}{then}"

    def _finish(self, record: StarFinished) -> str | None:
        row = self.stars.get(record.star)
        if row is None:
            return None
        row.state, row.ended_at = record.state, record.at
        row.note = "" if record.error is None else one_line(record.error.message, 160)
        self._settle()
        span = row.seconds(record.at)
        took = "" if span is None else f" after {seconds(span)}"
        why = f": {row.note}" if row.note else ""
        return f"{row.id} {record.state.value}{took}{why}"

    def _edit(self, edit: Edit) -> None:
        match edit:
            case AddStar(spec, after):
                self.stars[spec.id] = StarRow(spec.id, spec.kind, spec.program, spec.title, parents=set(after))
            case RemoveStar(star):
                self.stars.pop(star, None)
                for row in self.stars.values():
                    row.parents.discard(star)
            case UpdateStar(star):
                if star in self.stars and edit.title is not None:
                    self.stars[star].title = edit.title
            case AddLine(line):
                if line.child in self.stars:
                    self.stars[line.child].parents.add(line.parent)
            case RemoveLine(parent, child):
                if child in self.stars:
                    self.stars[child].parents.discard(parent)
            case RebindInputs() | CancelStar():
                pass  # a cancelled star ends by a record of its own
            case _:
                assert_never(edit)

    def _settle(self) -> None:
        """Marks as READY what waits for no parent any more; a star that waits for its next attempt is left alone."""
        for row in self.stars.values():
            if row.attempt or row.state not in (StarState.WAITING, StarState.READY):
                continue
            unmet = any(parent in self.stars and not self.stars[parent].state.is_terminal for parent in row.parents)
            row.state = StarState.WAITING if unmet else StarState.READY


_RANK: Final = {
    StarState.RUNNING: 0,
    StarState.FAILED: 1,
    StarState.READY: 2,
    StarState.SUCCEEDED: 3,
    StarState.CANCELLED: 4,
    StarState.WAITING: 5,
}


def _interest(row: StarRow) -> tuple[int, float]:
    """Sort key: by state, then running ones by age and ended ones by how fresh they are."""
    match row.state:
        case StarState.RUNNING:
            return _RANK[row.state], row.leased_at or 0.0
        case StarState.READY | StarState.WAITING:
            return _RANK[row.state], 0.0
        case StarState.SUCCEEDED | StarState.FAILED | StarState.CANCELLED:
            return _RANK[row.state], -(row.ended_at or 0.0)
        case _:
            assert_never(row.state)
