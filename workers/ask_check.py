"""Whether what a program yields is an ask that this worker will serve: types and bounds, before any work."""

from collections.abc import Mapping
from typing import Final, get_args

from asterism.agents.asks import (
    MAX_MESSAGES,
    MAX_PROMPT_CHARACTERS,
    MAX_SAY_CHARACTERS,
    MAX_SEGMENTS,
    Ask,
    Branch,
    CallTool,
    CallTools,
    CancelBranches,
    Chat,
    Clock,
    Close,
    Emit,
    Fork,
    Generate,
    Grammar,
    Hear,
    Join,
    Listen,
    ListTools,
    Message,
    Open,
    Role,
    Sampling,
    Say,
)
from asterism.orchestrator.core.errors import InvalidField

MAX_BRANCHES: Final = 256
"""Reasoning threads of one attempt that decode at the same time."""
MAX_STOPS: Final = 64
MAX_GRAMMAR_CHARACTERS: Final = 64 * 1024
MAX_CALLS: Final = 64
"""Tools that one ask runs at the same time."""
MAX_EDITS: Final = 20_000
MAX_THREAD_NAME: Final = 64


def check_ask(ask: object) -> Ask:
    """The ask itself, or InvalidField with the path of what is wrong with it."""
    match ask:
        case Generate(prompt, sampling, thread):
            _check_prompt("generate.prompt", prompt)
            _check_sampling("generate.sampling", sampling)
            _check_thread("generate.thread", thread)
            return ask
        case Chat(messages, sampling, thread):
            _check_messages("chat.messages", messages)
            _check_sampling("chat.sampling", sampling)
            _check_thread("chat.thread", thread)
            return ask
        case Open(opened):
            if not isinstance(opened, Generate | Chat):
                raise InvalidField("open.ask", f"is a {type(opened).__name__}, neither Generate nor Chat")
            check_ask(opened)
            return ask
        case Listen(stream):
            _check_integer("listen.stream", stream)
            return ask
        case Close(stream):
            _check_integer("close.stream", stream)
            return ask
        case Fork(prefix, branches):
            _check_prompt("fork.prefix", prefix)
            _check_branches(branches)
            return ask
        case Join(group):
            _check_group("join.group", group)
            return ask
        case CancelBranches(group, reason, threads):
            _check_group("cancel.group", group)
            _check_text("cancel.reason", reason, MAX_SAY_CHARACTERS)
            _check_texts("cancel.threads", threads, MAX_BRANCHES)
            return ask
        case Hear(name):
            _check_text("hear.input", name, MAX_THREAD_NAME)
            return ask
        case Clock():
            return ask
        case CallTool():
            _check_call("call_tool", ask)
            return ask
        case CallTools(calls):
            _check_calls(calls)
            return ask
        case ListTools():
            return ask
        case Emit(edits):
            check_edits("emit.edits", edits)
            return ask
        case Say(text, thread):
            _check_text("say.text", text, MAX_SAY_CHARACTERS)
            _check_thread("say.thread", thread)
            return ask
        case _:
            raise InvalidField("ask", f"is a {type(ask).__name__}, which is not an ask")


def check_edits(field: str, edits: object) -> None:
    """Whether these are edits as a plan file writes them, as far as their outer shape goes."""
    if not isinstance(edits, tuple | list) or not all(isinstance(edit, Mapping) for edit in edits):
        raise InvalidField(field, "must be a tuple of mappings")
    if len(edits) > MAX_EDITS:
        raise InvalidField(field, f"has {len(edits)} edits; at most {MAX_EDITS}")


def _check_branches(branches: object) -> None:
    if not isinstance(branches, tuple) or not all(isinstance(branch, Branch) for branch in branches):
        raise InvalidField("fork.branches", "must be a tuple of branches")
    if not 1 <= len(branches) <= MAX_BRANCHES:
        raise InvalidField("fork.branches", f"has {len(branches)} branches; 1 to {MAX_BRANCHES}")
    for index, branch in enumerate(branches):
        _check_prompt(f"fork.branches[{index}].suffix", branch.suffix)
        _check_sampling(f"fork.branches[{index}].sampling", branch.sampling)
        _check_thread(f"fork.branches[{index}].thread", branch.thread)
    if len({branch.thread for branch in branches}) < len(branches):
        raise InvalidField("fork.branches", "two branches have the same thread name")


def _check_sampling(field: str, sampling: object) -> None:
    """The ranges are the engine's to check."""
    if not isinstance(sampling, Sampling):
        raise InvalidField(field, f"is a {type(sampling).__name__}, not a Sampling")
    for name, integer in (
        ("max_tokens", sampling.max_tokens),
        ("seed", sampling.seed),
        ("top_k", sampling.top_k),
        ("priority", sampling.priority),
    ):
        _check_integer(f"{field}.{name}", integer)
    for name, number in (
        ("temperature", sampling.temperature),
        ("top_p", sampling.top_p),
        ("min_p", sampling.min_p),
        ("repetition_penalty", sampling.repetition_penalty),
        ("presence_penalty", sampling.presence_penalty),
        ("frequency_penalty", sampling.frequency_penalty),
        ("keep_s", sampling.keep_s),
    ):
        _check_number(f"{field}.{name}", number)
    _check_texts(f"{field}.stop", sampling.stop, MAX_STOPS)
    _check_texts(f"{field}.banned", sampling.banned, MAX_STOPS)
    grammar: object = sampling.grammar
    if grammar is None:
        return
    if not isinstance(grammar, Grammar):
        raise InvalidField(f"{field}.grammar", f"is a {type(grammar).__name__}, not a Grammar")
    if grammar.kind not in ("json_schema", "regex", "lark"):
        raise InvalidField(f"{field}.grammar.kind", f"is {grammar.kind!r}; json_schema, regex or lark")
    _check_text(f"{field}.grammar.text", grammar.text, MAX_GRAMMAR_CHARACTERS)


def _check_calls(calls: object) -> None:
    if not isinstance(calls, tuple) or not all(isinstance(call, CallTool) for call in calls):
        raise InvalidField("call_tools.calls", "must be a tuple of calls")
    if len(calls) > MAX_CALLS:
        raise InvalidField("call_tools.calls", f"has {len(calls)} calls; at most {MAX_CALLS}")
    for index, call in enumerate(calls):
        _check_call(f"call_tools.calls[{index}]", call)


def _check_call(field: str, call: CallTool) -> None:
    _check_text(f"{field}.name", call.name, MAX_THREAD_NAME)
    _check_arguments(f"{field}.arguments", call.arguments)


def _check_arguments(field: str, arguments: object) -> None:
    if not isinstance(arguments, Mapping) or not all(isinstance(key, str) for key in arguments):
        raise InvalidField(field, "must be a mapping with text keys")


def _check_integer(field: str, number: object) -> None:
    if not isinstance(number, int):
        raise InvalidField(field, f"is a {type(number).__name__}, not an integer")


def _check_number(field: str, number: object) -> None:
    if not isinstance(number, int | float):
        raise InvalidField(field, f"is a {type(number).__name__}, not a number")


def _check_group(field: str, group: object) -> None:
    if group is not None:
        _check_integer(field, group)


def _check_prompt(field: str, prompt: object) -> None:
    """A text or a tuple of them, the limit for all together."""
    if not isinstance(prompt, tuple):
        _check_text(field, prompt, MAX_PROMPT_CHARACTERS)
        return
    _check_texts(field, prompt, MAX_SEGMENTS)
    characters = sum(len(segment) for segment in prompt)
    if characters > MAX_PROMPT_CHARACTERS:
        raise InvalidField(field, f"has {characters} characters; at most {MAX_PROMPT_CHARACTERS}")


def _check_messages(field: str, messages: object) -> None:
    if not isinstance(messages, tuple) or not all(isinstance(message, Message) for message in messages):
        raise InvalidField(field, "must be a tuple of messages")
    if not 1 <= len(messages) <= MAX_MESSAGES:
        raise InvalidField(field, f"has {len(messages)} messages; 1 to {MAX_MESSAGES}")
    for index, message in enumerate(messages):
        if message.role not in get_args(Role):
            raise InvalidField(f"{field}[{index}].role", f"is {message.role!r}; {', '.join(get_args(Role))}")
        _check_text(f"{field}[{index}].text", message.text, MAX_PROMPT_CHARACTERS)
    characters = sum(len(message.text) for message in messages)
    if characters > MAX_PROMPT_CHARACTERS:
        raise InvalidField(field, f"has {characters} characters; at most {MAX_PROMPT_CHARACTERS}")


def _check_texts(field: str, texts: object, most: int) -> None:
    if not isinstance(texts, tuple):
        raise InvalidField(field, f"is a {type(texts).__name__}, not a tuple of texts")
    if len(texts) > most:
        raise InvalidField(field, f"has {len(texts)} texts; at most {most}")
    for index, text in enumerate(texts):
        _check_text(f"{field}[{index}]", text, MAX_PROMPT_CHARACTERS)


def _check_thread(field: str, name: object) -> None:
    _check_text(field, name, MAX_THREAD_NAME)
    if not name:
        raise InvalidField(field, "is empty")


def _check_text(field: str, text: object, limit: int) -> None:
    if not isinstance(text, str):
        raise InvalidField(field, f"is a {type(text).__name__}, not text")
    if len(text) > limit:
        raise InvalidField(field, f"has {len(text)} characters; at most {limit}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidField(field, f"cannot travel as UTF-8: {error.reason}") from None
