"""Verbs that measure quality against bytes, work and time: tradeoff, bits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.arguments import (
    DataOption,
    DeviceOption,
    ProtocolOption,
    ResultsOption,
    numbers,
    one_of,
    opened,
)


def tradeoff(
    source: Annotated[Path, typer.Argument(help="A run folder, or a bundle with users.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Options of the sweep: codecs=[int8], keeps=[200], ..."
        ),
    ] = None,
    protocol: ProtocolOption = None,
    users: Annotated[int, typer.Option(help="Users of each part; 0: all.")] = 2000,
    k: Annotated[int, typer.Option("-k", help="Length of the lists.")] = 10,
    keep_ndcg: Annotated[float, typer.Option(help="Share of ndcg@k to keep.")] = 0.99,
    out: Annotated[Path | None, typer.Option(help="Folder [RUN/tradeoff].")] = None,
    device: DeviceOption = None,
    results: ResultsOption = None,
    data: DataOption = None,
) -> None:
    """Measures funnels' quality against bytes, work and time; ends with an export command.

    Funnels are chosen on the validation part; the chosen one is measured once on the test part.
    """
    from recsys.recipes.evaluating.queries import Measuring
    from recsys.recipes.evaluating.results import card_of, keep_tradeoff, origin_of
    from recsys.recipes.evaluating.tradeoff import tradeoff as measure
    from recsys.reports.tradeoff.terminal import print_tradeoff

    origin = origin_of(results, [source]) if results else None
    found = measure(
        opened(source, data, device=device),
        overrides or [],
        k=k,
        keep_ndcg=keep_ndcg,
        out=out,
        measuring=Measuring(protocol, users or None),
        show=print_tradeoff,
    )
    if origin:
        keep_tradeoff(origin, card_of(source, protocol, data), found)


def bits(
    source: Annotated[Path, typer.Argument(help="A run folder, or a bundle with users.")],
    bytes_: Annotated[
        str, typer.Option("--bytes", help="Bytes of one item in memory; several budgets by comma.")
    ] = "32",
    edges: Annotated[
        str | None, typer.Option(help="Ends of the buckets: 8,16,24 [default: the granularities].")
    ] = None,
    aim: Annotated[
        str, typer.Option(help="The recall to maximize: of candidates or of lists.")
    ] = "candidates",
    keep: Annotated[int, typer.Option(help="The number of candidates that are ranked.")] = 100,
    k: Annotated[int, typer.Option("-k", help="Length of the lists.")] = 10,
    protocol: ProtocolOption = None,
    users: Annotated[int, typer.Option(help="Users of each part; 0: all.")] = 1000,
    device: DeviceOption = None,
    results: ResultsOption = None,
    data: DataOption = None,
) -> None:
    """Finds the best codecs of the coordinates for a byte budget; ends with export commands.

    Splits are chosen on the validation part and measured once on the test part.
    """
    from recsys.recipes.evaluating.bits import bits as split
    from recsys.recipes.evaluating.queries import Measuring
    from recsys.recipes.evaluating.results import card_of, keep_bits, origin_of
    from recsys.reports.tradeoff.bits import print_bits

    origin = origin_of(results, [source]) if results else None
    found = split(
        opened(source, data, device=device),
        numbers("--bytes", bytes_),
        edges=None if edges is None else numbers("--edges", edges),
        aim=one_of("--aim", aim, ("candidates", "lists")),
        keep=keep,
        k=k,
        measuring=Measuring(protocol, users or None),
        show=print_bits,
    )
    if origin:
        keep_bits(origin, card_of(source, protocol, data), found)
