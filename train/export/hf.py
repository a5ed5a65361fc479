"""A plain Hugging Face folder: what the Hub, transformers and most programs take.

safetensors, tokenizer.json without dropout, preprocessor_config.json, and a generation config with
the language ids and alignment heads and without forced tokens; the card tells what it was made of.
"""

from pathlib import Path

import numpy as np
import torch

from corpus.audio import SAMPLE_RATE
from corpus.errors import UserError
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


def push(folder: Path, repository: str) -> str:
    """Upload an exported folder; a repository that is not there yet is made, private.

    Returns:
        the address of the model.

    Raises:
        UserError: the Hub refuses it or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        made = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=made.repo_id, folder_path=folder)
    except Exception as error:  # errors of HTTP, of names, of log-in: they share no other base
        reason = " ".join(str(error).split())
        raise UserError(
            f"{repository}: not uploaded ({reason}); `hf auth login`, then the same command again"
        ) from error
    return str(made)
