"""TTML (also called DFXP): the timed paragraphs of a document, read as a stream by expat.

What comes from the web is not trusted: a document with a DOCTYPE, the only place where XML can
define entities that expand without end, is refused. A document that breaks off gives what stood
before the break. Times are those of W3C's TTML2, section 12.3; nested begins add up, and
`timeContainer="seq"` is read as if it were "par", which is how every video site writes.
"""

import re
from dataclasses import dataclass, field
from xml.parsers import expat

_CLOCK = re.compile(r"(\d{1,4}):(\d{1,2}):(\d{1,2})(?:[.,](\d{1,9})|:(\d{1,4})(?:\.\d+)?)?")
_OFFSET = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(h|m|s|ms|f|t)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

DEFAULT_FRAME_RATE = 30.0
"""Frames a second where the document names no rate."""

_SILENT = {"metadata", "title", "desc"}
_RUBY = {"text", "textContainer", "delimiter"}


@dataclass
class Paragraph:
    """A paragraph, or a timed span of one without a time; None is a time that cannot be read."""

    line: int
    is_timed: bool
    start_ms: int | None
    end_ms: int | None
    text: str = ""


@dataclass
class _Element:
    """An open element: the times that hold within it, and where its text goes."""

    start_ms: int | None
    end_ms: int | None
    has_times: bool
    paragraph: Paragraph | None
    is_silent: bool


class _Refused(Exception):
    """The document shall not be read on."""


@dataclass
class _Reader:
    paragraphs: list[Paragraph] = field(default_factory=list)
    open: list[_Element] = field(
        default_factory=lambda: [_Element(0, None, False, None, is_silent=False)]
    )
    frame_rate: float = DEFAULT_FRAME_RATE
    tick_rate: float = 1.0
    line: int = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = _local(tag)
        values = {_local(key): value.strip() for key, value in attributes.items()}
        if name == "tt":
            self._read_rates(values)
        parent = self.open[-1]
        element = self._timed(parent, values)
        element.is_silent |= name in _SILENT or values.get("ruby") in _RUBY
        is_timed = not values.keys().isdisjoint(("begin", "end", "dur"))
        untimed_parent = parent.paragraph is not None and not parent.paragraph.is_timed
        if name == "p" or (name == "span" and is_timed and untimed_parent):
            element.paragraph = Paragraph(self.line, is_timed, element.start_ms, element.end_ms)
            self.paragraphs.append(element.paragraph)
        elif name == "br" and element.paragraph is not None:
            element.paragraph.text += "\n"
        self.open.append(element)

    def end(self, tag: str) -> None:
        element = self.open.pop()
        paragraph = element.paragraph
        if _local(tag) == "p" and paragraph is not None and paragraph.text.strip():
            # What its spans have not taken with times of their own has those of the block around.
            paragraph.is_timed |= element.has_times

    def data(self, text: str) -> None:
        element = self.open[-1]
        if element.paragraph is not None and not element.is_silent:
            element.paragraph.text += re.sub(r"\s+", " ", text)

    def _read_rates(self, values: dict[str, str]) -> None:
        rate = _positive(values.get("frameRate"))
        parts = [_positive(part) for part in values.get("frameRateMultiplier", "1 1").split()]
        if len(parts) == 2 and parts[0] and parts[1]:
            self.frame_rate = (rate or DEFAULT_FRAME_RATE) * parts[0] / parts[1]
        self.tick_rate = _positive(values.get("tickRate")) or (self.frame_rate if rate else 1.0)

    def _timed(self, parent: _Element, values: dict[str, str]) -> _Element:
        """The element's times in the document's: its own count from its parent's begin."""
        start_ms, end_ms = parent.start_ms, parent.end_ms
        if "begin" in values:
            start_ms = _sum(parent.start_ms, self._ms(values["begin"]))
        if "end" in values:
            end_ms = _sum(parent.start_ms, self._ms(values["end"]))
        elif "dur" in values:
            end_ms = _sum(start_ms, self._ms(values["dur"]))
        return _Element(
            start_ms,
            end_ms,
            parent.has_times or "begin" in values,
            parent.paragraph,
            parent.is_silent,
        )

    def _ms(self, text: str) -> int | None:
        if match := _CLOCK.fullmatch(text):
            hours, minutes, seconds, fraction, frames = match.groups()
            whole = (int(hours) * 60 + int(minutes)) * 60 + int(seconds)
            part = float(f"0.{fraction or 0}") + int(frames or 0) / self.frame_rate
            return round((whole + part) * 1000)
        if match := _OFFSET.fullmatch(text):
            rates = {**_SECONDS, "f": 1 / self.frame_rate, "t": 1 / self.tick_rate}
            return round(float(match[1]) * rates[match[2]] * 1000)
        return None


def is_ttml(text: str) -> bool:
    """Whether a text looks like a TTML document (and not like YouTube's own `<timedtext>`)."""
    return bool(re.match(r"\s*<[?!\w]", text) and re.search(r"<(?:\w+:)?tt(?=[\s>])", text[:4096]))


def read_ttml(text: str) -> tuple[list[Paragraph], str | None]:
    """The paragraphs of a document in its order, and what is wrong with the document, if anything.

    Texts have a line break for each ``<br/>``; ruby annotations and metadata are left out.
    """
    reader = _Reader()
    # The text is UTF-8 by now, whatever its XML declaration says.
    parser = expat.ParserCreate("utf-8", "}")

    def start(tag: str, attributes: dict[str, str]) -> None:
        reader.line = parser.CurrentLineNumber
        reader.start(tag, attributes)

    def refuse(*_: object) -> None:
        raise _Refused

    parser.StartElementHandler = start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    parser.StartDoctypeDeclHandler = refuse
    parser.buffer_text = True
    try:
        parser.Parse(text.lstrip().encode("utf-8", errors="replace"), True)
    except _Refused:
        return [], "a TTML document with a DOCTYPE is not read: its entities could grow endlessly"
    except expat.ExpatError as error:
        return reader.paragraphs, f"not well-formed XML from line {error.lineno} on: left out"
    return reader.paragraphs, None


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _positive(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"0*[1-9]\d{0,9}", text, re.ASCII) else None


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second
