"""The file of whisper.cpp: `whisper-cli -m ggml-model.bin`.

A header of eleven numbers, the mel filters, the vocabulary as bytes, and the tensors, each with its
dimensions, name and type: as whisper.cpp's `models/convert-h5-to-ggml.py` writes it and its
`whisper_model_load` reads it. It is little-endian, all numbers of 32 bits.
"""

import importlib.util
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from corpus import console
from corpus.audio import SAMPLE_RATE
from corpus.errors import UserError
from train import model as models
from train.export.openai import check_vocabulary, dimensions, tensors

MAGIC = 0x67676D6C  # "ggml"

WIDE, HALF = 0, 1
TYPES = {WIDE: np.dtype("<f4"), HALF: np.dtype("<f2")}
"""By their numbers in the file. Matrices are of 16 bits: whisper.cpp 1.8.5 ends where its
convolutions are wider. Smaller ones are made of this file by its own `quantize`."""

COLUMNS = ("encoder.conv1.bias", "encoder.conv2.bias")
"""Read as columns: [n, 1]."""

WIDE_TENSORS = (*COLUMNS, "encoder.positional_embedding", "decoder.positional_embedding")
"""And all vectors: whisper.cpp adds them to activations of 32 bits."""


@dataclass(frozen=True)
class File:
    """What a ggml file holds.

    Attributes:
        header: the numbers after the magic one, in their order.
        filters: float32 [mels, 201].
        tokens: the bytes of each token before <|endoftext|>; programs know the others.
        tensors: by openai/whisper's names.
    """

    header: tuple[int, ...]
    filters: np.ndarray
    tokens: list[bytes]
    tensors: dict[str, np.ndarray]


def write(whisper: models.Whisper, path: Path) -> None:
    """Write the file, read it again, and let whisper.cpp transcribe where pywhispercpp has it.

    Raises:
        UserError: the model has a vocabulary of its own.
    """
    check_vocabulary(whisper)
    content = _content(whisper)
    with path.open("wb") as file:
        _write(content, file)
    found = read(path)
    if (found.header, found.tokens) != (content.header, content.tokens) or any(
        not np.array_equal(found.tensors[name], tensor) for name, tensor in content.tensors.items()
    ):
        raise ValueError("what was written is not what is read")
    if importlib.util.find_spec("pywhispercpp"):
        transcribe_a_second(path)
    else:
        console.say(
            "note: pywhispercpp is not installed here, so whisper.cpp has not tried the file"
        )


def transcribe_a_second(path: Path) -> None:
    """Load the file with whisper.cpp and let it transcribe noise."""
    from pywhispercpp.model import Model

    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    Model(str(path), redirect_whispercpp_logs_to=None, n_threads=1).transcribe(noise)


def _content(whisper: models.Whisper) -> File:
    sizes = dimensions(whisper)
    header = (
        sizes["n_vocab"],
        *(sizes[f"n_audio_{name}"] for name in ("ctx", "state", "head", "layer")),
        *(sizes[f"n_text_{name}"] for name in ("ctx", "state", "head", "layer")),
        sizes["n_mels"],
        HALF,
    )
    filters = np.asarray(whisper.feature_extractor.mel_filters, "<f4").T
    return File(header, filters, _tokens(whisper), dict(_arrays(whisper)))


def _tokens(whisper: models.Whisper) -> list[bytes]:
    """A byte-level vocabulary writes each byte as a letter of its own."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte_of = {letter: byte for byte, letter in bytes_to_unicode().items()}
    end = whisper.vocabulary.end
    tokens = sorted((i, token) for token, i in whisper.tokenizer.get_vocab().items() if i < end)
    if len(tokens) != end:
        raise UserError("the tokenizer lacks tokens; give the model its original tokenizer.json")
    return [bytes(byte_of[letter] for letter in token) for _, token in tokens]


def _arrays(whisper: models.Whisper) -> Iterator[tuple[str, np.ndarray]]:
    for name, tensor in tensors(whisper).items():
        array = tensor.float().numpy()
        wide = array.ndim < 2 or name in WIDE_TENSORS
        array = array.astype(TYPES[WIDE if wide else HALF])
        yield name, array.reshape(-1, 1) if name in COLUMNS else array


def _write(content: File, file: BinaryIO) -> None:
    def numbers(*values: int) -> None:
        file.write(struct.pack(f"<{len(values)}i", *values))

    numbers(MAGIC, *content.header, *content.filters.shape)
    file.write(np.ascontiguousarray(content.filters).data)
    numbers(len(content.tokens))
    for token in content.tokens:
        numbers(len(token))
        file.write(token)
    for name, array in content.tensors.items():
        kind = next(number for number, dtype in TYPES.items() if dtype == array.dtype)
        numbers(array.ndim, len(name), kind, *reversed(array.shape))
        file.write(name.encode("ascii"))
        file.write(np.ascontiguousarray(array).data)


def read(path: Path) -> File:
    """Read a file of whisper.cpp's.

    Raises:
        ValueError: it is none.
    """
    with path.open("rb") as file:

        def numbers(count: int) -> tuple[int, ...]:
            return struct.unpack(f"<{count}i", file.read(4 * count))

        def array(dtype: Any, *shape: int) -> np.ndarray:
            size = dtype.itemsize * int(np.prod(shape))
            return np.frombuffer(file.read(size), dtype).reshape(shape)

        if numbers(1) != (MAGIC,):
            raise ValueError(f"{path} is no ggml file")
        header = numbers(11)
        filters = array(TYPES[WIDE], *numbers(2))
        tokens = [file.read(*numbers(1)) for _ in range(*numbers(1))]
        found = {}
        while start := file.read(4):
            (dimensions,) = struct.unpack("<i", start)
            length, kind = numbers(2)
            shape = tuple(reversed(numbers(dimensions)))
            name = file.read(length).decode("ascii")
            found[name] = array(TYPES[kind], *shape)
        return File(header, filters, tokens, found)
