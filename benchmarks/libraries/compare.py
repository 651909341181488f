"""Chooses settings on the validation part, then measures each model on the test part."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from benchmarks.libraries.candidates import CANDIDATES, DRAWN, SEED_OPTIONS
from recsys.data.dataset import INTERACTIONS, Dataset
from recsys.errors import InstallationError, RunError
from recsys.files.atomic import write_json
from recsys.progress import progress
from recsys.recipes.evaluating.lists import evaluate_lists

HERE = Path(__file__).parent
METRICS = ("recall", "ndcg")
K = 10
Part = Literal["valid", "test"]
FIT: dict[Part, Literal["train", "train+valid"]] = {"valid": "train", "test": "train+valid"}


@dataclass(frozen=True)
class Line:
    """One model of one library, with the settings that validation chose."""

    library: str
    version: str
    lines: int
    """Of code between the frame and the lists, without blank ones."""
    model: str
    settings: dict[str, Any]
    validation: float
    """ndcg@10."""
    test: dict[str, list[float]]
    """Metric -> one value a seed."""


class Sides:
    """Runs the libraries, each in its own interpreter, on one data set.

    Args:
        data: times need not be unlike: rows stand in the order of the data set.
        pythons: library -> the interpreter that has it.
        folder: a scratch folder.
        kept: figures of each run go there, by all that they depend on, and are not measured again;
            None: nowhere.
        commit: of this project's code, for `kept`.
    """

    def __init__(
        self,
        data: Dataset,
        pythons: dict[str, Path],
        folder: Path,
        *,
        kept: Path | None = None,
        commit: str | None = None,
    ) -> None:
        self.data, self.pythons, self.folder = data, pythons, folder
        self.kept, self.commit = kept, commit
        self.versions = {name: _version(name, python) for name, python in pythons.items()}
        for part, left_out in (("valid", 2), ("test", 1)):
            _rows(data, left_out).write_csv(folder / f"{part}.csv")

    def run(self, library: str, part: Part, settings: dict[str, Any], seed: int) -> dict[str, Any]:
        """Figures of one model under one setting, with the version."""
        if self.kept is None:
            return self._run(library, part, settings, seed)
        known = [
            self.data.manifest.content_hash,
            self.commit,
            self.versions[library],
            code_of(library),
        ]
        told = json.dumps([library, part, settings, seed, *known])
        path = self.kept / f"{library}-{hashlib.sha256(told.encode()).hexdigest()[:16]}.json"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, self._run(library, part, settings, seed))
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return found

    def _run(self, library: str, part: Part, settings: dict[str, Any], seed: int) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            place = Path(name)
            (place / "ratings.csv").symlink_to(self.folder / f"{part}.csv")
            (place / "settings.json").write_text(json.dumps({**settings, "seed": seed}))
            script = HERE / f"with_{library}.py"
            done = subprocess.run(
                [self.pythons[library], script, place], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RunError(f"{library} failed with {settings}: {done.stderr[-600:]}")
            table = evaluate_lists(
                place / "lists.csv", self.data, part=part, fit_on=FIT[part], ks=(K,), name=library
            )
            told = json.loads((place / "told.json").read_text())
        return told | {metric: table.value(metric, K, None, run=library) for metric in METRICS}


def compare(sides: Sides, seeds: Iterable[int], libraries: Iterable[str]) -> list[Line]:
    """All models: settings by ndcg@10 on validation, figures on the test part for each seed."""
    work = [(lib, model, given) for lib in libraries for model, given in CANDIDATES[lib].items()]
    found = []
    with progress() as bar:
        task = bar.add_task("settings", total=sum(len(given) for _, _, given in work))
        for library, model, given in work:
            tried = []
            for settings in given:
                bar.update(task, description=f"{library} {model}")
                tried.append((sides.run(library, "valid", settings, 0)["ndcg"], settings))
                bar.advance(task)
            best, settings = max(tried, key=lambda one: one[0])
            drawn = list(seeds) if model in DRAWN else [0]
            runs = [
                sides.run(library, "test", settings | _seeding(model, seed), seed) for seed in drawn
            ]
            found.append(
                Line(
                    library=library,
                    version=runs[0]["version"],
                    lines=count_lines(library),
                    model=model,
                    settings={k: v for k, v in settings.items() if k != "model"},
                    validation=best,
                    test={metric: [run[metric] for run in runs] for metric in METRICS},
                )
            )
    return found


def _seeding(model: str, seed: int) -> dict[str, int]:
    """What seeds a model that does not draw from the random numbers of its process."""
    return {SEED_OPTIONS[model]: seed} if model in SEED_OPTIONS else {}


def code_of(library: str) -> str:
    """What a user of the library writes, from the imports on."""
    text = (HERE / f"with_{library}.py").read_text()
    return text.split("[start:lines]\n")[1].split("# --8<-- [end:lines]")[0].strip() + "\n"


def count_lines(library: str) -> int:
    """Lines of `code_of` that are not blank."""
    return sum(bool(line.strip()) for line in code_of(library).splitlines())


def check_interpreter(library: str, python: Path) -> None:
    """Raises InstallationError where `python` does not have the library."""
    module = {"recsys": "recsys.library", "rectools": "rectools.models"}.get(library, library)
    try:
        done = subprocess.run(
            [python, "-c", f"import {module}, pandas"], capture_output=True, text=True, check=False
        )
        told = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except OSError as error:
        told = [str(error)]
    if told:
        raise InstallationError(
            f"{python} cannot import {module} and pandas ({told[0]}); make an environment of its "
            f"own with `python3 -m venv ENV` and `ENV/bin/pip install {library} pandas`, and give "
            f"--{library} ENV/bin/python"
        )


def _version(library: str, python: Path) -> str:
    code = f"from importlib.metadata import version; print(version({library!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _rows(data: Dataset, left_out: int) -> pl.DataFrame:
    """user_id, item_id, time without each user's last rows; times in milliseconds, made unlike."""
    rows = pl.read_parquet(data.folder / INTERACTIONS)
    place = pl.int_range(pl.len()).over("user_index")
    kept = rows.filter(place < pl.len().over("user_index") - left_out)
    time = pl.col("timestamp") * 1000 + pl.int_range(pl.len()).over("user_index")
    return (
        kept.with_columns(time=time)
        .join(data.user_frame().select("user_index", "user_id"), on="user_index")
        .join(data.item_frame().select("item_index", "item_id"), on="item_index")
        .select("user_id", "item_id", "time")
    )
