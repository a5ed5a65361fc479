"""Whisper for training: log-mel on the device, and loading and saving without traps."""

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from corpus.errors import UserError
from train import lora
from train.targets import Vocabulary

N_FFT, HOP = 400, 160
"""Samples at 16 kHz: windows of 25 ms, one every 10 ms (Radford et al. 2022, section 2.2)."""

TIED = "proj_out.weight"
"""The embedding of tokens once more."""

ENGLISH_ONLY = ".en"
"""How OpenAI names models of English beside the multilingual ones of the same size."""

PCM_SCALE = 32768.0
PAPER_PEAK_RATES = {384: 1.5e-3, 512: 1e-3, 768: 5e-4, 1024: 2.5e-4, 1280: 1.75e-4}
"""A model's width to its peak learning rate in pre-training (Radford et al. 2022, appendix F)."""


@dataclass
class Whisper:
    """A model with what belongs to it."""

    model: Any  # transformers' WhisperForConditionalGeneration
    tokenizer: Any
    feature_extractor: Any
    vocabulary: Vocabulary

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        return self.tokenizer.encode(text, add_special_tokens=False)


class LogMel(nn.Module):
    """Whisper's log-mel spectrogram from int16 PCM, in fp32, equal to WhisperFeatureExtractor's.

    Samples travel to the device as int16: half the bytes of fp32, and no mixed-precision engine
    rounds them.
    """

    filters: Tensor
    window: Tensor

    def __init__(self, feature_extractor: Any) -> None:
        super().__init__()
        filters = torch.as_tensor(feature_extractor.mel_filters, dtype=torch.float32)
        self.register_buffer("filters", filters.T.contiguous())
        self.register_buffer("window", torch.hann_window(N_FFT))

    @torch.no_grad()
    def forward(self, pcm: Tensor) -> Tensor:
        """int16 [B, samples] -> float32 [B, mels, samples // 160]."""
        waveform = pcm.float() / PCM_SCALE
        spectrum = torch.stft(waveform, N_FFT, HOP, window=self.window, return_complex=True)
        spectrum = spectrum[..., :-1]
        # Not abs().square(): its root costs as much as the rest.
        power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
        log_mel = (self.filters @ power).clamp_(min=1e-10).log10_()
        peak = log_mel.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(log_mel, peak - 8.0) + 4.0) / 4.0


def load(name: str) -> Whisper:
    """Load a model from a folder, from a run's folder, or by its name on the Hub.

    Raises:
        UserError: there is no such model, or it is no multilingual Whisper.
    """
    from transformers import (
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

    source = find(name)
    quieten()
    try:
        model = WhisperForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
        tokenizer = WhisperTokenizer.from_pretrained(source)
        feature_extractor = WhisperFeatureExtractor.from_pretrained(source)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{name}: cannot be loaded as a Whisper model ({reason})") from error
    if getattr(model.generation_config, "is_multilingual", None) is False:
        sibling = name.startswith("openai/") and name.endswith(ENGLISH_ONLY)
        other = name.removesuffix(ENGLISH_ONLY) if sibling else "such as openai/whisper-small"
        raise UserError(f"{name} knows English only; take a multilingual Whisper, {other}")
    # Sines, which Whisper does not train; as loaded by transformers 5.23 they would be.
    model.model.encoder.embed_positions.requires_grad_(False)
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    _complete_generation_config(model, vocabulary)
    return Whisper(model, tokenizer, feature_extractor, vocabulary)


def quieten() -> None:
    """Stop the libraries' own bars and warnings: none of them tells a user what to do."""
    import datasets
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    if not torch.cuda.is_available():
        # Saving a model imports DeepSpeed, which tells on stdout that it found no GPU.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def find(name: str) -> str:
    """The folder of a model, or `name` itself where it is a name on the Hub.

    Raises:
        UserError: neither a model's folder nor a possible name.
    """
    folder = Path(name)
    for candidate in (folder / "model", folder):
        if (candidate / "config.json").exists():
            return str(candidate)
    if folder.exists():
        raise UserError(f"{name}: no model in this folder; has the run finished?")
    # A Hub name has no folder of this machine in front: `runs/other` is a slip, not a name.
    in_folder = "/" in name and folder.parent.is_dir()
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or in_folder:
        raise UserError(f"{name}: no such folder; give a model's folder or openai/whisper-small")
    return name


def set_dropout(model: Any, rate: float) -> None:
    """Dropout in the residual branches, in training mode only; the configuration stays as it was.

    It is read when a model is made, so a changed configuration would have no effect. Whole layers
    are never dropped: see `train.depth`.
    """
    for stack in (model.model.encoder, model.model.decoder):
        stack.layerdrop = 0.0
        for part in (stack, *stack.layers):
            part.dropout = rate


def default_learning_rate(model: Any) -> float:
    """A fortieth of the peak rate of the pre-training of a model this wide."""
    width = min(PAPER_PEAK_RATES, key=lambda width: abs(width - model.config.d_model))
    return PAPER_PEAK_RATES[width] / 40


def compile_layers(model: Any, backend: str = "inductor") -> None:
    """Compile each layer by itself: all of a stack share its programs, made in seconds.

    There are three: the encoder's, the decoder's for its first length, and, at the second, the
    decoder's for any length.
    """
    for stack in (model.model.encoder, model.model.decoder):
        for layer in stack.layers:
            layer.compile(backend=backend)


def save(whisper: Whisper, folder: Path, state: dict[str, Tensor] | None = None) -> None:
    """Write a Hugging Face model folder, whole or not at all; an older one is replaced.

    Args:
        state: the weights, where they are not those that the model has now.
    """
    from transformers import WhisperProcessor

    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    # Under its own name, the vocabulary's projection would be written twice.
    state = {n: t for n, t in (state or whisper.model.state_dict()).items() if n != TIED}
    whisper.model.save_pretrained(part, state_dict=lora.merge(whisper.model, state))
    # BPE dropout in tokenizer.json would stay on in programs that read that file themselves.
    whisper.tokenizer.backend_tokenizer.model.dropout = None
    whisper.tokenizer.save_pretrained(part)
    WhisperProcessor(whisper.feature_extractor, whisper.tokenizer).save_pretrained(part)
    _rename_special_tokens(part / "tokenizer_config.json")
    # The processor writes processor_config.json only; converters look for this file.
    whisper.feature_extractor.save_pretrained(part)
    replace_folder(part, folder)


def _rename_special_tokens(path: Path) -> None:
    """Call them what transformers 4 does, which fails at the name that 5 writes; 5 reads both."""
    config = json.loads(path.read_text(encoding="utf-8"))
    if "extra_special_tokens" in config:
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
        path.write_text(json.dumps(config, ensure_ascii=False, indent=2), encoding="utf-8")


def copy_with(whisper: Whisper, state: dict[str, Tensor], device: torch.device) -> Whisper:
    """A model of its own with the given weights, without LoRA, on a device."""
    model = type(whisper.model)(whisper.model.config)
    model.load_state_dict(lora.merge(whisper.model, state), strict=False)
    model.tie_weights()
    model.generation_config = whisper.model.generation_config
    model.to(device, dtype=next(iter(state.values())).dtype)
    return replace(whisper, model=model)


def replace_folder(part: Path, folder: Path) -> None:
    """Put a finished folder in its place; the one that was there is removed after that."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _complete_generation_config(model: Any, vocabulary: Vocabulary) -> None:
    """What `generate` and converters need and older or self-made checkpoints lack."""
    config = model.generation_config
    config.is_multilingual = True
    config.lang_to_id = {f"<|{code}|>": token for code, token in vocabulary.languages.items()}
    config.task_to_id = {
        "transcribe": vocabulary.transcribe,
        **(getattr(config, "task_to_id", None) or {}),
    }
    config.no_timestamps_token_id = vocabulary.no_timestamps
    config.decoder_start_token_id = vocabulary.start
    config.eos_token_id = vocabulary.end
    config.forced_decoder_ids = None
    model.config.forced_decoder_ids = None
    if getattr(config, "alignment_heads", None) is None:
        # Whisper's own fallback: every head of the upper half of the decoder.
        layers, heads = model.config.decoder_layers, model.config.decoder_attention_heads
        upper_half = range(layers // 2, layers)
        config.alignment_heads = [[layer, head] for layer in upper_half for head in range(heads)]
    # Of a self-made vocabulary, the library's default names tokens of another: CTranslate2 would
    # write beyond its memory for them.
    for name in ("suppress_tokens", "begin_suppress_tokens"):
        if tokens := getattr(config, name, None):
            setattr(config, name, [token for token in tokens if token < model.config.vocab_size])
    # Marked as derived from the model's config, it would be derived again when loaded, and all of
    # the above be lost.
    config._from_model_config = False
