"""Query users of a run or a bundle: vectors, filters and targets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from recsys.arrays import Float32
from recsys.data.histories import jagged_positions
from recsys.errors import ConfigError, ProtocolError
from recsys.evaluation.held_out import held_out, spread_over
from recsys.evaluation.protocol import Part, check_time, find_protocol
from recsys.evaluation.tradeoff.sweep import Queries
from recsys.files.kinds import check_run_or_bundle
from recsys.retrieval.bundle.loading import Bundle, load_bundle
from recsys.retrieval.checks import checked_count
from recsys.retrieval.filters import make_filters
from recsys.runs.loading import LoadedRun, open_run
from recsys.runs.records import RUN
from recsys.serving.export import repeats_of, user_vectors


@dataclass(frozen=True)
class Measuring:
    """The users with whom searches are measured, and the settings of the measurement."""

    protocol: str | None = None
    """A preset; None: the one the run was trained under."""
    num_users: int | None = 2000
    """The number of users, for choosing and again for measuring, evenly spread. None: all."""
    threads: int | None = None
    """Threads of the searches; None: all cores."""

    def __post_init__(self) -> None:
        if self.num_users is not None:
            checked_count(self.num_users, "the number of users")


@dataclass(frozen=True)
class Source:
    """The items and users on which searches are measured, and a report's text about them."""

    vectors: Float32
    sizes: tuple[int, ...]
    normalize: bool
    choosing: Queries
    """The users with whom a choice is made."""
    measuring: Queries
    """The users with whom the choice is measured; they take no part in it."""
    under: str
    parts: tuple[str, str]
    """A description of both groups of users."""


def folder_of(source: str | Path | LoadedRun) -> Path:
    """Where a run or a bundle stands."""
    return source.folder if isinstance(source, LoadedRun) else Path(source)


def open_source(source: str | Path | LoadedRun, measuring: Measuring) -> Source:
    """A run, whose validation users choose and whose test users measure; or a bundle.

    A bundle, or a run that was fitted to its validation part, has no two such parts: every second
    user is used for the choice, the others for the measurement.

    Args:
        source: the run or the bundle.
        measuring: the users and the settings.

    Raises:
        RunError, DataError: the source cannot be read.
        ProtocolError: the protocol needs another split.
        ConfigError: a protocol is named beside a bundle.
    """
    if not isinstance(source, LoadedRun):
        check_run_or_bundle(source)
    if isinstance(source, LoadedRun) or (Path(source) / RUN).is_file():
        return _of_run(open_run(source), measuring.protocol, measuring.num_users)
    if measuring.protocol is not None:
        raise ConfigError(
            f"{source} is a bundle, whose lists are compared with exact search of what it holds "
            f"and with no held-out part; leave --protocol {measuring.protocol} out, or name the run"
        )
    return _of_bundle(load_bundle(source), measuring.num_users)


def _of_run(loaded: LoadedRun, protocol: str | None, num_users: int | None) -> Source:
    if loaded.fit_on == "train":
        choosing = queries_of(loaded, "valid", protocol, num_users)
        measuring = queries_of(loaded, "test", protocol, num_users)
        parts = "the validation part", "the test part"
    else:
        both = queries_of(loaded, "test", protocol, num_users and 2 * num_users)
        choosing, measuring = both.halves()
        parts = "every second user of the test part", "the other users of the test part"
    with torch.inference_mode():
        items = loaded.model.item_vectors().float().cpu().numpy()
    granularities = loaded.model.granularities
    under = f"{loaded.dataset.manifest.name}, {protocol or loaded.config.protocol} protocol"
    return Source(
        items, granularities.sizes, granularities.normalize, choosing, measuring, under, parts
    )


def _of_bundle(bundle: Bundle, num_users: int | None) -> Source:
    count = len(bundle.users) // bundle.interests
    rows = spread_over(count, num_users and 2 * num_users)
    items, offsets = bundle.seen
    places, kept = jagged_positions(offsets[rows], offsets[rows + 1])
    # Bundles of vectors from elsewhere name no protocol; what a user has is then no find.
    filters = bundle.manifest.protocol.get("filter_seen", True)
    repeats = None if filters else bundle.manifest.repeats
    queries = Queries(
        bundle.user_vectors(rows, bundle.dim),
        make_filters(len(rows), bundle.num_items, seen=(items[places], kept), repeats=repeats),
        None,
        None,
    )
    vectors = bundle.items.decode(slice(None), 0, bundle.dim)
    under = "against exact search of what the bundle holds"
    parts = "every second user", "the other users"
    sizes = bundle.manifest.sizes
    return Source(vectors, sizes, bundle.normalize, *queries.halves(), under, parts)


def queries_of(
    loaded: LoadedRun, part: Part, protocol: str | None, num_users: int | None
) -> Queries:
    """Users of a part, evenly spread; what they have seen is filtered where the protocol says so,
    and scored as the model does where it does not.

    Raises:
        ProtocolError: something was fitted to the part, or the protocol needs another split.
    """
    preset = find_protocol(protocol or loaded.config.protocol)
    loaded.check_part(part)
    if loaded.split.rule.name != preset.split:
        raise ProtocolError(
            f"protocol {preset.name} needs the split {preset.split}, the run was trained on "
            f"{loaded.split.rule.name}; choose another protocol"
        )
    check_time(loaded.config.model.reads_time, preset, str(loaded.folder))
    held = held_out(loaded.dataset, loaded.split, part)
    rows = spread_over(len(held.users), num_users)
    histories = held.histories(loaded.dataset, rows)
    places, offsets = held.targets_of(rows)
    repeats = None if preset.filter_seen else repeats_of(loaded.model)
    seen = (histories.items, histories.offsets) if repeats != {} else None
    return Queries(
        user_vectors(loaded.model, histories),
        make_filters(len(rows), loaded.dataset.num_items, seen=seen, repeats=repeats or None),
        held.targets[places].astype(np.int64),
        offsets,
    )
