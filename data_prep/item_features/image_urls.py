"""Pictures of items by address: downloaded once into a cache."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import polars as pl

from data_prep.item_features.encoding import BadInputError
from data_prep.item_features.image_inputs import ImageInputs
from recsys.data.dataset import ITEMS
from recsys.data.manifest import load_manifest
from recsys.errors import DataError, DownloadError
from recsys.files.scratch import scratch_folder
from recsys.files.system_errors import naming
from recsys.progress import progress

_TIMEOUT = httpx.Timeout(20.0, connect=4.0)
_WORKERS = 8
_TRIES = 2
_MAX_BYTES = 20 << 20
_FIRST_LOOK = 50


def image_urls(folder: Path, column: str, cache: Path) -> ImageInputs:
    """Pictures at the addresses of a content column (of a list the first).

    What arrived stays in `cache`, so a broken-off download goes on; what cannot be fetched is
    tried again the next time, and counts as a broken input.

    Raises:
        DataError: there is no such column, or it holds no http addresses.
        DownloadError: of the first pictures, none can be fetched.
    """
    urls = _urls(folder, column)
    cache.mkdir(parents=True, exist_ok=True)
    paths = {item: cache / hashlib.sha256(url.encode()).hexdigest() for item, url in urls.items()}
    failed = _fetch_all({url: paths[item] for item, url in urls.items()}, cache)
    num_items = load_manifest(folder).num_items
    without = num_items - len(urls)

    def read(item: int) -> bytes:
        if urls[item] in failed:
            raise BadInputError(failed[urls[item]])
        return paths[item].read_bytes()

    # What failed belongs to the inputs: after another try the pictures may be others.
    told = repr((sorted(urls.items()), sorted(failed)))
    return ImageInputs(
        source=f"pictures at the addresses of column {column} of {ITEMS}",
        items=np.array(sorted(urls), dtype=np.int64),
        fingerprint=hashlib.sha256(told.encode()).hexdigest(),
        notes=(f"{without:,} of {num_items:,} items have no address",) if without else (),
        read=read,
    )


def _urls(folder: Path, column: str) -> dict[int, str]:
    """Addresses by item index."""
    load_manifest(folder)
    frame = pl.read_parquet(folder / ITEMS, glob=False).sort("item_index")
    if column not in frame.columns:
        raise DataError(f"{folder} has no column {column!r}; it has {', '.join(frame.columns)}")
    values = frame[column]
    first = values.list.first() if isinstance(values.dtype, pl.List) else values
    if first.dtype != pl.String:
        raise DataError(f"column {column!r} holds {values.dtype}; addresses are expected")
    found = {
        item: url
        for item, url in enumerate(first.to_list())
        if url is not None and url.startswith(("http://", "https://"))
    }
    if not found:
        raise DataError(f"column {column!r} of {folder} holds no http address; name another one")
    return found


class _Failure(NamedTuple):
    reason: str
    answered: bool
    """The place was there; the picture was not."""


def _fetch_all(targets: dict[str, Path], cache: Path) -> dict[str, str]:
    """Fetches into `cache` what is not there yet; gives the reason for each address that failed."""
    wanted = [(url, path) for url, path in targets.items() if not path.is_file()]
    if not wanted:
        return {}
    failed: dict[str, _Failure] = {}
    with (
        progress() as bar,
        scratch_folder(cache / "download") as scratch,
        httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as client,
        ThreadPoolExecutor(_WORKERS) as pool,
    ):
        task = bar.add_task("download pictures", total=len(wanted))
        for start in range(0, len(wanted), _FIRST_LOOK):
            block = wanted[start : start + _FIRST_LOOK]
            found = pool.map(partial(_fetch, client, scratch), block)
            for (url, _), failure in zip(block, found, strict=True):
                if failure is not None:
                    failed[url] = failure
                bar.update(task, advance=1)
            if len(failed) == start + len(block):
                _check_place(failed, nothing_before=len(wanted) == len(targets))
    return {url: failure.reason for url, failure in failed.items()}


def _check_place(failed: dict[str, _Failure], *, nothing_before: bool) -> None:
    """Raises DownloadError when nothing came so far, and waiting for the rest is no use.

    Where other pictures came before, these may be the few that are gone: then only a place that
    does not answer at all counts.
    """
    unreachable = not any(failure.answered for failure in failed.values())
    if nothing_before or (unreachable and len(failed) >= _FIRST_LOOK):
        raise DownloadError(
            f"none of the first {len(failed)} pictures can be fetched; "
            f"{next(iter(failed.values())).reason}. "
            "Check the network, or fetch them yourself and give --images FOLDER"
        )


def _fetch(client: httpx.Client, scratch: Path, target: tuple[str, Path]) -> _Failure | None:
    """Fetches one picture, whole or not at all; tells where it cannot."""
    url, path = target
    reason = ""
    for _ in range(_TRIES):
        try:
            data = _body(client, url)
        except httpx.HTTPStatusError as error:
            return _Failure(f"{url} answered {error.response.status_code}", answered=True)
        except (httpx.HTTPError, httpx.InvalidURL, BadInputError) as error:
            reason = f"{url}: {error or type(error).__name__}"
            continue
        with naming(path):
            (scratch / path.name).write_bytes(data)
            (scratch / path.name).replace(path)
        return None
    return _Failure(reason, answered=False)


def _body(client: httpx.Client, url: str) -> bytes:
    with client.stream("GET", url) as response:
        response.raise_for_status()
        data = bytearray()
        for block in response.iter_bytes():
            data += block
            if len(data) > _MAX_BYTES:
                raise BadInputError(f"more than {_MAX_BYTES >> 20} MiB")
    return bytes(data)
