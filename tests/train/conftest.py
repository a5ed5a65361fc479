"""A tiny random Whisper and a small dataset of tones, real in everything but what they say."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus.dataset import LabelledSegment, Row, window_row, write_dataset

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "zero"]
SAMPLE_RATE = 16_000


def build_tokenizer() -> Any:
    """Whisper's layout of tokens over a byte-level BPE of a few hundred tokens."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import AddedToken, WhisperTokenizer

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator([f" {word}" for word in WORDS] * 3, vocab_size=320)
    trained = json.loads(bpe.to_str())["model"]
    # By the empty token CTranslate2 knows a multilingual vocabulary.
    vocabulary = {token: i for i, token in enumerate([*trained["vocab"], "", "<|endoftext|>"])}
    tokenizer = WhisperTokenizer(
        vocab=vocabulary, merges=[tuple(pair) for pair in trained["merges"]]
    )
    names = ["startoftranscript", "en", "cs", "zh", "translate", "transcribe", "startoflm"]
    names += ["startofprev", "nospeech", "notimestamps"]
    tokenizer.add_special_tokens({"extra_special_tokens": [f"<|{name}|>" for name in names]})
    tokenizer.add_tokens(
        [AddedToken(f"<|{tick * 0.02:.2f}|>", normalized=False) for tick in range(1501)]
    )
    return tokenizer


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Sums depend on the number of threads; exact comparisons must not."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The tiny model's tokenizer."""
    return build_tokenizer()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """Folder of a Whisper of width 64 with 2 + 2 layers and random weights."""
    import torch
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    torch.manual_seed(0)
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(tokenizer),
            d_model=64,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=128,
            decoder_ffn_dim=128,
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=end,
            decoder_start_token_id=tokenizer.convert_tokens_to_ids("<|startoftranscript|>"),
        )
    )
    # The library's N(0, 0.02) is made for widths from 384 on; at 64 no audio would get through.
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv1d):
            torch.nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, torch.nn.Linear) and name != "proj_out":
            torch.nn.init.xavier_uniform_(module.weight)
    with torch.no_grad():
        model.model.decoder.embed_tokens.weight.normal_(0, 0.1)
        model.model.decoder.embed_positions.weight.normal_(0, 0.1)
        model.model.encoder.embed_positions.weight.mul_(0.3)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    return folder


def spoken(chance: random.Random, number: int) -> LabelledSegment:
    """One to four 'words', each a tone of 0.3 s, that begin and end off the grid."""
    words = chance.choices(WORDS, k=chance.randint(1, 4))
    time = np.arange(int(0.3 * SAMPLE_RATE) + chance.randint(0, 99)) / SAMPLE_RATE
    tones = [np.sin(2 * np.pi * 200 * (1 + WORDS.index(word)) * time) for word in words]
    return LabelledSegment(
        pcm=(8000 * np.concatenate(tones)).astype(np.int16),
        text=" ".join(words),
        speaker=f"speaker-{number % 3}",
        source="tones" if number % 2 else "beeps",
        segment_id=f"segment-{number}",
        licence="CC0-1.0",
        label_kind="release",
        redistributable=True,
    )


@pytest.fixture(scope="session")
def spoken_segments() -> list[LabelledSegment]:
    """64 segments of tones."""
    chance = random.Random(0)
    return [spoken(chance, number) for number in range(64)]


@pytest.fixture(scope="session")
def dataset(
    tmp_path_factory: pytest.TempPathFactory, spoken_segments: list[LabelledSegment]
) -> Path:
    """A dataset: train windows of one to four segments, single segments in dev and test."""
    segments = spoken_segments

    def train() -> Iterator[Row]:
        for number, start in enumerate(range(0, 40, 4)):
            yield window_row(
                f"window-{number}",
                segments[start : start + 1 + number % 4],
                language="en",
                previous_text="zero one two" if number % 5 == 0 else None,
            )

    def single(first: int, last: int) -> Iterator[Row]:
        for number in range(first, last):
            yield window_row(f"row-{number}", [segments[number]], language="en")

    folder = tmp_path_factory.mktemp("ws") / "datasets" / "tones"
    write_dataset(
        folder,
        {"train": train(), "dev": single(50, 52), "test": single(52, 56)},
        readme="",
        attribution="",
        manifest={},
    )
    return folder


WHISPER_END = 50_257
"""The id of <|endoftext|> in the vocabulary of all multilingual Whispers: 51,865 tokens in v2."""


@pytest.fixture(scope="session")
def whisper_sized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's small Whisper, which knows its words, in a vocabulary as large as Whisper's.

    Its tokens keep their ids and the control tokens have Whisper's; the others are pairs of bytes
    that it never writes.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import (
        AddedToken,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

    small = Path(__file__).parents[2] / "demo" / "model"
    trained = json.loads((small / "tokenizer.json").read_text())
    base = sorted(trained["model"]["vocab"], key=trained["model"]["vocab"].get)
    own_end = trained["model"]["vocab"].get("<|endoftext|>", len(base))
    known = [token for token in base[:own_end] if token]
    words = len(known)
    letters = ByteLevel.alphabet()
    merges = [tuple(pair) for pair in trained["model"]["merges"]]
    taken = set(known)
    spare = ((a, b) for a in sorted(letters) for b in sorted(letters) if a + b not in taken)
    while len(known) < WHISPER_END - 1:
        pair = next(spare)
        known.append("".join(pair))
        merges.append(pair)
    vocabulary = {token: i for i, token in enumerate([*known, "", "<|endoftext|>"])}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=merges)
    special = sorted(
        (token["id"], token["content"])
        for token in trained["added_tokens"]
        if token["id"] > own_end
    )
    names = [name for _, name in special if not name[2:3].isdecimal()]
    tokenizer.add_special_tokens({"extra_special_tokens": names})
    tokenizer.add_tokens(
        [AddedToken(name, normalized=False) for _, name in special if name[2:3].isdecimal()]
    )
    model = WhisperForConditionalGeneration.from_pretrained(small)
    config = WhisperConfig.from_pretrained(small)
    config.vocab_size = len(tokenizer)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config, name, WHISPER_END)
    config.decoder_start_token_id = WHISPER_END + 1
    config.begin_suppress_tokens = [220, WHISPER_END]  # a space, and nothing at all
    sized = WhisperForConditionalGeneration(config)
    weights = model.state_dict()
    old = weights.pop("model.decoder.embed_tokens.weight")
    weights.pop("proj_out.weight", None)
    # Those that it never writes are as unlikely as <|startoflm|>.
    unlikely = dict((name, i) for i, name in special)["<|startoflm|>"]
    new = old[unlikely].repeat(len(tokenizer), 1)
    new[:words] = old[:words]
    new[WHISPER_END:] = old[own_end:]
    weights["model.decoder.embed_tokens.weight"] = new
    weights["proj_out.weight"] = new
    sized.load_state_dict(weights)
    folder = tmp_path_factory.mktemp("models") / "sized"
    sized.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor.from_pretrained(small).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def spoken_digits() -> np.ndarray:
    """A synthetic voice that the small Whisper understands: int16 [samples]."""
    from demo.voices import DEMO_VOICES, recorded, utter

    return recorded(utter("call number five", DEMO_VOICES[0]).pcm, np.random.default_rng(0))
