"""Media of every kind onto one true timeline; broken files whole, or refused in one line."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from corpus import audio
from corpus.audio import SAMPLE_RATE, MediaError, Pcm

RATE = 48_000
FIRST_MARK_S, SECOND_MARK_S, SECONDS = 0.5, 4.0, 5.0
TOLERANCE_S = 0.008
"""A third of a codec's frame; a cue is timed to 0.02 s at best."""

MP3_DELAY_S = 0.08
"""What an MP3 encoder puts before the sound, at 16 kHz, without telling how much it is."""


def chirp(rate: int, low: float, high: float) -> np.ndarray:
    """A tenth of a second that glides from one pitch (Hz) to another: found again in any codec."""
    time = np.arange(rate // 10) / rate
    return 0.5 * np.sin(2 * np.pi * (low * time + (high - low) * time**2 / 0.2))


def marked(rate: int = RATE) -> Pcm:
    """Five seconds of low noise, a rising chirp near the start and a falling one near the end."""
    pcm = np.random.default_rng(0).normal(scale=0.003, size=int(SECONDS * rate))
    for start, glide in ((FIRST_MARK_S, (400, 3000)), (SECOND_MARK_S, (3000, 400))):
        mark = chirp(rate, *glide)
        pcm[int(start * rate) : int(start * rate) + mark.size] += mark
    return (pcm * 32767).astype(np.int16)


def heard_at(pcm: Pcm, low: float, high: float) -> float:
    """Where a chirp is, in seconds."""
    return float(np.argmax(np.correlate(pcm / 32768, chirp(SAMPLE_RATE, low, high)))) / SAMPLE_RATE


def rising(pcm: Pcm) -> float:
    return heard_at(pcm, 400, 3000)


def falling(pcm: Pcm) -> float:
    return heard_at(pcm, 3000, 400)


def frames(pcm: Pcm, late_s: float) -> Iterator[av.AudioFrame]:
    size = RATE // 50
    for start in range(0, pcm.size, size):
        frame = av.AudioFrame.from_ndarray(pcm[np.newaxis, start : start + size], "s16", "mono")
        frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
        frame.pts = start + int(late_s * RATE)
        yield frame


def encode(path: Path, codec: str, *, late_s: float = 0.0) -> Path:
    """The marked audio in a container by `path`'s suffix, its timestamps starting at `late_s`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, layout="mono")
        stream.bit_rate = 96_000
        for frame in [*frames(marked(), late_s), None]:
            container.mux(stream.encode(frame))
    return path


def with_packets_changed(
    source: Path, target: Path, first_s: float, last_s: float, how: str
) -> Path:
    """Copy a file with the packets of a stretch corrupted or left out; others keep their times."""
    rng = np.random.default_rng(1)
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.audio[0])
        for packet in old.demux(audio=0):
            if packet.dts is None:
                continue
            if first_s <= float(packet.pts * packet.time_base) < last_s:
                if how == "missing":
                    continue
                garbage = av.Packet(rng.bytes(packet.size))
                garbage.pts, garbage.dts = packet.pts, packet.dts
                garbage.time_base, garbage.duration = packet.time_base, packet.duration
                packet = garbage
            packet.stream = stream
            new.mux(packet)
    return target


CODECS = [
    ("aac", ".mp4"),
    ("aac", ".mkv"),
    ("libopus", ".webm"),
    ("libopus", ".mkv"),
    ("libmp3lame", ".mkv"),
    ("flac", ".mkv"),
]


class TestTimeline:
    @pytest.mark.parametrize(("codec", "suffix"), [*CODECS, ("libopus", ".ogg"), ("aac", ".m4a")])
    def test_audio_from_any_codec_is_where_it_was(
        self, tmp_path: Path, codec: str, suffix: str
    ) -> None:
        pcm = audio.decode(encode(tmp_path / f"x{suffix}", codec))
        assert rising(pcm) == pytest.approx(FIRST_MARK_S, abs=TOLERANCE_S)
        assert falling(pcm) == pytest.approx(SECOND_MARK_S, abs=TOLERANCE_S)
        assert pcm.size / SAMPLE_RATE == pytest.approx(SECONDS, abs=0.05)

    @pytest.mark.parametrize(("codec", "suffix"), CODECS)
    def test_audio_that_starts_late_stays_late(
        self, tmp_path: Path, codec: str, suffix: str
    ) -> None:
        pcm = audio.decode(encode(tmp_path / f"late{suffix}", codec, late_s=1.3))
        assert rising(pcm) == pytest.approx(FIRST_MARK_S + 1.3, abs=TOLERANCE_S)
        assert falling(pcm) == pytest.approx(SECOND_MARK_S + 1.3, abs=TOLERANCE_S)
        assert not pcm[: int(1.2 * SAMPLE_RATE)].any()

    @pytest.mark.parametrize("how", ["corrupt", "missing"])
    @pytest.mark.parametrize(("codec", "suffix"), CODECS)
    def test_a_hole_shifts_nothing_that_follows(
        self, tmp_path: Path, codec: str, suffix: str, how: str
    ) -> None:
        whole = encode(tmp_path / f"whole{suffix}", codec)
        pcm = audio.decode(with_packets_changed(whole, tmp_path / f"hole{suffix}", 1.5, 3.0, how))
        assert rising(pcm) == pytest.approx(FIRST_MARK_S, abs=TOLERANCE_S)
        drift = audio.MAX_DRIFT_SAMPLES / SAMPLE_RATE  # garbage may decode to a little more or less
        assert falling(pcm[3 * SAMPLE_RATE :]) == pytest.approx(SECOND_MARK_S - 3, abs=drift)
        assert pcm.size / SAMPLE_RATE == pytest.approx(SECONDS, abs=0.05)

    def test_what_was_filled_is_told(self, tmp_path: Path) -> None:
        whole = encode(tmp_path / "whole.mkv", "aac")
        hole = with_packets_changed(whole, tmp_path / "hole.mkv", 1.5, 3.0, "corrupt")
        info = audio.decode_to_flac(hole, tmp_path / "x.flac")
        assert info.bad_packets > 0
        assert info.filled_samples / SAMPLE_RATE == pytest.approx(1.5, abs=0.1)
        assert audio.decode_to_flac(whole, tmp_path / "y.flac").filled_samples == 0

    def test_a_transport_stream_begins_where_its_own_clock_does(self, tmp_path: Path) -> None:
        pcm = audio.decode(encode(tmp_path / "x.ts", "aac", late_s=5.0))
        assert rising(pcm) == pytest.approx(FIRST_MARK_S, abs=0.03)

    def test_files_joined_end_to_end_are_decoded_on_through_a_change_of_layout(
        self, tmp_path: Path
    ) -> None:
        stereo = np.repeat(marked(16_000)[:, np.newaxis], 2, axis=1)
        soundfile.write(tmp_path / "a.mp3", marked(16_000), 16_000, format="MP3")
        soundfile.write(tmp_path / "b.mp3", stereo, 16_000, format="MP3")
        joined = tmp_path / "ab.mp3"
        joined.write_bytes((tmp_path / "a.mp3").read_bytes() + (tmp_path / "b.mp3").read_bytes())
        pcm = audio.decode(joined)
        assert pcm.size / SAMPLE_RATE == pytest.approx(2 * SECONDS, abs=0.2)
        assert falling(pcm[6 * SAMPLE_RATE :]) == pytest.approx(
            SECOND_MARK_S - 1, abs=3 * MP3_DELAY_S
        )


class TestDecodeToFlac:
    def test_any_source_becomes_16_khz_mono_flac(self, tmp_path: Path) -> None:
        stereo = np.repeat(marked()[:, np.newaxis], 2, axis=1)
        soundfile.write(tmp_path / "stereo.wav", stereo, RATE)
        info = audio.decode_to_flac(tmp_path / "stereo.wav", tmp_path / "out" / "x.flac")
        written = soundfile.info(tmp_path / "out" / "x.flac")
        assert (written.format, written.samplerate, written.channels) == ("FLAC", 16_000, 1)
        assert (written.subtype, written.frames) == ("PCM_16", info.samples)
        assert info.duration_ms == pytest.approx(SECONDS * 1000, abs=1)

    def test_equal_sources_give_equal_bytes(self, tmp_path: Path) -> None:
        source = encode(tmp_path / "x.webm", "libopus")
        for name in ("one.flac", "two.flac"):
            audio.decode_to_flac(source, tmp_path / name)
        assert (tmp_path / "one.flac").read_bytes() == (tmp_path / "two.flac").read_bytes()

    def test_a_file_that_fails_leaves_nothing_behind(self, tmp_path: Path) -> None:
        source = tmp_path / "broken.mp3"
        source.write_bytes(b"no audio at all" * 100)
        with pytest.raises(MediaError, match=r"^broken\.mp3: not readable as audio"):
            audio.decode_to_flac(source, tmp_path / "out" / "x.flac")
        assert list((tmp_path / "out").iterdir()) == []

    def test_a_failure_in_the_middle_leaves_an_earlier_copy_as_it_was(self, tmp_path: Path) -> None:
        target = tmp_path / "x.flac"
        audio.decode_to_flac(encode(tmp_path / "good.mkv", "flac"), target)
        before = target.read_bytes()
        whole = encode(tmp_path / "whole.mkv", "aac")
        bad = with_packets_changed(whole, tmp_path / "bad.mkv", 0.7, 3.9, "corrupt")
        with pytest.raises(MediaError, match="more than half of the audio is corrupt"):
            audio.decode_to_flac(bad, target)
        assert target.read_bytes() == before
        assert not list(tmp_path.glob(".*"))

    def test_timestamps_beyond_reason_are_refused(self, tmp_path: Path) -> None:
        source = encode(tmp_path / "x.mkv", "flac", late_s=4000)
        with pytest.raises(MediaError, match="jump by more than an hour"):
            audio.decode_to_flac(source, tmp_path / "x.flac")

    def test_every_broken_file_is_taken_whole_or_refused_with_one_line(
        self, shared_data: Path, tmp_path: Path
    ) -> None:
        taken, refused = {}, {}
        sources = sorted((shared_data / "media_faults").glob("*/*"))
        for source in sources:
            target = tmp_path / f"{source.name}.flac"
            try:
                taken[source.name] = audio.decode_to_flac(source, target).duration_ms / 1000
            except MediaError as error:
                refused[source.name] = str(error)
        whole = {path.stem: soundfile.info(path).duration for path in tmp_path.iterdir()}
        assert whole == {name: pytest.approx(seconds, abs=0.01) for name, seconds in taken.items()}
        for name, message in refused.items():
            assert message.startswith(f"{name}: ")
            assert "\n" not in message
        assert len(sources) > 40
        assert taken == {
            "creative_common.mp4": pytest.approx(2.26, abs=0.01),
            "test1.mp3": pytest.approx(10.01, abs=0.01),
        }


class TestReading:
    @pytest.fixture(scope="class")
    def flac(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        path = tmp_path_factory.mktemp("flac") / "x.flac"
        path.write_bytes(audio.encode_flac(marked(SAMPLE_RATE)))
        return path

    def test_flac_bytes_decode_to_the_samples_they_were_made_of(self) -> None:
        pcm = marked(SAMPLE_RATE)
        assert np.array_equal(audio.decode(audio.encode_flac(pcm)), pcm)

    @pytest.mark.parametrize("span", [(0, 5000), (0, 1), (1234, 2345), (4990, 9000), (700, 700)])
    def test_seeking_a_span_equals_slicing_the_whole(
        self, flac: Path, span: tuple[int, int]
    ) -> None:
        whole = audio.decode(flac)
        start, end = (ms * 16 for ms in span)
        assert np.array_equal(audio.read_span(flac, *span), whole[start:end])

    def test_a_span_of_a_clip_in_another_format_is_found_too(
        self, flac: Path, tmp_path: Path
    ) -> None:
        clip = tmp_path / "clip.mp3"
        soundfile.write(clip, marked(SAMPLE_RATE), SAMPLE_RATE, format="MP3")
        span = audio.read_span(clip, 3500, 5000)
        assert falling(span) == pytest.approx(SECOND_MARK_S - 3.5, abs=MP3_DELAY_S)

    def test_a_file_that_is_gone_is_told_with_its_path(self, tmp_path: Path) -> None:
        with pytest.raises(MediaError, match=r"gone\.flac: the media file is gone"):
            audio.read_span(tmp_path / "gone.flac", 0, 1000)

    @pytest.mark.parametrize("suffix", [".flac", ".wav", ".mp3"])
    def test_the_length_of_a_file_is_that_of_its_audio(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"x{suffix}"
        soundfile.write(path, marked(), RATE, format=suffix[1:].upper())
        assert audio.duration_ms(path) == pytest.approx(SECONDS * 1000, abs=60)
        path.write_bytes(b"nothing")
        with pytest.raises(MediaError, match=r"not readable|no audio could be decoded"):
            audio.duration_ms(path)
