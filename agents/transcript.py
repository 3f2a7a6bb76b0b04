"""What a tool loop has said and seen, as a conversation that never outgrows its bound.

The newest steps are shown whole; of older ones, where there is no room, only what was called and that it is left out.
A step that was shown whole once stays so for as long as it fits, so that what a model has read of it is found again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from asterism.agents.asks import CallTool, Json, Message
from asterism.agents.data import MARKS, as_data, shortened


@dataclass(frozen=True, slots=True)
class Step:
    """What the model wrote in one step, and how it was read."""

    text: str
    thought: str
    calls: tuple[CallTool, ...]
    answer: Json


@dataclass(frozen=True, slots=True)
class Seen:
    """What a tool gave, as text."""

    tool: str
    text: str
    is_error: bool


@dataclass(frozen=True, slots=True)
class _Turn:
    step: Step
    seen: tuple[Seen, ...]
    note: str

    def shown(self, most: int) -> tuple[Message, Message]:
        """Both messages of the turn in so many characters, the results shortened to equal shares."""
        said = shortened(self.step.text, most // 2)
        rest = most - len(said) - len(self.note)
        return Message("assistant", said), Message("user", self._results(rest))

    def _results(self, most: int) -> str:
        blocks = []
        share = most // max(1, len(self.seen)) - MARKS
        if self.seen and share < 0:
            return shortened(f"({len(self.seen)} results are left out: there is no room)", max(0, most))
        for number, seen in enumerate(self.seen, 1):
            kind = "error" if seen.is_error else "result"
            blocks.append(as_data(f"{kind} {number} of {seen.tool}", shortened(seen.text, share)))
        return "\n".join([*blocks, *([self.note] if self.note else [])]) or "Go on."

    def left_out(self) -> tuple[Message, Message]:
        """What is shown of it when there is no room."""
        names = ", ".join(call.name for call in self.step.calls)
        return Message("assistant", f"(called {names})" if names else "(thought)"), Message("user", "(left out)")

    @property
    def size(self) -> int:
        return len(self.step.text) + len(self.note) + sum(len(seen.text) + MARKS for seen in self.seen)


@dataclass(slots=True)
class Transcript:
    """The conversation: `room` is for everything but the system message, in characters."""

    system: Message
    first: Message
    room: int
    _turns: list[_Turn] = field(default_factory=list)
    _hidden: int = 0
    """Turns from the beginning that are left out; it never goes back."""
    _last_note: str = ""

    def add(self, step: Step, seen: Sequence[Seen], note: str) -> None:
        """A step, what its calls gave, and what the program has to say about it."""
        self._turns.append(_Turn(step, tuple(seen), note))

    def add_note(self, note: str) -> None:
        """Said after the last turn."""
        self._last_note = note

    def messages(self) -> tuple[Message, ...]:
        """The conversation as it is shown now; at most `room` characters behind the system message."""
        first = shortened(self.first.text, self.room // 2)
        rest = self.room - len(first) - len(self._last_note) - 1
        newest = self._turns[-1] if self._turns else None
        while self._hidden < len(self._turns) - 1 and self._size() > rest:
            self._hidden += 1
        shown: list[Message] = [Message("user", first)]
        hidden = [message for turn in self._turns[: self._hidden] for message in turn.left_out()]
        # Even the notes of what is left out take room in the end.
        while sum(len(message.text) for message in hidden) > rest // 4:
            hidden = hidden[2:]
        shown += hidden
        rest -= sum(len(message.text) for message in hidden)
        for turn in self._turns[self._hidden :]:
            pair = turn.shown(turn.size if turn is not newest else max(0, rest))
            rest -= sum(len(message.text) for message in pair)
            shown += pair
        if self._last_note:
            shown[-1] = Message("user", f"{shown[-1].text}\n{self._last_note}")
        return (self.system, *shown)

    def _size(self) -> int:
        hidden = sum(len(message.text) for turn in self._turns[: self._hidden] for message in turn.left_out())
        return hidden + sum(turn.size for turn in self._turns[self._hidden :])
