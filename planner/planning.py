"""The program `plan.text`: a model plans a request, and each star is proposed as soon as its line is complete.

A line that cannot be read, or asks for what nobody offers, is asked for again after the plan's end, it alone and twice
at most; one whose edits are refused, once. What depends on it waits; all else runs meanwhile.
"""

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from asterism.agents.asking import Asking, close_text, emit, generate, listen, open_text, say
from asterism.agents.asks import (
    Chat,
    Json,
    Message,
    Piece,
    Program,
    ProgramContext,
    ProgramFailed,
    ProgramResult,
    Sampling,
)
from asterism.agents.chatting import Spent
from asterism.orchestrator.core.edits import AddStar, EditBatch
from asterism.orchestrator.core.errors import InvalidEdit, InvalidField
from asterism.orchestrator.core.ids import StarId
from asterism.planner.briefing import planning_messages, repair_message
from asterism.planner.edits_json import edits_to_json
from asterism.planner.push_parser import BadStar, Found, GoodStar, PushParser
from asterism.planner.rehearsal import Rehearsal
from asterism.planner.requests import plan_refused, read_request
from asterism.planner.stars import ApprovalStar, EachFields, MapStar, PlanStar, WorkStar
from asterism.planner.surroundings import Surroundings
from asterism.planner.text_form import read_text_options

TEXT_PROGRAM: Final = "plan.text"
MAX_TOKENS: Final = 8_192
"""Of a plan."""
REPAIR_TOKENS: Final = 1_024
MAX_TRIES: Final = 2
"""Repairs of one line."""
MAX_REPAIRS: Final = 16
"""Of one plan."""
_WorkT = TypeVar("_WorkT", WorkStar, EachFields)
_WITH_MODEL: Final = frozenset({"gather", "judge"})
"""Programs that need a model whatever the kind of their star is."""
_NO_STAR: Final = (
    "There is no star in your answer. Write the plan: one star a line, ID = KIND.NAME(ARGUMENT=VALUE, ...)."
)


def plan_text(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """Plans `request` with what `surroundings` says there is; the result says how many stars, calls and repairs."""
    request = read_request(inputs)
    try:
        surroundings = Surroundings.from_json(inputs.get("surroundings"))
        options = read_text_options(request.options)
    except InvalidField as error:
        raise plan_refused(error.message) from None
    plan = _Plan(surroundings, options.model, Spent())
    messages = planning_messages(request.text, surroundings, options.model)
    text = yield from plan.stream(messages)
    if plan.is_empty:
        messages = (*messages, Message("assistant", text), Message("user", _NO_STAR))
        text = yield from plan.stream(messages)
    yield from plan.repair((*messages, Message("assistant", text)))
    plan.check_whole()
    return ProgramResult({"form": request.form, **plan.report()})


class _Plan:
    """A plan as it comes: which stars are in the graph, which wait for others, and which were not understood."""

    def __init__(self, surroundings: Surroundings, model: str | None, spent: Spent) -> None:
        programs = frozenset(offer.name for offer in surroundings.programs) | {"gather.list"}
        self._known = surroundings.capabilities if surroundings.programs or surroundings.tools else frozenset()
        self._model = model
        self._parser = PushParser(programs=programs, amend=self._with_model)
        self._spent = spent
        self._in_graph: set[StarId] = set()
        self._waiting: dict[StarId, GoodStar] = {}
        self._bad: dict[StarId, BadStar] = {}
        self._refused: set[StarId] = set()
        """Whose edits the orchestrator refused: these go back to the model once."""
        self._left_out: list[str] = []
        self._stars = 0

    @property
    def is_empty(self) -> bool:
        """Whether no star was even attempted."""
        return not (self._in_graph or self._waiting or self._bad)

    def stream(self, messages: tuple[Message, ...]) -> Asking[str]:
        """Let the model write, and propose each star with the line that ends it; gives the text."""
        stream = yield from open_text(Chat(messages, Sampling(max_tokens=MAX_TOKENS), "plan"))
        pieces: list[str] = []
        while True:
            heard = yield from listen(stream)
            if not isinstance(heard, Piece):
                self._spent.count(heard)
                break
            pieces.append(heard.text)
            yield from self._take(self._parser.feed(heard.text))
            if self._parser.is_full:
                yield from close_text(stream)
                break
        yield from self._take(self._parser.finish())
        return "".join(pieces)

    def repair(self, conversation: tuple[Message, ...]) -> Asking[None]:
        """Ask again for each bad line, it alone, until all are good or it is enough."""
        tries: dict[StarId, int] = {}
        for _ in range(MAX_REPAIRS):
            star_id = next((star for star in self._bad if tries.get(star, 0) < self._tries(star)), None)
            if star_id is None:
                return
            tries[star_id] = tries.get(star_id, 0) + 1
            bad = self._bad[star_id]
            yield from say(f"asking again for {star_id}: {bad.reason}\n")
            self._spent.repairs += 1
            thread = f"repair {self._spent.repairs}"
            ask = Chat((*conversation, repair_message(bad)), Sampling(max_tokens=REPAIR_TOKENS), thread)
            generated = self._spent.count((yield from generate(ask)))
            yield from self._take([self._parser.repair(bad, generated.text)])

    def _tries(self, star: StarId) -> int:
        return 1 if star in self._refused else MAX_TRIES

    def check_whole(self) -> None:
        """Fail the star where the plan has a hole, and name it."""
        if self.is_empty:
            raise ProgramFailed(
                "plan_empty", "the model wrote no star, and none when it was asked again", retryable=False
            )
        if self._bad:
            reasons = "; ".join(f"{star.id}: {star}" for star in list(self._bad.values())[:8])
            waiting = f"; {', '.join(list(self._waiting)[:8])} wait for them" if self._waiting else ""
            raise ProgramFailed(
                "plan_incomplete", f"lines that could not be put right: {reasons}{waiting}", retryable=False
            )

    def report(self) -> dict[str, Json]:
        """What became of the plan."""
        report: dict[str, Json] = {"stars": self._stars, "spent": self._spent.to_json()}
        if self._left_out:
            report["left_out"] = list(self._left_out[:32])
        return report

    def _take(self, found: Iterable[Found]) -> Asking[None]:
        for star in found:
            if isinstance(star, GoodStar) and (reason := self._find_fault(star)) is not None:
                star = BadStar(star.id, star.at, reason, star.text)
            if isinstance(star, GoodStar):
                # A model that sees its own mistake writes the line again: then the bad one is of no account.
                self._bad.pop(star.id, None)
                self._waiting[star.id] = star
            elif star.id is None:
                self._left_out.append(str(star))
            else:
                self._bad[star.id] = star
        while (ready := self._find_ready()) is not None:
            del self._waiting[ready.id]
            reply = yield from emit(edits_to_json(EditBatch(ready.compiled.edits)))
            if reply.accepted:
                self._in_graph.add(ready.id)
                self._stars += sum(isinstance(edit, AddStar) for edit in ready.compiled.edits)
            else:
                self._bad[ready.id] = BadStar(ready.id, ready.at, "; ".join(reply.reasons), ready.text)
                self._refused.add(ready.id)

    def _find_ready(self) -> GoodStar | None:
        """A star whose parents are all in the graph."""
        return next((star for star in self._waiting.values() if star.compiled.parents.keys() <= self._in_graph), None)

    def _find_fault(self, star: GoodStar) -> str | None:
        """What the orchestrator would refuse about the star itself: found here, it costs no round trip.

        Its parents may still be waiting for others, and so are taken for granted.
        """
        try:
            Rehearsal(self._known, star.compiled.parents).take(star.compiled.edits)
        except InvalidEdit as error:
            return error.reason
        return None

    def _with_model(self, star: PlanStar) -> PlanStar:
        """The star with the default model, if it needs one and names none."""
        match star:
            case MapStar():
                return star.model_copy(update={"each": self._work_with_model(star.each)})
            case ApprovalStar():
                return star
            case WorkStar():
                return self._work_with_model(star)

    def _work_with_model(self, star: _WorkT) -> _WorkT:
        needs = star.kind in ("agent", "reason") or star.program in _WITH_MODEL
        if self._model is None or not needs or any(name.startswith("model:") for name in star.requires):
            return star
        return star.model_copy(update={"requires": [*star.requires, f"model:{self._model}"]})
