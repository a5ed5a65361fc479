"""Subtitles that are out of time, segments that cut words, cues that are too long: put right.

The speech is the synthesiser's, in voices that the small Whisper knows, so where every word is
spoken is known. `pytest --whisper FOLDER` does the same on human speech with any Whisper.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pysrt
import pytest
import soundfile
from sqlalchemy import select

from corpus.add import add
from corpus.audio import SAMPLE_RATE
from corpus.catalogue import (
    Catalogue,
    Decision,
    Failure,
    Recording,
    Segment,
    Transcript,
    segment_id,
)
from corpus.label import label_segments
from corpus.models import Model, find_model
from corpus.retime import label_in_time, retime_recordings
from corpus.segment import segment_recordings
from corpus.workspace import Workspace
from demo.material import Talk, make_talk
from demo.voices import BASE_VOICES

from .conftest import MODEL, Corpus, srt

needs_model = pytest.mark.skipif(not MODEL.is_dir(), reason="demo/model, the small Whisper, absent")

TOLERANCE_MS = 300
MISTIMED: dict[str, Callable[[float], float]] = {
    "4 s early": lambda ms: ms - 4000,
    "1 s early": lambda ms: ms - 1000,
    "in time": lambda ms: ms,
    "1 s late": lambda ms: ms + 1000,
    "4 s late": lambda ms: ms + 4000,
    "of 24 frames for 25": lambda ms: ms * 25 / 24,
}

Cues = list[tuple[int, int, str]]
"""Start and end (ms) and text."""


def cues_of(talk: Talk) -> Cues:
    return [(round(c.start * 1000), round(c.end * 1000), c.text) for c in talk.cues]


def write_recording(path: Path, pcm: np.ndarray, cues: Cues) -> None:
    """A media file with its subtitles; cues that end before it begins are not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, pcm, SAMPLE_RATE)
    there = [(max(0, start), end, text) for start, end, text in cues if end > 0]
    texts, spans = [c[2] for c in there], [(c[0], c[1]) for c in there]
    path.with_suffix(".srt").write_text(srt(texts, spans), encoding="utf-8")


def label(workspace: Workspace, catalogue: Catalogue, model: Model) -> int:
    """Label and retime; how many transcripts that took."""
    segment_recordings(workspace, catalogue, target_seconds=27)
    return label_in_time(
        workspace, catalogue, model.origin, lambda: label_segments(workspace, catalogue, model)
    ).done


def check_timing(
    folder: Path, pcm: np.ndarray, true: Cues, workspace: Workspace, catalogue: Catalogue, name: str
) -> None:
    """Mistime a track in each way and see it come back."""
    for number, (kind, mistimed) in enumerate(MISTIMED.items()):
        marked = pcm.copy()
        marked[0] = number  # or they would be one recording
        cues = [(round(mistimed(start)), round(mistimed(end)), text) for start, end, text in true]
        write_recording(folder / f"{kind}.wav", marked, cues)
    add(workspace, catalogue, [folder], licence="own")
    model = find_model(workspace, name)
    label(workspace, catalogue, model)
    assert label(workspace, catalogue, model) == 0  # nothing is left, nothing done twice
    for kind, mistimed in MISTIMED.items():
        with catalogue.session() as session:
            recording = session.scalars(select(Recording).filter_by(title=kind)).one()
            cues, timing = list(recording.cues), recording.timing
            segments = list(recording.segments)
        missing = len(true) - len(cues)
        early = mistimed(0) < 0
        expected = true[missing:] if early else true[: len(cues)]
        assert missing <= 2
        assert [cue.text for cue in cues] == [text for _, _, text in expected]
        off = [
            abs(getattr(cue, edge) - known[index])
            for cue, known in zip(cues, expected, strict=True)
            for index, edge in enumerate(("start_ms", "end_ms"))
        ]
        assert np.median(off) < TOLERANCE_MS, kind
        assert timing is not None
        assert timing["applied"] == (kind != "in time"), kind
        assert timing["settled"]
        # What the file said can be had back.
        for cue, (start, _, _) in zip(cues[1:], expected[1:], strict=True):
            assert (cue.start_ms - timing["offset_ms"]) / timing["scale"] == pytest.approx(
                mistimed(start), abs=3
            )
        ends = {round((cue.end_ms) / 1000) for cue in cues}
        assert all(any(abs(s.end_ms / 1000 - end) < 1.5 for end in ends) for s in segments), kind
        assert all(a.end_ms <= b.start_ms for a, b in pairwise(segments))


@needs_model
def test_mistimed_tracks_come_back_to_the_speech(
    tmp_path: Path, workspace: Workspace, catalogue: Catalogue
) -> None:
    talk = make_talk(BASE_VOICES[9], seed=2)
    cues = cues_of(talk)[:24]
    pcm = talk.pcm[: cues[-1][1] * 16 + 16_000]
    check_timing(tmp_path / "in", pcm, cues, workspace, catalogue, str(MODEL))


def test_mistimed_tracks_of_human_speech_come_back_to_it(
    tmp_path: Path,
    workspace: Workspace,
    catalogue: Catalogue,
    shared_data: Path,
    pytestconfig: pytest.Config,
) -> None:
    model = pytestconfig.getoption("--whisper")
    if model is None:
        pytest.skip("no Whisper that knows English; give its folder: pytest --whisper FOLDER")
    from corpus.audio import decode

    folder = shared_data / "speech" / "librivox_sonnet_en"
    true = [
        (item.start.ordinal, item.end.ordinal, item.text)
        for item in pysrt.open(folder / "sonnet001.srt")
    ]
    pcm = decode(folder / "sonnet001.mp3")
    check_timing(tmp_path / "in", pcm, true, workspace, catalogue, str(Path(model).resolve()))


@pytest.fixture
def talk() -> Talk:
    return make_talk(BASE_VOICES[9], seed=2)


@pytest.fixture
def model(workspace: Workspace) -> Model:
    if not MODEL.is_dir():
        pytest.skip("demo/model, the small Whisper, absent")
    return find_model(workspace, str(MODEL))


def bring(
    workspace: Workspace,
    catalogue: Catalogue,
    path: Path,
    talk: Talk,
    cues: Cues,
    target_seconds: float = 27,
) -> None:
    write_recording(path, talk.pcm, cues)
    add(workspace, catalogue, [path], licence="own")
    segment_recordings(workspace, catalogue, target_seconds=target_seconds)


def test_a_recording_with_reviewed_segments_is_told_of_and_stays(
    tmp_path: Path, workspace: Workspace, catalogue: Catalogue, talk: Talk, model: Model
) -> None:
    late = [(start + 4000, end + 4000, text) for start, end, text in cues_of(talk)]
    bring(workspace, catalogue, tmp_path / "talk.wav", talk, late)
    with catalogue.session() as session:
        before = [segment.id for segment in session.scalars(select(Segment))]
        session.add(Decision(segment_id=before[3], reviewer="a", action="skip"))
    label(workspace, catalogue, model)
    with catalogue.session() as session:
        recording = session.scalars(select(Recording)).one()
        assert [segment.id for segment in recording.segments] == sorted(
            before, key=lambda id: int(id.split("@")[1].split("-")[0])
        )
        assert [cue.start_ms for cue in recording.cues] == [start for start, _, _ in late]
        assert recording.timing is not None
        assert not recording.timing["applied"]
        failure = session.scalars(select(Failure).filter_by(stage="retime")).one()
    assert failure.kind == "out_of_time"
    assert failure.message.startswith("its subtitles are out of time, by +4.")


def test_a_segment_that_lacks_its_first_word_gets_it_and_is_heard_again(
    tmp_path: Path, workspace: Workspace, catalogue: Catalogue, model: Model
) -> None:
    talk = make_talk(BASE_VOICES[20], seed=3)
    bring(workspace, catalogue, tmp_path / "talk.wav", talk, cues_of(talk), target_seconds=3)
    with catalogue.session() as session:
        segments = session.scalars(select(Recording)).one().segments
        second = next(
            s for s in segments if s.transcripts[0].text == "call number eight zero four four"
        )
        first = segments[segments.index(second) - 1]
        word = next(w for w in talk.words if round(w.start * 1000) >= second.start_ms)
        assert word.text == "call"
        wrong = round(word.end * 1000) + 40
        first.end_ms = second.start_ms = wrong
        ids = (first.id, second.id)
    label(workspace, catalogue, model)
    with catalogue.session() as session:
        first, second = (session.get_one(Segment, id) for id in ids)
        assert first.end_ms <= second.start_ms < round(word.start * 1000) + 100 < wrong
        assert talk.said_between(first.start_ms / 1000, first.end_ms / 1000).endswith("market")
        heard = [t.text for t in second.transcripts if t.kind == "pseudo"]
        assert len(heard) == 1
        assert heard[0].startswith("call number eight")


def test_the_text_of_a_long_cue_is_shared_among_the_segments_it_is_spoken_in(
    tmp_path: Path, workspace: Workspace, catalogue: Catalogue, talk: Talk, model: Model
) -> None:
    cues = cues_of(talk)
    middle = cues[9:24]
    whole = (middle[0][0], middle[-1][1], " ".join(text for _, _, text in middle))
    assert whole[1] - whole[0] > 35_000
    bring(workspace, catalogue, tmp_path / "talk.wav", talk, [*cues[:9], whole, *cues[24:]])
    with catalogue.session() as session:
        assert "1 cues are longer than 30 s" in session.scalars(select(Failure)).one().message
    label(workspace, catalogue, model)
    with catalogue.session() as session:
        segments = session.scalars(select(Segment).order_by(Segment.start_ms)).all()
        inside = [s for s in segments if whole[0] - 200 <= s.start_ms < whole[1]]
        texts = [t.text for s in inside for t in s.transcripts if t.kind == "subtitle"]
        spoken = [talk.said_between(s.start_ms / 1000, s.end_ms / 1000) for s in inside]
        assert session.scalars(select(Failure)).all() == []
    assert len(inside) > 2
    assert " ".join(texts) == whole[2]
    assert sum(a == b for a, b in zip(texts, spoken, strict=True)) >= len(inside) - 1


def test_recordings_are_settled_once_for_each_model(
    tmp_path: Path, workspace: Workspace, catalogue: Catalogue, talk: Talk, model: Model
) -> None:
    bring(workspace, catalogue, tmp_path / "talk.wav", talk, cues_of(talk))
    assert retime_recordings(workspace, catalogue, model.origin).done == 0  # nothing heard yet
    label(workspace, catalogue, model)
    assert retime_recordings(workspace, catalogue, model.origin).done == 0
    with catalogue.session() as session:
        for segment in session.scalars(select(Segment)):
            segment.transcripts.append(Transcript(kind="pseudo", origin="other@1", text="a"))
    assert retime_recordings(workspace, catalogue, "other@1").done == 1
    assert retime_recordings(workspace, catalogue, "other@1").done == 0


@needs_model
def test_the_command_labels_and_puts_in_time(
    tmp_path: Path, workspace: Workspace, catalogue: Catalogue, talk: Talk, corpus: Corpus
) -> None:
    late = [(start + 2000, end + 2000, text) for start, end, text in cues_of(talk)[:15]]
    talk = Talk(talk.pcm[: late[-1][1] * 16], talk.cues, talk.words)
    bring(workspace, catalogue, tmp_path / "talk.wav", talk, late)
    outcome = corpus("label", "--model", MODEL, "--workspace", workspace.root)
    assert outcome.code == 0, outcome.err
    with catalogue.session() as session:
        recording = session.scalars(select(Recording)).one()
        assert recording.cues[0].start_ms == pytest.approx(late[0][0] - 2000, abs=TOLERANCE_MS)
        assert all(
            s.id == segment_id(recording.id, s.start_ms, s.end_ms) for s in recording.segments
        )
        pseudo = session.scalars(select(Transcript).filter_by(kind="pseudo")).all()
        assert len(pseudo) == len(recording.segments)
