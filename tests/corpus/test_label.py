"""What `corpus label` stores, and what it leaves alone."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sqlalchemy import select

from corpus.audio import SAMPLE_RATE
from corpus.catalogue import (
    Catalogue,
    Decision,
    Failure,
    Model,
    Recording,
    Segment,
    Transcript,
    segment_id,
)
from corpus.engine import Counts
from corpus.errors import ItemError
from corpus.label import (
    Job,
    Labelled,
    LabelWorker,
    label_segments,
    read_jobs,
    save_results,
)
from corpus.models import find_model
from corpus.workspace import Workspace

from .conftest import MODEL, SENTENCES, Corpus, spoken

pytestmark = pytest.mark.skipif(not MODEL.is_dir(), reason="demo/model, the small Whisper, absent")

AddTalk = Callable[..., list[str]]


@pytest.fixture
def add_talk(workspace: Workspace, catalogue: Catalogue) -> AddTalk:
    """Store a spoken recording, a segment for each of `SENTENCES`; returns the segments' ids.

    `texts` are their transcripts of a kind; columns are of the recording.
    """

    def add(
        name: str, *, voice: int = 0, texts: Any = None, kind: str = "subtitle", **columns: Any
    ) -> list[str]:
        pcm, spans = spoken(*SENTENCES, voice=voice)
        path = workspace.media / f"{name}.flac"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, pcm, SAMPLE_RATE)
        segments = [Segment(id=segment_id(name, *s), start_ms=s[0], end_ms=s[1]) for s in spans]
        for segment, text in zip(segments, texts or (), strict=False):
            segment.transcripts.append(Transcript(kind=kind, origin="test", text=text))
        columns = {"language": "en", "licence_evidence": {}, **columns}
        with catalogue.session() as session:
            session.add(
                Recording(
                    id=name,
                    source="files",
                    licence="own",
                    attribution="",
                    redistributable=False,
                    media_path=str(path.relative_to(workspace.root)),
                    duration_ms=len(pcm) // 16,
                    segments=segments,
                    **columns,
                )
            )
        return [segment.id for segment in segments]

    return add


def transcripts(catalogue: Catalogue, kind: str = "pseudo") -> dict[str, list[Transcript]]:
    """Transcripts of a kind by segment, with their scores."""
    found: dict[str, list[Transcript]] = {}
    with catalogue.session() as session:
        for row in session.scalars(select(Transcript).filter_by(kind=kind).order_by(Transcript.id)):
            assert row.scores is not None
            found.setdefault(row.segment_id, []).append(row)
    return found


def scores(transcript: Transcript) -> dict[str, float]:
    return {score.name: score.value for score in transcript.scores}


def label(workspace: Workspace, catalogue: Catalogue, path: Path, **options: Any) -> Counts:
    return label_segments(workspace, catalogue, find_model(workspace, str(path)), **options)


def test_segments_of_several_recordings_get_text_words_and_scores(
    workspace: Workspace, catalogue: Catalogue, add_talk: AddTalk, converted: Path
) -> None:
    ids = [*add_talk("one"), *add_talk("two", voice=1)]
    assert label(workspace, catalogue, converted, batch_size=4) == Counts(6, 0)
    found = transcripts(catalogue)
    assert set(found) == set(ids)
    for number, item in enumerate(ids):
        (row,) = found[item]
        assert row.text == SENTENCES[number % 3]
        start, end = map(int, item.split("@")[1].split("-"))
        assert row.words is not None
        assert [word[2] for word in row.words] == row.text.split()
        assert start <= row.words[0][0] < row.words[-1][1] <= end
        assert set(scores(row)) == {
            *("avg_logprob", "compression_ratio", "fallback", "language_prob", "no_speech_prob")
        }
        assert scores(row)["language_prob"] > 0.9


def test_a_second_run_does_nothing_and_a_second_model_labels_beside_the_first(
    workspace: Workspace, catalogue: Catalogue, add_talk: AddTalk, converted: Path, tmp_path: Path
) -> None:
    add_talk("one")
    label(workspace, catalogue, converted)
    assert label(workspace, catalogue, converted) == Counts(0, 0)
    student = shutil.copytree(converted, tmp_path / "student")
    assert label(workspace, catalogue, student) == Counts(3, 0)
    with catalogue.session() as session:
        models = {row.origin: row for row in session.scalars(select(Model))}
    assert len(models) == 2
    for origin, model in models.items():
        assert model.sha256 is not None
        assert origin.endswith("@" + model.sha256[:8])
    for rows in transcripts(catalogue).values():
        assert {row.origin for row in rows} == set(models)


def test_a_subtitle_gets_the_times_of_its_words_and_keeps_its_text(
    workspace: Workspace, catalogue: Catalogue, add_talk: AddTalk, converted: Path
) -> None:
    wrong = "father carried eight yellow horses"
    ids = add_talk("one", texts=[SENTENCES[0], wrong])
    label(workspace, catalogue, converted)
    subtitles, pseudo = transcripts(catalogue, "subtitle"), transcripts(catalogue)
    for item, text in zip(ids, [SENTENCES[0], wrong], strict=False):
        (subtitle,) = subtitles[item]
        assert subtitle.text == text
        assert subtitle.words is not None
        assert [word[2] for word in subtitle.words] == text.split()
    right, other, without = (scores(pseudo[item][0]) for item in ids)
    assert right["align_prob_median"] > 0.9 > 0.5 > other["align_prob_median"]
    assert 0 <= right["align_start_shift"] < 0.1
    assert -0.2 < right["align_end_shift"] <= 0
    assert "align_prob_median" not in without
    assert pseudo[ids[1]][0].text == SENTENCES[1]


def test_what_people_have_decided_stays_and_gets_a_version_beside_it(
    workspace: Workspace, catalogue: Catalogue, add_talk: AddTalk, converted: Path
) -> None:
    (item, *_) = add_talk("one")
    with catalogue.session() as session:
        review = Transcript(segment_id=item, kind="review", origin="reviewer1", text="Corrected.")
        session.add(review)
        session.flush()
        session.add(
            Decision(
                segment_id=item, reviewer="reviewer1", action="correct", transcript_id=review.id
            )
        )
    label(workspace, catalogue, converted)
    (kept,) = transcripts(catalogue, "review")[item]
    assert (kept.id, kept.text, kept.words) == (review.id, "Corrected.", None)
    assert len(transcripts(catalogue)[item]) == 1


def test_releases_are_left_alone_unless_they_are_unvalidated_or_asked_for(
    workspace: Workspace, catalogue: Catalogue, add_talk: AddTalk, converted: Path
) -> None:
    for name, evidence in (
        ("plain", {}),
        ("checked", {"validated": True}),
        ("open", {"validated": False}),
    ):
        add_talk(name, texts=SENTENCES, kind="release", licence_evidence=evidence)
    assert label(workspace, catalogue, converted) == Counts(3, 0)
    assert {item.split("@")[0] for item in transcripts(catalogue)} == {"open"}
    assert label(workspace, catalogue, converted, releases=True) == Counts(6, 0)


def test_other_languages_are_not_labelled(
    workspace: Workspace, catalogue: Catalogue, add_talk: AddTalk, converted: Path
) -> None:
    add_talk("german", language="de")
    add_talk("british", language="en-GB")
    label(workspace, catalogue, converted)
    assert {item.split("@")[0] for item in transcripts(catalogue)} == {"british"}


def test_what_cannot_be_read_is_noted_and_the_rest_is_labelled(
    workspace: Workspace,
    catalogue: Catalogue,
    add_talk: AddTalk,
    converted: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lost, _ = add_talk("lost"), add_talk("whole")
    path = workspace.media / "lost.flac"
    path.rename(path.with_suffix(".away"))
    assert label(workspace, catalogue, converted, batch_size=4) == Counts(3, 3)
    assert "the media file is gone" in capsys.readouterr().err
    with catalogue.session() as session:
        assert {row.item for row in session.scalars(select(Failure))} == set(lost)
    path.with_suffix(".away").rename(path)
    assert label(workspace, catalogue, converted) == Counts(3, 0)
    with catalogue.session() as session:
        assert session.scalar(select(Failure)) is None


def test_results_do_not_depend_on_the_size_of_batches(
    workspace: Workspace, catalogue: Catalogue, add_talk: AddTalk, converted: Path
) -> None:
    for voice in range(3):
        add_talk(f"talk{voice}", voice=voice, texts=SENTENCES)
    with catalogue.session() as session:
        ids = list(session.scalars(select(Segment.id)))
    jobs = read_jobs(workspace, catalogue, ids)
    one, four = (LabelWorker(str(converted), "en", batch_size=size)(jobs) for size in (1, 4))
    assert len(one) == 9
    for alone, together in zip(one, four, strict=True):
        assert isinstance(alone, Labelled)
        assert isinstance(together, Labelled)
        assert alone.text == together.text
        assert alone.scores == pytest.approx(together.scores, abs=2e-4)


def test_a_worker_can_be_sent_to_another_process(
    workspace: Workspace, catalogue: Catalogue, add_talk: AddTalk, converted: Path
) -> None:
    jobs = read_jobs(workspace, catalogue, add_talk("one"))
    script = (
        "import pickle, sys; worker, jobs = pickle.load(sys.stdin.buffer); "
        "sys.stdout.buffer.write(pickle.dumps(worker(jobs)))"
    )
    worker = LabelWorker(str(converted), "en")
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps((worker, jobs)),
        stdout=subprocess.PIPE,
        check=True,
    )
    assert [row.text for row in pickle.loads(done.stdout)] == list(SENTENCES)


def test_results_are_stored_once_and_not_for_segments_that_are_gone(
    workspace: Workspace, catalogue: Catalogue, add_talk: AddTalk
) -> None:
    jobs = read_jobs(workspace, catalogue, add_talk("one", texts=SENTENCES))
    results: list[Labelled | ItemError] = [
        Labelled("one", [], {"avg_logprob": -0.1}),
        ItemError("not readable"),
        Labelled("three", [], {}, [[0, 10, "three", 0.5]]),
    ]
    with catalogue.session() as session:
        session.delete(session.get_one(Segment, jobs[0].segment_id))
    for _ in range(2):
        save_results(catalogue, "model@1", jobs, results)
    found = transcripts(catalogue)
    assert list(found) == [jobs[2].segment_id]
    assert len(found[jobs[2].segment_id]) == 1


def test_a_language_or_device_that_cannot_be_used_is_told_before_anything_is_stored(
    corpus: Corpus, workspace: Workspace, catalogue: Catalogue, add_talk: AddTalk, converted: Path
) -> None:
    add_talk("one")
    for options, reason in (
        (["--language-token", "hsb"], "knows no language 'hsb'"),
        (["--device", "abacus"], "cannot be loaded"),
        (["--compute-type", "int7"], "cannot be loaded"),
    ):
        outcome = corpus("label", "--model", converted, *options, "--workspace", workspace.root)
        assert outcome.code == 1
        assert reason in outcome.err
    assert transcripts(catalogue) == {}


def test_the_command_takes_a_batch_size_and_tells_what_it_did(
    corpus: Corpus, workspace: Workspace, add_talk: AddTalk, converted: Path
) -> None:
    add_talk("one")
    at = ("--model", converted, "--workspace", workspace.root)
    assert corpus("label", *at, "--batch-size", 0).code == 2
    outcome = corpus("label", *at, "--batch-size", 2, "--json")
    assert json.loads(outcome.out) == {"done": 3, "failed": 0}


def test_a_student_is_stored_with_what_it_was_made_from(
    workspace: Workspace, catalogue: Catalogue, add_talk: AddTalk, converted: Path
) -> None:
    add_talk("one")
    run = workspace.root / "runs" / "student"
    shutil.copytree(converted, run / "ct2")
    record = {"config": {"model": "openai/whisper-small", "datasets": [], "steps": 9}}
    (run / "run.json").write_text(json.dumps(record))
    label(workspace, catalogue, Path("runs/student/ct2"))
    with catalogue.session() as session:
        model = session.scalars(select(Model)).one()
    assert model.origin.startswith("student@")
    assert model.lineage["base"] == {"name": "openai/whisper-small"}


def test_a_model_without_alignment_heads_is_warned_of_once(
    workspace: Workspace,
    catalogue: Catalogue,
    add_talk: AddTalk,
    converted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_talk("one")
    bare = shutil.copytree(converted, tmp_path / "bare")
    config = json.loads((bare / "config.json").read_text())
    (bare / "config.json").write_text(json.dumps(config | {"alignment_heads": []}))
    label(workspace, catalogue, bare, batch_size=1)
    assert capsys.readouterr().err.count("alignment_heads") == 1

    source = shutil.copytree(MODEL, tmp_path / "source")
    settings = json.loads((source / "generation_config.json").read_text())
    del settings["alignment_heads"]
    (source / "generation_config.json").write_text(json.dumps(settings))
    for expected in (1, 0):
        find_model(workspace, str(source))
        assert capsys.readouterr().err.count("alignment_heads") == expected


def test_words_of_silence_and_noise_stay_within_the_segment(
    workspace: Workspace, catalogue: Catalogue, converted: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "noise.wav"
    soundfile.write(path, rng.normal(scale=0.1, size=5 * SAMPLE_RATE), SAMPLE_RATE)
    jobs = [
        Job("a", str(path), 1000, 2000, 1, "call me"),
        Job("b", str(path), 4990, 5000, 1, "call me"),
        Job("c", str(path), 6000, 7000, 1, "call me"),
    ]
    first, short, beyond = LabelWorker(str(converted), "en")(jobs)
    assert isinstance(first, Labelled)
    for start, end, *_ in [*first.words, *(first.subtitle_words or [])]:
        assert 1000 <= start <= end <= 2000
    assert isinstance(short, Labelled)
    assert short.subtitle_words is None
    assert isinstance(beyond, ItemError)
