"""Labelling short clips in batches: beside faster-whisper, bare CTranslate2 and separate passes.

The clips are synthetic sentences of 1.5 to 5 s, each a FLAC file, with their text as a subtitle to
be aligned. What stands beside each other ran in the same process on the same clips:

- all of `corpus label` but the catalogue, reading included, and faster-whisper's batched pipeline,
  a file at a time: asked for the same (language, beam 5, words), and for text in a given language
  alone, without voice activity detection: the least that it can do;
- the model's work on batches that are read already, and CTranslate2's `generate` on the same
  spectrograms: what language, no-speech, words and the subtitle's times add to the text alone;
- one encoder pass for all of it, and transcription and alignment one after the other.

`--shape tiny` or `base` takes a network of that size with random weights in place of the small
Whisper, which writes the same dozen tokens for any audio: the work of a real model, not its text.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks import Figure
from corpus.audio import SAMPLE_RATE
from corpus.engine import batches
from corpus.label import Job, Labelled, LabelWorker, read_window
from corpus.models import find_model
from corpus.whisper import BEAM_SIZE, MAX_CONTEXT, Whisper
from corpus.workspace import init_workspace
from demo.voices import BASE_VOICES, sentences, speak

MODEL = Path(__file__).parents[1] / "demo" / "model"
SHAPES = {"tiny": (384, 4, 6), "base": (512, 6, 8), "small": (768, 12, 12)}
"""Width, layers of encoder and of decoder, heads (Radford et al. 2022, table 1)."""
VOCABULARY = 51_865
PROMPT = 4  # tokens: start, language, task, no timestamps
WRITTEN = range(300, 312)  # tokens that a network of random weights writes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clips", type=int, default=200, metavar="N")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=2, help="the fastest counts")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compute-type", default="default")
    parser.add_argument("--shape", choices=SHAPES, help="random weights instead of demo/model")


def measure(options: argparse.Namespace) -> list[Figure]:
    """Label the same clips in each way; clips per second, on a CPU of processor time."""
    with tempfile.TemporaryDirectory() as scratch:
        workspace = init_workspace(Path(scratch) / "workspace", "en")
        source = MODEL
        if options.shape:
            source = random_whisper(Path(scratch) / options.shape, SHAPES[options.shape], WRITTEN)
        path = find_model(workspace, str(source)).path
        jobs = write_clips(Path(scratch) / "clips", options.clips)
        ways = {**_file_by_file(path, jobs, options), **_prepared(path, jobs, options)}
        seconds = {name: float("inf") for name in ways}
        # Other programs take a processor's time away, but do not count as ours.
        clock = time.process_time if options.device == "cpu" else time.perf_counter
        for _ in range(options.repeats):
            for name, run in ways.items():  # in turn, so that a busy machine is busy for all
                begun = clock()
                run()
                seconds[name] = min(seconds[name], clock() - begun)
    rate = {name: options.clips / took for name, took in seconds.items()}

    def figure(name: str, beside: str) -> Figure:
        return Figure(name, rate[name], "clips/s", beside, rate[beside])

    return [
        figure("label", "faster-whisper, the same asked of it"),
        figure("label", "faster-whisper, text alone"),
        figure("label", "generate"),
        figure("one pass", "generate"),
        figure("one pass, no subtitles", "generate"),
        figure("one pass", "generate, then align"),
    ]


def _file_by_file(
    path: str, jobs: list[Job], options: argparse.Namespace
) -> dict[str, Callable[[], None]]:
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    worker = LabelWorker(path, "en", options.device, options.compute_type, options.batch_size)
    pipeline = BatchedInferencePipeline(
        WhisperModel(path, device=options.device, compute_type=options.compute_type)
    )

    def label() -> None:
        for _, results in worker.stream(batches(jobs, options.batch_size)):
            assert all(isinstance(result, Labelled) for result in results)

    def transcribe(**asked: Any) -> None:
        for job in jobs:
            found, _ = pipeline.transcribe(
                job.path, beam_size=BEAM_SIZE, batch_size=options.batch_size, **asked
            )
            list(found)

    return {
        "label": label,
        "faster-whisper, the same asked of it": lambda: transcribe(word_timestamps=True),
        "faster-whisper, text alone": lambda: transcribe(language="en", vad_filter=False),
    }


def _prepared(
    path: str, jobs: list[Job], options: argparse.Namespace
) -> dict[str, Callable[[], None]]:
    import ctranslate2

    whisper = Whisper(path, "en", device=options.device, compute_type=options.compute_type)
    read = list(batches([read_window(whisper, job) for job in jobs], options.batch_size))
    prompt = [*whisper.tokenizer.sot_sequence, whisper.tokenizer.no_timestamps]

    def each() -> Iterator[tuple[Any, list[Any]]]:
        for windows in read:
            stacked = np.stack([window.features for window in windows])
            yield ctranslate2.StorageView.from_array(stacked), windows

    def generate(features: Any, windows: list[Any]) -> None:
        whisper.model.generate(
            features, [prompt] * len(windows), beam_size=BEAM_SIZE,
            return_scores=True, return_no_speech_prob=True,
        )  # fmt: skip

    def align(features: Any, windows: list[Any]) -> None:
        texts = [whisper.tokenizer.encode(" " + window.text) for window in windows]
        frames = [round(window.seconds * 100) for window in windows]
        whisper.model.align(features, whisper.tokenizer.sot_sequence, texts, frames)

    def one_pass() -> None:
        for windows in read:
            whisper(windows)

    def without_subtitles() -> None:
        for windows in read:
            whisper([replace(window, text=None) for window in windows])

    def alone(*passes: Callable[[Any, list[Any]], None]) -> Callable[[], None]:
        def run() -> None:
            for features, windows in each():
                for one in passes:
                    one(features, windows)

        return run

    return {
        "one pass": one_pass,
        "one pass, no subtitles": without_subtitles,
        "generate": alone(generate),
        "generate, then align": alone(generate, align),
    }


def write_clips(folder: Path, count: int) -> list[Job]:
    """Sentences as FLAC files, each a job with its text."""
    folder.mkdir()
    rng = random.Random(0)
    jobs = []
    for number, text in enumerate(sentences(rng, count)):
        pcm = speak(text, rng.choice(BASE_VOICES))
        path = folder / f"{number}.flac"
        soundfile.write(path, pcm, SAMPLE_RATE)
        jobs.append(Job(path.stem, str(path), 0, pcm.size * 1000 // SAMPLE_RATE, number, text))
    return jobs


def random_whisper(folder: Path, shape: tuple[int, int, int], written: Sequence[int]) -> Path:
    """A Hugging Face folder with a network of random weights that writes the given tokens.

    Each position of the decoder adds the embedding of the token that is to follow, which so becomes
    the likeliest. Tokens that are no text have no embedding, and are never likely.
    """
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperForConditionalGeneration,
        WhisperProcessor,
    )

    width, layers, heads = shape
    processor = WhisperProcessor.from_pretrained(MODEL)
    end = processor.tokenizer.eos_token_id
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=VOCABULARY,
            d_model=width,
            encoder_layers=layers,
            decoder_layers=layers,
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            encoder_ffn_dim=4 * width,
            decoder_ffn_dim=4 * width,
            pad_token_id=end,
            bos_token_id=end,
            eos_token_id=end,
            decoder_start_token_id=end + 1,
        )
    )
    model.generation_config = GenerationConfig.from_pretrained(MODEL)
    decoder = model.model.decoder
    with torch.no_grad():
        decoder.embed_tokens.weight.normal_()
        decoder.embed_tokens.weight[end + 1 :] = 0.0
        following = [*written, *[end] * (MAX_CONTEXT - PROMPT + 1 - len(written))]
        pull = 50.0 * decoder.embed_tokens.weight[following]
        decoder.embed_positions.weight[PROMPT - 1 :] += pull
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    processor.feature_extractor.save_pretrained(folder)
    return folder
