"""How far people who decide on the same segments agree, from the first two opinions on each.

What an adjudicator says afterwards settles a segment and changes no opinion.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from corpus.catalogue import STANDS, Decision, Transcript
from corpus.text import normalise


class Opinion(NamedTuple):
    """What one person has decided on a segment."""

    reviewer: str
    text: str | None
    """The text that they keep; None where they reject the segment."""


class Pair(NamedTuple):
    """The first two opinions on a segment, by different people, in the order they were given."""

    segment_id: str
    first: Opinion
    second: Opinion
    settled_by: str | None = None
    """The adjudicator who has had the last word, if any; may be one of the two."""


@dataclass(frozen=True)
class Agreement:
    """Figures over pairs of opinions. Shares and rates are None where there is nothing to measure.

    Attributes:
        segments: how many segments two people have decided on.
        both_keep: of these, how many both accept or correct.
        both_reject: how many both reject.
        kappa: Cohen's kappa on keeping or rejecting, see `cohens_kappa`.
        cer: edits between the two texts of what both keep, over the mean of their lengths, in
            normalised characters: neither of the two is the reference.
        exact: the share of what both keep where the normalised texts are the same.
        settled: how many an adjudicator has decided on.
        settled_by_either: of these, how many where that was one of the two.
    """

    segments: int
    both_keep: int
    both_reject: int
    kappa: float | None
    cer: float | None
    exact: float | None
    settled: int
    settled_by_either: int


def cohens_kappa(both: int, first_only: int, second_only: int, neither: int) -> float | None:
    """Agreement of two raters on yes or no beyond what chance gives, 1 at most.

    kappa = (p_o - p_e) / (1 - p_e), where p_o is the share of agreement and p_e what it would be
    if each said yes as often as they do, but at random (J. Cohen, A coefficient of agreement for
    nominal scales, Educational and Psychological Measurement 20, 1960, p. 40).

    Returns:
        None where it is undefined: there are no ratings, or both always say the same one word.
    """
    total = both + first_only + second_only + neither
    expected = (both + first_only) * (both + second_only)
    expected += (neither + first_only) * (neither + second_only)
    if expected == total**2:
        return None
    return ((both + neither) * total - expected) / (total**2 - expected)


def agreement(pairs: Sequence[Pair]) -> Agreement:
    """The figures over all of `pairs`; the raters of kappa are who came first and who second."""
    votes = Counter((pair.first.text is None, pair.second.text is None) for pair in pairs)
    kept = [
        (normalise(pair.first.text), normalise(pair.second.text))
        for pair in pairs
        if pair.first.text is not None and pair.second.text is not None
    ]
    characters = sum(len(one) + len(other) for one, other in kept) / 2
    edits = sum(Levenshtein.distance(one, other) for one, other in kept)
    settled = [pair for pair in pairs if pair.settled_by is not None]
    return Agreement(
        segments=len(pairs),
        both_keep=votes[False, False],
        both_reject=votes[True, True],
        kappa=cohens_kappa(
            votes[False, False], votes[False, True], votes[True, False], votes[True, True]
        ),
        cer=edits / characters if characters else None,
        exact=sum(one == other for one, other in kept) / len(kept) if kept else None,
        settled=len(settled),
        settled_by_either=sum(
            pair.settled_by in (pair.first.reviewer, pair.second.reviewer) for pair in settled
        ),
    )


def by_reviewers(pairs: Iterable[Pair]) -> dict[tuple[str, str], Agreement]:
    """The figures of each two people, by their names in order; the most segments first."""
    of: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair.second.reviewer < pair.first.reviewer:
            pair = pair._replace(first=pair.second, second=pair.first)
        of[pair.first.reviewer, pair.second.reviewer].append(pair)
    most = sorted(of.items(), key=lambda item: (-len(item[1]), item[0]))
    return {names: agreement(some) for names, some in most}


def read_pairs(session: Session) -> list[Pair]:
    """All segments on which the decisions of two people stand, those cut anew since included."""
    opinions = func.sum(case((Decision.adjudicates, 0), else_=1))
    several = select(Decision.segment_id).filter(STANDS).group_by(Decision.segment_id)
    rows = session.execute(
        select(Decision.segment_id, Decision.reviewer, Decision.adjudicates, Transcript.text)
        .outerjoin(Transcript, Transcript.id == Decision.transcript_id)
        .filter(STANDS, Decision.segment_id.in_(several.having(opinions > 1)))
        .order_by(Decision.segment_id, Decision.made_at, Decision.id)
    )
    pairs = []
    for segment_id, made in groupby(rows, key=lambda row: row.segment_id):
        settled_by: str | None = None
        given: dict[str, Opinion] = {}
        for _, reviewer, adjudicates, text in made:
            if adjudicates:
                settled_by = reviewer
            else:
                given.setdefault(reviewer, Opinion(reviewer, text))
        if len(given) > 1:
            first, second, *_ = given.values()
            pairs.append(Pair(segment_id, first, second, settled_by))
    return pairs
