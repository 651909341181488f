"""`recsys recommend`: files in, lists of a run, a baseline or a bundle into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from recsys.data.parsing.files import read_table
from recsys.data.parsing.frames import Order
from recsys.errors import ConfigError, DataError
from recsys.files.atomic import sha256_of
from recsys.library.batches import PART, check_form, write_lists
from recsys.library.sources.loading import load
from recsys.progress import console
from recsys.retrieval.bundle.versions import find_bundle, is_bundle

_TELLING = ("model.safetensors", "bundle.sha256", "baseline.json")
"""Files whose bytes tell one run, bundle or baseline from another."""


def recommend(
    source: str | Path,
    out: str | Path,
    *,
    users: str | Path | None = None,
    histories: str | Path | None = None,
    everyone: bool = False,
    data: str | Path | None = None,
    device: str | None = None,
    order: Order | None = None,
    allow: str | Path | None = None,
    block: str | Path | None = None,
    part: int = PART,
    **options: Any,
) -> Path:
    """Writes the lists of many users; the same command goes on where it was killed.

    Args:
        source: a run folder, a bundle, or with `data` the name of a baseline.
        out: a file named .parquet, .csv or .jsonl.
        users: a file of ids: .txt with one a line, or a table with the column user_id, and with the
            columns of users that the model reads; beside histories it tells the columns of theirs.
        histories: a table (.parquet, .csv, .jsonl) with user_id, item_id and timestamp.
        everyone: all users that the source knows.
        data: a dataset folder: of a baseline, or of a run that was moved.
        device: where a run's vectors are made: auto, cpu, cuda ...; None: where it was trained.
        order: `given`: rows of the histories stand in their order.
        allow, block: files of item ids: .txt, or a table with the column item_id.
        part: users whose lists are written at once.
        options: k, granularity, stages, filter_seen, fallback, ranker, at, diversity: as of
            `Recommender.recommend`.

    Returns:
        The file.

    Raises:
        ConfigError, DataError, GranularityError, RunError, BusyError: see their messages.
    """
    check_form(out)
    if everyone == (users is not None or histories is not None):
        raise ConfigError("say for whom: --users FILE, --histories FILE or --all, one of them")
    model = load(source, data=data, device=device)
    asked = model.asked(
        model.users if everyone else _whom(users, "users", "user_id"),
        _whom(histories, "histories", "item_id"),
        order=order,
    )
    lists: dict[str, Any] = {
        name: None if file is None else read_table(file, "item_id")
        for name, file in (("allow", allow), ("block", block))
    }
    if lists["block"] is not None and lists["block"].is_empty():
        console.print(f"{block} (--block) holds no ids: nothing is blocked", style="yellow")
    diversity = options.pop("diversity", None)
    told = {name: value for name, value in options.items() if name != "at"}
    plan = model.plan(**lists, **told).at(options.get("at")).diverse(diversity)
    # An option that is new is told where it is used: earlier parts are gone on with.
    options |= {} if diversity is None else {"diversity": [diversity.by, diversity.strength]}
    request = {
        "source": _fingerprint(Path(source)),
        "data": None if data is None else str(data),
        **options,
        **{
            name: None if file is None else sha256_of(Path(file))
            for name, file in (("allow", allow), ("block", block))
        },
    }
    return write_lists(plan, asked, out, request, size=part)


def _whom(file: str | Path | None, option: str, column: str) -> pl.DataFrame | None:
    """A table of users or histories; None: no file.

    Raises:
        DataError: it tells of nobody.
    """
    if file is None:
        return None
    table = read_table(file, column)
    if table.is_empty():
        raise DataError(
            f"{file} (--{option}) holds no {option}; put one into it at least, name another file, "
            "or ask for --all"
        )
    return table


def _fingerprint(source: Path) -> str:
    """Tells what is in a run, a bundle or a baseline; of a name, the name."""
    folder = find_bundle(source) if is_bundle(source) else source
    found = [folder / name for name in _TELLING if (folder / name).is_file()]
    return ", ".join(sha256_of(file)[:16] for file in found) or str(source)
