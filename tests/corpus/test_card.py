"""The card and the credits: what the Hub reads, and what people must be told."""

import pytest

from corpus.card import Credit, Speech, SplitTotals, attribution_md, dataset_card

ONE = SplitTotals(rows=10, segments=10, seconds=1, speech_seconds=1)


def card(name="cs", **changes):
    wanted = {
        "languages": ["cs"],
        "splits": {"train": ONE},
        "speech": [speech()],
        "left_out": {},
        "settings": {"seed": 7},
        "thresholds": {},
    }
    return dataset_card(name, **(wanted | changes))


def speech(**changes):
    wanted = {
        "split": "train",
        "source": "youtube",
        "licence": "CC-BY-4.0",
        "label_kind": "subtitle",
        "redistributable": True,
        "segments": 10,
        "seconds": 3600.0,
    }
    return Speech(**(wanted | changes))


def test_the_card_tells_hours_by_source_licence_and_label_and_how_full_windows_are():
    told = card(
        splits={
            "train": SplitTotals(1000, 6000, 29_500, 28_800),
            "dev": SplitTotals(60, 60, 300, 300),
            "test": SplitTotals(0, 0, 0, 0),
        },
        speech=[
            speech(seconds=18_000),
            speech(source="files", licence="CC0-1.0", label_kind="review", seconds=10_800),
            speech(source="files", licence="CC0-1.0", label_kind="pseudo", seconds=300),
            speech(split="dev", licence="CC0-1.0", seconds=300),
        ],
    )
    header = told.split("---\n")[1]
    assert 'license: ["cc-by-4.0", "cc0-1.0"]' in header
    assert '"path": "dev-*.parquet"' in header
    assert "test-" not in header
    assert 'size_categories: ["1K<n<10K"]' in header
    assert "| train | 1,000 | 6,000 | 8.19 | 8.00 | 96.0% |" in told
    for line in (
        "| youtube | 5.08 |",
        "| files | 3.08 |",
        "| CC-BY-4.0 | 5.00 |",
        "| CC0-1.0 | 3.17 |",
        "| subtitle | 5.08 |",
        "| review | 3.00 |",
        "| pseudo | 0.08 |",
    ):
        assert line in told
    assert "may be redistributed" in told


def test_the_card_tells_settings_thresholds_and_what_was_left_out():
    told = card(
        settings={"seed": 7, "tokenizer": None, "thresholds": ["default@1234abcd"]},
        thresholds={"default@1234abcd": {"max_cer": 0.15, "unchecked": "review"}},
        left_out={"verdict drop": 12_345, "no text": 1},
    )
    for line in (
        "| seed | 7 |",
        "| tokenizer | none |",
        "| thresholds | default@1234abcd |",
        "| thresholds default@1234abcd | value |",
        "| max_cer | 0.15 |",
        "| verdict drop | 12,345 |",
        "| no text | 1 |",
    ):
        assert line in told
    assert "left out" not in card(left_out={}).split("# cs")[1]


def test_the_card_warns_where_some_audio_must_not_be_handed_on():
    assert "Do not publish" in card(speech=[speech(), speech(redistributable=False)])


@pytest.mark.parametrize(
    ("licence", "hub"),
    [
        ("CC-BY-SA-4.0", "cc-by-sa-4.0"),
        ("CC-BY", "other"),
        ("CC-PDM-1.0", "other"),
        ("own", "other"),
    ],
)
def test_a_licence_that_the_hub_has_no_name_for_is_other(licence, hub):
    assert f'license: ["{hub}"]' in card(speech=[speech(licence=licence)])


def test_the_hub_reads_the_cards_header():
    from huggingface_hub import DatasetCard

    read = DatasetCard(card('cs "one": two', languages=["cs", "sk"]))
    assert read.data.pretty_name == 'cs "one": two'
    assert read.data.language == ["cs", "sk"]
    assert read.data.size_categories == ["n<1K"]


def test_attribution_names_title_author_link_and_licence_with_its_text():
    text = attribution_md(
        "cs", [Credit("A | B\nC", "Voice1", "https://v.example/1", "CC-BY-3.0", 90.0)]
    )
    assert "| A \\| B C | Voice1 | https://v.example/1 | CC-BY-3.0 | 1.5 |" in text
    assert "- CC-BY-3.0: <https://creativecommons.org/licenses/by/3.0/>" in text
    assert "cut into segments" in text
