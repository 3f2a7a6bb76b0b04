"""Drives the real machine through a request by hand: programs run here, and the caller chooses who ends next."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from asterism.agents.asks import EditReply, Emit, Program, ProgramContext, ProgramFailed, ProgramResult
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.edits import EditBatch
from asterism.orchestrator.core.effects import AnswerEdits, Assign, Effect, Outcome, Stop
from asterism.orchestrator.core.events import (
    AttemptFailed,
    AttemptSucceeded,
    EditsProposed,
    Event,
    RequestSubmitted,
    TimePassed,
    WorkerAttached,
)
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, WorkerId
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import EditsRefused, Record
from asterism.orchestrator.core.request import Budget, Request
from asterism.orchestrator.core.snapshot import Snapshot
from asterism.orchestrator.core.star import StarError, StarSpec
from asterism.orchestrator.core.values import Json
from asterism.planner.check import plan_star
from asterism.planner.edits_json import edits_from_json

WORKER: Final = WorkerId("w1")
ID: Final = ConstellationId("c1")
PROFILE: Final = WorkerProfile(
    slots=4096,
    models=("countdown",),
    tools=("countdown.search", "noop"),
    programs=(
        *("plan", "plan.next", "reason.countdown", "reason.text", "reason.child", "reason.join", "gather.boards"),
        *("map.expand", "gather.list"),
    ),
)
Ended: TypeAlias = "ProgramResult | ProgramFailed"


class Fleet:
    """One worker with many slots, one request, and a clock that counts events."""

    def __init__(
        self,
        request: Request,
        *,
        budget: Budget | None = None,
        profile: WorkerProfile = PROFILE,
        plan: StarSpec | None = None,
    ) -> None:
        self._machine = Machine(Snapshot((), (), 0, FencingToken(0)), at=0.0, lease_s=1e9)
        self._at = 0.0
        first = plan or plan_star(request)
        self.running: dict[FencingToken, Assign] = {}
        self.records: list[Record] = []
        self._answer: AnswerEdits | None = None
        self._proposals = itertools.count(1)
        self.step(lambda at: WorkerAttached(at, WORKER, "i1", profile))
        self.step(lambda at: RequestSubmitted(at, ID, "r1", "me", request, budget or Budget(), first))

    @property
    def constellation(self) -> TaskConstellation:
        return self._machine.constellations[ID]

    @property
    def refusals(self) -> list[tuple[str, ...]]:
        return [record.reasons for record in self.records if isinstance(record, EditsRefused)]

    def step(self, event: Callable[[float], Event]) -> None:
        self._at += 1.0
        outcome: Outcome = self._machine.step(event(self._at))
        self.records.extend(outcome.records)
        self._take(outcome.effects)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._at += seconds
        self.step(TimePassed)

    def _take(self, effects: Iterable[Effect]) -> None:
        stopped: list[FencingToken] = []
        for effect in effects:
            match effect:
                case Assign():
                    self.running[effect.fencing_token] = effect
                case Stop(fencing_token=token):
                    stopped.append(token)
                case AnswerEdits():
                    self._answer = effect
                case _:
                    pass
        for token in stopped:
            if self.running.pop(token, None) is not None:
                self._confirm_stop(token)

    def _confirm_stop(self, token: FencingToken) -> None:
        self.step(lambda at: AttemptFailed(at, WORKER, token, StarError("stopped", ""), is_stopped=True))

    def emit(
        self, token: FencingToken, edits: Iterable[Mapping[str, Json]], base_revision: int | None = None
    ) -> EditReply:
        """Propose edits for a running attempt, as its worker does for an `Emit`."""
        batch = edits_from_json(list(edits), base_revision)
        number = next(self._proposals)
        self.step(lambda at: EditsProposed(at, WORKER, token, number, batch))
        answer = self._answer
        assert answer is not None
        return EditReply(answer.is_accepted, answer.reasons, answer.revision)

    def run(self, token: FencingToken, program: Callable[[Mapping[str, Json], ProgramContext], Program]) -> Ended:
        """Run a program that asks for nothing but `Emit` and `Say`, up to its end, which is not reported yet."""
        assign = self.running[token]
        context = ProgramContext(assign.constellation, assign.star, assign.attempt, assign.revision)
        running = program(assign.inputs, context)
        try:
            ask = next(running)
            while True:
                ask = running.send(self.emit(token, ask.edits) if isinstance(ask, Emit) else None)
        except StopIteration as stop:
            ended: ProgramResult = stop.value
            return ended
        except ProgramFailed as failed:
            return failed

    def end(self, token: FencingToken, ended: Ended) -> None:
        """Report how an attempt ended."""
        del self.running[token]
        if isinstance(ended, ProgramFailed):
            error = StarError(ended.code, ended.message, ended.retryable)
            self.step(lambda at: AttemptFailed(at, WORKER, token, error))
            return
        batch: EditBatch | None = edits_from_json(ended.edits) if ended.edits else None
        self.step(lambda at: AttemptSucceeded(at, WORKER, token, ended.value, batch))
