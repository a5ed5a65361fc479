"""Pseudo-labels: what a Whisper model hears in a segment, with the model's own doubts as scores.

Segments with a human subtitle are labelled too: how far the two agree is the best evidence there
is of whether the subtitle is what was said. Segments of a release such as Common Voice are not:
people have validated them already.
"""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from corpus import audio, console, engine
from corpus.catalogue import Catalogue, Recording, Score, Segment, Transcript
from corpus.errors import UserError
from corpus.segment import MAX_SECONDS
from corpus.text import base_language, clean_transcript
from corpus.workspace import Workspace

CT2_WEIGHTS = "model.bin"
"""The file that makes a folder a CTranslate2 model."""

CT2_FOLDER = "ct2"
"""Where `train export` puts one, in the run's folder."""

HUB_FILES = ["*.json", "*.txt", "model.safetensors", "model-*.safetensors", CT2_WEIGHTS]
"""What of a Hub model is needed: weights in one form, tokenizer and settings."""

BEAM_SIZE = 5


@dataclass(frozen=True)
class Model:
    """A model that faster-whisper can load, under the name that its transcripts carry."""

    name: str
    path: str

    @property
    def origin(self) -> str:
        """Name and content hash, so that a retrained model of the same name is another origin."""
        weights = Path(self.path) / CT2_WEIGHTS
        if not weights.exists():
            return self.name
        with weights.open("rb") as handle:
            return f"{self.name}@{hashlib.file_digest(handle, 'sha256').hexdigest()[:8]}"


def find_model(workspace: Workspace, name: str) -> Model:
    """The model behind a name: a CTranslate2 folder, a Hugging Face folder, a run, or a Hub name.

    A Hugging Face model is converted to CTranslate2 once and kept in the workspace.

    Raises:
        UserError: there is no Whisper model.
    """
    folder = workspace.path(name) if workspace.path(name).is_dir() else Path(name).expanduser()
    if not folder.is_dir():
        # A Hub name has no folder of this machine in front: `runs/other` is a slip, not a name.
        if name.startswith((".", "/", "~")) or ("/" in name and folder.parent.is_dir()):
            raise UserError(f"{name}: no such model folder")
        folder = _download(name)
        return _local_model(workspace, folder, name.replace("/", "--"))
    if (folder / "model").is_dir():  # a run of `train fit`
        folder = folder / "model"
    folder = folder.resolve()
    in_run = folder.name in {"model", CT2_FOLDER}
    return _local_model(workspace, folder, folder.parent.name if in_run else folder.name)


def _download(name: str) -> Path:
    """A model of the Hub in the local cache; a plain size such as large-v3 is faster-whisper's."""
    from faster_whisper.utils import download_model
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, allow_patterns=HUB_FILES)
            if "/" in name
            else download_model(name)
        )
    except (ValueError, OSError) as error:  # the Hub's exceptions are kinds of these
        reason = " ".join(str(error).split())
        raise UserError(f"no model folder {name}, and it cannot be fetched: {reason}") from error


def _local_model(workspace: Workspace, folder: Path, title: str) -> Model:
    if (folder / CT2_WEIGHTS).exists():
        return Model(title, str(folder))
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise UserError(
            f"{folder}: no Whisper model here; give a CTranslate2 folder, a Hugging Face folder "
            "with safetensors, or a run of `train fit`"
        )
    digest = hashlib.sha256()
    for path in weights:
        with path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return Model(title, str(_convert(workspace, folder, f"{title}-{digest.hexdigest()[:8]}")))


def _convert(workspace: Workspace, folder: Path, name: str) -> Path:
    target = workspace.models / name
    if target.exists():
        return target
    from ctranslate2.converters import TransformersConverter
    from transformers.utils import logging as transformers_logging

    missing = [
        n for n in ("tokenizer.json", "preprocessor_config.json") if not (folder / n).exists()
    ]
    if missing:
        raise UserError(f"{folder}: {' and '.join(missing)} missing; save the processor there too")
    console.say(f"converting {folder} for labelling, once")
    transformers_logging.disable_progress_bar()
    with workspace.lock("models"):
        part = workspace.models / f".{name}.part"
        workspace.models.mkdir(exist_ok=True)
        converter = TransformersConverter(
            str(folder), copy_files=["tokenizer.json", "preprocessor_config.json"]
        )
        converter.convert(str(part), force=True)
        part.rename(target)
    return target


@dataclass(frozen=True)
class Label:
    """One transcription: the text, and numbers that tell how sure the model is."""

    text: str
    scores: dict[str, float]


class Labeller:
    """A loaded model.

    Args:
        language: the language token to force.

    Raises:
        UserError: the model cannot be loaded, or knows no such language.
    """

    def __init__(self, model: Model, language: str, *, device: str, compute_type: str) -> None:
        import ctranslate2
        from faster_whisper import WhisperModel

        # A CPU has no float16; that the weights are widened for it is no warning to a user.
        ctranslate2.set_log_level(logging.ERROR)
        try:
            self.whisper: Any = WhisperModel(model.path, device=device, compute_type=compute_type)
        except (ValueError, RuntimeError, OSError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"the model {model.path} cannot be loaded: {reason}") from error
        if language not in self.whisper.supported_languages:
            raise UserError(
                f"{model.name} knows no language {language!r}; give a related one that it knows "
                "with --language-token"
            )
        self.language = language

    def __call__(self, pcm: audio.Pcm) -> Label:
        """Transcribe int16 PCM [samples] of at most 30 s at 16 kHz by beam search.

        Whisper's fallback to sampling is not used: CTranslate2 cannot seed it for each segment, and
        a corpus that is made twice shall be the same twice. Loops show in the compression ratio.
        Text before the segment is not given: it makes loops spread.
        """
        # Silence to the end of the window, as in Whisper's training; faster-whisper would pad the
        # log-mel with zeros instead, which are louder than silence.
        window = np.zeros(round(MAX_SECONDS * audio.SAMPLE_RATE), np.float32)
        window[: pcm.size] = pcm.astype(np.float32) / 32768.0
        found, _ = self.whisper.transcribe(
            window,
            language=self.language,
            beam_size=BEAM_SIZE,
            temperature=0.0,
            condition_on_previous_text=False,
            no_speech_threshold=None,  # keep what it says all the same: the verdict decides
        )
        pieces = [piece for piece in found if piece.start * audio.SAMPLE_RATE < pcm.size]
        if not pieces:
            return Label("", {})
        seconds = [max(0.02, piece.end - piece.start) for piece in pieces]
        return Label(
            clean_transcript(" ".join(piece.text.strip() for piece in pieces)),
            {
                "avg_logprob": float(np.average([p.avg_logprob for p in pieces], weights=seconds)),
                "no_speech_prob": float(max(p.no_speech_prob for p in pieces)),
                "compression_ratio": float(max(p.compression_ratio for p in pieces)),
            },
        )


def label_segments(
    workspace: Workspace,
    catalogue: Catalogue,
    model: Model,
    *,
    language_token: str | None = None,
    device: str = "auto",
    compute_type: str = "default",
) -> engine.Counts:
    """Add this model's transcript to every segment that lacks it; one commit per segment.

    Raises:
        UserError: the model cannot be used, or another process is labelling.
    """
    token = language_token or base_language(workspace.config.language)
    with workspace.lock("transcripts"):
        return _label_segments(workspace, catalogue, model, token, device, compute_type)


def _label_segments(
    workspace: Workspace,
    catalogue: Catalogue,
    model: Model,
    language_token: str,
    device: str,
    compute_type: str,
) -> engine.Counts:
    origin = model.origin
    waiting = _unlabelled(catalogue, origin, workspace.config.language)
    if not waiting:
        return engine.Counts(0, 0)
    labeller = Labeller(model, language_token, device=device, compute_type=compute_type)

    def label(segment_id: str) -> Label:
        with catalogue.session() as session:
            segment = session.get_one(Segment, segment_id)
            path = workspace.path(segment.recording.media_path)
            start, end = segment.start_ms, segment.end_ms
        return labeller(audio.read_span(path, start, end))

    def save(segment_id: str, result: Label) -> None:
        scores = [Score(name=name, value=value) for name, value in result.scores.items()]
        with catalogue.session() as session:
            session.add(
                Transcript(
                    segment_id=segment_id,
                    kind="pseudo",
                    origin=origin,
                    text=result.text,
                    scores=scores,
                )
            )
            catalogue.clear_failure(session, stage="label", item=segment_id)

    return engine.run(
        waiting, label, save, catalogue.failure_noter("label"), desc="label", unit="segment"
    )


def _unlabelled(catalogue: Catalogue, origin: str, language: str) -> list[str]:
    # A list made once: SQLite would answer EXISTS by walking the index of kinds for each segment.
    labelled = select(Transcript.segment_id).filter(
        (Transcript.kind == "release")
        | ((Transcript.kind == "pseudo") & (Transcript.origin == origin))
    )
    with catalogue.session() as session:
        rows = session.execute(
            select(Segment.id, Recording.language)
            .join(Recording)
            .filter(Segment.id.not_in(labelled))
            .order_by(Recording.id, Segment.start_ms)
        )
        # A video in another language would only be labelled with nonsense.
        return [item for item, code in rows if base_language(code) == base_language(language)]
