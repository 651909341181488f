"""Verbs that make, check and push bundles: export, verify, nest, push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.arguments import DataOption, DeviceOption, names, numbers, one_of, opened


def export(
    source: Annotated[Path, typer.Argument(help="A run folder; or a bundle, for other tiers.")],
    out: Annotated[Path, typer.Argument(help="Folder of all versions of the bundle.")],
    tiers: Annotated[
        str | None,
        typer.Option(help="lo:hi:CODEC:ram|mmap by comma [default: int8 to 32, then fp16]."),
    ] = None,
    users: Annotated[bool, typer.Option(help="Export user vectors and histories as well.")] = True,
    user_codec: Annotated[str, typer.Option(help="The codec of user vectors.")] = "fp32",
    tower: Annotated[
        bool | None,
        typer.Option(
            "--tower/--no-tower", help="Export the user tower as ONNX [default: if possible]."
        ),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(help="The index of the first stage: ivf,pqx4 or another kind, or auto."),
    ] = None,
    recall: Annotated[float, typer.Option(help="What the index is tuned to.")] = 0.99,
    memory: Annotated[
        float | None,
        typer.Option(help="Most bytes for each item of index auto [default: no limit]."),
    ] = None,
    prefer: Annotated[str, typer.Option(help="The aim of index auto: speed or memory.")] = "speed",
    stages: Annotated[str | None, typer.Option(help="The funnel to serve by: 32:200,256.")] = None,
    route: Annotated[
        float | None,
        typer.Option(help="Let users stop early; the share of ndcg@10 to keep, say 0.99."),
    ] = None,
    form: Annotated[
        str,
        typer.Option("--format", help="The file format of the tiers: raw, safetensors or parquet."),
    ] = "raw",
    columns: Annotated[
        str | None,
        typer.Option(help="What is told of the items when they are served: title,genres."),
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            help="Publish only what reaches this on validation users: 'ndcg@10 >= current', "
            "'recall@20/d64 >= 0.99 * current'; else exit code 3."
        ),
    ] = None,
    data: DataOption = None,
    device: DeviceOption = None,
) -> None:
    """Writes a run as a bundle of tiers: versioned, checksummed, served without torch."""
    from recsys.recipes.bundles.export import export as write
    from recsys.recipes.bundles.search_options import IndexOptions, RoutedStages
    from recsys.reports.bundle import print_bundle

    folder = write(
        opened(source, data, device=device),
        out,
        tiers=tiers,
        users=user_codec if users else False,
        tower=tower,
        index=IndexOptions(index, recall, memory, prefer),
        stages=stages if route is None else RoutedStages(stages, route),
        form=form,
        columns=names(columns),
        gate=gate,
    )
    print_bundle(folder)
    print(f"exported: {folder} (next: recsys verify {out})")


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle, made by `recsys export`.")],
    run: Annotated[
        Path | None, typer.Option(help="The run of the bundle, to compare their results.")
    ] = None,
    users: Annotated[int, typer.Option(help="The number of users to compare; 0: all.")] = 2000,
    data: DataOption = None,
) -> None:
    """Finds any flipped byte, missing file or foreign version in a bundle."""
    from recsys.recipes.bundles.verify import verify as check

    print(f"{bundle} is whole: {check(bundle)} files compared")
    if run is not None:
        from recsys.recipes.bundles.parity import compare_with_run

        found = compare_with_run(bundle, opened(run, data), num_users=users or None)
        print("\n".join(found.lines()))
        if not found.holds:
            raise typer.Exit(1)


def bundle(
    action: Annotated[str, typer.Argument(help="list, rollback, prune or diff.")],
    shelf: Annotated[Path, typer.Argument(help="Folder of all versions of a bundle.")],
    versions: Annotated[
        list[str] | None,
        typer.Argument(help="rollback: the version to go back to; diff: two versions."),
    ] = None,
    keep: Annotated[int, typer.Option(help="prune: how many of the newest stay.")] = 3,
) -> None:
    """Versions of a bundle: lists them, goes back to one, removes old ones, compares two."""
    from recsys.recipes.bundles.shelf import list_versions, prune, rollback
    from recsys.reports.bundle import print_drift, print_versions

    chosen = versions or []
    allowed = {"list": (0,), "rollback": (0, 1), "prune": (0,), "diff": (2,)}
    one_of("ACTION", action, tuple(allowed))
    if len(chosen) not in allowed[action]:
        raise typer.BadParameter(
            f"{action} takes {' or '.join(map(str, allowed[action]))} of them, {len(chosen)} given",
            param_hint="VERSIONS",
        )
    if action == "list":
        print_versions(list_versions(shelf))
    elif action == "rollback":
        print(f"current: {rollback(shelf, *chosen)} of {shelf}")
    elif action == "prune":
        print(f"removed: {', '.join(prune(shelf, keep)) or 'nothing'}")
    else:
        from recsys.library.drift import drift_of

        print_drift(drift_of(shelf / chosen[0], shelf / chosen[1]))


def nest(
    vectors: Annotated[Path, typer.Argument(help="Item vectors, .npy or .parquet.")],
    out: Annotated[Path, typer.Argument(help="Folder of all versions of the bundle.")],
    users: Annotated[Path | None, typer.Option(help="User vectors, .npy or .parquet.")] = None,
    method: Annotated[str, typer.Option(help="The rotation: learned, pca or none.")] = "learned",
    sizes: Annotated[
        str | None,
        typer.Option(help="Granularities: 8,16,32 [default: powers of two, and the full length]."),
    ] = None,
    normalize: Annotated[bool, typer.Option(help="Score by cosine.")] = False,
    tiers: Annotated[str | None, typer.Option(help="As in `recsys export`.")] = None,
    index: Annotated[str | None, typer.Option(help="As in `recsys export`.")] = None,
    recall: Annotated[float, typer.Option(help="What the index is tuned to.")] = 0.99,
    stages: Annotated[str | None, typer.Option(help="The funnel to serve by: 32:200,256.")] = None,
) -> None:
    """Rotates vectors from elsewhere so that prefixes are useful; writes a bundle."""
    from recsys.recipes.bundles.nest import Nesting
    from recsys.recipes.bundles.nest import nest as rotate
    from recsys.recipes.bundles.search_options import IndexOptions

    nesting = Nesting(
        method=one_of("--method", method, ("learned", "pca", "none")),
        sizes=None if sizes is None else numbers("--sizes", sizes),
        normalize=normalize,
    )
    done = rotate(
        vectors,
        out,
        nesting,
        users=users,
        tiers=tiers,
        index=IndexOptions(index, recall),
        stages=stages,
    )
    print(
        f"nested: {done.folder}; prefixes lose {done.missed:.1%} of the scores' variance "
        f"({done.missed_before:.1%} before the rotation)"
    )


def push(
    bundle: Annotated[Path, typer.Argument(help="A bundle, made by `recsys export`.")],
    target: Annotated[
        str,
        typer.Argument(help="STORE:LOCATION, as duckdb:stores or qdrant:http://localhost:6333."),
    ],
    name: Annotated[str, typer.Option(help="The alias that readers use.")] = "items",
    stages: Annotated[
        str | None,
        typer.Option(help="Prefix:candidates,full: 32:200,256 [default: the bundle's]."),
    ] = None,
    index: Annotated[str, typer.Option(help="The first stage: exact or hnsw.")] = "exact",
    check: Annotated[
        int, typer.Option(help="Compare the lists of this many users with the funnel's.")
    ] = 0,
    k: Annotated[int, typer.Option(help="The length of these lists.")] = 10,
    keep: Annotated[
        int | None, typer.Option(help="Versions that stay, newest first [default: all].")
    ] = None,
) -> None:
    """Writes a bundle's vectors into a vector store; --check shows that it gives the same lists."""
    from recsys.recipes.bundles.push import push as write

    done = write(bundle, target, name=name, stages=stages, index=index, check=check, k=k, keep=keep)
    print(f"{done.version}: {done.num_items:,} items, {done.written:,} of them written now")
    if done.checked is not None:
        print("\n".join(done.checked.lines()))
    if done.dropped:
        print(f"removed: {', '.join(done.dropped)}")
    if not done.switched:
        print(f"the lists do not agree, so {name} was not led to {done.version}")
        raise typer.Exit(1)
    print(f"{name} leads to {done.version}")
