"""Where recordings are cut, with cues and without."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, select, update
from sqlalchemy.orm import selectinload

from corpus.add import add
from corpus.audio import SAMPLE_RATE
from corpus.catalogue import (
    Catalogue,
    Cue,
    Failure,
    Recording,
    Score,
    Segment,
    Transcript,
    Verdict,
)
from corpus.errors import UserError
from corpus.segment import (
    HARD_GAP_SECONDS,
    MAX_SECONDS,
    PAD_END_SECONDS,
    PAD_START_SECONDS,
    Cut,
    Span,
    cut,
    find_quiet,
    find_speech,
    merge_cues,
    segment_recordings,
)
from corpus.workspace import Workspace

from .conftest import SENTENCES, AddRecording, Corpus, spoken, srt

LONGEST_MS = int(MAX_SECONDS * 1000)


@st.composite
def tracks(draw: st.DrawFn) -> tuple[list[Span], int]:
    """Cues in order with pauses of every kind, some too long, some past the end; and a length."""
    cues, position = [], 0
    gaps = st.one_of(st.just(0), st.integers(0, 600), st.integers(1500, 2500), st.just(20_000))
    lengths = st.one_of(st.integers(1, 6000), st.integers(1, 400), st.integers(29_000, 40_000))
    ends = st.sampled_from(["", "", ",", ".", "?”", "。", "…"])
    for number in range(draw(st.integers(0, 40))):
        start = position + draw(gaps)
        position = start + draw(lengths)
        text = draw(st.sampled_from(["", f"words{number}"])) and f"words{number}{draw(ends)}"
        cues.append(Span(start, position, text))
    return cues, max(1, position + draw(st.sampled_from([-5000, -1, 0, 100, 10_000])))


class TestMergeCues:
    @given(tracks(), st.floats(1, 30))
    def test_segments_are_in_order_apart_inside_and_never_over_30_s(
        self, track: tuple[list[Span], int], target: float
    ) -> None:
        cues, duration = track
        segments, _ = merge_cues(cues, duration_ms=duration, target_seconds=target)
        assert all(0 <= s.start_ms < s.end_ms <= duration for s in segments)
        assert all(s.end_ms - s.start_ms <= LONGEST_MS for s in segments)
        assert all(a.end_ms <= b.start_ms for a, b in pairwise(segments))

    @given(tracks(), st.floats(1, 30))
    def test_no_cue_is_lost_and_all_text_is_kept_in_order(
        self, track: tuple[list[Span], int], target: float
    ) -> None:
        cues, duration = track
        segments, left_out = merge_cues(cues, duration_ms=duration, target_seconds=target)
        kept = [cue for cue in cues if cue not in left_out]
        for cue in kept:
            end = min(cue.end_ms, duration)
            assert sum(s.start_ms <= cue.start_ms and end <= s.end_ms for s in segments) == 1
        said = [cue.text for cue in kept if cue.text]
        assert [word for s in segments for word in s.text.split()] == said

    def test_no_segment_goes_across_something_that_was_taken_out(self) -> None:
        cues = [
            Span(0, 2000, "one"),
            Span(2100, 4000, "two"),
            Span(5000, 7000, "three", after_break=True),
        ]
        segments, _ = merge_cues(cues, duration_ms=8000, target_seconds=27)
        assert [segment.text for segment in segments] == ["one two", "three"]
        assert segments[0].end_ms <= 4500 <= segments[1].start_ms

    @given(tracks())
    def test_what_is_left_out_has_no_room_anywhere(self, track: tuple[list[Span], int]) -> None:
        cues, duration = track
        _, left_out = merge_cues(cues, duration_ms=duration, target_seconds=27)
        room = LONGEST_MS - round((PAD_START_SECONDS + PAD_END_SECONDS) * 1000)
        for cue in left_out:
            assert cue.end_ms - cue.start_ms > room or cue.start_ms >= duration

    @given(tracks())
    def test_a_long_pause_is_in_no_segment(self, track: tuple[list[Span], int]) -> None:
        cues, duration = track
        segments, left_out = merge_cues(cues, duration_ms=duration, target_seconds=27)
        kept = [cue for cue in cues if cue not in left_out]
        for before, after in pairwise(kept):
            if after.start_ms - before.end_ms > HARD_GAP_SECONDS * 1000:
                middle = (before.end_ms + after.start_ms) // 2
                assert not any(s.start_ms < middle < s.end_ms for s in segments)

    def test_segments_end_at_sentence_ends_even_where_a_later_cut_would_be_fuller(self) -> None:
        texts = ["It was late", "and dark.", "Nobody came", "for hours", "and then", "we left."] * 6
        cues = [Span(i * 4000, i * 4000 + 3900, text) for i, text in enumerate(texts)]
        segments, _ = merge_cues(cues, duration_ms=150_000, target_seconds=27)
        assert len(segments) > 4
        assert all(s.text.endswith(".") for s in segments)

    @pytest.mark.parametrize("end", [".", "!”", "?)", "。", "।", "؟", "…»"])
    def test_a_sentence_ends_in_every_script(self, end: str) -> None:
        texts = ["a", f"b{end}", "c", "d", "e", f"f{end}"]
        cues = [Span(i * 5000, i * 5000 + 5000, text) for i, text in enumerate(texts)]
        segments, _ = merge_cues(cues, duration_ms=30_000, target_seconds=15)
        assert all(s.text.endswith(end) for s in segments)

    def test_without_punctuation_the_widest_pauses_are_cut(self) -> None:
        cues, position, wide = [], 0, set()
        for number in range(24):
            cues.append(Span(position, position + 3900, f"w{number}"))
            gap = 900 if number % 6 == 5 else 50
            position += 3900 + gap
            if gap == 900:
                wide.add(f"w{number}")
        segments, _ = merge_cues(cues, duration_ms=position, target_seconds=24)
        assert {s.text.split()[-1] for s in segments} == wide

    def test_speech_is_padded_but_never_past_the_middle_of_a_pause(self) -> None:
        cues = [Span(50, 1000, "a."), Span(4000, 5000, "b."), Span(7100, 8000, "c.")]
        segments, _ = merge_cues(cues, duration_ms=8100, target_seconds=1)
        assert [(s.start_ms, s.end_ms) for s in segments] == [
            (25, 1300),
            (3900, 5300),
            (7000, 8050),
        ]

    def test_no_cues_give_no_segments(self) -> None:
        assert merge_cues([], duration_ms=1000, target_seconds=27) == ([], [])


class TestFindSpeech:
    def test_it_finds_the_utterances_between_the_pauses(self) -> None:
        pcm, spans = spoken(*SENTENCES, pause=1.0)
        found = find_speech(pcm)
        assert len(found) == len(spans)
        for speech, (start, end) in zip(found, spans, strict=True):
            assert speech.start_ms == pytest.approx(start, abs=250)
            assert speech.end_ms == pytest.approx(end, abs=250)

    def test_silence_has_none(self) -> None:
        pcm, _ = spoken(pause=3.0)
        assert find_speech(pcm) == []

    def test_speech_without_a_pause_comes_in_pieces_that_fit_a_window(self) -> None:
        pcm, _ = spoken(*(SENTENCES * 8), pause=0.0)
        assert pcm.size / 16_000 > MAX_SECONDS
        found = find_speech(pcm)
        segments, left_out = merge_cues(
            found, duration_ms=pcm.size // 16, target_seconds=MAX_SECONDS
        )
        assert left_out == []
        assert len(segments) >= 2


class TestSegmentRecordings:
    def cut(self, workspace: Workspace, catalogue: Catalogue, target: float = 8.0) -> list[Segment]:
        segment_recordings(workspace, catalogue, target_seconds=target)
        with catalogue.session() as session:
            return list(session.scalars(select(Segment).order_by(Segment.start_ms)))

    def unsegmented(self, catalogue: Catalogue, cues: list[tuple[int, int, str]]) -> None:
        with catalogue.session() as session:
            recording = session.get_one(Recording, "talk")
            recording.segments.clear()
            recording.segmented_with = None
            recording.cues = [
                Cue(position=i, start_ms=start, end_ms=end, text=text)
                for i, (start, end, text) in enumerate(cues)
            ]

    def test_cues_become_segments_with_their_subtitle_once(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        add_recording("talk", [{"seconds": 20}])
        self.unsegmented(
            catalogue, [(0, 4000, "One."), (4000, 8000, "Two."), (15000, 19000, "Six")]
        )
        segments = self.cut(workspace, catalogue)
        assert [s.id for s in segments] == ["talk@0-8300", "talk@14900-19300"]
        with catalogue.session() as session:
            first = session.get_one(Segment, "talk@0-8300")
            assert [(t.kind, t.text) for t in first.transcripts] == [("subtitle", "One. Two.")]
            assert first.recording.segmented_with == "cues"
        assert segment_recordings(workspace, catalogue, target_seconds=8).done == 0
        assert len(self.cut(workspace, catalogue)) == 2

    def test_cues_that_cannot_be_cut_are_told_and_the_others_taken(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        add_recording("talk", [{"seconds": 50}])
        self.unsegmented(catalogue, [(0, 40_000, "Endless"), (41_000, 45_000, "Short.")])
        assert [s.start_ms for s in self.cut(workspace, catalogue)] == [40_900]
        with catalogue.session() as session:
            failure = session.scalars(select(Failure)).one()
        assert (failure.item, failure.kind) == ("talk", "cues_left_out")
        assert failure.message.startswith("1 cues are longer than 30 s: their text waits")

    def test_a_recording_whose_media_is_gone_is_noted_and_the_next_is_cut(
        self, workspace: Workspace, catalogue: Catalogue, add_recording: AddRecording
    ) -> None:
        add_recording("talk", [{"seconds": 3}])
        self.unsegmented(catalogue, [])
        (workspace.media / "talk.flac").unlink()
        counts = segment_recordings(workspace, catalogue, target_seconds=8)
        assert (counts.done, counts.failed) == (0, 1)
        with catalogue.session() as session:
            failure = session.scalars(select(Failure)).one()
        assert (failure.stage, failure.transient) == ("segment", True)
        assert "the media file is gone" in failure.message

    def test_a_recording_that_is_removed_meanwhile_ends_nothing(
        self,
        workspace: Workspace,
        catalogue: Catalogue,
        add_recording: AddRecording,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for name in ("other", "talk", "third"):
            add_recording(name, [{"seconds": 3}])
        with catalogue.session() as session:
            session.execute(delete(Segment))
            session.execute(update(Recording).values(segmented_with=None))

        def cut_and_remove(*arguments: Any, **options: Any) -> Cut:
            with catalogue.session() as session:
                session.execute(delete(Recording).filter(Recording.id != "third"))
            return cut(*arguments, **options)

        monkeypatch.setattr("corpus.segment.cut", cut_and_remove)
        segment_recordings(workspace, catalogue, target_seconds=8)
        with catalogue.session() as session:
            cut_by = session.execute(select(Recording.id, Recording.segmented_with)).tuples().all()
        assert cut_by == [("third", "voice-activity")]

    @pytest.mark.parametrize("target", [0, -1, 31])
    def test_a_target_that_is_no_length_is_refused(
        self, workspace: Workspace, catalogue: Catalogue, target: float
    ) -> None:
        with pytest.raises(UserError, match="give 1 to 30"):
            self.cut(workspace, catalogue, target)


def spoken_recording(
    workspace: Workspace, catalogue: Catalogue, tmp_path: Path, *, pause: float
) -> Recording:
    """Minutes of talk in cues of 10 s, a pause (s) before the last of them; cut."""
    talk, _ = spoken(*(SENTENCES * 33), pause=0.2)
    last, _ = spoken(SENTENCES[0], pause=0.2)
    hiss = np.random.default_rng(0).normal(scale=10, size=round(pause * SAMPLE_RATE))
    pcm = np.concatenate([talk, hiss.astype(np.int16), last])
    bounds = [*range(0, talk.size // 16, 10_000), talk.size // 16]
    spans = [*pairwise(bounds), ((talk.size + hiss.size) // 16, pcm.size // 16)]
    texts = [f"Sentence {i}." for i in range(len(spans))]
    path = tmp_path / "talk.wav"
    soundfile.write(path, pcm, SAMPLE_RATE)
    path.with_suffix(".srt").write_text(srt(texts, spans), encoding="utf-8")
    add(workspace, catalogue, [path], licence="own")
    segment_recordings(workspace, catalogue, target_seconds=27)
    with catalogue.session() as session:
        recording = session.scalars(
            select(Recording).options(
                selectinload(Recording.cues),
                selectinload(Recording.segments).selectinload(Segment.transcripts),
            )
        ).one()
    return recording


class TestQuiet:
    def quiet(self, recording: Recording) -> list[Segment]:
        return [s for s in recording.segments if [t.text for t in s.transcripts] == [""]]

    def test_a_pause_in_which_nothing_is_said_is_a_segment_without_words(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        recording = spoken_recording(workspace, catalogue, tmp_path, pause=20)
        (segment,) = self.quiet(recording)
        before, after = recording.cues[-2], recording.cues[-1]
        assert segment.start_ms - before.end_ms >= 2000
        assert after.start_ms - segment.end_ms >= 2000
        share = (segment.end_ms - segment.start_ms) / recording.duration_ms
        assert share == pytest.approx(0.01, abs=0.0001)
        assert segment.transcripts[0].kind == "subtitle"

    def test_a_short_pause_is_none(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        assert self.quiet(spoken_recording(workspace, catalogue, tmp_path, pause=5)) == []

    def test_a_pause_is_none_in_which_somebody_speaks(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        recording = spoken_recording(workspace, catalogue, tmp_path, pause=20)
        media = workspace.path(recording.media_path)
        without = [Span(c.start_ms, c.end_ms) for c in recording.cues if c.position % 3 != 1]
        found = find_quiet(media, without, recording.duration_ms)
        begin, end = recording.cues[-2].end_ms, recording.cues[-1].start_ms
        assert found
        assert all(begin <= span.start_ms and span.end_ms <= end for span in found)

    def test_a_pause_is_none_in_which_something_else_was_noted(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        recording = spoken_recording(workspace, catalogue, tmp_path, pause=20)
        media = workspace.path(recording.media_path)
        cues = [Span(c.start_ms, c.end_ms, c.text) for c in recording.cues]
        assert find_quiet(media, cues, recording.duration_ms)
        cues[-1] = replace(cues[-1], after_break=True)
        assert find_quiet(media, cues, recording.duration_ms) == []

    def test_where_a_model_hears_nothing_either_it_is_trained_on_as_silence(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path, corpus: Corpus
    ) -> None:
        recording = spoken_recording(workspace, catalogue, tmp_path, pause=20)
        (segment,) = self.quiet(recording)

        def judged(heard: str, no_speech: float) -> list[str]:
            score = Score(name="no_speech_prob", value=no_speech)
            transcript = Transcript(
                segment_id=segment.id, kind="pseudo", origin="test", text=heard, scores=[score]
            )
            with catalogue.session() as session:
                session.add(transcript)
            outcome = corpus("verdict", "--workspace", workspace.root)
            assert outcome.code == 0
            with catalogue.session() as session:
                verdict = session.get_one(Verdict, segment.id)
                return [verdict.verdict, *verdict.reasons]

        assert judged("call room five", 0.1)[0] == "review"
        assert judged("call room five", 0.9) == ["keep", "silence: no-speech probability 0.90"]
        assert judged("", 0.0) == ["keep", "silence: the model hears nothing either"]
        splits = ["--dev-hours", 0, "--test-hours", 0, "--workspace", workspace.root]
        outcome = corpus("build", "one", *splits)
        assert outcome.code == 0, outcome.err
        (table,) = workspace.datasets.glob("one/train-*.parquet")
        (row,) = pq.read_table(table, columns=["text", "segments"]).to_pylist()
        assert row["text"] == ""
        assert [piece["segment_id"] for piece in row["segments"]] == [segment.id]


def test_a_cue_longer_than_a_segment_is_cut_at_pauses_and_touches_no_other(
    workspace: Workspace, tmp_path: Path
) -> None:
    pcm, spans = spoken(*(SENTENCES * 8), pause=0.7)
    path = tmp_path / "talk.wav"
    soundfile.write(path, pcm, SAMPLE_RATE)
    long = Span(spans[2][0], spans[-3][1], "An endless cue.")
    cues = [
        *(Span(*span, "Before.") for span in spans[:2]),
        long,
        *(Span(*span, "After.") for span in spans[-2:]),
    ]
    found = cut(path, cues, duration_ms=pcm.size // 16, target_seconds=10)
    assert found.long_cues == [long]
    inside = [span for span in found.spans if not span.text]
    assert len(inside) > 2
    assert all(long.start_ms <= s.start_ms < s.end_ms <= long.end_ms for s in inside)
    assert all(a.end_ms <= b.start_ms for a, b in pairwise(found.spans))
    assert " ".join(s.text for s in found.spans if s.text) == "Before. Before. After. After."
    for start, end in spans[2:-2]:
        assert any(s.start_ms <= start + 100 and end - 100 <= s.end_ms for s in inside)


def test_a_short_target_makes_short_segments() -> None:
    cues = [Span(i * 4000, i * 4000 + 3500, f"Sentence {i}.") for i in range(20)]
    spans, _ = merge_cues(cues, duration_ms=80_000, target_seconds=8.0)
    assert [round((s.end_ms - s.start_ms) / 1000) for s in spans] == [8] * 10
