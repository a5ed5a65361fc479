"""Kaldi: a data folder for each split; a row is a recording, its segments are the utterances.

Kaldi's tools join sorted files, and want them sorted the same by utterance and by speaker. So an
utterance's id begins with its speaker's and a hyphen, and a speaker's id has no character that
sorts before the hyphen.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import soundfile

from corpus.audio import SAMPLE_RATE, decode
from corpus.dataset import RowSegment
from corpus.export.rows import NamedRow

_UNSAFE = re.compile(r"[^0-9A-Za-z._:@]")


def write_split(folder: Path, split: str, rows: Iterable[NamedRow], home: Path) -> None:
    """Write `SPLIT/` with Kaldi's tables, and `wav/NAME.wav`; times are in seconds.

    Kaldi looks for relative paths from the current folder, so those in `wav.scp` are whole ones.
    """
    (folder / "wav").mkdir(exist_ok=True)
    tables: dict[str, dict[str, str]] = defaultdict(dict)
    spoken: dict[str, list[str]] = defaultdict(list)
    for name, row in rows:
        wav = f"wav/{name}.wav"
        soundfile.write(folder / wav, decode(row["audio"]["bytes"]), SAMPLE_RATE, "PCM_16")
        tables["wav.scp"][name] = str(home / wav)
        tables["reco2dur"][name] = f"{row['duration']:.2f}"
        for number, segment in enumerate(row["segments"]):
            speaker = speaker_id(segment)
            utterance = f"{speaker}-{name}-{number:03d}"
            tables["segments"][utterance] = f"{name} {segment['start']:.2f} {segment['end']:.2f}"
            tables["text"][utterance] = " ".join(segment["text"].split())
            tables["utt2spk"][utterance] = speaker
            tables["utt2lang"][utterance] = row["language"]
            spoken[speaker].append(utterance)
    tables["spk2utt"] = {speaker: " ".join(sorted(said)) for speaker, said in spoken.items()}
    (folder / split).mkdir()
    for table, lines in tables.items():
        # Code points sort as the bytes of UTF-8 do, which is the order of LC_ALL=C.
        text = "".join(f"{key} {lines[key]}\n" for key in sorted(lines))
        (folder / split / table).write_text(text, encoding="utf-8")


def speaker_id(segment: RowSegment) -> str:
    """The speaker of a segment, where none is known its recording, as Kaldi can sort it.

    Other characters than letters, digits and ``._:@`` become ``=`` and the hexadecimal numbers of
    their bytes, so that no two speakers become one.
    """
    speaker = segment["speaker"] or segment["segment_id"].rpartition("@")[0]
    return _UNSAFE.sub(lambda m: "".join(f"={byte:02X}" for byte in m[0].encode()), speaker)
