"""A plain Hugging Face folder: what the Hub, transformers and most programs take.

safetensors, tokenizer.json without dropout, preprocessor_config.json, and a generation config with
the language ids and alignment heads and without forced tokens; the card tells what it was made of.
"""

from pathlib import Path

import numpy as np
import torch

from corpus.audio import SAMPLE_RATE
from train import model as models
from train.export import card


def write(whisper: models.Whisper, folder: Path, run: Path, name: str) -> None:
    """Write the folder, load it again and let it transcribe a second of noise.

    Args:
        run: the folder that the model came from, for the card.
        name: of the model, for the card.
    """
    models.save(whisper, folder)
    for file, text in card.write(run, name).items():
        (folder / file).write_text(text, encoding="utf-8")
    transcribe_a_second(models.load(str(folder)))


def transcribe_a_second(whisper: models.Whisper) -> None:
    """Let a model transcribe noise with transformers, from spectrogram to text."""
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    features = whisper.feature_extractor(noise, sampling_rate=SAMPLE_RATE, return_tensors="pt")
    with torch.inference_mode():
        tokens = whisper.model.eval().generate(
            features.input_features, task="transcribe", max_new_tokens=16
        )
    whisper.tokenizer.batch_decode(tokens)
