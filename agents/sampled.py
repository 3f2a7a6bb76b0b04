"""Several samples of one prompt under a policy: best of n, the majority, the first that is verified."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from asterism.agents.accounting import Accounting, Limits
from asterism.agents.asking import Asking
from asterism.agents.asks import Prompt, Sampling
from asterism.agents.policies import Best, FirstVerified, JoinPolicy, Vote
from asterism.agents.reasoning import Ended, Judgement, Reasoned, Reasoning, Task
from asterism.agents.running import reason
from asterism.agents.scheme import Body, Opening, Place, glued


@dataclass(frozen=True, slots=True)
class Unmarked:
    """The scheme of a program that forks by itself: the model writes no block, and nothing is joined."""

    glue: str = ""
    block_opens: str = ""
    entry_opens: str = ""
    entry_closes: str = ""
    list_closes: str = ""
    thread_closes: str = ""
    reserved: tuple[str, ...] = ()
    bannable: frozenset[str] = frozenset()
    sequential_opens: str = ""

    def open(self, number: int, entry: str) -> Opening | None:
        return None

    def list_entry(self, number: int, entry: str) -> str:
        return entry

    def whole_list(self, entries: Sequence[str]) -> str:
        return ""

    def child_pieces(
        self, context: Sequence[str], opening: Opening, *, is_cut: bool
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        shared = glued(context, self.glue)
        return shared, glued((*shared, opening.text), self.glue)[len(shared) :]

    def joined(self, said: Sequence[str], block: Place, bodies: Sequence[Body], *, is_whole: bool) -> list[str]:
        return list(said)

    def result(self, said: Sequence[str]) -> str:
        return "".join(glued(said, self.glue))


def sample(
    prompt: Prompt,
    samples: int,
    *,
    sampling: Sampling,
    policy: JoinPolicy,
    judge: Callable[[Ended], Judgement],
    at_once: int | None = None,
    accounting: Accounting | None = None,
) -> Asking[Reasoned]:
    """`samples` texts behind one prompt, of at most `sampling.max_tokens` each, all with seeds of their own.

    `chosen` of what it gives says on which the policy stands. Greedy ones would all be the same: ValueError.
    """
    if samples > 1 and sampling.temperature <= 0:
        raise ValueError(f"temperature: is {sampling.temperature}; {samples} samples would all be the same")
    limits = Limits(
        threads=samples,
        at_once=at_once,
        tokens_a_thread=sampling.max_tokens,
        tokens_parent=1,
        tokens=samples * sampling.max_tokens,
    )
    declared = Reasoning(
        scheme=Unmarked(), sampling=sampling, policy=policy, limits=limits, incremental=False, has_tail=False
    )
    given = tuple(Opening("", f"sample {number}") for number in range(1, samples + 1))
    return reason(prompt, declared, Task(judge=judge), accounting, given=given)


def best_of(
    prompt: Prompt,
    samples: int,
    score: Callable[[str], float],
    *,
    sampling: Sampling,
    accounting: Accounting | None = None,
) -> Asking[str | None]:
    """The text with the highest score; None when every one was cut off with nothing said."""

    def judge(ended: Ended) -> Judgement:
        return _judged(ended, lambda judgement: replace(judgement, score=score(ended.text)))

    reasoned = yield from sample(prompt, samples, sampling=sampling, policy=Best(), judge=judge, accounting=accounting)
    return reasoned.chosen[0].text if reasoned.chosen else None


def majority(
    prompt: Prompt,
    samples: int,
    read: Callable[[str], str | None],
    *,
    sampling: Sampling,
    agree: int | None = None,
    accounting: Accounting | None = None,
) -> Asking[str | None]:
    """The answer that most texts give, as `read` normalises it (None: it gives none), or that `agree` of them give."""

    def judge(ended: Ended) -> Judgement:
        return _judged(ended, lambda judgement: replace(judgement, answer=read(ended.text)))

    reasoned = yield from sample(
        prompt, samples, sampling=sampling, policy=Vote(agree), judge=judge, accounting=accounting
    )
    return reasoned.chosen[0].answer if reasoned.chosen else None


def first_verified(
    prompt: Prompt,
    samples: int,
    verify: Callable[[str], bool],
    *,
    sampling: Sampling,
    accounting: Accounting | None = None,
) -> Asking[str | None]:
    """The first text that is verified, the others cancelled; None when none is."""

    def judge(ended: Ended) -> Judgement:
        return Judgement("verified" if verify(ended.text) else "truncated" if ended.is_cut_off else "refuted")

    reasoned = yield from sample(
        prompt, samples, sampling=sampling, policy=FirstVerified(), judge=judge, accounting=accounting
    )
    return None if reasoned.winner is None else reasoned.winner.text


def _judged(ended: Ended, judge: Callable[[Judgement], Judgement]) -> Judgement:
    """A sample that was cut off counts as far as it goes; one that says nothing counts for nothing."""
    if not ended.text.strip():
        return Judgement("truncated", joins=False)
    return judge(Judgement("truncated" if ended.is_cut_off else "ended"))
