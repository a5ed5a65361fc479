"""The order in which material is trained on: endless, the same for the same seed, never stored.

Each dataset is gone through pass after pass, in an order drawn anew each time. An epoch takes from
it as many passes as the dataset weighs, and what part of a pass it leaves off the next epoch begins
with: over time each row is trained on as often as the weight says, and none is lost. What an epoch
takes of all datasets is packed together.

Rows in which nothing is said are the exception. Of what is packed together they are 1 to 3 %: where
there are more some are drawn, and where there are fewer silence is made, since a model that hears
none for a while learns to put words into it.

The sequence is a function of material and seed, so position n of it can be found again: that is all
that a resumed run needs to know, and which process or micro-batch takes a window changes nothing.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from corpus.pack import MAX_TOKENS, SINGLE_SHARE, pack
from train.augment import draw_speed
from train.material import Clip, Item, Material, Window, join
from train.targets import Choices

BUCKET = 8
"""Targets are padded to multiples of it. Compiled layers need no coarser one: their second length
makes a program for all of them."""

BPE_DROPOUT_GROWTH = 3.0
"""A target planned for grows by at most this times the rate of BPE dropout; one that grows more is
encoded without. (At a rate of 0.1 it grows by 4 to 30 %.)"""

NO_SPEECH_SHARES = 0.01, 0.03
"""Of all windows, at least and at most."""


class Draw(NamedTuple):
    """A window as it is drawn once: everything random about it follows from `key`.

    Attributes:
        audio: the FLAC files of its rows by their numbers, where they are fetched beforehand.
    """

    window: Window
    key: str
    audio: Mapping[int, bytes] | None = None

    def chance(self, purpose: str) -> random.Random:
        """A source of randomness of its own for each purpose."""
        return random.Random(f"{self.key}/{purpose}")

    @property
    def choices(self) -> Choices:
        """How its target is written."""
        return Choices.draw(self.chance("choices"))


class Request(NamedTuple):
    """A window to read, and the number of decoder positions its micro-batch is padded to."""

    draw: Draw
    length: int


@dataclass
class Stream:
    """The endless sequence of windows.

    Attributes:
        weights: passes over each material in an epoch.
        block_units: how many units are packed together; all of an epoch's where it is None.
        speed: probability that a clip or window is played faster or slower.
        bpe_dropout: its rate, by which targets may grow.
    """

    materials: Sequence[Material]
    weights: Sequence[float]
    seed: int
    block_units: int | None = None
    speed: float = 0.0
    bpe_dropout: float = 0.0

    def epoch(self, epoch: int) -> Iterator[Draw]:
        """The windows of one epoch, shuffled; the same for the same epoch."""
        chance = random.Random(f"{self.seed}/{epoch}")
        units = [
            (number, *unit)
            for number in range(len(self.materials))
            for unit in self._taken(number, epoch)
        ]
        chance.shuffle(units)
        size = self.block_units or max(1, len(units))
        for start in range(0, len(units), size):
            yield from self._block(units[start : start + size], epoch, chance)

    def _taken(self, number: int, epoch: int) -> Iterator[tuple[int, list[Item]]]:
        """Passes and units that an epoch takes of one material."""
        units, weight = self.materials[number].units, self.weights[number]
        first, last = (round(e * weight * len(units)) for e in (epoch, epoch + 1))
        order: list[int] = []
        for position in range(first, last):
            turn, place = divmod(position, len(units))
            if place == 0 or not order:
                order = list(range(len(units)))
                random.Random(f"{self.seed}/{number}/{turn}").shuffle(order)
            yield turn, units[order[place]]

    def _block(
        self, units: Sequence[tuple[int, int, list[Item]]], epoch: int, chance: random.Random
    ) -> Iterator[Draw]:
        """The windows of some units."""
        draws: list[Draw] = []
        silent: list[Draw] = []
        clips: dict[str, Clip] = {}
        for _, turn, items in units:
            for item in items:
                speed = draw_speed(chance, self.speed) if self.speed else 1.0
                item = item if speed == 1.0 else item.faster(speed)
                if isinstance(item, Window):
                    draw = Draw(item, f"{self.seed}/{turn}/{item.id}")
                    (draws if item.speaks else silent).append(draw)
                else:
                    name = f"{item.piece.id}/{turn}"
                    clips[name] = item
        pieces = [clip.piece._replace(id=name) for name, clip in clips.items()]
        chance.shuffle(pieces)
        for packed in pack(pieces, seed=chance.getrandbits(32), single_share=SINGLE_SHARE):
            window = join([clips[piece.id] for piece in packed])
            draws.append(Draw(window, f"{self.seed}/{epoch}/{window.id}"))
        draws += self._silence(silent, draws, epoch, chance)
        chance.shuffle(draws)
        yield from draws

    def _silence(
        self, recorded: Sequence[Draw], speech: Sequence[Draw], epoch: int, chance: random.Random
    ) -> list[Draw]:
        """Windows without speech, so many as belong beside those with it."""
        rounding = chance.random()  # up or down: blocks of a few windows get their share over time
        least, most = (
            int(share / (1 - share) * len(speech) + rounding) for share in NO_SPEECH_SHARES
        )
        if len(recorded) > most:
            return chance.sample(recorded, most)
        made = []
        for _ in range(least - len(recorded)):
            language = chance.choice(speech).window.language
            window = Window(f"silence/{chance.getrandbits(32)}", language, (), (), 0, 0)
            made.append(Draw(window, f"{self.seed}/{epoch}/{window.id}"))
        return [*recorded, *made]

    def read(self, position: int) -> Iterator[Draw]:
        """The windows from `position` on, over all epochs."""
        epoch = 0
        while True:
            for draw in self.epoch(epoch):
                if position:
                    position -= 1
                else:
                    yield draw
            epoch += 1

    def count(self, epochs: float) -> int:
        """Number of windows in `epochs` epochs."""
        whole = int(epochs)
        windows = sum(1 for epoch in range(whole) for _ in self.epoch(epoch))
        if epochs > whole:
            windows += round((epochs - whole) * sum(1 for _ in self.epoch(whole)))
        return windows

    def requests(self, epoch: int) -> Iterator[Request]:
        """The windows of one epoch, each padded for itself alone."""
        return (Request(draw, self._padded(_tokens(draw))) for draw in self.epoch(epoch))

    def batches(
        self,
        start: int,
        stop: int,
        *,
        batch_size: int,
        micro_batch: int,
        rank: int,
        world: int,
        fetch: Callable[[Draw], Draw] | None = None,
    ) -> Iterator[list[Request]]:
        """One process's micro-batches of steps `start` to `stop`, `batch_size` windows a step.

        Which windows make a step does not depend on `micro_batch` or `world`. In a step windows
        with targets of like length go together, and all processes pad theirs to the same length.

        Args:
            fetch: done to each window in the order of `read`, where what is read together comes
                together.
        """
        windows = self.read(start * batch_size)
        if fetch is not None:
            windows = map(fetch, windows)
        together = micro_batch * world
        for _ in range(start, stop):
            step = sorted((next(windows) for _ in range(batch_size)), key=_tokens)
            for at in range(0, batch_size, together):
                group = step[at : at + together]
                length = self._padded(_tokens(group[-1]))
                yield [Request(draw, length) for draw in group[rank::world]]

    def _padded(self, tokens: int) -> int:
        longest = tokens * (1.0 + BPE_DROPOUT_GROWTH * self.bpe_dropout)
        return min(-(-int(longest) // BUCKET) * BUCKET, MAX_TOKENS)


def _tokens(draw: Draw) -> int:
    return draw.window.tokens(draw.choices)


def weights_by_temperature(materials: Sequence[Material], temperature: float) -> list[float]:
    """Passes an epoch that make each dataset's share grow as its hours ** (1 / temperature).

    The dataset that comes up least often is gone through once. 1 leaves the shares as they are,
    more brings the small ones up (Conneau et al. 2020, section 3.1).
    """
    raised = [max(1e-9, material.seconds) ** (1 / temperature - 1) for material in materials]
    return [value / min(raised) for value in raised]
