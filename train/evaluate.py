"""Measures a model by letting it transcribe, as its users will.

Free-running greedy decoding: the model reads its own output, unlike the teacher-forced figures that
look better than any transcript. The language is that of the row, nothing is cut short, and the
rates are over the whole corpus: all edits by all reference words.
"""

import dataclasses
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corpus.console import progress
from corpus.errors import UserError
from corpus.text import error_rates, normalise
from train import model as models
from train.checkpoint import write_text
from train.foreign import as_dataset
from train.material import WINDOW_SAMPLES
from train.rows import open_split, read_flac

PROMPT_TOKENS = 4
"""<|startoftranscript|>, language, task, <|notimestamps|>: what decoding begins with."""


@dataclass(frozen=True)
class Prediction:
    """What a model made of one row."""

    id: str
    source: str
    language: str
    reference: str
    hypothesis: str


def transcribe(
    whisper: models.Whisper,
    rows: Any,
    *,
    language_token: str | None = None,
    batch_size: int = 8,
) -> Iterator[Prediction]:
    """Transcribe the rows of a split greedily, on the model's device.

    Args:
        rows: a `datasets.Dataset` as `corpus.dataset.read_split` gives it.
        language_token: the language whose token to use where the row's own has none.
    """
    model = whisper.model
    log_mel = models.LogMel(whisper.feature_extractor).to(model.device)
    for start in range(0, len(rows), batch_size):
        batch = [rows[index] for index in range(start, min(start + batch_size, len(rows)))]
        pcm = np.zeros((len(batch), WINDOW_SAMPLES), np.int16)
        for index, row in enumerate(batch):
            samples = read_flac(row["audio"]["bytes"], 0, WINDOW_SAMPLES)
            pcm[index, : samples.size] = samples
        codes = [whisper.vocabulary.language_code(row["language"], language_token) for row in batch]
        with torch.inference_mode():
            tokens = model.generate(
                input_features=log_mel(torch.from_numpy(pcm).to(model.device)).to(model.dtype),
                language=[f"<|{code}|>" for code in codes],
                task="transcribe",
                return_timestamps=False,
                do_sample=False,
                num_beams=1,
                max_new_tokens=model.config.max_target_positions - PROMPT_TOKENS,
            )
        texts = whisper.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        for row, text in zip(batch, texts, strict=True):
            sources = {segment["source"] for segment in row["segments"]}
            yield Prediction(
                row["id"], " + ".join(sorted(sources)), row["language"], row["text"], text.strip()
            )


def score(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Corpus-level error rates, normalised (`corpus.text.normalise`) and of the text as written.

    Raises:
        UserError: no reference has a word.
    """
    references = [prediction.reference for prediction in predictions]
    hypotheses = [prediction.hypothesis for prediction in predictions]
    try:
        normalised = error_rates(
            [normalise(text) for text in references], [normalise(text) for text in hypotheses]
        )
        written = error_rates(references, hypotheses)
    except ValueError as error:
        raise UserError(f"error rates cannot be computed: {error}") from error
    return {
        "rows": len(predictions),
        "normalised": dataclasses.asdict(normalised),
        "written": dataclasses.asdict(written),
    }


def macro_wer(predictions: Sequence[Prediction]) -> float:
    """The mean of the sources' word error rates, normalised: a large source does not hide a small.

    A source without a word in its references does not count.
    """
    rates = [
        error_rates([normalise(p.reference) for p in part], [normalise(p.hypothesis) for p in part])
        for _, part in _by_source(predictions)
        if any(normalise(p.reference) for p in part)
    ]
    return sum(rate.wer for rate in rates) / len(rates)


def evaluate(
    model: str,
    dataset: str | Path,
    *,
    split: str = "test",
    output: Path | None = None,
    language: str | None = None,
    language_token: str | None = None,
    batch_size: int = 8,
) -> dict[str, Any]:
    """Transcribe a split and score it, as a whole and per source.

    Args:
        model: a model's folder, a run's folder, or a name on the Hub.
        language: of a data set of others that does not tell its own.
        language_token: as in `transcribe`; by default what the run was trained with.
        output: where to write the predictions, one JSON object per line.

    Raises:
        UserError: the model, the dataset or the split is missing, or `output` exists.
    """
    if output is not None and output.exists():
        raise UserError(f"{output} exists; choose another --output or remove it")
    models.quieten()
    rows = open_split([as_dataset(str(dataset), language)], split)
    whisper = models.load(model)
    language_token = language_token or _trained_language_token(Path(model))
    whisper.model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    began = time.perf_counter()
    predictions = list(
        progress(
            transcribe(whisper, rows, language_token=language_token, batch_size=batch_size),
            total=len(rows),
            desc="transcribe",
            unit="row",
        )
    )
    elapsed = time.perf_counter() - began
    if output is not None:
        lines = (json.dumps(dataclasses.asdict(p), ensure_ascii=False) for p in predictions)
        write_text(output, "".join(f"{line}\n" for line in lines))
    return {
        "model": model,
        "dataset": str(dataset),
        "split": split,
        **score(predictions),
        "sources": {source: score(part) for source, part in _by_source(predictions)},
        "audio_seconds": sum(rows["duration"]),
        "seconds": elapsed,
        "predictions": str(output) if output else None,
    }


def _trained_language_token(run: Path) -> str | None:
    """The language token that a run was told to use, if `run` is one."""
    try:
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    token: str | None = record["config"]["language_token"]
    return token


def _by_source(predictions: Iterable[Prediction]) -> list[tuple[str, list[Prediction]]]:
    groups = defaultdict(list)
    for prediction in predictions:
        groups[prediction.source].append(prediction)
    return sorted(groups.items())
