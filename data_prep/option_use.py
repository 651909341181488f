"""Options that each named data set reads; others are refused."""

from __future__ import annotations

from data_prep.options import PrepareOptions
from recsys.errors import ConfigError

_ANY = {"dataset_name", "licence", "split"}
FILTERS = {"min_rating", "deduplicate", "min_user_count", "min_item_count"}
GROWTH = {"like", "append"}
DOWNLOADS = {"cache", "mirror", "sha256"}
COLUMNS = {"user_column", "item_column", "time_column", "weight_column", "order_column"}
COLUMNS |= {"part_column"}
TEXT = {"delimiter", "encoding", "header", "quote", "comment"}
ITEMS = {name for name in PrepareOptions.model_fields if name.startswith("item_file")}
ITEMS |= {"title_column"}
USERS = {name for name in PrepareOptions.model_fields if name.startswith("user_file")}

MOVIELENS = FILTERS | GROWTH | DOWNLOADS
AMAZON = FILTERS | GROWTH | ITEMS | {"encoding", "metadata_file", "max_bad_lines"}
SEQUENCES = FILTERS | GROWTH | ITEMS | USERS | {"encoding"}
ATOMIC = (
    FILTERS
    | GROWTH
    | ITEMS
    | COLUMNS
    | {"delimiter", "encoding", "quote", "time_format", "literal_nulls"}
)
GENERIC = FILTERS | GROWTH | ITEMS | USERS | COLUMNS | TEXT | {"time_format", "literal_nulls"}
USER_LISTS = FILTERS | ITEMS | {"encoding"}
SYNTHETIC = FILTERS | {"synthetic"}


def check_options(name: str, options: PrepareOptions, read: set[str]) -> None:
    """Checks that all options that were given are read.

    Raises:
        ConfigError: one is not.
    """
    defaults = PrepareOptions()
    given = {o for o in options.model_fields_set if getattr(options, o) != getattr(defaults, o)}
    unread = sorted(given - read - _ANY)
    if unread:
        raise ConfigError(
            f"{name} does not read {', '.join(unread)}; leave it out. It reads "
            f"{', '.join(sorted(read | _ANY))}"
        )
