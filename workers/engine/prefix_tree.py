"""What the KV memory holds, as a tree over blocks of tokens: a prompt walks it and finds what is computed. Pure.

The radix tree of RadixAttention (Zheng et al. 2023, section 3), with a node for each block. Every allocated block is
a node's: also the ones that a running sequence, the node's owner, still fills. So a prompt finds what is computed,
and what is about to be.

A block's references are the tree's own one, one for each child whose block is in use, and one for each hold. A
sequence holds its last node only: that keeps the whole path to it.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Generic, TypeVar

from asterism.workers.engine.blocks import BlockPool
from asterism.workers.engine.lazy_heap import LazyHeap
from asterism.workers.engine.step import BLOCK_TOKENS

Owner = TypeVar("Owner")
Token = TypeVar("Token", int, str)

NEIGHBOURS = 8
"""Children on either side of where a prompt would stand that are looked at. Those with the longest common beginning
are nearest, so more matter only where that many siblings are not computed yet; then a copy is missed, never a block."""


def shared_prefix(first: Sequence[Token], second: Sequence[Token]) -> int:
    """How many tokens two lists, or two tuples, begin with alike."""
    longest = min(len(first), len(second))
    if first[:longest] == second[:longest]:
        return longest
    # Slices compare at C speed, so halving beats a walk over pairs.
    return bisect_left(range(longest), True, key=lambda size: first[: size + 1] != second[: size + 1])


@dataclass(slots=True, eq=False)
class Node(Generic[Owner]):
    """A block, and the tokens that it holds or will hold behind those of its ancestors."""

    tokens: tuple[int, ...]
    """At most BLOCK_TOKENS; only a node with that many, or with an owner, has children."""
    block: int
    parent: "Node[Owner] | None"
    owner: Owner | None
    """The running sequence that writes to it; None once it is whole, or its owner has left."""
    computed: int = 0
    """Tokens whose keys and values are in the block."""
    children: "list[Node[Owner]]" = field(default_factory=list)
    """Sorted by tokens."""
    last_used: int = 0
    ticket: int | None = None
    """Of a node that may be evicted."""
    pin: int | None = None
    """The ticket of a hold that ends at `kept_until`."""
    kept_until: float = 0.0


_tokens = attrgetter("tokens")


@dataclass(frozen=True, slots=True)
class Match(Generic[Owner]):
    """What the tree has of a prompt."""

    node: Node[Owner]
    """The last whole block on the way; the root when there is none."""
    blocks: list[int]
    """The whole blocks from the first to `node`'s."""
    source: Node[Owner] | None
    """A child of `node` that goes on like the prompt for `copied` tokens, fewer than a block."""
    copied: int
    owner: Owner | None
    """A running sequence that is about to compute more of the prompt."""
    promised: int
    """Tokens that are there when `owner` has computed what the two have in common."""

    @property
    def cached(self) -> int:
        """Tokens that need not be computed."""
        return len(self.blocks) * BLOCK_TOKENS + self.copied


class PrefixTree(Generic[Owner]):
    """The owner of all blocks of a pool."""

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self._root: Node[Owner] = Node((), -1, None, None)
        self._unused: LazyHeap[int, Node[Owner]] = LazyHeap()
        self._pins: LazyHeap[float, Node[Owner]] = LazyHeap()
        self._uses = 0
        self._evictable = 0

    @property
    def available(self) -> int:
        """Blocks that can be had: the free ones, and those whose contents nobody holds."""
        return self._pool.free + self._evictable

    @property
    def kept_until(self) -> float | None:
        """When the first hold of `leave` ends; None when there is none."""
        return self._pins.first()[0] if self._pins else None

    def match(self, tokens: Sequence[int], limit: int) -> Match[Owner]:
        """What is there of the first `limit` of `tokens`, or will be."""
        node, blocks, at = self._root, list[int](), 0
        while at + BLOCK_TOKENS <= limit:
            child = self._find_whole(node, tuple(tokens[at : at + BLOCK_TOKENS]))
            if child is None:
                break
            node, at = child, at + BLOCK_TOKENS
            blocks.append(child.block)
        rest = tuple(tokens[at : min(at + BLOCK_TOKENS, limit)])
        source, copied, writer, common = None, 0, None, 0
        for child in self._near(node, rest):
            alike = shared_prefix(child.tokens, rest)
            if min(alike, child.computed) > copied:
                source, copied = child, min(alike, child.computed)
            if child.owner is not None and alike > common:
                writer, common = child, alike
        promised = at + common
        owner = None if writer is None else writer.owner
        while writer is not None and common == BLOCK_TOKENS and promised < limit:
            rest = tuple(tokens[promised : min(promised + BLOCK_TOKENS, limit)])
            writer = next((child for child in writer.children if child.owner is owner), None)
            common = 0 if writer is None else shared_prefix(writer.tokens, rest)
            promised += common
        return Match(node, blocks, source, copied, owner, promised)

    def hold(self, node: Node[Owner]) -> None:
        """Keeps a node and all above it from eviction, until `let_go`."""
        while node.parent is not None:
            self._pool.share(node.block)
            if self._pool.references(node.block) > 2:
                return
            self._evictable -= 1
            self._forget_unused(node)
            node = node.parent

    def let_go(self, node: Node[Owner]) -> None:
        """Ends a hold. What nobody holds any more was used last now."""
        self._uses += 1
        while node.parent is not None:
            self._pool.release(node.block)
            if self._pool.references(node.block) > 1:
                return
            self._evictable += 1
            node.last_used = self._uses
            self._note_unused(node)
            node = node.parent

    def grow(self, parent: Node[Owner], tokens: tuple[int, ...], owner: Owner) -> Node[Owner] | None:
        """A node for `tokens` behind `parent`, to which the owner's hold on `parent` moves.

        Evicts what was not used for longest when no block is free; None when everything is held.
        """
        block = self._pool.find_free()
        if block is None:
            if not self._unused:
                return None
            self._remove(self._unused.pop())
            block = self._pool.find_free()
            assert block is not None
        self._pool.share(block)
        node = Node(tokens, block, parent, owner)
        insort(parent.children, node, key=_tokens)
        return node

    def extend(self, node: Node[Owner], token_id: int) -> None:
        """Adds a token to an open node."""
        assert node.parent is not None
        siblings = node.parent.children
        if len(siblings) > 1:
            del siblings[self._place(node)]
            node.tokens = (*node.tokens, token_id)
            insort(siblings, node, key=_tokens)
        else:
            node.tokens = (*node.tokens, token_id)

    def complete(self, node: Node[Owner]) -> Node[Owner]:
        """Opens a whole computed node to all; gives it, or an older one with the same tokens that takes its place.

        The owner's hold moves to the node that is given.
        """
        assert node.parent is not None
        node.owner = None
        twin = self._find_whole(node.parent, node.tokens, other_than=node)
        if twin is None or node.children:
            return node
        self._replace(node, twin)
        return twin

    def leave(self, node: Node[Owner], owner: Owner, keep_until: float | None = None) -> None:
        """Takes an owner's hold off its last node. What it computed stays, until `keep_until` even if others need
        the room; what it did not compute goes."""
        while node.owner is owner and node.computed == 0 and node.parent is not None:
            # The reference that the parent had for this child becomes the hold.
            node.parent.children.remove(node)
            self._pool.release(node.block)
            self._pool.release(node.block)
            node = node.parent
        if node.owner is owner and node.parent is not None:
            node = self._close(node)
        if keep_until is not None and node.parent is not None:
            self._keep(node, keep_until)
        else:
            self.let_go(node)

    def expire(self, now: float) -> bool:
        """Ends the holds of `leave` whose time has come; False when there was none."""
        if not self._pins or self._pins.first()[0] > now:
            return False
        while self._pins and self._pins.first()[0] <= now:
            self._unpin_first()
        return True

    def unpin(self) -> bool:
        """Ends the hold of `leave` that would end first; False when there is none."""
        if not self._pins:
            return False
        self._unpin_first()
        return True

    def _keep(self, node: Node[Owner], until: float) -> None:
        """Turns a hold into a pin; a node has one, so that there are no more of them than blocks."""
        if node.pin is not None:
            # The pin that is there has a hold of its own: one of the two is enough.
            self.let_go(node)
            if until <= node.kept_until:
                return
            self._pins.discard(node.pin)
        node.pin, node.kept_until = self._pins.push(until, node), until

    def _unpin_first(self) -> None:
        node = self._pins.pop()
        node.pin = None
        self.let_go(node)

    def _close(self, node: Node[Owner]) -> Node[Owner]:
        """Cuts an open node to what is computed of it; gives it, or a node which holds that and more."""
        assert node.parent is not None
        siblings = node.parent.children
        del siblings[self._place(node)]
        node.tokens = node.tokens[: node.computed]
        insort(siblings, node, key=_tokens)
        node.owner = None
        for other in self._near(node.parent, node.tokens):
            if other is not node and other.owner is None and other.tokens[: node.computed] == node.tokens:
                self._replace(node, other)
                return other
        return node

    def _replace(self, node: Node[Owner], twin: Node[Owner]) -> None:
        """Moves the one hold on a childless node to its twin, and removes it."""
        self.hold(twin)
        self.let_go(node)
        self._forget_unused(node)
        self._remove(node)

    def _remove(self, node: Node[Owner]) -> None:
        """Takes out a leaf that nobody holds; its parent may be the next."""
        assert node.parent is not None
        del node.parent.children[self._place(node)]
        self._evictable -= 1
        self._pool.release(node.block)
        if node.parent.parent is not None and self._pool.references(node.parent.block) == 1:
            self._note_unused(node.parent)

    def _note_unused(self, node: Node[Owner]) -> None:
        if not node.children:
            node.ticket = self._unused.push(node.last_used, node)

    def _forget_unused(self, node: Node[Owner]) -> None:
        if node.ticket is not None:
            self._unused.discard(node.ticket)
            node.ticket = None

    def _find_whole(
        self, parent: Node[Owner], tokens: tuple[int, ...], other_than: Node[Owner] | None = None
    ) -> Node[Owner] | None:
        """The child with exactly these tokens, all computed, that is open to all."""
        children = parent.children
        at = bisect_left(children, tokens, key=_tokens)
        while at < len(children) and children[at].tokens == tokens:
            if children[at].owner is None and children[at] is not other_than:
                return children[at]
            at += 1
        return None

    def _near(self, parent: Node[Owner], tokens: tuple[int, ...]) -> list[Node[Owner]]:
        """The children around where `tokens` would stand."""
        children = parent.children
        if not tokens:
            return []
        if len(children) <= NEIGHBOURS:
            return children
        at = bisect_left(children, tokens, key=_tokens)
        return children[max(0, at - NEIGHBOURS) : at + NEIGHBOURS]

    def _place(self, node: Node[Owner]) -> int:
        """The index of a node among its siblings."""
        assert node.parent is not None
        siblings = node.parent.children
        at = bisect_left(siblings, node.tokens, key=_tokens)
        while siblings[at] is not node:
            at += 1
        return at
