"""Measures a model by letting it transcribe, as its users will."""

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from corpus import console
from corpus.errors import UserError
from corpus.text import normalise
from train import metrics
from train.checkpoint import write_json
from train.predict import Decoding, Prediction, check_free, predict, write_predictions

EVALUATIONS = "evaluations"
"""The folder of a run where reports on it are kept."""

WORST = 20
"""Rows with the most wrong words that a report shows."""


# --- scores ---------------------------------------------------------------------------------------


def score(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Corpus-level error rates of the rows with speech, in each of `metrics.FORMS`.

    Raises:
        UserError: no reference has a word.
    """
    spoken = [prediction for prediction in predictions if prediction.reference]
    return {"rows": len(spoken), **_rates(_count(spoken))}


def report(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """All that is told of predictions: rates with intervals, by source, the worst, and the rest.

    Rows without speech are no part of the error rates; they are told by themselves.

    Raises:
        UserError: no reference has a word.
    """
    spoken = [prediction for prediction in predictions if prediction.reference]
    edits = _count(spoken)
    several = len({prediction.dataset for prediction in spoken}) > 1
    sources = [f"{p.dataset}: {p.source}" if several else p.source for p in spoken]
    how = metrics.resample(sources, [p.speaker for p in spoken], [p.recording for p in spoken])
    places: dict[str, list[int]] = defaultdict(list)
    for place, source in enumerate(sources):
        places[source].append(place)
    named = sorted(places)
    parts = metrics.split_edits(edits, [np.array(places[name]) for name in named])
    drawn = how.drawn_rates(parts)  # [draws, sources, forms, words and characters]
    return {
        "rows": len(spoken),
        "resampled": {"unit": how.unit, "groups": how.groups, "draws": metrics.DRAWS},
        **_rates(edits, how.drawn_rates(edits)),
        "macro": _macro(metrics.rate(parts), drawn),
        "sources": {
            name: {"rows": len(places[name]), **_rates(parts[:, number], drawn[:, number])}
            for number, name in enumerate(named)
        },
        "worst": _worst(spoken, edits),
        "no_speech": _no_speech([p for p in predictions if not p.reference]),
        "timestamps": _timestamps([p for p in spoken if p.spans is not None]),
        "language_found": _language_found([p for p in predictions if p.detected is not None]),
        "cut": sum(prediction.cut for prediction in predictions),
    }


def macro_wer(predictions: Sequence[Prediction]) -> float:
    """The mean of the sources' word error rates, normalised: a large source does not hide a small.

    A source without a word in its references does not count.
    """
    sources: dict[str, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        if normalise(prediction.reference):
            sources[prediction.source].append(prediction)
    rates: list[float] = [score(part)["normalised"]["wer"] for part in sources.values()]
    return sum(rates) / len(rates)


def _count(spoken: Sequence[Prediction]) -> metrics.Array:
    edits = metrics.count([p.reference for p in spoken], [p.hypothesis for p in spoken])
    if not edits[:, 0, 0, 0].any():
        raise UserError("no reference has a word: there is nothing to compare with")
    return edits


def _rates(edits: metrics.Array, drawn: metrics.Array | None = None) -> dict[str, Any]:
    """WER and CER by form, of int [texts, forms, 2, 4] and their rates in draws [draws, ...]."""
    rates, totals = metrics.rate(edits), edits.sum(axis=0)
    found: dict[str, Any] = {}
    for number, form in enumerate(metrics.FORMS):
        (words, *word_edits), (characters, *_) = totals[number].tolist()
        figures: dict[str, Any] = dict(
            zip(("wer", "cer"), map(_number, rates[number]), strict=True)
        )
        if drawn is not None:
            figures |= _intervals(drawn[:, number])
        counts = dict(zip(("substitutions", "deletions", "insertions"), word_edits, strict=True))
        found[form] = {**figures, "words": words, "characters": characters, **counts}
    return found


def _macro(rates: metrics.Array, drawn: metrics.Array) -> dict[str, Any]:
    """The mean of the sources' rates by form: of [sources, forms, 2] and [draws, ...]."""
    found: dict[str, Any] = {}
    for number, form in enumerate(metrics.FORMS):
        known = ~np.isnan(rates[:, number]).any(axis=1)
        means = rates[known, number].mean(axis=0) if known.any() else (math.nan, math.nan)
        found[form] = dict(zip(("wer", "cer"), map(_number, means), strict=True))
        if known.any():
            found[form] |= _intervals(drawn[:, known, number].mean(axis=1))
    return found


def _intervals(drawn: metrics.Array) -> dict[str, metrics.Interval]:
    """Of float [draws, words and characters]."""
    return {
        f"{name}_interval": metrics.interval(drawn[:, place])
        for place, name in enumerate(("wer", "cer"))
        if not np.isnan(drawn[:, place]).all()
    }


def _number(value: float) -> float | None:
    """A rate as JSON has it: none where there is no reference."""
    return None if math.isnan(value) else float(value)


def _worst(spoken: Sequence[Prediction], edits: metrics.Array) -> list[dict[str, Any]]:
    """The rows with the most wrong words, normalised."""
    words = edits[:, 0, 0]
    wrong = words[:, 1:].sum(axis=1)
    order = sorted(range(len(spoken)), key=lambda row: (-wrong[row], words[row, 0]))
    return [
        {
            "id": spoken[row].id,
            "wrong": int(wrong[row]),
            "words": int(words[row, 0]),
            "reference": spoken[row].reference,
            "hypothesis": spoken[row].hypothesis,
        }
        for row in order[:WORST]
        if wrong[row]
    ]


def _no_speech(silent: Sequence[Prediction]) -> dict[str, Any] | None:
    """What is written where nobody speaks."""
    if not silent:
        return None
    written = [normalise(prediction.hypothesis) for prediction in silent]
    minutes = sum(prediction.duration for prediction in silent) / 60
    return {
        "rows": len(silent),
        "hallucinated": sum(map(bool, written)),
        "rate": sum(map(bool, written)) / len(silent),
        "characters_per_minute": sum(map(len, written)) / minutes,
    }


def _timestamps(timed: Sequence[Prediction]) -> dict[str, Any] | None:
    """How often timestamps are valid, and how far bounds are from those of the segments."""
    if not timed:
        return None
    valid = [metrics.are_valid(p.spans or (), p.duration) for p in timed]
    errors = [
        error
        for prediction in timed
        for error in metrics.boundary_errors(prediction.reference_spans, prediction.spans or ())
    ]
    return {
        "rows": len(timed),
        "valid": sum(valid) / len(valid),
        "bounds": len(errors),
        "mean_error": float(np.mean(errors)) if errors else None,
        "median_error": float(np.median(errors)) if errors else None,
    }


def _language_found(detected: Sequence[Prediction]) -> float | None:
    """How often the language detected is the row's."""
    if not detected:
        return None
    return sum(p.detected == p.language for p in detected) / len(detected)


def evaluate(
    model: str, datasets: Sequence[str | Path], how: Decoding, output: Path | None = None
) -> dict[str, Any]:
    """Let a model transcribe a split of datasets, and report on it.

    Args:
        output: where to write the predictions, one JSON object per line.

    Raises:
        UserError: the model, a dataset or the split is missing, or `output` exists.
    """
    check_free(output)
    began = time.perf_counter()
    predictions, material = predict(model, datasets, how)
    elapsed = time.perf_counter() - began
    if output is not None:
        write_predictions(output, predictions)
    found = {
        "model": model,
        "datasets": list(map(str, datasets)),
        "split": how.split,
        "decoded": how.options,
        **report(predictions),
        "longer_than_30_s": material.longer,
        "over_448_tokens": material.wordy,
        "audio_seconds": material.seconds,
        "seconds": elapsed,
        "predictions": str(output) if output else None,
    }
    if (Path(model) / "run.json").is_file():
        _keep(Path(model), found)
    return found


def _keep(run: Path, found: Mapping[str, Any]) -> None:
    """Write a report into its run's folder, for the model's card; a later one replaces it."""
    folder = run / EVALUATIONS
    folder.mkdir(exist_ok=True)
    names = "+".join(Path(name).resolve().name for name in found["datasets"])
    how = "-".join([found["split"], *found["decoded"]])
    write_json(folder / f"{names}-{how}.json", found)


def read_evaluations(run: Path) -> list[dict[str, Any]]:
    """The reports that were kept in a run's folder."""
    files = sorted((run / EVALUATIONS).glob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]


# --- for people -----------------------------------------------------------------------------------


def shown(rates: Mapping[str, Any], name: str = "wer") -> str:
    """A rate in percent with its interval: ``12.34 (11.90-12.80)``."""
    if rates[name] is None:
        return ""
    around = rates.get(f"{name}_interval")
    spread = f" ({100 * around[0]:.2f}-{100 * around[1]:.2f})" if around else ""
    return f"{100 * rates[name]:.2f}{spread}"


def print_evaluation(found: Mapping[str, Any]) -> None:
    """Print what `evaluate` returns."""
    parts = {**found["sources"], "macro average": found["macro"], "all": found}
    if len(found["sources"]) == 1:
        del parts["macro average"]
    console.print_table(
        f"{found['model']} on {', '.join(found['datasets'])} "
        f"({', '.join([found['split'], *found['decoded']])})",
        ["source", "rows", "words", "WER % (95 %)", "CER %", "WER as written", "by Whisper's"],
        [
            [
                name,
                part.get("rows"),
                part["normalised"].get("words"),
                shown(part["normalised"]),
                shown(part["normalised"], "cer"),
                shown(part["written"]),
                shown(part["whisper"]),
            ]
            for name, part in parts.items()
        ],
    )
    for line in _lines(found):
        print(line)
    if found["worst"]:
        console.print_table(
            "the worst",
            ["id", "wrong", "of", "reference", "hypothesis"],
            [[w["id"], w["wrong"], w["words"], w["reference"], w["hypothesis"]]
             for w in found["worst"]],
        )  # fmt: skip


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    words, drawn = found["normalised"], found["resampled"]
    yield (
        f"words: {words['substitutions']:,} substituted, {words['deletions']:,} deleted, "
        f"{words['insertions']:,} inserted of {words['words']:,}"
    )
    yield (
        f"intervals: 95 %, {drawn['draws']:,} bootstrap draws of {drawn['groups']:,} "
        f"{drawn['unit']}"
    )
    if silent := found["no_speech"]:
        yield (
            f"no speech: something written in {silent['hallucinated']} of {silent['rows']} rows, "
            f"{silent['characters_per_minute']:.1f} characters a minute"
        )
    if timed := found["timestamps"]:
        error = timed["mean_error"]
        off = f"; bounds off by {error:.2f} s on average" if error is not None else ""
        yield f"timestamps: valid in {timed['valid']:.1%} of {timed['rows']:,} rows{off}"
    if found["language_found"] is not None:
        yield f"language: as the row's in {found['language_found']:.1%}"
    told: dict[str, tuple[int, str]] = {
        "longer than 30 s": (len(found["longer_than_30_s"]), "left out of all figures"),
        "with more text than 448 tokens": (len(found["over_448_tokens"]), "its rest is deleted"),
        "where the model wrote until it had no room": (found["cut"], "its text was cut"),
    }
    for what, (number, meaning) in told.items():
        if number:
            yield f"rows {what}: {number:,} ({meaning})"
