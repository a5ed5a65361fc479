"""Common Voice: the lists of real releases, every sentence as it was, no file outside clips/."""

import csv
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.audio import duration_ms
from corpus.errors import UserError
from corpus.sources.common_voice import read_release

COLUMNS = ["client_id", "path", "sentence", "up_votes", "locale"]


def make_release(folder, rows, *, split="train", columns=COLUMNS, files=None, quoted=False):
    """A release whose clips are empty files; a row is speaker, path, sentence, votes, locale."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    for name in files if files is not None else [row[1] for row in rows]:
        (folder / "clips" / name).touch()
    with (folder / f"{split}.tsv").open("w", encoding="utf-8", newline="") as file:
        if quoted:
            csv.writer(file, delimiter="\t", lineterminator="\n").writerows([columns, *rows])
        else:
            file.writelines("\t".join(row) + "\n" for row in [columns, *rows])
    return folder


def sentences(release):
    return [clip.text for clip in release.clips]


def test_a_whole_release_is_read_with_its_splits_speakers_and_durations(shared_data):
    release = read_release(shared_data / "speech" / "cv_tw_full_release")
    splits = [clip.split for clip in release.clips]
    assert (splits.count("train"), splits.count("dev"), splits.count("test")) == (205, 0, 20)
    assert len({clip.path for clip in release.clips}) == 225
    assert release.locale == "tw"
    assert release.problems == []
    assert all(clip.path.is_file() and clip.speaker and clip.validated for clip in release.clips)
    for clip in release.clips[::40]:
        assert clip.duration_ms == pytest.approx(duration_ms(clip.path), abs=60)


def test_the_validated_and_other_lists_add_only_what_the_splits_lack(shared_data):
    folder = shared_data / "speech" / "cv_tw_full_release"
    release = read_release(folder, ("train", "dev", "test", "validated", "other"))
    assert len(release.clips) == len({clip.path for clip in release.clips}) == 225 + 46
    assert sum(not clip.validated for clip in release.clips) == 46
    assert release.problems == []


def test_an_old_release_is_read_though_a_column_comes_twice_and_others_are_absent(shared_data):
    release = read_release(shared_data / "speech" / "cv_en_old")
    by_name = {clip.path.name: clip for clip in release.clips}
    assert len(by_name) == 19
    assert by_name["common_voice_en_1.mp3"].text == "I'm interested only in the present."
    assert by_name["common_voice_en_3.mp3"].text == (
        '"I\'m a woman of the desert," she said, averting her face.'
    )
    assert release.locale == "en"
    assert {clip.speaker for clip in release.clips} == {None}
    assert {clip.duration_ms for clip in release.clips} == {None}


def test_clips_that_are_not_there_are_counted(shared_data):
    release = read_release(shared_data / "speech" / "cv_en_old", ["validated"])
    assert len(release.clips) == 40
    assert len(release.problems) == 1
    assert release.problems[0].startswith("validated.tsv: not in clips/: 56, first ")


@pytest.mark.parametrize(
    ("name", "count", "locale"),
    [
        ("ar_sm_train.tsv", 17, "ar"),
        ("ckb_train.tsv", 6403, "ckb"),
        ("ko_train.tsv", 519, "ko"),
        ("pl_validated.tsv", 711, "pl"),
        ("zh-TW_other.tsv", 2743, "zh-TW"),
    ],
)
def test_every_sentence_of_real_lists_is_read(shared_data, tmp_path, name, count, locale):
    source = shared_data / "cv_meta" / "sentences" / name
    lines = source.read_text(encoding="utf-8").split("\n")
    header = lines[0].rstrip("\r").split("\t")
    column = header.index("sentence")
    expected = [line.rstrip("\r").split("\t")[column] for line in lines[1:] if line]
    (tmp_path / "clips").mkdir()
    for line in lines[1:]:
        if line:
            (tmp_path / "clips" / line.split("\t")[header.index("path")]).touch()
    split = source.stem.rsplit("_", 1)[1]
    shutil.copyfile(source, tmp_path / f"{split}.tsv")

    release = read_release(tmp_path, [split])
    assert sentences(release) == expected
    assert len(expected) == count
    assert release.locale == locale
    assert release.problems == []


@pytest.mark.parametrize("quoted", [True, False])
def test_quotation_marks_survive_either_way_of_writing(tmp_path, quoted):
    texts = ['"All of it."', 'He said "no".', '"No," he said, "never."', "plain", '"half']
    rows = [("voice1", f"{i}.mp3", text, "2", "en") for i, text in enumerate(texts)]
    assert sentences(read_release(make_release(tmp_path, rows, quoted=quoted))) == texts


sentence = st.text(
    st.characters(exclude_characters="\t\n\r\x00", exclude_categories=["Cs"]), min_size=1
).filter(str.strip)


@settings(max_examples=60, deadline=None)
@given(st.lists(sentence, min_size=1, max_size=8))
def test_any_sentence_survives_the_csv_quoting_of_old_releases(tmp_path_factory, texts):
    rows = [("voice1", f"{i}.mp3", text, "2", "en") for i, text in enumerate(texts)]
    folder = make_release(tmp_path_factory.mktemp("cv"), rows, quoted=True)
    assert sentences(read_release(folder)) == texts


def test_null_and_na_are_sentences(tmp_path):
    texts = ["null", "NA", "None", "nan", "TRUE"]
    rows = [("voice1", f"{i}.mp3", text, "2", "en") for i, text in enumerate(texts)]
    assert sentences(read_release(make_release(tmp_path, rows))) == texts


def test_a_path_that_leads_out_of_clips_is_refused(tmp_path):
    (tmp_path / "secret.mp3").touch()
    (tmp_path / "release" / "clips").mkdir(parents=True)
    (tmp_path / "release" / "clips" / "link.mp3").symlink_to(tmp_path / "secret.mp3")
    paths = ["../../secret.mp3", str(tmp_path / "secret.mp3"), "..\\secret.mp3", "..", "link.mp3"]
    rows = [("voice1", path, "text", "2", "en") for path in paths]
    rows.append(("voice1", "good.mp3", "text", "2", "en"))
    release = read_release(make_release(tmp_path / "release", rows, files=["good.mp3"]))
    assert [clip.path.name for clip in release.clips] == ["good.mp3"]
    assert release.problems == [
        "train.tsv: refused, the path leaves clips/: 3, first ../../secret.mp3",
        "train.tsv: not in clips/: 2, first ..",
    ]


def test_a_clip_that_is_tested_on_is_not_trained_on(tmp_path):
    row = ("voice1", "1.mp3", "text", "2", "en")
    make_release(tmp_path, [row, ("voice2", "2.mp3", "text", "2", "en")])
    release = read_release(make_release(tmp_path, [row], split="test"))
    assert {clip.path.name: clip.split for clip in release.clips} == {
        "1.mp3": "test",
        "2.mp3": "train",
    }
    assert release.problems == ["train.tsv: in test too, left there: 1, first 1.mp3"]


def test_lines_and_sentences_that_are_not_whole_are_counted(tmp_path):
    rows = [
        ("voice1", "1.mp3", "text", "2", "en"),
        ("voice1", "2.mp3"),
        ("voice1", "3.mp3", " ", "2", "en"),
    ]
    release = read_release(make_release(tmp_path, rows))
    assert sentences(release) == ["text"]
    assert release.problems == [
        "train.tsv: another number of columns: 1, first line 3",
        "train.tsv: no sentence: 1, first 3.mp3",
    ]


def test_the_first_releases_name_clips_without_suffix(tmp_path):
    row = ("voice1", "0a1b", "text", "2", "cy")
    (clip,) = read_release(make_release(tmp_path, [row], files=["0a1b.mp3"])).clips
    assert clip.path == tmp_path / "clips" / "0a1b.mp3"


def test_the_version_comes_from_the_folder_of_the_archive(tmp_path):
    row = ("voice1", "1.mp3", "text", "2", "cs")
    release = read_release(make_release(tmp_path / "cv-corpus-21.0-2025-03-14" / "cs", [row]))
    assert release.version == "21.0-2025-03-14"
    assert release.name == "common-voice-21.0-2025-03-14-cs"
    unnamed = read_release(make_release(tmp_path / "mine", [row]))
    assert (unnamed.version, unnamed.name) == (None, "common-voice-cs")


def test_what_is_no_release_is_told_so(tmp_path):
    with pytest.raises(UserError, match="it lacks clips/"):
        read_release(tmp_path)
    make_release(tmp_path / "cs", [("voice1", "1.mp3", "text", "2", "cs")])
    with pytest.raises(UserError, match="give the folder cs in it"):
        read_release(tmp_path)
    (tmp_path / "cs" / "train.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(UserError, match="no column path, sentence"):
        read_release(tmp_path / "cs")
    (tmp_path / "cs" / "train.tsv").write_bytes(b"path\tsentence\n1.mp3\t\xff\xfe\n")
    with pytest.raises(UserError, match="not UTF-8"):
        read_release(tmp_path / "cs")
