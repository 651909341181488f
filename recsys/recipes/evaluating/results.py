"""`--results FILE` of the verbs: keeps what was measured as a results file."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recsys.data.dataset import load_dataset
from recsys.errors import RunError
from recsys.evaluation.metric_table import MetricTable
from recsys.evaluation.protocol import ProtocolCard, find_protocol, make_card
from recsys.reports.results.record import DataName, Figure, Results, Step, check_path, write_results
from recsys.reports.results.rows import bits_rows, table_rows, tradeoff_rows
from recsys.reports.tradeoff.bits import BitsContent
from recsys.reports.tradeoff.content import TradeoffContent
from recsys.runs.finding import find_data
from recsys.runs.provenance import git_commit
from recsys.runs.records import fitted_on, load_config, load_run_info


@dataclass(frozen=True)
class Origin:
    """Where a results file goes, and what was done before its figures were measured."""

    path: Path
    steps: tuple[Step, ...]
    seeds: tuple[int, ...]

    def write(
        self,
        rows: Sequence[Figure],
        card: ProtocolCard | None,
    ) -> None:
        """Writes the file; without a card the figures are of several data sets."""
        results = Results(
            steps=self.steps,
            data=DataName(name=card.dataset, content_hash=card.content_hash) if card else None,
            seeds=self.seeds,
            protocol=card,
            rows=tuple(rows),
        )
        write_results(self.path, results)


def origin_of(path: Path, runs: Sequence[Path] = (), seeds: Sequence[int] = ()) -> Origin:
    """The trainings of `runs`, and the command that is running now.

    Args:
        path: the results file that will be written.
        runs: run folders that are measured.
        seeds: of a command that trains itself.

    Raises:
        ConfigError: no results file can be written there.
        RunError: one of the runs is none, or a command names a place of this machine alone.
    """
    check_path(path)
    told = [load_run_info(Path(run)) for run in runs]
    steps = [(str(info["command"]), info["commit"]) for info in told]
    steps.append((shlex.join(sys.argv), git_commit()))
    return Origin(
        path,
        tuple(Step(command=as_typed(command), commit=commit) for command, commit in steps),
        tuple(dict.fromkeys([*(int(info["seed"]) for info in told), *seeds])),
    )


def as_typed(command: str) -> str:
    """A command as one types it in the project folder: `recsys train configs/beauty.yaml`.

    Raises:
        RunError: it names a path that does not lead into the current folder.
    """
    program, *words = shlex.split(command)
    name = Path(program)
    program = "recsys" if name.name in ("__main__.py", "recsys") else name.name
    return shlex.join([program, *(re.sub(r"(?<![\w.])/[^=,]*", _inside, word) for word in words)])


def _inside(match: re.Match[str]) -> str:
    """An absolute path as one of the current folder: the longest end of it that is there."""
    path = Path(match[0])
    if path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    ends = [Path(*path.parts[cut:]) for cut in range(1, len(path.parts))]
    found = next((end for end in ends if end.exists()), None)
    if found is None:
        raise RunError(
            f"{path} is no path of this project; a results file names relative ones, so that its "
            "command can be typed again: start the verb in the project folder"
        )
    return str(found)


def keep_table(origin: Origin, table: MetricTable, metrics: Sequence[str] = ()) -> None:
    """Keeps recall, NDCG and `metrics` at every granularity, with what each keeps of the full."""
    origin.write(table_rows(table, metrics), table.card)


def keep_tradeoff(origin: Origin, card: ProtocolCard, content: TradeoffContent) -> None:
    """Keeps the funnel that was chosen, and exact search, as measured once on the test part."""
    origin.write(tradeoff_rows(content), card)


def keep_bits(origin: Origin, card: ProtocolCard, content: BitsContent) -> None:
    """Keeps every budget: its split and the best single codec."""
    origin.write(bits_rows(content), card)


def card_of(run: Path, protocol: str | None, data: Path | None = None) -> ProtocolCard:
    """The card of a run's figures on the test part.

    Raises:
        RunError: it is no run, or its data is not there.
    """
    config, info = load_config(run), load_run_info(run)
    dataset = load_dataset(find_data(config, run, data), mapped=config.mapped)
    preset = find_protocol(protocol or config.protocol)
    fit_on = fitted_on(config, info)
    return make_card(dataset.manifest, preset, "test", fit_on, config.split_rule(dataset))
