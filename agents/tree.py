"""The machine of reasoning threads: which texts to decode next, and what follows when one of them ends. Pure.

A tree of texts, the parent's at its root. `starts` says what to fork, `take` reads what ended, `cancels` says whom to
stop; `running.py` carries that out. Whatever a model writes, every text ends within `Limits`:

- each request costs its text at least one token of a finite budget, also when the engine says that it took none;
- a block that cannot be forked is cut out and its text goes on alone, without the marks of blocks, at most
  `MAX_FALLBACKS` times;
- a list, and the prompt that it stands in, has a bounded number of entries, and a join shows bounded texts, so that
  every prompt can be asked for;
- a text waits only for threads that do not wait for it, though results are shared.
"""

from collections.abc import Sequence
from typing import Final, assert_never

from asterism.agents.accounting import Accounting
from asterism.agents.asks import Fork, Generated, Prompt, segments_of
from asterism.agents.lists import cut_to_last_entry, read_block
from asterism.agents.nodes import Block, Entry, NodeState, ThreadNode, root_of
from asterism.agents.nursery import Nursery
from asterism.agents.policies import Best, Decision, FirstVerified, Vote, decide
from asterism.agents.reasoning import Ended, Judgement, Leaving, Reasoned, Reasoning, Task, ThreadReport
from asterism.agents.requesting import Flight, is_truncated, joined_said, own_stops
from asterism.agents.scheme import Opening, Place, cut_at
from asterism.agents.traffic import Traffic

MAX_FALLBACKS: Final = 2


class Tree:
    """See the module. `slots` is how many texts may decode at the same time, at least 1."""

    def __init__(
        self,
        prompt: Prompt,
        declared: Reasoning,
        task: Task,
        accounting: Accounting,
        *,
        slots: int,
        given: Sequence[Opening] = (),
        content: str = "",
    ) -> None:
        self._declared = declared
        self._scheme = declared.scheme
        self._limits = declared.limits
        self._task = task
        self._spent = accounting
        self._traffic = Traffic(declared, accounting, slots)
        may_fork = declared.limits.depth > 0 and slots >= declared.limits.fork_from
        self._nursery = Nursery(declared, task, accounting, self._traffic)
        self._ends = 0
        self._leaving: Leaving | None = None
        self._is_incremental = declared.incremental
        if not may_fork and not given and declared.scheme.block_opens in declared.opens_with:
            accounting.fallbacks += 1
        self._root = root_of(declared, segments_of(prompt), content=content, may_fork=may_fork, is_listed=bool(given))
        if given:
            self._open_given(given)
        else:
            self._traffic.push(self._root)

    @property
    def is_over(self) -> bool:
        """Whether the parent's text has ended."""
        return self._root.state is NodeState.ENDED

    @property
    def live(self) -> int:
        """Requests whose end is still to come."""
        return len(self._traffic.live)

    def result(self) -> Reasoned:
        """After the end."""
        root, glue = self._root, self._scheme.glue
        self._spent.critical_path_tokens += root.path
        return Reasoned(
            text=root.text(glue),
            tail="".join(root.said[root.joined_at :]),
            finish_reason=root.finish_reason,
            stop=root.stop,
            leaving=self._leaving,
            threads=tuple(node.report(glue) for node in self._nursery.nodes),
            chosen=root.chosen,
        )

    def starts(self) -> list[tuple[Fork, list[Flight]]]:
        """The forks to ask for now, in this order; each is to be followed by `started`."""
        while not self.is_over:
            starved = self._traffic.board()
            if starved is None:
                break
            starved.finish_reason, starved.stop = "length", None
            self._run_out(starved)
        return [] if self.is_over else self._traffic.depart()

    def started(self, group: int, fork: Fork, flights: Sequence[Flight]) -> None:
        """The fork is under way as number `group`."""
        self._traffic.started(group, fork, flights)

    def cancels(self) -> tuple[str, ...]:
        """The threads to stop now; either their partial texts or their own ends are still to be taken."""
        return self._traffic.cancels()

    def take(self, generated: Generated) -> bool:
        """Read what ended; False for what was never asked for, which changes nothing."""
        flight = self._traffic.land(generated)
        if flight is None:
            return False
        node = flight.node
        if flight.is_early:
            self._computed_early(node, can_do_it=generated.finish_reason != "error")
            return True
        if flight.is_void:
            if node.is_dropped and generated.text:
                node.said.append(generated.text)
            return True
        node.path += generated.tokens
        node.finish_reason, node.stop = generated.finish_reason, generated.stop
        if generated.text:
            node.said.append(generated.text)
        match generated.finish_reason:
            case "stop":
                self._stopped(node, generated.stop or "")
            case "length":
                self._run_out(node, may_go_on=generated.tokens >= flight.granted)
            case "end" | "error" | "cancelled":
                self._run_out(node)
            case _:
                assert_never(generated.finish_reason)
        return True

    def lose(self) -> None:
        """No end will come of what is live: it counts as ended by an error."""
        for (group, thread), flight in self._traffic.live.items():
            self._spent.threads_lost += not flight.is_early
            self.take(Generated(thread, "", "error", None, 0, 0, 0, group=group))

    # What a text says.

    def _stopped(self, node: ThreadNode, mark: str) -> None:
        """The text ended before `mark`."""
        block = read_block(self._scheme, node)
        if mark in own_stops(self._declared, node):
            self._end_text(node, block)
        elif block is not None and mark == self._scheme.entry_closes and self._nursery.drop_surplus(node, block):
            cut_to_last_entry(self._scheme, node, block)
            self._close_list(node, block)
        elif block is not None and mark == self._scheme.entry_closes:
            self._write(node, mark)
            raw, block.unread = block.unread, ""
            entry = self._nursery.list_entry(node, block, raw)
            if entry is not None:
                self._nursery.give_thread(node, entry, is_cut=True)
                # A shared one may have ended long ago.
                self._traffic.push_first(node)
                self._settle(node)
            else:
                self._traffic.push_first(node)
        elif block is not None and mark == self._scheme.list_closes:
            self._close_list(node, block)
        else:
            self._spent.forged_marks += 1
            if block is not None:
                self._unclosed(node, block)
            else:
                self._fall_back(node, None)

    def _write(self, node: ThreadNode, piece: str) -> None:
        """Say something in the text's name."""
        if piece:
            node.said.append(piece)
        node.scanned = len(node.said)

    def _end_text(self, node: ThreadNode, block: Block | None) -> None:
        if block is not None:
            self._unclosed(node, block)
        else:
            self._finish(node)

    def _run_out(self, node: ThreadNode, *, may_go_on: bool = False) -> None:
        """The text ended without a mark: at a bound, at the model's end of text, or by an error."""
        block = read_block(self._scheme, node)
        is_tail_over = node.has_joined and self._limits.tail_tokens is not None
        if block is None and may_go_on and node.left > 0 and not is_tail_over:
            # What was kept back for a tail: nothing was forked, so it is there for this text.
            self._traffic.push_first(node)
        else:
            self._end_text(node, block)

    def _unclosed(self, node: ThreadNode, block: Block) -> None:
        """The list has no end: what is whole in it counts, and the rest is cut off."""
        self._spent.unclosed_blocks += 1
        cut_to_last_entry(self._scheme, node, block)
        self._close_list(node, block)

    def _fall_back(self, node: ThreadNode, block: Block | None) -> None:
        """Go on in one text from before the block; from the end of the text where there is none."""
        self._spent.fallbacks += 1
        node.fallbacks += 1
        node.may_fork = False
        if block is not None:
            for _, child in block.threads:
                self._drop(child, node)
            node.said = cut_at(node.said, block.start)
            node.block = None
            self._write(node, self._scheme.sequential_opens)
        if node.fallbacks > MAX_FALLBACKS or node.left <= 0 or node.finish_reason == "error":
            self._finish(node)
        else:
            self._traffic.push_first(node)

    def _finish(self, node: ThreadNode) -> None:
        """The text has ended for good, unless its judge lets it go on."""
        if node is self._root:
            node.state = NodeState.ENDED
            return
        text = node.text(self._scheme.glue)
        if node.finish_reason == "error" and not text.strip():
            self._conclude(node, Judgement("truncated", joins=False))
            return
        judgement = self._task.judge(Ended(node.name, node.entry, node.opening.text, text, node.finish_reason))
        self._spent.false_claims += judgement.outcome == "claimed_false"
        may_go_on = node.left > 0 and node.resumed < self._limits.resumptions and node.finish_reason != "error"
        if judgement.resume is not None and may_go_on:
            node.resumed += 1
            node.said = []
            self._write(node, judgement.resume)
            node.joined_at = len(node.said)
            self._traffic.push_first(node)
        else:
            self._conclude(node, judgement)

    # A list and its threads.

    def _close_list(self, node: ThreadNode, block: Block) -> None:
        """The list is whole: every entry gets its thread, and the text waits for them."""
        *whole, rest = block.unread.split(self._scheme.entry_closes)
        block.unread = ""
        for raw in whole:
            if not self._nursery.drop_surplus(node, block):
                self._nursery.list_entry(node, block, raw)
        self._spent.malformed_entries += self._scheme.entry_opens in rest
        listed = tuple(entry.text for entry in block.entries)
        for text in self._task.complete(node.name, listed):
            written = self._scheme.list_entry(block.numbered + 1, text)
            raw = written.removesuffix(self._scheme.entry_closes)
            if self._nursery.list_entry(node, block, raw) is not None:
                self._spent.added_entries += 1
                self._write(node, written)
        self._write(node, self._scheme.list_closes)
        block.is_closed = True
        if node is self._root and self._is_leaving(block):
            return
        for entry in block.entries:
            if not entry.is_tried:
                self._nursery.give_thread(node, entry, is_cut=False)
        if not block.threads and (not block.entries or any(entry.opening.forks for entry in block.entries)):
            self._fall_back(node, block)
            return
        node.state = NodeState.JOINING
        self._settle(node)

    def _is_leaving(self, block: Block) -> bool:
        """Whether the threads of the parent's list run elsewhere; then nothing more happens here."""
        forked = [entry for entry in block.entries if entry.opening.forks][: self._limits.threads]
        if self._task.leaves is None or self._declared.eager or not forked:
            return False
        leaving = Leaving(
            context=self._root.context,
            said=tuple(self._root.said),
            block=block.start,
            openings=tuple(entry.opening for entry in forked),
            entries=tuple(entry.text for entry in forked),
        )
        if not self._task.leaves(leaving):
            return False
        self._leaving = leaving
        self._root.state = NodeState.ENDED
        return True

    def _open_given(self, given: Sequence[Opening]) -> None:
        """A list that the program wrote, and no mark of it stands in the text."""
        root = self._root
        block = Block(Place(len(root.said), 0), is_closed=True)
        root.block = block
        root.state = NodeState.JOINING
        for opening in given:
            block.numbered += 1
            entry = Entry(block.numbered, opening.content, opening)
            block.entries.append(entry)
            self._nursery.give_thread(root, entry, is_cut=False)
        self._settle(root)

    # The end of a thread, and the join.

    def _conclude(self, node: ThreadNode, judgement: Judgement) -> None:
        """The thread has ended with this; whoever waits for it may go on."""
        node.judgement = judgement
        node.ended_as = self._ends
        node.state = NodeState.ENDED
        self._ends += 1
        for waiter in list(node.waiters):
            self._settle(waiter)

    def _settle(self, node: ThreadNode) -> None:
        """Go on from the block if its policy allows it."""
        block = node.block
        if block is None or node.state is NodeState.ENDED:
            return
        standings = [child.standing for _, child in block.threads]
        decision = decide(self._declared.policy, standings, may_grow=not block.is_closed)
        if decision.is_settled:
            self._join(node, block, decision)
        elif node.state is NodeState.JOINING:
            self._compute_early(node, block)

    def _join(self, node: ThreadNode, block: Block, decision: Decision) -> None:
        threads = block.threads
        if not block.is_closed:
            self._cut_list(node, block)
        for _, child in threads:
            self._drop(child, node)
        chosen = [threads[index] for index in decision.chosen]
        ended = [(entry, child) for entry, child in threads if child.ended_as is not None]
        # A vote and the best stand on some of the threads, and only on them; the order is the list's.
        stands_on_chosen = isinstance(self._declared.policy, Vote | Best) and bool(chosen)
        shown = [pair for pair in ended if not stands_on_chosen or pair in chosen]
        node.path = max(node.path, *(child.path for _, child in ended)) if ended else node.path
        for _, child in shown:
            is_cut_off = child.finish_reason in ("length", "error")
            self._spent.threads_salvaged += is_cut_off and child.judgement is not None and child.judgement.joins
            self._spent.threads_truncated += is_truncated(self._declared, node, block, child)
        self._spent.joins += 1
        node.said = joined_said(self._declared, node, block, [entry for entry, _ in shown], is_whole=True)
        node.scanned = node.joined_at = len(node.said)
        node.block = None
        node.children = block.base + block.numbered
        node.has_joined = node.is_behind_join = True
        reports = tuple(child.report(self._scheme.glue) for _, child in chosen)
        if node is self._root:
            node.chosen = reports
            if not self._declared.has_tail:
                node.finish_reason, node.stop = "stop", None
                node.state = NodeState.ENDED
                return
        elif chosen and isinstance(self._declared.policy, FirstVerified):
            self._lift(node, chosen[0][1], reports[0])
            return
        self._traffic.push_first(node)

    def _lift(self, node: ThreadNode, winner: ThreadNode, report: ThreadReport) -> None:
        """A verified thread ends the one above it too: that one has nothing to add."""
        assert winner.judgement is not None
        node.finish_reason, node.stop = "stop", None
        text = node.text(self._scheme.glue)
        judged = self._task.judge(Ended(node.name, node.entry, node.opening.text, text, "stop", winner=report))
        self._conclude(node, judged if judged.outcome == "verified" else winner.judgement)

    def _cut_list(self, node: ThreadNode, block: Block) -> None:
        """The search is over while the text still writes its list: what it writes now counts for nothing."""
        self._traffic.stop(node)
        block.is_closed = True
        self._write(node, self._scheme.list_closes)

    def _drop(self, node: ThreadNode, waiter: ThreadNode) -> None:
        """`waiter` waits no longer; when nobody else does either, the thread is stopped, and all below it."""
        if waiter in node.waiters:
            node.waiters.remove(waiter)
        if node.waiters or node.state is NodeState.ENDED:
            return
        self._spent.threads_cancelled += 1
        self._nursery.forget(node)
        self._traffic.stop(node)
        node.state = NodeState.ENDED
        node.is_dropped = True
        node.finish_reason, node.stop = "cancelled", None
        node.judgement = Judgement("cancelled", joins=False)
        if node.block is not None:
            for _, child in node.block.threads:
                self._drop(child, node)

    # The joined text, computed while the slowest thread decodes.

    def _compute_early(self, node: ThreadNode, block: Block) -> None:
        ended = block.leading_ended
        if self._is_incremental and not block.is_computing and block.shown < ended < len(block.entries):
            block.shown = ended
            block.is_computing = True
            self._traffic.ask_early(node)

    def _computed_early(self, node: ThreadNode, *, can_do_it: bool) -> None:
        # An engine that cannot is not asked again.
        self._is_incremental = self._is_incremental and can_do_it
        if node.block is not None:
            node.block.is_computing = False
            self._settle(node)
