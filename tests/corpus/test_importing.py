"""Bringing the clips of a release into the catalogue."""

from pathlib import Path

import pytest
import soundfile
from sqlalchemy import select

from corpus.catalogue import Catalogue, Failure, Recording, Transcript
from corpus.errors import UserError
from corpus.importing import import_common_voice
from corpus.workspace import Workspace

from .conftest import SENTENCES, spoken


def recordings(catalogue: Catalogue) -> list[Recording]:
    with catalogue.session() as session:
        return list(session.scalars(select(Recording).order_by(Recording.title)))


def failures(catalogue: Catalogue) -> list[Failure]:
    with catalogue.session() as session:
        return list(session.scalars(select(Failure).order_by(Failure.item)))


class TestCommonVoice:
    def release(self, folder: Path, clips: dict[str, str], broken: str | None = None) -> Path:
        (folder / "clips").mkdir(parents=True, exist_ok=True)
        lines = ["client_id\tpath\tsentence\tlocale"]
        for name, split_text in clips.items():
            pcm, _ = spoken(split_text)
            soundfile.write(folder / "clips" / name, pcm, 16_000, format="MP3")
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
        with catalogue.session() as session:
            assert session.scalars(select(Transcript.text)).all() == [SENTENCES[0]]

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

    def test_a_broken_clip_is_noted_once_and_the_others_are_taken(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        clips = {"common_voice_en_1.mp3": SENTENCES[0]}
        folder = self.release(tmp_path / "en", clips, broken="common_voice_en_9.mp3")
        assert import_common_voice(workspace, catalogue, folder).failed == 1
        assert import_common_voice(workspace, catalogue, folder).failed == 0
        (failure,) = failures(catalogue)
        assert (failure.item, failure.attempts) == ("common-voice:en:common_voice_en_9", 1)

    def test_a_release_in_another_language_is_refused(
        self, workspace: Workspace, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        folder = self.release(tmp_path / "cs", {})
        with pytest.raises(UserError, match="is a release for cs, this workspace is for en"):
            import_common_voice(workspace, catalogue, folder)
