"""`recsys tune`: a search over a space of configs, by the validation part alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from recsys.config import apply_overrides, parse
from recsys.data.dataset import load_dataset
from recsys.errors import ConfigError, RunError
from recsys.extras import require
from recsys.files.atomic import write_text
from recsys.kernels.threads import limited
from recsys.progress import console
from recsys.recipes.training.train import check_trainable, train
from recsys.runs.config import RunConfig, read_tree
from recsys.runs.provenance import features_hash
from recsys.runs.records import load_config, load_run_info
from recsys.training.callbacks import Moment
from recsys.training.logs import LOG, read_lines
from recsys.training.trainer import StoppedError, drop_checkpoints
from recsys.tuning.page import write_page
from recsys.tuning.space import ranges_of, read_space, value_at
from recsys.tuning.trials import Search, TrialRecord, Trials, open_search, pruning

BEST = "best.yaml"
_PRUNED = "pruned: its validation is below the median of the trials before it"


@dataclass(frozen=True)
class Tuned:
    """What a search has found."""

    folder: Path
    metric: str
    """`trainer.metric`: what trials were compared by, on the validation part."""
    best: TrialRecord
    trials: list[TrialRecord]
    config: Path
    """The best trial's config, as `recsys train` takes it."""
    files: list[Path]
    """Page and table."""


def tune(
    config: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    out: str | Path,
    trials: int = 20,
    jobs: int = 1,
    prune: bool = True,
    seed: int = 0,
) -> Tuned:
    """Searches the space in the section `tune` of a config for the best validation.

    Each trial is a training by the config with other values at the keys of the space, measured by
    `trainer.metric` on the validation part; the test part is not measured. The first trial has the
    config's own values, where the space holds them. The same call goes on with a search that was
    killed or shall have more trials; the same call in other processes shares its trials.

    Args:
        config: a YAML file with a section `tune`, or what such a file holds.
        overrides: `key=value` changes to it.
        out: the folder of the search.
        trials: of the whole search, those of earlier calls among them.
        jobs: processes that train trials at a time; each has its share of the cores.
        prune: end a trial whose validation is below the median of the trials before it.
        seed: of the values that are drawn; `trainer.seed` is that of every training.

    Returns:
        The best trial, all trials, and the files.

    Raises:
        InstallationError: the extra `tune` is not installed.
        ConfigError: the config or its space is wrong, or `out` has another search.
        RunError: no trial could be finished.
        StoppedError: SIGTERM or Ctrl-C came; the same call goes on.
    """
    require("tune")
    require("report")
    if trials < 1 or jobs < 1:
        raise ConfigError(f"trials and jobs must be 1 or more, found {trials} and {jobs}")
    search = _checked(config, overrides, seed, prune)
    found = open_search(Path(out), search)
    with _helpers(found, trials, jobs):
        work(found, trials)
    return _write(found)


def _checked(
    config: str | Path | Mapping[str, Any], overrides: Sequence[str], seed: int, prune: bool
) -> Search:
    """The search, if every trial of it can be trained and validated."""
    if isinstance(config, Mapping):
        origin = "the config"
        tree = apply_overrides(dict(config), list(overrides))
        section = tree.pop("tune", None)
    else:
        origin = str(config)
        tree, section = read_tree(config, overrides)
    space = read_space(section, tree, origin)
    settings = parse(RunConfig, tree, origin)
    dataset = load_dataset(settings.data, mapped=settings.mapped)
    check_trainable(settings, dataset)
    ranges, content = ranges_of(section, origin), dataset.manifest.content_hash
    return Search(
        tree, ranges, content, seed, prune, space, features_hash=features_hash(settings, dataset)
    )


def work(found: Trials, count: int, parent: int | None = None) -> None:
    """Trains trials until there is none left for this process.

    Args:
        found: the search.
        count: trials of the whole search.
        parent: the process to end with; None: it is nobody's helper.
    """
    config = parse(RunConfig, found.search.config, str(found.folder))
    given = {p.path: value_at(config, p.path) for p in found.search.space}
    if not all(p.holds(given[p.path]) for p in found.search.space):
        given = {}
    while True:
        with found.next(count, given) as trial:
            if trial is None:
                return
            _train(found, trial, parent)
            _tell(found, trial.number, count)


def _train(found: Trials, trial: Any, parent: int | None) -> None:
    folder, started = found.run_folder(trial.number), time.monotonic()
    report = pruning(found, trial)

    def watch(moment: Moment) -> str | None:
        if parent is not None and os.getppid() != parent:
            raise StoppedError("the search that this process helped has ended")
        if moment.validation is None:
            return None
        poor = report(moment.epoch, moment.validation.value)
        return _PRUNED if poor and moment.epoch < load_config(folder).trainer.epochs else None

    try:
        tree = found.tree(found.values(trial))
        config = parse(RunConfig, tree, f"trial {trial.number}")
        train(config, out=folder, resume=True, callback=watch)
    except StoppedError as stop:
        raise StoppedError(
            f"trial {trial.number} was stopped; the same command goes on from there"
        ) from stop
    except (ConfigError, RunError) as error:  # of this trial alone: values that do not go together
        found.tell(trial, None, pruned=False, reason=str(error))
        return
    drop_checkpoints(folder)
    lines = read_lines(folder / LOG)
    value = max(float(line["value"]) for line in lines if line["event"] == "valid")
    seconds = float(load_run_info(folder).get("seconds", time.monotonic() - started))
    pruned = bool(load_run_info(folder).get("ended"))
    found.tell(trial, value, pruned=pruned, seconds=seconds)


def _tell(found: Trials, number: int, count: int) -> None:
    """A line about a trial, and the best config so far."""
    record = next(each for each in found.records() if each.number == number)
    values = ", ".join(f"{path} {value}" for path, value in record.values.items())
    figure = "" if record.value is None else f", {record.value:.4f}"
    best = _write_best(found)
    so_far = "" if best is None else f"; best {best.value:.4f} in trial {best.number}"
    console.print(
        f"trial {number} of {count} {record.state}{figure}{so_far}: {values}"
        + (f"\n  {record.reason}" if record.reason else ""),
        soft_wrap=True,
    )


def _write_best(found: Trials) -> TrialRecord | None:
    with found.locked():
        best = found.best()
        if best is not None:
            tree = found.tree(best.values)
            parse(RunConfig, tree, BEST)
            metric = parse(RunConfig, tree, BEST).trainer.metric
            head = (
                f"# The best of {len(found.records())} trials of recsys tune: trial {best.number}, "
                f"{metric} {best.value:.4f} on the validation part.\n#\n"
                f"#   recsys train {found.folder / BEST} --out runs/NAME\n"
            )
            write_text(found.folder / BEST, head + yaml.safe_dump(tree, sort_keys=False))
    return best


def _write(found: Trials) -> Tuned:
    records, best = found.records(), found.best()
    if best is None:
        reasons = [record.reason for record in records if record.reason]
        raise RunError(
            f"no trial of {found.folder} is finished"
            + (f"; trial {records[0].number} failed: {reasons[0]}" if reasons else "")
            + ("" if reasons else "; other processes train them")
        )
    metric = parse(RunConfig, found.search.config, str(found.folder)).trainer.metric
    with found.locked():
        files = write_page(found.folder, found.search, records, best, metric)
    return Tuned(found.folder, metric, best, records, found.folder / BEST, files)


@contextmanager
def _helpers(found: Trials, count: int, jobs: int) -> Iterator[None]:
    """`jobs - 1` further processes that train trials; they end with this one.

    Raises:
        RunError: one of them has failed.
    """
    if jobs == 1:
        yield
        return
    share = max(1, torch.get_num_threads() // jobs)
    logs = [found.folder / f"job-{number}.log" for number in range(2, jobs + 1)]
    helpers = [_start(found.folder, count, share, log) for log in logs]
    try:
        with limited(share):
            yield
        codes = [helper.wait() for helper in helpers]
    finally:
        for helper in helpers:
            helper.terminate()  # they note where they are
        for helper in helpers:
            helper.wait()
    if failed := [(log, code) for log, code in zip(logs, codes, strict=True) if code]:
        log, code = failed[0]
        text = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise RunError(
            f"a process of the search ended with code {code}: {text[-1] if text else 'no word'} "
            f"(all it said is in {log}); the same command goes on"
        )


def _start(folder: Path, count: int, threads: int, log: Path) -> subprocess.Popen[bytes]:
    words = [str(folder), str(count), str(os.getpid())]
    with log.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "recsys.recipes.training.tune_helper", *words],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
