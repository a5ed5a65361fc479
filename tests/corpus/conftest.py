"""Real speech of the synthesiser, the command line in this process, and talks on a video site."""

import hashlib
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sqlalchemy import select

from corpus.audio import SAMPLE_RATE, Pcm
from corpus.catalogue import (
    Catalogue,
    Failure,
    Recording,
    Score,
    Segment,
    Transcript,
    Verdict,
    segment_id,
)
from corpus.models import find_model
from corpus.workspace import Workspace, init_workspace
from demo.video_site import Video, VideoSite, encode_opus
from demo.voices import BASE_VOICES, speak

# Two threads on two cores that others use as well wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

MODEL = Path(__file__).parents[2] / "demo" / "model"
"""The small Whisper, where it has been made."""

PLAYLIST = "https://www.youtube.com/playlist?list=PLtalks"


@dataclass(frozen=True)
class Outcome:
    """What a command line did: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


Corpus = Callable[..., Outcome]


@pytest.fixture
def corpus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Corpus:
    """Run the `corpus` command line in this process, from its entry point to its exit code."""
    from corpus.cli import main

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["corpus", *(str(a) for a in arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


def recordings(catalogue: Catalogue) -> list[Recording]:
    """All recordings, by title."""
    with catalogue.session() as session:
        return list(session.scalars(select(Recording).order_by(Recording.title)))


def failures(catalogue: Catalogue) -> list[Failure]:
    """All failures, by item."""
    with catalogue.session() as session:
        return list(session.scalars(select(Failure).order_by(Failure.item)))


@lru_cache(maxsize=32)
def spoken(
    *sentences: str, pause: float = 0.7, voice: int = 0
) -> tuple[Pcm, list[tuple[int, int]]]:
    """Sentences with pauses (s) around them, and where each is, in milliseconds."""
    silence = np.zeros(int(pause * SAMPLE_RATE), np.int16)
    pieces, spans, position = [silence], [], silence.size
    for sentence in sentences:
        pcm = speak(sentence, BASE_VOICES[voice])
        spans.append((position * 1000 // SAMPLE_RATE, (position + pcm.size) * 1000 // SAMPLE_RATE))
        pieces += [pcm, silence]
        position += pcm.size + silence.size
    return np.concatenate(pieces), spans


def srt(sentences: list[str], spans: list[tuple[int, int]]) -> str:
    """A SubRip file with a cue for each sentence; times in milliseconds."""

    def stamp(ms: int) -> str:
        return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"

    return "\n".join(
        f"{number}\n{stamp(start)} --> {stamp(end)}\n{sentence}\n"
        for number, (sentence, (start, end)) in enumerate(
            zip(sentences, spans, strict=True), start=1
        )
    )


def write_speech(path: Path, *sentences: str, voice: int = 0, subtitles: bool = False) -> Path:
    """A WAV file of spoken sentences, with a .srt beside it if asked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pcm, spans = spoken(*sentences, voice=voice)
    soundfile.write(path, pcm, SAMPLE_RATE)
    if subtitles:
        path.with_suffix(".srt").write_text(srt(list(sentences), spans), encoding="utf-8")
    return path


def write_fleurs(folder: Path, splits: dict[str, list[str]]) -> Path:
    """A folder as FLEURS has it, with spoken sentences by split."""
    for split, sentences in splits.items():
        lines = []
        for number, sentence in enumerate(sentences, start=1):
            name = f"{zlib.crc32(f'{split}{number}'.encode())}.wav"
            path = write_speech(folder / "audio" / split / name, sentence)
            bare = sentence.lower().replace(".", "").replace(",", "")
            samples = str(soundfile.info(path).frames)
            lines.append(
                "\t".join([str(number), name, sentence, bare, " | ".join(bare), samples, "MALE"])
            )
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Parquet as the Hub has it: the column `audio` holds the bytes of audio files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    features = {name: {"dtype": "string", "_type": "Value"} for name in rows[0]}
    information = {"info": {"features": features | {"audio": {"_type": "Audio"}}}}
    table = pa.Table.from_pylist(rows)
    table = table.replace_schema_metadata({"huggingface": json.dumps(information)})
    pq.write_table(table, path)
    return path


AddRecording = Callable[..., list[str]]


@pytest.fixture
def add_recording(workspace: Workspace, catalogue: Catalogue) -> AddRecording:
    """Store a recording with segments end to end; returns the segments' ids.

    Each segment is given as a dict: `text`, `kind`, `seconds`, `scores`, `verdict`, `gap` (ms to
    the segment before). All of the audio is a low noise, another for each recording.
    """

    def add(name: str, segments: list[dict[str, Any]], **columns: Any) -> list[str]:
        rows, position = [], 0
        for wish in segments:
            start = position + wish.get("gap", 0)
            position = start + round(wish.get("seconds", 2.0) * 1000)
            row = Segment(id=segment_id(name, start, position), start_ms=start, end_ms=position)
            if "text" in wish:
                transcript = Transcript(
                    kind=wish.get("kind", "release"),
                    origin="test",
                    text=wish["text"],
                    scores=[Score(name=k, value=v) for k, v in wish.get("scores", {}).items()],
                )
                row.transcripts.append(transcript)
            rows.append(row)
        path = workspace.media / f"{name}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(zlib.crc32(name.encode())).normal(
            scale=300, size=position * 16
        )
        soundfile.write(path, noise.astype(np.int16), SAMPLE_RATE)
        columns = {
            "source": "files",
            "language": "en",
            "licence": "CC0-1.0",
            "redistributable": True,
            "segmented_with": "test",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            **columns,
        }
        with catalogue.session() as session:
            session.add(
                Recording(
                    id=name,
                    title=name,
                    licence_evidence={},
                    attribution=name,
                    media_path=str(path.relative_to(workspace.root)),
                    duration_ms=position,
                    segments=rows,
                    **columns,
                )
            )
            session.flush()
            for wish, row in zip(segments, rows, strict=True):
                if "verdict" in wish:
                    kept = row.transcripts[0].id if row.transcripts else None
                    row.verdict = Verdict(
                        verdict=wish["verdict"], reasons=[], transcript_id=kept, thresholds="t@0"
                    )
        return [row.id for row in rows]

    return add


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small Whisper as a CTranslate2 folder."""
    space = init_workspace(tmp_path_factory.mktemp("converted") / "workspace", "en")
    return Path(find_model(space, str(MODEL)).path)


SENTENCES = ("call room number five", "mother saw seven red boats", "please call nine two six")


@pytest.fixture(scope="session")
def talks(tmp_path_factory: pytest.TempPathFactory) -> list[Video]:
    """Videos of short talks: three to be taken, the others to be refused or retried."""
    folder = tmp_path_factory.mktemp("site")

    def video(name: str, voice: int, **changes: Any) -> Video:
        pcm, spans = spoken(*SENTENCES, voice=voice)
        path = folder / f"{name}.webm"
        encode_opus(pcm, path)
        values = {
            "automatic": "en",
            "subtitles": {"en": srt(list(SENTENCES), spans)},
            "channel": f"Channel {name}",
            "channel_id": f"UC{name:0<22}",
            "handle": f"@{name}",
            **changes,
        }
        return Video(name.ljust(11, "0"), f"Talk {name}", path, len(pcm) / SAMPLE_RATE, **values)

    return [
        video("first", 0),
        video("second", 1),
        video("bare", 2, subtitles={}),
        video("standard", 0, licence="standard"),
        video("private", 0, state="private"),
        video("deleted", 0, state="deleted"),
        video("live", 0, state="live"),
    ]


@pytest.fixture
def site(talks: list[Video], monkeypatch: pytest.MonkeyPatch) -> Iterator[VideoSite]:
    """The talks on a loopback site, in one playlist."""
    monkeypatch.setenv("YTDLP_NO_PLUGINS", "1")
    with VideoSite(talks, {"PLtalks": [video.id for video in talks]}) as site:
        yield site


def fetch_arguments(site: VideoSite, workspace: Path, *more: object) -> list[object]:
    """`corpus fetch` of the playlist from the site on loopback."""
    return [
        *("fetch", PLAYLIST, "--license", "cc", "--proxy", site.proxy_url),
        *("--no-check-certificate", "--no-sleep", "--workspace", workspace, *more),
    ]
