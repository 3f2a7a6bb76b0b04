"""A conversation as the segments of a prompt, cut so that a later turn finds what earlier ones computed.

A turn's prompt is the conversation before it, rendered up to where the model begins to write. Where the template
renders the next turn's conversation as that prompt, the answer and what follows, it is cut there: the beginning has the
same token ids as before, the answer those which were decoded, and only what follows is new. A template that changes
what was said, such as one that leaves out thoughts, keeps as much as its text keeps.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.seam import Message

Render: TypeAlias = Callable[[Sequence[Message]], str]
"""The prompt whose continuation is the assistant's next message; raises `InvalidRequest` for what it does not take."""

MAX_UNKNOWN_TURNS: Final = 32
"""Earlier turns of a conversation that is new here which are rendered one by one to find the cuts; those before them
are one segment."""
MAX_KNOWN_CHARACTERS: Final = 8 << 20
"""Of prompts whose cuts are remembered; those not used for longest are forgotten first."""


class Conversations:
    """The prompts of one model's conversations. May be used from several OS threads."""

    def __init__(self, render: Render, *, is_cut: bool = True) -> None:
        """Without `is_cut` each prompt is one segment: for tokenizers that read a text otherwise in parts."""
        self._render = render
        self._is_cut = is_cut
        self._known: OrderedDict[tuple[Message, ...], tuple[str, ...]] = OrderedDict()
        self._characters = 0
        self._lock = threading.Lock()

    def segments(self, messages: tuple[Message, ...]) -> tuple[str, ...]:
        """The prompt in order; raises `InvalidRequest` for messages that the model's form does not take."""
        return self._find(messages, MAX_UNKNOWN_TURNS if self._is_cut else 0)

    def _find(self, messages: tuple[Message, ...], turns: int) -> tuple[str, ...]:
        with self._lock:
            known = self._known.get(messages)
            if known is not None:
                self._known.move_to_end(messages)
                return known
        whole = self._render(messages)
        segments: tuple[str, ...] = (whole,)
        last = max((at for at, message in enumerate(messages) if message.role == "assistant"), default=0)
        if last and turns:
            segments = cut(whole, self._find_turn(messages[:last], turns - 1), messages[last].text)
        self._remember(messages, segments)
        return segments

    def _find_turn(self, messages: tuple[Message, ...], turns: int) -> tuple[str, ...]:
        try:
            return self._find(messages, turns)
        except InvalidRequest:  # the whole is taken, and this beginning of it is not: nobody can have asked for it
            return ()

    def _remember(self, messages: tuple[Message, ...], segments: tuple[str, ...]) -> None:
        with self._lock:
            if messages not in self._known:
                self._characters += _characters(segments)
            self._known[messages] = segments
            while self._characters > MAX_KNOWN_CHARACTERS:
                _, forgotten = self._known.popitem(last=False)
                self._characters -= _characters(forgotten)


def cut(whole: str, turn: tuple[str, ...], answer: str) -> tuple[str, ...]:
    """The prompt `whole` in segments that begin with those of the turn before, which was answered with `answer`."""
    beginning = "".join(turn)
    if not beginning or not whole.startswith(beginning):
        return (whole,)
    rest = whole[len(beginning) :]
    parts = (answer, rest[len(answer) :]) if rest.startswith(answer) else (rest,)
    return (*turn, *(part for part in parts if part))


def _characters(segments: tuple[str, ...]) -> int:
    return sum(map(len, segments))
