"""Decoding Opus to 16 kHz mono FLAC: speed on one core, and peak memory.

Beside `corpus.audio.decode_to_flac` stand the ffmpeg program, and pydub, which calls it. Each runs
in a process of its own, and its CPU seconds are those of its children as well. The file is made
here: 48 kHz stereo, as video sites serve it, of the synthesiser's speech.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import Figure
from benchmarks._common import peak_mib, spent_by
from corpus.console import say

SPEED_GOAL = 80.0
"""Times real time, in one core's seconds."""
MEMORY_LIMIT_MIB = 100.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The length of the audio."""
    parser.add_argument("--minutes", type=float, default=30.0, help="length of the audio")


def measure(options: argparse.Namespace) -> list[Figure]:
    """Decode the same file in each way, one after the other."""
    seconds = options.minutes * 60
    ways = ["corpus", "ffmpeg", "pydub"]
    if shutil.which("ffmpeg") is None:
        say("ffmpeg is not installed, so it and pydub are left out; apt-get install ffmpeg")
        ways = ways[:1]
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "talk.webm"
        write_talk(source, seconds)
        spent = {
            way: spent_by("decoding", way, source, Path(scratch) / f"{way}.flac") for way in ways
        }
    speed = {way: seconds / used["cpu_s"] for way, used in spent.items()}
    memory = {way: used["peak_mib"] for way, used in spent.items()}
    figures = [
        Figure("speed", speed["corpus"], "x real time", "goal", SPEED_GOAL),
        Figure("peak memory", memory["corpus"], "MiB", "limit", MEMORY_LIMIT_MIB),
    ]
    for way in ways[1:]:
        figures += [
            Figure("speed", speed["corpus"], "x real time", way, speed[way]),
            Figure("peak memory", memory["corpus"], "MiB", way, memory[way]),
        ]
    return figures


def write_talk(path: Path, seconds: float) -> None:
    """Speech as Opus, 48 kHz stereo, 96 kb/s."""
    import av
    import numpy as np

    from demo.voices import BASE_VOICES, speak

    talk = np.concatenate([speak("mother saw seven red boats", voice) for voice in BASE_VOICES])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libopus", rate=48_000, layout="stereo")
        stream.bit_rate = 96_000
        resampler = av.AudioResampler(format="flt", layout="stereo", rate=48_000)
        for start in range(0, round(seconds * 16_000), 16_000):
            stop = min(start + 16_000, round(seconds * 16_000))
            piece = talk[np.arange(start, stop) % talk.size]
            frame = av.AudioFrame.from_ndarray(piece[np.newaxis], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16_000, start
            for resampled in resampler.resample(frame):
                container.mux(stream.encode(resampled))
        for resampled in resampler.resample(None):
            container.mux(stream.encode(resampled))
        container.mux(stream.encode(None))


def _decode(way: str, source: str, target: str) -> None:
    if way == "corpus":
        from corpus.audio import decode_to_flac

        decode_to_flac(Path(source), Path(target))
    elif way == "ffmpeg":
        mono = ["-ac", "1", "-ar", "16000", "-c:a", "flac"]
        subprocess.run(["ffmpeg", "-v", "error", "-i", source, *mono, target], check=True)
    else:
        from pydub import AudioSegment

        audio = AudioSegment.from_file(source).set_frame_rate(16_000).set_channels(1)
        audio.export(target, format="flac")


def _cpu_seconds() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


if __name__ == "__main__":
    _decode(*sys.argv[1:])
    print(json.dumps({"cpu_s": _cpu_seconds(), "peak_mib": peak_mib()}))
