"""How the work of a stage is run: item by item, one commit each, one item's failure its own.

A stage gives a plain function of an item and two that write the outcome. Nothing else here knows
what the work is, so that other engines (worker processes, a cluster) can take its place.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from corpus import console
from corpus.errors import ItemError

Item = TypeVar("Item")
Result = TypeVar("Result")


REASONS_SHOWN = 10
"""Failures that are told at the end; all of them stay in the catalogue."""


@dataclass(frozen=True)
class Counts:
    """How a stage went."""

    done: int
    failed: int


def run(
    items: Sequence[Item],
    work: Callable[[Item], Result],
    save: Callable[[Item, Result], None],
    fail: Callable[[Item, ItemError], None],
    *,
    desc: str,
    unit: str,
    enough: Callable[[], bool] = lambda: False,
) -> Counts:
    """Do `work` on every item and `save` it at once; an `ItemError` goes to `fail`, and on it goes.

    `enough` is asked before each item and ends the run in peace. Any other exception is no property
    of the item (a full disk, a defect) and ends it too.
    """
    done = 0
    reasons: list[str] = []
    for item in console.progress(items, total=len(items), desc=desc, unit=unit):
        if enough():
            break
        try:
            result = work(item)
        except ItemError as error:
            fail(item, error)
            reasons.append(str(error))
        else:
            save(item, result)
            done += 1
    for reason in reasons[:REASONS_SHOWN]:
        console.say(f"  {reason}")
    if len(reasons) > REASONS_SHOWN:
        console.say(f"  and {len(reasons) - REASONS_SHOWN} more")
    return Counts(done, len(reasons))


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
