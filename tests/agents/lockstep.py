"""An engine of words on a clock of its own: every text that has a slot decodes one word a tick."""

from collections.abc import Callable
from dataclasses import dataclass, field

from asterism.agents.asks import (
    Ask,
    CancelBranches,
    Clock,
    ClockReading,
    Fork,
    Forked,
    Generated,
    Join,
    Reply,
    Sampling,
    Say,
    prompt_text,
)

Writer = Callable[[str, str, Sampling], str]
"""(thread, whole prompt, sampling) -> how it would go on for ever; the engine cuts it at stops and bounds."""


@dataclass
class Live:
    """A text under way."""

    group: int
    thread: str
    prompt: list[str]
    words: list[str]
    sampling: Sampling
    cached: int
    at: int = 0

    def end(self, reason: str, stop: str | None = None) -> Generated:
        said = self.words[: self.at - (stop is not None)]
        return Generated(
            self.thread,
            " ".join(said),
            reason,  # type: ignore[arg-type]
            stop,
            self.at,
            len(self.prompt),
            self.cached,
            group=self.group,
        )

    def tick(self) -> Generated | None:
        """One word further, or the end."""
        if self.sampling.max_tokens == 0:
            return self.end("length")
        if self.at == len(self.words):
            return self.end("end")
        self.at += 1
        word = self.words[self.at - 1]
        if word in self.sampling.stop:
            return self.end("stop", word)
        return self.end("length") if self.at >= self.sampling.max_tokens else None


@dataclass
class Lockstep:
    """Answers the asks of a program; `ticks` is the time so far."""

    write: Writer
    slots: int = 1_000
    ticks: int = 0
    asks: list[Ask] = field(default_factory=list)
    live: list[Live] = field(default_factory=list)
    ended: list[Generated] = field(default_factory=list)
    seen: list[list[str]] = field(default_factory=list)
    groups: int = 0
    forked: dict[tuple[int, str], str] = field(default_factory=dict)
    """Every branch that was asked for, and its prompt."""
    given: set[tuple[int, str]] = field(default_factory=set)
    """Those whose end the program was told."""

    def answer(self, ask: Ask) -> Reply:
        self.asks.append(ask)
        match ask:
            case Clock():
                return ClockReading(float(self.ticks), self.slots)
            case Fork():
                return self._fork(ask)
            case Say():
                return None
            case Join(group):
                return self._told(self._join(group))
            case CancelBranches(group, _, threads):
                cut = [
                    one for one in self.live if group in (None, one.group) and (not threads or one.thread in threads)
                ]
                self.live = [one for one in self.live if one not in cut]
                partials = tuple(one.end("cancelled") for one in cut)
                for partial in partials:
                    self._told(partial)
                return partials
            case _:
                raise AssertionError(f"no answer to {ask}")

    def prompts(self, thread: str) -> list[str]:
        """The prompts under which this thread decoded, in order."""
        return [prompt for (_, name), prompt in self.forked.items() if name == thread]

    @property
    def decoded(self) -> list[Sampling]:
        """How each branch was sampled, in order."""
        return [branch.sampling for fork in self.forks for branch in fork.branches]

    @property
    def forks(self) -> list[Fork]:
        """All that was forked, in order."""
        return [ask for ask in self.asks if isinstance(ask, Fork)]

    def _fork(self, ask: Fork) -> Forked:
        group = self.groups
        self.groups += 1
        for branch in ask.branches:
            prompt = prompt_text(ask.prefix) + prompt_text(branch.suffix)
            words = prompt.split()
            cached = max((_common(words, seen) for seen in self.seen), default=0)
            self.seen.append(words)
            text = self.write(branch.thread, prompt, branch.sampling)
            self.forked[group, branch.thread] = prompt
            self.live.append(Live(group, branch.thread, words, text.split(), branch.sampling, min(cached, len(words))))
        return Forked(group, len(prompt_text(ask.prefix).split()))

    def _join(self, group: int | None) -> Generated | None:
        while True:
            for one in self.ended:
                if group in (None, one.group):
                    self.ended.remove(one)
                    return one
            if not any(group in (None, one.group) for one in self.live):
                return None
            self._tick()

    def _tick(self) -> None:
        computing = [one for one in self.live if one.sampling.max_tokens == 0]
        decoding = [one for one in self.live if one.sampling.max_tokens][: self.slots]
        # What is only computed takes no time here: the critical path counts decoded tokens.
        self.ticks += not computing
        for one in computing or decoding:
            end = one.tick()
            if end is not None:
                self.live.remove(one)
                self.ended.append(end)
                self.seen.append(one.prompt + one.words[: one.at])

    def _told(self, generated: Generated | None) -> Generated | None:
        if generated is not None:
            self.given.add((generated.group, generated.thread))
        return generated


def _common(words: list[str], seen: list[str]) -> int:
    for index, (one, other) in enumerate(zip(words, seen, strict=False)):
        if one != other:
            return index
    return min(len(words), len(seen))
