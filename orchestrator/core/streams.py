"""Inputs that are given while they are written: text from a parent that runs to its children that listen.

What a parent has written so far is held in memory alone. Where a part of it is missing, since a stream or a process
broke, its children hear nothing more of it before its end, which brings them the result: all before is a preview of it.
"""

from collections.abc import Iterator
from typing import Final

from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.effects import InputText, InputValue, Place, Stop
from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.inputs import missing_input
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.records import AttemptEnded
from asterism.orchestrator.core.retry import may_run_again
from asterism.orchestrator.core.star import (
    Attempt,
    AttemptOutcome,
    OutputOf,
    StarError,
    StarState,
    TaskStar,
    program_capability,
)
from asterism.orchestrator.core.state import Lease
from asterism.orchestrator.core.turn import Turn
from asterism.orchestrator.core.values import Artifact, Missing, find_at

STREAM_BROKEN: Final = "stream_broken"
"""Error code of an attempt that ended since what a parent was writing for it counts for nothing."""
MAIN_THREAD: Final = "main"
"""The reasoning thread whose text children hear."""
MAX_WRITTEN_CHARS: Final = 256 * 1024
"""Text of one attempt that is held for children; in UTF-8 it fits a frame. They hear nothing more after it."""


def on_written(
    turn: Turn, constellation: TaskConstellation, star: TaskStar, lease: Lease, chunks: tuple[Chunk, ...]
) -> None:
    """Pass on what a running star writes, and hold it for children that begin later."""
    if lease.written is None:
        return
    text = "".join(chunk.text for chunk in chunks if chunk.thread == MAIN_THREAD)
    if not text:
        return
    at = lease.written_chars
    if at + len(text) > MAX_WRITTEN_CHARS:
        lease.written = None
        return
    lease.written.append(text)
    lease.written_chars += len(text)
    for child, live in _listening(constellation, star):
        for name, _ in _taken(child, star.spec.id):
            turn.effect(InputText(live.worker, live.fencing_token, name, at, text))


def tell_written(turn: Turn, constellation: TaskConstellation, star: TaskStar) -> None:
    """Tell a running star all there is of its inputs that stream: at its beginning, and when its worker comes back."""
    live = star.live_attempt
    if live is None:
        return
    for parent_id, line in constellation.parents.get(star.spec.id, {}).items():
        if line.kind is not LineKind.STREAM:
            continue
        parent = constellation.stars[parent_id]
        if parent.state is StarState.SUCCEEDED:
            _tell_whole(turn, parent, star, live)
        elif parent.live_attempt is not None:
            lease = turn.state.workers[parent.live_attempt.worker].running[parent.live_attempt.fencing_token]
            if lease.written:
                text = "".join(lease.written)
                lease.written[:] = [text]
                for name, _ in _taken(star, parent_id):
                    turn.effect(InputText(live.worker, live.fencing_token, name, 0, text))


def tell_whole(turn: Turn, constellation: TaskConstellation, star: TaskStar) -> Iterator[tuple[TaskStar, StarError]]:
    """Tell the children that listen the result of a star that succeeded; gives those that ask for what it lacks."""
    for child, live in _listening(constellation, star):
        error = _tell_whole(turn, star, child, live)
        if error is not None:
            yield child, error


def break_streams(turn: Turn, constellation: TaskConstellation, star: TaskStar) -> list[TaskStar]:
    """End the attempts that listen to a star whose own attempt ends without a result, and those that listen to them.

    They begin anew with it. Gives those that may have done what is not to be done twice: they still run.
    """
    hearing: dict[StarId, TaskStar] = {}
    pending = [star]
    while pending:
        for child, _ in _listening(constellation, pending.pop()):
            if child.spec.id not in hearing:
                hearing[child.spec.id] = child
                pending.append(child)
    kept: list[TaskStar] = []
    for child in hearing.values():
        live = child.attempts[-1]
        capability = program_capability(child.spec.kind, child.spec.program)
        if not may_run_again(child, turn.state.workers[live.worker].describe(capability)):
            kept.append(child)
            continue
        error = StarError(STREAM_BROKEN, f"what {star.spec.id} was writing for it has ended without a result")
        tokens = turn.state.workers[live.worker].running[live.fencing_token].tokens
        turn.effect(Stop(live.worker, live.fencing_token, error.message))
        turn.record(
            AttemptEnded(
                turn.seq,
                turn.at,
                constellation.id,
                child.spec.id,
                live.number,
                AttemptOutcome.CANCELLED,
                error,
                None,
                releases_slot=False,
                tokens=tokens,
            )
        )
    return kept


def _listening(constellation: TaskConstellation, star: TaskStar) -> Iterator[tuple[TaskStar, Attempt]]:
    """The children that run and listen."""
    for child_id in constellation.listeners.get(star.spec.id, ()):
        child = constellation.stars[child_id]
        live = child.live_attempt
        if live is not None:
            yield child, live


def _taken(child: TaskStar, parent: StarId) -> Iterator[tuple[str, OutputOf]]:
    """The inputs that the child takes from the parent."""
    for name, source in child.spec.inputs.items():
        if isinstance(source, OutputOf) and source.star == parent:
            yield name, source


def _tell_whole(turn: Turn, parent: TaskStar, child: TaskStar, live: Attempt) -> StarError | None:
    for name, source in _taken(child, parent.spec.id):
        if isinstance(parent.result, Artifact):
            place = Place(name, (), parent.result, source.path)
            turn.effect(InputValue(live.worker, live.fencing_token, name, None, place))
            continue
        found = find_at(parent.result, source.path)
        if isinstance(found, Missing):
            return missing_input(name, source)
        turn.effect(InputValue(live.worker, live.fencing_token, name, found))
    return None
