"""Join policies as values: what a parent waits for, and on which of its threads it then stands."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, assert_never


@dataclass(frozen=True, slots=True)
class All:
    """The barrier of both papers: every thread is awaited, and all that they say counts."""


@dataclass(frozen=True, slots=True)
class FirstVerified:
    """The first thread that the verifier accepts ends the search and cancels the others, at every level of the tree."""


@dataclass(frozen=True, slots=True)
class Quorum:
    """Go on when so many threads have ended, whatever they found; the others are cancelled."""

    ended: int

    def __post_init__(self) -> None:
        if self.ended < 1:
            raise ValueError(f"ended: is {self.ended}; at least 1")


@dataclass(frozen=True, slots=True)
class Vote:
    """Go on when so many threads gave the same answer (None: more than half), or when no other can catch up.

    Self-consistency (Wang et al. 2022), with the threads cancelled that can change nothing any more.
    """

    agree: int | None = None

    def __post_init__(self) -> None:
        if self.agree is not None and self.agree < 1:
            raise ValueError(f"agree: is {self.agree}; at least 1")


@dataclass(frozen=True, slots=True)
class Best:
    """Every thread is awaited; the one with the highest score of the verifier counts."""


JoinPolicy: TypeAlias = All | FirstVerified | Quorum | Vote | Best

EAGER: Final = Quorum(1)
"""Go on with whatever ended first."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One thread as a policy sees it."""

    ended_as: int | None = None
    """Its place in the order of the ends; None while it lives."""
    is_verified: bool = False
    answer: str | None = None
    """Normalised: equal answers are equal texts."""
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the parent may go on, and which threads (by index, first the one that counts most) it stands on."""

    is_settled: bool
    chosen: tuple[int, ...] = ()


WAIT: Final = Decision(False)


def decide(policy: JoinPolicy, threads: Sequence[Standing], *, may_grow: bool = False) -> Decision:
    """What `policy` says of threads in the order of their outlines; `may_grow` while the list is still being written.

    Without a live thread and with the list closed it is always settled.
    """
    ended = sorted((i for i, one in enumerate(threads) if one.ended_as is not None), key=lambda i: _rank(threads[i]))
    live = len(threads) - len(ended)
    is_over = not live and not may_grow
    match policy:
        case All():
            return Decision(True, tuple(ended)) if is_over else WAIT
        case FirstVerified():
            first = next((i for i in ended if threads[i].is_verified), None)
            if first is not None:
                return Decision(True, (first,))
            return Decision(True) if is_over else WAIT
        case Quorum(needed):
            return Decision(True, tuple(ended)) if is_over or len(ended) >= needed else WAIT
        case Vote(agree):
            return _vote(agree, threads, ended, live, may_grow=may_grow)
        case Best():
            scored = [(score, -i) for i in ended if (score := threads[i].score) is not None]
            return Decision(True, (-max(scored)[1],) if scored else ()) if is_over else WAIT
        case _:
            assert_never(policy)


def _rank(thread: Standing) -> int:
    return 0 if thread.ended_as is None else thread.ended_as


def _vote(
    agree: int | None, threads: Sequence[Standing], ended: Sequence[int], live: int, *, may_grow: bool
) -> Decision:
    """Of equally frequent answers the one that was complete first wins: `Counter` keeps the order of the ends."""
    votes = Counter(answer for i in ended if (answer := threads[i].answer) is not None)
    ranked = votes.most_common(2)
    leader, count = ranked[0] if ranked else (None, 0)
    second = ranked[1][1] if len(ranked) > 1 else 0
    chosen = tuple(i for i in ended if leader is not None and threads[i].answer == leader)
    if agree is not None and count >= agree:
        return Decision(True, chosen)
    if may_grow:
        return WAIT
    needed = len(threads) // 2 + 1 if agree is None else agree
    is_out_of_reach = count > second + live and count + live < needed
    return Decision(True, chosen) if count >= needed or not live or is_out_of_reach else WAIT
