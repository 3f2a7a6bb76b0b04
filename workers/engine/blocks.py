"""Who uses which block of the KV memory: reference counts and a free list. Pure."""


class BlockPool:
    """Blocks 0 .. n - 1. A block is free, or it was allocated once and is released as often as it was taken."""

    def __init__(self, blocks: int) -> None:
        if blocks < 1:
            raise ValueError(f"{blocks} blocks; at least 1")
        self._references = [0] * blocks
        # The one freed last is taken first: it is the likeliest to be in the processor's cache.
        self._free = list(range(blocks - 1, -1, -1))

    def __len__(self) -> int:
        """Blocks that there are."""
        return len(self._references)

    @property
    def free(self) -> int:
        """Blocks that nobody refers to."""
        return len(self._free)

    def references(self, block: int) -> int:
        """How many refer to `block`; 0 when it is free."""
        return self._references[block]

    def find_free(self) -> int | None:
        """Takes a free block, with one reference; None when there is none."""
        if not self._free:
            return None
        block = self._free.pop()
        self._references[block] = 1
        return block

    def share(self, block: int) -> None:
        """One more refers to an allocated block; raises ValueError for a free one."""
        if self._references[block] == 0:
            raise ValueError(f"block {block} is free")
        self._references[block] += 1

    def release(self, block: int) -> None:
        """One fewer refers to a block, which the last one frees; raises ValueError for a free one."""
        if self._references[block] == 0:
            raise ValueError(f"block {block} is free")
        self._references[block] -= 1
        if self._references[block] == 0:
            self._free.append(block)
