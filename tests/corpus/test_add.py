"""Own files: folders, subtitles beside them, manifests, and what cannot be taken."""

import json
import os
import shutil
from pathlib import Path

import pytest
import soundfile
from sqlalchemy import select

from corpus import audio
from corpus.add import add, find_files
from corpus.catalogue import Catalogue, Cue, Segment, Transcript
from corpus.errors import UserError
from corpus.workspace import Workspace

from .conftest import SENTENCES, Corpus, failures, recordings, spoken, srt, write_speech


class TestAdd:
    def test_a_folder_gives_its_media_with_the_subtitles_beside_them(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        folder = tmp_path / "own"
        write_speech(folder / "a.wav", *SENTENCES, subtitles=True)
        write_speech(folder / "deep" / "b.wav", SENTENCES[0], voice=1)
        (folder / "notes.txt").write_text("no media")
        counts = add(workspace, catalogue, [folder], licence="cc by 4.0")
        assert (counts.done, counts.failed) == (2, 0)
        first, second = recordings(catalogue)
        assert (first.title, second.title) == ("a", "b")
        assert (first.licence_raw, first.licence, first.redistributable) == (
            "cc by 4.0",
            "CC-BY-4.0",
            True,
        )
        with catalogue.session() as session:
            cues = session.scalars(select(Cue).order_by(Cue.position)).all()
        assert [cue.text for cue in cues] == list(SENTENCES)
        assert [(cue.start_ms, cue.end_ms) for cue in cues] == spoken(*SENTENCES)[1]
        media = workspace.path(first.media_path)
        assert audio.duration_ms(media) == first.duration_ms
        assert media.is_relative_to(workspace.media)

    def test_of_subtitles_only_speech_becomes_cues_and_the_note_counts_the_rest(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        source = write_speech(tmp_path / "own" / "a.wav", *SENTENCES)
        spans = spoken(*SENTENCES)[1]
        texts = ["- Titeli wot Reviewer", f"[music] {SENTENCES[1]}", "♪ la la ♪"]
        raw = srt(texts, spans)
        source.with_suffix(".srt").write_text(raw, encoding="utf-8")
        (workspace.root / "credits.txt").write_text("titeli wot\n", encoding="utf-8")
        add(workspace, catalogue, [source], licence="own")
        (recording,) = recordings(catalogue)
        assert recording.subtitle_note == (
            "cues left out: 1 × credits, 1 × music; texts changed: 1 × bracketed"
        )
        with catalogue.session() as session:
            (cue,) = session.scalars(select(Cue)).all()
        assert (cue.position, cue.text, (cue.start_ms, cue.end_ms)) == (0, SENTENCES[1], spans[1])
        assert (cue.after_break, cue.is_dialogue) == (True, False)
        assert source.with_suffix(".srt").read_text(encoding="utf-8") == raw

    @pytest.mark.parametrize("suffix", [".vtt", ".sbv", ".ttml"])
    def test_subtitles_are_read_in_every_form(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path, suffix: str
    ) -> None:
        source = write_speech(tmp_path / "a.wav", SENTENCES[0])
        forms = {
            ".vtt": "WEBVTT\n\n00:00.500 --> 00:02.000\nHello.\n",
            ".sbv": "0:00:00.500,0:00:02.000\nHello.\n",
            ".ttml": '<tt><body><p begin="0.5s" end="2s">Hello.</p></body></tt>',
        }
        source.with_suffix(suffix).write_text(forms[suffix], encoding="utf-8")
        add(workspace, catalogue, [source], licence="own")
        with catalogue.session() as session:
            (cue,) = session.scalars(select(Cue)).all()
        assert (cue.start_ms, cue.text) == (500, "Hello.")

    def test_a_list_of_credits_that_is_no_text_is_told_before_anything_is_done(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        source = write_speech(tmp_path / "a.wav", SENTENCES[0])
        (workspace.root / "credits.txt").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UserError, match=r"credits\.txt"):
            add(workspace, catalogue, [source], licence="own")
        assert recordings(catalogue) == []

    def test_adding_twice_or_under_another_name_changes_nothing(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        source = write_speech(tmp_path / "own" / "a.wav", SENTENCES[0])
        add(workspace, catalogue, [source], licence="own")
        (before,) = recordings(catalogue)
        changed = (workspace.path(before.media_path)).stat().st_mtime_ns
        shutil.copy(source, source.with_name("copy.wav"))
        add(workspace, catalogue, [tmp_path / "own", source], licence="CC0-1.0")
        (after,) = recordings(catalogue)
        assert (after.id, after.title, after.licence) == (before.id, "a", "own")
        assert workspace.path(after.media_path).stat().st_mtime_ns == changed

    def test_a_broken_file_is_noted_and_the_others_are_taken(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        write_speech(tmp_path / "own" / "z.wav", SENTENCES[0])
        broken = tmp_path / "own" / "broken.mp3"
        broken.write_bytes(b"\0" * 5000)
        counts = add(workspace, catalogue, [tmp_path / "own"], licence="own")
        assert (counts.done, counts.failed) == (1, 1)
        (failure,) = failures(catalogue)
        assert (failure.stage, failure.item, failure.kind) == ("add", str(broken), "bad_media")
        assert failure.message.startswith("broken.mp3: ")

        write_speech(tmp_path / "own" / "good.wav", SENTENCES[1]).replace(broken)
        add(workspace, catalogue, [tmp_path / "own"], licence="own")
        assert failures(catalogue) == []
        assert len(recordings(catalogue)) == 2

    def test_a_name_of_before_utf_8_and_a_file_that_cannot_be_read_stop_no_other(
        self, corpus: Corpus, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        folder = tmp_path / "own"
        for voice, name in enumerate(["a", "b", "z"]):
            write_speech(folder / f"{name}.wav", SENTENCES[0], voice=voice)
        old = folder / os.fsdecode(b"m\xe9to.wav")
        (folder / "b.wav").rename(old)
        old.with_stem(f"{old.stem}2").write_bytes(b"no audio")
        (folder / "memory.wav").symlink_to("/proc/self/mem")
        for taken in (3, 3):
            outcome = corpus("add", folder, "--json", "--workspace", workspace.root)
            assert json.loads(outcome.out) == {"done": taken, "failed": 2}
        assert [one.title for one in recordings(catalogue)] == ["a", "m\ufffdto", "z"]
        assert all(failure.transient for failure in failures(catalogue))

    def test_a_suffix_in_capitals_is_one(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        source = write_speech(tmp_path / "own" / "talk.wav", *SENTENCES, subtitles=True)
        source.rename(source.with_name("TALK.WAV"))
        source.with_suffix(".srt").rename(source.with_name("TALK.SRT"))
        add(workspace, catalogue, [source.parent], licence="own")
        (recording,) = recordings(catalogue)
        assert recording.subtitle_path == "TALK.SRT"

    def test_a_folder_around_the_workspace_does_not_bring_its_own_media_back(
        self, workspace: Workspace, catalogue: Catalogue
    ) -> None:
        write_speech(workspace.root / "recordings" / "a.wav", SENTENCES[0])
        for _ in range(2):
            add(workspace, catalogue, [workspace.root], licence="own")
        assert [r.title for r in recordings(catalogue)] == ["a"]

    def test_only_one_command_at_a_time_brings_media_in(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        source = write_speech(tmp_path / "a.wav", SENTENCES[0])
        with workspace.lock("media"), pytest.raises(UserError, match="another command is writing"):
            add(workspace, catalogue, [source], licence="own")

    @pytest.mark.parametrize(
        ("name", "told"),
        [("gone.wav", "no such file or folder"), ("x.txt", r"not a media file; known are \.aac")],
    )
    def test_a_path_that_is_no_media_is_told_at_once(
        self, tmp_path: Path, name: str, told: str
    ) -> None:
        (tmp_path / "x.txt").write_text("text")
        with pytest.raises(UserError, match=told):
            find_files([tmp_path / name])


class TestManifest:
    def write(self, folder: Path, *lines: str, header: str = "path,text") -> Path:
        path = folder / "takes.csv"
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return path

    def test_each_line_is_one_segment_with_its_text_without_the_silence_around_it(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        for name, sentence in zip("ab", SENTENCES, strict=False):
            write_speech(tmp_path / "clips" / f"{name}.wav", sentence)
        header = "path,text,speaker,split,language"
        manifest = self.write(
            tmp_path,
            'clips/a.wav,"Call room number five,  please",voice1,test,',
            "clips/b.wav,Mother saw seven red boats,,,en-GB",
            header=header,
        )
        assert add(workspace, catalogue, [manifest], licence="own").done == 2
        first, second = recordings(catalogue)
        assert (first.speaker, first.split, first.language) == ("voice1", "test", "en")
        assert (second.speaker, second.split, second.language) == (None, None, "en-GB")
        with catalogue.session() as session:
            texts = session.scalars(select(Transcript).order_by(Transcript.text)).all()
            segments = {s.recording_id: s for s in session.scalars(select(Segment))}
        assert [(t.kind, t.text) for t in texts] == [
            ("release", "Call room number five, please"),
            ("release", "Mother saw seven red boats"),
        ]
        for recording, sentence in zip((first, second), SENTENCES, strict=False):
            ((start, end),) = spoken(sentence)[1]
            segment = segments[recording.id]
            assert 0 < segment.start_ms <= start
            assert end <= segment.end_ms < recording.duration_ms

    @pytest.mark.parametrize(
        ("lines", "told"),
        [
            (["a.wav,one", ",two"], "line 3: path or text is missing"),
            (["a.wav"], "line 2: path or text is missing"),
            (["a.wav,  "], "line 2: path or text is missing"),
            (["a.wav,one", "", "b.wav,Hello, world"], "line 4: too many fields; quote a text"),
            (['a.wav,"two\nlines"', "b.wav,"], "line 4: path or text is missing"),
            ([], "needs a header with path and text"),
        ],
    )
    def test_a_mistake_is_told_by_its_line(
        self, tmp_path: Path, lines: list[str], told: str
    ) -> None:
        with pytest.raises(UserError, match=told) as error:
            find_files([self.write(tmp_path, *lines)])
        assert str(error.value).startswith(str(tmp_path / "takes.csv"))

    def test_a_split_that_is_none_is_told_by_its_line(self, tmp_path: Path) -> None:
        manifest = self.write(tmp_path, "a.wav,one,validation", header="path,text,split")
        with pytest.raises(UserError, match="line 2: split is train, dev or test"):
            find_files([manifest])

    def test_a_header_without_the_columns_and_a_file_that_is_no_csv_are_told(
        self, tmp_path: Path
    ) -> None:
        with pytest.raises(UserError, match="needs a header with path and text"):
            find_files([self.write(tmp_path, "a,b", header="file,sentence")])
        with pytest.raises(UserError, match="cannot be read as UTF-8 CSV"):
            find_files([tmp_path / "gone.csv"])
        (tmp_path / "latin.csv").write_bytes("path,text\na,été".encode("latin-1"))
        with pytest.raises(UserError, match="cannot be read as UTF-8 CSV"):
            find_files([tmp_path / "latin.csv"])

    @pytest.mark.parametrize("form", ["csv", "jsonl"])
    def test_several_lines_of_a_file_are_segments_of_one_recording(
        self,
        corpus: Corpus,
        workspace: Workspace,
        catalogue: Catalogue,
        tmp_path: Path,
        form: str,
    ) -> None:
        talk = write_speech(tmp_path / "talk.wav", *SENTENCES)
        spans = spoken(*SENTENCES)[1]
        rows = [
            {"path": talk.name, "text": text, "start": start / 1000, "end": end / 1000}
            for text, (start, end) in zip(SENTENCES, spans, strict=True)
        ]
        rows[1]["speaker"] = "voice2"
        rows.reverse()  # the order of the lines does not matter
        manifest = tmp_path / f"takes.{form}"
        if form == "csv":
            lines = [f"{r['path']},{r['text']},{r['start']},{r['end']},{r.get('speaker', '')}"
                     for r in rows]  # fmt: skip
            self.write(tmp_path, *lines, header="path,text,start,end,speaker")
        else:
            manifest.write_text("\n\n".join(json.dumps(row) for row in rows) + "\n")
        outcome = corpus("add", manifest, "--json", "--workspace", workspace.root)
        assert json.loads(outcome.out) == {"done": 1, "failed": 0}
        (recording,) = recordings(catalogue)
        assert (recording.speaker, recording.segmented_with) == ("voice2", "manifest")
        with catalogue.session() as session:
            segments = session.scalars(select(Segment).order_by(Segment.start_ms)).all()
            found = [(s.start_ms, s.end_ms, s.transcripts[0].text) for s in segments]
        assert found == [(*span, text) for text, span in zip(SENTENCES, spans, strict=True)]

    def test_a_span_behind_the_end_of_the_file_is_noted_with_its_line(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        seconds = soundfile.info(write_speech(tmp_path / "a.wav", SENTENCES[0])).duration
        for name in ("b.wav", "c.wav"):
            write_speech(tmp_path / name, SENTENCES[1 if name == "b.wav" else 2])
        manifest = self.write(
            tmp_path,
            f"a.wav,rounded up,0.5,{seconds + 0.01}",
            "b.wav,one,0,1",
            "b.wav,two,1,25.5",
            header="path,text,start,end",
        )
        counts = add(workspace, catalogue, [manifest], licence="own")
        assert (counts.done, counts.failed) == (1, 1)
        (failure,) = failures(catalogue)
        assert failure.message.startswith(f"{manifest}, line 4: it ends at 25.5 s, but b has only")
        assert len(list((workspace.media / "files").iterdir())) == 1

    @pytest.mark.parametrize(
        ("lines", "told"),
        [
            (['{"path": "a.wav", "text": "one"}', "{"], "line 2: not JSON"),
            (['["a.wav", "one"]'], "line 1: not a JSON object with path and text"),
            (['{"path": "a.wav"}'], "line 1: path or text is missing"),
            (['{"path": "a.wav", "sentence": "one"}'], "line 1: unknown name sentence; known are"),
            (['{"path": "a.wav", "text": 7}'], "line 1: text is 7; it must be a text"),
            (["", ""], "needs a JSON object with path and text on each line"),
        ],
    )
    def test_a_mistake_in_json_lines_is_told_by_its_line(
        self, tmp_path: Path, lines: list[str], told: str
    ) -> None:
        manifest = tmp_path / "takes.jsonl"
        manifest.write_text("\n".join(lines))
        with pytest.raises(UserError, match=told):
            find_files([manifest])

    @pytest.mark.parametrize(
        ("lines", "told"),
        [
            (["a.wav,one,1,x,"], "line 2: end is 'x'; give seconds, such as 12.5"),
            (["a.wav,one,nan,2,"], "line 2: start is 'nan'; give seconds"),
            (["a.wav,one,1,,"], "line 2: start and end go together"),
            (["a.wav,one,2,1,"], "line 2: from 2 s to 1 s is no span"),
            (["a.wav,one,-1,1,"], "line 2: from -1 s to 1 s is no span"),
            (["a.wav,one,0,31,"], "line 2: 31 s; a segment has at most 30 s: cut it"),
            (["a.wav,one,2,4,", "a.wav,two,1,2.5,"], "line 2: it overlaps line 3 in a.wav"),
            (["a.wav,one,,,", "a.wav,two,,,"], "line 3: a.wav is in line 2 too; several texts"),
            (["a.wav,one,0,1,", "a.wav,two,,,"], "line 3: a.wav is in line 2 too; several texts"),
            (
                ["a.wav,one,0,1,voice1", "a.wav,two,1,2,", "a.wav,three,2,3,voice2"],
                "line 4: speaker is 'voice2', but 'voice1' in line 2; one file has one",
            ),
        ],
    )
    def test_spans_that_cannot_be_are_told_by_their_line(
        self, tmp_path: Path, lines: list[str], told: str
    ) -> None:
        manifest = self.write(tmp_path, *lines, header="path,text,start,end,speaker")
        with pytest.raises(UserError, match=told):
            find_files([manifest])

    def test_a_long_recording_with_one_text_and_a_missing_file_are_noted(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        write_speech(tmp_path / "long.wav", *(SENTENCES * 6))
        write_speech(tmp_path / "a.wav", SENTENCES[0])
        manifest = self.write(tmp_path, "long.wav,all of it", "gone.wav,x", "a.wav,one")
        counts = add(workspace, catalogue, [manifest], licence="own")
        assert (counts.done, counts.failed) == (1, 2)
        gone, long = failures(catalogue)
        assert gone.message.endswith("gone.wav: no such file")
        assert "at most 30 s: cut it, or give subtitles" in long.message
        assert [p.stem for p in (workspace.media / "files").iterdir()] == [
            recordings(catalogue)[0].id.removeprefix("file:")
        ]
