"""What the review screen and the server say to each other, as pydantic checks it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from review_app import queue
from review_app.accounts import Role

MAX_TEXT_CHARACTERS = 10_000
"""Far more than anybody says in 30 s."""


class SessionInfo(BaseModel):
    """What the review screen has to know once."""

    reviewer: str
    store: str
    """Names this workspace and reviewer in the browser's storage."""
    reasons: dict[str, str]
    role: Role
    accounts: bool
    """Whether people sign in; without, whoever sits at this machine may do everything."""


class OtherTranscript(BaseModel):
    """What another origin has for the same segment."""

    kind: str
    origin: str
    text: str


class Dispute(BaseModel):
    """A segment that people have decided differently, and what each of them has decided."""

    segment_id: str
    title: str
    language: str
    seconds: float
    opinions: list[dict[str, Any]]
    """Rows as those of a history."""


class Item(BaseModel):
    """A segment to review."""

    segment_id: str
    transcript_id: int | None
    text: str
    kind: str | None
    language: str
    seconds: float
    title: str
    url: str | None
    licence: str
    reasons: list[str]
    others: list[OtherTranscript]
    audio: str
    version: int
    """Goes back with the decision: by it an outdated one is told."""
    lease: str | None
    lease_seconds: int
    held_by: str | None
    """Who else has the segment before them; then there is no lease."""
    start_ms: int
    end_ms: int
    context_before_ms: int
    context_after_ms: int
    words: list[list[Any]]
    """[start, end, word, probability], in seconds from the start of the segment."""
    before: str | None
    """What is said just before it."""
    after: str | None
    scores: dict[str, float]
    reasons_in_words: list[str]
    history: list[dict[str, Any]]
    double: bool
    """Whether two people are to decide it."""
    opinions: list[dict[str, Any]]
    """Where people disagree on it and the reader may settle that: their decisions."""


class Next(BaseModel):
    """The next segment, if any, and how many nobody has decided yet."""

    item: Item | None
    waiting: int
    conflicts: int
    """How many wait for an adjudicator; 0 for those who are none."""


class DecisionRequest(BaseModel):
    """A decision about the transcript that was shown."""

    segment_id: str
    transcript_id: int | None
    action: Literal["accept", "correct", "reject", "skip"]
    text: str | None = Field(default=None, max_length=MAX_TEXT_CHARACTERS)
    reason: str | None = None
    client_id: str = Field(min_length=8, max_length=64)
    """Made by the client; sending it again does not decide twice."""
    exclude: list[str] = Field(default_factory=list, max_length=100)
    """Segments that the client holds already."""
    filters: queue.Filters = queue.Filters()
    """Which segment is to come next."""
    version: int | None = None
    """Of the item that was shown."""
    lead_ms: int | None = Field(default=None, ge=0)
    start_ms: int | None = None
    end_ms: int | None = None
    """Bounds in the recording, where the reviewer has moved them."""


class DecisionReply(Next):
    """What was stored, and what comes next."""

    decision_id: int
    action: str
    transcript_id: int | None


class ItemReply(BaseModel):
    """One segment."""

    item: Item


class ItemsReply(BaseModel):
    """What came of a split or a merge."""

    items: list[Item]


class MergeRequest(BaseModel):
    """Make one of a segment and the next one."""

    segment_id: str
    version: int | None = None
    client_id: str = Field(min_length=8, max_length=64)
    """Made by the client; sending it again does not cut twice."""


class SplitRequest(MergeRequest):
    """Cut a segment in two at a time of its recording."""

    at_ms: int
    texts: list[Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)]]


class Made(BaseModel):
    """The decision that a list shows of a segment."""

    action: str
    reviewer: str
    reason: str | None
    made_at: str


class Row(BaseModel):
    """A segment in a list."""

    segment_id: str
    title: str
    text: str
    language: str
    seconds: float
    verdict: str | None
    logprob: float | None
    cer: float | None
    decision: Made | None
    audio: str


class Rows(BaseModel):
    """One page of a list, and how many segments are on all of its pages."""

    rows: list[Row]
    total: int
    page_rows: int


class RevertRequest(BaseModel):
    """Which decision of a segment is to hold again."""

    decision_id: int


class Leases(BaseModel):
    """Tokens of leases."""

    leases: list[str] = Field(max_length=100)
