"""The program `react`: a model thinks, calls tools, sees what they gave, and answers, in a bounded number of steps.

The model writes one JSON object a step, `{"thought", "calls": [{"tool", "arguments"}], "answer"}`, on every engine the
same. Calls of one step run at the same time. Errors of tools are shown to the model; their results are data in marks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from asterism.agents.asking import Asking, call_tools, list_tools, say
from asterism.agents.asks import (
    CallTool,
    Json,
    Message,
    Program,
    ProgramContext,
    ProgramFailed,
    ProgramResult,
    ToolDescription,
    ToolOutcome,
    ToolResult,
)
from asterism.agents.briefs import Brief, read_brief
from asterism.agents.chatting import Question, Spent, Written, answer, form_rule
from asterism.agents.data import as_text, shortened
from asterism.agents.declaring import invalid, read_number, read_texts
from asterism.agents.json_check import Fault, JsonCheck
from asterism.agents.transcript import Seen, Step, Transcript

JOB: Final = (
    "You do a task in steps. In each step you either call tools, several at once where they do not need each other's"
    " results, and leave `answer` null; or you call none and give the answer. Say in `thought`, briefly, why. An error"
    " of a tool tells you what to do otherwise. Answer as soon as you can."
)
MAX_STEPS: Final = 64
DEFAULT_STEPS: Final = 8
MAX_CALLS: Final = 16
"""Of one step."""
DEFAULT_CALLS: Final = 4
_SHOWN_SCHEMA: Final = 2_000
"""Characters of one tool's schema."""
_SHOWN_SUMMARY: Final = 500
_NO_ANSWER: Final = "You called no tool and gave no answer. Do one of the two."
_BOTH: Final = "You called tools and gave an answer; the answer was not taken. Answer when you need no tool any more."


@dataclass(frozen=True, slots=True)
class _Bounds:
    steps: int
    calls: int


def react(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """Does `task` with the worker's `tools` (by default all); gives the answer, the steps and what was called."""
    return _react(inputs, only_repeatable=False)


def react_idempotent(inputs: Mapping[str, Json], context: ProgramContext) -> Program:
    """The same with tools only that may run twice: so that its star may be run again when its worker is lost."""
    return _react(inputs, only_repeatable=True)


def _react(inputs: Mapping[str, Json], *, only_repeatable: bool) -> Program:
    brief = read_brief(inputs, "tools", "max_steps", "max_calls")
    bounds = _Bounds(
        read_number(inputs.get("max_steps", DEFAULT_STEPS), "max_steps", 1, MAX_STEPS),
        read_number(inputs.get("max_calls", DEFAULT_CALLS), "max_calls", 1, MAX_CALLS),
    )
    tools = _chosen(inputs, (yield from list_tools()), only_repeatable=only_repeatable)
    check = step_check(tools, brief.check, bounds.calls)
    last_check = step_check((), brief.check, 0)
    system = brief.system(JOB, f"{_told(tools)}\n{form_rule(check)}")
    room = brief.context - len(system)
    if room < brief.context // 3:
        reason = "leaves less than a third for the work beside the tools; choose fewer `tools`"
        raise invalid("context_characters", reason)
    transcript = Transcript(Message("system", system), _first(brief, room), room)
    spent = Spent()
    called: list[Mapping[str, Json]] = []
    for number in range(1, bounds.steps + 1):
        is_last = number == bounds.steps
        if is_last and number > 1:
            transcript.add_note("This is the last step: no tool can be called any more. Answer with what you have.")
        question = Question(transcript.messages(), brief.sampling, last_check if is_last and number > 1 else check)
        step = read_step((yield from answer(question, spent)))
        if step.thought:
            yield from say(f"{step.thought}\n")
        if not step.calls:
            if step.answer is not None:
                return _result(step.answer, number, called, spent)
            transcript.add(step, (), _NO_ANSWER)
            continue
        outcomes = yield from _call(step, tools, bounds)
        called += [
            {"step": number, "tool": call.name, "ok": isinstance(outcome, ToolResult)}
            for call, outcome in zip(step.calls, outcomes, strict=True)
        ]
        seen = [_seen(call, outcome) for call, outcome in zip(step.calls, outcomes, strict=True)]
        transcript.add(step, seen, _BOTH if step.answer is not None else "")
    raise ProgramFailed("no_answer", f"no answer in {bounds.steps} steps", retryable=False)


def _result(value: Json, steps: int, called: Sequence[Mapping[str, Json]], spent: Spent) -> ProgramResult:
    return ProgramResult({"answer": value, "steps": steps, "calls": called, "spent": spent.to_json()})


def _chosen(
    inputs: Mapping[str, Json], there: Sequence[ToolDescription], *, only_repeatable: bool
) -> tuple[ToolDescription, ...]:
    """The tools of this run. Raises `ProgramFailed` for one that is not there, or may not run twice where all must."""
    by_name = {tool.name: tool for tool in there if tool.effect.may_repeat or not only_repeatable}
    if "tools" not in inputs:
        return tuple(by_name.values())
    names = read_texts(inputs["tools"], "tools")
    for index, name in enumerate(names):
        if name not in by_name:
            known = ", ".join(by_name) or "none"
            message = f"tools[{index}]: {name[:64]!r} is not there; there are {known}"
            # Another worker may have it.
            raise ProgramFailed("unknown_tool", message[:1000], retryable=True)
    return tuple(by_name[name] for name in dict.fromkeys(names))


def step_check(tools: Sequence[ToolDescription], answer_check: JsonCheck | None, most_calls: int) -> JsonCheck:
    """The schema of one step. Tools' arguments are checked when they are called, so that the error says what to do."""
    wanted: Json = {}
    if answer_check is not None:
        wanted = {"anyOf": [{"type": "null"}, _moved(answer_check.schema, "#/properties/answer/anyOf/1")]}
    calls: dict[str, Json] = {"type": "array", "maxItems": most_calls if tools else 0}
    if tools:
        calls["items"] = {
            "type": "object",
            "properties": {"tool": {"enum": [tool.name for tool in tools]}, "arguments": {"type": "object"}},
            "required": ["tool", "arguments"],
            "additionalProperties": False,
        }
    schema: dict[str, Json] = {
        "type": "object",
        "properties": {"thought": {"type": "string"}, "calls": calls, "answer": wanted},
        "required": ["thought", "calls", "answer"],
        "additionalProperties": False,
    }
    return _StepCheck(schema, answer_check)


class _StepCheck(JsonCheck):
    """Says of a wrong answer what its own schema says, and not that it is neither null nor right."""

    def __init__(self, schema: Mapping[str, Json], answer_check: JsonCheck | None) -> None:
        super().__init__(schema, root="step")
        self._answer_check = answer_check

    def find_fault(self, value: Json) -> Fault | None:
        fault = super().find_fault(value)
        if fault is None or self._answer_check is None or fault.field != "step.answer":
            return fault
        return self._answer_check.find_fault(cast("Mapping[str, Json]", value)["answer"]) or fault


def _moved(schema: Json, to: str) -> Json:
    """The schema at another place of a document: references to its own parts lead there."""
    if isinstance(schema, Mapping):
        moved = {name: _moved(part, to) for name, part in schema.items()}
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            moved["$ref"] = f"{to}{reference[1:]}"
        return moved
    if isinstance(schema, list | tuple):
        return [_moved(part, to) for part in schema]
    return schema


def read_step(written: Written) -> Step:
    """A step that matches `step_check`."""
    value = cast("Mapping[str, Json]", written.value)
    calls = cast("Sequence[Mapping[str, Json]]", value["calls"])
    return Step(
        text=written.text,
        thought=str(value["thought"]),
        calls=tuple(CallTool(str(call["tool"]), cast("Mapping[str, Json]", call["arguments"])) for call in calls),
        answer=value["answer"],
    )


def _call(step: Step, tools: Sequence[ToolDescription], bounds: _Bounds) -> Asking[tuple[ToolOutcome, ...]]:
    """Run them; the check has bounded how many there are, and which."""
    assert len(step.calls) <= bounds.calls
    assert {call.name for call in step.calls} <= {tool.name for tool in tools}
    yield from say(f"calls {', '.join(call.name for call in step.calls)}\n")
    return (yield from call_tools(step.calls))


def _seen(call: CallTool, outcome: ToolOutcome) -> Seen:
    match outcome:
        case ToolResult(value):
            return Seen(call.name, as_text(value), is_error=False)
        case _:
            return Seen(call.name, as_text({"error": outcome.code, "message": outcome.message}), is_error=True)


def _told(tools: Sequence[ToolDescription]) -> str:
    """The tools, one a line."""
    if not tools:
        return "There are no tools: answer at once."
    lines = [
        f"- {tool.name}: {shortened(as_text(tool.summary), _SHOWN_SUMMARY)}"
        f" Arguments: {shortened(as_text(tool.schema), _SHOWN_SCHEMA)}"
        for tool in tools
    ]
    return "\n".join(["The tools:", *lines])


def _first(brief: Brief, room: int) -> Message:
    """The task and the data, in half of the room at most: the rest is for the work."""
    data = brief.data_within(max(0, room // 2 - len(brief.task)))
    return Message("user", f"{data}\n\n{brief.task}" if data else brief.task)
