"""The subtitle reader: the quirks of files from the web, and what holds for any input."""

import re
import time
import unicodedata
from pathlib import Path
from xml.sax.saxutils import escape

import pysrt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from corpus.errors import UserError
from corpus.subtitles.reader import ROLLING_SHARE, SubtitleTrack, read_subtitles


def read(text: str) -> SubtitleTrack:
    return read_subtitles(text.encode())


def cues(text: str) -> list[tuple[int, int, str]]:
    """Start and end in milliseconds, and text, of each cue."""
    return [(item.start.ordinal, item.end.ordinal, item.text) for item in read(text).items]


def texts(text: str) -> list[str]:
    return [item.text for item in read(text).items]


def lost(track: SubtitleTrack) -> int:
    """How many cues the problems say were lost."""
    kinds = (
        "cue without text|unreadable timing|cue that ends|cue within the one before|rolling cue "
    )
    counts = [re.match(rf"(\d+) × ({kinds})", problem) for problem in track.problems]
    return sum(int(count[1]) for count in counts if count)


ONE = "00:00:01,000 --> 00:00:02,000"
TWO = "00:00:03,000 --> 00:00:04,000"


class TestSubRip:
    def test_a_well_formed_file_is_read_as_it_is(self) -> None:
        text = f"1\n{ONE}\nFirst line\nsecond line\n\n2\n{TWO}\nNext\n"
        assert cues(text) == [(1000, 2000, "First line\nsecond line"), (3000, 4000, "Next")]
        assert read(text).problems == []

    @pytest.mark.parametrize(
        ("layout", "expected"),
        [
            (f"1\n{ONE}\nA\n2\n{TWO}\nB", ["A", "B"]),  # no empty line between cues
            (f"{ONE}\nA\n\n{TWO}\nB\n", ["A", "B"]),  # no numbers
            (f"1\n\n{ONE}\n\nA\n\n2\n\n{TWO}\n\nB\n", ["A", "B"]),  # an empty line everywhere
            (f"1\n{ONE}\nA\n\nmore\n\n2\n{TWO}\nB\n", ["A\nmore", "B"]),  # empty line in the text
            (f"7\n{ONE}\nA\n\n3\n{TWO}\nB\n", ["A", "B"]),  # numbers in no order
            (f"1\n{ONE}\n42\n\n2\n{TWO}\n1984\n", ["42", "1984"]),  # digits are text as well
            (f"{ONE}\n42\n\n{TWO}\nB\n", ["42", "B"]),  # also where nothing is numbered
            (f"1\r{ONE}\rA\r\r2\r{TWO}\rB\r", ["A", "B"]),  # old line ends
            (f"1\r\n{ONE}\r\nA\r\n\r\n2\r\n{TWO}\r\nB", ["A", "B"]),
            (f"1\n{ONE} X1:40 X2:600 Y1:20 Y2:50\nA\n", ["A"]),  # coordinates
            (f"1\n{ONE} A\nmore\n", ["A\nmore"]),  # text beside the timing
        ],
    )
    def test_no_layout_loses_or_mixes_cues(self, layout: str, expected: list[str]) -> None:
        assert texts(layout) == expected
        assert read(layout).problems == []

    @pytest.mark.parametrize(
        ("timing", "start_ms", "end_ms"),
        [
            ("00:00:01,5 --> 00:00:02,25", 1500, 2250),
            ("00:00:01 --> 00:00:02", 1000, 2000),
            ("00:01,000 --> 00:02.000", 1000, 2000),
            ("1:02:03.004 --> 123:00:00.000", 3_723_004, 442_800_000),
            ("0:00:01.000-->0:00:02.000", 1000, 2000),
            ("00:00:01,000 -> 00:00:02,000", 1000, 2000),
            ("00 : 00 : 01 , 000 --> 00 : 00 : 02 , 000", 1000, 2000),
            ("٠٠:٠٠:٠١,٠٠٠ --> ٠٠:٠٠:٠٢,٠٠٠", 1000, 2000),
            ("0:00:01.000,0:00:02.000", 1000, 2000),  # YouTube's .sbv
        ],
    )
    def test_times_are_read_however_they_are_written(
        self, timing: str, start_ms: int, end_ms: int
    ) -> None:
        assert cues(f"1\n{timing}\nA\n") == [(start_ms, end_ms, "A")]

    def test_a_cue_whose_timing_is_missing_is_left_out_and_told(self) -> None:
        track = read(f"1\n{ONE}\nA\n\n2\nno timing\n\n3\n{TWO}\nB\n")
        assert [item.text for item in track.items] == ["A", "B"]
        assert track.problems == ["1 × text without timing, left out (first at line 5)"]


class TestWebVtt:
    def test_header_notes_styles_regions_and_names_are_no_text(self) -> None:
        text = (
            "WEBVTT - title\nKind: captions\nLanguage: cs\n\nSTYLE\n::cue {}\n\nNOTE a\nb\n\n"
            "intro\n00:01.000 --> 00:02.000 align:start position:0%\nA\n\n"
            "NOTE between\n\nREGION\nid:x\n\n00:03.000 --> 00:04.000\nB\n"
        )
        assert cues(text) == [(1000, 2000, "A"), (3000, 4000, "B")]
        assert read(text).problems == []

    def test_text_below_an_empty_line_belongs_to_no_cue_and_is_told(self) -> None:
        track = read("WEBVTT\n\n00:01.000 --> 00:02.000\nA\n\nstray\n\n00:03.000 --> 00:04.000\nB")
        assert [item.text for item in track.items] == ["A", "B"]
        assert track.problems == ["1 × text without timing, left out (first at line 5)"]

    def test_rolling_captions_keep_their_lines_and_lose_their_stamps(self) -> None:
        text = (
            "WEBVTT\nKind: captions\n\n00:00.000 --> 00:01.990 align:start position:0%\n \n"
            "so<00:00:00.320><c> today</c><00:00:00.560><c> we</c>\n\n"
            "00:01.990 --> 00:02.000 align:start position:0%\nso today we\n \n"
        )
        assert texts(text) == ["so today we", "so today we"]


def rolling_vtt(lines: list[str]) -> str:
    """Captions as YouTube writes automatic ones: each line below the one before, then held."""
    cues, above = [], " "
    for number, line in enumerate(lines):
        start = f"00:{number // 30:02}:{number * 2 % 60:02}"
        words = "".join(f"<{start}.100><c> {word}</c>" for word in line.split())
        cues.append(f"{start}.000 --> {start[:-2]}{number * 2 % 60 + 1:02}.990\n{above}\n{words}")
        end = f"00:{(number + 1) // 30:02}:{(number + 1) * 2 % 60:02}"
        cues.append(f"{start[:-2]}{number * 2 % 60 + 1:02}.990 --> {end}.000\n{line}\n ")
        above = line
    return "WEBVTT\nKind: captions\n\n" + "\n\n".join(cues) + "\n"


class TestRollingCaptions:
    LINES = [f"this is line {number} of the talk" for number in range(42)]  # noqa: RUF012

    def test_each_line_is_kept_once_for_as_long_as_it_was_new_or_held(self) -> None:
        track = read(rolling_vtt(self.LINES))
        assert track.rolling == 1.0
        assert [item.text for item in track.items] == self.LINES
        assert [(i.start.ordinal, i.end.ordinal) for i in track.items] == [
            (2000 * number, 2000 * number + 2000) for number in range(42)
        ]

    def test_what_was_undone_is_told(self) -> None:
        track = read(rolling_vtt(self.LINES))
        assert track.problems == [
            "rolling captions (100% of the cues): each line kept once",
            "42 × rolling cue without a new line, joined to the one before (first at line 8)",
        ]
        assert len(track.items) + lost(track) == track.timing_lines == 84

    def test_a_line_shown_again_after_a_pause_stays(self) -> None:
        first, second = rolling_vtt(self.LINES[:5]), "00:01:00.000 --> 00:01:01.000\n"
        assert texts(f"{first}\n{second}{self.LINES[4]}\n")[-2:] == [self.LINES[4]] * 2

    def test_a_chorus_is_no_rolling_caption(self) -> None:
        song = "".join(
            f"{n}\n00:00:{2 * n:02},000 --> 00:00:{2 * n + 2:02},000\n{text}\n\n"
            for n, text in enumerate(
                ["la la la\nhey", "verse one", "la la la\nhey", "la la la"] * 5
            )
        )
        assert read(song).rolling < ROLLING_SHARE
        assert len(texts(song)) == 20

    def test_an_answer_given_four_times_is_no_rolling_caption(self) -> None:
        assert len(texts("".join(f"00:0{n},0 --> 00:0{n + 1},0\nNo.\n\n" for n in range(4)))) == 4


def ttml(body: str, attributes: str = "") -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<tt xmlns="http://www.w3.org/ns/ttml" '
        'xmlns:ttp="http://www.w3.org/ns/ttml#parameter" '
        f'xmlns:tts="http://www.w3.org/ns/ttml#styling" {attributes}>\n'
        f"<head><metadata><title>no cue</title></metadata></head><body>{body}</body></tt>"
    )


class TestTtml:
    def test_paragraphs_are_cues(self) -> None:
        text = ttml(
            '<div><p begin="00:00:01.000" end="00:00:02.000" style="s2">First\n  line<br/>second '
            '<span tts:fontStyle="italic">line</span></p>\n'
            '<p begin="00:00:03.000" dur="1s">R&amp;D می\u200cخواهم</p></div>'
        )
        assert cues(text) == [
            (1000, 2000, "First line\nsecond line"),
            (3000, 4000, "R&D می\u200cخواهم"),
        ]
        assert read(text).problems == []
        assert read(text).timing_lines == 2

    @pytest.mark.parametrize(
        ("begin", "attributes", "start_ms"),
        [
            ("01:02:03.5", "", 3_723_500),
            ("00:00:01:15", "", 1500),
            ("00:00:01:15", 'ttp:frameRate="25"', 1600),
            ("00:00:10:00", 'ttp:frameRate="24" ttp:frameRateMultiplier="1000 1001"', 10_000),
            ("24f", 'ttp:frameRate="24" ttp:frameRateMultiplier="1000 1001"', 1001),
            ("12.5s", "", 12_500),
            ("2m", "", 120_000),
            ("0.5h", "", 1_800_000),
            ("750ms", "", 750),
            ("15000000t", 'ttp:tickRate="10000000"', 1500),
        ],
    )
    def test_times_are_read_in_every_form(self, begin: str, attributes: str, start_ms: int) -> None:
        assert cues(ttml(f'<p begin="{begin}" end="9h">A</p>', attributes)) == [
            (start_ms, 32_400_000, "A")
        ]

    def test_times_count_from_the_begin_of_the_block_around(self) -> None:
        text = ttml(
            '<div begin="10s"><p begin="1s" end="2s">A</p><p><span begin="3s" end="4s">B</span>'
            '<span begin="4s" end="5s">C</span></p></div><div begin="20s" end="25s"><p>D</p></div>'
        )
        assert cues(text) == [
            (11_000, 12_000, "A"),
            (13_000, 14_000, "B"),
            (14_000, 15_000, "C"),
            (20_000, 25_000, "D"),
        ]
        assert read(text).timing_lines == 4

    def test_ruby_is_left_out(self) -> None:
        text = '<span tts:ruby="base">漢</span><span tts:ruby="text">kan</span>字'
        assert texts(ttml(f'<p begin="1s" end="2s">{text}</p>')) == ["漢字"]

    def test_what_has_no_readable_time_is_told(self) -> None:
        track = read(ttml('<p begin="soon" end="2s">A</p><p>B</p>\n<p begin="1s" end="2s"> </p>'))
        assert track.items == []
        assert track.problems == [
            "1 × unreadable timing (first at line 3)",
            "1 × text without timing, left out (first at line 3)",
            "1 × cue without text (first at line 4)",
        ]

    def test_a_document_that_breaks_off_gives_what_came_before(self) -> None:
        whole = ttml('<p begin="1s" end="2s">A</p>\n<p begin="3s" end="4s">B</p>')
        track = read(whole[: whole.index("B<")])
        assert [item.text for item in track.items] == ["A"]
        assert track.problems[0] == "not well-formed XML from line 4 on: left out"

    def test_other_encodings_are_read_whatever_the_declaration_says(self) -> None:
        data = ttml('<p begin="1s" end="2s">щука</p>').encode("utf-16")
        assert [item.text for item in read_subtitles(data).items] == ["щука"]

    def test_a_document_that_defines_entities_is_refused_at_once(self) -> None:
        bombs = "".join(
            f'<!ENTITY e{n} "{"&e" + str(n - 1) + ";" if n else "ha"}{"x" * 10}">'
            for n in range(20)
        )
        document = ttml('<p begin="1s" end="2s">&e19;</p>').replace(
            "<tt ", f'<!DOCTYPE tt [{bombs}<!ENTITY f SYSTEM "file:///etc/passwd">]><tt ', 1
        )
        track = read(document)
        assert track.items == []
        assert "DOCTYPE" in track.problems[0]

    def test_neither_depth_nor_length_is_a_trap(self) -> None:
        start = time.process_time()
        deep = "<span>" * 50_000 + "A" + "</span>" * 50_000
        assert texts(ttml(f'<p begin="1s" end="2s">{deep}</p>')) == ["A"]
        assert time.process_time() - start < 2.0

    def test_youtubes_own_xml_is_not_taken_for_it(self) -> None:
        track = read('<?xml version="1.0"?><timedtext format="3"><body><p t="1">A</p></body>')
        assert track.problems == ["no timing line: this is neither SubRip, WebVTT, SBV nor TTML"]


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("<i>A</i> <font color='red'>B</font> {\\an8}C", "A B C"),
        ("<v Guard>Hello</v> <c.yellow.bg_blue>you</c>", "Hello you"),
        ("<ruby>漢<rt>kan</rt></ruby>字", "漢字"),
        ("one<br/>two\\Nthree[br]four", "one\ntwo\nthree\nfour"),
        ("1 < 2 and 3 > 2, <laughs>", "1 < 2 and 3 > 2, <laughs>"),
        ("R&amp;D &lt;i&gt;x&lt;/i&gt;&nbsp;&amp;quot;y&amp;quot;", 'R&D x "y"'),
        ("AT&T &copy &unknown; &#169;", "AT&T &copy &unknown; ©"),
        ("a\u200bb\u202ac\ufeffd\u00ade\x00f &lrm;g", "abcdef g"),
        ("می\u200cخواهم ක්\u200dෂ", "می\u200cخواهم ක්\u200dෂ"),  # joiners shape letters
        ("e\u0301 \u00bd \ufb01", "é \u00bd \ufb01"),  # NFC, not NFKC
        ("  many \t spaces\u00a0\u3000here ", "many spaces here"),
        ("[music] GUARD: (laughs) ♪ la ♪", "[music] GUARD: (laughs) ♪ la ♪"),
    ],
)
def test_markup_goes_and_text_stays(written: str, read_as: str) -> None:
    assert texts(f"1\n{ONE}\n{written}\n") == [read_as]


class TestTime:
    def test_cues_are_put_in_order(self) -> None:
        assert texts(f"1\n{TWO}\nB\n\n2\n{ONE}\nA\n") == ["A", "B"]

    def test_an_overlap_is_cut_from_the_later_cue(self) -> None:
        text = f"1\n{ONE}\nA\n\n2\n00:00:01,500 --> 00:00:03,000\nB\n"
        assert cues(text) == [(1000, 2000, "A"), (2000, 3000, "B")]
        assert "overlap" in read(text).problems[0]

    def test_a_cue_within_another_adds_its_text_to_it(self) -> None:
        text = f"1\n{ONE}\n- Yes?\n\n2\n{ONE}\n- No.\n\n3\n{ONE}\n- No.\n"
        assert cues(text)[0] == (1000, 2000, "- Yes?\n- No.\n- No.")
        assert lost(read(text)) == 2

    def test_cues_without_text_or_duration_are_left_out_and_told(self) -> None:
        track = read(f"1\n{ONE}\n\n2\n{TWO}\n<i> </i>\n\n3\n00:00:09,0 --> 00:00:08,0\nA\n")
        assert track.items == []
        assert track.problems == [
            "2 × cue without text (first at line 2)",
            "1 × cue that ends before it begins (first at line 9)",
        ]


class TestEncoding:
    SPEECH = {  # noqa: RUF012
        "utf-8": "Příliš žluťoučký kůň úpěl ďábelské ódy.",
        "utf-16": "Příliš žluťoučký kůň úpěl ďábelské ódy.",
        "utf-32": "今日は音声認識の仕組みについてお話しします。",
        "utf-8-sig": "Сегодня мы поговорим о распознавании речи.",
        "cp1250": "Dnes si řekneme, jak funguje rozpoznávání řeči. Příliš žluťoučký kůň.",
        "cp1251": "Сегодня мы поговорим о том, как работает распознавание речи в наше время.",
        "cp1252": "Aujourd'hui, l'été était né à l'époque où la reconnaissance vocale\u2026",
        "cp1255": "היום נדבר על איך זיהוי דיבור עובד",
        "cp932": "今日は音声認識の仕組みについてお話しします。",
        "gb18030": "今天我们来谈谈语音识别是如何工作的。",
    }

    @pytest.mark.parametrize("encoding", SPEECH)
    def test_a_file_is_read_in_the_encoding_it_was_written_in(self, encoding: str) -> None:
        text = self.SPEECH[encoding]
        track = read_subtitles(f"1\n{ONE}\n{text}\n".encode(encoding))
        assert [item.text for item in track.items] == [text]
        assert any("guess" in problem for problem in track.problems) != encoding.startswith("utf")

    def test_a_given_encoding_is_not_second_guessed(self) -> None:
        data = f"1\n{ONE}\nщука\n".encode("cp866")
        track = read_subtitles(data, encoding="CP866")
        assert (track.items[0].text, track.encoding, track.problems) == ("щука", "cp866", [])

    def test_a_few_broken_bytes_do_not_make_a_file_something_else(self) -> None:
        data = f"1\n{ONE}\n{self.SPEECH['utf-8']}\n".encode() + b"\xc5"
        track = read_subtitles(data)
        assert track.items[0].text.startswith(self.SPEECH["utf-8"])
        assert track.encoding == "utf-8"
        assert track.problems == ["1 × byte that is not utf-8"]

    @pytest.mark.parametrize("encoding", ["klingon", "hex"])
    def test_an_unknown_encoding_is_told(self, encoding: str) -> None:
        with pytest.raises(UserError, match="unknown encoding"):
            read_subtitles(ONE.encode(), encoding=encoding)


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"<html>log in</html>", b"WEBVTT\n"])
def test_what_is_no_subtitle_file_gives_no_cues_and_says_so(data: bytes) -> None:
    track = read_subtitles(data)
    assert track.items == []
    assert track.problems == ["no timing line: this is neither SubRip, WebVTT, SBV nor TTML"]


# What holds for any input.

line = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters="<&{[\\\u2028\u2029"),
    min_size=1,
).map(lambda text: unicodedata.normalize("NFC", text))


@st.composite
def tracks(draw: st.DrawFn) -> list[tuple[int, int, str]]:
    time, track = 0, []
    for gap, length, lines in draw(
        st.lists(
            st.tuples(
                st.integers(0, 50_000_000),
                st.integers(1, 30_000),
                st.lists(line.filter(lambda text: ">" not in text), min_size=1, max_size=3),
            ),
            max_size=8,
        )
    ):
        track.append((time + gap, time + gap + length, "\n".join(lines)))
        time += gap + length
    return track


@settings(deadline=None)
@given(tracks(), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_what_pysrt_writes_is_read_back_the_same(
    track: list[tuple[int, int, str]], encoding: str
) -> None:
    written = pysrt.SubRipFile(
        items=[
            pysrt.SubRipItem(
                number,
                pysrt.SubRipTime.from_ordinal(start),
                pysrt.SubRipTime.from_ordinal(end),
                text,
            )
            for number, (start, end, text) in enumerate(track, start=1)
        ]
    )
    text = "\n".join(map(str, written))
    result = read_subtitles(text.encode(encoding))
    assume(result.rolling < ROLLING_SHARE)
    assert [(i.start.ordinal, i.end.ordinal, i.text) for i in result.items] == track


@settings(deadline=None)
@given(tracks())
def test_a_ttml_document_of_any_cues_is_read_back_the_same(
    track: list[tuple[int, int, str]],
) -> None:
    paragraphs = "\n".join(
        f'<p begin="{start}ms" end="{end}ms">{"<br/>".join(map(escape, text.split(chr(10))))}</p>'
        for start, end, text in track
    )
    result = read(ttml(f"<div>{paragraphs}</div>"))
    assume(result.rolling < ROLLING_SHARE)
    assert [(i.start.ordinal, i.end.ordinal, i.text) for i in result.items] == track


pieces = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"\n",
            b"\n\n",
            b"\r",
            b"1\n",
            b"999999999999\n",
            b"WEBVTT\n\n",
            b"NOTE x\n",
            b"-->",
            b"00:00:01,000 --> 00:00:02,000\n",
            b"00:00:01,500 --> 00:00:01,700 line:0\n",
            b"99:99:99.9 -> 0:0\n",
            b"0:00:01.0,0:00:04.0\n",
            b"<i>text</i> &amp;#0; {\\an8}\n",
            b'<?xml version="1.0"?><tt>',
            b'<tt><p begin="1s" end="0:0:2.5">',
            b'<span dur="1s">a<br/>b',
            b"</p>",
            b"<!DOCTYPE tt>",
            b"\xff\xfe",
            b"\xef\xbb\xbf",
            "čeština\n".encode(),
        ]
    ),
)


@settings(deadline=None)
@given(st.lists(pieces, max_size=12).map(b"".join), st.sampled_from([None, "utf-16", "cp1251"]))
def test_any_bytes_give_ordered_cues_or_a_told_loss(data: bytes, encoding: str | None) -> None:
    track = read_subtitles(data, encoding=encoding)
    assert len(track.items) + lost(track) == track.timing_lines
    end = 0
    for item in track.items:
        assert end <= item.start.ordinal < item.end.ordinal
        end = item.end.ordinal
        assert item.text.strip()
        assert item.text == unicodedata.normalize("NFC", item.text)


def test_real_files_come_through_without_an_untold_loss(shared_data: Path) -> None:
    files = [path for path in (shared_data / "subtitles").rglob("*") if path.is_file()]
    found = 0
    for path in files:
        track = read_subtitles(path.read_bytes())
        assert len(track.items) + lost(track) == track.timing_lines, path
        assert track.items or track.problems, path
        found += len(track.items)
    assert len(files) > 200
    assert found > 60_000


@pytest.mark.parametrize(
    "trap",
    [f"{ONE} {'a:' * 50}a (", "<rt>" * 20_000, "<b " * 20_000, "&" * 20_000, f"1{' ' * 20_000}>"],
)
def test_no_line_takes_long(trap: str) -> None:
    start = time.process_time()
    read(f"1\n{ONE}\n{trap}\n")
    assert time.process_time() - start < 1.0


def test_an_hour_of_subtitles_is_read_in_a_moment() -> None:
    """Some 60,000 cues come in a second; a twelfth of that is asked for, whatever else runs."""
    text = "".join(
        f"{i}\n{i // 3600:02}:{i // 60 % 60:02}:{i % 60:02},000 --> "
        f"{i // 3600:02}:{i // 60 % 60:02}:{i % 60:02},900\n<i>Slovo</i> a ještě\njedno.\n\n"
        for i in range(10_000)
    )
    start = time.process_time()
    assert len(read(text).items) == 10_000
    assert time.process_time() - start < 2.0
