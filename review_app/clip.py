"""The sound of one segment as the browser takes it: a small FLAC file.

It comes from the decoded recording on request and is kept in memory for a while; nothing is written
to disk.
"""

from functools import lru_cache
from pathlib import Path

from corpus import audio, pieces


@lru_cache(maxsize=32)  # 30 s of FLAC are about 0.5 MB
def cut(path: Path, start_ms: int, end_ms: int) -> bytes:
    """Cut a segment out of its recording, as FLAC (16 kHz mono).

    Raises:
        MediaError: the recording's file is missing or is no audio.
    """
    pcm = pieces.levelled(audio.read_span(path, start_ms, end_ms))  # as loud as every other
    return audio.encode_flac(pcm)
