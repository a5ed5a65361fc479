"""Chunks of a sequence whose borders its content sets.

A chunk ends after an item whose key's hash says so. What is added or removed at one place then
moves no border elsewhere, as it would if every thousandth item ended a chunk: a dataset that is
built again after a change finds most of its shards as they were. The scheme is that of LBFS
(Muthitacharoen, Chen and Mazières 2001, section 3.1), with items in the place of bytes.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import TypeVar

T = TypeVar("T")


def chunks(
    items: Iterable[T],
    *,
    key: Callable[[T], str],
    size: Callable[[T], float],
    limit: float,
) -> Iterator[Iterator[T]]:
    """Cut a sequence into chunks of at most `limit`, in its order.

    No border is set in the first quarter of a chunk; after that one comes, on average, within half
    of `limit`, so that few chunks (one in five) must be cut at the limit itself. An item larger
    than the limit is a chunk of its own. Items are read as they are taken; a chunk ends when the
    next one is asked for, as with `itertools.groupby`.

    Args:
        items: the sequence.
        key: of an item; the border behind it depends on nothing else of it.
        size: of an item, in the unit of `limit`.
        limit: the largest size of a chunk.
    """

    def numbered() -> Iterator[tuple[int, T]]:
        number, total = 0, 0.0
        for item in items:
            of_item = size(item)
            if total and total + of_item > limit:
                number, total = number + 1, 0.0
            yield number, item
            total += of_item
            if total >= limit / 4 and draw(key(item)) < of_item / (limit / 2):
                number, total = number + 1, 0.0

    for _, part in groupby(numbered(), key=itemgetter(0)):
        yield map(itemgetter(1), part)


def draw(key: str) -> float:
    """A number from 0 to 1 that looks drawn by lot and is always the same for a key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) * 2**-64
