"""Who is trained on and who is tested on: whole groups go to train, dev or test.

A group is what must not be on both sides: a channel, a speaker, or a recording where nothing
larger is known. Groups stand in the order of a hash; test is filled from its front and dev from
its back. So the same groups always fall the same way, and a group that comes later can only push
others out of dev and test into train. What a model was once trained on never becomes its test.
(Holding the hours to a share, below, is the exception: it moves while a corpus is small.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal, NamedTuple

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")

MIN_GROUPS = 3  # one for each split
MAX_SHARE = 0.1  # of all seconds in dev, and in test: a small corpus is trained on first
MAX_GROUP_TARGETS = 2.0  # a larger group, measured in targets, would make a split of one voice
MAX_LAST_RESORT_SHARE = 0.4  # of all seconds, for the one group of a split that nothing else suits


class Assignment(NamedTuple):
    """The split of each group, and one line for each thing the caller should be told."""

    splits: dict[str, Split]
    warnings: list[str]


def assign_splits(
    groups: Mapping[str, float],
    *,
    dev_seconds: float,
    test_seconds: float,
    salt: str,
    fixed: Mapping[str, Split] | None = None,
) -> Assignment:
    """Assign each group to a split; no group is ever in two.

    Args:
        groups: seconds of speech by group.
        dev_seconds: wanted in dev, cut to a tenth of what there is; 0 for no dev.
        test_seconds: wanted in test, likewise.
        salt: of the hash; another salt draws other splits.
        fixed: groups whose split is given, such as a release's own or an earlier build's. They
            do not count towards the seconds wanted.
    """
    fixed = fixed or {}
    splits: dict[str, Split] = {group: fixed.get(group, "train") for group in groups}
    free = {group: seconds for group, seconds in groups.items() if group not in fixed}
    asked: dict[Split, float] = {"test": test_seconds, "dev": dev_seconds}
    wanted = [split for split, seconds in asked.items() if seconds > 0]
    if not wanted or not free:
        return Assignment(splits, [])
    if len(free) < MIN_GROUPS:
        return Assignment(
            splits,
            [
                f"{len(free)} group(s) cannot be split, so all is train: collect from "
                f"{MIN_GROUPS} channels or speakers at least"
            ],
        )

    total = sum(free.values())
    target = {split: min(asked[split], MAX_SHARE * total) for split in wanted}
    held = dict.fromkeys(wanted, 0.0)
    order = sorted(free, key=lambda group: hashlib.sha1((salt + group).encode()).digest())
    queue = {
        split: [group for group in order if free[group] <= MAX_GROUP_TARGETS * target[split]]
        for split in wanted
    }
    if "dev" in queue:
        queue["dev"].reverse()

    def hold_out(group: str, split: Split) -> None:
        splits[group] = split
        held[split] += free.pop(group)

    # The emptier split takes next, so that where groups are few neither goes without.
    while hungry := [split for split in wanted if queue[split] and held[split] < target[split]]:
        split = min(hungry, key=lambda split: held[split] / target[split])
        group = queue[split].pop(0)
        if group in free:
            hold_out(group, split)

    warnings = []
    for split in wanted:
        if not held[split] and len(free) > 1:
            smallest = min((group for group in order if group in free), key=free.__getitem__)
            if free[smallest] <= MAX_LAST_RESORT_SHARE * total:
                hold_out(smallest, split)
        if not held[split]:
            warnings.append(f"{split} is empty: no group is small enough to be held out")
        elif held[split] < asked[split] or held[split] > MAX_GROUP_TARGETS * asked[split]:
            warnings.append(
                f"{split} has {held[split] / 60:.1f} min instead of {asked[split] / 60:.1f}, "
                f"of {total / 60:.1f} min in all"
            )
    return Assignment(splits, warnings)


def carve(
    groups: Mapping[str, float],
    splits: Mapping[str, Split],
    *,
    asked: Mapping[str, float],
    salt: str,
) -> Assignment:
    """Take dev or test out of train where no source brings one and none else is left for it.

    Args:
        groups: seconds of speech by group.
        splits: where each group is so far.
        asked: seconds wanted, by split.
        salt: of the hash.

    Returns:
        The groups that change, and their split.
    """
    missing = {split for split, seconds in asked.items() if seconds} - set(splits.values())
    train = {group: groups[group] for group, split in splits.items() if split == "train"}
    if not missing or len(train) == len(splits):
        return Assignment({}, [])  # all was free before: there is nothing more to take
    found = assign_splits(
        train,
        dev_seconds=asked["dev"] if "dev" in missing else 0.0,
        test_seconds=asked["test"] if "test" in missing else 0.0,
        salt=salt,
    )
    moved: dict[str, Split] = {
        group: split for group, split in found.splits.items() if split != "train"
    }
    return Assignment(moved, found.warnings)
