"""Edits what is pending: the file is written, a person or a program changes it, and the difference is applied."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

import typer

from asterism.orchestrator.core.check import check_batch
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.edits import Edit, EditBatch
from asterism.orchestrator.core.errors import InvalidEdit, InvalidField, StaleRevision, WrongState
from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.core.records import EditsApplied
from asterism.orchestrator.core.values import Json
from asterism.protocol.commands.actions.connection import connected, journal_of
from asterism.protocol.commands.actions.editor import Draft, check_editor, read_text
from asterism.protocol.commands.actions.plan_files import plan_files
from asterism.protocol.commands.actions.running import answer_of, exit_at_sigterm
from asterism.protocol.commands.ending import ExitCode, print_error
from asterism.protocol.commands.options import Output
from asterism.protocol.replay import edited, replay
from asterism.protocol.view.difference import Difference, as_json, difference, in_words, summary
from asterism.protocol.view.edits_text import describe_edits
from asterism.protocol.view.json_text import json_text
from asterism.protocol.view.wording import one_line


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says."""

    constellation: ConstellationId
    reason: str
    is_dry: bool
    is_sure: bool
    """Whether it is applied without a question."""
    output: Output


@dataclass(frozen=True, slots=True)
class Orchestrator:
    """Where to ask; a connection lasts for one question, since a person may type for an hour between two of them."""

    asked: Asked
    address: str | None
    token_file: Path | None

    async def picture(self) -> TaskConstellation:
        """The graph as it stands."""
        async with connected(self.address, self.token_file) as client:
            return (await client.get(self.asked.constellation)).constellation

    async def at(self, seq: int) -> TaskConstellation:
        """The graph as it stood behind that record of its journal."""
        async with connected(self.address, self.token_file) as client:
            records = await journal_of(client, self.asked.constellation, seq)
        if not records or records[-1].seq != seq:
            raise InvalidField(
                "seq", f"{self.asked.constellation} has no record {seq}; leave the line as it was, or out"
            )
        return replay(self.asked.constellation, records).constellation

    async def edits_between(self, before: TaskConstellation, after: TaskConstellation) -> list[str]:
        """Each revision from one to the other, in a line."""
        async with connected(self.address, self.token_file) as client:
            records = await journal_of(client, self.asked.constellation, after.seq)
        return [
            f"meanwhile: revision {record.revision} by {record.by}: {describe_edits(record.edits)}"
            for record in records
            if isinstance(record, EditsApplied) and record.revision > before.revision
        ]

    async def apply(self, edits: Sequence[Edit], base: TaskConstellation) -> int:
        """The new revision."""
        async with connected(self.address, self.token_file) as client:
            batch = EditBatch(tuple(edits), base.revision)
            return await client.edit(self.asked.constellation, batch, self.asked.reason)


def show(asked: Asked, file: str | None, address: str | None, token_file: Path | None) -> None:
    """Prints the file that an editor would open."""
    if file is not None:
        raise InvalidField("--show", "it prints what is pending now; --file says what is to be")
    files = plan_files()
    sys.stdout.write(files.write_pending(answer_of(Orchestrator(asked, address, token_file).picture())))


def edit_by_file(asked: Asked, file: str, address: str | None, token_file: Path | None) -> None:
    """Makes the pending part what a file says."""
    plan_files()  # what it takes may not be installed: better said before anything is asked
    text = read_text(file)
    orchestrator = Orchestrator(asked, address, token_file)
    _take(text, orchestrator, answer_of(orchestrator.picture()), is_told=False)


def edit_by_hand(asked: Asked, address: str | None, token_file: Path | None) -> None:
    """Opens the editor, again and again where something is wrong and the person wants to."""
    files = plan_files()
    check_editor()
    orchestrator = Orchestrator(asked, address, token_file)
    known = answer_of(orchestrator.picture())
    if known.state.is_terminal:
        sys.stderr.write(f"{known.id} is {known.state}: stars that you add bring it back\n")
    draft = Draft(known.id, files.write_pending(known))
    end = _End.REOPEN
    try:
        while end is _End.REOPEN:
            draft.edit()
            text = draft.read()
            try:
                end = _take(text, orchestrator, known, is_told=True)
            except InvalidField as error:
                print_error(error.message)
                if not _wants_again():
                    raise typer.Exit(ExitCode.of(error)) from None
                notes = [error.message]
                if isinstance(error, _Refused):
                    now = answer_of(orchestrator.picture())
                    notes += answer_of(orchestrator.edits_between(known, now))
                    known = now
                draft.write(files.write_notes(text, [one_line(note, 500) for note in notes]))
    finally:
        if end is _End.SETTLED or not draft.is_worth_keeping:
            draft.discard()
        else:
            sys.stderr.write(f"what you typed is in {draft.path}: asterism edit {known.id} --file {draft.path}\n")
    if end is _End.DECLINED:
        raise typer.Exit(ExitCode.FAILED)


class _End(Enum):
    """What became of a text."""

    SETTLED = auto()
    """There is nothing left to do with it."""
    SHOWN = auto()
    DECLINED = auto()
    REOPEN = auto()


class _Refused(InvalidField):
    """The orchestrator did not take the edits: the graph may have changed since it was looked at."""


def _take(text: str, orchestrator: Orchestrator, known: TaskConstellation, *, is_told: bool) -> _End:
    """Applies a text if that is wanted.

    What it asks for is what differs from the graph that it was written from. `is_told`: whether its writer has been
    told of what others changed between that graph and `known`, so that it may be applied on top of it.
    """
    asked = orchestrator.asked
    file = plan_files().read_pending(text)
    if file.constellation not in (None, known.id):
        raise InvalidField("constellation", f"the file is of {file.constellation}, and you edit {known.id}")
    if file.seq is not None and file.seq > known.seq:
        raise InvalidField("seq", _no_record(known.id, file.seq))
    base = known if file.seq in (None, known.seq) else answer_of(orchestrator.at(file.seq))
    edits = file.edits_of(base)
    against = known if is_told else base
    try:
        if edits and against is not base:
            check_batch(against, EditBatch(edits), frozenset())
        found = difference(against, edited(against, edits)) if edits else Difference()
        end = _settle(asked, found, against)
        revision = None if end is not None else answer_of(orchestrator.apply(edits, against))
    except InvalidEdit as error:
        place = file.place_of(error.star) or error.field
        raise _Refused(place, f"star {error.star}: {error.reason}") from error
    except (StaleRevision, WrongState) as error:
        if not is_told:
            raise
        raise _Refused("the graph", error.message) from error
    if revision is not None:
        _say(asked, f"{known.id} is at revision {revision}", against, found, revision)
    return _End.SETTLED if end is None else end


def _no_record(constellation: ConstellationId, seq: int) -> str:
    return f"{constellation} has no record {seq}; leave the line as it was, or take it out"


def _settle(asked: Asked, found: Difference, against: TaskConstellation) -> _End | None:
    """Shows the difference; None where it is to be applied."""
    if not found:
        _say(asked, "nothing changed", against, found, None)
        return _End.SETTLED
    if asked.output is Output.TEXT or not (asked.is_sure or asked.is_dry):
        stream = sys.stdout if asked.output is Output.TEXT else sys.stderr
        head = f"against revision {against.revision}: {summary(found)}"
        stream.write("\n".join((head, *in_words(found), "")))
        stream.flush()
    if asked.is_dry:
        _say(asked, "nothing was applied: it was a dry run", against, found, None)
        return _End.SHOWN
    end = None if asked.is_sure else _ask_whether()
    if end is _End.DECLINED:
        _say(asked, "nothing was applied", against, found, None)
    return end


def _say(asked: Asked, text: str, against: TaskConstellation, found: Difference, revision: int | None) -> None:
    if asked.output is Output.TEXT:
        sys.stdout.write(f"{text}\n")
        return
    told: dict[str, Json] = {"id": against.id, "base_revision": against.revision, "revision": revision}
    sys.stdout.write(json_text({**told, "is_applied": revision is not None, **as_json(found)}) + "\n")


def _ask_whether() -> _End | None:
    """None for yes."""
    while True:
        match _answer("apply it? [y]es, [n]o, [e]dit again: "):
            case "y" | "yes":
                return None
            case "e" | "edit":
                return _End.REOPEN
            case None | "" | "n" | "no":
                return _End.DECLINED
            case _:
                pass


def _wants_again() -> bool:
    return _answer("open the editor again? [Y/n] ") in ("", "y", "yes")


def _answer(question: str) -> str | None:
    """In lower case; None where nobody is there to answer."""
    with exit_at_sigterm():
        sys.stderr.write(question)
        sys.stderr.flush()
        line = sys.stdin.readline()
    if not line:
        sys.stderr.write("\n")
    return line.strip().lower() if line else None
