"""`recsys compatibility`: an old run and one that was updated from it, used together."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from recsys.console import make_console
from recsys.errors import ConfigError
from recsys.evaluation.held_out import held_out
from recsys.evaluation.protocol import find_protocol
from recsys.files.atomic import write_json
from recsys.recipes.updating.crossing import Crossing, Known, cross, everyone_of
from recsys.recipes.updating.trained_rows import check_indices
from recsys.runs.loading import LoadedRun
from recsys.runs.records import load_config

COMPATIBILITY = "compatibility.json"
MOST_USERS = 20_000
"""Of all that can be measured so many, evenly spread."""


def compatibility(
    old: str | Path, new: str | Path, *, part: Literal["valid", "test"] = "valid"
) -> Crossing:
    """Ranks old and new users by old and new item vectors, at every granularity.

    The table is kept as `compatibility.json` in the folder of the new run.

    Args:
        old: a run folder.
        new: the run that was updated from it.
        part: what is predicted; of a run with `fit_on=all` nothing is, and only how many of the
            first ten stay is told.

    Raises:
        ConfigError: the two have other granularities.
        RunError: the data of the new one does not keep the indices of the old one's.
        ProtocolError: the new run was fitted on that part.
    """
    before, now = LoadedRun(old), LoadedRun(new)
    check_indices(before, now.dataset)
    if before.config.model.name != now.config.model.name:
        raise ConfigError(
            f"{old} is a {before.config.model.name}, {new} a {now.config.model.name}; name a run "
            "and one that was updated from it"
        )
    measured = now.fit_on != "all"
    if measured:
        now.check_part(part)
        held = held_out(now.dataset, now.split, part).spread(MOST_USERS)
    else:
        held = everyone_of(now.dataset, MOST_USERS)
    found = cross(
        (before.model, now.model),
        Known(before.dataset.num_items, before.dataset.num_users),
        now.dataset,
        held,
        filter_seen=find_protocol(now.config.protocol).filter_seen,
        measured=measured,
    )
    write_json(Path(new) / COMPATIBILITY, describe(found, str(old), part if measured else None))
    return found


def unseen_part(run: Path) -> Literal["valid", "test"]:
    """The part that can be predicted by a run that was updated: the validation part, if it has not
    been fitted on that.
    """
    return "test" if load_config(run).fit_on == "train+valid" else "valid"


def describe(found: Crossing, old: str, part: str | None) -> dict[str, Any]:
    """As it is kept."""
    return {
        "old": str(Path(old).resolve()),
        "part": part,
        "users": found.num_users,
        "left_out": found.left_out,
        "targets": found.num_targets,
        "missing_targets": found.missing,
        "rows": found.rows.to_dicts(),
    }


def print_compatibility(found: Crossing) -> None:
    """A row for each granularity and catalogue, and what the columns are."""
    from rich.table import Table

    table = Table(
        "items", "granularity", "new x new", "old x new", "new x old", "old x old", "kept",
        "same of 10", title="ndcg@10, users x item index",
    )  # fmt: skip
    for (catalogue, size), rows in found.rows.group_by(
        "catalogue", "granularity", maintain_order=True
    ):
        by = {(row["users"], row["items"]): row for row in rows.iter_rows(named=True)}
        pairs = (("new", "new"), ("old", "new"), ("new", "old"), ("old", "old"))
        values = [by[pair]["ndcg@10"] for pair in pairs]
        kept = by["new", "old"]["kept"]
        table.add_row(
            str(catalogue), str(size),
            *("-" if value is None else f"{value:.4f}" for value in values),
            "-" if kept is None else f"{kept:.1%}",
            f"{by['new', 'new']['same']:.1f}",
        )  # fmt: skip
    console = make_console()
    console.print(table)
    console.print(
        f"{found.num_users:,} users; {found.left_out:,} are left out, of whom the old run knows "
        f"nothing. {found.missing:,} of {found.num_targets:,} targets are missing in the old "
        "index: over all items they are misses there, over shared ones they do not count. kept: "
        "new x old of new x new. same: items of the first ten of new x new that old x old has too.",
        highlight=False,
    )
