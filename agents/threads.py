"""Reasoning threads: fork several continuations of one prefix, join them under a declared policy, count what it cost.

The machine knows no task: a `Judge` reads each finished thread. It closes gaps of the published schemes (ThreadWeaver,
arXiv 2512.07843; Adaptive Parallel Reasoning, arXiv 2504.15466): every thread has a budget, threads are bounded in
number, the first verified answer cancels the others, and a thread that was cut off or claimed something false never
ends the answer. A false claim is struck out and the thread goes on behind it, within its budget.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal, TypeAlias

from asterism.agents.asking import Asking, cancel_branches, fork, join
from asterism.agents.asks import Branch, Fork, Generated, Json, ProgramFailed, Sampling

MAX_THREADS: Final = 64
MAX_TOKENS_A_THREAD: Final = 4_096
MAX_ROUNDS: Final = 4
"""How often threads are forked in all; the shipped model makes 1.6 false claims a board of 16 threads."""

Outcome: TypeAlias = Literal["verified", "refuted", "claimed_false", "truncated", "cancelled", "malformed"]
JoinPolicy: TypeAlias = Literal["first-verified", "all"]


@dataclass(frozen=True, slots=True)
class ReasoningThread:
    """A thread to be forked: its name, unique in the fork, and the text that it continues behind the shared prefix."""

    name: str
    opening: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a finished thread is worth; `resume` is the text behind its opening from which it may go on, if it may."""

    outcome: Outcome
    resume: str | None = None


Judge: TypeAlias = Callable[[ReasoningThread, Generated], Judgement]


@dataclass(frozen=True, slots=True)
class ThreadReport:
    """How one thread ended; `tokens` are all that it decoded, and `text` is its last text."""

    name: str
    outcome: Outcome
    tokens: int
    text: str


@dataclass(slots=True)
class Accounting:
    """What a program spent, in token ids.

    `critical_path_tokens` are decoded one after another on the longest causal chain: the parent's, the awaited
    thread's of each fork, the tail's. Prompt tokens are either computed (`prefill_tokens`) or reused (`cached_tokens`).
    """

    total_tokens: int = 0
    critical_path_tokens: int = 0
    prefill_tokens: int = 0
    cached_tokens: int = 0
    threads_forked: int = 0
    threads_cancelled: int = 0
    malformed_outlines: int = 0
    repeated_outlines: int = 0
    added_outlines: int = 0
    false_claims: int = 0
    fallbacks: int = 0

    def count(self, generated: Generated, *, is_critical: bool) -> None:
        self.total_tokens += generated.tokens
        self.cached_tokens += generated.cached_tokens
        self.prefill_tokens += max(0, generated.prompt_tokens - generated.cached_tokens)
        if is_critical:
            self.critical_path_tokens += generated.tokens

    def to_json(self) -> dict[str, Json]:
        return asdict(self)


@dataclass(slots=True)
class _Open:
    """A thread that has not ended for good."""

    thread: ReasoningThread
    index: int
    opening: str
    tokens: int = 0


def run_threads(
    prefix: str,
    threads: Sequence[ReasoningThread],
    *,
    sampling: Sampling,
    policy: JoinPolicy,
    judge: Judge,
    accounting: Accounting,
) -> Asking[tuple[ThreadReport, ...]]:
    """Runs `threads` behind `prefix`, each for at most `sampling.max_tokens`, and reports them in the given order.

    Thread number i samples with `sampling.seed` + i. Under `first-verified` the first thread that the judge calls
    verified cancels the rest; under `all` every thread is awaited.
    """
    if not 0 < len(threads) <= MAX_THREADS or len({thread.name for thread in threads}) != len(threads):
        raise ProgramFailed("invalid_fork", f"a fork takes 1 to {MAX_THREADS} threads, names apart", retryable=False)
    if not 0 < sampling.max_tokens <= MAX_TOKENS_A_THREAD:
        raise ProgramFailed("invalid_fork", f"a thread takes 1 to {MAX_TOKENS_A_THREAD} tokens", retryable=False)
    still_open = [_Open(thread, index, thread.opening) for index, thread in enumerate(threads)]
    ended: dict[str, ThreadReport] = {}
    errors = 0
    for _ in range(MAX_ROUNDS):
        branches = tuple(
            Branch(
                one.thread.name,
                one.opening,
                replace(sampling, max_tokens=sampling.max_tokens - one.tokens, seed=sampling.seed + one.index),
            )
            for one in still_open
        )
        forked = yield from fork(Fork(prefix, branches))
        accounting.prefill_tokens += forked.prompt_tokens
        accounting.threads_forked += len(branches)
        waiting = {one.thread.name: one for one in still_open}
        still_open = []
        longest = 0
        for _ in branches:
            generated = yield from join(forked.group)
            if generated is None:
                break
            one = waiting.pop(generated.thread, None)
            if one is None:
                continue
            accounting.count(generated, is_critical=False)
            one.tokens += generated.tokens
            longest = max(longest, generated.tokens)
            errors += generated.finish_reason == "error"
            judgement = judge(one.thread, _whole(one, generated))
            accounting.false_claims += judgement.outcome == "claimed_false"
            ended[one.thread.name] = ThreadReport(one.thread.name, judgement.outcome, one.tokens, generated.text)
            if judgement.outcome == "verified" and policy == "first-verified":
                accounting.critical_path_tokens += generated.tokens
                yield from _cancel(forked.group, [*waiting.values()], ended, accounting)
                return tuple(ended[thread.name] for thread in threads)
            if judgement.resume is not None and one.tokens < sampling.max_tokens:
                one.opening = f"{one.thread.opening} {judgement.resume}"
                still_open.append(one)
        accounting.critical_path_tokens += longest
        for one in waiting.values():
            # The engine never reported it: that must not look like a search that found nothing.
            ended[one.thread.name] = ThreadReport(one.thread.name, "truncated", one.tokens, "")
        if not still_open:
            break
    if errors == len(threads):
        raise ProgramFailed("engine_error", "every reasoning thread ended in an error of the engine", retryable=True)
    return tuple(ended[thread.name] for thread in threads)


def _whole(one: _Open, generated: Generated) -> Generated:
    """`generated` with what the thread had said in earlier rounds before it."""
    earlier = one.opening[len(one.thread.opening) :].strip()
    return replace(generated, text=f"{earlier} {generated.text}") if earlier else generated


def _cancel(
    group: int, waiting: Sequence[_Open], ended: dict[str, ThreadReport], accounting: Accounting
) -> Asking[None]:
    """Stops the threads that still decode; those waiting for another round after a false claim keep that report."""
    if not waiting:
        return
    partials = yield from cancel_branches(group, "another thread was verified")
    cut = {partial.thread: partial for partial in partials}
    for _ in range(len(waiting) - len(cut)):
        # Some may have ended by themselves in the meantime: their tokens count too.
        late = yield from join(group)
        if late is None:
            break
        cut.setdefault(late.thread, late)
    for one in waiting:
        partial = cut.get(one.thread.name)
        if partial is not None:
            accounting.count(partial, is_critical=False)
            one.tokens += partial.tokens
        accounting.threads_cancelled += 1
        ended[one.thread.name] = ThreadReport(
            one.thread.name, "cancelled", one.tokens, "" if partial is None else partial.text
        )
