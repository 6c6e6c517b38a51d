"""What goes over HTTP, as pydantic models: they validate requests and make the OpenAPI document."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, RootModel, StringConstraints

MAX_K = 1000
MAX_QUERY = 1000  # characters
MAX_HISTORY = 1000  # events
MAX_VALUES = 1000  # of one filter
MAX_SEARCHES = 256  # of a batch
MAX_EVENTS = 1000  # of one request
CLOCK_SKEW = timedelta(minutes=5)  # between a caller's clock and ours

UNSEEN = ("Zs", "Zl", "Zp", "Cc", "Cf")  # what the table contract calls blank
NO_NUL = r"^[^\x00]*$"


def _not_blank(text: str) -> str:
    if not any(unicodedata.category(sign) not in UNSEEN for sign in text):
        raise ValueError("must not be blank")
    return text


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _not_in_the_future(moment: datetime) -> datetime:
    if moment > datetime.now(UTC) + CLOCK_SKEW:
        raise ValueError("must not be in the future; a history holds what has happened")
    return moment


QueryText = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_QUERY, pattern=NO_NUL),
    AfterValidator(_not_blank),
]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=NO_NUL)]
ArmName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
WholeNumber = Annotated[int, Field(ge=-(2**63), lt=2**63)]  # stays one: as a label 1 is not 1.0
ProfileValue = Annotated[str, StringConstraints(max_length=256, pattern=NO_NUL)] | bool | WholeNumber | FiniteFloat
Moment = Annotated[
    datetime,
    AfterValidator(_in_utc),
    AfterValidator(_not_in_the_future),
    Field(description="RFC 3339, not in the future; without an offset it is UTC."),
]


class Incoming(BaseModel):
    """Base of what callers send: exact types, no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True)


class HistoryEvent(Incoming):
    """One thing the shopper did with one catalogue item."""

    item_id: Identifier
    event: Literal["impression", "click", "cart", "purchase"] = "click"
    timestamp: Moment | None = None


class User(Incoming):
    """Who asks. What is given comes before what the bundle remembers of `user_id`; unknown values are ignored."""

    user_id: Identifier | None = None
    session_id: Identifier | None = Field(None, description="For experiments whose unit is the session; no more.")
    profile: Annotated[dict[Identifier, ProfileValue | None], Field(max_length=64)] | None = Field(
        None, description="Columns of the users table and their values; null is unknown."
    )
    history: Annotated[list[HistoryEvent], Field(max_length=MAX_HISTORY)] | None = Field(
        None,
        description="Oldest first; sorted by timestamp where every event has one. An event without one counts as old "
        "as the event after it. Impressions are ignored.",
    )


class Range(Incoming):
    """Numbers from `min` to `max`, both included; either may be left out."""

    min: FiniteFloat | None = None
    max: FiniteFloat | None = None


FilterValue = bool | FiniteFloat | Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=NO_NUL)]
Condition = FilterValue | Annotated[list[FilterValue], Field(min_length=1, max_length=MAX_VALUES)] | Range


class Question(Incoming):
    """What is asked, and who asks: the part that single searches and those of a batch have in common."""

    query: QueryText
    user: User | None = None
    filters: Annotated[dict[Identifier, Condition], Field(max_length=16)] | None = Field(
        None,
        description="Only items that meet all of these: by column a value, a list of values of which one must fit, or "
        "`min` and `max` of a number. A category fits all below it. /v1/status lists the columns.",
        examples=[{"brand": ["acme", "borealis"], "category": "Shoes > Running", "price": {"max": 99.5}}],
    )
    explain: bool = Field(False, description="Add what the item is and what was understood.")


class SearchRequest(Question):
    """A query, the number of results, and who asks."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"query": "red running shoes", "k": 10, "user": {"user_id": "u42"}}}
    )

    k: int = Field(10, ge=1, le=MAX_K, description="Results wanted.")
    arm: Identifier | None = Field(None, description="The arm that answers; left out, the server's choice.")


class BatchedSearch(Question):
    """One search of a batch."""

    k: int | None = Field(None, ge=1, le=MAX_K, description="Results wanted; left out, as many as the batch says.")


class BatchRequest(Incoming):
    """Many searches at once, for rankers, offline jobs and tests."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"k": 10, "searches": [{"query": "red shoes"}, {"query": "lamp", "user": {"user_id": "u42"}}]}
        }
    )

    searches: Annotated[list[BatchedSearch], Field(min_length=1, max_length=MAX_SEARCHES)]
    k: int = Field(10, ge=1, le=MAX_K, description="Results wanted of each search that does not say.")
    arm: Identifier | None = Field(None, description="The arm that answers; left out, the server's choice.")


AN_EVENT: dict[str, Any] = {
    "event_id": "b2c1-7",
    "request_id": "8f14e45f",
    "event": "purchase",
    "item_id": "i7",
    "query": "red running shoes",
    "user_id": "u42",
    "position": 3,
    "value": 59.9,
}
Kept = Annotated[Identifier, AfterValidator(_not_blank)]  # stands in the log that trains


class Feedback(Incoming):
    """What the shopper did with a result: a row of the log that the next model is trained on.

    It belongs to what `user_id` and `session_id` saw, in every experiment. `query`, `user_id` and `session_id` may be
    left out where this replica has answered the search of `request_id` lately; with several replicas, give them.
    """

    model_config = ConfigDict(json_schema_extra={"example": AN_EVENT})

    request_id: Identifier | None = Field(None, description="Of the search that it follows, where there was one.")
    event: Literal["click", "cart", "purchase"]
    item_id: Kept
    query: QueryText | None = Field(None, description="What was searched for.")
    user_id: Kept | None = None
    session_id: Kept | None = None
    position: int | None = Field(None, ge=1, le=2**31 - 1, description="Where the item stood; 1 is the top.")
    timestamp: Moment | None = Field(None, description="When it happened; left out, now.")
    value: FiniteFloat | None = Field(None, ge=0, description="Money, for a purchase.")
    event_id: Kept | None = Field(
        None, description="Yours, the same when it is told again: an event counts once. Left out, it counts each time."
    )


class Events(Incoming):
    """Several at once: all are kept, or none."""

    events: Annotated[list[Feedback], Field(min_length=1, max_length=MAX_EVENTS)]


class FeedbackRequest(RootModel[Feedback | Events]):
    """One event, or several as `events`."""

    model_config = ConfigDict(json_schema_extra={"example": AN_EVENT})


class Load(Incoming):
    """What an arm should serve from now on."""

    model_config = ConfigDict(json_schema_extra={"example": {"arm": "challenger", "bundle": "models:/shop@challenger"}})

    arm: ArmName = "default"
    bundle: Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=NO_NUL)] = Field(
        description="A bundle folder that every node can read, or models:/NAME@ALIAS."
    )


class OfArm(Incoming):
    """Which arm."""

    model_config = ConfigDict(json_schema_extra={"example": {"arm": "default"}})

    arm: ArmName = "default"


class Model(BaseModel):
    """The bundle that answered."""

    name: str
    version: str


class Item(BaseModel):
    """One result. Fields after `score` are there with `explain`, where the catalogue has them."""

    item_id: str
    score: float
    team: int | None = Field(None, description="Of an interleaved answer: the place of the arm that drafted it.")
    head: int | None = Field(None, description="The query head that found it.")
    title: str | None = None
    brand: str | None = None
    category: str | None = None
    price: float | None = None


class Understood(BaseModel):
    """What the server made of the request; with `explain`."""

    query: str = Field(description="The query after normalisation.")
    user_id: str | None = None
    profile: dict[str, str | bool | float | None] = Field(default_factory=dict)
    history: list[str] = Field(default_factory=list, description="Events on items of the catalogue.")
    ignored_history: list[str] = Field(default_factory=list, description="Impressions, and events on other items.")


class SearchResponse(BaseModel):
    """The best items, best first."""

    request_id: str
    arm: str = Field(description="Whose bundle answered, by the name that this server has for it.")
    model: Model
    experiments: dict[str, str] | None = Field(
        None, description="By experiment, the arm that answered; `interleaved` where both did. With experiments alone."
    )
    outside_experiments: str | None = Field(None, description="Why the request is in no experiment.")
    items: list[Item]
    took_ms: float = Field(description="Milliseconds in the replica: waiting, encoding, searching.")
    understood: Understood | None = None


class Result(BaseModel):
    """The best items of one search of a batch, best first. Arm and model are there where experiments are."""

    arm: str | None = None
    model: Model | None = None
    experiments: dict[str, str] | None = Field(
        None, description="By experiment, the arm that answered; `interleaved` where both did. With experiments alone."
    )
    outside_experiments: str | None = Field(None, description="Why the request is in no experiment.")
    items: list[Item]
    understood: Understood | None = None


class BatchResponse(BaseModel):
    """A result for each search, in the order of the request."""

    request_id: str
    arm: str
    model: Model
    took_ms: float = Field(description="Milliseconds in the replica, for all of them.")
    results: list[Result]


class Accepted(BaseModel):
    """The event is on disk."""

    request_id: str | None
    event_id: str


class AcceptedEvents(BaseModel):
    """All of them are on disk."""

    events: list[Accepted]


class FeedbackResponse(RootModel[Accepted | AcceptedEvents]):
    """As the request: one, or several."""


class Done(BaseModel):
    """An order that the replicas follow; /v1/status shows how far each is."""

    arm: str
    status: str


class State(BaseModel):
    """Health or readiness."""

    status: str


class SampleEvent(BaseModel):
    """An event of a sample shopper."""

    item_id: str
    event: str
    timestamp: datetime | None = None
    title: str | None = None


class SampleShopper(BaseModel):
    """A shopper that the bundle remembers, for trying things out."""

    user_id: str | None
    profile: dict[str, str | bool | float]
    history: list[SampleEvent]


class Shoppers(BaseModel):
    """Sample shoppers."""

    shoppers: list[SampleShopper]


class Served(BaseModel):
    """A version in memory."""

    model: Model
    bundle: str = Field(description="Where it came from.")
    key: str = Field(description="Which content it had there.")
    since: datetime


class Arm(Served):
    """The version that answers for an arm, and the one that a rollback would bring back."""

    previous: Served | None = None


class NotTaken(BaseModel):
    """A content that an arm did not take, and why; it goes on with what it has."""

    key: str
    reason: str
    at: datetime


class ExperimentArm(BaseModel):
    """One arm, and how often this replica has answered with it since it started."""

    weight: float
    bundle: str | None
    parameters: dict[str, Any]
    exposures: int


class RunningExperiment(BaseModel):
    """An experiment as it is followed; the first arm is the control."""

    status: str
    kind: str
    unit: str
    start: datetime | None
    end: datetime | None
    arms: dict[str, ExperimentArm]
    interleaved: int = Field(description="Answers drafted from both arms.")


class Experiments(BaseModel):
    """What traffic is split by. Replicas with one fingerprint give a unit the same arms."""

    fingerprint: str
    running: dict[str, RunningExperiment]
    refused: dict[str, str] = Field(description="By file, why it was refused; what it was before goes on.")


class Kind(BaseModel):
    """Rows of one table: put on disk, of those not yet in a part of the table, and failed to be written."""

    written: int
    waiting: int
    failed: int


class EventCounts(BaseModel):
    """What this replica has kept since it started."""

    exposures: Kind
    interactions: Kind
    folder: str
    repeated: int = Field(description="Events left out of the table because they were told again.")
    problem: str = Field(description="What is wrong with writing them now; empty where nothing is.")


class Status(BaseModel):
    """What one replica serves and has done: the one that answers. Of several replicas each counts its own requests."""

    status: str
    arm: str
    model: Model
    bundle: dict[str, Any] = Field(description="From the bundle's manifest.")
    arms: dict[str, Arm]
    refused_bundles: dict[str, NotTaken] = Field(
        description="By arm, the last content that was refused since it was swapped."
    )
    unreachable: dict[str, str] = Field(description="By arm, why its bundle's address could not be asked.")
    started: datetime
    uptime_s: float
    searches: int = Field(description="Searches that this replica has answered since it started.")
    batches: int = Field(description="Batches that they were answered in.")
    experiments: Experiments
    events: EventCounts
    refused: int = Field(description="Requests answered 4xx, and those too many or too late: 503 and 504.")
    failed: int = Field(description="Requests answered 500: defects.")


class FieldProblem(BaseModel):
    """One field and what is wrong with it."""

    field: str
    detail: str


class Problem(BaseModel):
    """application/problem+json (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = Field(None, description="The first field at fault, such as `user.history[2].event`.")
    errors: list[FieldProblem] | None = None
