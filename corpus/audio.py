"""One decoder for all media: 16 kHz mono 16-bit PCM on a true timeline comes out.

Subtitles are timed against the player's clock, so every decoded frame is placed at its own
timestamp. Audio that starts late, or that has a hole where packets are corrupt, is filled with
silence instead of pulling everything after it forward. Decoding streams at constant memory and
needs no ffmpeg program: PyAV brings the libraries.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from corpus.errors import ItemError, UserError

SAMPLE_RATE = 16_000
"""Hz; what Whisper's log-mel front end takes."""

MAX_DRIFT_SAMPLES = int(0.04 * SAMPLE_RATE)
"""A frame this far from where the timeline has got to is moved; less is rounding of timestamps."""

MAX_HOLE_SECONDS = 3600.0
"""A longer jump of timestamps is a broken file, not a pause."""

Pcm = np.ndarray[Any, np.dtype[np.int16]]


class MediaError(ItemError):
    """The file is no audio, or too broken to trust its timeline."""


@dataclass(frozen=True)
class AudioInfo:
    """What decoding found out about a file."""

    samples: int
    bad_packets: int
    filled_samples: int

    @property
    def duration_ms(self) -> int:
        """Length of the decoded audio in milliseconds."""
        return self.samples * 1000 // SAMPLE_RATE


class _Decoder:
    """Iterate over int16 chunks of a file at 16 kHz mono; the counters are final afterwards."""

    def __init__(self, source: Path | bytes) -> None:
        self.source = source
        self.samples = 0
        self.bad_packets = 0
        self.filled_samples = 0

    @property
    def info(self) -> AudioInfo:
        return AudioInfo(self.samples, self.bad_packets, self.filled_samples)

    @property
    def name(self) -> str:
        return self.source.name if isinstance(self.source, Path) else "audio"

    def __iter__(self) -> Iterator[Pcm]:
        import av

        readable = str(self.source) if isinstance(self.source, Path) else io.BytesIO(self.source)
        try:
            with av.open(readable, mode="r", metadata_errors="ignore") as container:
                if not container.streams.audio:
                    raise MediaError(f"{self.name}: no audio stream; give a file with sound")
                for chunk in self._place(container, container.streams.audio[0]):
                    self.samples += chunk.size
                    yield chunk
        except (av.error.FFmpegError, ValueError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise MediaError(f"{self.name}: not readable as audio ({reason})") from error
        if self.samples == 0:
            raise MediaError(f"{self.name}: no audio could be decoded; the file is empty or broken")
        if self.bad_packets and 2 * self.filled_samples > self.samples:
            raise MediaError(f"{self.name}: more than half of the audio is corrupt")

    def _place(self, container: Any, stream: Any) -> Iterator[Pcm]:
        # Transport streams start at an arbitrary clock value; files start at zero.
        is_transport = "mpegts" in container.format.name
        origin = (container.start_time or 0) / 1e6 if is_transport else 0.0
        resampler, shape = _new_resampler(), None
        position = 0.0  # of the next sample in the output, resampler delay included
        for frame in self._frames(container, stream):
            start = (frame.time - origin) * SAMPLE_RATE if frame.time is not None else position
            length = frame.samples * SAMPLE_RATE / frame.sample_rate
            if start - position > MAX_DRIFT_SAMPLES:
                if start - position > MAX_HOLE_SECONDS * SAMPLE_RATE:
                    raise MediaError(f"{self.name}: timestamps jump by more than an hour")
                yield from _drain(resampler)
                resampler = _new_resampler()
                hole = round(start) - self.samples
                self.filled_samples += hole
                for offset in range(0, hole, SAMPLE_RATE):
                    yield np.zeros(min(SAMPLE_RATE, hole - offset), np.int16)
                position = start
            elif position - start > max(MAX_DRIFT_SAMPLES, length):
                continue  # already written: a repeated or rewound packet
            if shape not in {None, _shape(frame)}:  # files joined end to end, broadcasts
                yield from _drain(resampler)
                resampler = _new_resampler()
            shape = _shape(frame)
            yield from _arrays(resampler.resample(frame))
            position += length
        yield from _drain(resampler)

    def _frames(self, container: Any, stream: Any) -> Iterator[Any]:
        import av

        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.InvalidDataError:
                self.bad_packets += 1  # the container itself is cut or corrupt from here on
                return
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                self.bad_packets += 1


def _new_resampler() -> Any:
    import av

    return av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)


def _shape(frame: Any) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _arrays(frames: list[Any]) -> Iterator[Pcm]:
    for frame in frames:
        yield frame.to_ndarray().reshape(-1)


def _drain(resampler: Any) -> Iterator[Pcm]:
    yield from _arrays(resampler.resample(None))


def decode(source: Path | bytes) -> Pcm:
    """Decode a small file, or its bytes, whole.

    Returns:
        int16 PCM [samples] at 16 kHz.

    Raises:
        MediaError: no audio stream, or nothing decodable.
    """
    return np.concatenate(list(_Decoder(source)))


def decode_to_flac(source: Path, target: Path) -> AudioInfo:
    """Decode any media file to a 16 kHz mono FLAC file that appears whole or not at all.

    Raises:
        MediaError: no audio stream, nothing decodable, or timestamps beyond reason.
        UserError: the target cannot be written.
    """
    import soundfile

    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    decoder = _Decoder(source)
    try:
        with soundfile.SoundFile(
            part, "w", SAMPLE_RATE, channels=1, format="FLAC", subtype="PCM_16"
        ) as flac:
            for chunk in decoder:
                flac.write(chunk)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        if soundfile.info(part).frames != decoder.samples:
            raise MediaError(f"{source.name}: the decoded copy is shorter than its source")
        part.replace(target)
    except soundfile.LibsndfileError as error:
        raise UserError(f"{target} cannot be written ({error}); is the disk full?") from error
    finally:
        part.unlink(missing_ok=True)
    return decoder.info


def read_span(path: Path, start_ms: int, end_ms: int) -> Pcm:
    """Read a stretch of a recording, from `start_ms` to `end_ms` (milliseconds).

    Our own FLAC files are read by seeking; a clip in another format is decoded whole.

    Returns:
        int16 PCM [samples] at 16 kHz; shorter than asked where the recording ends earlier.

    Raises:
        MediaError: the file is missing or is no audio.
    """
    import soundfile

    if not path.exists():
        raise MediaError(f"{path}: the media file is gone; put it back or remove the recording")
    start, end = (ms * SAMPLE_RATE // 1000 for ms in (start_ms, end_ms))
    if path.suffix == ".flac":
        try:
            pcm, rate = soundfile.read(path, start=start, stop=end, dtype="int16")
        except soundfile.LibsndfileError:
            pass  # `decode` says what is wrong with it
        else:
            if rate == SAMPLE_RATE and pcm.ndim == 1:
                return pcm
    return decode(path)[start:end]


def duration_ms(path: Path) -> int:
    """Length of a recording in milliseconds, by decoding it unless its header is exact."""
    import soundfile

    if path.suffix in {".flac", ".wav"}:
        try:
            info = soundfile.info(path)
        except soundfile.LibsndfileError:
            pass
        else:
            return info.frames * 1000 // info.samplerate
    return sum(chunk.size for chunk in _Decoder(path)) * 1000 // SAMPLE_RATE


def encode_flac(pcm: Pcm) -> bytes:
    """int16 PCM [samples] at 16 kHz as the bytes of a FLAC file."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()
