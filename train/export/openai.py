"""The file of openai/whisper: `whisper.load_model("model.pt")`.

A pickled dictionary of `dims` and `model_state_dict`, with that program's names for the tensors.
"""

from pathlib import Path
from typing import Any

import torch

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
    """Write the file, and read it again.

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
