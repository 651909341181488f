"""Options of `prepare`: one typed model for the command line and for Python."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from data_prep.raw_tables.text_encodings import Encoding
from recsys.config import StrictModel
from recsys.data.clicks.options import ClickOptions
from recsys.data.dataset import SplitRule
from recsys.data.filters import Deduplicate

Kind = Literal["csv", "tsv", "parquet", "jsonl"]
"""How a table is stored."""


def _name(value: Any) -> Any:
    """A number names a column as its digits do."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _delimiter(value: str) -> str:
    r"""`\t`, `\x01` and the like, as shells hand them over, are the characters they name."""
    if len(value) > 1 and value.startswith("\\") and value.isascii():
        value = value.encode().decode("unicode_escape")
    if "\n" in value or '"' in value:
        raise ValueError("a line end or a quote separates no fields")
    return value


def _quote(value: str) -> str:
    if value != "none" and len(value.encode()) != 1:
        raise ValueError("one character, or none")
    return value


Column = Annotated[str, BeforeValidator(_name)]
"""Name of a column, or its number from 1 where a file has no header."""
Delimiter = Annotated[str, Field(min_length=1), AfterValidator(_delimiter)]
"""One character or several."""
Quote = Annotated[str, AfterValidator(_quote)]
"""The character that encloses fields; `none`: nothing does."""
Header = Literal["first", "none"]
"""first: the first row holds the names of the columns; none: it is data."""


class SyntheticOptions(StrictModel):
    """Sizes and habits of the synthetic data set."""

    num_users: int = Field(default=10_000, ge=1)
    """How many users."""
    num_items: int = Field(default=2_000, ge=2)
    """How many items."""
    num_interactions: int = Field(default=200_000, ge=1)
    """How many interactions, exactly; no user meets an item twice."""
    num_clusters: int = Field(default=20, ge=1)
    """Latent interests; each item belongs to one."""
    zipf_exponent: float = Field(default=1.0, ge=0)
    """The item of popularity rank r is drawn in proportion to r ** -zipf_exponent."""
    drift: float = Field(default=0.2, ge=0, le=1)
    """Chance that a user moves to another interest before an interaction."""
    noise: float = Field(default=0.1, ge=0, le=1)
    """Chance that an interaction ignores the user's interest and follows popularity alone."""
    min_history: int = Field(default=3, ge=1)
    """Interactions every user has at least."""
    seed: int = Field(default=0, ge=0)
    """All rows follow from the sizes, the habits and the seed."""
    chunk_interactions: int = Field(default=1_000_000, ge=1)
    """About so many interactions are held in memory at once; changes no row."""

    @model_validator(mode="after")
    def _possible(self) -> "SyntheticOptions":
        if self.num_clusters > self.num_items:
            raise ValueError(f"{self.num_clusters} clusters for {self.num_items} items; use fewer")
        if self.num_interactions < self.num_users * self.min_history:
            raise ValueError(
                f"{self.num_interactions} interactions are too few for {self.num_users} users "
                f"of at least {self.min_history}; raise num_interactions or lower num_users"
            )
        if max(self.num_interactions / self.num_users, self.min_history) > self.max_history:
            raise ValueError(
                f"histories of {self.num_interactions / self.num_users:.1f} interactions (at least "
                f"{self.min_history}) are more than half of {self.num_items} items; raise num_items"
            )
        return self

    @property
    def max_history(self) -> int:
        """No history is longer than half of the catalogue, so that there is something to rank."""
        return self.num_items // 2


class PrepareOptions(StrictModel):
    """What `prepare` does beside reading; every field is an option of `recsys prepare`."""

    min_rating: float | None = None
    """Leaves out interactions whose rating (weight) is lower."""
    deduplicate: Deduplicate = "none"
    """Of a (user, item) pair that occurs several times, keep all, the first or the last."""
    min_user_count: int = Field(default=1, ge=1)
    """Iterative k-core: every user that stays has at least so many interactions."""
    min_item_count: int = Field(default=1, ge=1)
    """Iterative k-core: every item that stays has at least so many interactions."""
    split: SplitRule = SplitRule()
    """The split the manifest names as the data set's own."""

    dataset_name: str | None = None
    """Name in the manifest; default: the name given to `prepare`."""
    licence: str | None = None
    """Terms of the data; default: what is known of the named data set."""
    like: Path | None = None
    """A dataset folder whose users and items keep their indices; new ids come after them. Its name
    and split are the default's."""
    append: bool = False
    """With like: its rows come first, and the raw file holds new rows alone."""

    user_column: Column = "user_id"
    """Generic files: the column of user ids; a number from 1 with header=none."""
    item_column: Column = "item_id"
    """Generic files: the column of item ids, or of lists of them (one session a row)."""
    time_column: Column | None = None
    """Generic files: column of times. Default: `timestamp` if there is one; `none`: no times."""
    time_format: str | None = None
    """Generic files: how times are written, where all rows leave it open: day-first, month-first or
    year-first dates; s, ms, us or ns since 1970; number (kept as it stands); or a pattern as of
    strftime, like %d/%m/%Y %H:%M."""
    weight_column: Column | None = None
    """Generic files: the column of ratings. Default: `rating` or `weight`; `none`: no ratings."""
    order_column: Column | None = None
    """Generic files: a column of positions within a history; it then rules instead of time."""
    part_column: Column | None = None
    """Generic files: a column of `train`, `valid` and `test`: the split is given then."""
    delimiter: Delimiter | None = None
    r"""csv and tsv: what separates fields: `;`, `|`, `\t`, `::`. Default: a comma, a tab."""
    encoding: Encoding = "utf-8"
    """csv, tsv and jsonl: how text is encoded: cp1252, gbk, utf-16 ... A mark in the file rules."""
    header: Header | None = None
    """csv and tsv: first or none. Default: first, refused where the names look like data."""
    quote: Quote | None = None
    """csv and tsv: what encloses fields. Default: `"` in csv, or where a header has it; `none`."""
    comment: str | None = Field(default=None, min_length=1)
    """csv and tsv: lines that begin with it are not rows."""
    literal_nulls: bool = False
    """Ids like NULL, None or NA are ids; otherwise they are refused."""

    item_file: Path | None = None
    """A csv, tsv, parquet or jsonl file of item content (titles, genres ...). It is read as the
    interactions are, where no option item_file_... says otherwise."""
    item_file_id_column: Column = "item_id"
    """The column of item ids in `item_file`."""
    title_column: Column | None = None
    """The column of `item_file` that shall be called `title`."""
    item_file_kind: Kind | None = None
    """How `item_file` is stored. Default: what its name tells."""
    item_file_delimiter: Delimiter | None = None
    """As `delimiter`, for `item_file` alone."""
    item_file_encoding: Encoding | None = None
    """As `encoding`, for `item_file` alone."""
    item_file_header: Header | None = None
    """As `header`, for `item_file` alone."""
    item_file_quote: Quote | None = None
    """As `quote`, for `item_file` alone."""

    user_file: Path | None = None
    """A csv, tsv, parquet or jsonl file of what is known of the users (age, country ...), read as
    the interactions are, where no option user_file_... says otherwise."""
    user_file_id_column: Column = "user_id"
    """The column of user ids in `user_file`."""
    user_file_kind: Kind | None = None
    """How `user_file` is stored. Default: what its name tells."""
    user_file_delimiter: Delimiter | None = None
    """As `delimiter`, for `user_file` alone."""

    metadata_file: Path | None = None
    """Amazon: the file of product metadata (JSON lines, Python literals, parquet; also .gz)."""
    max_bad_lines: int = Field(default=100, ge=0)
    """Amazon: so many malformed lines of a file are counted, named and left out; one more stops."""

    cache: Path = Field(default_factory=lambda: Path.home() / ".cache" / "recsys")
    """Where downloads are kept."""
    mirror: str = "https://files.grouplens.org/datasets/movielens"
    """The address under which the MovieLens zip files stand."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """The downloaded file must have this checksum (beside the published one)."""

    synthetic: SyntheticOptions = SyntheticOptions()
    """Name `synthetic`: its sizes and habits."""
    clicks: ClickOptions = ClickOptions()
    """Labelled events: their columns, label and split."""

    @model_validator(mode="after")
    def _rows_are_added_to_something(self) -> "PrepareOptions":
        if self.append and self.like is None:
            raise ValueError("append adds rows to a data set; name it with like=FOLDER")
        counts = (self.min_user_count, self.min_item_count)
        if self.append and max(counts) > 1:
            raise ValueError(
                "with append, min_user_count and min_item_count would count new rows alone; leave "
                "them out, or give all rows and like=FOLDER without append"
            )
        return self
