"""Reading what a model writes: where a block opens, which entries it has, and what is whole in one without an end."""

from collections.abc import Sequence

from asterism.agents.nodes import Block, ThreadNode
from asterism.agents.scheme import Place, Scheme, cut_at


def read_block(scheme: Scheme, node: ThreadNode) -> Block | None:
    """Take what the text says since the last time; gives the block that is open, if there is one."""
    if node.block is not None:
        node.block.unread += "".join(node.said[node.scanned :])
        node.scanned = len(node.said)
    elif node.may_fork:
        place = find_mark(node.said, node.scanned, scheme.block_opens)
        if place is not None:
            behind = node.said[place.piece][place.character + len(scheme.block_opens) :]
            # Only marks and entries are read here, and neither cares for white space.
            node.block = Block(place, " ".join((behind, *node.said[place.piece + 1 :])), base=node.children)
            node.scanned = len(node.said)
    return node.block


def find_mark(said: Sequence[str], scanned: int, mark: str) -> Place | None:
    """The first place at or after piece `scanned` where `mark` stands."""
    for piece in range(scanned, len(said)):
        character = said[piece].find(mark)
        if character >= 0:
            return Place(piece, character)
    return None


def find_entry(scheme: Scheme, raw: str) -> str | None:
    """The entry that ends `raw`; None when it was never opened, is empty, or has marks in it."""
    _, opens, text = raw.rpartition(scheme.entry_opens)
    marks = (scheme.block_opens, scheme.list_closes, scheme.thread_closes, *scheme.reserved)
    if not opens or not text.strip() or any(mark and mark in text for mark in marks):
        return None
    return text.strip()


def cut_to_last_entry(scheme: Scheme, node: ThreadNode, block: Block) -> None:
    """Takes off what comes behind the last entry that was closed; without one nothing is taken off."""
    mark = scheme.entry_closes
    for piece in range(len(node.said) - 1, block.start.piece - 1, -1):
        character = node.said[piece].rfind(mark)
        if character >= 0 and (piece, character) > (block.start.piece, block.start.character):
            node.said = cut_at(node.said, Place(piece, character + len(mark)))
            break
    whole, closed, _ = block.unread.rpartition(mark)
    block.unread = whole + closed
    node.scanned = len(node.said)
