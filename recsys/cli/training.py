"""The verbs that make run folders: train, tune, cut, calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.arguments import (
    DataOption,
    DeviceOption,
    Overrides,
    Run,
    next_step,
    numbers,
    opened,
)


def train(
    config: Annotated[
        str | None, typer.Argument(help="A YAML file; configs/ holds ready ones.")
    ] = None,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Run folder [runs/CONFIG].")] = None,
    resume: Annotated[bool, typer.Option(help="Continue; a finished run is left alone.")] = False,
    like: Annotated[
        Path | None, typer.Option(help="In place of a file: a finished run; fit_on=all, say.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="One run for each, by comma: 0,1,2 [trainer.seed alone].")
    ] = None,
) -> None:
    """Trains a model and writes a run folder; with --seeds a folder of runs."""
    from recsys.processes import is_first
    from recsys.recipes.training.train import train as fit

    changes = overrides or []
    if seeds is not None:
        _train_seeds(config, changes, numbers("--seeds", seeds), out, resume, like)
        return
    if like is not None:  # what stands first is then a change, too
        changes = [*([config] if config else []), *changes]
        place = out or Path("runs") / f"{like.resolve().name}-again"
        folder = fit(None, changes, out=place, resume=resume, like=like)
    elif config is None:
        raise typer.BadParameter("name a config file, or a run with --like", param_hint="CONFIG")
    else:
        folder = fit(config, changes, out=out or Path("runs") / Path(config).stem, resume=resume)
    if is_first():
        print(f"trained: {folder} (next: {next_step(folder)})")


def _train_seeds(
    config: str | None,
    changes: list[str],
    seeds: list[int],
    out: Path | None,
    resume: bool,
    like: Path | None,
) -> None:
    from recsys.studies.seed_runs.training import train_seeds

    if like is not None and config:  # what stands first is then a change, too
        changes, config = [config, *changes], None
    if like is None and config is None:
        raise typer.BadParameter("name a config file, or a run with --like", param_hint="CONFIG")
    name = f"{like.resolve().name}-again" if like is not None else Path(config or "").stem
    place = out or Path("runs") / f"{name}-seeds"
    runs = train_seeds(config, changes, seeds=seeds, out=place, resume=resume, like=like)
    print(f"trained: {runs.folder} (next: recsys evaluate {runs.folder})")


def tune(
    config: Annotated[Path, typer.Argument(help="A YAML file with a section `tune`.")],
    overrides: Overrides = None,
    trials: Annotated[int, typer.Option(min=1, help="Of the whole search, earlier too.")] = 20,
    out: Annotated[Path | None, typer.Option(help="Search folder [runs/CONFIG].")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that train trials.")] = 1,
    prune: Annotated[
        bool, typer.Option("--prune/--no-prune", help="End trials below the median early.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the values that are drawn.")] = 0,
) -> None:
    """Searches a space of configs by the validation part; the same command resumes."""
    from recsys.recipes.training.tune import tune as search
    from recsys.tuning.page import print_trials
    from recsys.tuning.trials import Trials

    found = search(
        config,
        overrides or [],
        out=out or Path("runs") / config.stem,
        trials=trials,
        jobs=jobs,
        prune=prune,
        seed=seed,
    )
    print_trials(Trials(found.folder).search.space, found.trials, found.best, found.metric)
    for path in reversed(found.files):
        print(path)
    print(f"tuned: {found.config} (next: recsys train {found.config} --out runs/NAME)")


def cut(
    run: Run,
    out: Annotated[Path, typer.Argument(help="Run folder of the smaller model.")],
    granularity: Annotated[
        int, typer.Option(help="A granularity of the run: the width of the smaller model.")
    ],
    data: DataOption = None,
) -> None:
    """Writes the smaller model inside a nested one as a run of its own, with the same prefixes."""
    from recsys.recipes.training.cut import cut as write

    folder = write(opened(run, data), out, granularity=granularity)
    print(f"cut: {folder} (next: {next_step(folder)})")


def calibrate(
    run: Run,
    out: Annotated[Path, typer.Argument(help="Run folder of the calibrated model.")],
    overrides: Overrides = None,
    steps: Annotated[int, typer.Option(help="The largest number of steps of the fit.")] = 100,
    learning_rate: Annotated[float, typer.Option(help="The learning rate of the fit.")] = 0.05,
    weight: Annotated[
        float, typer.Option(help="The weight of cold targets; trained ones have weight 1.")
    ] = 0.7,
    data: DataOption = None,
    device: DeviceOption = None,
) -> None:
    """Fits the scores of items without interactions on the validation part; writes a new run."""
    from recsys.recipes.training.calibrate import calibrate as write

    folder = write(
        opened(run, data, device=device),
        out,
        overrides or [],
        steps=steps,
        learning_rate=learning_rate,
        weight=weight,
    )
    print(f"calibrated: {folder} (next: recsys evaluate {folder})")
