"""Verbs that make dataset folders and item features: prepare, encode, attach, columns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from recsys.cli.arguments import Data, one_of
from recsys.console import make_console


def prepare(
    name: Annotated[str | None, typer.Argument(help="The name of a data set; see --list.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options; see --list.")
    ] = None,
    source: Annotated[Path | None, typer.Option(help="Raw file, zip or folder.")] = None,
    out: Annotated[Path | None, typer.Option(help="Dataset folder [default: data/NAME].")] = None,
    if_missing: Annotated[bool, typer.Option(help="Do nothing if the folder exists.")] = False,
    show: Annotated[
        bool, typer.Option("--list", help="Print names and options, then stop.")
    ] = False,
) -> None:
    """Turns raw ratings, or labelled events, into a dataset folder."""
    from data_prep import CLICK_SOURCES, READERS, SOURCES, PrepareOptions, options_from_text
    from data_prep import prepare as make
    from recsys.data.dataset import load_dataset

    if show or name is None:
        others = dict.fromkeys(READERS.names(), "a reader from another package")
        own = {key: entry.description for key, entry in SOURCES.items()}
        own |= {key: entry.description for key, entry in CLICK_SOURCES.items()}
        _print_sources(others | own, PrepareOptions)
        return
    folder = out or Path("data") / name
    if name in CLICK_SOURCES:
        _prepare_clicks(name, overrides or [], source, folder, if_missing)
        return
    if if_missing and folder.exists():
        dataset = load_dataset(folder)
    else:
        options = options_from_text(overrides or [])
        dataset = make(name, options, source=source, out=folder)
    counts = dataset.manifest
    print(
        f"{folder}: {counts.num_users:,} users, {counts.num_items:,} items, "
        f"{counts.num_interactions:,} interactions"
    )


def _prepare_clicks(
    name: str, overrides: list[str], source: Path | None, folder: Path, if_missing: bool
) -> None:
    """Labelled events: their folder, and what it holds."""
    from data_prep import options_from_text, prepare_clicks
    from recsys.data.clicks.reading import load_clicks

    if if_missing and folder.exists():
        told = load_clicks(folder).manifest
    else:
        options = options_from_text(overrides)
        told = prepare_clicks(name, options, source=source, out=folder).manifest
    counts = ", ".join(f"{told.rows[part]:,} {part}" for part in told.rows)
    share = sum(told.positive.values()) / sum(told.rows.values())
    print(f"{folder}: {counts} events, {share:.1%} positive; {', '.join(told.features)}")


def encode(
    data: Data,
    modality: Annotated[str, typer.Option(help="text or image.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the feature [default: the modality].")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Folder, .onnx file or name on the hub [default: the packaged model]."),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="text: content columns, separated by commas.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="image: folder, zip or tar of ITEM_ID.jpg files.")
    ] = None,
    url_column: Annotated[str | None, typer.Option(help="image: the column of addresses.")] = None,
    cache: Annotated[Path | None, typer.Option(help="image: the folder of downloads.")] = None,
) -> None:
    """Encodes texts or pictures of items as vectors; the same command resumes a killed run."""
    from data_prep import encode_images, encode_text

    name = name or modality
    if one_of("--modality", modality, ("text", "image")) == "text":
        chosen = columns.split(",") if columns else ()
        _print_feature(encode_text(data, name=name, model=model, columns=chosen))
        return
    _print_feature(
        encode_images(
            data, name=name, model=model, images=images, url_column=url_column, cache=cache
        )
    )


def attach(
    data: Data,
    vectors: Annotated[Path, typer.Argument(help="npz, npy, parquet, or a dataset folder.")],
    modality: Annotated[str, typer.Option(help="Name of the feature: text, image, ...")],
    ids: Annotated[Path | None, typer.Option(help="npy: the file of its ids, npy or text.")] = None,
    encoder: Annotated[
        str | None, typer.Option(help="The name of the model that made the vectors.")
    ] = None,
) -> None:
    """Adds vectors or another data set's feature to the items, by item id; marks missing ones."""
    from data_prep import attach as add

    _print_feature(add(data, vectors, name=modality, ids=ids, encoder=encoder))


def columns(
    data: Data,
    names: Annotated[
        list[str], typer.Argument(help="Content columns; `year` is read from the title.")
    ],
    delimiter: Annotated[str, typer.Option(help="The text between categories.")] = "|",
    min_count: Annotated[
        int, typer.Option(help="Categories of fewer items are left out.", min=1)
    ] = 2,
    kind: Annotated[
        str | None,
        typer.Option("--as", help="categories or numbers [default: as each column is stored]."),
    ] = None,
) -> None:
    """Makes features from content columns: categories and numbers, missing ones marked."""
    from data_prep import featurize_columns

    taken = None if kind is None else one_of("--as", kind, ("categories", "numbers"))
    for manifest in featurize_columns(
        data, names, delimiter=delimiter, min_count=min_count, kind=taken
    ):
        _print_feature(manifest)


def _print_feature(manifest: Any) -> None:
    print(
        f"{manifest.name}: {manifest.kind} for {manifest.num_present:,} of "
        f"{manifest.num_items:,} items, size {manifest.size:,}"
    )


def _print_sources(sources: dict[str, str], options: Any) -> None:
    from rich.table import Table

    table = Table("name", "description", title="recsys prepare NAME")
    for name, description in sources.items():
        table.add_row(name, description)
    console = make_console()
    console.print(table)
    fields = Table("key=value", "default", title="options")
    for name, field in options.model_fields.items():
        fields.add_row(name, str(field.get_default(call_default_factory=True)))
    console.print(fields)
