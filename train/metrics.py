"""What is measured of transcripts, and how far chance may have moved it. Pure functions.

Rates are over a whole corpus: all edits by all reference units, never a mean of utterances' rates.
Intervals are by the bootstrap over utterances, or over speakers or recordings, whose utterances
go right and wrong together (Bisani & Ney 2004, "Bootstrap estimates for confidence intervals in
ASR performance evaluation", ICASSP). The sizes of the sources are part of the design, so each is
drawn from by itself.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from rapidfuzz.distance import Levenshtein

from corpus.text import normalise, whisper_normalise

Array = np.ndarray

FORMS: dict[str, Callable[[str], str]] = {
    "normalised": normalise,
    "written": str.strip,
    "whisper": whisper_normalise,
}
"""The forms in which texts are compared: by our normaliser, as written, and by Whisper's own, for
figures beside published ones."""

DRAWS = 2000
"""Of a bootstrap. Another seed would move an interval's ends by some 1.5 % of its width."""

CONFIDENCE = 0.95

FEWEST_GROUPS = 12
"""Speakers or recordings of a source: drawn from fewer, its interval would be much too narrow."""

DRAWN_AT_ONCE = 8_000_000
"""Numbers that a block of draws may take."""


class Edits(NamedTuple):
    """Of one text against its reference, whose length is `units`."""

    units: int
    substitutions: int
    deletions: int
    insertions: int


def count_edits(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> Edits:
    """The fewest edits that make the hypothesis of the reference, as jiwer counts them."""
    tags = Counter(edit.tag for edit in Levenshtein.editops(reference, hypothesis))
    return Edits(len(reference), tags["replace"], tags["delete"], tags["insert"])


def count(references: Sequence[str], hypotheses: Sequence[str]) -> Array:
    """Edits of each text in all `FORMS`: int [texts, forms, 2 (words, characters), 4 (`Edits`)]."""
    found = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        for change in FORMS.values():
            one, other = change(reference), change(hypothesis)
            found += [count_edits(one.split(), other.split()), count_edits(one, other)]
    return np.array(found, int).reshape(len(references), len(FORMS), 2, len(Edits._fields))


def rate(edits: Array) -> Array:
    """Error rates of int [texts, ..., 4] over all texts: float [...], NaN where no unit is."""
    return _divide(_errors_and_units(edits).sum(axis=0))


def split_edits(edits: Array, parts: Sequence[Array]) -> Array:
    """Each part's texts by themselves: int [texts, parts, ..., 4], zero where others' are.

    Args:
        edits: int [texts, ..., 4].
        parts: the places of each part's texts.
    """
    found = np.zeros((len(edits), len(parts), *edits.shape[1:]), edits.dtype)
    for number, rows in enumerate(parts):
        found[rows, number] = edits[rows]
    return found


def _errors_and_units(edits: Array) -> Array:
    return np.stack([edits[..., 1:].sum(axis=-1), edits[..., 0]], axis=-1)


def _divide(sums: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan)


# --- the bootstrap --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resampling:
    """What is drawn anew in a bootstrap: groups of texts, within strata of constant size.

    Attributes:
        unit: utterances, recordings or speakers: what a group is.
        group: int [texts], the number of each text's group.
        strata: of each stratum, the numbers of its groups.
    """

    unit: str
    group: Array
    strata: Sequence[Array]

    @property
    def groups(self) -> int:
        """The number of groups."""
        return sum(len(stratum) for stratum in self.strata)

    def drawn_rates(self, edits: Array) -> Array:
        """Error rates of int [texts, ..., 4] in each draw: float [draws, ...].

        The draws are the same at every call, so that two models are compared on the same texts.
        """
        texts = _errors_and_units(edits)
        sums = np.zeros((self.groups, *texts.shape[1:]))
        np.add.at(sums, self.group, texts)
        return np.concatenate([_divide(np.tensordot(t, sums, 1)) for t in self._times()])

    def _times(self) -> Iterator[Array]:
        """How often each group is in each draw: float [draws of a block, groups]."""
        chance = np.random.default_rng(0)
        block = max(1, DRAWN_AT_ONCE // self.groups)
        for start in range(0, DRAWS, block):
            times = np.zeros((min(block, DRAWS - start), self.groups))
            for stratum in self.strata:
                share = np.full(len(stratum), 1 / len(stratum))
                times[:, stratum] = chance.multinomial(len(stratum), share, len(times))
            yield times


def resample(
    strata: Sequence[Hashable],
    speakers: Sequence[str | None],
    recordings: Sequence[str | None],
) -> Resampling:
    """By speakers where each stratum has enough and all are known, else by recordings, else texts.

    Args:
        strata: of each text, for example its source.
        speakers, recordings: of each text.
    """
    for unit, names in (("speakers", speakers), ("recordings", recordings)):
        how = _resample_by(unit, strata, names)
        if None not in names and min(map(len, how.strata)) >= FEWEST_GROUPS:
            return how
    return _resample_by("utterances", strata, range(len(strata)))


def _resample_by(
    unit: str, strata: Sequence[Hashable], names: Sequence[Hashable | None]
) -> Resampling:
    numbers: dict[tuple[Hashable, Hashable | None], int] = {}
    keys = zip(strata, names, strict=True)
    group = np.array([numbers.setdefault(key, len(numbers)) for key in keys], int)
    members: dict[Hashable, list[int]] = {}
    for (stratum, _), number in numbers.items():
        members.setdefault(stratum, []).append(number)
    return Resampling(unit, group, [np.array(found) for found in members.values()])


class Interval(NamedTuple):
    """Where a figure lies with 95 % confidence."""

    low: float
    high: float


def interval(drawn: Array) -> Interval:
    """The percentile interval of a figure's values in the draws."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.nanpercentile(drawn, [tail, 100 - tail])
    return Interval(float(low), float(high))


class Difference(NamedTuple):
    """Of two models' error rates on the same texts: the other's less the first's.

    `better` is the share of draws in which the other has the lower rate (Bisani & Ney's probability
    of improvement), `p` the two-sided probability of such a difference by chance.
    """

    difference: float
    interval: Interval
    better: float
    p: float


def paired_difference(first: Array, other: Array, how: Resampling) -> Difference:
    """Compare two models' int [texts, 4] on the same draws of texts."""
    drawn = how.drawn_rates(other) - how.drawn_rates(first)
    below, above = float(np.mean(drawn <= 0)), float(np.mean(drawn >= 0))
    # That none of so many draws has a sign says that its share is below one of them, not that it
    # is 0.
    p = min(1.0, 2 * max(min(below, above), 1 / DRAWS))
    better = float(np.mean(drawn < 0) + np.mean(drawn == 0) / 2)
    return Difference(float(rate(other) - rate(first)), interval(drawn), better, p)


# --- timestamps -----------------------------------------------------------------------------------


class Timed(NamedTuple):
    """A stretch of speech in seconds; `end` is None where a model left it open."""

    start: float
    end: float | None


END_TOLERANCE = 0.2
"""Seconds by which the last timestamp may lie after the end of the audio."""


def are_valid(spans: Sequence[Timed], seconds: float) -> bool:
    """Whether timestamps are all closed, in order, not empty, and within `seconds` of audio.

    Whisper's rules of decoding, which all programs keep, only see to it that none runs backwards.
    """
    free = 0.0
    for span in spans:
        if span.end is None or not free <= span.start < span.end:
            return False
        free = span.end
    return free <= seconds + END_TOLERANCE


def boundary_errors(reference: Sequence[Timed], hypothesis: Sequence[Timed]) -> list[float]:
    """Of each start and end in the reference, how many seconds off the nearest of its kind is.

    Nothing where the hypothesis has none of that kind.
    """
    errors = []
    for kind in ("start", "end"):
        known, heard = (
            [time for span in spans if (time := getattr(span, kind)) is not None]
            for spans in (reference, hypothesis)
        )
        errors += [min(abs(time - other) for other in heard) for time in known if heard]
    return errors
