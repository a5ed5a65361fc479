"""From planned windows to batches: decodes their stretches of audio and writes their targets.

What travels to the device is int16 PCM; the log-mel spectrogram is computed there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from corpus.audio import SAMPLE_RATE
from train import augment
from train.bpe_dropout import BpeDropout
from train.config import FitConfig
from train.depth import draw_kept, skip_rates
from train.material import WINDOW_SAMPLES
from train.model import Whisper
from train.rows import Rows, read_flac
from train.stream import Draw, Request
from train.targets import IGNORED, Encode, Target, build_target

FRAMES_PER_SECOND = 100


class Batch(NamedTuple):
    """A micro-batch of B windows.

    Attributes:
        pcm: int16 [B, 480000], 16 kHz.
        decoder_input_ids, labels: int64 [B, L], L as planned.
        sources: int64 [B, L], each label's place in `Reader.sources`.
        masks: int64 [B, 4], `augment.Masks` of each window.
        kept: bool [B, layers], which layers of encoder and decoder each window keeps.
        tokens: number of labels with loss.
        seconds: audio without padding.
    """

    pcm: Any
    decoder_input_ids: Any
    labels: Any
    sources: Any
    masks: Any
    kept: Any
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Sample:
    """A window that was read."""

    pcm: np.ndarray
    target: Target
    length: int
    masks: augment.Masks
    kept: list[bool]
    seconds: float


class Reader:
    """Reads planned windows: a map-style dataset for torch's DataLoader, indexed by the plan.

    Attributes:
        sources: names of the sources; the first, "", is that of tokens without one.
    """

    def __init__(
        self, rows: Rows, whisper: Whisper, config: FitConfig, sources: Sequence[str]
    ) -> None:
        self.rows, self.config = rows, config
        self.vocabulary, self.encode = whisper.vocabulary, whisper.encode
        self.dropout = BpeDropout(whisper.tokenizer, config.bpe_dropout)
        self.mels = whisper.feature_extractor.feature_size
        model = whisper.model.config
        self.skip_rates = skip_rates(
            [model.encoder_layers, model.decoder_layers], config.stochastic_depth
        )
        self.sources = ["", *sources]
        self.source_index = {source: index for index, source in enumerate(self.sources)}

    def fetched(self, draw: Draw) -> Draw:
        """The same with its audio."""
        return draw._replace(audio=self._audio(draw))

    def _audio(self, draw: Draw) -> Mapping[int, bytes]:
        rows = {span.row for span in draw.window.spans}
        return draw.audio or {row: self.rows.audio(row) for row in rows}

    def __getitem__(self, request: Request) -> Sample:
        draw, length = request
        target = self._target(draw, length)
        seconds = draw.window.seconds
        masks = augment.Masks()
        if self.config.spec_augment:
            frames = round(seconds * FRAMES_PER_SECOND)
            masks = augment.draw_masks(draw.chance("masks"), frames, self.mels)
        kept = draw_kept(draw.chance("layers"), self.skip_rates)
        return Sample(self._sound(draw, target), target, length, masks, kept, seconds)

    def _target(self, draw: Draw, length: int) -> Target:
        if self.config.bpe_dropout:
            try:
                target = self._write(draw, self.dropout.encoder(draw.chance("tokens")))
            except ValueError:
                pass
            else:
                if len(target.labels) <= length:
                    return target
        return self._write(draw, self.encode)

    def _write(self, draw: Draw, encode: Encode) -> Target:
        window = draw.window
        return build_target(
            window.utterances,
            window.language,
            draw.choices,
            self.vocabulary,
            encode,
            previous=window.previous,
            language_token=self.config.language_token,
        )

    def _sound(self, draw: Draw, target: Target) -> np.ndarray:
        if not draw.window.spans:
            return augment.silence(WINDOW_SAMPLES, draw.chance("sound"))
        audio = self._audio(draw)
        pcm = np.zeros(WINDOW_SAMPLES, np.int16)
        end = 0
        for span in draw.window.spans:
            stretch = read_flac(audio[span.row], span.start, span.stop)
            if span.speed != 1.0:
                stretch = augment.change_speed(stretch, span.speed, span.samples)
            end = span.at + stretch.size
            pcm[span.at : end] = stretch
        if target.silent_from is not None:
            end = min(end, round(target.silent_from * SAMPLE_RATE))
            pcm[end:] = 0
        pcm[:end] = augment.disturb(
            pcm[:end],
            draw.chance("sound"),
            noise=self.config.noise,
            gain=self.config.gain,
            phone=self.config.telephone,
        )
        return pcm

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Stack windows; inputs are padded with <|endoftext|>, labels with -100."""
        import torch

        length = max(max(sample.length, len(sample.target.labels)) for sample in samples)
        inputs = np.full((len(samples), length), self.vocabulary.end, np.int64)
        labels = np.full((len(samples), length), IGNORED, np.int64)
        sources = np.zeros((len(samples), length), np.int64)
        for row, sample in enumerate(samples):
            target = sample.target
            inputs[row, : len(target.labels)] = target.decoder_input_ids
            labels[row, : len(target.labels)] = target.labels
            sources[row, : len(target.labels)] = [
                self.source_index[source] for source in target.sources
            ]
        return Batch(
            torch.from_numpy(np.stack([sample.pcm for sample in samples])),
            torch.from_numpy(inputs),
            torch.from_numpy(labels),
            torch.from_numpy(sources),
            torch.tensor([sample.masks for sample in samples]),
            torch.tensor([sample.kept for sample in samples]),
            int((labels != IGNORED).sum()),
            sum(sample.seconds for sample in samples),
        )
