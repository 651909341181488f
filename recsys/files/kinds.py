"""The kind of thing that stands at a path, for the error of a caller that expected another kind."""

from __future__ import annotations

from pathlib import Path

from recsys.errors import RunError

MARKS = {
    "dataset.json": "a dataset folder",
    "clicks.json": "a folder of labelled events",
    "run.json": "a run folder",
    "seeds.json": "a folder of runs with several seeds",
    "bundle.json": "a version of a bundle",
    "current/bundle.json": "a bundle",
    "ranker.json": "a ranker",
    "baseline.json": "a saved baseline",
    "search.json": "a search of `recsys tune`",
    "feature.json": "a feature of a dataset folder",
}
"""The file by which each kind of folder is known. Its owner names the same file."""
_SHOWN = 3
"""Folders of a kind that are named, where they lie one deeper."""


def found_at(path: str | Path) -> str:
    """What stands there, as the end of a sentence: `it is a run folder`, `nothing is there`."""
    path = Path(path)
    if not path.exists():
        return "nothing is there"
    if not path.is_dir():
        empty = path.is_file() and path.stat().st_size == 0
        return "it is an empty file" if empty else "it is a file"
    if (kind := _kind(path)) is not None:
        return f"it is {kind}"
    inside = sorted(part for part in path.iterdir() if not part.name.startswith("."))
    if not inside:
        return "it is an empty folder"
    for kind in MARKS.values():
        held = [part.name for part in inside if part.is_dir() and _kind(part) == kind]
        if held:
            more = ", ..." if len(held) > _SHOWN else ""
            return f"it is a folder that holds {kind}: {', '.join(held[:_SHOWN])}{more}"
    return "it is a folder of something else"


def check_run_or_bundle(path: str | Path) -> None:
    """For verbs that take either.

    Raises:
        RunError: it is neither a run folder nor a bundle.
    """
    kinds = ("run.json", "bundle.json", "current/bundle.json")
    if not any((Path(path) / mark).is_file() for mark in kinds):
        raise RunError(
            f"{path} is neither a run folder nor a bundle: {found_at(path)}; give one of them, "
            "train a run with `recsys train`, or make a bundle with `recsys export`"
        )


def _kind(folder: Path) -> str | None:
    """The kind of a folder by its mark; None: it has none."""
    return next((kind for mark, kind in MARKS.items() if (folder / mark).is_file()), None)
