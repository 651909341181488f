"""Product metadata of Amazon as item content.

Lines of 2014 are Python literals, not JSON: `ast.literal_eval`, which evaluates nothing but
literals, reads each. That is a Python loop over items; interactions never go through it. Batches
go to a parquet file at once, so memory does not grow with the catalogue.
"""

from __future__ import annotations

import ast
import codecs
import html
import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.raw_tables.json_lines import describe_bad, too_many
from data_prep.raw_tables.packing import open_bytes, place
from recsys.data.content_hash import open_parquet
from recsys.errors import DataError
from recsys.progress import console, progress

_BATCH = 10_000
_NAMED = 5
_SCHEMA = pa.schema(
    {
        "item_id": pa.string(),
        "title": pa.string(),
        "brand": pa.string(),
        "categories": pa.list_(pa.string()),
        "price": pa.float64(),
        "description": pa.string(),
        "image_urls": pa.list_(pa.string()),
    }
)
_NUMBER = re.compile(r"^\s*(?:from\s+)?\$?\s*(\d[\d,]*(?:\.\d+)?)\s*(?:-.*)?$")

Row = dict[str, Any]


def read_metadata(path: Path, workspace: Path, max_bad_lines: int) -> pl.LazyFrame:
    """item_id, title, brand, categories, price, description and image_urls of every product.

    What is absent, empty or no number (2018 has scraps of web pages as titles and prices) is null.

    Args:
        path: metadata of any generation: lines of JSON or Python literals (also .gz), or parquet.
        workspace: a folder for temporary files that outlives the frame.
        max_bad_lines: so many lines may be malformed or lack an id; they are named and left out.

    Raises:
        DataError: the file is absent or damaged, or has more malformed lines.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}; give the right metadata_file")
    bad: list[int] = []
    target = place(workspace) / "items.parquet"
    with pq.ParquetWriter(target, _SCHEMA) as writer, progress() as bar:
        task = bar.add_task(f"metadata {path.name}", total=None)
        rows = _rows(path, bad, max_bad_lines)
        while batch := list(islice(rows, _BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, schema=_SCHEMA))
            bar.update(task, advance=len(batch))
    if bad:
        note = describe_bad(path.name, len(bad), bad[:_NAMED])
        console.print(note, style="yellow", markup=False, soft_wrap=True)
    return pl.scan_parquet(target.absolute(), glob=False)


def _rows(path: Path, bad: list[int], max_bad_lines: int) -> Iterator[Row]:
    """Products in one shape; the numbers of lines that hold none are put into `bad`."""
    for number, product in _products(path):
        if isinstance(product, dict) and (row := as_row(product)) is not None:
            yield row
            continue
        bad.append(number)
        if len(bad) > max_bad_lines:
            raise too_many(describe_bad(path.name, len(bad), bad[:_NAMED]), max_bad_lines)


def _products(path: Path) -> Iterator[tuple[int, Any]]:
    if path.suffix == ".parquet":
        yield from enumerate(_parquet_rows(path), start=1)
        return
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, start=1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield number, parse_line(line)


def _parquet_rows(path: Path) -> Iterable[Row]:
    try:
        with open_parquet(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again") from error


def parse_line(line: bytes) -> Any:
    """The value of a line of JSON, or of a Python literal as in 2014; None where it is neither."""
    try:
        return json.loads(line)
    except ValueError:  # UnicodeDecodeError is one, too
        pass
    try:
        return ast.literal_eval(line.decode().strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def as_row(product: Row) -> Row | None:
    """One product in the shape of items.parquet; None without an id."""
    item_id = product.get("parent_asin") or product.get("asin")
    if not isinstance(item_id, str):
        return None
    details = _details(product.get("details"))
    title = _text(product.get("title"))
    return {
        "item_id": item_id,
        # 2018: where the crawler met a script instead of a title.
        "title": None if title is not None and "getTime()" in title else title,
        "brand": _text(product.get("brand") or details.get("Brand") or product.get("store")),
        "categories": _categories(product),
        "price": _price(product.get("price")),
        "description": _text(product.get("description")),
        "image_urls": _image_urls(product),
    }


def _details(value: Any) -> Row:
    """2023: a mapping, in the parquet files as JSON text."""
    if isinstance(value, str):
        value = parse_line(value.encode())
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        value = " ".join(part for part in value if isinstance(part, str))
    if not isinstance(value, str):
        return None
    return " ".join(html.unescape(value).split()) or None


def _categories(product: Row) -> list[str] | None:
    """2014: lists of paths; 2018 and 2023: one path. Each name once, in the order of the file."""
    found = product.get("categories") or product.get("category") or []
    flat = [part for path in found for part in (path if isinstance(path, list) else [path])]
    names = [_text(part) for part in flat or [product.get("main_category")]]
    return list(dict.fromkeys(name for name in names if name is not None)) or None


def _price(value: Any) -> float | None:
    """A number, `$12.99`, or the lower end of `$5.99 - $12.00` and `from 5.99`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    found = _NUMBER.match(value) if isinstance(value, str) else None
    return float(found.group(1).replace(",", "")) if found else None


def _image_urls(product: Row) -> list[str] | None:
    """The largest there is of every picture, the main one first."""
    pictures = product.get("images")
    if isinstance(pictures, dict):  # parquet of 2023: columns instead of rows
        columns = {name: column for name, column in pictures.items() if isinstance(column, list)}
        rows = zip_longest(*columns.values())
        pictures = [dict(zip(columns, row, strict=True)) for row in rows]
    if isinstance(pictures, list):
        pictures = [picture for picture in pictures if isinstance(picture, dict)]
        pictures.sort(key=lambda picture: picture.get("variant") != "MAIN")
        urls = [picture.get("hi_res") or picture.get("large") for picture in pictures]
    else:
        keys = ("imageURLHighRes", "imageURL", "image")
        urls = next((product[key] for key in keys if product.get(key)), [product.get("imUrl")])
        urls = urls if isinstance(urls, list) else [urls]
    return [url for url in urls if isinstance(url, str) and url.startswith("http")] or None
