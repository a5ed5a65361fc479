"""How often each segment is trained on: weights, temperature, caps of hours and of epochs.

By default every segment once. A weight says how often, of a source, of a kind of label, or both: 2
is twice, 0.5 a half of them once. Which half is drawn by a hash of seed and segment, so that it
stays the same when other sources are added, and what is drawn at 0.5 is still there at 0.7.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_EPOCHS = 4.0
"""Repeats are worth nearly as much as new data up to here (Muennighoff et al. 2023)."""


@dataclass(frozen=True)
class Mix:
    """What is asked for; names are those of sources and of kinds of label.

    Attributes:
        weights: how often the segments of a name are taken; a segment's are multiplied.
        max_hours: of a name, its repeats included.
        max_epochs: how often at most, whatever the weights; `MAX_EPOCHS` for those not named.
        temperature: 1 takes sources as large as they are. With T above 1 a source of h hours gets a
            share that goes with h^(1/T): small ones are repeated, the largest stays as it is.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    max_hours: Mapping[str, float] = field(default_factory=dict)
    max_epochs: Mapping[str, float] = field(default_factory=dict)
    temperature: float = 1.0

    @property
    def names(self) -> set[str]:
        """All sources and kinds of label that are named."""
        return {*self.weights, *self.max_hours, *self.max_epochs}


class Portion(NamedTuple):
    """What mixing has to know of a segment."""

    id: str
    source: str
    label_kind: str
    seconds: float


class Drawn(NamedTuple):
    """How often each segment is taken, and how many are not, by reason."""

    copies: list[int]
    left_out: Counter[str]


def draw(portions: Sequence[Portion], mix: Mix, *, seed: int) -> Drawn:
    """How often each of `portions` is taken, in their order.

    Raises:
        ValueError: the temperature is below 1, or a number is negative.
    """
    numbers = [*mix.weights.values(), *mix.max_hours.values(), *mix.max_epochs.values()]
    if mix.temperature < 1 or min(numbers, default=0) < 0:
        raise ValueError("a temperature is 1 or more, and weights and caps are 0 or more")
    wanted = _weights(portions, mix)
    chances = [_chance(seed, portion.id) for portion in portions]
    copies = [
        math.floor(times) + (chance < times % 1)
        for times, chance in zip(wanted, chances, strict=True)
    ]
    left_out = Counter({"not drawn: weighted below 1": copies.count(0)})
    for name, hours in mix.max_hours.items():
        before = copies.count(0)
        _cap(portions, copies, chances, name, hours * 3600)
        left_out[f"over the {hours:g} h of {name}"] = copies.count(0) - before
    return Drawn(copies, +left_out)


def _weights(portions: Sequence[Portion], mix: Mix) -> list[float]:
    seconds: dict[str, float] = defaultdict(float)
    for portion in portions:
        seconds[portion.source] += portion.seconds
    largest = max(seconds.values(), default=0.0)
    weights: dict[tuple[str, str], float] = {}
    for source, kind in {(portion.source, portion.label_kind) for portion in portions}:
        tempered = (seconds[source] / largest) ** (1 / mix.temperature - 1)
        weight = tempered * mix.weights.get(source, 1.0) * mix.weights.get(kind, 1.0)
        caps = [mix.max_epochs[name] for name in (source, kind) if name in mix.max_epochs]
        weights[source, kind] = min(weight, *(caps or [MAX_EPOCHS]))
    return [weights[portion.source, portion.label_kind] for portion in portions]


def _cap(
    portions: Sequence[Portion],
    copies: list[int],
    chances: Sequence[float],
    name: str,
    seconds: float,
) -> None:
    """Take copies back until those of `name` are within `seconds`: repeats first."""
    order = sorted(
        (copy, chances[index], index)
        for index, portion in enumerate(portions)
        if name in (portion.source, portion.label_kind)
        for copy in range(copies[index])
    )
    for _, _, index in order:
        seconds -= portions[index].seconds
        if seconds < 0:
            copies[index] -= 1


def _chance(seed: int, segment_id: str) -> float:
    """A number from 0 to 1 that only this seed and segment have."""
    digest = hashlib.blake2b(f"{seed}/{segment_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
