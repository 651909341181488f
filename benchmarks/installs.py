"""Sizes and import times of installations: the core, serving, training, everything.

python -m benchmarks.installs [--out results/installs.json] [--keep FOLDER]

Each is installed from the tree into a clean environment, from the package index. Sizes are of what
pip has put there, without what Python compiles at the first import, and without pip itself. Times
are CPU seconds, which equal those of the clock where nothing else runs; medians of seven, after a
first one that compiles and fills the file cache.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from recsys.console import make_console

ROOT = Path(__file__).resolve().parents[1]
TREE = ("recsys", "data_prep", "pyproject.toml", "README.md", "LICENSE")
CPU = ("torch==2.13.0", str(ROOT / "packaging/fbgemm-gpu-shim"))
ROUNDS = 7
INSTALLS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "core": ("", "recsys.retrieval.bundle_funnel, recsys.serving.catalogue", ()),
    "serve": ("[serve,faiss]", "recsys.serving.user_tower, onnxruntime, faiss", ()),
    "train": ("[train]", "recsys.recipes.training.train", CPU[:1]),
    "all": ("[all]", "recsys.recipes.training.train, recsys.tables.distributed.sharded", CPU),
}
"""Name -> extras, what its users import, what is installed with it (torch and fbgemm for a CPU)."""


def environment_with(extras: str, folder: Path, beside: Sequence[str] = ()) -> str:
    """The interpreter of an environment that has the tree with some extras, and nothing else.

    Args:
        extras: as pip wants them: "[serve]".
        folder: of the environment; one that stands there is used again.
        beside: what is installed with it.
    """
    python = str(folder / "bin" / "python")
    if not Path(python).exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        with tempfile.TemporaryDirectory() as source:
            wanted = f"{_copied(Path(source) / 'tree')}{extras}"
            subprocess.run(
                [python, "-m", "pip", "install", "--quiet", "--no-compile", *beside, wanted],
                check=True,
            )
        subprocess.run([python, "-m", "pip", "check"], check=True)
    return str(Path(python).absolute())


def measure(name: str, folder: Path) -> list[tuple[str, str, float]]:
    """Installs into `folder` and measures there: metric, unit, value."""
    extras, modules, beside = INSTALLS[name]
    python = environment_with(extras, folder, beside)
    return [
        ("MB", "count", round(_megabytes(folder))),
        ("import, s", "seconds", _seconds(python, "-c", f"import {modules}")),
        ("`recsys --help`, s", "seconds", _seconds(python, "-m", "recsys", "--help")),
    ]


def _copied(folder: Path) -> Path:
    """The files that are installed, without what earlier builds left beside them."""
    folder.mkdir()
    for name in TREE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, folder / name)
    return folder


def _megabytes(folder: Path) -> float:
    """Of all files that packages have put there."""
    (packages,) = (folder / "lib").glob("python*/site-packages")
    files = (path for path in packages.rglob("*") if path.is_file() and not path.is_symlink())
    own = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
    kept = (path for path in files if not path.relative_to(packages).parts[0].startswith(own))
    return sum(each.stat().st_size for each in kept if each.parent.name != "__pycache__") / 1e6


def _seconds(*command: str) -> float:
    """CPU seconds of a process, away from the tree."""
    dropped = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    environment = {key: value for key, value in os.environ.items() if key not in dropped}
    spent = []
    for _ in range(ROUNDS + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            command, check=True, capture_output=True, cwd=tempfile.gettempdir(), env=environment
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return round(statistics.median(spent[1:]), 2)


def main(
    out: Annotated[Path, typer.Option(help="Results file.")] = Path("results/installs.json"),
    keep: Annotated[Path | None, typer.Option(help="Folder for the environments.")] = None,
) -> None:
    """Measures all and writes the results file."""
    from recsys.reports.results.record import Figure, Results, Step, write_results

    place = keep or Path(tempfile.mkdtemp(prefix="recsys-installs-"))
    rows: list[Figure] = []
    for name in INSTALLS:
        for metric, unit, value in measure(name, place / name):
            rows.append(
                Figure.model_validate(
                    {"name": name, "metric": metric, "unit": unit, "value": value}
                )
            )
            make_console().print(name, metric, value)
    if keep is None:
        shutil.rmtree(place)
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    cores = len(os.sched_getaffinity(0))
    machine = {
        "machine": f"{platform.machine()}, {cores} cores, {platform.system()}",
        "python": platform.python_version(),
        "torch": "CPU build",
    }
    step = Step(command="python -m benchmarks.installs", commit=git.stdout.strip() or None)
    write_results(out, Results(steps=(step,), seeds=(), machine=machine, rows=tuple(rows)))


if __name__ == "__main__":
    typer.run(main)
