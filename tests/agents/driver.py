"""Drives a program by hand: answers come from a function of the ask, and a bound on asks stands in for patience."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from asterism.agents.asks import (
    Ask,
    Branch,
    CancelBranches,
    Clock,
    ClockReading,
    Fork,
    Forked,
    Generate,
    Generated,
    Join,
    Program,
    ProgramContext,
    ProgramResult,
    Reply,
    Sampling,
    Say,
    prompt_text,
)
from asterism.protocol.convert.checks import json_to_text
from asterism.workers.ask_check import check_ask

CONTEXT = ProgramContext(constellation="c", star="s", attempt=1, revision=0, model="countdown")

Writer = Callable[[str, Sampling], str]
"""Continues a prompt; the text may hold stop strings, which `ScriptedWriter` honours as an engine would."""


def finished(thread: str, prompt: str, text: str, sampling: Sampling) -> Generated:
    """`text` as an engine would give it: one token a word, cut at `max_tokens` and before the first stop string."""
    words = text.split()
    for index, word in enumerate(words[: sampling.max_tokens]):
        if word in sampling.stop:
            return Generated(thread, " ".join(words[:index]), "stop", word, index + 1, len(prompt.split()), 0)
    if len(words) < sampling.max_tokens:
        return Generated(thread, " ".join(words), "end", None, len(words), len(prompt.split()), 0)
    kept = words[: sampling.max_tokens]
    return Generated(thread, " ".join(kept), "length", None, len(kept), len(prompt.split()), 0)


@dataclass
class ScriptedWriter:
    """Answers every ask of a reasoning program with what `write` says; remembers the asks."""

    write: Writer
    asks: list[Ask] = field(default_factory=list)
    groups: list[list[tuple[str, Branch]]] = field(default_factory=list)

    def answer(self, ask: Ask) -> Reply:
        self.asks.append(ask)
        match ask:
            case Generate():
                prompt = prompt_text(ask.prompt)
                return finished(ask.thread, prompt, self.write(prompt, ask.sampling), ask.sampling)
            case Fork():
                prefix = prompt_text(ask.prefix)
                self.groups.append([(prefix + prompt_text(branch.suffix), branch) for branch in ask.branches])
                return Forked(len(self.groups) - 1, len(prefix.split()))
            case Join():
                group = next((index for index in self._numbers(ask.group) if self.groups[index]), None)
                if group is None:
                    return None
                prompt, branch = self.groups[group].pop(0)
                ended = finished(branch.thread, prompt, self.write(prompt, branch.sampling), branch.sampling)
                return replace(ended, group=group)
            case CancelBranches():
                return tuple(one for group in self._numbers(ask.group) for one in self._cut(group, ask.threads))
            case Clock():
                return ClockReading(0.0, None)
            case Say():
                return None
            case _:
                raise AssertionError(f"no answer to {ask}")

    def _numbers(self, group: int | None) -> Sequence[int]:
        return range(len(self.groups)) if group is None else [group]

    def _cut(self, group: int, threads: tuple[str, ...]) -> list[Generated]:
        live = self.groups[group]
        stopped = [branch.thread for _, branch in live if not threads or branch.thread in threads]
        self.groups[group] = [(prompt, branch) for prompt, branch in live if branch.thread not in stopped]
        return [Generated(thread, "", "cancelled", None, 1, 0, 0, group=group) for thread in stopped]


def drive(program: Program, answer: Callable[[Ask], Reply], *, most_asks: int = 1_000) -> ProgramResult:
    """The program's end; its asks must be such as a worker serves, and its result such as a worker reports."""
    reply: Reply = None
    for _ in range(most_asks):
        try:
            ask = program.send(reply)
        except StopIteration as end:
            result = end.value
            assert isinstance(result, ProgramResult)
            json_to_text(result.value, "result", limit=None)
            return result
        reply = answer(check_ask(ask))
    raise AssertionError(f"the program went on for more than {most_asks} asks")
