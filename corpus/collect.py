"""What all ways into the catalogue share: subtitles as cues, given texts as segments, removals."""

from sqlalchemy import select

from corpus.catalogue import Catalogue, Cue, Recording, Segment, Tombstone, Transcript, segment_id
from corpus.errors import ItemError
from corpus.segment import MAX_SECONDS
from corpus.sources.video import Subtitles
from corpus.subtitles import clean
from corpus.subtitles.reader import read_subtitles
from corpus.subtitles.suspect import judge_track
from corpus.text import clean_transcript


class Removed(ItemError):
    """The item was taken down and stays away."""

    def __init__(self, item: str) -> None:
        super().__init__(f"{item} was taken down here (`corpus remove`) and is not taken again")


def removed_items(catalogue: Catalogue) -> set[str]:
    """The ids of all recordings and channels that were taken down."""
    with catalogue.session() as session:
        return set(session.scalars(select(Tombstone.item)))


def read_cues(
    raw: bytes, duration_ms: int, credits: clean.Credits, told: Subtitles | None = None
) -> tuple[list[Cue], str | None]:
    """What is said in a subtitle file, and a line about what was noticed and left out.

    The cues are in order, without overlaps, inside the recording and with some text. `told` has
    what the file's site tells about it.
    """
    track = read_subtitles(raw)
    read = [clean.Cue(item.start.ordinal, item.end.ordinal, item.text) for item in track.items]
    declared = {"key": told.language, "name": told.name, "url": told.url} if told else {}
    suspicion = judge_track(read, rolling=track.rolling, **declared)
    cleaned = clean.clean_cues(read, credits)
    cues: list[Cue] = []
    for cue in cleaned.cues:
        end, text = min(cue.end_ms, duration_ms), clean_transcript(cue.text)
        if text and end > cue.start_ms:
            cues.append(
                Cue(
                    position=len(cues),
                    start_ms=cue.start_ms,
                    end_ms=end,
                    text=text,
                    after_break=cue.after_break,
                    is_dialogue=cue.is_dialogue,
                )
            )
    noticed = [suspicion.note(), *track.problems, cleaned.told()]
    return cues, "; ".join(part for part in noticed if part) or None


def add_segment(recording: Recording, start: int, end: int, text: str, origin: str) -> None:
    """Add a segment (milliseconds) with the text that was given for it."""
    recording.segments.append(
        Segment(
            id=segment_id(recording.id, start, end),
            start_ms=start,
            end_ms=end,
            transcripts=[Transcript(kind="release", origin=origin, text=text)],
        )
    )


def take_whole(
    recording: Recording, text: str, origin: str, speech: tuple[int, int] | None = None
) -> None:
    """Make a short recording with a known text one segment; a longer one is left to be cut.

    `speech` is where in the recording there is sound (milliseconds), by default everywhere.

    Raises:
        ItemError: the recording is longer than a segment.
    """
    if recording.duration_ms > MAX_SECONDS * 1000:
        raise ItemError(
            f"{recording.title}: {recording.duration_ms / 1000:.1f} s with one text; "
            f"a segment has at most {MAX_SECONDS:.0f} s: cut it, or give subtitles"
        )
    recording.segmented_with = origin
    start, end = speech or (0, recording.duration_ms)
    add_segment(recording, start, end, text, origin)
