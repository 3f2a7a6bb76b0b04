"""A queue by key from whose middle things can be taken: who waits, what is evicted next, which pin ends first. Pure."""

import heapq
from typing import Any, Generic, Protocol, TypeVar

Item = TypeVar("Item")


class Comparable(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


Key = TypeVar("Key", bound=Comparable)


class LazyHeap(Generic[Key, Item]):
    """Smallest key first, equal ones in the order of `push`. Each operation is O(log n), amortised."""

    def __init__(self) -> None:
        self._heap: list[tuple[Key, int]] = []
        self._items: dict[int, Item] = {}
        self._pushed = 0

    def __len__(self) -> int:
        return len(self._items)

    def push(self, key: Key, item: Item) -> int:
        """Puts an item in; gives the ticket that takes it out again."""
        self._pushed += 1
        self._items[self._pushed] = item
        heapq.heappush(self._heap, (key, self._pushed))
        return self._pushed

    def discard(self, ticket: int) -> None:
        """Takes out the item of a ticket, if it is still there."""
        self._items.pop(ticket, None)
        # What is left of it in the heap goes when half of the heap is such remains.
        if len(self._heap) > 2 * len(self._items) + 16:
            self._heap = [entry for entry in self._heap if entry[1] in self._items]
            heapq.heapify(self._heap)

    def first(self) -> tuple[Key, Item]:
        """The smallest key and its item; raises IndexError when empty."""
        while self._heap[0][1] not in self._items:
            heapq.heappop(self._heap)
        key, ticket = self._heap[0]
        return key, self._items[ticket]

    def pop(self) -> Item:
        """Takes out the item of the smallest key; raises IndexError when empty."""
        _, item = self.first()
        del self._items[heapq.heappop(self._heap)[1]]
        return item
