"""A scripted model and scripted tools for programs that talk: answers are a function of the conversation."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from asterism.agents.asks import (
    Ask,
    CallTool,
    CallTools,
    Chat,
    Generated,
    Hear,
    Json,
    Listen,
    ListTools,
    Message,
    Open,
    Opened,
    Piece,
    Program,
    ProgramResult,
    Reply,
    Say,
    ToolDescription,
    ToolError,
    ToolList,
    ToolOutcome,
    ToolOutcomes,
    ToolResult,
    Whole,
)
from tests.agents.driver import drive

Writer = Callable[[Chat], str]
Tool = Callable[[Mapping[str, Json]], ToolOutcome]


def written(chat: Chat, text: str) -> Generated:
    """The text as an engine gives it, with a token a word."""
    prompt = sum(len(message.text.split()) for message in chat.messages)
    return Generated(chat.thread, text, "stop", None, len(text.split()), prompt, 0)


@dataclass
class Talker:
    """Answers every ask of a program that chats and calls tools."""

    write: Writer
    tools: Mapping[str, tuple[ToolDescription, Tool]] = field(default_factory=dict)
    chats: list[Chat] = field(default_factory=list)
    calls: list[tuple[CallTool, ...]] = field(default_factory=list)
    heard: list[Piece | Whole] = field(default_factory=list)
    """What comes of the one input that is heard, in turn."""
    said: list[str] = field(default_factory=list)
    most_open: int = 0
    _streams: dict[int, tuple[Chat, bool]] = field(default_factory=dict)
    _opened: int = 0

    def answer(self, ask: Ask) -> Reply:
        match ask:
            case Chat():
                return self._written(ask)
            case Open(chat):
                assert isinstance(chat, Chat)
                self._streams[self._opened] = (chat, False)
                self._opened += 1
                self.most_open = max(self.most_open, len(self._streams))
                return Opened(self._opened - 1)
            case Listen(stream):
                chat, has_begun = self._streams[stream]
                if not has_begun:
                    self._streams[stream] = (chat, True)
                    return Piece("...")
                del self._streams[stream]
                return self._written(chat)
            case ListTools():
                return ToolList(tuple(description for description, _ in self.tools.values()))
            case CallTools(calls):
                self.calls.append(calls)
                return ToolOutcomes(tuple(self._call(call) for call in calls))
            case Hear():
                return self.heard.pop(0)
            case Say(text):
                self.said.append(text)
                return None
            case _:
                raise AssertionError(f"no answer to {ask}")

    def _written(self, chat: Chat) -> Generated:
        self.chats.append(chat)
        return written(chat, self.write(chat))

    def _call(self, call: CallTool) -> ToolOutcome:
        if call.name not in self.tools:
            return ToolError("unknown_tool", f"no tool {call.name!r} here")
        return self.tools[call.name][1](call.arguments)

    def run(self, program: Program) -> ProgramResult:
        result = drive(program, self.answer)
        assert not self._streams, "every text was listened to, to its end"
        return result


def in_turn(*texts: object) -> Writer:
    """One after the other; what is no text is written as JSON."""
    left = [text if isinstance(text, str) else json.dumps(text) for text in texts]
    return lambda chat: left.pop(0)


def step(*calls: tuple[str, Mapping[str, Json]], thought: str = "", answer: Json = None) -> dict[str, Json]:
    """A step of a tool loop."""
    return {
        "thought": thought,
        "calls": [{"tool": name, "arguments": arguments} for name, arguments in calls],
        "answer": answer,
    }


def one_tool(name: str, tool: Tool, **changes: object) -> dict[str, tuple[ToolDescription, Tool]]:
    """A mapping of one tool."""
    fields = {"name": name, "summary": f"Does {name}", **changes}
    return {name: (ToolDescription(**fields), tool)}  # type: ignore[arg-type]


def echo(arguments: Mapping[str, Json]) -> ToolOutcome:
    return ToolResult(arguments)


def characters(messages: Sequence[Message]) -> int:
    return sum(len(message.text) for message in messages)
