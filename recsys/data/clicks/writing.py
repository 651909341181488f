"""Writing of labelled events: column after column, so that text of one column is in memory at once.

Shape legend: R events, n values of a list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.arrays import Bool
from recsys.data.clicks.manifest import (
    CATEGORIES,
    CLICKS,
    PARTS,
    ClickField,
    ClicksManifest,
    part_file,
)
from recsys.data.clicks.options import ClickOptions
from recsys.data.clicks.reading import Clicks, load_clicks
from recsys.data.features.columns import read_numbers
from recsys.data.vocabulary import compact
from recsys.errors import DataError
from recsys.files.atomic import atomic_path, write_json
from recsys.files.checksums import entries_of

_PART_NAMES = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "test": 2}


Columns = Callable[[str], pl.Series]
"""Gives the column of a name, `[R]`; raises DataError where there is none."""


@dataclass(frozen=True)
class ClickOrigin:
    """Where events came from."""

    name: str
    source: str
    """Never a local path."""
    licence: str = "unknown"
    notes: tuple[str, ...] = ()


@dataclass
class _Coded:
    """Columns as they are written, and the words of their codes."""

    columns: dict[str, pl.Series] = field(default_factory=dict)
    fields: list[ClickField] = field(default_factory=list)
    categories: list[pl.DataFrame] = field(default_factory=list)


def write_clicks(out: Path, read: Columns, options: ClickOptions, origin: ClickOrigin) -> Clicks:
    """Writes a folder of labelled events, whole or not at all.

    Args:
        out: the folder, replaced if it is one of such events.
        read: the columns.
        options: which of them, and the rules.
        origin: for the manifest.

    Raises:
        DataError: a column is missing or holds no such values, a part has not both labels, or
            something else stands at `out`.
    """
    if out.exists() and not (out / CLICKS).is_file():
        raise DataError(f"{out} exists and is no folder of labelled events; choose another --out")
    if not (options.fields or options.lists or options.numbers):
        raise DataError("name what is known of an event: clicks.fields=[...], numbers=[...]")
    labels, kept = _labels(read(options.label), options)
    parts = _parts(read, options, kept)
    coded = _Coded({"label": pl.Series(labels[kept], dtype=pl.Float32)})
    for name in options.fields:
        _add_field(coded, name, [read(name).filter(pl.Series(kept))], "", parts == 0, options)
    for name in options.lists:
        values = _split_list(read(name).filter(pl.Series(kept)), options)
        _add_field(coded, name, values, name, parts == 0, options)
    for name in options.numbers:
        found = read(name).filter(pl.Series(kept))
        coded.columns[f"number:{name}"] = _number(name, found, "name it among the fields")
    if options.user is not None:
        ids = read(options.user).filter(pl.Series(kept)).cast(pl.String).cast(pl.Categorical)
        coded.columns["user"] = pl.Series(compact(ids.to_physical().to_numpy())[0])
    frame = pl.DataFrame(coded.columns)
    _check_parts(frame["label"].to_numpy(), parts)
    with atomic_path(out) as folder:
        folder.mkdir()
        _write(folder, frame, parts, coded, (options, origin))
    return load_clicks(out)


def _labels(values: pl.Series, options: ClickOptions) -> tuple[npt.NDArray[np.float32], Bool]:
    """Labels `[R]`, and which events have one."""
    numbers = _number(options.label, values).to_numpy()
    if np.isnan(numbers).any():
        row = int(np.isnan(numbers).argmax())
        raise DataError(f"column {options.label}: event {row + 1} has no label; leave it out")
    if options.positive_above is None or options.negative_below is None:
        other = ~np.isin(numbers, (0, 1))
        if other.any():
            raise DataError(
                f"column {options.label} holds {numbers[other][0]:g}; labels are 0 or 1, or say "
                "what they are by clicks.positive_above=X clicks.negative_below=X"
            )
        return numbers, np.ones(len(numbers), bool)
    positive, negative = numbers > options.positive_above, numbers < options.negative_below
    return positive.astype(np.float32), positive | negative


def _parts(read: Columns, options: ClickOptions, kept: Bool) -> npt.NDArray[np.int8]:
    """The part of each event that is kept: 0, 1, 2."""
    count = int(kept.sum())
    if options.split is None:
        order = np.random.default_rng(options.seed).permutation(count)
        cuts = np.round(np.cumsum(options.shares)[:2] * count).astype(int)
        found = np.zeros(count, np.int8)
        found[order[cuts[0] :]] += 1
        found[order[cuts[1] :]] += 1
        return found
    names = read(options.split).filter(pl.Series(kept)).cast(pl.String).str.to_lowercase()
    places = names.replace_strict(_PART_NAMES, default=None, return_dtype=pl.Int8)
    if places.null_count():
        wrong = names.filter(places.is_null())[0]
        raise DataError(
            f"column {options.split} names the part {wrong!r}; train, valid and test are expected"
        )
    return places.to_numpy()


def _add_field(
    coded: _Coded,
    name: str,
    columns: list[pl.Series],
    group: str,
    train: Bool,
    options: ClickOptions,
) -> None:
    """Codes of a field, or of the values of a list, which share one vocabulary."""
    texts = [_text(column) for column in columns]
    seen = pl.concat([text.filter(pl.Series(train)) for text in texts]).drop_nulls()
    counts = seen.rename("value").value_counts(name="count")
    words = counts.filter(pl.col("count") >= options.min_count)["value"].sort()
    codes = pl.int_range(1, len(words) + 1, eager=True, dtype=pl.Int32)
    coded.categories.append(pl.DataFrame({"code": codes, "value": words}).select(
        pl.lit(name).alias("feature"), "code", "value"
    ))  # fmt: skip
    for place, text in enumerate(texts, start=1):
        column = f"{name}.{place}" if group else name
        found = text.replace_strict(words, codes, default=0, return_dtype=pl.Int32)
        coded.columns[f"field:{column}"] = found.fill_null(0)
        coded.fields.append(ClickField(name=column, size=len(words) + 1, group=group))


def _text(values: pl.Series) -> pl.Series:
    """As text; an empty one is missing."""
    text = values.cast(pl.String).str.strip_chars()
    return text.set(text == "", None)


def _split_list(values: pl.Series, options: ClickOptions) -> list[pl.Series]:
    """The values of lists by place: as many columns as the longest list has values."""
    if isinstance(values.dtype, pl.List):
        lists = values.cast(pl.List(pl.String))
    else:
        lists = values.cast(pl.String).str.split(options.separator)
    longest = min(options.most_values, int(lists.list.len().max() or 1))  # type: ignore[arg-type]
    return [lists.list.get(place, null_on_oob=True) for place in range(longest)]


def _number(name: str, values: pl.Series, otherwise: str = "") -> pl.Series:
    """float32, NaN where there is none; `otherwise` as `read_numbers` has it.

    Raises:
        DataError: something that is no number stands there.
    """
    given = values.cast(pl.Int8) if values.dtype == pl.Boolean else values
    return pl.Series(read_numbers(given, f"column {name}", otherwise))


def _check_parts(labels: npt.NDArray[np.float32], parts: npt.NDArray[np.int8]) -> None:
    """Raises DataError where a part has not both labels: nothing could be learned or measured."""
    for place, part in enumerate(PARTS):
        inside = labels[parts == place]
        if not 0 < inside.sum() < len(inside):
            raise DataError(
                f"the {part} part has {len(inside)} events, {int(inside.sum())} of them positive; "
                "events of both labels are needed in each part"
            )


def _write(
    folder: Path,
    frame: pl.DataFrame,
    parts: npt.NDArray[np.int8],
    coded: _Coded,
    told: tuple[ClickOptions, ClickOrigin],
) -> None:
    options, origin = told
    rows, positive = {}, {}
    digest = hashlib.sha256()
    for place, part in enumerate(PARTS):
        inside = frame.filter(pl.Series(parts == place))
        inside.write_parquet(folder / part_file(part))
        rows[part], positive[part] = len(inside), int(inside["label"].sum())
        for values in _hashed(inside):
            digest.update(values)
    empty = pl.DataFrame(schema={"feature": pl.String, "code": pl.Int32, "value": pl.String})
    pl.concat([empty, *coded.categories]).write_parquet(folder / CATEGORIES)
    files = [*(part_file(part) for part in PARTS), CATEGORIES]
    manifest = ClicksManifest(
        name=origin.name,
        source=origin.source,
        licence=origin.licence,
        fields=tuple(coded.fields),
        numbers=options.numbers,
        user=options.user,
        label=_label_rule(options),
        split=_split_rule(options),
        rows=rows,
        positive=positive,
        notes=origin.notes,
        content_hash=digest.hexdigest(),
        files=entries_of(folder, files),
    )
    write_json(folder / CLICKS, manifest.model_dump(mode="json"))


def _hashed(frame: pl.DataFrame) -> Iterator[bytes]:
    """Names and values of all columns."""
    for column in frame.columns:
        yield column.encode()
        yield frame[column].to_numpy().tobytes()


def _label_rule(options: ClickOptions) -> str:
    if options.positive_above is None:
        return f"column {options.label}"
    return (
        f"1 where {options.label} is above {options.positive_above:g}, 0 where it is below "
        f"{options.negative_below:g}, others left out"
    )


def _split_rule(options: ClickOptions) -> str:
    if options.split is not None:
        return f"column {options.split}"
    shares = ":".join(f"{share:g}" for share in options.shares)
    return f"drawn at random, {shares} (train, valid, test), seed {options.seed}"
