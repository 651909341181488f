"""Requests and answers, as OpenAPI describes them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

Id = Annotated[StrictInt | Annotated[StrictStr, Field(max_length=1_000)], Field(union_mode="smart")]
"""An external id: text or a whole number; 3 and "3" are the same."""
MOST = 1 << 20
"""Longest list that is read at all; the operator's limits are below it."""
Second = Annotated[int, Field(ge=-(1 << 40), le=1 << 40, strict=True)]
Ids = Annotated[list[Id], Field(max_length=MOST)]
Column = Annotated[StrictStr, Field(max_length=200)]
_Text = Annotated[StrictStr, Field(max_length=1_000)]
_Texts = Annotated[list[_Text], Field(max_length=1_000)]
Told = StrictBool | StrictInt | StrictFloat | _Text | _Texts | None
"""A value of a column of users."""
_HISTORY: dict[str, Any] = {"history": ["168", "172"], "k": 3, "columns": ["title"]}


class Body(BaseModel):
    """A body that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Narrowing(Body):
    """Which items may be found, and what is told of them."""

    k: int = Field(default=10, ge=1, le=10_000, strict=True)
    """Length of the list."""
    granularity: int | None = Field(default=None, ge=1, le=1 << 20, strict=True)
    """Rank by this prefix alone; null: by the stages of the bundle."""
    stages: Annotated[StrictStr, Field(max_length=200)] | None = None
    """Rank in stages, as `32:200,256`, within the operator's limits."""
    allow: Ids | None = None
    """The only items that may be found; null: all."""
    block: Ids = Field(default=[])
    """Items that may not be found."""
    where: dict[Column, Annotated[list[Column], Field(max_length=1_000)]] = Field(
        default={}, max_length=20
    )
    """Column to values: items with any of the values, in every column named."""
    columns: Annotated[list[Column], Field(max_length=100)] = Field(default=[])
    """What is told of each item, of the columns that the bundle has."""

    @model_validator(mode="after")
    def _one_way(self) -> Narrowing:
        if self.granularity is not None and self.stages is not None:
            raise ValueError("granularity and stages both say by what to rank; give one")
        return self


class Person(Body):
    """For whom: a history, or a user that the bundle knows."""

    history: Ids | None = None
    """External ids of items, oldest first. Unknown ones are reported; an empty history gets the
    most popular items."""
    times: Annotated[list[Second], Field(max_length=MOST)] | None = None
    """When each item of the history was, in seconds since 1970; needed where the bundle's
    `reads_time` is history or request, and read by a ranker."""
    user: Id | None = None
    """A user of the bundle; an unknown one gets the most popular items, unless `user_columns` tell
    more."""
    user_columns: dict[Column, Told] | None = Field(default=None, max_length=100)
    """What is known of the user beside the history, by the columns that the bundle reads (its
    `user_columns`): text, numbers, lists of texts, null where it is missing. It may stand alone. Of
    a user of the bundle it is not read: the bundle knows it already."""
    at: Second | None = None
    """When the items are asked for, in seconds since 1970; read where the bundle's `reads_time` is
    request (null: now), and by a ranker (null: not known)."""

    @model_validator(mode="after")
    def _one_person(self) -> Person:
        nobody = self.history is None and self.user is None and self.user_columns is None
        if nobody or (self.history is not None and self.user is not None):
            raise ValueError("give either history (it may be empty) or user")
        return self

    @model_validator(mode="after")
    def _a_time_for_each(self) -> Person:
        if self.times is not None and len(self.times) != len(self.history or ()):
            raise ValueError(
                f"{len(self.times)} times are given for {len(self.history or ())} items of the "
                "history; give one for each"
            )
        return self


class Diversity(Body):
    """How much items of other categories than those before them are worth more."""

    by: Column
    """A column of the bundle with categories: lists, or text with `|` between them."""
    strength: float = Field(default=0.05, ge=0, le=1_000)
    """What each earlier item of another category adds to a score, where the best of the candidates
    has 1 and the worst 0."""


class RecommendRequest(Narrowing, Person):
    """Items for a history or a user."""

    diversity: Diversity | None = None
    """Choose the list from five times as many candidates, for scores and for categories; null: by
    scores alone. The scores that are told need not fall then."""
    filter_seen: bool = Field(default=True, strict=True)
    """Leave out what is in the history."""
    ranker: bool | None = Field(default=None, strict=True)
    """Order the candidates by the bundle's ranker; null: where it has one, and neither granularity
    nor stages are given."""
    model_config = ConfigDict(json_schema_extra={"examples": [_HISTORY, {"user": "196", "k": 5}]})


class SimilarRequest(Narrowing):
    """Items like an item, by the cosine of their vectors."""

    item: Id
    """Its external id."""
    model_config = ConfigDict(json_schema_extra={"examples": [{"item": "168", "k": 3}]})


class ScoreRequest(Person):
    """Scores of given items."""

    items: Ids
    """External ids."""
    granularity: int | None = Field(default=None, ge=1, le=1 << 20, strict=True)
    """Score by this prefix; null: by the full width."""
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"history": ["168"], "items": ["172", "165"]}]}
    )


_Batch = Field(min_length=1, max_length=1_000)


class RecommendBatch(Body):
    """Many requests at once, each with its own options."""

    requests: Annotated[list[RecommendRequest], _Batch]
    model_config = ConfigDict(json_schema_extra={"examples": [{"requests": [_HISTORY]}]})


class SimilarBatch(Body):
    """Many requests at once."""

    requests: Annotated[list[SimilarRequest], _Batch]
    model_config = ConfigDict(json_schema_extra={"examples": [{"requests": [{"item": "168"}]}]})


class ScoreBatch(Body):
    """Many requests at once."""

    requests: Annotated[list[ScoreRequest], _Batch]
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"requests": [{"history": ["168"], "items": ["172"]}]}]}
    )


class FoundItem(BaseModel):
    """One place of a list."""

    item_id: str | int
    rank: int
    score: float
    """A dot product, or a cosine times the length of the user's vector (of users of several
    vectors, the best of these products or cosines); the ranker's, where `ranked` is true.
    Interactions, where the source is `popularity`. The cosine of two items' vectors, where the
    source is `item`."""
    columns: dict[str, Any] | None = None
    """What was asked to be told of it."""


class ListAnswer(BaseModel):
    """A list, best first."""

    version: str
    """Of the bundle that answered."""
    source: str
    """What the list was made of: `history`, `columns` of a user without one (of anyone, where the
    bundle reads no histories), `user`, `item` or `popularity`."""
    ranked: bool = False
    """The bundle's ranker has ordered it."""
    items: list[FoundItem]
    unknown: list[str | int]
    """Ids of the request that the bundle does not know, each once."""
    search_ms: float
    """Milliseconds of the search that this request shared with those that arrived with it."""
    together: int
    """How many requests that search answered."""


class ScoredItem(BaseModel):
    """An item and its score."""

    item_id: str | int
    score: float | None
    """null: the item is unknown, or nothing is known of the user."""


class ScoreAnswer(BaseModel):
    """Scores in the order of the items asked for."""

    version: str
    source: str
    items: list[ScoredItem]
    unknown: list[str | int]


class ListBatchAnswer(BaseModel):
    """Answers in the order of the requests."""

    results: list[ListAnswer]


class ScoreBatchAnswer(BaseModel):
    """Answers in the order of the requests."""

    results: list[ScoreAnswer]


class Problem(BaseModel):
    """What was found, what is allowed, what to do."""

    detail: str


class State(BaseModel):
    """Of the server."""

    state: str
    version: str | None = None
    sequence: int | None = None
    """Number of the last change of items that this worker serves; null: the server takes none."""


class Item(BaseModel):
    """What the bundle tells of an item."""

    item_id: str | int
    title: str
    """The text column it is called by; its id, where there is none."""
    columns: dict[str, Any]


class Items(BaseModel):
    """Items."""

    items: list[Item]


class User(BaseModel):
    """A user and what they had last."""

    user_id: str | int
    length: int
    """Interactions of the whole history."""
    latest: list[Item]
    """Newest first."""


class Users(BaseModel):
    """Ids of users."""

    users: list[str | int]


class Cost(BaseModel):
    """What a granularity costs."""

    size: int
    bytes: float
    """Of one item's prefix, as it is stored."""
    hot_bytes: float
    """Of these, those in memory; others are mapped from disk."""
    multiply_adds: float
    """Of one search."""
    allowed: bool
    """Whether requests may name it."""


class Bundle(BaseModel):
    """The version that is served."""

    version: str
    created_at: str | None
    parent: str | None
    model: str | None
    metric: str
    items: int
    added: int
    """Items that were put while it serves."""
    deleted: int
    """Of its own items, those that were deleted while it serves."""
    waiting: int
    """Items that were put and that this version cannot serve."""
    users: int
    interests: int
    """Vectors of each user; a score is the best of theirs."""
    histories: bool
    """Whether the bundle turns histories into users."""
    reads_time: str
    """What it reads of time: none; history: `times` of a history; request: `at` too."""
    user_columns: list[str]
    """What it reads of users beside their history."""
    stages: str
    """The funnel of requests that name none."""
    cost: Cost
    """Of these stages."""
    granularities: list[Cost]
    columns: list[str]
    title: str | None
    """The column that items are called by."""
    categories: dict[str, list[str]]
    """Columns to filter by, with their values; long ones are left out."""
    limits: dict[str, Any]
    tradeoff: list[dict[str, Any]]
    """Measured funnels: quality against bytes and multiply-adds; empty: none were."""
