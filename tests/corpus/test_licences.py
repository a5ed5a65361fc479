"""Licences: what is understood, what is open, and how it is credited."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.sources.licences import attribution, is_open, licence_url, spdx


@pytest.mark.parametrize(
    ("raw", "identifier"),
    [
        ("Creative Commons Attribution license (reuse allowed)", "CC-BY-3.0"),
        ("https://creativecommons.org/licenses/by/4.0/", "CC-BY-4.0"),
        ("http://creativecommons.org/licenses/by-sa/3.0/de/deed.de", "CC-BY-SA-3.0-DE"),
        ("https://creativecommons.org/licenses/by/4.0/deed.en", "CC-BY-4.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "CC-PDM-1.0"),
        ("https://creativecommons.org/licenses/by-nc-nd/4.0/legalcode", "CC-BY-NC-ND-4.0"),
        ("Creative Commons Attribution-ShareAlike 4.0 International", "CC-BY-SA-4.0"),
        ("Creative Commons Attribution-NonCommercial 3.0 Unported", "CC-BY-NC-3.0"),
        ("Attribution - Non Commercial - No Derivatives", "CC-BY-NC-ND"),
        ("Attribution", "CC-BY"),
        ("by-sa", "CC-BY-SA"),
        ("CC BY-SA 4.0", "CC-BY-SA-4.0"),
        ("cc-by-4.0", "CC-BY-4.0"),
        ("CC0", "CC0-1.0"),
        ("cc0-1.0", "CC0-1.0"),
        ("Public Domain Dedication", "CC0-1.0"),
        ("Public domain", "CC-PDM-1.0"),
        ("Standard YouTube License", None),
        ("All rights reserved", None),
        ("Creative Commons Attribution, but ask me first", None),
        ("https://example.org/creativecommons.org/licenses/by/4.0/", None),
        ("Creative Commons", None),
        ("license", None),
        ("MIT", None),
        ("", None),
        (None, None),
    ],
)
def test_a_licence_as_written_gives_its_spdx_identifier(
    raw: str | None, identifier: str | None
) -> None:
    assert spdx(raw) == identifier


@pytest.mark.parametrize(
    "identifier",
    ["CC0-1.0", "CC-PDM-1.0", "CC-BY", "CC-BY-3.0", "CC-BY-SA-4.0", "CC-BY-SA-3.0-DE"],
)
def test_licences_that_allow_cutting_and_passing_on_are_open(identifier: str) -> None:
    assert is_open(identifier)
    assert spdx(identifier) == spdx(identifier.lower()) == identifier


@pytest.mark.parametrize(
    "identifier",
    ["CC-BY-ND-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-ND", "Apache-2.0", "own", None],
)
def test_no_derivatives_non_commercial_and_unknown_licences_are_not_open(
    identifier: str | None,
) -> None:
    assert not is_open(identifier)


@settings(deadline=None)
@given(st.text())
def test_whatever_text_is_taken_as_open_names_attribution_or_the_public_domain(raw: str) -> None:
    if is_open(spdx(raw)):
        assert any(word in raw.casefold() for word in ("by", "attribution", "cc0", "public", "pdm"))


@settings(deadline=None)
@given(st.text(min_size=1))
def test_an_unknown_word_after_a_licence_makes_it_unknown(remark: str) -> None:
    assert spdx(f"CC BY 4.0 only{remark}") is None


def test_an_identifier_leads_back_to_the_text_of_the_licence() -> None:
    for address in (
        "https://creativecommons.org/licenses/by/3.0/",
        "https://creativecommons.org/licenses/by-sa/3.0/de/",
        "https://creativecommons.org/publicdomain/zero/1.0/",
    ):
        identifier = spdx(address)
        assert identifier is not None
        assert licence_url(identifier) == address
    assert licence_url("CC-BY") is None


def test_an_attribution_names_title_creator_source_licence_and_changes_in_one_line() -> None:
    line = attribution(
        title="O původu\nřeči",
        creator="Open Lectures",
        url="https://u.example/1",
        licence="CC-BY-3.0",
    )
    assert "\n" not in line
    for part in (
        '"O původu řeči"',
        "Open Lectures",
        "https://u.example/1",
        "https://creativecommons.org/licenses/by/3.0/",
        "cut into segments",
    ):
        assert part in line
