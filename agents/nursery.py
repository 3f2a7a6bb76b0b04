"""Threads come to be: an entry of a list is read, opened, and gets a thread of its own or one that is there already."""

from asterism.agents.accounting import Accounting
from asterism.agents.lists import find_entry
from asterism.agents.nodes import Block, Entry, ThreadNode, is_awaiting, seed_of
from asterism.agents.reasoning import Reasoning, Task
from asterism.agents.scheme import Opening
from asterism.agents.traffic import Traffic


class Nursery:
    """Every thread of one tree, and which of them is about what."""

    def __init__(self, declared: Reasoning, task: Task, accounting: Accounting, traffic: Traffic) -> None:
        self._declared = declared
        self._scheme = declared.scheme
        self._limits = declared.limits
        self._task = task
        self._spent = accounting
        self._traffic = traffic
        self._by_content: dict[str, ThreadNode] = {}
        self.nodes: list[ThreadNode] = []
        """In the order of their starts, without the parent of all."""

    def forget(self, node: ThreadNode) -> None:
        """The thread was cancelled: who comes later with the same content gets a new one."""
        if self._by_content.get(node.opening.content) is node:
            del self._by_content[node.opening.content]

    def drop_surplus(self, node: ThreadNode, block: Block) -> bool:
        """Whether the list has all the entries that it may have; then the one that comes now is dropped."""
        is_full = block.numbered >= self._limits.entries or not node.has_room(self._scheme.glue)
        self._spent.dropped_entries += is_full
        return is_full

    def list_entry(self, node: ThreadNode, block: Block, raw: str) -> Entry | None:
        """The entry of `raw`, if it is one: malformed and repeated ones are counted."""
        block.numbered += 1
        text = find_entry(self._scheme, raw)
        opening = None if text is None else self._open(node, block.numbered, text)
        if text is None or opening is None:
            self._spent.malformed_entries += 1
            return None
        if any(entry.opening.content == opening.content for entry in block.entries):
            self._spent.repeated_entries += 1
            return None
        entry = Entry(block.numbered, text, opening)
        block.entries.append(entry)
        return entry

    def _open(self, node: ThreadNode, number: int, text: str) -> Opening | None:
        own = self._task.open
        return self._scheme.open(number, text) if own is None else own(node.name, number, text)

    def give_thread(self, node: ThreadNode, entry: Entry, *, is_cut: bool) -> None:
        """A thread for an entry: one with the same content, if there is one, or a new one if a bound allows it."""
        block = node.block
        assert block is not None
        opening = entry.opening
        entry.is_tried = True
        if not opening.forks:
            return
        known = self._by_content.get(opening.content)
        if known is not None:
            if known is node or is_awaiting(known, node):
                self._spent.repeated_entries += 1
                return
            self._spent.threads_shared += 1
            known.waiters.append(node)
            entry.node = known
            return
        if len(self.nodes) >= self._limits.threads:
            self._spent.refused_entries += 1
            return
        shared, own = self._scheme.child_pieces((*node.context, *node.said), opening, is_cut=is_cut)
        number = block.base + entry.number
        child = ThreadNode(
            name=f"t{number}" if node.depth == 0 else f"{node.name}.{number}",
            depth=node.depth + 1,
            entry=entry.text,
            opening=opening,
            context=(*shared, *own),
            shared=len(shared),
            left=self._limits.tokens_a_thread,
            path=node.path,
            seed=seed_of(opening.content, self._declared.sampling.seed),
            may_fork=self._limits.depth > node.depth + 1 and node.may_fork,
            waiters=[node],
        )
        entry.node = child
        self._spent.threads_forked += 1
        self.nodes.append(child)
        self._by_content[opening.content] = child
        self._traffic.push(child)
