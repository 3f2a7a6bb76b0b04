"""What the tree keeps for those that said how long."""

from asterism.workers.engine.blocks import BlockPool
from asterism.workers.engine.prefix_tree import PrefixTree
from asterism.workers.engine.step import BLOCK_TOKENS

TOKENS = tuple(range(BLOCK_TOKENS))


def tree_that_keeps(*untils: float) -> PrefixTree[str]:
    """Four blocks, one of which was computed once and is kept for each of these times."""
    tree: PrefixTree[str] = PrefixTree(BlockPool(4))
    for until in untils:
        found = tree.match((*TOKENS, 99), BLOCK_TOKENS)
        node = found.node
        tree.hold(node)
        if not found.blocks:
            grown = tree.grow(node, TOKENS, "owner")
            assert grown is not None
            grown.computed = BLOCK_TOKENS
            node = tree.complete(grown)
        tree.leave(node, "owner", until)
    return tree


def test_a_block_that_is_kept_again_and_again_has_one_pin_the_longest() -> None:
    tree = tree_that_keeps(5.0, 9.0, 7.0)
    assert tree.available == 3
    assert not tree.expire(8.9)
    assert tree.available == 3
    assert tree.expire(9.0)
    assert tree.available == 4
    assert not tree.unpin()


def test_where_room_is_needed_one_pin_ends_at_a_time() -> None:
    tree = tree_that_keeps(5.0, 9.0)
    assert tree.unpin()
    assert tree.available == 4
    assert not tree.unpin()
    assert not tree.expire(100.0)
