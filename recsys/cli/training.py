"""The verbs that make run folders: train, cut, calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.arguments import Overrides, Run


def train(
    config: Annotated[Path, typer.Argument(help="A YAML file; configs/ holds ready ones.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Run folder [runs/CONFIG].")] = None,
    resume: Annotated[bool, typer.Option(help="Continue; a finished run is left alone.")] = False,
) -> None:
    """Trains a model and leaves a run folder."""
    from recsys.processes import is_first
    from recsys.recipes.training.train import train as fit

    folder = fit(config, overrides or [], out=out or Path("runs") / config.stem, resume=resume)
    if is_first():
        print(f"trained: {folder} (next: recsys evaluate {folder})")


def cut(
    run: Run,
    out: Annotated[Path, typer.Argument(help="Run folder of the smaller model.")],
    granularity: Annotated[int, typer.Option(help="Of the run's; the smaller model's width.")],
) -> None:
    """Cuts the smaller model out of a nested one: a run of its own, with the same prefixes."""
    from recsys.recipes.training.cut import cut as write

    folder = write(run, out, granularity=granularity)
    print(f"cut: {folder} (next: recsys evaluate {folder})")


def calibrate(
    run: Run,
    out: Annotated[Path, typer.Argument(help="Run folder of the calibrated model.")],
    overrides: Overrides = None,
    steps: Annotated[int, typer.Option(help="Of the fit, at most.")] = 100,
    learning_rate: Annotated[float, typer.Option(help="Of the fit.")] = 0.05,
    weight: Annotated[float, typer.Option(help="Of new targets; known ones weigh 1.")] = 0.7,
) -> None:
    """Fits how items nobody has had are scored to the validation part: a run of its own."""
    from recsys.recipes.training.calibrate import calibrate as write

    folder = write(
        run, out, overrides or [], steps=steps, learning_rate=learning_rate, weight=weight
    )
    print(f"calibrated: {folder} (next: recsys evaluate {folder})")
