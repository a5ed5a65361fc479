"""Why a verdict is as it is, and what other thresholds would change; nothing is written here."""

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import select

from corpus import console
from corpus.catalogue import Catalogue, Recording
from corpus.errors import UserError
from corpus.evidence import Evidence, read_all, read_one, read_recording
from corpus.text import error_rates, whisper_normalise
from corpus.thresholds import VERDICTS
from corpus.verdict import Rules, reason_kind


@dataclass(frozen=True)
class Forecast:
    """What applying rules would change. Times in seconds; ``none`` is no verdict yet."""

    now: dict[str, float]
    then: dict[str, float]
    moved: list[dict[str, Any]]
    """from, to, the kind of reason that decides then, segments, seconds; most seconds first."""


def forecast(catalogue: Catalogue, rules: Rules) -> Forecast:
    """What `apply_verdicts` would change, without changing anything."""
    now: Counter[str] = Counter()
    then: Counter[str] = Counter()
    segments: Counter[tuple[str, str, str]] = Counter()
    seconds: Counter[tuple[str, str, str]] = Counter()
    for evidence in read_all(catalogue, "what if"):
        judgement = rules.judged(evidence)[1]
        before, after = evidence.stored[0] if evidence.stored else "none", judgement.verdict
        milliseconds = round(evidence.seconds * 1000)
        now[before] += milliseconds
        then[after] += milliseconds
        if before != after:
            move = before, after, reason_kind(judgement.reasons[0])
            segments[move] += 1
            seconds[move] += milliseconds
    return Forecast(
        {verdict: now[verdict] / 1000 for verdict in (*VERDICTS, "none")},
        {verdict: then[verdict] / 1000 for verdict in VERDICTS},
        [
            {
                "from": before,
                "to": after,
                "reason": kind,
                "segments": segments[before, after, kind],
                "seconds": total / 1000,
            }
            for (before, after, kind), total in sorted(seconds.items(), key=lambda i: (-i[1], i[0]))
        ],
    )


def print_forecast(found: Forecast, preset: str) -> None:
    """The forecast as two tables, in hours."""
    console.print_table(
        f"Hours, if {preset} were applied",
        ["verdict", "now", "then", "difference"],
        [
            [verdict, hours / 3600, then / 3600, f"{(then - hours) / 3600:+.2f}"]
            for verdict, hours in found.now.items()
            if (then := found.then.get(verdict, 0.0)) or hours
        ],
    )
    if found.moved:
        console.print_table(
            "What would move",
            ["from", "to", "because of", "segments", "hours"],
            [
                [row["from"], row["to"], row["reason"], row["segments"], row["seconds"] / 3600]
                for row in found.moved
            ],
        )
    console.say("nothing was changed")


def explain(catalogue: Catalogue, rules: Rules, item: str) -> dict[str, Any]:
    """All that decides about a segment, or the counts of a recording, by an id.

    Raises:
        UserError: neither a segment nor a recording has it.
    """
    evidence = read_one(catalogue, item)
    if evidence is not None:
        return _explain_segment(evidence, rules)
    with catalogue.session() as session:
        if session.scalar(select(Recording.id).filter_by(id=item)) is None:
            raise UserError(
                f"no segment or recording {item}; ids look like youtube:ID and youtube:ID@0-9000"
            )
    return _explain_recording(item, read_recording(catalogue, item), rules)


def _explain_segment(evidence: Evidence, rules: Rules) -> dict[str, Any]:
    measures, judgement = rules.judged(evidence)
    label, heard = evidence.label, evidence.heard
    found: dict[str, Any] = {
        "segment": evidence.id,
        "recording": evidence.recording_id,
        "seconds": evidence.seconds,
        "verdict": judgement.verdict,
        "stored_verdict": evidence.stored[0] if evidence.stored else None,
        "transcript_id": judgement.transcript_id,
        "findings": [finding._asdict() for finding in judgement.findings],
        "transcripts": [
            {
                "id": text.id,
                "kind": text.kind,
                "origin": text.origin,
                "text": text.text,
                "is_label": text is label,
                "scores": dict(text.scores),
            }
            for text in evidence.texts
        ],
        "scores": measures.named() if measures else {},
        "thresholds": asdict(rules.of(evidence)),
    }
    if measures is not None and measures.comparison is not None and label and heard:
        # Beside ours, what published figures are made with.
        texts = [whisper_normalise(label.text)], [whisper_normalise(heard.text)]
        if texts[0][0]:
            rates = error_rates(*texts)
            found["scores"] |= {"wer_whisper": rates.wer, "cer_whisper": rates.cer}
    return found


def _explain_recording(recording: str, segments: list[Evidence], rules: Rules) -> dict[str, Any]:
    verdicts: dict[str, list[float]] = {verdict: [] for verdict in VERDICTS}
    reasons: dict[tuple[str, str], list[float]] = defaultdict(list)
    for evidence in segments:
        judgement = rules.judged(evidence)[1]
        verdicts[judgement.verdict].append(evidence.seconds)
        for finding in judgement.findings:
            reasons[finding.verdict, reason_kind(finding.reason)].append(evidence.seconds)
    return {
        "recording": recording,
        "verdicts": {
            verdict: {"segments": len(spans), "seconds": sum(spans)}
            for verdict, spans in verdicts.items()
        },
        "findings": [
            {"verdict": verdict, "reason": kind, "segments": len(spans), "seconds": sum(spans)}
            for (verdict, kind), spans in sorted(reasons.items(), key=lambda item: -len(item[1]))
        ],
    }


def print_explanation(found: dict[str, Any]) -> None:
    """An explanation as tables."""
    if "segment" not in found:
        console.print_table(
            found["recording"],
            ["verdict", "segments", "minutes"],
            [[v, part["segments"], part["seconds"] / 60] for v, part in found["verdicts"].items()],
        )
        console.print_table(
            "Found (a segment may have several)",
            ["says", "what", "segments", "minutes"],
            [
                [row["verdict"], row["reason"], row["segments"], row["seconds"] / 60]
                for row in found["findings"]
            ],
        )
        return
    console.print_table(
        f"{found['segment']} ({found['seconds']:.1f} s): {found['verdict']}",
        ["", "says", "because"],
        [
            ["decides" if number == 0 else "", finding["verdict"], finding["reason"]]
            for number, finding in enumerate(found["findings"])
        ],
    )
    if found["stored_verdict"] != found["verdict"]:
        console.say(f"stored is: {found['stored_verdict'] or 'no verdict'}; see `corpus verdict`")
    console.print_table(
        "Transcripts",
        ["kind", "origin", "text", "scores"],
        [
            [
                f"{text['kind']}, the label" if text["is_label"] else text["kind"],
                text["origin"],
                text["text"],
                "\n".join(f"{name} {value:.2f}" for name, value in text["scores"].items()),
            ]
            for text in found["transcripts"]
        ],
    )
    scores = [[name, f"{value:.3f}"] for name, value in found["scores"].items()]
    limits = [[name, str(value)] for name, value in found["thresholds"].items()]
    console.print_table("Scores of the label", ["score", "value"], scores)
    console.print_table("Thresholds", ["threshold", "value"], limits)
