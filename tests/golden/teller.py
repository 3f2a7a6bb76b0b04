"""Tells a story to the machine: lines that begin with `>` go in, the lines below each are what it records and does."""

import json
import re
from collections.abc import Iterator
from typing import assert_never

from asterism.orchestrator.core.condition import Comparison, Condition
from asterism.orchestrator.core.edits import (
    AddLine,
    AddStar,
    CancelStar,
    Edit,
    EditBatch,
    RebindInputs,
    RemoveLine,
    RemoveStar,
    UpdateStar,
)
from asterism.orchestrator.core.effects import (
    Acknowledge,
    AnswerEdits,
    Assign,
    Broadcast,
    Disconnect,
    Effect,
    InputText,
    InputValue,
    Stop,
)
from asterism.orchestrator.core.errors import AsterismError
from asterism.orchestrator.core.events import (
    AttemptFailed,
    AttemptProgressed,
    AttemptSucceeded,
    CancelRequested,
    Chunk,
    DrainRequested,
    EditRequested,
    EditsProposed,
    Event,
    HeldAttempt,
    RequestSubmitted,
    RetryRequested,
    TimePassed,
    WorkerAttached,
    WorkerDetached,
    WorkerRenewed,
)
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import (
    AttemptEnded,
    AttemptLeased,
    ConstellationEnded,
    ConstellationPaused,
    EditsApplied,
    EditsRefused,
    Record,
    RequestAccepted,
    SlotReleased,
    StarFinished,
    WorkerDraining,
    WorkerJoined,
    WorkerLabelled,
    WorkerLeft,
)
from asterism.orchestrator.core.request import Budget, Request
from asterism.orchestrator.core.snapshot import Snapshot
from asterism.orchestrator.core.star import (
    OutputOf,
    ParentOutcomes,
    RetryPolicy,
    StarError,
    StarInput,
    StarKind,
    StarSpec,
    Timeouts,
)

LEASE_S = 10.0
ARROWS = {LineKind.SUCCESS: "->", LineKind.COMPLETION: "~>", LineKind.CONDITION: "?>", LineKind.QUORUM: "+>"}


class Teller:
    """One machine, and the words of a story for it."""

    def __init__(self) -> None:
        self._machine = Machine(Snapshot((), (), 0, FencingToken(0)), at=0.0, lease_s=LEASE_S)
        self._proposals = 0

    def tell(self, line: str) -> Iterator[str]:
        """What becomes of one `> SECOND VERB ...` line."""
        at, verb, *words = line.removeprefix(">").split()
        if verb == "look":
            yield from self._look(ConstellationId(words[0]))
            return
        try:
            outcome = self._machine.step(self._event(float(at), verb, words))
        except AsterismError as refusal:
            yield f"refused: {refusal.message}"
            return
        if outcome.reply is not None:
            is_new = "" if outcome.reply.is_new else " (known)"
            yield f"answer: {outcome.reply.constellation} at revision {outcome.reply.revision}{is_new}"
        yield from (f"record {show_record(record)}" for record in outcome.records)
        yield from (f"effect {show_effect(effect)}" for effect in outcome.effects)

    def _look(self, constellation_id: ConstellationId) -> Iterator[str]:
        constellation = self._machine.constellations[constellation_id]
        yield f"{constellation.state} revision {constellation.revision} {constellation.reason}".rstrip()
        waiting = self._machine.waiting_for(constellation_id)
        for star_id, star in constellation.stars.items():
            why = f" waits for {waiting[star_id]}" if star_id in waiting else ""
            error = f" {star.error.code}: {star.error.message}" if star.error is not None else ""
            result = f" {json.dumps(star.result)}" if star.result is not None else ""
            tries = " ".join(f"{attempt.number}:{attempt.worker}:{attempt.outcome}" for attempt in star.attempts)
            yield f"{star_id} {star.state}{result}{error}{why}{f' [{tries}]' if tries else ''}"

    def _event(self, at: float, verb: str, words: list[str]) -> Event:
        options = dict(word.split("=", 1) for word in words if re.match(r"[a-z_]+=", word))
        first = words[0] if words else ""
        match verb:
            case "attach":
                profile = WorkerProfile(
                    int(options.get("slots", "2")),
                    models=tuple(options["models"].split(",")) if "models" in options else (),
                    tools=("t",),
                    programs=("p",),
                )
                held = tuple(
                    HeldAttempt(FencingToken(int(token))) for token in options.get("held", "").split(",") if token
                )
                return WorkerAttached(at, WorkerId(first), options.get("instance", "one"), profile, held)
            case "detach":
                worker = self._machine.workers[WorkerId(first)]
                return WorkerDetached(at, worker.id, worker.instance, "goodbye" in words)
            case "renew":
                return WorkerRenewed(at, WorkerId(first))
            case "drain":
                return DrainRequested(at, WorkerId(first), True)
            case "time":
                return TimePassed(at)
            case "submit":
                plan = StarSpec(
                    StarId("plan"), StarKind.PLAN, "p", may_edit=True, timeouts=Timeouts(start_to_close_s=30)
                )
                budget = Budget(int(options.get("stars", "100")), int(options.get("attempts", "100")), 60.0)
                request = Request("text", options.get("text", "hello"))
                return RequestSubmitted(
                    at, ConstellationId(first), options.get("request", first), "me", request, budget, plan
                )
            case "edit":
                return EditRequested(at, ConstellationId(first), "client:me", _batch(words[1:]))
            case "cancel":
                return CancelRequested(at, ConstellationId(first), "the client asked")
            case "retry":
                return RetryRequested(at, ConstellationId(first), "client:me")
        token = FencingToken(int(first))
        worker_id = WorkerId(words[1])
        rest = words[2:]
        match verb:
            case "propose" | "repeat":
                self._proposals += verb == "propose"
                return EditsProposed(at, worker_id, token, self._proposals, _batch(rest))
            case "stream":
                return AttemptProgressed(at, worker_id, token, (Chunk("main", " ".join(rest), len(rest)),))
            case "succeed":
                result = json.loads(rest[0]) if rest else None
                return AttemptSucceeded(at, worker_id, token, result, _batch(rest[1:]) if rest[1:] else None)
            case "fail":
                return AttemptFailed(at, worker_id, token, StarError("boom", "it broke", "retryable" in rest))
            case "stopped":
                return AttemptFailed(at, worker_id, token, StarError("stopped", "as told"), is_stopped=True)
        raise ValueError(verb)


def _batch(words: list[str]) -> EditBatch:
    base = next((int(word.removeprefix("base=")) for word in words if word.startswith("base=")), None)
    return EditBatch(tuple(_edit(word) for word in words if not word.startswith("base=")), base)


def _edit(word: str) -> Edit:
    """`+a` adds a star (`+a*` one that may edit, `+a:parent.path` one with an input, `+a:all` one that gathers),
    `-a` removes it, `!a` cancels it, `^a` raises it, `a<b` gives it what b gives; `a->b` is a line, `a~>b` one on end,
    `a?>b` one on the condition that the result is 1, `a-/b` takes a line away.
    """
    if line := re.fullmatch(r"(\S+?)(->|~>|\?>|-/)(\S+)", word):
        parent, sort, child = StarId(line[1]), line[2], StarId(line[3])
        if sort == "-/":
            return RemoveLine(parent, child)
        kind = next(kind for kind, arrow in ARROWS.items() if arrow == sort)
        condition = Condition.of(("result",), Comparison.EQ, 1) if kind is LineKind.CONDITION else None
        return AddLine(TaskStarLine(parent, child, kind, condition))
    if rebind := re.fullmatch(r"(\w+)<(\w+)", word):
        return RebindInputs(StarId(rebind[1]), {"x": OutputOf(StarId(rebind[2]))})
    sort, name = word[0], word[1:]
    match sort:
        case "+":
            name, _, rest = name.partition(":")
            inputs: dict[str, StarInput] = {}
            requires = frozenset[str]()
            for part in filter(None, rest.split(",")):
                if part == "all":
                    inputs["x"] = ParentOutcomes()
                elif "/" in part:
                    requires = frozenset({part.replace("/", ":")})
                else:
                    parent_id, *path = part.split(".")
                    inputs["x"] = OutputOf(StarId(parent_id), tuple(path))
            retry, may_edit = RetryPolicy(2, 1.0, jitter=0.0), name.endswith("*")
            star = StarId(name.removesuffix("*"))
            return AddStar(StarSpec(star, StarKind.TOOL, "t", inputs, requires, retry=retry, may_edit=may_edit))
        case "-":
            return RemoveStar(StarId(name))
        case "!":
            return CancelStar(StarId(name))
        case "^":
            return UpdateStar(StarId(name), priority=5)
    raise ValueError(word)


def show_edit(edit: Edit) -> str:
    """One edit as the stories write it."""
    match edit:
        case AddStar(spec):
            return " ".join((f"+{spec.id}", *(show_edit(AddLine(line)) for line in edit.lines())))
        case RemoveStar(star):
            return f"-{star}"
        case UpdateStar(star):
            return f"^{star}"
        case AddLine(line):
            return f"{line.parent}{ARROWS[line.kind]}{line.child}"
        case RemoveLine(parent, child):
            return f"{parent}-/{child}"
        case RebindInputs(star, inputs):
            return f"{star}<{','.join(inputs)}"
        case CancelStar(star):
            return f"!{star}"
        case _:
            assert_never(edit)


def show_record(record: Record) -> str:
    """One record, as a reader of a story wants it."""
    match record:
        case RequestAccepted():
            return f"{record.constellation} accepted"
        case EditsApplied():
            edits = " ".join(show_edit(edit) for edit in record.edits)
            return f"{record.constellation} revision {record.revision} by {record.by}: {edits}"
        case EditsRefused():
            return f"{record.constellation} refused edits by {record.by}: {'; '.join(record.reasons)}"
        case AttemptLeased():
            return f"{record.star} attempt {record.attempt} on {record.worker}, token {record.fencing_token}"
        case AttemptEnded():
            again = "at once" if record.retry_at is None else f"at {record.retry_at:g}"
            slot = "" if record.releases_slot else ", slot still held"
            return f"{record.star} attempt {record.attempt} {record.outcome}: {record.error.code}, again {again}{slot}"
        case StarFinished():
            error = "" if record.error is None else f" {record.error.code}: {record.error.message}"
            result = "" if record.result is None else f" {json.dumps(record.result)}"
            slot = "" if record.releases_slot else ", slot still held"
            return f"{record.star} {record.state}{result}{error}{slot}"
        case SlotReleased():
            return f"{record.star} attempt {record.attempt} gives its slot back"
        case ConstellationPaused():
            return f"{record.constellation} {'paused' if record.is_paused else 'goes on'} by {record.by}"
        case ConstellationEnded():
            return f"{record.constellation} {record.state} {record.reason}".rstrip()
        case WorkerJoined():
            return f"worker {record.worker} joined, instance {record.instance}, {record.profile.slots} slots"
        case WorkerLeft():
            return f"worker {record.worker} left: {record.reason}"
        case WorkerDraining():
            return f"worker {record.worker} {'drains' if record.is_draining else 'takes stars again'}"
        case WorkerLabelled():
            return f"worker {record.worker} labels {dict(record.labels)}"
        case _:
            assert_never(record)


def show_effect(effect: Effect) -> str:
    """One effect, as a reader of a story wants it."""
    match effect:
        case Assign():
            inputs = f" {json.dumps(effect.inputs)}" if effect.inputs else ""
            return (
                f"to {effect.worker}: run {effect.star} attempt {effect.attempt}, token {effect.fencing_token}{inputs}"
            )
        case InputText():
            return f"to {effect.worker}: more for token {effect.fencing_token}, {effect.input} {effect.text!r}"
        case InputValue():
            return (
                f"to {effect.worker}: all for token {effect.fencing_token}, {effect.input} {json.dumps(effect.value)}"
            )
        case Stop():
            return f"to {effect.worker}: stop token {effect.fencing_token} ({effect.reason})"
        case Acknowledge():
            return f"to {effect.worker}: acknowledged token {', '.join(map(str, effect.fencing_tokens))}"
        case AnswerEdits():
            verdict = "accepted" if effect.is_accepted else f"refused ({'; '.join(effect.reasons)})"
            return f"to {effect.worker}: edits {verdict}, revision {effect.revision}"
        case Broadcast():
            return f"to watchers of {effect.constellation}: {effect.star} says {effect.chunks[0].text!r}"
        case Disconnect():
            return f"to {effect.worker}: goodbye ({effect.reason})"
        case _:
            assert_never(effect)
