"""Common Voice: the lists of real releases, every sentence as it was, no file outside clips/."""

import csv
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.audio import duration_ms
from corpus.errors import UserError
from corpus.sources.common_voice import read_release
from corpus.text import normalise

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
    assert release.notes == ["train has 205 clips of one speaker only", "dev is empty"]
    assert all(clip.path.is_file() and clip.speaker and clip.validated for clip in release.clips)
    for clip in release.clips[::40]:
        assert clip.duration_ms == pytest.approx(duration_ms(clip.path), abs=60)


def test_of_the_other_lists_speakers_of_dev_and_test_are_left_out(shared_data):
    folder = shared_data / "speech" / "cv_tw_full_release"
    release = read_release(folder, validated_rest=True, other=True)
    assert len(release.clips) == len({clip.path for clip in release.clips}) == 225 + 25
    added = [clip for clip in release.clips if not clip.validated]
    assert len(added) == 25
    assert {clip.split for clip in added} == {"train"}
    tested = {clip.speaker for clip in release.clips if clip.split == "test"}
    assert not tested & {clip.speaker for clip in added}
    assert release.notes == [
        "dev is empty",
        "validated: 0 clips beside those of train, dev and test, added to train",
        "other: 25 clips beside those of train, dev and test, added to train",
        "other.tsv: left out, its speaker is in dev or test: 21, "
        "first common_voice_tw_36831070.mp3",
    ]


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
    release = read_release(shared_data / "speech" / "cv_en_old", validated_rest=True)
    assert len(release.clips) == 40
    assert any(
        note.startswith("validated.tsv: not in its folder: 56, first ") for note in release.notes
    )


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

    release = read_release(tmp_path, validated_rest=True, other=True)
    assert sentences(release) == expected
    assert len(expected) == count
    assert release.locale == locale
    assert not any(".tsv" in note for note in release.notes)


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
    assert release.notes[2:] == [
        "train.tsv: refused, the path leaves its folder: 3, first ../../secret.mp3",
        "train.tsv: not in its folder: 2, first ..",
    ]


def test_a_clip_that_is_tested_on_is_not_trained_on(tmp_path):
    row = ("voice1", "1.mp3", "text", "2", "en")
    make_release(tmp_path, [row, ("voice2", "2.mp3", "text", "2", "en")])
    release = read_release(make_release(tmp_path, [row], split="test"))
    assert {clip.path.name: clip.split for clip in release.clips} == {
        "1.mp3": "test",
        "2.mp3": "train",
    }
    assert release.notes[-1] == "train.tsv: in test too, left there: 1, first 1.mp3"


def test_lines_and_sentences_that_are_not_whole_are_counted(tmp_path):
    rows = [
        ("voice1", "1.mp3", "text", "2", "en"),
        ("voice1", "2.mp3"),
        ("voice1", "3.mp3", " ", "2", "en"),
    ]
    release = read_release(make_release(tmp_path, rows))
    assert sentences(release) == ["text"]
    assert release.notes[2:] == [
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
    make_release(tmp_path / "sk", [("voice1", "1.mp3", "text", "2", "sk")])
    with pytest.raises(UserError, match="several releases: give one of cs, sk"):
        read_release(tmp_path)
    (tmp_path / "cs" / "train.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(UserError, match="no column path, sentence"):
        read_release(tmp_path / "cs")
    (tmp_path / "cs" / "train.tsv").write_bytes(b"path\tsentence\n1.mp3\t\xff\xfe\n")
    with pytest.raises(UserError, match="not UTF-8"):
        read_release(tmp_path / "cs")


def test_a_release_is_found_in_the_folder_around_it(tmp_path):
    row = ("voice1", "1.mp3", "text", "2", "cs")
    make_release(tmp_path / "download" / "cv-corpus-25.0-2026-03-09" / "cs", [row])
    release = read_release(tmp_path / "download")
    assert release.name == "common-voice-25.0-2026-03-09-cs"


def test_a_delta_release_has_no_splits_and_says_how_to_take_it(tmp_path):
    row = ("voice1", "1.mp3", "text", "2", "cs")
    folder = tmp_path / "cv-corpus-17.0-delta-2024-03-15" / "cs"
    make_release(folder, [row], split="validated")
    with pytest.raises(UserError, match="give --validated-rest"):
        read_release(folder)
    release = read_release(folder, validated_rest=True)
    assert (release.version, sentences(release)) == ("17.0-delta-2024-03-15", ["text"])


class TestTheValidatedRest:
    def release(self, folder):
        make_release(folder, [("one", "1.mp3", "One sentence.", "2", "cs")], split="train")
        make_release(folder, [("two", "2.mp3", "Don't, please!", "2", "cs")], split="dev")
        make_release(folder, [("cid", "3.mp3", "Tested on.", "2", "cs")], split="test")
        rows = [
            ("one", "1.mp3", "One sentence.", "2", "cs"),
            ("two", "2.mp3", "Don't, please!", "2", "cs"),
            ("cid", "3.mp3", "Tested on.", "2", "cs"),
            ("one", "4.mp3", "Another one.", "2", "cs"),
            ("eve", "5.mp3", "One sentence.", "2", "cs"),
            ("cid", "6.mp3", "Something else.", "2", "cs"),
            ("eve", "7.mp3", "Tested on.", "2", "cs"),
            ("eve", "8.mp3", "DON’T PLEASE", "2", "cs"),
            ("", "9.mp3", "By nobody known.", "2", "cs"),
        ]
        return make_release(folder, rows, split="validated")

    def test_neither_a_speaker_nor_a_sentence_of_dev_or_test_comes_into_train(self, tmp_path):
        folder = self.release(tmp_path)
        assert len(read_release(folder).clips) == 3
        release = read_release(folder, validated_rest=True)
        assert sorted(clip.path.stem for clip in release.clips if clip.split == "train") == [
            *("1", "4", "5", "9")
        ]
        assert all(clip.validated for clip in release.clips)
        assert release.notes == [
            "validated: 3 clips beside those of train, dev and test, added to train",
            "validated.tsv: left out, its speaker is in dev or test: 1, first 6.mp3",
            "validated.tsv: left out, its sentence is in dev or test: 2, first 7.mp3",
        ]

    def test_marks_that_carry_the_vowels_tell_sentences_apart(self, tmp_path):
        make_release(tmp_path, [("one", "1.mp3", "दो", "2", "hi")], split="test")
        rows = [("two", "2.mp3", "दे", "2", "hi"), ("two", "3.mp3", "दो!", "2", "hi")]
        release = read_release(make_release(tmp_path, rows, split="validated"), validated_rest=True)
        assert [clip.path.stem for clip in release.clips] == ["1", "2"]


@settings(max_examples=60, deadline=None)
@given(st.lists(sentence, min_size=1, max_size=4), sentence, st.data())
def test_a_sentence_is_left_out_just_when_its_words_are_held_out(
    tmp_path_factory, held_out, text, data
):
    written = data.draw(st.sampled_from([text, text.upper(), f"  {text}!", *held_out]))
    folder = tmp_path_factory.mktemp("cv")
    rows = [("one", f"{i}.mp3", known, "2", "en") for i, known in enumerate(held_out)]
    make_release(folder, rows, split="test")
    make_release(folder, [("two", "new.mp3", written, "2", "en")], split="validated")
    taken = [clip.path.stem for clip in read_release(folder, validated_rest=True).clips]
    assert ("new" not in taken) == (normalise(written) in map(normalise, held_out))


SPONTANEOUS = [
    *("client_id", "audio_id", "audio_file", "duration_ms", "prompt_id", "prompt"),
    *("transcription", "votes", "language", "split", "char_per_sec", "quality_tags"),
]


def make_spontaneous(folder, rows, locale="tw"):
    """A release of spontaneous speech; a row is speaker, number, ms, text, split, quality tags."""
    (folder / "audios").mkdir(parents=True)
    lines = ["\t".join(SPONTANEOUS)]
    for speaker, number, ms, text, split, quality in rows:
        name = f"spontaneous-speech-{locale}-{number}.mp3"
        (folder / "audios" / name).touch()
        fields = [speaker, str(number), name, str(ms), "7", "Why?", text, "2", "Twi", split, "9.0"]
        lines.append("\t".join([*fields, quality]))
    path = folder / f"ss-corpus-{locale}.tsv"
    path.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8")
    return folder


class TestSpontaneousSpeech:
    def release(self, tmp_path, **options):
        folder = tmp_path / "sps-corpus-5.0-2026-09-11-tw"
        rows = [
            ("one", 1, 4000, "Me [disfluency] pɛ [noise]", "train", ""),
            ("one", 2, 61000, "Ɛyɛ.", "train", "long-audio|speech-rate"),
            ("two", 3, 5000, "Ɛyɛ papa.", "dev", ""),
            ("cid", 4, 5000, "Mepa wo kyɛw.", "test", ""),
            ("eve", 5, 5000, "Yoo [unclear].", "train", ""),
            ("eve", 6, 5000, "Not heard yet.", "unassigned", ""),
            ("eve", 7, 5000, "", "unassigned", ""),
            ("cid", 8, 5000, "", "unassigned", ""),
        ]
        return read_release(make_spontaneous(folder, rows), **options)

    def test_its_own_list_gives_splits_durations_and_texts_without_tags(self, tmp_path):
        release = self.release(tmp_path)
        assert release.name == "spontaneous-speech-5.0-2026-09-11-tw"
        clips = {clip.path.stem.rpartition("-")[2]: clip for clip in release.clips}
        assert sorted(clips) == ["1", "2", "3", "4", "5"]
        assert (clips["1"].text, clips["1"].as_written) == (
            "Me pɛ",
            "Me [disfluency] pɛ [noise]",
        )
        assert (clips["2"].text, clips["2"].as_written) == ("Ɛyɛ.", None)
        assert (clips["2"].duration_ms, clips["3"].split) == (61000, "dev")
        assert {clip.locale for clip in release.clips} == {"tw"}

    def test_a_text_that_lacks_what_was_unclear_is_to_be_checked(self, tmp_path):
        clips = self.release(tmp_path).clips
        assert [clip.text for clip in clips if not clip.validated] == ["Yoo."]

    def test_tags_and_what_the_release_doubts_are_counted(self, tmp_path):
        notes = self.release(tmp_path).notes
        name = "spontaneous-speech-tw"
        assert f"texts: [disfluency] taken off: 1, first {name}-1.mp3" in notes
        assert (
            f"ss-corpus-tw.tsv: tagged speech-rate by the release: 1, first {name}-2.mp3" in notes
        )

    def test_the_unassigned_come_with_other_but_for_speakers_of_dev_and_test(self, tmp_path):
        release = self.release(tmp_path, other=True)
        added = [clip for clip in release.clips if clip.path.stem[-1] in "678"]
        assert [(clip.text, clip.split, clip.validated) for clip in added] == [
            ("Not heard yet.", "train", False),
            ("", "train", False),
        ]
