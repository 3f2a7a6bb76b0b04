"""A conversation for a model that was taught no form of its own: one paragraph a message, named by its side. Pure.

    System: Be brief.

    User: How many legs has a spider?

    Assistant: Eight.

    User: And two of them?

    Assistant:

A message that begins with white space keeps it instead of the one space behind the name, so that an answer comes back
as the model wrote it. `TURN` is where the model would go on with the other side's words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from asterism.workers.engine.seam import EngineEvent, GenerationEnd, GenerationRequest, Message, Role, prompt_text

_NAMES: Final[Mapping[Role, str]] = {"system": "System:", "user": "User:", "assistant": "Assistant:"}

TURN: Final = f"\n\n{_NAMES['user']}"


def plain_chat(messages: Sequence[Message]) -> str:
    """The prompt whose continuation is the assistant's next message."""
    paragraphs = [_NAMES[message.role] + _spaced(message.text) for message in messages]
    return "\n\n".join([*paragraphs, _NAMES["assistant"]])


def request_text(request: GenerationRequest) -> str:
    """What a request asks to continue: its prompt, or its conversation in the plain form."""
    return plain_chat(request.messages) if request.messages else prompt_text(request.prompt)


def in_turns(request: GenerationRequest) -> GenerationRequest:
    """A conversation as a prompt in the plain form, which ends where the other side's turn would begin."""
    if not request.messages:
        return request
    return replace(request, prompt=plain_chat(request.messages), messages=(), stop=(*request.stop, TURN))


def end_of_turn(event: EngineEvent, asked: GenerationRequest) -> EngineEvent:
    """The same event as whoever asked sees it, who did not ask for the stop that `in_turns` added."""
    if isinstance(event, GenerationEnd) and event.stop == TURN and asked.messages and TURN not in asked.stop:
        return replace(event, finish_reason="end", stop=None)
    return event


def _spaced(text: str) -> str:
    return text if text[:1].isspace() or not text else f" {text}"
