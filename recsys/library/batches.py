"""`recsys recommend`: lists of any number of users into a file, by parts that survive a kill.

    top.parquet.parts/     beside the output, until it is whole
        request.json       what was asked, of which source, for whom
        000000.parquet     the lists of the first users, and so on

A part is written whole or not at all, so a command that is given again goes on behind the last one:
no user is lost, none comes twice. In memory are the lists of one part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from recsys.errors import ConfigError, RecsysError, RunError
from recsys.files.atomic import atomic_path, held, read_json, remove, write_json
from recsys.library.asked import Asked
from recsys.library.plan import Plan
from recsys.library.recommender import BATCH, tell_unknown
from recsys.progress import console, progress

FORMS = (".parquet", ".csv", ".jsonl")
_REQUEST = "request.json"
PART = 4 * BATCH
"""Users of a part."""


def write_lists(
    plan: Plan, asked: Asked, out: str | Path, request: Mapping[str, Any], *, size: int = PART
) -> Path:
    """Writes user_id, item_id, rank and score of everybody, in the order asked for.

    Args:
        plan: what everybody gets.
        asked: who.
        out: a file named .parquet, .csv or .jsonl.
        request: tells this command from others that would write the same file.
        size: users of a part.

    Returns:
        The file; beside it stands `OUT.unknown.csv` where something was not known.

    Raises:
        ConfigError: the name says no such form.
        DataError: a history is empty, and there is no fallback.
        RunError: parts of another command stand there. BusyError: it is being written.
    """
    path = check_form(out)
    plan.check(asked)
    tell_unknown(asked)
    parts = path.with_name(path.name + ".parts")
    parts.mkdir(parents=True, exist_ok=True)
    with held(parts / ".lock", f"another process is writing {path}; wait for it"):
        _check_same(parts, {**request, "users": len(asked), "asked": _hash(asked), "part": size})
        try:
            files = _write_parts(plan, asked, parts, size)
        except RecsysError:  # refused; a killed command finds its parts again
            if not any(parts.glob("*.parquet")):
                remove(parts)
            raise
        with atomic_path(path) as temporary:
            _join(files, temporary, path.suffix)
        _write_unknown(asked, path)
    remove(parts)
    return path


def check_form(out: str | Path) -> Path:
    """The path, if its name says how it is to be written.

    Raises:
        ConfigError: it does not.
    """
    path = Path(out)
    if path.suffix not in FORMS:
        raise ConfigError(f"{path} is named as none of {', '.join(FORMS)}; choose one of these")
    return path


def _write_parts(plan: Plan, asked: Asked, parts: Path, size: int) -> list[Path]:
    """The files of all parts; those that stand there are left alone."""
    files = [parts / f"{number:06d}.parquet" for number in range(max(1, -(-len(asked) // size)))]
    done = sum(file.is_file() for file in files)
    if done:
        console.print(f"{done:,} of {len(files):,} parts stand there already", style="dim")
    with progress("{task.fields[rate]}") as bar:
        task = bar.add_task("recommending", total=len(asked), rate="")
        for number, file in enumerate(files):
            rows = range(number * size, min((number + 1) * size, len(asked)))
            if not file.is_file():
                part = asked.slice(rows.start, rows.stop)
                lists = [plan.frame(piece) for piece in part.parts(BATCH)]
                with atomic_path(file) as temporary:
                    pl.concat([plan.frame(part.slice(0, 0)), *lists]).write_parquet(temporary)
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, advance=len(rows), rate=f"{speed:,.0f} users/s" if speed else "")
    return files


def _join(files: list[Path], path: Path, form: str) -> None:
    """One file of all parts, a part in memory at a time."""
    lists = pl.scan_parquet(files, glob=False)
    if form == ".parquet":
        lists.sink_parquet(path, maintain_order=True)
    elif form == ".csv":
        lists.sink_csv(path, maintain_order=True)
    else:
        lists.sink_ndjson(path, maintain_order=True)


def _write_unknown(asked: Asked, path: Path) -> None:
    beside = path.with_name(path.name + ".unknown.csv")
    remove(beside)
    if len(asked.unknown):
        with atomic_path(beside) as temporary:
            asked.unknown.write_csv(temporary)
        console.print(f"what was unknown is named in {beside}", style="dim", soft_wrap=True)


def _check_same(parts: Path, request: dict[str, Any]) -> None:
    """Refuses to go on with the parts of another request."""
    file = parts / _REQUEST
    if not file.is_file():
        write_json(file, request)
        return
    before = read_json(file, f"delete {parts} and begin anew")
    wanted = {key: value if value is None else str(value) for key, value in request.items()}
    known = {key: value if value is None else str(value) for key, value in before.items()}
    if changed := [key for key in {**known, **wanted} if known.get(key) != wanted.get(key)]:
        lines = ", ".join(f"{key}: {known.get(key)} -> {wanted.get(key)}" for key in changed)
        raise RunError(
            f"{parts} holds parts of another command ({lines}); delete it to begin anew, or choose "
            "another --out"
        )


def _hash(asked: Asked) -> str:
    """sha256 over whom is asked for, and by what histories and columns."""
    digest = hashlib.sha256(asked.ids.cast(pl.String).hash().to_numpy().tobytes())
    digest.update(asked.users.tobytes())
    for array in (asked.items, asked.offsets):
        digest.update(b"" if array is None else array.tobytes())
    for piece in () if asked.columns is None else asked.columns.iter_slices(PART):
        digest.update(piece.write_ndjson().encode())
    return digest.hexdigest()
