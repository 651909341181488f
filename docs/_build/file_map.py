"""The page `map.md` of the site: every module with the first line of its docstring."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("recsys", "data_prep", "benchmarks", "examples")


def first_line(path: Path) -> str:
    """The first line of a module's docstring; empty where it has none."""
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]


def folders() -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Every folder with modules: its path, its first line, and `(file name, first line)` of each.

    A module that is empty is left out, as is a package's `__init__.py`, whose line is the folder's.
    """
    for package in PACKAGES:
        for folder in sorted({path.parent for path in (ROOT / package).rglob("*.py")}):
            start = folder / "__init__.py"
            modules = [
                (path.name, first_line(path))
                for path in sorted(folder.glob("*.py"))
                if path != start and path.stat().st_size
            ]
            yield (
                folder.relative_to(ROOT).as_posix(),
                start.is_file() and first_line(start) or "",
                modules,
            )


def floors() -> list[str]:
    """The packages of every floor, from the highest to the lowest, as the contract names them."""
    with (ROOT / "pyproject.toml").open("rb") as stream:
        contracts = tomllib.load(stream)["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")
    return [layer.replace(" : ", " | ").replace(" | ", ", ") for layer in layers]


def page() -> str:
    """The Markdown of the map."""
    parts = [
        "# Map of files",
        "Each line is the first line of the file's own docstring. Tests stand in `tests/`, one "
        "folder for each of these; `configs/` holds one YAML file for each reproducible run, "
        "`packaging/` the metadata that lets the CPU build of fbgemm stand in for the CUDA build.",
    ]
    parts += [
        "## Floors",
        "Imports go strictly down these floors. Packages on one floor do not import each other, "
        "but for the small modules of the last three. "
        "`make check` proves it. `data_prep` stands on the lowest floors and is imported by the "
        "command line alone.",
        "\n".join(f"{number}. {floor}" for number, floor in enumerate(floors(), 1)),
    ]
    for name, line, modules in folders():
        rows = [f"| `{file}` | {told.replace('|', chr(92) + '|')} |" for file, told in modules]
        parts += [f"## {name}/", line]
        parts += ["\n".join(["| file | what it is |", "|---|---|", *rows])] if rows else []
    return "\n\n".join(part for part in parts if part) + "\n"


def on_files(files: Any, config: Any) -> Any:
    """Adds the page to the site (an event of mkdocs)."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "map.md", content=page()))
    return files
