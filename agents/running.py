"""Runs reasoning threads on whatever answers asks: an engine of ours, a scripted one, a completion server."""

from collections.abc import Sequence
from typing import Final

from asterism.agents.accounting import DEFAULT_AT_ONCE, Accounting
from asterism.agents.asking import Asking, cancel_branches, clock, fork, join
from asterism.agents.asks import ProgramFailed, Prompt
from asterism.agents.reasoning import Reasoned, Reasoning, Task
from asterism.agents.scheme import Opening
from asterism.agents.tree import Tree

MAX_STRANGERS: Final = 64
"""Ends of threads that nobody forked, in a row, after which nothing better is expected of whoever answers."""
_NO_TASK: Final = Task()


def reason(
    prompt: Prompt,
    declared: Reasoning,
    task: Task = _NO_TASK,
    accounting: Accounting | None = None,
    *,
    given: Sequence[Opening] = (),
    content: str = "",
) -> Asking[Reasoned]:
    """Lets a model answer `prompt` with threads as it is `declared`; `accounting` is added to.

    With `given` the program forks these threads itself behind the prompt, and the model writes no list. With `content`
    the text is itself a thread of another tree, and has the seed that it would have there. Raises
    `ProgramFailed` (to be tried again) when the engine failed every text, and never for what a model writes.
    """
    spent = Accounting() if accounting is None else accounting
    began = yield from clock()
    free = DEFAULT_AT_ONCE if began.free_slots is None else min(DEFAULT_AT_ONCE, began.free_slots)
    slots = declared.limits.at_once or max(1, free)
    tree = Tree(prompt, declared, task, spent, slots=slots, given=given, content=content)
    strangers = 0
    while True:
        starts = tree.starts()
        # Before the forks: a text whose request is stopped may go on with another, under the same name.
        yield from _stop_unwanted(tree)
        for ask, flights in starts:
            forked = yield from fork(ask)
            tree.started(forked.group, ask, flights)
        if tree.is_over:
            break
        generated = yield from join()
        if generated is None or strangers > MAX_STRANGERS:
            tree.lose()
        elif tree.take(generated):
            strangers = 0
        else:
            strangers += 1
        # Before the next starts: what stops leaves its slot to them.
        yield from _stop_unwanted(tree)
    yield from _clear(tree)
    ended = yield from clock()
    spent.wall_s += max(0.0, ended.at_s - began.at_s)
    reasoned = tree.result()
    if _is_engine_at_fault(reasoned):
        raise ProgramFailed("engine_error", "every text ended in an error of the engine", retryable=True)
    return reasoned


def _stop_unwanted(tree: Tree) -> Asking[None]:
    names = tree.cancels()
    if names:
        for partial in (yield from cancel_branches(None, "nobody waits for it any more", names)):
            tree.take(partial)


def _clear(tree: Tree) -> Asking[None]:
    """Nothing decodes behind the answer, and what it cost so far is counted."""
    if not tree.live:
        return
    for partial in (yield from cancel_branches(None, "the answer is there")):
        tree.take(partial)
    for _ in range(tree.live + MAX_STRANGERS):
        # Some may have ended by themselves in the meantime.
        late = (yield from join()) if tree.live else None
        if late is None:
            break
        tree.take(late)


def _is_engine_at_fault(reasoned: Reasoned) -> bool:
    if any(thread.outcome == "verified" for thread in reasoned.threads):
        return False
    tokens = sum(thread.tokens for thread in reasoned.threads)
    return reasoned.finish_reason == "error" and not tokens and not reasoned.tail.strip()
