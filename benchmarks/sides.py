"""Another library's side of a comparison: a script that runs in an environment of its own.

The script reads a folder that we have written, and leaves `result.json` there. On standard output
it says how far it is: `STEP done total` lines.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.measure import Row, Score
from recsys.errors import InstallationError, RunError
from recsys.evaluation.metric_table import MetricTable
from recsys.progress import progress
from recsys.training.logs import read_lines


@dataclass(frozen=True)
class Side:
    """One library, and how it is run."""

    library: str
    script: Path
    """Imports nothing of this project."""
    imports: str
    """What its environment must have, as an import statement lists it."""
    how_to: str
    """How to make the environment, and how to name it."""

    def check(self, python: Path) -> None:
        """Raises InstallationError where `python` cannot run the library."""
        try:
            done = subprocess.run(
                [str(python), "-I", "-c", f"import {self.imports}"],
                capture_output=True,
                text=True,
                check=False,
            )
            told = done.stderr.strip().splitlines()[-1:] if done.returncode else []
        except OSError as error:
            told = [str(error)]
        if told:
            raise InstallationError(
                f"{python} cannot import {self.library}'s models ({told[0]}); {self.how_to}"
            )

    def run(self, python: Path, folder: Path) -> dict[str, Any]:
        """Runs the script over a folder that holds what it reads; what it has found.

        Raises:
            RunError: the library failed; `check` finds most reasons beforehand.
        """
        with (
            (folder / "errors").open("w+") as errors,
            progress() as bar,
            subprocess.Popen(
                [str(python), "-I", str(self.script), str(folder)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as process,
        ):
            assert process.stdout is not None
            task = bar.add_task(self.library, total=None)
            for line in process.stdout:
                if line.startswith("STEP "):
                    done, total = map(int, line.split()[1:])
                    bar.update(task, completed=done, total=total)
            if process.wait():
                errors.seek(0)
                raise RunError(f"{self.library} failed:\n{errors.read()[-2000:]}")
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
        return result


def seconds_and_steps(run: Path) -> tuple[float, int]:
    """Of a run of ours: mean seconds of an epoch, a last validation left out, and all steps."""
    last = [record for record in read_lines(run / "log.jsonl") if record["event"] == "train"][-1]
    return last["seconds"] / last["epoch"], last["step"]


def epoch_row(name: str, seconds: float, steps: int, table: MetricTable, *, k: int) -> Row:
    """Seconds of an epoch beside figures at full width, with their bootstrap intervals."""
    full = table.rows.filter((pl.col("k") == k) & (pl.col("segment") == "all"))
    widest = pl.col("granularity") == pl.col("granularity").max()
    full = full.filter(widest | pl.col("granularity").is_null())
    figures: Row = {}
    for metric in ("recall", "ndcg"):
        row = full.filter(pl.col("metric") == metric).row(0, named=True)
        figures[f"{metric}@{k}"] = Score(row["value"], row["low"], row["high"])
    return {"model": name, "s/epoch": seconds, "steps": steps, **figures}
