"""Shows what a model will be taught: windows as training reads them, sound and target."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from corpus.audio import encode_flac
from corpus.errors import UserError
from train import model as models
from train.config import FitConfig
from train.data import open_data
from train.targets import IGNORED

GIVEN, LEARNT = "given", "learnt"


@dataclass(frozen=True)
class Shown:
    """A window as it is trained on.

    Attributes:
        parts: the target, as stretches that are given to the model (in the decoder's input alone)
            and stretches that it learns to write.
        audio: a FLAC file of its sound, where one was asked for.
    """

    id: str
    language: str
    seconds: float
    tokens: int
    parts: list[tuple[str, str]]
    audio: str | None


def inspect(
    config: FitConfig, *, count: int, epoch: int = 0, audio: Path | None = None
) -> Iterator[Shown]:
    """The first windows of an epoch (from 0), in the order in which they are trained on.

    Args:
        audio: folder for their sound, with speed, noise and the like as they were drawn.

    Raises:
        UserError: as `open_data`, or `audio` holds something already.
    """
    if audio is not None and audio.exists() and any(audio.iterdir()):
        raise UserError(f"{audio} is not empty; choose another folder for --audio")
    whisper = models.load(config.model)
    data = open_data(config, whisper)
    for number, request in enumerate(islice(data.stream.requests(epoch), count)):
        sample = data.reader[request]
        target = sample.target
        file = None
        if audio is not None:
            audio.mkdir(parents=True, exist_ok=True)
            file = audio / f"{number:04d}.flac"
            file.write_bytes(encode_flac(sample.pcm))
        yield Shown(
            id=request.draw.window.id,
            language=request.draw.window.language,
            seconds=sample.seconds,
            tokens=len(target.labels),
            parts=_parts(whisper.tokenizer, target.decoder_input_ids, target.labels),
            audio=str(file) if file else None,
        )


def _parts(tokenizer: Any, inputs: list[int], labels: list[int]) -> list[tuple[str, str]]:
    # The first input is nobody's label; from there on inputs and labels name the same tokens.
    last = labels[-1]
    ids = [*inputs, last]
    learnt = [False, *(label != IGNORED for label in labels)]
    parts = []
    for is_learnt, tokens in groupby(zip(learnt, ids, strict=True), key=lambda pair: pair[0]):
        text = tokenizer.decode([token for _, token in tokens], decode_with_timestamps=True)
        parts.append((LEARNT if is_learnt else GIVEN, text))
    return parts
