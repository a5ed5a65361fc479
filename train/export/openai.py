"""The file of openai/whisper: `whisper.load_model("model.pt")`.

A pickled dictionary of `dims` and `model_state_dict`, with that program's names for the tensors.
"""

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corpus import console
from corpus.audio import SAMPLE_RATE
from corpus.errors import UserError
from train import model as models

RENAMED = (
    ("model.", ""),
    (".layers.", ".blocks."),
    (".encoder_attn_layer_norm.", ".cross_attn_ln."),
    (".self_attn_layer_norm.", ".attn_ln."),
    (".final_layer_norm.", ".mlp_ln."),
    (".encoder_attn.", ".cross_attn."),
    (".self_attn.", ".attn."),
    (".q_proj.", ".query."),
    (".k_proj.", ".key."),
    (".v_proj.", ".value."),
    (".out_proj.", ".out."),
    (".fc1.", ".mlp.0."),
    (".fc2.", ".mlp.2."),
    ("encoder.layer_norm.", "encoder.ln_post."),
    ("decoder.layer_norm.", "decoder.ln."),
    (".embed_positions.weight", ".positional_embedding"),
    (".embed_tokens.", ".token_embedding."),
)
"""Parts of transformers' names and of openai/whisper's (whisper/model.py), in this order."""

TIED = "proj_out.weight"
"""Is the decoder's embedding, which openai/whisper uses for both."""

TYPES = {"float32": torch.float32, "float16": torch.float16}

VOCABULARIES = {51865, 51866}
"""Sizes of the multilingual vocabularies that openai/whisper and whisper.cpp have built in: with
the 99 languages of v1 and v2, and the 100 of large-v3."""


def write(whisper: models.Whisper, path: Path, precision: str = "float32") -> None:
    """Write the file, read it again, and let openai/whisper transcribe where it is installed.

    Raises:
        UserError: the model has a vocabulary of its own, or there is no such precision.
    """
    check_vocabulary(whisper)
    if precision not in TYPES:
        raise UserError(f"no precision {precision}; give {' or '.join(TYPES)}")
    state = {name: tensor.to(TYPES[precision]) for name, tensor in tensors(whisper).items()}
    torch.save({"dims": dimensions(whisper), "model_state_dict": state}, path)
    read = torch.load(path, weights_only=True)
    if read["dims"] != dimensions(whisper) or any(
        not torch.equal(read["model_state_dict"][name], tensor) for name, tensor in state.items()
    ):
        raise ValueError("what was written is not what is read")
    try:
        metadata.version("openai-whisper")  # others are imported as `whisper` too
    except metadata.PackageNotFoundError:
        console.say("note: openai-whisper is not installed here, so it has not tried the file")
    else:
        transcribe_a_second(path)


def transcribe_a_second(path: Path) -> None:
    """Load the file with openai/whisper and let it decode noise."""
    import whisper

    model = whisper.load_model(str(path), device="cpu")
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(noise), model.dims.n_mels)
    whisper.decode(model, mel, whisper.DecodingOptions(fp16=False, sample_len=16))


def check_vocabulary(whisper: models.Whisper) -> None:
    """See that a model has Whisper's own vocabulary.

    Raises:
        UserError: it has another.
    """
    if (size := whisper.model.config.vocab_size) not in VOCABULARIES:
        raise UserError(
            f"openai/whisper and whisper.cpp know the vocabularies of {sorted(VOCABULARIES)} "
            f"tokens and no other, and this model has {size}; --to ct2 and --to hf take it along"
        )


def dimensions(whisper: models.Whisper) -> dict[str, int]:
    """openai/whisper's `ModelDimensions`."""
    config = whisper.model.config
    return {
        "n_mels": config.num_mel_bins,
        "n_audio_ctx": config.max_source_positions,
        "n_audio_state": config.d_model,
        "n_audio_head": config.encoder_attention_heads,
        "n_audio_layer": config.encoder_layers,
        "n_vocab": config.vocab_size,
        "n_text_ctx": config.max_target_positions,
        "n_text_state": config.d_model,
        "n_text_head": config.decoder_attention_heads,
        "n_text_layer": config.decoder_layers,
    }


def tensors(whisper: models.Whisper) -> dict[str, Any]:
    """A model's tensors under openai/whisper's names."""
    found = {}
    for name, tensor in whisper.model.state_dict().items():
        if name != TIED:
            for ours, theirs in RENAMED:
                name = name.replace(ours, theirs)
            found[name] = tensor.detach().cpu()
    return found
