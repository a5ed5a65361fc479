"""Several models on the same rows: who is better, where, and whether chance explains it.

Each model is compared with the first on the very same rows, which tells far smaller differences
than two intervals side by side do. Datasets of other languages, or of what the first model does
well, tell beside one's own what a fine-tuning has cost.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from corpus import console, hub
from corpus.errors import UserError
from train import metrics
from train.evaluate import shown
from train.model import find
from train.predict import Decoding, Prediction, predict, read_predictions

PREDICTIONS_SUFFIX = ".jsonl"

DURATION_NAMES = {
    "0-2 s": 2.0,
    "2-5 s": 5.0,
    "5-10 s": 10.0,
    "10-20 s": 20.0,
    "20-30 s": 30.0,
    "over 30 s": math.inf,
}
"""Rows that are counted together, and the most seconds that they have."""

SHOWN = 20
"""Groups of a kind that a table for people has, those with the most rows."""

SAMPLES = 6
"""Rows of each kind that a page lets one hear: gained most, lost most, wrong by all."""


MODEL_FILES = ("config.json", "model/config.json", "run.json")
"""One of these is in the folder of a model or of a run, finished or not."""


def is_dataset(name: str) -> bool:
    """Whether a name on the command line is a dataset, of ours or of others; else it is a model.

    What is not on this machine is what the Hub has under that name.
    """
    path = Path(name)
    if path.is_dir():
        return not any((path / file).exists() for file in MODEL_FILES)
    if name.endswith(PREDICTIONS_SUFFIX):
        return False
    if path.exists():
        return True
    try:
        find(name)
    except UserError:
        return False  # a slip, which is told when the models are looked for
    return hub.is_dataset(name)


def compare(models: Sequence[str], datasets: Sequence[str | Path], how: Decoding) -> dict[str, Any]:
    """Let models transcribe a split of datasets, and compare each with the first.

    Args:
        models: folders, runs, names on the Hub, or files of `train evaluate --output`.
        datasets: of ours, or of others as `train.foreign` takes them.

    Returns:
        for each kind of group (all, dataset, language, source, speaker, duration) its groups, each
        with the figures of every model; and the rows that a page shows.

    Raises:
        UserError: fewer than two models, something is missing, or the rows are not the same.
    """
    if len(models) < 2:
        raise UserError("give at least two models, and then datasets")
    if not datasets and not all(name.endswith(PREDICTIONS_SUFFIX) for name in models):
        raise UserError("no dataset given; name one of `corpus build`, or a data set of others")
    written: dict[str, list[Prediction]] = {}
    for name in models:  # a slip is told now, not when other models have done their work
        if name.endswith(PREDICTIONS_SUFFIX):
            written[name] = _of_datasets(read_predictions(Path(name)), datasets)
        else:
            find(name)
    predictions = [
        written[name] if name in written else predict(name, datasets, how)[0] for name in models
    ]
    spoken = [[p for p in made if p.reference] for made in predictions]
    _check_same(models, spoken)
    edits = [metrics.count([p.reference for p in s], [p.hypothesis for p in s]) for s in spoken]
    return {
        "models": _labels(models),
        "names": list(models),
        "datasets": [str(folder) for folder in datasets],
        "split": how.split,
        "language": how.language,
        "rows": len(spoken[0]),
        "groups": {
            kind: [
                {"name": name, **_figures(spoken[0], edits, places)}
                for name, places in _grouped(spoken[0], key)
            ]
            for kind, key in KINDS.items()
        },
        "samples": list(_samples(spoken, edits)),
    }


def _labels(names: Sequence[str]) -> list[str]:
    """Short names of models, where they tell them apart."""
    short = [
        (Path(name).parent if Path(name).name == "model" else Path(name)).name.removesuffix(
            PREDICTIONS_SUFFIX
        )
        for name in names
    ]
    return short if len(set(short)) == len(names) else list(names)


def _of_datasets(found: list[Prediction], datasets: Sequence[str | Path]) -> list[Prediction]:
    """Those of the datasets; all, where none is named."""
    names = {Path(folder).resolve().name for folder in datasets}
    return [p for p in found if p.dataset in names] if names else found


def _check_same(models: Sequence[str], spoken: Sequence[Sequence[Prediction]]) -> None:
    rows = [[(p.dataset, p.id, p.reference) for p in made] for made in spoken]
    for name, other in zip(models, rows, strict=True):
        if other != rows[0]:
            raise UserError(
                f"{name} was let transcribe other rows than {models[0]}; evaluate both on the same"
            )
    if not rows[0]:
        raise UserError("no row with speech: there is nothing to compare")


def _duration(prediction: Prediction) -> str:
    return next(name for name, bound in DURATION_NAMES.items() if prediction.duration <= bound)


KINDS: dict[str, Callable[[Prediction], str | None]] = {
    "all": lambda _: "all",
    "dataset": lambda p: p.dataset,
    "language": lambda p: p.language,
    "source": lambda p: p.source,
    "duration": _duration,
    "speaker": lambda p: p.speaker,
}
"""What rows are grouped by."""


def _grouped(
    spoken: Sequence[Prediction], key: Callable[[Prediction], str | None]
) -> list[tuple[str, metrics.Array]]:
    """The groups and the places of their rows: durations in their order, others by size."""
    places: dict[str, list[int]] = {}
    for place, prediction in enumerate(spoken):
        if (name := key(prediction)) is not None:
            places.setdefault(name, []).append(place)
    order = sorted(places, key=lambda name: (DURATION_NAMES.get(name, 0), -len(places[name]), name))
    return [(name, np.array(places[name])) for name in order]


def _figures(
    rows: Sequence[Prediction], edits: Sequence[metrics.Array], places: metrics.Array
) -> dict[str, Any]:
    """What is told of a group: the normalised rates of each model, and how they differ."""
    some = [rows[place] for place in places]
    how = metrics.resample(
        [(p.dataset, p.source) for p in some],
        [p.speaker for p in some],
        [p.recording for p in some],
    )
    first = edits[0][places, 0]
    return {
        "rows": len(some),
        "words": int(first[:, 0, 0].sum()),
        "resampled": {"unit": how.unit, "groups": how.groups},
        "models": [
            _model_figures(first, one[places, 0], how, is_first=number == 0)
            for number, one in enumerate(edits)
        ],
    }


def _model_figures(
    first: metrics.Array, own: metrics.Array, how: metrics.Resampling, *, is_first: bool
) -> dict[str, Any]:
    """Of int [rows, words and characters, 4]."""
    found: dict[str, Any] = {}
    rates, drawn = metrics.rate(own), how.drawn_rates(own)
    for place, name in enumerate(("wer", "cer")):
        if math.isnan(rates[place]):
            return {"wer": None, "cer": None, "difference": None}
        found[name] = float(rates[place])
        found[f"{name}_interval"] = metrics.interval(drawn[:, place])
    difference = None if is_first else metrics.paired_difference(first[:, 0], own[:, 0], how)
    return {**found, "difference": difference._asdict() if difference else None}


def _samples(
    spoken: Sequence[Sequence[Prediction]], edits: Sequence[metrics.Array]
) -> Iterator[dict[str, Any]]:
    """Rows to look at: what the last model gained and lost most, and what all get wrong."""
    wrong = np.stack([one[:, 0, 0, 1:].sum(axis=1) for one in edits])
    gained = wrong[0] - wrong[-1]
    taken: set[int] = set()
    for kind, worth in {
        "gained": gained,
        "lost": -gained,
        "wrong by all": wrong.min(axis=0),
    }.items():
        order = [int(row) for row in np.argsort(-worth, kind="stable") if worth[row] > 0]
        for row in [row for row in order if row not in taken][:SAMPLES]:
            taken.add(row)
            prediction = spoken[0][row]
            yield {
                "kind": kind,
                "id": prediction.id,
                "dataset": prediction.dataset,
                "source": prediction.source,
                "language": prediction.language,
                "reference": prediction.reference,
                "hypotheses": [made[row].hypothesis for made in spoken],
                "wrong": [int(count) for count in wrong[:, row]],
            }


# --- for people -----------------------------------------------------------------------------------

COLUMNS = ["", "rows", "words", "model", "WER % (95 %)", "CER %", "change (95 %)", "p"]


def table_rows(groups: Sequence[Mapping[str, Any]], models: Sequence[str]) -> list[list[Any]]:
    """A row for each model of each group, under `COLUMNS`."""
    return [
        [
            *((group["name"], group["rows"], group["words"]) if number == 0 else ("", None, None)),
            models[number],
            shown(figures),
            _percent(figures["cer"]),
            _change(figures["difference"]),
            f"{figures['difference']['p']:.3f}" if figures["difference"] else "",
        ]
        for group in groups
        for number, figures in enumerate(group["models"])
    ]


def _percent(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:.2f}"


def _change(difference: Mapping[str, Any] | None) -> str:
    if not difference:
        return ""
    low, high = difference["interval"]
    return f"{100 * difference['difference']:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"


def shown_kinds(found: Mapping[str, Any]) -> Iterator[tuple[str, str, list[Mapping[str, Any]]]]:
    """Kind, title and groups of each table; a kind of one group says what "all" says."""
    for kind, groups in found["groups"].items():
        if kind == "all" or len(groups) > 1:
            more = f", the {SHOWN} largest of {len(groups)}" if len(groups) > SHOWN else ""
            yield kind, kind if kind == "all" else f"by {kind}{more}", groups[:SHOWN]


def print_comparison(found: Mapping[str, Any]) -> None:
    """Print what `compare` returns."""
    for _, title, groups in shown_kinds(found):
        console.print_table(title, COLUMNS, table_rows(groups, found["models"]))
    drawn = found["groups"]["all"][0]["resampled"]
    print(
        f"changes are against {found['models'][0]} on the same rows; intervals and p by "
        f"{metrics.DRAWS:,} bootstrap draws of {drawn['groups']:,} {drawn['unit']}"
    )
