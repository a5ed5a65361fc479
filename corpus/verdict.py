"""Keep, review or drop: scores and decisions against a versioned set of thresholds.

Nothing is deleted. A verdict says which transcript of a segment would be trained on and why, so
thresholds can be changed and applied again: 100,000 segments take half a minute of one core. Their
texts are scored anew each time, so that no verdict rests on a score of other texts.
"""

from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from corpus.catalogue import Catalogue, Score, Segment, Verdict
from corpus.errors import UserError
from corpus.evidence import Evidence, in_batches, read_all, read_decided
from corpus.score import Comparison, Measures, Phrases, Text, measure, phrases_for
from corpus.subtitles.suspect import noted_suspicion
from corpus.text import base_language
from corpus.thresholds import (
    DROP,
    KEEP,
    LEAST_GROUP,
    REVIEW,
    VERDICTS,
    Thresholds,
    read_thresholds,
)

GROUNDS = {
    "reviewed": "a person has accepted or corrected it",
    "release": "a data set's own text",
    "subtitle": "the model hears what the subtitle says",
    "pseudo": "the model was sure of what it heard",
    "models agree": "two models hear the same",
    "silence": "nothing is said, as the subtitles have it",
    "numbers": "written in digits by one of the two, and left out of the comparison",
    "left aside": "there are subtitles too, but a machine's",
}
"""Kinds of reasons that speak for a segment."""

FLAGS = {
    "rejected": "a person has rejected it",
    "reviewers disagree": "people have decided differently, and nobody has settled it yet",
    "other language": "spoken or written in another language or script",
    "no transcript": "no text yet",
    "unchecked": "no model has listened to the subtitle",
    "machine subtitles": "the subtitle track may be a machine's",
    "differs": "the model hears something else here and there",
    "wrong text": "the model hears something else",
    "missing start": "something is said before the first word of the label",
    "missing end": "something is said after the last word of the label",
    "unheard start": "the first words of the label are not what is heard",
    "unheard end": "the last words of the label are not what is heard",
    "missing words": "the model hears more than the label has",
    "weak alignment": "the words of the label do not lie on the sound",
    "untranscribed speech": "something is said where the subtitles have nothing",
    "no speech": "nothing is heard",
    "repeated phrase": "a text that goes round",
    "credits": "who made the subtitles",
    "known phrase": "what models write where nobody speaks",
    "long word": "a word that nobody says",
    "unsure": "the model was not sure of what it heard",
    "too fast": "more characters a second than people speak",
    "too slow": "fewer characters a second than people speak",
}
"""Kinds of reasons that speak against one."""

UNTRANSCRIBED = "untranscribed speech"
REVIEWED, REJECTED, DISPUTED = "reviewed", "rejected", "reviewers disagree"

UNKNOWN_REASON = "other"
"""The kind of a reason in older words."""

HALF = 0.5
"""More than half of a text's words in another script are no foreign names in it, and more than half
of a text around the ends of another is no word that was cut off."""


def reason_kind(reason: str) -> str:
    """The kind of a verdict's reason, which is ``KIND: detail``; one of `GROUNDS` or `FLAGS`."""
    kind = reason.partition(":")[0]
    return kind if kind in GROUNDS or kind in FLAGS else UNKNOWN_REASON


class Finding(NamedTuple):
    """What one rule says of a segment."""

    verdict: str
    reason: str
    """``KIND: detail``, see `reason_kind`."""


@dataclass(frozen=True)
class Judgement:
    """A verdict before it is stored; what decided it is the first finding."""

    findings: list[Finding]
    transcript_id: int | None

    @property
    def verdict(self) -> str:
        """The worst of the findings."""
        return self.findings[0].verdict

    @property
    def reasons(self) -> list[str]:
        """One for each finding."""
        return [finding.reason for finding in self.findings]


def score(evidence: Evidence, language: str, phrases: Phrases) -> Measures | None:
    """The scores of a segment; None where it has no text. `language` is the workspace's."""
    label = evidence.label
    if label is None:
        return None
    heard, another = evidence.heard, evidence.heard_by_another
    return measure(label, heard, another, evidence.seconds, language, phrases)


def judge(
    evidence: Evidence, measures: Measures | None, thresholds: Thresholds, language: str
) -> Judgement:
    """The verdict on one segment, from its texts, scores and decisions.

    A reviewer's word is final, unless another's stands against it. A release is trusted where its
    listeners have agreed. Elsewhere its text is believed, as a subtitle is, as far as a model's own
    transcript agrees with it, and a pseudo-label as far as its model was sure or another agrees. A
    subtitle of a track that may be a machine's is for people to decide on, however well a model
    agrees; one that surely is counts for less than the pseudo-label.
    """
    if evidence.disputed:
        label = evidence.label
        told = f"{DISPUTED}: an adjudicator has to settle it"
        return Judgement([Finding(REVIEW, told)], label.id if label else None)
    if evidence.decided is not None:
        action, why, transcript_id = evidence.decided
        if action == "reject":
            return Judgement([Finding(DROP, f"{REJECTED}: {why or 'no reason given'}")], None)
        return Judgement([Finding(KEEP, f"{REVIEWED}: {action}ed")], transcript_id)
    if base_language(evidence.language) != base_language(language):
        told = f"other language: the recording is in {evidence.language}"
        return Judgement([Finding(DROP, told)], None)
    label = evidence.label
    if label is None or measures is None:
        return Judgement([Finding(REVIEW, "no transcript: there is no text yet")], None)
    if label.kind == "release" and evidence.validated:
        found = [Finding(KEEP, f"release: {label.origin}"), *_pace(measures, thresholds)]
    elif label.kind in {"release", "subtitle"}:
        found = _subtitle(evidence.heard, measures, thresholds)
        origin, why = noted_suspicion(evidence.note)
        if origin != "human":
            found.append(Finding(REVIEW, f"machine subtitles: {why}"))
    else:
        found = _pseudo(label, measures, thresholds)
        if any(text.kind == "subtitle" for text in evidence.texts):
            why = noted_suspicion(evidence.note)[1]
            found.append(Finding(KEEP, f"left aside: machine subtitles ({why})"))
    # Stable: of equally bad findings the first decides.
    found.sort(key=lambda finding: -VERDICTS.index(finding.verdict))
    if evidence.heard is not None and reason_kind(found[0].reason) == UNTRANSCRIBED:
        label = evidence.heard  # what a person is shown to correct: the subtitle has nothing
    return Judgement(found, label.id)


def _subtitle(heard: Text | None, measures: Measures, thresholds: Thresholds) -> list[Finding]:
    if not measures.normal:
        return [_silence(heard, measures, thresholds)]
    comparison = measures.comparison
    agrees = comparison is not None and comparison.cer <= thresholds.max_cer
    details: list[Finding] = []
    if heard is None or comparison is None:
        main = Finding(thresholds.unchecked, "unchecked: no model has listened to it")
    elif not agrees and (loop := measures.heard_loop or _gzip_loop(heard, thresholds)):
        main = Finding(thresholds.unchecked, f"unchecked: the model goes round, {loop}")
    else:
        main = _agreement(heard, measures, comparison, thresholds)
        details = _details(heard, comparison, main, thresholds)
    # What explains a disagreement stands before it, and is as bad.
    worse = REVIEW if main.verdict == KEEP else main.verdict
    causes = []
    if measures.is_credit:
        causes.append(Finding(worse, "credits: it tells who made the subtitles"))
    # A word or two of another script may be said; all of a text that is in one is a translation.
    share = measures.script_share
    if share is not None and share < (HALF if agrees else thresholds.min_script_share):
        causes.append(Finding(worse, _script_reason(share)))
    if not agrees and measures.loop is not None:
        causes.append(Finding(worse, f"repeated phrase: {measures.loop}"))
    if not agrees and heard is not None:
        causes += _spoken_language(heard, worse, thresholds)
    return [*causes, main, *details, *_words(measures, thresholds)]


def _agreement(
    heard: Text, measures: Measures, comparison: Comparison, thresholds: Thresholds
) -> Finding:
    """How far the model hears what the subtitle says."""
    cer = comparison.cer
    told = f"CER {cer:.2f} against what the model hears"
    if cer <= thresholds.max_cer:
        return Finding(KEEP, f"subtitle: {told}")
    told = f"{told} (limit {thresholds.max_cer:.2f})"
    verdict = REVIEW if cer <= thresholds.review_cer else DROP
    if not measures.heard or measures.heard_invented or _hears_none(heard, thresholds):
        return Finding(verdict, f"no speech: the model hears {_quoted(heard.text)}")
    # Where only the ends differ, words may have been cut off; a person can put them back.
    if verdict == DROP and comparison.core_cer <= thresholds.max_cer and comparison.edges <= HALF:
        verdict = REVIEW
    return Finding(verdict, f"{'differs' if verdict == REVIEW else 'wrong text'}: {told}")


def _details(
    heard: Text, comparison: Comparison, main: Finding, thresholds: Thresholds
) -> list[Finding]:
    """What an agreement on the whole hides."""
    found = []
    if main.verdict != DROP:
        for where, cer, missing in (
            ("start", comparison.cer_head, comparison.head_missing),
            ("end", comparison.cer_tail, comparison.tail_missing),
        ):
            if cer > thresholds.max_edge_cer:
                kind = f"{'missing' if missing > 0 else 'unheard'} {where}"
                found.append(
                    Finding(
                        REVIEW, f"{kind}: CER {cer:.2f} there (limit {thresholds.max_edge_cer})"
                    )
                )
        if comparison.ins_rate > thresholds.max_ins_rate and not found:
            told = f"missing words: {comparison.ins_rate:.2f} characters heard for each of its own"
            found.append(Finding(REVIEW, f"{told} (limit {thresholds.max_ins_rate})"))
        alignment = heard.scores.get("align_prob_median", 1.0)
        # Where both write the same, only capitals and digits can make its words improbable.
        if alignment < thresholds.min_align_prob and comparison.cer > 0:
            limit = thresholds.min_align_prob
            told = f"weak alignment: median word probability {alignment:.2f} (limit {limit})"
            found.append(Finding(REVIEW, told))
    if comparison.numbers:
        found.append(Finding(KEEP, f"numbers: {comparison.numbers} in digits by one of the two"))
    return found


def _silence(heard: Text | None, measures: Measures, thresholds: Thresholds) -> Finding:
    """Of a stretch in which the subtitles have nothing."""
    if heard is None:
        return Finding(thresholds.unchecked, "unchecked: no model has listened to it")
    if not measures.heard:
        return Finding(KEEP, "silence: the model hears nothing either")
    if heard.scores.get("voice_share", 1.0) == 0:
        return Finding(KEEP, f"silence: no voice, though the model hears {_quoted(heard.text)}")
    no_speech = heard.scores.get("no_speech_prob", 0.0)
    sure = heard.scores.get("avg_logprob", float("-inf")) >= thresholds.min_logprob
    if no_speech > thresholds.no_speech and (measures.heard_invented or not sure):
        return Finding(KEEP, f"silence: no-speech probability {no_speech:.2f}")
    return Finding(REVIEW, f"{UNTRANSCRIBED}: the model hears {_quoted(heard.text)}")


def _pseudo(label: Text, measures: Measures, thresholds: Thresholds) -> list[Finding]:
    scores = label.scores
    logprob = scores.get("avg_logprob")
    no_speech = scores.get("no_speech_prob", 0.0)
    said_none = no_speech > thresholds.no_speech
    if not measures.normal:
        return [Finding(DROP, "no speech: the model hears nothing")]
    if _hears_none(label, thresholds):
        return [Finding(DROP, f"no speech: probability {no_speech:.2f}, {_logprob(logprob)}")]
    found = []
    if (loop := _gzip_loop(label, thresholds)) is not None:
        found.append(Finding(DROP, f"repeated phrase: {loop}"))
    elif measures.loop is not None:  # people, too, say "no, no, no, no"
        found.append(Finding(REVIEW, f"repeated phrase: {measures.loop}"))
    if measures.is_credit:
        found.append(Finding(DROP, "credits: it tells who made the subtitles"))
    elif measures.is_hallucination:
        told = f"known phrase: models write {_quoted(label.text)} where nobody speaks"
        found.append(Finding(DROP if said_none else REVIEW, told))
    found.append(_confidence(logprob, measures.agreement, thresholds))
    share = measures.script_share
    if share is not None and share < thresholds.min_script_share:
        found.append(Finding(REVIEW, _script_reason(share)))
    found += _spoken_language(label, REVIEW, thresholds)
    return [*found, *_words(measures, thresholds)]


def _hears_none(text: Text, thresholds: Thresholds) -> bool:
    """Whether its model thinks that nothing is said, and is not sure of what it wrote."""
    logprob = text.scores.get("avg_logprob", float("-inf"))
    no_speech = text.scores.get("no_speech_prob", 0.0)
    return no_speech > thresholds.no_speech and logprob < thresholds.review_logprob


def _confidence(logprob: float | None, agreement: float | None, thresholds: Thresholds) -> Finding:
    """How sure a model was of its label, and whether another says the same."""
    told = _logprob(logprob)
    if logprob is not None and logprob >= thresholds.min_logprob:
        return Finding(KEEP, f"pseudo: {told}")
    if logprob is not None and logprob < thresholds.review_logprob:
        return Finding(DROP, f"unsure: {told} (limit {thresholds.review_logprob:.2f})")
    if agreement is not None and agreement <= thresholds.max_disagreement:
        return Finding(KEEP, f"models agree: CER {agreement:.2f} between the newest two; {told}")
    return Finding(REVIEW, f"unsure: {told} (limit {thresholds.min_logprob:.2f})")


def _logprob(value: float | None) -> str:
    return "no log-probability" if value is None else f"mean log-probability {value:.2f}"


def _spoken_language(heard: Text, verdict: str, thresholds: Thresholds) -> list[Finding]:
    probability = heard.scores.get("language_prob", 1.0)
    if probability >= thresholds.min_language_prob:
        return []
    told = f"other language: the model hears this one with probability {probability:.2f}"
    return [Finding(verdict, f"{told} (limit {thresholds.min_language_prob})")]


def _script_reason(share: float) -> str:
    return f"other language: {share:.0%} of the words in its script"


def _gzip_loop(text: Text, thresholds: Thresholds) -> str | None:
    ratio = text.scores.get("compression_ratio", 0.0)
    return f"compression ratio {ratio:.1f}" if ratio > thresholds.max_compression else None


def _words(measures: Measures, thresholds: Thresholds) -> list[Finding]:
    """What is odd about a text whoever wrote it."""
    found = []
    if measures.long_word is not None:
        found.append(Finding(REVIEW, f"long word: {measures.long_word}"))
    return [*found, *_pace(measures, thresholds)]


def _pace(measures: Measures, thresholds: Thresholds) -> list[Finding]:
    pace = measures.chars_per_second
    slowest, fastest = thresholds.min_chars_per_second, thresholds.max_chars_per_second
    if slowest <= pace <= fastest:
        return []
    kind, limit = ("too fast", fastest) if pace > fastest else ("too slow", slowest)
    return [Finding(REVIEW, f"{kind}: {pace:.1f} characters per second (limit {limit})")]


def _quoted(text: str) -> str:
    return "nothing" if not text else f"“{text if len(text) <= 40 else text[:39] + '…'}”"


class Rules:
    """What decides in a workspace: the thresholds, those of each channel if they are relative.

    Args:
        language: the workspace's.
        phrases: what models write where nobody speaks; by default the built-in lists.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        thresholds: Thresholds,
        language: str,
        phrases: Phrases | None = None,
    ) -> None:
        self.thresholds = thresholds
        self.language = language
        self.phrases = phrases or phrases_for(language)
        self._of_group: dict[str, Thresholds] = {}
        self._of_all = thresholds
        if thresholds.are_relative:
            self._measure_groups(catalogue)

    def of(self, evidence: Evidence) -> Thresholds:
        """The thresholds that decide about a segment."""
        return self._of_group.get(evidence.group, self._of_all)

    def judged(self, evidence: Evidence) -> tuple[Measures | None, Judgement]:
        """The scores of a segment and the verdict on it."""
        measures = score(evidence, self.language, self.phrases)
        return measures, judge(evidence, measures, self.of(evidence), self.language)

    def _measure_groups(self, catalogue: Catalogue) -> None:
        """Set the thresholds of each channel, and those of the catalogue for small channels."""
        cers: dict[str, array[float]] = defaultdict(lambda: array("d"))
        logprobs: dict[str, array[float]] = defaultdict(lambda: array("d"))
        for evidence in read_all(catalogue, "comparing"):
            measures, heard = score(evidence, self.language, self.phrases), evidence.heard
            if measures is not None and measures.comparison is not None and measures.normal:
                cers[evidence.group].append(measures.comparison.cer)
            if heard is not None and "avg_logprob" in heard.scores:
                logprobs[evidence.group].append(heard.scores["avg_logprob"])
        whole = [sum(parts.values(), array("d")) for parts in (cers, logprobs)]
        self._of_all = self.thresholds.relative_to(*whole)
        for group in {*cers, *logprobs}:
            own = [
                mine if len(mine) >= LEAST_GROUP else everyones
                for mine, everyones in zip((cers[group], logprobs[group]), whole, strict=True)
            ]
            self._of_group[group] = self.thresholds.relative_to(*own)


def apply_verdicts(
    catalogue: Catalogue,
    preset: str,
    thresholds: Thresholds,
    language: str,
    phrases: Phrases | None = None,
) -> dict[str, int]:
    """Judge every segment and store what has changed, scores included.

    One commit for some hundred segments: reviewers at work are not kept waiting, and a decision of
    theirs is never overruled by a verdict from before it.

    Returns:
        How many segments there are of each verdict.
    """
    rules = Rules(catalogue, thresholds, language, phrases)
    version = thresholds.version(preset)

    def store(session: Session, batch: list[Evidence]) -> list[str]:
        return _store(session, batch, rules, version)

    counts = Counter(in_batches(catalogue, "verdict", store, lock=True))
    return {verdict: counts[verdict] for verdict in VERDICTS}


def heed_decisions(catalogue: Catalogue, language: str, phrases: Phrases | None = None) -> int:
    """Judge again, by the same thresholds, where people have decided since they were applied.

    Returns:
        How many verdicts were of before somebody decided or took a decision back.

    Raises:
        UserError: there are such, and the thresholds were somebody's own.
    """
    count = sum(map(_is_unheeded, read_decided(catalogue, "decisions")))
    if not count:
        return 0
    versions = applied_thresholds(catalogue)
    preset = min(versions).partition("@")[0]
    try:
        thresholds = read_thresholds(preset)
    except UserError:
        thresholds = None
    if thresholds is None or versions != {thresholds.version(preset)}:
        raise UserError(
            f"people have decided on {count} segments since the verdicts, which own thresholds "
            "gave; run `corpus verdict` with these again"
        )
    apply_verdicts(catalogue, preset, thresholds, language, phrases)
    return count


def applied_thresholds(catalogue: Catalogue) -> set[str]:
    """The versions of the thresholds that the verdicts were given by."""
    query = select(Verdict.thresholds).join(Segment, Segment.id == Verdict.segment_id).distinct()
    with catalogue.session() as session:
        return set(session.scalars(query))


def _is_unheeded(evidence: Evidence) -> bool:
    """Whether the stored verdict is of before a decision, or of before it was taken back."""
    if evidence.stored is None:
        return False
    _, reasons, transcript_id, _ = evidence.stored
    kind = reason_kind(reasons[0]) if reasons else UNKNOWN_REASON
    if evidence.disputed:
        return kind != DISPUTED
    if evidence.decided is None:
        return kind in {REVIEWED, REJECTED, DISPUTED}
    action, _, decided_id = evidence.decided
    if action == "reject":
        return kind != REJECTED
    return kind != REVIEWED or transcript_id != decided_id


def _store(session: Session, batch: list[Evidence], rules: Rules, version: str) -> list[str]:
    """Judge segments, write what is not stored so, and return the verdicts."""
    verdicts: list[str] = []
    new: dict[type[Verdict | Score], list[dict[str, Any]]] = {Verdict: [], Score: []}
    changed: dict[type[Verdict | Score], list[dict[str, Any]]] = {Verdict: [], Score: []}
    for evidence in batch:
        measures, judgement = rules.judged(evidence)
        verdict, reasons = judgement.verdict, judgement.reasons
        verdicts.append(verdict)
        if evidence.stored != (verdict, reasons, judgement.transcript_id, version):
            (new if evidence.stored is None else changed)[Verdict].append(
                {
                    "segment_id": evidence.id,
                    "verdict": verdict,
                    "reasons": reasons,
                    "transcript_id": judgement.transcript_id,
                    "thresholds": version,
                }
            )
        label = evidence.label
        if measures is None or label is None:
            continue
        for name, value in measures.named().items():
            if label.scores.get(name) != value:
                (changed if name in label.scores else new)[Score].append(
                    {"transcript_id": label.id, "name": name, "value": value}
                )
    for table, rows in new.items():
        if rows:
            session.execute(insert(table), rows)
    for table, rows in changed.items():
        if rows:
            session.execute(update(table), rows)
    return verdicts
