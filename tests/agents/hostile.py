"""An engine that answers with anything: marks in any order, errors, lies about tokens, threads that it never ends."""

import random
from dataclasses import dataclass, field, replace

from asterism.agents.asks import (
    Ask,
    Branch,
    CancelBranches,
    Clock,
    ClockReading,
    Fork,
    Forked,
    Generated,
    Join,
    Reply,
    prompt_text,
)
from asterism.agents.scheme import Scheme

WORDS = ["a", "b", "x", "right", "wrong", "1", ":", "yes,"]
CONTENTS = ["a", "b", "c", "d", "e"]
"""Few, so that threads at all levels often are about the same."""


def alphabet(scheme: Scheme) -> list[str]:
    """Every word and every mark."""
    marks = [scheme.block_opens, scheme.entry_opens, scheme.entry_closes, scheme.list_closes, scheme.thread_closes]
    return [*WORDS, *marks, *scheme.reserved, "</Parallel>", "<Outlines>", "<Return>", "</Answer>"]


@dataclass
class Asked:
    """A branch under way."""

    group: int
    branch: Branch
    prompt: str


@dataclass
class Hostile:
    """`faults` is how often (0 to 1) an end is not what an engine that keeps the seam would give."""

    chance: random.Random
    scheme: Scheme
    faults: float = 0.0
    order: float = 0.95
    """How often (0 to 1) what comes next is what a block would have there, and not any word or mark."""
    live: list[Asked] = field(default_factory=list)
    forks: list[Fork] = field(default_factory=list)
    answers: list[tuple[Asked, Generated]] = field(default_factory=list)
    most_live: int = 0
    most_promised: int = 0
    spent: int = 0
    ticks: float = 0.0
    has_lost: bool = False

    def answer(self, ask: Ask) -> Reply:
        match ask:
            case Clock():
                self.ticks += self.chance.random()
                return ClockReading(self.ticks, self.chance.choice([None, None, 50, 3, 1, 0]))
            case Fork():
                group = len(self.forks)
                self.forks.append(ask)
                prefix = prompt_text(ask.prefix)
                for branch in ask.branches:
                    self.live.append(Asked(group, branch, prefix + prompt_text(branch.suffix)))
                decoding = [one.branch.sampling.max_tokens for one in self.live if one.branch.sampling.max_tokens]
                self.most_live = max(self.most_live, len(decoding))
                self.most_promised = max(self.most_promised, self.spent + sum(decoding))
                return Forked(group, 0)
            case Join(group):
                return self._join(group)
            case CancelBranches(group, _, threads):
                cut: list[Generated] = []
                for asked in list(self.live):
                    is_meant = group in (None, asked.group) and (not threads or asked.branch.thread in threads)
                    # Some end by themselves in the same moment.
                    if is_meant and self.chance.random() < 0.8:
                        self.live.remove(asked)
                        cut.append(self._told(asked, replace(self._end(asked), finish_reason="cancelled", stop=None)))
                return tuple(cut)
            case _:
                raise AssertionError(f"no answer to {ask}")

    def _join(self, group: int | None) -> Generated | None:
        live = [asked for asked in self.live if group in (None, asked.group)]
        if not live:
            return None
        if self.chance.random() < self.faults / 4:
            self.has_lost = True
            return None
        if self.chance.random() < self.faults:
            return Generated("nobody", "right </Thread>", "end", None, 1, 1, 0, group=0)
        asked = self.chance.choice(live)
        self.live.remove(asked)
        return self._told(asked, self._end(asked))

    def _told(self, asked: Asked, generated: Generated) -> Generated:
        self.answers.append((asked, generated))
        self.spent += max(1, generated.tokens) if asked.branch.sampling.max_tokens else 0
        return generated

    def _is_in_list(self, prompt: str) -> bool:
        words = prompt.split()
        opened = [index for index, word in enumerate(words) if word == self.scheme.block_opens]
        return bool(opened) and self.scheme.list_closes not in words[opened[-1] :]

    def _snippet(self, *, is_in_list: bool, is_parent: bool) -> list[str]:
        """A few words: in a list mostly an entry or its close, elsewhere mostly plain words, a block, or an end."""
        scheme, chance = self.scheme, self.chance
        if chance.random() > self.order:
            return [chance.choice(alphabet(scheme))]
        if is_in_list:
            entry = [scheme.entry_opens, chance.choice(CONTENTS), scheme.entry_closes]
            return chance.choice([entry, entry, entry, [scheme.list_closes]])
        words = [[chance.choice(WORDS)] for _ in range(5)]
        end = ["</Answer>"] if is_parent else [*chance.choice([[], ["<Return>", "right"]]), scheme.thread_closes]
        return chance.choice([*words, *[[scheme.block_opens]] * 4, end])

    def _end(self, asked: Asked) -> Generated:
        """Some text, cut at stops and bounds as the seam says; or a fault."""
        sampling = asked.branch.sampling
        words: list[str] = []
        stop = None
        is_in_list = self._is_in_list(asked.prompt)
        coming: list[str] = []
        while stop is None and len(words) < sampling.max_tokens and (coming or self.chance.random() < 0.95):
            if not coming:
                coming = self._snippet(is_in_list=is_in_list, is_parent=asked.branch.thread == "main")
            word = coming.pop(0)
            words.append(word)
            stop = word if word in sampling.stop else None
            is_in_list = (is_in_list or word == self.scheme.block_opens) and word != self.scheme.list_closes
        reason = "stop" if stop else "length" if len(words) == sampling.max_tokens else "end"
        text = " ".join(words[:-1] if stop else words)
        prompt_tokens = len(asked.prompt.split())
        cached = self.chance.randint(0, prompt_tokens)
        thread, group = asked.branch.thread, asked.group
        if sampling.max_tokens and self.chance.random() < self.faults:
            fault = self.chance.randrange(5)
            if fault == 0:
                return Generated(thread, "", "error", None, 0, 0, 0, group=group)
            if fault == 1:
                return Generated(thread, text, "error", None, len(words), prompt_tokens, cached, group=group)
            if fault == 2:
                mark = self.chance.choice(alphabet(self.scheme))
                return Generated(thread, text, "stop", mark, 0, prompt_tokens, cached, group=group)
            if fault == 3:
                return Generated(thread, text, "cancelled", None, len(words), prompt_tokens, cached, group=group)
            return Generated(thread, " ".join(alphabet(self.scheme)), "length", None, 0, 0, 0, group=group)
        return Generated(thread, text, reason, stop, len(words), prompt_tokens, cached, group=group)  # type: ignore[arg-type]
