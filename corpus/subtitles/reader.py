"""One tolerant reader for SubRip, WebVTT, YouTube's .sbv and TTML; pysrt holds the cues.

Files from the web break every rule: cues run into each other, hours or milliseconds are missing,
numbers too, the encoding is anybody's guess. The libraries for these formats lose cues silently,
or turn a timing line into text. Here every timing line starts a cue, its text runs to the
next one, and whatever does not become a cue is told in `problems`.

Markup goes, the text stays: what is a credit, a sound or music is decided in `clean`. Rolling
captions, which show each line twice or more often while it moves up, are the exception: as they
stand they are no cues at all.
"""

import codecs
import html
import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise

import chardet
import pysrt

from corpus.errors import UserError
from corpus.subtitles import ttml

ROLLING_SHARE = 0.3
"""From this share of cues that begin with the last line of the cue before, a track is rolling."""

ROLLING_GAP_MS = 200
"""A line that is shown again after a pause this long was said again."""

ROLLING_LEAST = 3
"""Fewer cues than this that move a line up and add one below are no pattern."""

_TIME = r"(?:(\d{1,4})\s*:\s*)?(\d{1,3})\s*:\s*(\d{1,2})(?:\s*[.,:]\s*(\d{1,3})\d*)?"
_TIMING = re.compile(rf"\s*{_TIME}\s*(?:(?:--?|[–—])>|,)\s*{_TIME}(?:\s+(.*))?")
_SETTINGS = re.compile(r"(?:\w+:\S*(?:\s+|$))*")

_MARKUP = re.compile(
    r"<rt\b[^<>]*>[^<>]*</rt>"  # ruby: how to read what stands before it
    r"|</?(?:b|i|u|s|c|v|rt|ruby|lang|font|span|em|strong|p|div)(?:[.\s][^<>]*)?/?>"
    r"|<\d[\d:.,]*>"  # when the next word begins
    r"|\{\\[^{}]*\}",  # Advanced SubStation, such as {\an8}
    re.IGNORECASE,
)
_LINE_BREAK = re.compile(r"<br\s*/?>|\[br\]|\\N", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|\w+);")

# Controls, soft hyphen, zero-width space, and the marks of writing direction. Not the zero-width
# joiner and non-joiner (U+200C, U+200D): they shape letters in Persian, Bengali and Sinhala.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u2069\ufeff\ufff9-\ufffb]"
)

_BOMS = (  # UTF-32 first: its little-endian mark begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class SubtitleTrack:
    """What a subtitle file holds.

    `items` are in order of time and do not overlap; their texts are NFC without markup, one line
    for each line on the screen. `timing_lines` counts the lines that should give a cue. Each
    problem says how often it occurred and where first; no cue is lost without one. `rolling` is
    the share of cues that began with the last line of the one before, before that was undone.
    """

    items: pysrt.SubRipFile
    encoding: str
    problems: list[str]
    timing_lines: int
    rolling: float


@dataclass
class _Cue:
    line: int
    start_ms: int
    end_ms: int
    text: str


class _Problems:
    """Kinds of problem with the line numbers where they occurred."""

    def __init__(self) -> None:
        self.lines: dict[str, list[int]] = {}

    def add(self, kind: str, line: int) -> None:
        """Note one occurrence at `line` (from 1)."""
        self.lines.setdefault(kind, []).append(line)

    def told(self) -> list[str]:
        """One sentence for each kind."""
        return [f"{len(n)} × {kind} (first at line {n[0]})" for kind, n in self.lines.items()]


def read_subtitles(data: bytes, *, encoding: str | None = None) -> SubtitleTrack:
    """Read a subtitle file, however broken; `encoding` overrules what would be found out.

    Times may lack hours or milliseconds; a fraction is read as one ("1,5" is 1.5 s). Cues without
    text or duration are dropped. A cue that begins before the one before it has ended begins when
    that ends; one that lies wholly within it adds its text to it. Of rolling captions each line is
    kept once, where it was new.

    Raises:
        UserError: Python knows no such encoding.
    """
    problems = _Problems()
    text, name, notes = _decode(data, encoding)
    text = _INVISIBLE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    if ttml.is_ttml(text):
        cues, timing_lines = _parse_ttml(text, problems, notes)
    else:
        cues, timing_lines = _parse(text.split("\n"), problems)
    ordered = _in_order(cues, problems)
    rolling = _rolling_share(ordered)
    if rolling >= ROLLING_SHARE:
        notes.append(f"rolling captions ({rolling:.0%} of the cues): each line kept once")
        ordered = _unrolled(ordered, problems)
    items = pysrt.SubRipFile(
        items=[
            pysrt.SubRipItem(
                number,
                pysrt.SubRipTime.from_ordinal(cue.start_ms),
                pysrt.SubRipTime.from_ordinal(cue.end_ms),
                cue.text,
            )
            for number, cue in enumerate(ordered, start=1)
        ]
    )
    if not timing_lines:
        notes.append("no timing line: this is neither SubRip, WebVTT, SBV nor TTML")
    return SubtitleTrack(items, name, notes + problems.told(), timing_lines, rolling)


def _decode(data: bytes, encoding: str | None) -> tuple[str, str, list[str]]:
    """The text, its encoding, and what is to be told about it.

    A byte order mark decides, else UTF-8 if it fits, up to a few broken bytes; else a guess.
    """
    if encoding is not None:
        try:
            text, name = data.decode(encoding, errors="replace"), codecs.lookup(encoding).name
        except (LookupError, UnicodeError):
            raise UserError(
                f"unknown encoding {encoding!r}; give one such as utf-8 or cp1251"
            ) from None
        return text, name, _unreadable(text, name)
    for mark, name in _BOMS:
        if data.startswith(mark):
            text = data[len(mark) :].decode(name, errors="replace")
            return text, name, _unreadable(text, name)
    text = data.decode("utf-8", errors="replace")
    broken = text.count("\ufffd")
    others = len(text) - len(text.encode("ascii", errors="ignore"))
    if 10 * broken <= others - broken:
        return text, "utf-8", _unreadable(text, "utf-8")
    name = codecs.lookup(chardet.detect(data)["encoding"] or "cp1252").name
    text = data.decode(name, errors="replace")
    return text, name, [f"not UTF-8: read as {name}, which is a guess", *_unreadable(text, name)]


def _unreadable(text: str, name: str) -> list[str]:
    broken = text.count("\ufffd")
    return [f"{broken} × byte that is not {name}"] if broken else []


def _parse(lines: list[str], problems: _Problems) -> tuple[list[_Cue], int]:
    """The cues as they stand in the file, and how many timing lines there are."""
    timings = []
    for position, line in enumerate(lines):
        if ">" in line or (line[:1].isdecimal() and "," in line):
            match = _TIMING.fullmatch(line)
            if match or "-->" in line:
                timings.append((position, match))
    if not timings:
        return [], 0
    is_vtt = next((line for line in lines if line.strip()), "").startswith("WEBVTT")
    cues = []
    number = _number(next((line for line in lines[: timings[0][0]][::-1] if line.strip()), ""))
    ends = [position for position, _ in timings[1:]] + [len(lines)]
    for (position, match), end in zip(timings, ends, strict=True):
        body = lines[position + 1 : end]
        is_last = end == len(lines)
        if is_vtt:
            body = _vtt_body(body, position + 2, is_last, problems)
        else:
            body, number = _srt_body(body, position + 2, is_last, number, problems)
        if match is None:
            problems.add("unreadable timing", position + 1)
            continue
        start, end_time, tail = match.group(1, 2, 3, 4), match.group(5, 6, 7, 8), match[9]
        if tail and not _SETTINGS.fullmatch(tail):
            body = [tail, *body]
        text = _clean("\n".join(body))
        if text:
            cues.append(_Cue(position + 1, _ms(*start), _ms(*end_time), text))
        else:
            problems.add("cue without text", position + 1)
    return cues, len(timings)


def _parse_ttml(text: str, problems: _Problems, notes: list[str]) -> tuple[list[_Cue], int]:
    """The cues of a TTML document, and how many of its elements have times."""
    paragraphs, fault = ttml.read_ttml(text)
    if fault:
        notes.append(fault)
    cues = []
    for paragraph in paragraphs:
        words = _clean(paragraph.text)
        if not paragraph.is_timed:
            if words:
                problems.add("text without timing, left out", paragraph.line)
        elif paragraph.start_ms is None or paragraph.end_ms is None:
            problems.add("unreadable timing", paragraph.line)
        elif words:
            cues.append(_Cue(paragraph.line, paragraph.start_ms, paragraph.end_ms, words))
        else:
            problems.add("cue without text", paragraph.line)
    return cues, sum(paragraph.is_timed for paragraph in paragraphs)


def _vtt_body(body: list[str], first: int, is_last: bool, problems: _Problems) -> list[str]:
    """The lines of a WebVTT cue: those before the first empty one. `first` is its line number."""
    if "" not in body:
        return body
    stop = body.index("")
    rest = body[stop:] if is_last else body[stop:-1]  # the line above a timing names the cue
    for block in "\n".join(rest).split("\n\n"):
        if block.strip() and not re.match(r"\s*(NOTE|STYLE|REGION)\b", block):
            problems.add("text without timing, left out", first + stop)
    return body[:stop]


def _srt_body(
    body: list[str], first: int, is_last: bool, number: int | None, problems: _Problems
) -> tuple[list[str], int | None]:
    """The lines of a SubRip cue, of which some may be empty, and the number of the next cue.

    A last line of digits is that number if it continues the count (files whose cues run into each
    other, or with too many empty lines, have only that), or if it stands where numbers belong:
    below an empty line and directly above the timing.
    """
    following = None
    if not is_last:
        last = max((i for i, line in enumerate(body) if line.strip()), default=0)
        digits = _number(body[last]) if body else None
        in_place = last == len(body) - 1 and last > 0 and not body[last - 1].strip()
        if digits is not None and (in_place or (number is not None and digits == number + 1)):
            following = digits
            body = body[:last]
    if number is not None and following != number + 1 and "" in body:
        for i in range(len(body) - 2):
            if not body[i].strip() and _number(body[i + 1]) == number + 1 and body[i + 2].strip():
                problems.add("text without timing, left out", first + i + 1)
                return body[:i], following
    return body, following


def _number(line: str) -> int | None:
    """The number of a cue, if the line holds that alone."""
    line = line.strip()
    return int(line) if line.isdecimal() and len(line) < 10 else None


def _ms(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> int:
    whole = (int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)
    return whole * 1000 + int((fraction or "0").ljust(3, "0"))


def _clean(text: str) -> str:
    """The text of a cue without markup: NFC, single spaces, no empty lines.

    Entities are undone at most twice: some tools escape what was escaped already.
    """
    if "<" in text or "\\" in text or "[br]" in text:
        text = _without_markup(text)
    if "&" in text:
        for _ in range(2):
            text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
        text = _INVISIBLE.sub("", _without_markup(text))
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return unicodedata.normalize("NFC", "\n".join(line for line in lines if line))


def _without_markup(text: str) -> str:
    return _MARKUP.sub("", _LINE_BREAK.sub("\n", text))


def _in_order(cues: list[_Cue], problems: _Problems) -> list[_Cue]:
    """The cues by time, none beginning before the one before it has ended."""
    ordered: list[_Cue] = []
    for cue in sorted(cues, key=lambda cue: cue.start_ms):
        if cue.end_ms <= cue.start_ms:
            problems.add("cue that ends before it begins", cue.line)
        elif not ordered or cue.start_ms >= ordered[-1].end_ms:
            ordered.append(cue)
        elif cue.end_ms > ordered[-1].end_ms:
            problems.add("overlap, start moved to the end of the cue before", cue.line)
            cue.start_ms = ordered[-1].end_ms
            ordered.append(cue)
        else:
            problems.add("cue within the one before, text joined to it", cue.line)
            if cue.text != ordered[-1].text:
                ordered[-1].text += "\n" + cue.text
    return ordered


def _rolling_share(cues: list[_Cue]) -> float:
    """The share of cues that begin, without a pause, with the last line of the cue before."""
    repeats = added = 0
    for before, after in pairwise(cues):
        last = before.text.rpartition("\n")[2]
        if (
            after.start_ms - before.end_ms < ROLLING_GAP_MS
            and last == after.text.partition("\n")[0]
        ):
            repeats += 1
            added += after.text.rpartition("\n")[2] != last
    return repeats / (len(cues) - 1) if added >= ROLLING_LEAST else 0.0


def _unrolled(cues: list[_Cue], problems: _Problems) -> list[_Cue]:
    """Each line where it is new; a cue without a new one only prolongs the one before."""
    kept: list[_Cue] = []
    shown: list[str] = []
    shown_until = 0
    for cue in cues:
        lines = cue.text.split("\n")
        repeated = _overlap(shown, lines) if cue.start_ms - shown_until < ROLLING_GAP_MS else 0
        shown, shown_until = lines, cue.end_ms
        if repeated == len(lines):
            problems.add("rolling cue without a new line, joined to the one before", cue.line)
            kept[-1].end_ms = cue.end_ms
        else:
            cue.text = "\n".join(lines[repeated:])
            kept.append(cue)
    return kept


def _overlap(before: list[str], after: list[str]) -> int:
    """How many lines of the end of one cue are the beginning of the next."""
    longest = min(len(before), len(after))
    return next((n for n in range(longest, 0, -1) if before[-n:] == after[:n]), 0)
