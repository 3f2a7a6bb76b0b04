"""What a text of the tree asks of an engine: its pieces, its stop strings, the marks that it may not write."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from asterism.agents.asks import MAX_PROMPT_CHARACTERS, Branch, Fork
from asterism.agents.nodes import Block, Entry, ThreadNode
from asterism.agents.reasoning import Reasoning
from asterism.agents.scheme import Body, glued


@dataclass(slots=True, eq=False)
class Flight:
    """A request that was asked for, and the text that it continues or only computes."""

    node: ThreadNode
    granted: int
    is_early: bool = False
    """Computes what is already joined, and decodes nothing."""
    is_behind_join: bool = False
    """The first request after a join."""
    is_void: bool = False
    """Its text counts for nothing any more, only its cost does."""


def own_stops(declared: Reasoning, node: ThreadNode) -> tuple[str, ...]:
    """The marks with which a text ends itself."""
    return declared.stop if node.depth == 0 else (declared.scheme.thread_closes, *declared.sampling.stop)


def wanted_tokens(declared: Reasoning, node: ThreadNode) -> int:
    """Most tokens of the node's next request."""
    tail = declared.limits.tail_tokens
    if tail is None:
        return node.left
    if node.has_joined:
        return min(node.left, tail)
    # A text that may still fork keeps its tail back, unless that is all that it has and nobody works for a join yet.
    is_needed = node.left > tail or (node.block is not None and bool(node.block.threads))
    return max(0, node.left - tail) if node.may_fork and is_needed else node.left


def pieces_of(declared: Reasoning, node: ThreadNode) -> tuple[str, ...]:
    """Everything that the node has so far."""
    return glued((*node.context, *node.said), declared.scheme.glue)


def shown_characters(declared: Reasoning, characters: int, threads: int) -> int:
    """Of the text of each of so many threads in the join, behind so many characters of their parent: equal shares of
    half a prompt, so that shared results of threads that join shared results do not grow without bound."""
    room = max(0, MAX_PROMPT_CHARACTERS // 2 - characters)
    return min(declared.limits.shown_characters, room // max(1, threads))


def is_truncated(declared: Reasoning, node: ThreadNode, block: Block, child: ThreadNode) -> bool:
    """Whether the join shows only the beginning of the thread's text."""
    most = shown_characters(declared, node.characters, len(block.entries))
    return _joins(child) and len(_body(declared, child)) > most


def _joins(child: ThreadNode) -> bool:
    return child.judgement is not None and child.ended_as is not None and child.judgement.joins


def _body(declared: Reasoning, child: ThreadNode) -> str:
    brief = None if child.judgement is None else child.judgement.brief
    return declared.scheme.result(child.said) if brief is None else brief


def joined_said(
    declared: Reasoning, node: ThreadNode, block: Block, entries: Sequence[Entry], *, is_whole: bool
) -> list[str]:
    """The node's own text with the results of these entries in it."""
    most = shown_characters(declared, node.characters, len(block.entries))
    bodies = [
        Body(entry.opening.text, _body(declared, entry.node)[:most])
        for entry in entries
        if entry.node is not None and _joins(entry.node)
    ]
    return declared.scheme.joined(node.said, block.start, bodies, is_whole=is_whole)


def fork_of(declared: Reasoning, flights: Sequence[Flight]) -> Fork:
    """One fork for texts that share their leading pieces, or for one text alone."""
    first = flights[0].node
    shared = first.context[: first.shared] if first.requests == 0 and first.depth else pieces_of(declared, first)
    return Fork(shared, tuple(_branch(declared, flight, len(shared)) for flight in flights))


def _branch(declared: Reasoning, flight: Flight, shared: int) -> Branch:
    node = flight.node
    stops, banned = _marks(declared, node)
    base = declared.sampling
    sampling = replace(
        base,
        max_tokens=flight.granted,
        seed=node.request_seed,
        stop=stops,
        banned=tuple(dict.fromkeys((*base.banned, *banned))),
        # Threads wait for a list, and a whole request for a tail: neither waits behind threads of its own.
        priority=base.priority + (1 if node.may_fork or node.has_joined else 0),
    )
    return Branch(node.name, pieces_of(declared, node)[shared:], sampling)


def early_fork_of(declared: Reasoning, node: ThreadNode, block: Block) -> Fork | None:
    """Computes the joined text of the entries that lead the list and have ended, and decodes nothing.

    None where that is longer than a prompt may be.
    """
    said = joined_said(declared, node, block, block.entries[: block.shown], is_whole=False)
    pieces = glued((*node.context, *said), declared.scheme.glue)
    if sum(map(len, pieces)) > MAX_PROMPT_CHARACTERS:
        return None
    sampling = replace(declared.sampling, max_tokens=0, stop=(), banned=(), grammar=None)
    return Fork(pieces, (Branch(f"{node.name}.join", (), sampling),))


def forks_of(declared: Reasoning, flights: Sequence[Flight]) -> list[tuple[Fork, list[Flight]]]:
    """New threads behind the same pieces as one fork each, so that an engine computes these once."""
    batches: list[list[Flight]] = []
    for flight in flights:
        last = batches[-1][0].node if batches else None
        if last is not None and _may_share(last, flight.node):
            batches[-1].append(flight)
        else:
            batches.append([flight])
    return [(fork_of(declared, batch), batch) for batch in batches]


def _may_share(one: ThreadNode, other: ThreadNode) -> bool:
    is_new = one.requests == other.requests == 0 and one.depth > 0 and other.depth > 0
    return is_new and one.context[: one.shared] == other.context[: other.shared]


def _marks(declared: Reasoning, node: ThreadNode) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The stop strings of the node's next request, and the tokens to ban from it.

    What is banned is a stop string too: on an engine that cannot ban, a forged mark ends the text before it.
    """
    scheme = declared.scheme
    own = own_stops(declared, node)
    forged = [mark for mark in (*scheme.reserved, scheme.thread_closes) if mark not in own]
    lists = [scheme.list_closes, *([scheme.entry_closes] if declared.eager else [])]
    if not node.may_fork:
        forged.append(scheme.block_opens)
        lists = []
    stops = tuple(dict.fromkeys(mark for mark in (*own, *lists, *forged) if mark))
    return stops, tuple(mark for mark in forged if mark in scheme.bannable)
