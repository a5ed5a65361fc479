"""Keep, review or drop: scores and decisions against a versioned set of thresholds.

Nothing is deleted. A verdict says which transcript of a segment would be trained on and why, so
thresholds can be changed and applied again in seconds.
"""

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload

from corpus import console, engine
from corpus.catalogue import Catalogue, Decision, Segment, Transcript, Verdict
from corpus.errors import UserError
from corpus.subtitles.suspect import noted_suspicion
from corpus.text import base_language, error_rates, normalise

PRESETS_FILE = Path(__file__).with_name("thresholds.toml")

KEEP, REVIEW, DROP = "keep", "review", "drop"

COMMIT_ROWS = 500
"""Segments that one transaction judges: a fraction of a second."""


@dataclass(frozen=True)
class Thresholds:
    """One preset of `thresholds.toml`, where each value is explained."""

    max_cer: float
    review_cer: float
    unchecked: str
    min_logprob: float
    review_logprob: float
    no_speech: float
    max_compression: float
    min_chars_per_second: float
    max_chars_per_second: float

    def version(self, preset: str) -> str:
        """The preset's name and a hash of its values."""
        return f"{preset}@{hashlib.sha256(repr(asdict(self)).encode()).hexdigest()[:8]}"


def read_thresholds(preset: str, file: Path = PRESETS_FILE) -> Thresholds:
    """Read a preset.

    Raises:
        UserError: no such preset, or a value is missing or unknown.
    """
    try:
        presets = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{file}: thresholds cannot be read ({reason})") from None
    if not isinstance(presets.get(preset), dict):
        raise UserError(f"no preset {preset!r} in {file.name}; there are: {', '.join(presets)}")
    known = {field.name for field in fields(Thresholds)}
    if set(presets[preset]) != known:
        wrong = ", ".join(sorted(known ^ set(presets[preset])))
        raise UserError(f"{file}: [{preset}] needs exactly the known values; look at: {wrong}")
    found = Thresholds(**presets[preset])
    for name, value in asdict(found).items():
        if name == "unchecked" and value not in {KEEP, REVIEW, DROP}:
            raise UserError(f"{file}: [{preset}] unchecked is keep, review or drop, not {value!r}")
        if name != "unchecked" and type(value) not in {int, float}:
            raise UserError(f"{file}: [{preset}] {name} is a number, not {value!r}")
    return found


@dataclass(frozen=True)
class Judgement:
    """A verdict before it is stored."""

    verdict: str
    reasons: list[str]
    transcript_id: int | None


def judge(segment: Segment, thresholds: Thresholds, language: str) -> Judgement:
    """The verdict on one segment, from its transcripts, scores and decisions.

    A reviewer's word is final. A release is trusted, a subtitle is believed as far as a model's
    own transcript agrees with it, a pseudo-label as far as its model was sure. A subtitle of a
    track that may be a machine's is for people to decide on, however well a model agrees; one that
    surely is counts for less than the pseudo-label.
    """
    decided = _last_decision(segment.decisions)
    if decided is not None:
        if decided.action == "reject":
            return Judgement(
                DROP, [f"rejected by a reviewer: {decided.reason or 'no reason'}"], None
            )
        return Judgement(KEEP, [f"{decided.action}ed by a reviewer"], decided.transcript_id)
    spoken = segment.recording.language
    if base_language(spoken) != base_language(language):
        return Judgement(DROP, [f"spoken language is {spoken}"], None)
    newest = {transcript.kind: transcript for transcript in segment.transcripts}
    pseudo = newest.get("pseudo")
    if "release" in newest:
        return _checked_pace(segment, newest["release"], KEEP, [], thresholds)
    origin, why = noted_suspicion(segment.recording.subtitle_note)
    if "subtitle" in newest and not (origin == "machine" and pseudo is not None):
        verdict, reason = _subtitle(newest["subtitle"], pseudo, thresholds)
        reasons = [reason]
        if origin != "human":
            verdict = REVIEW if verdict == KEEP else verdict
            reasons.append(f"subtitles look machine-made ({why})")
        return _checked_pace(segment, newest["subtitle"], verdict, reasons, thresholds)
    if pseudo is not None:
        verdict, reason = _pseudo(pseudo, thresholds)
        reasons = [reason]
        if "subtitle" in newest:
            reasons.append(f"its subtitles are machine-made ({why})")
        return _checked_pace(segment, pseudo, verdict, reasons, thresholds)
    return Judgement(REVIEW, ["no transcript yet"], None)


def _last_decision(decisions: Sequence[Decision]) -> Decision | None:
    final = [decision for decision in decisions if decision.action != "skip"]
    return final[-1] if final else None


def _subtitle(
    subtitle: Transcript, pseudo: Transcript | None, thresholds: Thresholds
) -> tuple[str, str]:
    if pseudo is None:
        return thresholds.unchecked, "subtitle not checked by a model"
    if not subtitle.text:  # a pause between cues
        no_speech = next((s.value for s in pseudo.scores if s.name == "no_speech_prob"), 0.0)
        if not pseudo.text or no_speech > thresholds.no_speech:
            return KEEP, "no speech heard"
        # A model that invents words needs this very pause, so people decide.
        return (KEEP if thresholds.max_cer >= 1.0 else REVIEW), "a model hears words in a pause"
    cer = agreement_cer(subtitle.text, pseudo.text)
    reason = f"subtitle and model differ by CER {cer:.2f}"
    if cer <= thresholds.max_cer:
        return KEEP, reason
    return (REVIEW if cer <= thresholds.review_cer else DROP), reason


def _pseudo(pseudo: Transcript, thresholds: Thresholds) -> tuple[str, str]:
    scores = {score.name: score.value for score in pseudo.scores}
    logprob = scores.get("avg_logprob", float("-inf"))
    if not pseudo.text or (
        scores.get("no_speech_prob", 0.0) > thresholds.no_speech
        and logprob < thresholds.review_logprob
    ):
        return DROP, "no speech heard"
    if scores.get("compression_ratio", 0.0) > thresholds.max_compression:
        return DROP, f"a loop: compression ratio {scores['compression_ratio']:.1f}"
    reason = f"mean log-probability {logprob:.2f}"
    if logprob >= thresholds.min_logprob:
        return KEEP, reason
    return (REVIEW if logprob >= thresholds.review_logprob else DROP), reason


def _checked_pace(
    segment: Segment,
    transcript: Transcript,
    verdict: str,
    reasons: list[str],
    thresholds: Thresholds,
) -> Judgement:
    """Send what would be kept to a person when it is spoken impossibly fast or slowly."""
    pace = len(normalise(transcript.text)) / max(0.001, (segment.end_ms - segment.start_ms) / 1000)
    slow = transcript.text and pace < thresholds.min_chars_per_second
    if slow or pace > thresholds.max_chars_per_second:
        reasons = [*reasons, f"{pace:.1f} characters per second"]
        verdict = REVIEW if verdict == KEEP else verdict
    return Judgement(verdict, reasons or [f"from a {transcript.kind}"], transcript.id)


@lru_cache(maxsize=100_000)
def agreement_cer(reference: str, hypothesis: str) -> float:
    """CER between two transcripts of the same speech, both normalised; 1.0 where one is empty."""
    reference, hypothesis = normalise(reference), normalise(hypothesis)
    if not reference:
        return 0.0 if not hypothesis else 1.0
    return error_rates([reference], [hypothesis]).cer


def apply_verdicts(
    catalogue: Catalogue, preset: str, thresholds: Thresholds, language: str
) -> dict[str, int]:
    """Judge every segment and store what has changed. `language` is the workspace's.

    One commit for some hundred segments: reviewers at work are not kept waiting.

    Returns:
        How many segments there are of each verdict.
    """
    version = thresholds.version(preset)
    counts = {KEEP: 0, REVIEW: 0, DROP: 0}
    with catalogue.session() as session:
        ids = session.scalars(select(Segment.id).order_by(Segment.id)).all()
    bar = console.progress(ids, desc="verdict", unit="segment")
    for batch in engine.batches(bar, COMMIT_ROWS):
        with catalogue.session() as session:
            segments = session.scalars(
                select(Segment)
                .filter(Segment.id.in_(batch))
                .options(
                    selectinload(Segment.transcripts).selectinload(Transcript.scores),
                    selectinload(Segment.decisions),
                    selectinload(Segment.verdict),
                    joinedload(Segment.recording),
                )
            )
            for segment in segments:
                judgement = judge(segment, thresholds, language)
                counts[judgement.verdict] += 1
                if segment.verdict is None:
                    segment.verdict = Verdict(segment_id=segment.id)
                segment.verdict.verdict = judgement.verdict
                segment.verdict.reasons = judgement.reasons
                segment.verdict.transcript_id = judgement.transcript_id
                segment.verdict.thresholds = version
    return counts
