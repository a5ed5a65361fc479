"""What the demo collects: talks on a video site, and a release in the shape of Common Voice.

Everything is spoken by a synthesiser, so everything that was said is known to the word. That lets
the demo play the reviewer honestly, by listening to the script instead of to the speakers.
"""

import csv
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pysrt
import soundfile

from demo.video_site import Video, encode_opus
from demo.voices import DEMO_VOICES, SAMPLE_RATE, Span, Voice, recorded, sentences, utter

PLAYLIST = "PLdemo0000000000000000"
TALK_SENTENCES = 36
TALKERS = 3
"""Speakers of the talks, each with a channel of its own; the release has others."""
CLIPS_PER_SPEAKER = {"train": 40, "dev": 24, "test": 60}

BREATH_SECONDS = (0.35, 0.8)
"""Pause between two sentences."""
PARAGRAPH_SECONDS = (2.2, 2.8)
"""Pause after every few sentences: long enough to end a segment."""

SUBTITLED, SILENT, TRANSLATED = "subtitled", "unsubtitled", "translated"

RELEASE_COLUMNS = (
    "client_id path sentence_id sentence sentence_domain up_votes down_votes "
    "age gender accents variant locale segment"
)


@dataclass(frozen=True)
class Talk:
    """A recording and its script: sentences, and words with their times in seconds."""

    pcm: np.ndarray
    cues: list[Span]
    words: list[Span]

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.pcm) / SAMPLE_RATE

    def said_between(self, start: float, end: float) -> str:
        """The words whose middle lies in a stretch (seconds)."""
        return " ".join(w.text for w in self.words if start <= (w.start + w.end) / 2 < end)

    def srt(self) -> str:
        """One cue for each sentence."""
        items = [
            pysrt.SubRipItem(
                index=index,
                start=pysrt.SubRipTime.from_ordinal(round(cue.start * 1000)),
                end=pysrt.SubRipTime.from_ordinal(round(cue.end * 1000)),
                text=cue.text,
            )
            for index, cue in enumerate(self.cues, start=1)
        ]
        return "\n".join(str(item) for item in items)


def make_talk(voice: Voice, seed: int) -> Talk:
    """A talk of a minute and a half or two: sentences with pauses, as a microphone heard them."""
    rng = random.Random(seed)
    pieces: list[np.ndarray] = []
    cues: list[Span] = []
    words: list[Span] = []
    position = 0.0

    def append(pcm: np.ndarray) -> None:
        nonlocal position
        pieces.append(pcm)
        position += len(pcm) / SAMPLE_RATE

    append(_silence(rng.uniform(*BREATH_SECONDS)))
    for number, sentence in enumerate(sentences(rng, TALK_SENTENCES), start=1):
        spoken = utter(sentence, voice)
        words += [Span(w.text, position + w.start, position + w.end) for w in spoken.words]
        cues.append(Span(sentence, position, position + spoken.seconds))
        append(spoken.pcm)
        pause = PARAGRAPH_SECONDS if number % 3 == 0 else BREATH_SECONDS
        append(_silence(rng.uniform(*pause)))
    return Talk(recorded(np.concatenate(pieces), np.random.default_rng(seed)), cues, words)


def _silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * SAMPLE_RATE), np.int16)


def make_videos(folder: Path) -> tuple[list[Video], dict[str, Talk]]:
    """The site's videos, and the talks in them by video id.

    Four have human subtitles, two have none; the others are what a collector must refuse or must
    not believe: a standard licence, a private video, automatic captions only, a translation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kinds = [SUBTITLED] * 4 + [SILENT] * 2 + ["automatic", TRANSLATED, "standard", "private"]
    videos, talks = [], {}
    for number, kind in enumerate(kinds):
        name = f"demo{number:02d}video"
        talk = make_talk(DEMO_VOICES[number % TALKERS], seed=100 + number)
        path = folder / f"{name}.webm"
        if not path.exists():
            part = path.with_name(f".{path.name}")
            encode_opus(talk.pcm, part)
            part.rename(path)
        talks[name] = talk
        human = {SUBTITLED: {"en": talk.srt()}, TRANSLATED: {"cs": talk.srt()}}.get(kind, {})
        videos.append(
            Video(
                id=name,
                title=f"Counting things, part {number + 1}",
                audio=path,
                duration_s=talk.seconds,
                licence="standard" if kind == "standard" else "cc",
                subtitles=human,
                automatic=None if kind == SILENT else "en",
                channel=f"Counting {number % TALKERS}",
                channel_id=f"UCdemo{number % TALKERS:018d}",
                handle=f"@counting{number % TALKERS}",
                state="private" if kind == "private" else "public",
            )
        )
    return videos, talks


def make_release(folder: Path) -> Path:
    """A release folder in the shape of Common Voice, one synthetic speaker for each split.

    The test split's speaker is heard nowhere else.
    """
    release = folder / "cv-corpus-demo" / "en"
    clips = release / "clips"
    clips.mkdir(parents=True, exist_ok=True)
    durations: list[tuple[str, int]] = []
    validated: list[dict[str, str]] = []
    for number, (split, count) in enumerate(CLIPS_PER_SPEAKER.items()):
        voice = DEMO_VOICES[TALKERS + number]
        noise = np.random.default_rng(number)
        rows = []
        for index, sentence in enumerate(sentences(random.Random(number), count)):
            name = f"common_voice_en_{number}{index:05d}.mp3"
            pcm = recorded(utter(sentence, voice).pcm, noise)
            soundfile.write(clips / name, pcm, SAMPLE_RATE, format="MP3")
            durations.append((name, len(pcm) * 1000 // SAMPLE_RATE))
            row = dict.fromkeys(RELEASE_COLUMNS.split(), "")
            row |= {"client_id": voice.name, "path": name, "sentence": sentence, "locale": "en"}
            rows.append(row | {"up_votes": "2", "down_votes": "0"})
        validated += rows
        _write_tsv(release / f"{split}.tsv", rows)
    _write_tsv(release / "validated.tsv", validated)
    _write_tsv(
        release / "clip_durations.tsv",
        [{"clip": name, "duration[ms]": str(ms)} for name, ms in durations],
    )
    return release


def _write_tsv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), delimiter="\t", quoting=csv.QUOTE_NONE)
        writer.writeheader()
        writer.writerows(rows)
