"""What is asked of the engine and when: the texts that wait, those that decode, the tokens that they may still take."""

from collections import deque
from collections.abc import Sequence

from asterism.agents.accounting import Accounting, Budget, computed_tokens
from asterism.agents.asks import Fork, Generated
from asterism.agents.nodes import NodeState, ThreadNode
from asterism.agents.reasoning import Reasoning
from asterism.agents.requesting import Flight, early_fork_of, forks_of, wanted_tokens


class Traffic:
    """Belongs to one tree; `slots` is how many texts may decode at the same time, at least 1."""

    def __init__(self, declared: Reasoning, accounting: Accounting, slots: int) -> None:
        self._declared = declared
        self._spent = accounting
        self._slots = slots
        self._budget = Budget(declared.limits.tokens)
        self._queue: deque[ThreadNode] = deque()
        self._boarding: list[Flight] = []
        self._early: list[ThreadNode] = []
        self._live: dict[tuple[int, str], Flight] = {}
        self._to_cancel: list[str] = []

    @property
    def live(self) -> dict[tuple[int, str], Flight]:
        """Requests whose end is still to come, by group and thread."""
        return dict(self._live)

    def push(self, node: ThreadNode) -> None:
        """A new text waits for its turn."""
        node.state = NodeState.QUEUED
        self._queue.append(node)

    def push_first(self, node: ThreadNode) -> None:
        """A text that has decoded before goes on before anything that waits."""
        node.state = NodeState.QUEUED
        self._queue.appendleft(node)

    def stop(self, node: ThreadNode) -> None:
        """What the text waits for or decodes now is not wanted any more; its cost so far still counts."""
        if node.state is NodeState.QUEUED:
            self._queue.remove(node)
        for flight in (*self._boarding, *self._live.values()):
            if flight.node is node and not flight.is_early and not flight.is_void:
                flight.is_void = True
                self._to_cancel.append(node.name)

    def ask_early(self, node: ThreadNode) -> None:
        """Compute the joined text of the threads of `node` that have ended."""
        self._early.append(node)

    def board(self) -> ThreadNode | None:
        """Choose who starts now, until a text comes for which no token or no room in a prompt is left: it is given, and
        has not started."""
        while self._queue:
            decoding = sum(not flight.is_early for flight in self._live.values())
            if decoding + len(self._boarding) >= self._slots:
                return None
            node = self._queue[0]
            glue = self._declared.scheme.glue
            if not node.fits(glue):
                return self._queue.popleft()
            node.may_fork = node.may_fork and (node.block is not None or node.has_room(glue))
            granted = self._budget.grant(wanted_tokens(self._declared, node))
            if granted is None:
                return None
            self._queue.popleft()
            if granted == 0:
                return node
            node.state = NodeState.DECODING
            self._boarding.append(Flight(node, granted, is_behind_join=node.is_behind_join))
        return None

    def depart(self) -> list[tuple[Fork, list[Flight]]]:
        """The forks to ask for, in this order, each to be followed by `started`."""
        for flight in self._boarding:
            if flight.is_void:
                self._budget.settle(flight.granted, 0)
        forks = forks_of(self._declared, [flight for flight in self._boarding if not flight.is_void])
        self._boarding = []
        for node in self._early:
            if node.block is not None and node.state is NodeState.JOINING:
                fork = early_fork_of(self._declared, node, node.block)
                if fork is not None:
                    forks.append((fork, [Flight(node, 0, is_early=True)]))
        self._early = []
        return forks

    def started(self, group: int, fork: Fork, flights: Sequence[Flight]) -> None:
        """The fork is under way as number `group`."""
        for branch, flight in zip(fork.branches, flights, strict=True):
            self._live[group, branch.thread] = flight
            if not flight.is_early:
                flight.node.requests += 1
                flight.node.is_behind_join = False

    def cancels(self) -> tuple[str, ...]:
        """The threads to stop now; either their partial texts or their own ends still come."""
        names, self._to_cancel = tuple(dict.fromkeys(self._to_cancel)), []
        return names

    def land(self, generated: Generated) -> Flight | None:
        """The request that ended, its cost counted; None for what was never asked for."""
        flight = self._live.pop((generated.group, generated.thread), None)
        if flight is None:
            return None
        self._spent.count(generated)
        computed = computed_tokens(generated)
        if flight.is_early:
            self._spent.early_prefill_tokens += computed
            return flight
        # An engine that counts nothing, or more than was granted, moves no bound.
        spent = min(max(1, generated.tokens), flight.granted)
        self._budget.settle(flight.granted, spent)
        flight.node.left -= spent
        flight.node.tokens += generated.tokens
        if flight.is_behind_join:
            self._spent.join_prefill_tokens += computed
        return flight
