"""Drives a program by hand: answers come from a function of the ask, and a bound on asks stands in for patience."""

from collections.abc import Callable
from dataclasses import dataclass, field

from asterism.agents.asks import (
    Answer,
    Ask,
    Branch,
    CancelBranches,
    Fork,
    Forked,
    Generate,
    Generated,
    Join,
    Program,
    ProgramContext,
    ProgramResult,
    Sampling,
    Say,
)

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

    def answer(self, ask: Ask) -> Answer:
        self.asks.append(ask)
        match ask:
            case Generate():
                return finished(ask.thread, ask.prompt, self.write(ask.prompt, ask.sampling), ask.sampling)
            case Fork():
                self.groups.append([(ask.prefix, branch) for branch in ask.branches])
                return Forked(len(self.groups) - 1, len(ask.prefix.split()))
            case Join():
                if not self.groups[ask.group]:
                    return None
                prefix, branch = self.groups[ask.group].pop(0)
                prompt = prefix + branch.suffix
                return finished(branch.thread, prompt, self.write(prompt, branch.sampling), branch.sampling)
            case CancelBranches():
                cut, self.groups[ask.group] = self.groups[ask.group], []
                return tuple(Generated(branch.thread, "", "cancelled", None, 1, 0, 0) for _, branch in cut)
            case Say():
                return None
            case _:
                raise AssertionError(f"no answer to {ask}")


def drive(program: Program, answer: Callable[[Ask], Answer], *, most_asks: int = 1_000) -> ProgramResult:
    reply: Answer = None
    for _ in range(most_asks):
        try:
            ask = program.send(reply)
        except StopIteration as end:
            result = end.value
            assert isinstance(result, ProgramResult)
            return result
        reply = answer(ask)
    raise AssertionError(f"the program went on for more than {most_asks} asks")
