"""Published data sets in the catalogue: every text as it was, each clip once, all gaps told."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import types
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sqlalchemy import select

from corpus import audio, importing
from corpus.build import check_media
from corpus.catalogue import Catalogue, Cue, Recording, Segment, Tombstone, Transcript
from corpus.dataset import hf
from corpus.engine import Counts
from corpus.errors import UserError
from corpus.importing import import_common_voice, import_fleurs, import_hf
from corpus.remove import find, remove
from corpus.segment import segment_recordings
from corpus.thresholds import read_thresholds
from corpus.verdict import apply_verdicts
from corpus.workspace import Workspace, init_workspace

from .conftest import (
    SENTENCES,
    Corpus,
    failures,
    recordings,
    spoken,
    write_fleurs,
    write_parquet,
    write_speech,
)


def texts(catalogue: Catalogue) -> dict[str, str]:
    """The text of each recording's one segment, by its title."""
    rows = select(Recording.title, Transcript.text).join(Recording.segments)
    with catalogue.session() as session:
        return dict(session.execute(rows.join(Segment.transcripts)).tuples().all())  # type: ignore[arg-type]


def wav(sentence: str, rate: int = 16_000, **options: Any) -> bytes:
    """Speech as the bytes of a file at some rate (Hz)."""
    pcm, _ = spoken(sentence)
    positions = np.arange(0, pcm.size, 16_000 / rate)
    samples = np.interp(positions, np.arange(pcm.size), pcm).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **({"format": "WAV"} | options))
    return buffer.getvalue()


class TestCommonVoice:
    def release(self, folder: Path, clips: dict[str, str], broken: str | None = None) -> Path:
        (folder / "clips").mkdir(parents=True, exist_ok=True)
        lines = ["client_id\tpath\tsentence\tlocale"]
        for name, split_text in clips.items():
            (folder / "clips" / name).write_bytes(wav(split_text, format="MP3"))
            lines.append(f"speaker\t{name}\t{split_text}\ten")
        if broken:
            (folder / "clips" / broken).write_bytes(b"broken")
            lines.append(f"speaker\t{broken}\tnever heard\ten")
        (folder / "train.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder

    def test_clips_stay_where_they_are_and_come_with_text_speaker_and_split(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        folder = self.release(tmp_path / "cv" / "en", {"common_voice_en_1.mp3": SENTENCES[0]})
        counts = import_common_voice(workspace, catalogue, folder)
        assert (counts.done, counts.failed) == (1, 0)
        (clip,) = recordings(catalogue)
        assert (clip.speaker, clip.split) == ("common-voice:speaker", "train")
        assert (clip.licence, clip.redistributable) == ("CC0-1.0", False)
        assert Path(clip.media_path) == folder / "clips" / "common_voice_en_1.mp3"
        assert not workspace.media.exists()
        assert list(texts(catalogue).values()) == [SENTENCES[0]]

    def test_a_later_release_adds_only_its_new_clips(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        old = {"common_voice_en_1.mp3": SENTENCES[0]}
        new = {**old, "common_voice_en_2.mp3": SENTENCES[1]}
        import_common_voice(workspace, catalogue, self.release(tmp_path / "v1" / "en", old))
        counts = import_common_voice(
            workspace, catalogue, self.release(tmp_path / "v2" / "en", new)
        )
        assert counts.done == 1
        assert len(recordings(catalogue)) == 2

    def test_a_clip_that_a_later_release_tests_on_stays_in_train_and_is_told(
        self,
        workspace: Workspace,
        catalogue: Catalogue,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        clips = {"common_voice_en_1.mp3": SENTENCES[0]}
        old = self.release(tmp_path / "cv-corpus-24.0-2025-12-05" / "en", clips)
        import_common_voice(workspace, catalogue, old)
        new = self.release(tmp_path / "cv-corpus-25.0-2026-03-09" / "en", clips)
        (new / "train.tsv").rename(new / "test.tsv")
        capsys.readouterr()
        import_common_voice(workspace, catalogue, new)
        assert [clip.split for clip in recordings(catalogue)] == ["train"]
        assert (
            "1 clips are here from an earlier release in another split and stay in it, 1 of them "
            "held out in this one"
        ) in capsys.readouterr().err

    def test_a_broken_clip_is_noted_and_taken_once_it_is_whole(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        clips = {"common_voice_en_1.mp3": SENTENCES[0]}
        folder = self.release(tmp_path / "en", clips, broken="common_voice_en_9.mp3")
        assert import_common_voice(workspace, catalogue, folder) == Counts(done=1, failed=1)
        assert import_common_voice(workspace, catalogue, folder) == Counts(done=0, failed=1)
        (failure,) = failures(catalogue)
        assert (failure.item, failure.attempts) == ("common-voice:en:common_voice_en_9", 2)
        whole, broken = (folder / "clips" / f"common_voice_en_{n}.mp3" for n in (1, 9))
        shutil.copyfile(whole, broken)
        assert import_common_voice(workspace, catalogue, folder) == Counts(done=1, failed=0)
        assert failures(catalogue) == []

    def test_a_clip_that_was_taken_down_does_not_come_back(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        folder = self.release(tmp_path / "en", {"common_voice_en_1.mp3": SENTENCES[0]})
        import_common_voice(workspace, catalogue, folder)
        remove(workspace, catalogue, find(catalogue, ["common-voice:en:common_voice_en_1"], [], []))
        counts = import_common_voice(workspace, catalogue, folder)
        assert (counts.done, counts.failed) == (0, 1)
        assert recordings(catalogue) == []

    def test_a_release_in_another_language_is_refused(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        folder = self.release(tmp_path / "cs", {})
        with pytest.raises(UserError, match="is a release for cs, this workspace is for en"):
            import_common_voice(workspace, catalogue, folder)

    def test_texts_are_kept_as_harmless_as_they_come(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        evil = "<script>alert(1)</script>'); DROP TABLE recordings; -- %s {x} [/red]"
        import_common_voice(workspace, catalogue, self.release(tmp_path / "en", {"1.mp3": "ok"}))
        folder = tmp_path / "en"
        (folder / "train.tsv").write_text(f"path\tsentence\n1.mp3\tok\n2.mp3\t{evil}\n")
        shutil.copyfile(folder / "clips" / "1.mp3", folder / "clips" / "2.mp3")
        import_common_voice(workspace, catalogue, folder)
        assert evil in texts(catalogue).values()


class TestTheTwiRelease:
    @pytest.fixture
    def twi(self, tmp_path: Path) -> Workspace:
        return init_workspace(tmp_path / "twi", "tw")

    def test_it_is_imported_whole_and_its_gaps_are_told(
        self, twi: Workspace, shared_data: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def never(*_: object) -> int:
            raise AssertionError("no clip is to be opened: the release tells the durations")

        monkeypatch.setattr(audio, "duration_ms", never)
        folder = shared_data / "speech" / "cv_tw_full_release"
        options = ("--validated-rest", "--workspace", twi.root)
        outcome = corpus("import", "common-voice", folder, *options)
        assert outcome.out == "import: 225 done, 0 failed\n"
        for told in (
            "common-voice-tw: dev is empty",
            "common-voice-tw: train has 205 clips of one speaker only",
            "validated: 0 clips beside those of train, dev and test",
            "outside the alphabet of the rest: ʹ (U+02B9) 1",
        ):
            assert told in outcome.err

        written = {}
        for split in ("train", "test"):
            lines = (folder / f"{split}.tsv").read_text(encoding="utf-8").split("\n")
            column = lines[0].split("\t").index("sentence")
            for line in filter(None, lines[1:]):
                fields = line.split("\t")
                written[fields[1].removesuffix(".mp3")] = fields[column]
        found = texts(Catalogue(twi.catalogue_url))
        assert len(found) == 225
        assert {title: text.encode() for title, text in found.items()} == {
            title: text.encode() for title, text in written.items()
        }
        again = corpus("import", "common-voice", folder, *options)
        assert again.out == "import: 0 done, 0 failed\n"

    def test_clips_that_nobody_validated_are_marked(
        self, twi: Workspace, shared_data: Path
    ) -> None:
        catalogue = Catalogue(twi.catalogue_url)
        folder = shared_data / "speech" / "cv_tw_full_release"
        assert import_common_voice(twi, catalogue, folder).done == 225
        assert import_common_voice(twi, catalogue, folder, other=True).done == 25
        marks = [clip.licence_evidence.get("validated") for clip in recordings(catalogue)]
        assert (marks.count(False), marks.count(None)) == (25, 225)

    def test_an_archive_is_unpacked_once_and_its_clips_can_be_read(
        self, twi: Workspace, shared_data: Path, tmp_path: Path, corpus: Corpus
    ) -> None:
        archive = tmp_path / "cv-corpus-21.0-2025-03-14-tw.tar.gz"
        source = shared_data / "speech" / "cv_tw_full_release"
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            tar.add(source, "cv-corpus-21.0-2025-03-14/tw")
        at = ("--workspace", twi.root)
        outcome = corpus("import", "common-voice", archive, *at)
        assert outcome.out == "import: 225 done, 0 failed\n"
        catalogue = Catalogue(twi.catalogue_url)
        clip = recordings(catalogue)[0]
        assert clip.source == "common-voice/common-voice-21.0-2025-03-14-tw"
        assert clip.media_path.startswith("media/releases/cv-corpus-21.0-2025-03-14-tw-")
        (release,) = (twi.media / "releases").iterdir()
        times = {path: path.stat().st_mtime_ns for path in release.rglob("*")}
        assert corpus("import", "common-voice", archive, *at).out == "import: 0 done, 0 failed\n"
        assert {path: path.stat().st_mtime_ns for path in release.rglob("*")} == times

        apply_verdicts(catalogue, "default", read_thresholds("default"), "tw")
        assert check_media(twi, catalogue).failed == 0
        # What was unpacked here is ours, so a takedown deletes it.
        assert twi.path(clip.media_path).is_file()
        remove(twi, catalogue, find(catalogue, [clip.id], [], []))
        assert not twi.path(clip.media_path).exists()

    def test_an_import_killed_at_any_moment_goes_on(
        self, twi: Workspace, shared_data: Path, tmp_path: Path
    ) -> None:
        archive = tmp_path / "tw.tar.gz"
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            tar.add(shared_data / "speech" / "cv_tw_full_release", "tw")
        command = [
            *(sys.executable, "-m", "corpus", "import", "common-voice", str(archive)),
            *("--other", "--workspace", str(twi.root)),
        ]
        kills = 0
        for seconds in (0.9, 1.1, 1.3, 1.5, 1.8):
            process = subprocess.Popen(
                command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        assert kills
        subprocess.run(command, check=True, capture_output=True)
        catalogue = Catalogue(twi.catalogue_url)
        assert len(recordings(catalogue)) == len(texts(catalogue)) == 250
        assert len(list((twi.media / "releases").iterdir())) == 1


class TestSpontaneousSpeech:
    LONG = " ".join(SENTENCES)

    def release(self, folder: Path) -> Path:
        (folder / "audios").mkdir(parents=True)
        columns = ("client_id", "audio_file", "duration_ms", "transcription", "split")
        rows = [columns]
        for number, (seconds, text, split) in enumerate(
            [
                (4, "Hello [disfluency] there.", "train"),
                (45, self.LONG, "train"),
                (5, "Not heard yet.", "unassigned"),
                (6, "", "unassigned"),
            ],
            start=1,
        ):
            name = f"spontaneous-speech-en-{number}.mp3"
            noise = np.random.default_rng(number).normal(scale=0.01, size=seconds * 16_000)
            soundfile.write(folder / "audios" / name, noise, 16_000, format="MP3")
            rows.append((f"voice{number}", name, str(seconds * 1000), text, split))
        lines = "".join("\t".join(row) + "\n" for row in rows)
        (folder / "ss-corpus-en.tsv").write_text(lines, encoding="utf-8")
        return folder

    def test_each_clip_comes_in_as_its_text_allows(
        self,
        workspace: Workspace,
        catalogue: Catalogue,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        folder = self.release(tmp_path / "sps-corpus-5.0-2026-09-11-en")
        assert import_common_voice(workspace, catalogue, folder, other=True).done == 4
        short, long, unheard, silent = recordings(catalogue)
        assert short.licence_evidence["as_written"] == "Hello [disfluency] there."
        assert texts(catalogue) == {
            "spontaneous-speech-en-1": "Hello there.",
            "spontaneous-speech-en-3": "Not heard yet.",
        }
        with catalogue.session() as session:
            (cue,) = session.scalars(select(Cue))
        # The whole text is one cue over the whole recording, and segments are still to be cut.
        assert (cue.recording_id, cue.start_ms, cue.end_ms) == (long.id, 0, 45_000)
        assert cue.text == self.LONG
        assert [r.segmented_with is None for r in (short, long, unheard, silent)] == [
            *(False, True, False, True)
        ]
        assert unheard.licence_evidence["validated"] is False
        err = capsys.readouterr().err
        assert "1 clips are longer than 30 s: their whole text is one cue" in err
        assert "1 clips have no text" in err
        assert segment_recordings(workspace, catalogue, target_seconds=27).failed == 0


class TestTheDataCollective:
    def install(self, monkeypatch: pytest.MonkeyPatch, archive: Path) -> list[str]:
        asked: list[str] = []

        def download_dataset(dataset_id: str, download_directory: str) -> Path:
            asked.append(dataset_id)
            if dataset_id == "secret":
                raise PermissionError("Access denied.\nAccept the terms.")
            return Path(shutil.copy(archive, download_directory))

        module = types.ModuleType("datacollective")
        module.download_dataset = download_dataset  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "datacollective", module)
        return asked

    def archive(self, tmp_path: Path) -> Path:
        folder = TestCommonVoice().release(tmp_path / "en", {"1.mp3": SENTENCES[0]})
        with tarfile.open(tmp_path / "mcv.tar.gz", "w:gz") as tar:
            tar.add(folder, "cv-corpus-25.0-2026-03-09/en")
        return tmp_path / "mcv.tar.gz"

    def test_a_release_is_downloaded_once(
        self, workspace: Workspace, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = self.install(monkeypatch, self.archive(tmp_path))
        words = ("import", "common-voice", "--from-mdc", "cmj8u", "--workspace", workspace.root)
        assert corpus(*words).out == "import: 1 done, 0 failed\n"
        assert corpus(*words).out == "import: 0 done, 0 failed\n"
        assert asked == ["cmj8u"]
        archives = [p for p in workspace.media.rglob("*") if p.name.endswith(".tar.gz")]
        assert archives == []

    def test_what_hinders_it_is_one_line(
        self, workspace: Workspace, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        at = ("--workspace", workspace.root)
        self.install(monkeypatch, self.archive(tmp_path))
        denied = corpus("import", "common-voice", "--from-mdc", "secret", *at)
        assert denied.code == 1
        assert "Access denied. Accept the terms." in denied.err
        assert "MDC_API_KEY" in denied.err
        assert "last part of" in corpus("import", "common-voice", "--from-mdc", "../x", *at).err
        monkeypatch.setitem(sys.modules, "datacollective", None)
        missing = corpus("import", "common-voice", "--from-mdc", "other", *at)
        assert "install whisper-harvest[mdc]" in missing.err
        for words in ((), (tmp_path, "--from-mdc", "x")):
            outcome = corpus("import", "common-voice", *words, *at)
            assert (outcome.code, "or else --from-mdc ID" in outcome.err) == (1, True)


class TestFleurs:
    SPLITS = {  # noqa: RUF012
        "train": ["The first sentence, as written.", "It's the second one."],
        "dev": ["Another voice says this."],
        "test": ["And that, too."],
    }

    def test_the_text_as_written_is_taken_with_the_splits(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        folder = write_fleurs(tmp_path / "data" / "en_us", self.SPLITS)
        counts = import_fleurs(workspace, catalogue, str(tmp_path))
        assert (counts.done, counts.failed) == (4, 0)
        found = recordings(catalogue)
        assert sorted(str(clip.split) for clip in found) == ["dev", "test", "train", "train"]
        assert {clip.language for clip in found} == {"en"}
        assert {(clip.licence, clip.redistributable) for clip in found} == {("CC-BY-4.0", True)}
        assert "Conneau" in found[0].attribution
        assert sorted(texts(catalogue).values()) == sorted(chain(*self.SPLITS.values()))
        for clip in found:
            assert abs(clip.duration_ms - audio.duration_ms(Path(clip.media_path))) <= 1
        assert import_fleurs(workspace, catalogue, str(folder)).done == 0

    def test_the_other_text_is_taken_when_asked_for(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        folder = write_fleurs(tmp_path / "en_us", {"train": ["As written."]})
        import_fleurs(workspace, catalogue, str(folder), text_column="transcription")
        assert list(texts(catalogue).values()) == ["as written"]
        with pytest.raises(UserError, match="raw_transcription and transcription"):
            import_fleurs(workspace, catalogue, str(folder), text_column="phonemes")

    def test_packed_audio_is_unpacked_into_the_workspace(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        folder = write_fleurs(tmp_path / "en_us", self.SPLITS)
        for split in self.SPLITS:
            with tarfile.open(folder / "audio" / f"{split}.tar.gz", "w:gz") as tar:
                tar.add(folder / "audio" / split, split)
            shutil.rmtree(folder / "audio" / split)
        assert import_fleurs(workspace, catalogue, str(folder)).done == 4
        for clip in recordings(catalogue):
            assert clip.media_path.startswith("media/releases/fleurs-en_us-")
            assert workspace.path(clip.media_path).is_file()

    def test_what_is_missing_or_broken_is_told(
        self,
        workspace: Workspace,
        catalogue: Catalogue,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        folder = write_fleurs(tmp_path / "en_us", self.SPLITS)
        shutil.rmtree(folder / "audio" / "dev")
        with (folder / "train.tsv").open("a", encoding="utf-8") as file:
            file.write("only\ttwo\n")
        assert import_fleurs(workspace, catalogue, str(folder)).done == 3
        err = capsys.readouterr().err
        assert "dev.tsv: no such audio: 1" in err
        assert "train.tsv: another number of columns: 1, first line 3" in err
        assert "dev is empty" in err

    def test_another_language_is_refused(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        write_fleurs(tmp_path / "cs_cz", {"train": ["Ahoj."]})
        with pytest.raises(UserError, match="is a release for cs_cz, this workspace is for en"):
            import_fleurs(workspace, catalogue, str(tmp_path / "cs_cz"))
        with pytest.raises(UserError, match="is a release for cs_cz"):
            import_fleurs(workspace, catalogue, "cs_cz")
        with pytest.raises(UserError, match="no such folder, and no part of FLEURS"):
            import_fleurs(workspace, catalogue, "nothing")
        chinese = init_workspace(tmp_path / "zh", "zh")
        write_fleurs(tmp_path / "cmn_hans_cn", {"train": ["Hello."]})
        counts = import_fleurs(
            chinese, Catalogue(chinese.catalogue_url), str(tmp_path / "cmn_hans_cn")
        )
        assert counts.done == 1

    def test_a_workspace_may_name_the_language_otherwise_than_whisper(self, tmp_path: Path) -> None:
        norwegian = init_workspace(tmp_path / "nb", "nb")
        folder = write_fleurs(tmp_path / "nb_no", {"train": ["Hello."]})
        counts = import_fleurs(norwegian, Catalogue(norwegian.catalogue_url), str(folder))
        assert counts.done == 1

    def test_a_name_of_the_hub_asks_the_hub_for_that_part_alone(
        self,
        workspace: Workspace,
        catalogue: Catalogue,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        write_fleurs(tmp_path / "snapshot" / "data" / "en_us", self.SPLITS)
        asked: list[Any] = []

        def snapshot_download(*words: str, **options: Any) -> str:
            asked.append((words, options))
            return str(tmp_path / "snapshot")

        monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
        assert import_fleurs(workspace, catalogue, "en_us").done == 4
        ((words, options),) = asked
        assert words == ("google/fleurs",)
        assert options == {
            "repo_type": "dataset",
            "allow_patterns": ["data/en_us/*.tsv", "data/en_us/audio/*.tar.gz"],
        }


CC0 = "CC0-1.0"


class TestHuggingFace:
    def rows(self, *rates: int, **columns: str) -> list[dict[str, Any]]:
        return [
            {
                "audio": {"bytes": wav(SENTENCES[n % len(SENTENCES)], rate), "path": f"{n}.wav"},
                "sentence": f"Sentence {n}.",
                "client_id": f"voice{n}",
                **columns,
            }
            for n, rate in enumerate(rates)
        ]

    @pytest.fixture
    def parquet(self, tmp_path: Path) -> Path:
        folder = tmp_path / "speech"
        rows = self.rows(8_000, 22_050, 48_000)
        write_parquet(folder / "data" / "train-00000-of-00001.parquet", rows[:2])
        write_parquet(folder / "data" / "validation-00000-of-00001.parquet", rows[2:])
        (folder / "README.md").write_text(
            "---\nlicense: cc-by-4.0\nlanguage:\n- en\n---\n# Speech\n"
        )
        return folder

    def test_a_folder_of_parquet_becomes_flac_at_one_rate(
        self, workspace: Workspace, catalogue: Catalogue, parquet: Path
    ) -> None:
        counts = import_hf(workspace, catalogue, str(parquet))
        assert (counts.done, counts.failed) == (3, 0)
        found = sorted(recordings(catalogue), key=lambda r: str(r.speaker))
        assert [clip.speaker for clip in found] == [f"hf/speech:voice{n}" for n in range(3)]
        assert [clip.split for clip in found] == ["train", "train", "dev"]
        assert {clip.source for clip in found} == {"hf/speech"}
        assert {(clip.licence, clip.licence_raw) for clip in found} == {("CC-BY-4.0", "cc-by-4.0")}
        assert {clip.licence_evidence["stated_by"] for clip in found} == {"card"}
        for number, clip in enumerate(found):
            path = workspace.path(clip.media_path)
            info = soundfile.info(path)
            assert (info.samplerate, info.channels, info.format) == (16_000, 1, "FLAC")
            assert abs(info.frames - spoken(SENTENCES[number])[0].size) < 100
            assert clip.duration_ms == info.frames * 1000 // 16_000
        assert sorted(texts(catalogue).values()) == [f"Sentence {n}." for n in range(3)]
        assert "torchcodec" not in sys.modules

        media = {p: p.stat().st_mtime_ns for p in workspace.media.rglob("*.flac")}
        assert import_hf(workspace, catalogue, str(parquet)).done == 0
        assert {p: p.stat().st_mtime_ns for p in workspace.media.rglob("*.flac")} == media
        assert not (workspace.media / ".stage" / "import").exists()

    def test_only_the_splits_that_are_asked_for_are_taken(
        self, workspace: Workspace, catalogue: Catalogue, parquet: Path
    ) -> None:
        assert import_hf(workspace, catalogue, str(parquet), splits=["validation"]).done == 1
        with pytest.raises(UserError, match="no split other; it has"):
            import_hf(workspace, catalogue, str(parquet), splits=["other"])

    def test_a_saved_dataset_is_read_and_not_written_to(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        from datasets import Audio, Dataset, DatasetDict

        rows = Dataset.from_list(self.rows(16_000, 44_100)).cast_column(
            "audio", Audio(decode=False)
        )
        saved = tmp_path / "saved"
        DatasetDict({"train": rows.select([0]), "test": rows.select([1])}).save_to_disk(str(saved))
        before = sorted(str(path) for path in saved.rglob("*"))
        assert import_hf(workspace, catalogue, str(saved), licence=CC0).done == 2
        assert sorted(str(path) for path in saved.rglob("*")) == before
        assert {clip.split for clip in recordings(catalogue)} == {"train", "test"}

    def test_an_audio_folder_and_csv_beside_audio_are_read(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        folder = tmp_path / "af" / "train"
        write_speech(folder / "a.wav", SENTENCES[0])
        (folder / "metadata.csv").write_text(f"file_name,transcription\na.wav,{SENTENCES[0]}\n")
        assert import_hf(workspace, catalogue, str(tmp_path / "af"), licence="own").done == 1
        write_speech(tmp_path / "csv" / "clips" / "b.wav", SENTENCES[1])
        write_speech(tmp_path / "csv" / "clips" / "c.wav", SENTENCES[2])
        (tmp_path / "csv" / "train.csv").write_text("path,text\nclips/b.wav,NA\nclips/c.wav,null\n")
        assert import_hf(workspace, catalogue, str(tmp_path / "csv"), licence="own").done == 2
        assert sorted(texts(catalogue).values()) == sorted(["NA", "null", SENTENCES[0]])

    def test_a_table_cannot_name_files_elsewhere(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        secret = write_speech(tmp_path / "secret.wav", SENTENCES[0])
        folder = tmp_path / "set"
        folder.mkdir()
        (folder / "link.wav").symlink_to(secret)
        names = ["../secret.wav", str(secret), "link.wav", "absent.wav"]
        lines = "".join(f"{name},text\n" for name in names)
        (folder / "train.csv").write_text(f"path,text\n{lines}")
        counts = import_hf(workspace, catalogue, str(folder), licence=CC0)
        assert (counts.done, counts.failed) == (0, 4)
        assert [f.item for f in failures(catalogue)] == [f"hf/set:train-{n}" for n in range(4)]
        assert "`corpus add` takes other files" in failures(catalogue)[0].message
        assert recordings(catalogue) == []

    def test_columns_are_guessed_and_can_be_told(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        (row,) = self.rows(16_000)
        row = {"audio": row["audio"], "words": "Spoken.", "who": "ann"}
        path = write_parquet(tmp_path / "odd.parquet", [row])
        with pytest.raises(UserError, match="which column is the text"):
            import_hf(workspace, catalogue, str(path), licence=CC0)
        with pytest.raises(UserError, match="--text-column wrods: there is only audio, words, who"):
            import_hf(workspace, catalogue, str(path), licence=CC0, text_column="wrods")
        import_hf(
            workspace, catalogue, str(path), licence=CC0, text_column="words", speaker_column="who"
        )
        (clip,) = recordings(catalogue)
        assert clip.speaker == "hf/odd:ann"
        assert list(texts(catalogue).values()) == ["Spoken."]

    def test_samples_in_a_column_are_audio_too(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        samples = (np.sin(np.arange(8_000) / 20) / 3).tolist()
        row = {"audio": {"array": samples, "sampling_rate": 8_000}, "text": "Beep."}
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "train.parquet")
        import_hf(workspace, catalogue, str(tmp_path / "train.parquet"), licence=CC0)
        assert [clip.duration_ms for clip in recordings(catalogue)] == [1000]

    def test_rows_in_another_language_are_left_out_and_names_of_languages_are_not_codes(
        self,
        workspace: Workspace,
        catalogue: Catalogue,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        rows = self.rows(16_000, 8_000, 22_050)
        for row, locale in zip(rows, ("en-GB", "cs", "English"), strict=True):
            row["locale"] = locale
        path = write_parquet(tmp_path / "mixed.parquet", rows)
        assert import_hf(workspace, catalogue, str(path), licence=CC0).done == 2
        assert "1 rows are in another language, left out" in capsys.readouterr().err

    def test_the_card_must_fit_the_workspace_and_tell_the_licence(
        self, workspace: Workspace, catalogue: Catalogue, parquet: Path
    ) -> None:
        card = parquet / "README.md"
        card.write_text("---\nlicense: cc-by-4.0\nlanguage: cs\n---\n")
        with pytest.raises(UserError, match="says cs, this workspace is for en"):
            import_hf(workspace, catalogue, str(parquet))
        for licence in ("", "license: other\n", "license: unknown\n"):
            card.write_text(f"---\n{licence}language: en\n---\n")
            with pytest.raises(UserError, match="tells no licence; give --license"):
                import_hf(workspace, catalogue, str(parquet))
        with pytest.raises(UserError, match="not a licence known here"):
            import_hf(workspace, catalogue, str(parquet), licence="whatever")
        card.write_text("---\nlicense: odc-by\n---\n")
        import_hf(workspace, catalogue, str(parquet))
        assert {(c.licence, c.redistributable) for c in recordings(catalogue)} == {
            ("odc-by", False)
        }

    def test_the_same_audio_in_test_and_train_is_held_out(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        rows = self.rows(16_000)
        for split in ("train", "test"):
            write_parquet(tmp_path / "set" / f"{split}-00000-of-00001.parquet", rows)
        assert import_hf(workspace, catalogue, str(tmp_path / "set"), licence=CC0).done == 1
        assert [clip.split for clip in recordings(catalogue)] == ["test"]

    def test_a_broken_row_is_noted_and_one_without_a_text_is_for_labelling(
        self,
        workspace: Workspace,
        catalogue: Catalogue,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        rows = self.rows(16_000, 8_000)
        rows[0]["audio"] = {"bytes": b"no audio", "path": None}
        rows[1]["sentence"] = None
        path = write_parquet(tmp_path / "train.parquet", rows)
        counts = import_hf(workspace, catalogue, str(path), licence=CC0)
        assert (counts.done, counts.failed) == (1, 1)
        assert "1 clips have no text" in capsys.readouterr().err
        assert [clip.segmented_with for clip in recordings(catalogue)] == [None]
        assert "train-0: not readable as audio" in failures(catalogue)[0].message

    def test_what_is_no_data_set_is_told_in_a_line(
        self, workspace: Workspace, corpus: Corpus, tmp_path: Path
    ) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
        (tmp_path / "notes.txt").write_text("text")
        for name, message in (
            ("./absent", "no such folder"),
            ("absent", "no name of the Hub (OWNER/NAME)"),
            (tmp_path / "absent", "no such folder"),
            (tmp_path / "empty", "cannot be read as a data set"),
            (tmp_path / "broken.parquet", "broken"),
            (tmp_path / "notes.txt", "only .parquet, .csv, .arrow files"),
        ):
            outcome = corpus("import", "hf", name, "--workspace", workspace.root)
            assert outcome.code == 1
            assert message in outcome.err
            assert outcome.err.count("error:") == 1

    def test_an_import_killed_on_its_way_goes_on(
        self, workspace: Workspace, tmp_path: Path
    ) -> None:
        rng = np.random.default_rng(0)
        rows = []
        for number in range(70):
            buffer = io.BytesIO()
            soundfile.write(buffer, rng.normal(scale=0.1, size=12_000), 48_000, format="WAV")
            audio_file = {"bytes": buffer.getvalue(), "path": None}
            rows.append({"audio": audio_file, "text": f"Text {number}."})
        path = write_parquet(tmp_path / "train.parquet", rows)
        command = [
            *(sys.executable, "-m", "corpus", "import", "hf", str(path), "--license", CC0),
            *("--workspace", str(workspace.root)),
        ]
        process = subprocess.Popen(
            command, stderr=subprocess.DEVNULL, env=os.environ | {"HF_HUB_OFFLINE": "1"}
        )
        folder = workspace.media / "hf"
        while process.poll() is None and len(list(folder.glob("*.flac"))) < 55:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        catalogue = Catalogue(workspace.catalogue_url)
        assert 0 < len(recordings(catalogue)) < 70
        subprocess.run(command, check=True, capture_output=True)
        found = recordings(catalogue)
        assert len(found) == 70
        assert len(set(texts(catalogue).values())) == 70
        assert sorted(workspace.path(clip.media_path) for clip in found) == sorted(folder.iterdir())

    def test_a_name_of_the_hub_is_streamed(
        self,
        workspace: Workspace,
        catalogue: Catalogue,
        parquet: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        import datasets
        import huggingface_hub

        load, asked = datasets.load_dataset, []

        def load_dataset(name: str, config: str | None, **options: Any) -> Any:
            asked.append((name, config, options))
            return load(str(parquet), **options)

        card = huggingface_hub.DatasetCard.load(parquet / "README.md")
        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        monkeypatch.setattr(huggingface_hub.DatasetCard, "load", lambda *_, **__: card)
        assert import_hf(workspace, catalogue, "some/speech", config="en").done == 3
        assert asked == [("some/speech", "en", {"streaming": True})]
        assert {clip.source for clip in recordings(catalogue)} == {"hf/some/speech/en"}

    def test_a_table_of_the_hub_cannot_name_files_of_this_machine(
        self,
        workspace: Workspace,
        catalogue: Catalogue,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        import datasets

        secret = write_speech(tmp_path / "secret.wav", SENTENCES[0])
        row = {"audio": {"bytes": None, "path": str(secret)}, "text": "mine"}
        path = write_parquet(tmp_path / "set" / "train.parquet", [row])
        load = datasets.load_dataset
        monkeypatch.setattr(
            datasets, "load_dataset", lambda *_, **options: load(str(path.parent), **options)
        )
        monkeypatch.setattr(hf.DataSet, "card", lambda _: hf.Card(None, ()))
        counts = import_hf(workspace, catalogue, "some/speech", licence=CC0)
        assert (counts.done, counts.failed) == (0, 1)
        assert "neither bytes nor a file of the Hub" in failures(catalogue)[0].message


def test_a_source_that_writes_otherwise_than_the_rest_is_told(
    workspace: Workspace, catalogue: Catalogue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cased = write_fleurs(tmp_path / "en_us", TestFleurs.SPLITS)
    import_fleurs(workspace, catalogue, str(cased))
    bare = {"audio": {"bytes": wav(SENTENCES[0], 8_000), "path": None}, "text": "bare words"}
    path = write_parquet(tmp_path / "bare.parquet", [bare])
    capsys.readouterr()
    import_hf(workspace, catalogue, str(path), licence=CC0)
    err = capsys.readouterr().err
    assert "hf/bare: 0% of its lines end in punctuation, elsewhere in this workspace 100%" in err


def test_failing_clips_and_takedowns_do_not_stop_a_batch(
    workspace: Workspace, catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "LISTED_ROWS", 2)
    names = {f"{n}.mp3": SENTENCES[0] for n in range(5)}
    folder = TestCommonVoice().release(tmp_path / "en", names)
    lines = [f"{name}\t1500" for name in names]
    (folder / "clip_durations.tsv").write_text("clip\tduration[ms]\n" + "\n".join(lines) + "\n")
    with catalogue.session() as session:
        session.add(Tombstone(item="common-voice:en:2", files=[]))
    counts = import_common_voice(workspace, catalogue, folder)
    assert (counts.done, counts.failed) == (4, 1)
    assert json.dumps([f.kind for f in failures(catalogue)]) == '["removed"]'
