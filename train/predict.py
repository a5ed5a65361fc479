"""Lets models transcribe the rows of datasets.

Free-running greedy decoding: the model reads its own output, unlike the teacher-forced figures that
look better than any transcript. The language is that of the row unless it is to be detected, and
nothing is cut short: what a model has no room for is counted and told.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corpus import audio, console
from corpus.dataset import read_split
from corpus.errors import UserError
from corpus.files import read_json
from corpus.pack import GRID_SECONDS, WINDOW_SECONDS
from train import model as models
from train.checkpoint import write_text
from train.foreign import as_dataset
from train.metrics import Timed

WINDOW_SAMPLES = round(WINDOW_SECONDS * audio.SAMPLE_RATE)

PROMPT_TOKENS = 4
"""<|startoftranscript|>, language, task, <|notimestamps|>: what decoding begins with."""


@dataclass(frozen=True)
class Prediction:
    """What a model made of one row, or of one recording.

    Attributes:
        dataset: the name of its folder.
        speaker, recording: where there is one and it is known.
        duration: seconds of audio.
        reference: empty where nobody speaks.
        spans: the model's timestamps; None where it was not asked for any.
        reference_spans: the segments of the row.
        detected: the language that the model took it for; None where the row's was forced.
        cut: whether the model wrote until its positions were full: it was stopped, not done.
    """

    id: str
    dataset: str
    source: str
    language: str
    speaker: str | None
    recording: str | None
    duration: float
    reference: str
    hypothesis: str
    spans: tuple[Timed, ...] | None
    reference_spans: tuple[Timed, ...]
    detected: str | None = None
    cut: bool = False


def transcribe(
    whisper: models.Whisper,
    rows: Any,
    *,
    dataset: str = "",
    language_token: str | None = None,
    detect_language: bool = False,
    timestamps: bool = False,
    batch_size: int = 8,
) -> Iterator[Prediction]:
    """Transcribe the rows of a split greedily, on the model's device.

    Args:
        rows: a `datasets.Dataset` as `corpus.dataset.read_split` gives it, none longer than 30 s.
        dataset: the name that the predictions carry.
        language_token: the language whose token to use where the row's own has none.
        detect_language: let the model say which language each row is in.
        timestamps: decode with timestamps, under Whisper's rules for them.
    """
    model, vocabulary = whisper.model, whisper.vocabulary
    log_mel = models.LogMel(whisper.feature_extractor).to(model.device)
    room = model.config.max_target_positions - PROMPT_TOKENS
    names = {token: code for code, token in vocabulary.languages.items()}
    for start in range(0, len(rows), batch_size):
        batch = [rows[index] for index in range(start, min(start + batch_size, len(rows)))]
        pcm = np.zeros((len(batch), WINDOW_SAMPLES), np.int16)
        for index, row in enumerate(batch):
            samples = audio.decode(row["audio"]["bytes"])
            pcm[index, : samples.size] = samples
        with torch.inference_mode():
            features = log_mel(torch.from_numpy(pcm).to(model.device)).to(model.dtype)
            if detect_language:
                codes = [names[token] for token in model.detect_language(features).tolist()]
            else:
                codes = [vocabulary.language_code(row["language"], language_token) for row in batch]
            written = model.generate(
                input_features=features,
                language=[f"<|{code}|>" for code in codes],
                task="transcribe",
                return_timestamps=timestamps,
                do_sample=False,
                num_beams=1,
                max_new_tokens=room,
            )
        for row, code, tokens in zip(batch, codes, written.tolist(), strict=True):
            tokens = tokens[: tokens.index(vocabulary.end)] if vocabulary.end in tokens else tokens
            yield Prediction(
                **describe_row(row, dataset),
                hypothesis=whisper.tokenizer.decode(tokens, skip_special_tokens=True).strip(),
                spans=tuple(_read_spans(tokens, vocabulary)) if timestamps else None,
                detected=code if detect_language else None,
                cut=len(tokens) >= room,
            )


def describe_row(row: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """What a prediction tells of its row."""
    segments = row["segments"]
    recordings = {segment["segment_id"].rpartition("@")[0] for segment in segments}
    return {
        "id": row["id"],
        "dataset": dataset,
        "source": " + ".join(sorted({segment["source"] for segment in segments})),
        "language": row["language"],
        "speaker": _only({segment["speaker"] for segment in segments}),
        "recording": _only(recordings) or None,
        "duration": row["duration"],
        "reference": row["text"].strip(),
        "reference_spans": tuple(
            Timed(segment["start"], segment["end"])
            for segment in segments
            if segment["text"].strip()
        ),
    }


def _only(values: set[str | None]) -> str | None:
    """The one value that there is; None of several."""
    return values.copy().pop() if len(values) == 1 else None


def _read_spans(tokens: Sequence[int], vocabulary: Any) -> Iterator[Timed]:
    """The stretches that timestamp tokens mark: each start with the timestamp that follows it."""
    opened: float | None = None
    for token in tokens:
        tick = token - vocabulary.no_timestamps - 1
        if tick < 0:
            continue
        seconds = round(tick * GRID_SECONDS, 2)
        if opened is None:
            opened = seconds
        else:
            yield Timed(opened, seconds)
            opened = None
    if opened is not None:
        yield Timed(opened, None)


@dataclass(frozen=True)
class Decoding:
    """How models are made to transcribe for a report.

    Attributes:
        split: of the datasets.
        language: of data sets of others that do not tell theirs.
        language_token: the language whose token to use where the row's own has none; by default
            what the run was trained with.
        long_form: whole recordings by faster-whisper, see `train.longform`.
    """

    split: str = "test"
    language: str | None = None
    language_token: str | None = None
    detect_language: bool = False
    timestamps: bool = False
    long_form: bool = False
    batch_size: int = 8

    @property
    def options(self) -> list[str]:
        """What is decoded otherwise than by default, as the options are called."""
        given = ("timestamps", "long_form", "detect_language")
        return [name.replace("_", "-") for name in given if getattr(self, name)]


@dataclass(frozen=True)
class Material:
    """The rows that are transcribed, and those that a model cannot take as they are.

    Attributes:
        rows: of each dataset by its name, none longer than 30 s.
        longer: ids of rows longer than 30 s, which are left out of all figures.
        wordy: ids of rows whose text is over the decoder's positions: no model can write all of it,
            and what is missing counts as deleted.
    """

    rows: dict[str, Any]
    longer: list[str]
    wordy: list[str]

    @property
    def seconds(self) -> float:
        """Audio in all."""
        return float(sum(sum(rows["duration"]) for rows in self.rows.values()))


def read_material(
    datasets: Sequence[str | Path], how: Decoding, whisper: models.Whisper
) -> Material:
    """The split of each dataset, of ours or of others.

    Raises:
        UserError: a dataset or its split is missing, or two have the same name.
    """
    found, longer, wordy = {}, [], []
    room = whisper.model.config.max_target_positions - PROMPT_TOKENS
    for given in datasets:
        name = Path(given).resolve().name
        if name in found:
            raise UserError(f"two datasets are named {name}; give a copy or link another name")
        rows = read_split(Path(as_dataset(str(given), how.language)), how.split)
        ids, durations, texts = rows["id"], rows["duration"], rows["text"]
        fit = [place for place, seconds in enumerate(durations) if seconds <= WINDOW_SECONDS]
        longer += [ids[place] for place in sorted(set(range(len(ids))) - set(fit))]
        wordy += [ids[place] for place in fit if len(whisper.encode(texts[place])) > room]
        found[name] = rows.select(fit) if len(fit) < len(ids) else rows
    return Material(found, longer, wordy)


def predict(
    model: str, datasets: Sequence[str | Path], how: Decoding
) -> tuple[list[Prediction], Material]:
    """Let a model transcribe a split of each dataset.

    Args:
        model: a model's folder, a run's folder, or a name on the Hub.

    Raises:
        UserError: the model, a dataset or the split is missing.
    """
    models.quieten()
    whisper = models.load(model)
    material = read_material(datasets, how, whisper)
    token = how.language_token or trained_language_token(Path(model))
    found: Iterable[Prediction]
    if how.long_form:
        from train.longform import transcribe_recordings

        found, total = transcribe_recordings(whisper, material.rows, how, token)
    else:
        whisper.model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        total = sum(map(len, material.rows.values()))
        found = (
            prediction
            for name, rows in material.rows.items()
            for prediction in transcribe(
                whisper,
                rows,
                dataset=name,
                language_token=token,
                detect_language=how.detect_language,
                timestamps=how.timestamps,
                batch_size=how.batch_size,
            )
        )
    return list(
        console.progress(
            found, total=total, desc=Path(model).name, unit="recording" if how.long_form else "row"
        )
    ), material


def check_free(output: Path | None) -> None:
    """See that a file can be made at `output`, before hours are spent on what goes into it.

    Raises:
        UserError: something is there, or the folder for it is not.
    """
    if output is not None and output.exists():
        raise UserError(f"{output} exists; choose another --output or remove it")
    if output is not None and not output.parent.is_dir():
        raise UserError(f"{output}: no folder {output.parent}; make it or choose another --output")


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write predictions as JSON lines; the file appears whole."""
    lines = (json.dumps(dataclasses.asdict(p), ensure_ascii=False) for p in predictions)
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_predictions(path: Path) -> list[Prediction]:
    """What `write_predictions` wrote.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            return [_prediction(json.loads(line)) for line in lines]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} holds no predictions of `train evaluate --output`") from error


def _prediction(fields: dict[str, Any]) -> Prediction:
    spans = {
        name: tuple(Timed(*span) for span in fields[name]) if fields[name] is not None else None
        for name in ("spans", "reference_spans")
    }
    return Prediction(**{**fields, **spans})


def trained_language_token(run: Path) -> str | None:
    """The language token that a run was told to use; None where `run` is none."""
    record = read_json(run / "run.json")
    token: str | None = record.get("config", {}).get("language_token")
    return token
