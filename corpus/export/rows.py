"""What all exports take: rows with names that are safe in files and tables."""

from typing import NamedTuple

from corpus.dataset import Row


class NamedRow(NamedTuple):
    """A row and its name: split and number, since ids hold characters that file names cannot."""

    name: str
    row: Row


def speakers(row: Row) -> list[str]:
    """Who speaks in a row, as far as it is known."""
    return sorted({segment["speaker"] for segment in row["segments"] if segment["speaker"]})
