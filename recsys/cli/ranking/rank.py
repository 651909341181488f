"""The verb of the ranking stage: rank fit, evaluate, earlier and attach."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from recsys.cli.arguments import (
    DataOption,
    PartOption,
    ResultsOption,
    checked_part,
    numbers,
    one_of,
    opened,
)

_OPTIONS: dict[str, tuple[str, ...]] = {
    "fit": ("run", "out", "data"),
    "evaluate": (
        *("bundle", "out", "split", "granularities", "keeps", "users", "whole", "results", "data"),
    ),
    "earlier": ("out", "data"),
    "attach": (),
}
"""Action -> the options that it reads."""


def rank(
    action: Annotated[str, typer.Argument(help="fit, evaluate, earlier or attach.")],
    source: Annotated[
        Path,
        typer.Argument(help="A run; fit: or a bundle; attach: a ranker's folder."),
    ],
    more: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MORE]...",
            help="fit: CONFIG and KEY=VALUE; evaluate: rankers' folders; attach: the bundle.",
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="fit: the run that the bundle was exported from.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="evaluate: rank candidates of this bundle.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="fit: folder of the ranker [RUN/rankers/NAME]; earlier: the new run."),
    ] = None,
    split: PartOption = "test",
    granularities: Annotated[
        str | None, typer.Option(help="evaluate: candidates also by these: 8,16,32.")
    ] = None,
    keeps: Annotated[
        str | None, typer.Option(help="evaluate: also so many candidates: 50,100,200.")
    ] = None,
    users: Annotated[int, typer.Option(help="evaluate: users, evenly spread; 0: all.")] = 0,
    whole: Annotated[
        int, typer.Option(help="evaluate: users for whom the whole catalogue is ranked too.")
    ] = 0,
    results: ResultsOption = None,
    data: DataOption = None,
) -> None:
    """Fits a ranker on the funnel's candidates, measures it, or puts it into a bundle."""
    one_of("ACTION", action, tuple(_OPTIONS))
    given = more or []
    _refuse_others(
        action,
        run=run, bundle=bundle, out=out, granularities=granularities, keeps=keeps,
        split=None if split == "test" else split, users=users or None, whole=whole or None,
        results=results, data=data,
    )  # fmt: skip
    if action == "fit":
        _fit(opened(source, data) if run is None else source, given, run, data, out)
    elif action == "evaluate":
        sweep = {
            "granularities": _numbers("--granularities", granularities),
            "keeps": _numbers("--keeps", keeps),
            "num_users": users or None,
            "whole": whole,
        }
        places = {"bundle": bundle, "part": checked_part(split), "out": out}
        _evaluate(source, given, data, results, sweep, places)
    elif action == "earlier":
        from recsys.recipes.ranking.earlier import rank_earlier

        if given:
            raise typer.BadParameter(
                f"earlier takes a run and nothing more, {' '.join(given)} given: the config is "
                "that of the run",
                param_hint="MORE",
            )
        place = out or source.with_name(f"{source.resolve().name}-earlier")
        folder = rank_earlier(opened(source, data), place)
        print(f"trained: {folder} (next: recsys rank fit {source} CONFIG rows.earlier={folder})")
    else:
        from recsys.recipes.ranking.bundles import rank_attach

        if len(given) != 1:
            raise typer.BadParameter(
                f"attach takes a ranker and one bundle, {len(given)} bundles given",
                param_hint="MORE",
            )
        print(f"exported: {rank_attach(source, given[0])}")


def _refuse_others(action: str, **options: Any) -> None:
    """Raises BadParameter for options that the action does not read."""
    for name, value in options.items():
        if value is not None and name not in _OPTIONS[action]:
            takers = [other for other, known in _OPTIONS.items() if name in known]
            known = ", ".join(f"--{each}" for each in _OPTIONS[action]) or "no options"
            raise typer.BadParameter(
                f"it is of {' and '.join(takers)}; rank {action} takes {known}",
                param_hint=f"--{name}",
            )


def _numbers(option: str, text: str | None) -> tuple[int, ...]:
    return () if text is None else tuple(numbers(option, text))


def _fit(source: Any, given: list[str], run: Path | None, data: Path | None, out: Any) -> None:
    from recsys.recipes.ranking.fit import rank_fit
    from recsys.reports.ranking.terminal import print_fit

    files = [word for word in given if "=" not in word]
    if len(files) > 1:
        raise typer.BadParameter(f"fit takes one CONFIG, {len(files)} given", param_hint="MORE")
    found = rank_fit(
        source,
        files[0] if files else None,
        [word for word in given if "=" in word],
        run=None if run is None else opened(run, data),
        out=out,
    )
    print_fit(found)


def _evaluate(
    source: Path,
    given: list[str],
    data: Path | None,
    results: Path | None,
    sweep: dict[str, Any],
    places: dict[str, Any],
) -> None:
    from recsys.recipes.evaluating.results import origin_of
    from recsys.recipes.ranking.evaluate import Sweeping, rank_evaluate
    from recsys.reports.ranking.terminal import print_ranking

    origin = origin_of(results, [source]) if results else None
    found = rank_evaluate(
        opened(source, data),
        given,
        sweeping=Sweeping(**sweep),
        show=print_ranking,
        **places,
    )
    if origin:
        from recsys.reports.ranking.rows import ranking_rows

        origin.write(ranking_rows(found), found.card)
