"""Folders of feed files: parts of the rows, each whole or absent, and texts beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from recsys.arrays import Float32
from recsys.files.atomic import atomic_path, write_text
from recsys.stores.files.version_folders import InFolders, VersionFolders
from recsys.stores.plan import BATCH, Rows
from recsys.stores.store import Version


class FeedFolder(InFolders):
    """A store that is fed from files; each kind gives its texts and how it writes rows."""

    client: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        location: str,
        name: str,
        suffix: str,
        texts: Callable[[str, Version], Mapping[str, str]],
        encoded: Callable[[Version, Rows], Iterator[bytes]],
    ) -> None:
        """Opens the folder.

        Args:
            location: the folder.
            name: the alias.
            suffix: of the parts: jsonl.
            texts: (alias, version) -> name -> text of the files beside the feed.
            encoded: rows as the store reads them.
        """
        self.folders, self.name = VersionFolders(location, name), name
        self._suffix, self._texts, self._encoded = suffix, texts, encoded

    def begin(self, version: Version) -> int:
        """See `Store`: writes the texts, and counts the parts."""
        folder = self.folders.begin(version.name, version.plan)
        for file, text in self._texts(self.name, version).items():
            write_text(folder / file, text)
        return self._count(version)

    def add(self, version: Version, rows: Rows) -> None:
        """See `Store`: writes a part."""
        with (
            atomic_path(self._part(version, rows.lo // BATCH)) as temporary,
            temporary.open("wb") as stream,
        ):
            stream.writelines(self._encoded(version, rows))

    def finish(self, version: Version) -> int:
        """See `Store`: counts."""
        return self._count(version)

    def parts(self, version: Version) -> list[Path]:
        """Files of the feed, in order."""
        paths = (self._part(version, number) for number in count())
        return list(_while_there(paths))

    def _count(self, version: Version) -> int:
        return min(version.plan.num_items, BATCH * len(self.parts(version)))

    def _part(self, version: Version, number: int) -> Path:
        return self.folders[version.name] / f"feed-{number:05d}.{self._suffix}"


def each_row(items: pl.DataFrame, rows: Rows) -> Iterator[tuple[dict[str, Any], Float32, Float32]]:
    """What is told of each item of a block, with its prefix `[d]` and its full vector `[D]`.

    Args:
        items: `[n]` rows: those of the block, or as a store wants them.
        rows: the block.
    """
    yield from zip(items.iter_rows(named=True), rows.prefix, rows.full, strict=True)


def _while_there(paths: Iterator[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_file():
            return
        yield path
