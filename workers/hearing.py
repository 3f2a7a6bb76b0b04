"""What an attempt hears of its inputs while its parents write them."""

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from asterism.orchestrator.core.effects import Assign, InputText, InputValue
from asterism.orchestrator.core.values import Json
from asterism.workers.artifacts import Artifacts


@dataclass(slots=True)
class _Heard:
    """One input: the pieces that nobody has taken yet, how much there was in all, and the whole once it is there."""

    pieces: list[str] = field(default_factory=list)
    chars: int = 0
    whole: InputValue | None = None


class Hearing:
    """Of one attempt. What comes doubled counts once, and after a gap only the whole does."""

    def __init__(self, streams: Iterable[str]) -> None:
        self._heard = {name: _Heard() for name in streams}
        self._changed = asyncio.Event()

    def take(self, part: InputText | InputValue) -> None:
        """Something came; of an input that is not heard here it means nothing."""
        heard = self._heard.get(part.input)
        if heard is None or heard.whole is not None:
            return
        if isinstance(part, InputValue):
            heard.whole = part
        elif part.at > heard.chars:
            return
        else:
            new = part.text[heard.chars - part.at :]
            heard.chars += len(new)
            if new:
                heard.pieces.append(new)
        self._changed.set()

    async def next(self, name: str) -> str | InputValue:
        """The text that has come since the last time, or the whole."""
        heard = self._heard[name]
        while heard.whole is None:
            if heard.pieces:
                text = "".join(heard.pieces)
                heard.pieces.clear()
                return text
            self._changed.clear()
            await self._changed.wait()
        return heard.whole

    async def whole(self, name: str) -> InputValue:
        """Wait for the end."""
        while isinstance(found := await self.next(name), str):
            pass
        return found


async def complete(assignment: Assign, hearing: Hearing, artifacts: Artifacts, heard: Collection[str]) -> Assign:
    """The assignment once all its inputs are there, apart from those in `heard`."""
    inputs = dict(assignment.inputs)
    for name in assignment.streams:
        if name not in heard:
            inputs[name] = await value_of(assignment, await hearing.whole(name), artifacts)
    return replace(assignment, inputs=inputs, streams=tuple(name for name in assignment.streams if name in heard))


async def value_of(assignment: Assign, whole: InputValue, artifacts: Artifacts) -> Json:
    """The value of an input, fetched where it is an artifact. Raises `AttemptFailed` where it cannot be had."""
    if whole.place is None:
        return whole.value
    filled = await artifacts.fill(replace(assignment, inputs={whole.input: None}, places=(whole.place,)))
    return filled.inputs[whole.input]
