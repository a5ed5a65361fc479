"""CTranslate2, on which faster-whisper and `corpus label` run."""

import tempfile
from pathlib import Path

import numpy as np

from corpus.audio import SAMPLE_RATE
from train import model as models

COPIED_FILES = ["tokenizer.json", "preprocessor_config.json"]
"""Without the first faster-whisper fetches another model's; without the second it assumes 80 mels,
which large-v3 does not have."""


def write(whisper: models.Whisper, folder: Path, quantization: str = "float32") -> None:
    """Convert a model, and let it transcribe a second of noise.

    The model is first saved anew, since checkpoints from elsewhere may lack the language ids or the
    files that the conversion needs.

    Args:
        quantization: any that CTranslate2 knows.
    """
    from ctranslate2.converters import TransformersConverter

    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        source = Path(scratch) / "source"
        models.save(whisper, source)
        converter = TransformersConverter(str(source), copy_files=COPIED_FILES)
        converter.convert(str(folder), quantization=quantization)
    transcribe_a_second(folder)


def transcribe_a_second(folder: Path) -> None:
    """Load a converted model with faster-whisper and let it work, from language to timestamps."""
    from faster_whisper import WhisperModel

    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    model = WhisperModel(str(folder), device="cpu", cpu_threads=1, local_files_only=True)
    segments, _ = model.transcribe(noise, temperature=0.0, beam_size=1, max_new_tokens=16)
    for _ in segments:  # a generator: transcription happens here
        pass
