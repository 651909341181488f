"""`recsys export --gate`: a version is published if it is good enough on validation users.

Both versions are measured as they are served: histories of the run's validation users, as external
ids, go through the user tower and the funnel of each. What a version does not know is left out of
histories, and cannot be found.

Shape legend: U users, N items of the data set, M targets of all users, K length of the lists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys.arrays import Float32, Float64, Int64
from recsys.data.histories import Histories, jagged_positions
from recsys.errors import ConfigError, GateError, ProtocolError
from recsys.evaluation.bootstrap import paired_difference
from recsys.evaluation.held_out import held_out
from recsys.evaluation.metrics import MISS, ranks_in, user_values
from recsys.evaluation.protocol import find_protocol
from recsys.progress import console, progress
from recsys.recipes.bundles.gate_rules import Gate
from recsys.retrieval.bundle.loading import Bundle, load_bundle
from recsys.retrieval.bundle.manifest import BundleManifest, GateEntry
from recsys.retrieval.bundle.tiers import TierSpec
from recsys.retrieval.bundle.versions import find_bundle, is_bundle
from recsys.retrieval.bundle.writing import Addition
from recsys.retrieval.bundle_funnel import open_funnel
from recsys.retrieval.filters import make_filters
from recsys.runs.loading import LoadedRun
from recsys.serving.export import user_vectors
from recsys.serving.user_tower import UserTower

_USERS = 10_000
"""Validation users that are asked at most, evenly spread."""
_BATCH = 1_024


@dataclass(frozen=True)
class _People:
    """Validation users of a run."""

    histories: Histories
    """U of them."""
    targets: Int64
    """`[M]`."""
    offsets: Int64
    """`[U + 1]`."""
    item_ids: pl.Series
    """`[N]`."""
    filter_seen: bool
    data: str
    """Content hash of the data set."""
    protocol: str

    def __len__(self) -> int:
        return len(self.histories)


def gate_of(
    gates: Sequence[Gate], loaded: LoadedRun, shelf: Path, specs: Sequence[TierSpec]
) -> Addition:
    """Lets a new version in, if all gates hold; else GateError ends the export.

    Args:
        gates: what must hold.
        loaded: the run that is exported.
        shelf: whose `current` it is compared with.
        specs: the tiers of the new version.

    Raises:
        ProtocolError: the run, or `current`, was fitted on the validation part.
        ConfigError: the new version has no such granularity, or `current` cannot be measured.
    """
    loaded.check_part("valid")
    dim = specs[-1].hi
    sizes = {*(s for s in loaded.model.granularities.sizes if s <= dim), *(t.hi for t in specs)}
    for gate in gates:
        if gate.size is not None and gate.size not in sizes:
            raise ConfigError(
                f"gate {gate.text!r}: granularity {gate.size} is not among {tuple(sorted(sizes))}"
            )
    people = _people_of(loaded)
    _check(gates, _current_of(shelf), people)

    def write(folder: Path, manifest: BundleManifest) -> dict[str, Any]:
        bundle, current = Bundle(folder, manifest), _current_of(shelf)
        told = []
        for gate in gates:
            _check((gate,), current, people)
            told.append(_passed(gate, bundle, current, people, loaded))
        return {"gates": tuple(told)}

    return write


def _passed(
    gate: Gate, bundle: Bundle, current: Bundle | None, people: _People, loaded: LoadedRun
) -> GateEntry:
    """The figures of a gate.

    Raises:
        GateError: it does not hold.
    """
    own = _values(gate, bundle, people, lambda rows: user_vectors(loaded.model, rows))
    value, before, band = float(own.mean()), None, ""
    if gate.compares and current is not None:
        known = _known(gate, current, people)
        if known is not None:
            before = known.value
        else:
            other = _values(gate, current, people, None)
            before, beside = float(other.mean()), paired_difference(other, own)
            band = (
                f"; the difference is {beside.difference:+.4f} "
                f"[{beside.difference_low:+.4f}, {beside.difference_high:+.4f}]"
            )
    named = "" if current is None else current.folder.name
    against = "" if before is None else f", {before:.4f} in {named}{band}"
    if gate.compares and current is None:
        against = "; there is no version to compare it with"
    text = (
        f"gate {gate.text!r}: {gate.figure} is {value:.4f} on {len(people):,} validation users"
        f"{against}"
    )
    if not gate.holds(value, before):
        stays = f"{named} stays current" if named else "nothing is published"
        raise GateError(f"{text}. The new version is not published, and {stays}")
    console.print(text, highlight=False, soft_wrap=True)
    return GateEntry(
        gate=gate.text,
        figure=gate.figure,
        value=value,
        num_users=len(people),
        content_hash=people.data,
        protocol=people.protocol,
        against=named or None,
        against_value=before,
    )


def _people_of(loaded: LoadedRun) -> _People:
    dataset, preset = loaded.dataset, find_protocol(loaded.config.protocol)
    held = held_out(dataset, loaded.split, "valid").spread(_USERS)
    return _People(
        histories=held.histories(dataset, np.arange(len(held.users))),
        targets=held.targets.astype(np.int64),
        offsets=held.offsets,
        item_ids=dataset.item_frame()["item_id"],
        filter_seen=preset.filter_seen,
        data=dataset.manifest.content_hash,
        protocol=preset.name,
    )


def _current_of(shelf: Path) -> Bundle | None:
    return load_bundle(find_bundle(shelf)) if is_bundle(shelf) else None


def _check(gates: Sequence[Gate], current: Bundle | None, people: _People) -> None:
    """Raises unless `current` can be measured by the gates that ask for it."""
    for gate in gates:
        if current is None or not gate.compares or _known(gate, current, people) is not None:
            continue
        card = current.manifest.protocol
        if card.get("content_hash") == people.data and card.get("fit_on", "train") != "train":
            raise ProtocolError(
                f"gate {gate.text!r}: {current.folder} was fitted on {card['fit_on']} of the same "
                "data, so it has seen the validation part; compare both on the test part "
                "(recsys evaluate), and export without a gate"
            )
        if current.manifest.tower is None:
            raise ConfigError(
                f"gate {gate.text!r}: {current.folder} has no user tower, so it cannot be measured "
                "on validation users; give a number in the place of current, or export without a "
                "gate once"
            )
        if gate.size is not None:
            current.check_size(gate.size)


def _known(gate: Gate, current: Bundle, people: _People) -> GateEntry | None:
    """The same figure of the same users, measured when `current` was exported."""
    wanted = (gate.figure, len(people), people.data, people.protocol)
    for entry in current.manifest.gates:
        if (entry.figure, entry.num_users, entry.content_hash, entry.protocol) == wanted:
            return entry
    return None


def _values(
    gate: Gate,
    bundle: Bundle,
    people: _People,
    vectors: Callable[[Histories], Float32] | None,
) -> Float64:
    """`[U]` the figure of each user.

    Args:
        gate: names the figure.
        bundle: that is measured.
        people: the users.
        vectors: gives user vectors where the bundle has no tower.
    """
    place = _places(bundle, people.item_ids)
    routing = bundle.manifest.routing
    routed = gate.size is None and routing is not None and routing.k == gate.k
    text = None if gate.size is None else str(gate.size)
    k = gate.k if routed else gate.k + 1  # what stands behind may be a tie
    funnel = open_funnel(bundle, stages=text, k=k, routed=routed)
    tower = None if bundle.manifest.tower is None else UserTower(bundle)
    ranks = np.full(len(people.targets), MISS, np.int64)
    with progress() as bar:
        task = bar.add_task(f"{gate.figure} of {bundle.folder.name}", total=len(people))
        for lo in range(0, len(people), _BATCH):
            rows = np.arange(lo, min(lo + _BATCH, len(people)))
            bar.advance(task, len(rows))
            histories = people.histories.rows(rows)
            asked, known = _mapped(histories, place)
            if not len(asked):
                continue
            if tower is not None:
                users = tower.user_vectors(
                    known.items,
                    known.offsets,
                    timestamps=known.timestamps,
                    asked_at=known.asked_at,
                )
            else:
                assert vectors is not None  # `_check`
                users = vectors(histories)[asked]
            repeats = None if people.filter_seen else bundle.manifest.repeats
            seen = None if repeats == {} else (known.items, known.offsets)
            filters = make_filters(len(asked), bundle.num_items, seen=seen, repeats=repeats or None)
            found = funnel.search(users, k, filters)
            places, edges = jagged_positions(
                people.offsets[rows[asked]], people.offsets[rows[asked] + 1]
            )
            targets = place[people.targets[places]]
            targets = np.where(targets < 0, -2, targets)  # -1 stands behind short lists
            ranks[places] = ranks_in(found.items, found.scores, targets, edges, gate.k)
    return user_values(gate.metric, ranks, people.offsets, (gate.k,))[:, 0]


def _mapped(histories: Histories, place: Int64) -> tuple[Int64, Histories]:
    """Rows of which the bundle knows an item, and their histories of what it knows."""
    items = place[histories.items]
    kept = items >= 0
    owners = np.repeat(np.arange(len(histories)), histories.lengths)[kept]
    rows, lengths = np.unique(owners, return_counts=True)
    times, asked_at = histories.timestamps, histories.asked_at
    return rows, Histories(
        histories.users[rows],
        items[kept].astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        None if times is None else times[kept],
        None if asked_at is None else asked_at[rows],
    )


def _places(bundle: Bundle, ids: pl.Series) -> Int64:
    """`[N]` the bundle's index of each item of the data set; -1: it has none."""
    known = bundle.ids("item").select(
        pl.col("item_id").cast(pl.String), pl.col("item_index").cast(pl.Int64)
    )
    asked = pl.DataFrame({"item_id": ids.cast(pl.String)})
    joined = asked.join(known, on="item_id", how="left", maintain_order="left")
    return joined["item_index"].fill_null(-1).to_numpy()
