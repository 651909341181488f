"""The trials of a search on disk: an Optuna study that processes share, whole after a kill.

FOLDER/
    search.json           the config, its space, the data set's hash, the seed
    trials.journal        Optuna's journal: one line for each thing that happened to a trial
    trials/0007           the run folder of a trial, while it is trained; later of the best one
    best.yaml             the best trial's config
    tune.html, tune.csv   all trials
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from filelock import FileLock

from recsys.errors import BusyError, ConfigError, RunError
from recsys.extras import extra
from recsys.files.atomic import held, read_json, remove, write_json
from recsys.tuning.space import Parameter, read_space, with_values

with extra("tune"):
    from optuna import Study, create_study, logging
    from optuna.pruners import MedianPruner, NopPruner
    from optuna.samplers import TPESampler
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import FrozenTrial, Trial, TrialState

SEARCH, JOURNAL, TRIALS, LOCK = "search.json", "trials.journal", "trials", ".lock"
SCHEMA = 1
STARTUP = 5
"""Trials before values are drawn by what earlier ones found, and before any trial is pruned."""

State = Literal["finished", "pruned", "failed", "running", "waiting"]
_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True)
class Search:
    """What a search is of; the same in every process, and when it goes on."""

    config: dict[str, Any]
    """The tree of the config that is varied."""
    tune: dict[str, Any]
    """Its section `tune`, by dotted keys."""
    content_hash: str
    """Of the data set."""
    seed: int = 0
    prune: bool = True
    space: Sequence[Parameter] = field(default=(), compare=False)
    features_hash: str | None = None
    """Of the features that the model reads; None: it reads none."""

    def record(self) -> dict[str, Any]:
        """As `search.json` has it."""
        names = ("config", "tune", "content_hash", "features_hash", "seed", "prune")
        told = {"schema_version": SCHEMA, **{name: getattr(self, name) for name in names}}
        return cast(dict[str, Any], json.loads(json.dumps(told, default=str)))


@dataclass(frozen=True)
class TrialRecord:
    """One trial, as pages show it."""

    number: int
    state: State
    value: float | None
    """The best validation of its training; None: it has none."""
    epochs: int
    """Validated; of a pruned trial, until it was pruned."""
    seconds: float | None
    values: dict[str, Any]
    """Dotted key of the config -> what the trial had there."""
    curve: dict[int, float]
    """Epoch -> validation."""
    given: bool
    """It has the values of the config itself."""
    reason: str
    """Why it failed; empty: it has not."""


class Trials:
    """The trials of a search folder; any number of processes and threads may open it."""

    def __init__(self, folder: Path) -> None:
        """Opens a folder that `open_search` has made.

        Raises:
            RunError: it holds no search.
        """
        self.folder = folder
        told = read_json(folder / SEARCH, "it holds no search; start one with `recsys tune`")
        if told.pop("schema_version", None) != SCHEMA:
            raise RunError(f"{folder / SEARCH} is of another version; choose another --out")
        space = read_space(told["tune"], told["config"], str(folder / SEARCH))
        self.search = Search(**told, space=space)
        logging.set_verbosity(logging.ERROR)
        journal = str(folder / JOURNAL)
        backend = JournalFileBackend(journal, lock_obj=cast(Any, _JournalLock(journal)))
        pruner = MedianPruner(STARTUP) if self.search.prune else NopPruner()
        with self.locked():
            self.study: Study = create_study(
                storage=JournalStorage(backend),
                study_name="recsys",
                direction="maximize",
                load_if_exists=True,
                pruner=pruner,
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """What one process does alone."""
        with FileLock(self.folder / LOCK):
            yield

    @contextmanager
    def next(self, count: int, given: Mapping[str, Any]) -> Iterator[Trial | None]:
        """A trial to train: one whose process has died, else a new one while there are fewer than
        `count`; None: there is nothing left to do here.

        It belongs to the caller until the context ends.

        Args:
            count: trials of the whole search.
            given: values of the config itself, which the first trial has.
        """
        with ExitStack() as stack:
            with self.locked():
                trial = self._left_behind(stack) or self._new(stack, count, given)
                if trial is not None:
                    for parameter in self.search.space:
                        _suggest(trial, parameter)
            yield trial

    def _left_behind(self, stack: ExitStack) -> Trial | None:
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self._hold(stack, frozen.number):
                self._seed(frozen.number)
                return Trial(self.study, frozen._trial_id)
        return None

    def _new(self, stack: ExitStack, count: int, given: Mapping[str, Any]) -> Trial | None:
        trials = self.study.get_trials(deepcopy=False)
        if not trials and given:
            first = {p.path: _stored(p, given[p.path]) for p in self.search.space}
            self.study.enqueue_trial(first, user_attrs={"given": True})
        begun = sum(trial.state != TrialState.WAITING for trial in trials)
        if begun >= count:
            return None
        self._seed(begun)
        if not self._hold(stack, begun):
            raise RunError(f"trial {begun} of {self.folder} is held by another process; try again")
        return self.study.ask()

    def _seed(self, number: int) -> None:
        """Each trial is drawn by its own random numbers, whichever process draws it."""
        seed = self.search.seed * 1_000_003 + number
        self.study.sampler = TPESampler(n_startup_trials=STARTUP, seed=seed % 2**32)

    def _hold(self, stack: ExitStack, number: int) -> bool:
        """Whether no living process has the trial; it is then the caller's."""
        (self.folder / TRIALS).mkdir(exist_ok=True)
        try:
            stack.enter_context(held(self.folder / TRIALS / f".{number:04}.lock", ""))
        except BusyError:
            return False
        return True

    def run_folder(self, number: int) -> Path:
        """Of a trial."""
        return self.folder / TRIALS / f"{number:04}"

    def tree(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The config with the values of a trial."""
        return with_values(self.search.config, values)

    def values(self, trial: Trial | FrozenTrial) -> dict[str, Any]:
        """What a trial has at the keys of the space."""
        return {
            parameter.path: _value(parameter, trial.params[parameter.path])
            for parameter in self.search.space
            if parameter.path in trial.params
        }

    def tell(self, trial: Trial, value: float | None, *, pruned: bool, **attrs: Any) -> None:
        """Ends a trial: finished, pruned, or failed where it has no value.

        The run of one that is not the best is removed.
        """
        with self.locked():
            for name, attr in attrs.items():
                trial.set_user_attr(name, attr)
            if value is None:
                self.study.tell(trial, state=TrialState.FAIL)
            elif pruned:
                trial.set_user_attr("best", value)
                self.study.tell(trial, state=TrialState.PRUNED)
            else:
                self.study.tell(trial, value)
            self._remove_runs()

    def _remove_runs(self) -> None:
        best = self.best()
        for record in self.records():
            if record.state in ("finished", "pruned", "failed") and record != best:
                remove(self.run_folder(record.number))

    def records(self) -> list[TrialRecord]:
        """All trials by number."""
        found = self.study.get_trials(deepcopy=False)
        return [self._record(trial) for trial in found if trial.state != TrialState.WAITING]

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        attrs, curve = trial.user_attrs, dict(sorted(trial.intermediate_values.items()))
        finished = trial.state == TrialState.COMPLETE
        return TrialRecord(
            number=trial.number,
            state=_STATES[trial.state],
            value=trial.value if finished else max(curve.values(), default=None),
            epochs=max(curve, default=0),
            seconds=attrs.get("seconds"),
            values=self.values(trial),
            curve=curve,
            given=bool(attrs.get("given")),
            reason=attrs.get("reason", ""),
        )

    def best(self) -> TrialRecord | None:
        """The finished trial of the highest value, the earliest of several; None: there is none."""
        done = [r for r in self.records() if r.state == "finished" and r.value is not None]
        return max(done, key=lambda r: (r.value or 0.0, -r.number), default=None)


def open_search(folder: Path, search: Search) -> Trials:
    """Makes the folder of a search, or goes on with the very same search in it.

    Raises:
        ConfigError: the folder has a search of another config, space, seed or data set.
        RunError: something else stands there.
    """
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    foreign = names and not names & {LOCK, SEARCH}  # another thread may be making it just now
    if foreign or (folder.exists() and not folder.is_dir()):
        raise RunError(f"{folder} is something else than a search; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK):
        if not (folder / SEARCH).is_file():
            if {path.name for path in folder.iterdir()} - {LOCK}:
                raise RunError(f"{folder} is something else than a search; choose another --out")
            write_json(folder / SEARCH, search.record())
        stored = read_json(folder / SEARCH, "choose another --out")
    now = search.record()
    if "features_hash" not in stored:  # of an earlier version
        del now["features_hash"]
    changed = [
        f"  {path}: {before!r} -> {after!r}" for path, before, after in _differences(stored, now)
    ]
    if changed:
        raise ConfigError(
            "\n".join([f"{folder} was started with another search:", *changed, "use another --out"])
        )
    return Trials(folder)


def _differences(before: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _differences(before.get(key), now.get(key), f"{path}.{key}".lstrip("."))
    elif before != now:
        yield path, before, now


def pruning(trials: Trials, trial: Trial) -> Callable[[int, float], bool]:
    """`report(epoch, value)`: notes a validation; whether the trial is to be pruned by it."""
    known = set(trial.study.trials[trial.number].intermediate_values)

    def report(epoch: int, value: float) -> bool:
        if epoch not in known:  # a trial that was taken up repeats some
            trial.report(value, epoch)
        return trials.search.prune and trial.should_prune()

    return report


def _suggest(trial: Trial, parameter: Parameter) -> None:
    """Draws a value; one that was drawn already stays."""
    path, given = parameter.path, parameter.range
    if given is None:
        trial.suggest_categorical(path, [_label(choice) for choice in parameter.choices])
    elif parameter.whole:
        step = int(given.step or 1)
        trial.suggest_int(path, int(given.low), int(given.high), step=step, log=given.log)
    else:
        trial.suggest_float(path, given.low, given.high, step=given.step, log=given.log)


def _label(choice: Any) -> str:
    """Optuna takes no sections and lists, and takes True for 1."""
    return json.dumps(choice, default=str)


def _stored(parameter: Parameter, value: Any) -> Any:
    if parameter.range is not None:
        return value
    # 2 stands for 2.0: the label of the list, not of the value.
    return next((_label(c) for c in parameter.choices if c == value), _label(value))


def _value(parameter: Parameter, stored: Any) -> Any:
    if parameter.range is not None:
        return stored
    return next(choice for choice in parameter.choices if _label(choice) == stored)


class _JournalLock:
    """The lock of the journal's writers: the system frees it with its process.

    Optuna's own are waited for. A line that a kill has cut is removed before the next is written.
    """

    def __init__(self, journal: str) -> None:
        self._journal, self._lock = Path(journal), FileLock(f"{journal}.lock")

    def acquire(self) -> bool:
        """Waits for it."""
        self._lock.acquire()
        with self._journal.open("r+b") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 1))
            if size and stream.read(1) != b"\n":
                whole = self._journal.read_bytes().rfind(b"\n") + 1
                stream.truncate(whole)
        return True

    def release(self) -> None:
        """Gives it back."""
        self._lock.release()
