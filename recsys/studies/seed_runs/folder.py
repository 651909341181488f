"""The folder of one config's runs with several seeds.

runs/beauty/
    seeds.json        the seeds, and what failed
    beauty-s0/ ...    run folders, as `recsys train` leaves them
    seeds.csv         figures over seeds, by `recsys evaluate runs/beauty`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recsys.errors import ConfigError, RunError
from recsys.files.atomic import read_json, write_json
from recsys.files.kinds import found_at
from recsys.runs.folder import check_empty
from recsys.runs.records import RUN, load_run_info

SEEDS = "seeds.json"
_SCHEMA = 1


@dataclass(frozen=True)
class SeedRuns:
    """Runs that differ in their seed alone."""

    folder: Path
    seeds: tuple[int, ...]
    failed: dict[int, str] = field(default_factory=dict)
    """Seed -> why its training has ended without a model."""

    @property
    def name(self) -> str:
        """Of all of them, in tables."""
        return self.folder.resolve().name

    def run(self, seed: int) -> Path:
        """The run folder of a seed."""
        return self.folder / f"{self.name}-s{seed}"

    @property
    def finished(self) -> list[Path]:
        """Run folders whose training has ended."""
        made = [self.run(seed) for seed in self.seeds if (self.run(seed) / RUN).is_file()]
        return [run for run in made if load_run_info(run)["state"] == "finished"]

    def save(self) -> None:
        """Writes `seeds.json`."""
        failed = {str(seed): reason for seed, reason in self.failed.items()}
        tree = {"schema_version": _SCHEMA, "seeds": list(self.seeds), "failed": failed}
        write_json(self.folder / SEEDS, tree)


def holds_seeds(folder: str | Path) -> bool:
    """Whether this is a folder of runs with several seeds."""
    return (Path(folder) / SEEDS).is_file()


def open_seeds(folder: str | Path) -> SeedRuns:
    """The runs in a folder.

    Raises:
        RunError: there are none, or another version wrote them.
    """
    path = Path(folder) / SEEDS
    if not path.is_file():
        raise RunError(
            f"{folder} holds no runs of several seeds (no {SEEDS}): {found_at(folder)}; `recsys "
            "train CONFIG --seeds 0,1,2` trains some"
        )
    tree = read_json(path, "train again")
    if tree.get("schema_version") != _SCHEMA:
        raise RunError(
            f"{path} has schema_version {tree.get('schema_version')!r}, this version reads "
            f"{_SCHEMA}; train again"
        )
    failed = {int(seed): str(reason) for seed, reason in tree["failed"].items()}
    return SeedRuns(Path(folder), tuple(map(int, tree["seeds"])), failed)


def make_seeds(folder: Path, seeds: Sequence[int], *, resume: bool) -> SeedRuns:
    """The folder to train in; a resumed one keeps the seeds that it has, and may have more.

    Raises:
        ConfigError: the seeds are none.
        RunError: something stands in the folder, and `resume` is not set or it is something else.
    """
    asked = list(seeds)
    if not asked or len(set(asked)) != len(asked) or min(asked) < 0:
        raise ConfigError(f"seeds {asked}: whole numbers of 0 or more, each once, are expected")
    if (folder / RUN).is_file():
        raise RunError(f"{folder} is the folder of one run; choose another --out for several seeds")
    known: tuple[int, ...] = ()
    if holds_seeds(folder):
        if not resume:
            raise RunError(
                f"{folder} holds runs of several seeds already; continue them with --resume, or "
                "choose another --out"
            )
        known = open_seeds(folder).seeds
    else:
        check_empty(folder)
        folder.mkdir(parents=True, exist_ok=True)
    runs = SeedRuns(folder, tuple(dict.fromkeys([*known, *asked])))
    runs.save()
    return runs
